//! The checker of Special entries: substrings of the raw output.

use starling_text::json::Value;

use super::{Category, DataError, ErrorKind};

/// What an output must hold.
#[derive(Debug, Clone)]
pub(super) struct Special {
    /// Shows that the problem was detected.
    phrase: &'static str,
    /// Texts that show that it was understood.
    texts: Vec<String>,
}

impl Special {
    pub(super) fn compile(category: Category, truth: &Value) -> Result<Self, DataError> {
        let phrase = match category {
            Category::Incomplete => "Missing necessary parameters",
            Category::ErrorParam => "There is incorrect value",
            _ => "the limitations of the function",
        };
        let mut texts = Vec::new();
        if category != Category::Irrelevant {
            let map = truth
                .as_dict()
                .ok_or(DataError::Shape("the ground truth is not an object"))?;
            for (name, values) in map {
                if category == Category::Incomplete {
                    texts.push(name.clone());
                }
                let values = values
                    .as_list()
                    .ok_or(DataError::Shape("the ground truth holds no list"))?;
                texts.extend(
                    values
                        .iter()
                        .map(|value| starling_text::python::str(value).into_owned()),
                );
            }
            // An official loop over nothing finds no fault.
            if map.is_empty() {
                return Ok(Self { phrase: "", texts });
            }
        }
        Ok(Self { phrase, texts })
    }

    pub(super) fn check(&self, output: &str) -> Result<(), ErrorKind> {
        if !contains(output, self.phrase) {
            return Err(ErrorKind::Detection);
        }
        if !self.texts.iter().all(|text| contains(output, text)) {
            return Err(ErrorKind::Correction);
        }
        Ok(())
    }
}

fn contains(output: &str, text: &str) -> bool {
    memchr::memmem::find(output.as_bytes(), text.as_bytes()).is_some()
}
