//! What a row of outputs or of expected results holds, whichever benchmark it is of: the parts that both readers
//! of rows share.

use starling_text::json::{self, Map, Value};

/// What was found out about one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What the row was taken for, as its reader names it.
    pub shape: &'static str,
    /// The item it is about, or the row's own name.
    pub id: String,
    /// The item's category; empty for a row that is about no item.
    pub category: String,
    /// Whether the answer is right; `None` for a row that asks for something else.
    pub valid: Option<bool>,
    /// The official name of what is wrong.
    pub error: Option<String>,
    /// Everything that was computed, in the form that rows of expected results have.
    pub computed: Map,
    /// Whether it is what the row expects; `None` for a row that expects nothing.
    pub agrees: Option<bool>,
}

impl Judged {
    /// The row that is written: id, category, verdict, then what else was computed.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut row = Map::new();
        row.insert("id".to_owned(), Value::Str(self.id.clone()));
        if !self.category.is_empty() {
            row.insert("category".to_owned(), Value::Str(self.category.clone()));
        }
        for (name, value) in &self.computed {
            row.insert(name.clone(), value.clone());
        }
        if let Some(agrees) = self.agrees {
            row.insert("as_expected".to_owned(), Value::Bool(agrees));
        }
        Value::Dict(row)
    }
}

/// A text field.
///
/// # Errors
/// What is missing, in words.
pub(crate) fn text<'v>(row: &'v Value, name: &str) -> Result<&'v str, String> {
    row.get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("`{name}` is no text"))
}

/// A list field.
///
/// # Errors
/// What is missing, in words.
pub(crate) fn list<'v>(row: &'v Value, name: &str) -> Result<&'v [Value], String> {
    row.get(name)
        .and_then(Value::as_list)
        .ok_or_else(|| format!("`{name}` is no list"))
}

/// A list of texts.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn texts(value: &Value, name: &str) -> Result<Vec<String>, String> {
    let texts = value.as_list().and_then(|items| {
        items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect()
    });
    texts.ok_or_else(|| format!("`{name}` does not hold lists of texts"))
}

/// JSON with sorted keys and no spaces.
pub(crate) fn canonical(value: &Value) -> String {
    let options = json::Dumps {
        sort_keys: true,
        separators: Some((",".to_owned(), ":".to_owned())),
        ..json::Dumps::default()
    };
    json::dumps_with(value, &options)
}

/// SHA-256 of a text in hexadecimal digits.
pub(crate) fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    crate::bfcl::hex(&sha2::Sha256::digest(text))
}

/// An object of these fields, in their order.
pub(crate) fn fields<const N: usize>(pairs: [(&str, Value); N]) -> Map {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
