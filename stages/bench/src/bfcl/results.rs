//! Results in the benchmark's own layout: JSON lines with `id` and `result`, a file a category.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use starling_text::json::{self, Map, ParseError, Value};
use thiserror::Error;

use super::category::{Category, sort_key};

/// What can be wrong with results.
#[derive(Debug, Error)]
pub enum ResultsError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not JSON.
    #[error("{path}, line {line}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Why.
        source: ParseError,
    },
    /// A line has no `id` or no `result`.
    #[error("{path}, line {line}: an entry has a text `id` and a `result`")]
    Shape {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
}

/// An answer as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Of a single-turn item.
    Text(String),
    /// Of a dialogue: turns of steps.
    Turns(Vec<Vec<String>>),
    /// Anything else, such as calls that were decoded elsewhere.
    Other(Value),
}

impl Answer {
    /// Reads the value of `result`.
    pub fn from_value(value: Value) -> Self {
        let texts = |turn: &Value| -> Option<Vec<String>> {
            turn.as_list()?
                .iter()
                .map(|step| step.as_str().map(str::to_owned))
                .collect()
        };
        match value {
            Value::Str(text) => Self::Text(text),
            value => match value
                .as_list()
                .and_then(|turns| turns.iter().map(texts).collect())
            {
                Some(turns) => Self::Turns(turns),
                None => Self::Other(value),
            },
        }
    }

    /// The value of `result`.
    pub fn to_value(&self) -> Value {
        let text = |text: &String| Value::Str(text.clone());
        match self {
            Self::Text(answer) => text(answer),
            Self::Turns(turns) => Value::List(
                turns
                    .iter()
                    .map(|steps| Value::List(steps.iter().map(text).collect()))
                    .collect(),
            ),
            Self::Other(value) => value.clone(),
        }
    }
}

/// The steps of a turn that can hold calls, as Python goes through whatever the turn is: the keys of an object are
/// steps, the characters of a text never hold one, and a step that is no text is not decoded.
pub(super) fn texts(turn: &Value) -> Option<Vec<String>> {
    match turn {
        Value::List(steps) => {
            let steps = steps.iter().filter_map(Value::as_str);
            Some(steps.map(str::to_owned).collect())
        }
        Value::Dict(steps) => Some(steps.keys().cloned().collect()),
        Value::Str(_) => Some(Vec::new()),
        _ => None,
    }
}

/// Answers by id.
pub type Answers = IndexMap<String, Answer>;

/// Reads lines of `{"id": ..., "result": ...}`; of a repeated id the last one counts.
///
/// # Errors
/// [`ResultsError`] with the first bad line; `path` is only named in it.
pub fn read_lines(text: &str, path: &Path) -> Result<Answers, ResultsError> {
    let mut answers = Answers::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let line_number = index + 1;
        let entry = json::parse(line).map_err(|source| ResultsError::Json {
            path: path.to_owned(),
            line: line_number,
            source,
        })?;
        let (id, result) = id_and_result(entry).ok_or_else(|| ResultsError::Shape {
            path: path.to_owned(),
            line: line_number,
        })?;
        answers.insert(id, Answer::from_value(result));
    }
    Ok(answers)
}

fn id_and_result(entry: Value) -> Option<(String, Value)> {
    let Value::Dict(mut entry) = entry else {
        return None;
    };
    let result = entry.swap_remove("result")?;
    match entry.swap_remove("id")? {
        Value::Str(id) => Some((id, result)),
        _ => None,
    }
}

/// Reads every `BFCL_v*_<category>_result.json` below a model's result folder, in any depth of folders.
///
/// # Errors
/// [`ResultsError`] for a folder or file that cannot be read.
pub fn read_folder(folder: &Path) -> Result<Answers, ResultsError> {
    let mut answers = Answers::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let read = |source| ResultsError::Read {
            path: folder.clone(),
            source,
        };
        let mut entries = std::fs::read_dir(&folder)
            .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
            .map_err(read)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if category_of(&path).is_some() {
                let text = std::fs::read_to_string(&path).map_err(|source| ResultsError::Read {
                    path: path.clone(),
                    source,
                })?;
                answers.extend(read_lines(&text, &path)?);
            }
        }
    }
    Ok(answers)
}

/// The category that a result file is named after.
fn category_of(path: &Path) -> Option<Category> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_prefix("BFCL_v")?.strip_suffix("_result.json")?;
    Category::from_name(name.split_once('_')?.1)
}

/// Writes answers of one category as a result file holds them, sorted as the benchmark sorts them.
pub fn write_lines(answers: &Answers) -> String {
    let mut sorted: Vec<_> = answers.iter().collect();
    sorted.sort_by_key(|(id, _)| sort_key(id));
    let mut out = String::new();
    for (id, answer) in sorted {
        let entry: Map = [
            ("id".to_owned(), Value::Str(id.clone())),
            ("result".to_owned(), answer.to_value()),
        ]
        .into_iter()
        .collect();
        out.push_str(&json::dumps(&Value::Dict(entry)));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_back() {
        let text = "{\"id\": \"multi_turn_base_10\", \"result\": [[\"a\", \"b\"], []]}\n\
            {\"id\": \"multi_turn_base_9\", \"result\": \"é\"}\n";
        let answers = read_lines(text, Path::new("x")).expect("results");
        assert_eq!(answers["multi_turn_base_9"], Answer::Text("é".to_owned()));
        let written = write_lines(&answers);
        assert!(written.starts_with("{\"id\": \"multi_turn_base_9\""));
        assert_eq!(
            read_lines(&written, Path::new("x")).expect("results").len(),
            2
        );
        assert!(read_lines("{\"id\": 1, \"result\": \"\"}", Path::new("x")).is_err());
        assert!(read_lines("nonsense", Path::new("x")).is_err());
    }

    #[test]
    fn file_names_tell_the_category() {
        let category = |name: &str| category_of(Path::new(name));
        assert_eq!(
            category("a/BFCL_v4_live_simple_result.json"),
            Some(Category::LiveSimple)
        );
        assert_eq!(
            category("BFCL_v3_parallel_multiple_result.json"),
            Some(Category::ParallelMultiple)
        );
        assert_eq!(category("BFCL_v3_nonsense_result.json"), None);
        assert_eq!(category("notes.json"), None);
    }
}
