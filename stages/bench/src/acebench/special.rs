//! The checker of Special entries: substrings of the raw output.

use memchr::memmem::Finder;
use starling_text::json::Value;

use super::{Category, DataError, ErrorKind};

/// What an output must hold.
#[derive(Debug, Clone)]
pub(super) struct Special {
    /// Shows that the problem was detected.
    phrase: Finder<'static>,
    /// Texts that show that it was understood.
    texts: Vec<Finder<'static>>,
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
                return Ok(Self::of("", &texts));
            }
        }
        Ok(Self::of(phrase, &texts))
    }

    fn of(phrase: &'static str, texts: &[String]) -> Self {
        let finder = |text: &String| Finder::new(text).into_owned();
        Self {
            phrase: Finder::new(phrase),
            texts: texts.iter().map(finder).collect(),
        }
    }

    pub(super) fn check(&self, output: &str) -> Result<(), ErrorKind> {
        let holds = |finder: &Finder<'_>| finder.find(output.as_bytes()).is_some();
        if !holds(&self.phrase) {
            return Err(ErrorKind::Detection);
        }
        if !self.texts.iter().all(holds) {
            return Err(ErrorKind::Correction);
        }
        Ok(())
    }
}
