//! What the back ends start with and the texts that they answer with.

use indexmap::IndexMap;
use starling_text::json;

use super::python::{Raised, Returned, fill, status};
use crate::acebench::DataError;
use crate::acebench::expr::{Value, lookup};

/// Start data and texts of one language.
#[derive(Debug, Clone)]
pub(in crate::acebench) struct Start {
    data: IndexMap<String, Value<'static>>,
    texts: IndexMap<String, String>,
}

impl Start {
    /// The parts that the back ends are built from.
    const PARTS: [&'static str; 8] = [
        "phone_users",
        "inbox",
        "reminders",
        "food_users",
        "merchants",
        "travel_users",
        "flights",
        "reservations",
    ];

    pub(in crate::acebench) fn read(json: &json::Value) -> Result<Self, DataError> {
        let mut data = IndexMap::new();
        for part in Self::PARTS {
            let value = json.get(part).ok_or(DataError::Shape(
                "a part of the environment's start data is missing",
            ))?;
            data.insert(part.to_owned(), Value::from_json(value));
        }
        let texts = json.get("texts").and_then(json::Value::as_dict);
        let texts = texts.ok_or(DataError::Shape("the environment's texts are missing"))?;
        let texts = texts
            .iter()
            .filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())));
        Ok(Self {
            data,
            texts: texts.collect(),
        })
    }

    /// A dict of the start data.
    pub(super) fn part(&self, name: &str) -> Value<'static> {
        self.data.get(name).cloned().unwrap_or(Value::None)
    }

    /// The items of a list of the start data.
    pub(super) fn list(&self, name: &str) -> Vec<Value<'static>> {
        match self.part(name) {
            Value::List(items) => items,
            _ => Vec::new(),
        }
    }

    /// The entry of a dict of the start data, by a key that the model chose.
    pub(super) fn entry(&self, part: &str, key: &Value<'_>) -> Option<&Value<'static>> {
        match self.data.get(part)? {
            Value::Dict(entries) => lookup(entries, key),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }

    pub(super) fn fill(&self, name: &str, values: &[&Value<'_>]) -> Result<String, Raised> {
        fill(self.text(name), values)
    }

    /// A refusal with a fixed text.
    pub(super) fn refuse(&self, name: &str) -> Returned {
        Ok(status(false, self.text(name).to_owned()))
    }

    /// An answer with a text that has slots.
    pub(super) fn answer(&self, ok: bool, name: &str, values: &[&Value<'_>]) -> Returned {
        Ok(status(ok, self.fill(name, values)?))
    }
}
