//! Constants of the back ends, read from the data, and the canonical form of states.

use std::sync::Arc;

use starling_text::json::{Dumps, Value, dumps_with};

use crate::bfcl::data::{DataError, Source};
use crate::bfcl::py::{Dict, Py};

/// Constants of the back ends.
#[derive(Debug)]
pub(crate) struct Tables {
    backends: Py,
    long_context: Py,
}

impl Tables {
    pub(crate) fn load(source: &Source) -> Result<Arc<Self>, DataError> {
        let read = |file: &str| -> Result<Py, DataError> {
            let text = source.text(file)?;
            let value = starling_text::json::parse(&text).map_err(|source| DataError::Json {
                file: file.to_owned(),
                line: 1,
                source,
            })?;
            Ok(Py::from(&value))
        };
        Ok(Arc::new(Self {
            backends: read("backend_tables/backends.json")?,
            long_context: read("backend_tables/long_context.json")?,
        }))
    }

    /// The scenario's value of a key, or the default state's.
    pub(super) fn attribute(&self, class: &str, scenario: &Py, key: &str, default_key: &str) -> Py {
        let given = dict_of(scenario).and_then(|scenario| scenario.get_str(key));
        given
            .cloned()
            .unwrap_or_else(|| self.default(class, default_key))
    }

    /// The default state's value of a key.
    pub(super) fn default(&self, class: &str, key: &str) -> Py {
        let state = lookup(&self.backends, "default_state");
        lookup(&lookup(&state, class), key)
    }

    /// A table of a class.
    pub(super) fn table(&self, class: &str, name: &str) -> Py {
        lookup(&lookup(&self.backends, class), name)
    }

    /// Filler of the long-context category.
    pub(super) fn filler(&self, name: &str) -> Py {
        lookup(&self.long_context, name)
    }
}

fn dict_of(value: &Py) -> Option<&Dict> {
    match value {
        Py::Dict(dict) => Some(dict),
        _ => None,
    }
}

/// The value of a key; `None` (of Python) when there is none.
fn lookup(value: &Py, key: &str) -> Py {
    let found = dict_of(value).and_then(|dict| dict.get_str(key));
    found.cloned().unwrap_or(Py::None)
}

/// Appends a value as JSON with sorted keys and no spaces; keys that are no strings and sets have forms of their own.
pub(super) fn write_canonical(out: &mut String, value: &Py) {
    match value {
        Py::Dict(dict) => {
            let mut entries: Vec<(String, &Py)> = dict
                .iter()
                .map(|(key, value)| (canonical_key(key), value))
                .collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_text(out, &key);
                out.push(':');
                write_canonical(out, value);
            }
            out.push('}');
        }
        Py::List(items) | Py::Tuple(items) => write_list(out, items),
        Py::Set(items) => {
            let mut sorted = items.to_vec();
            sorted.sort_by(|a, b| {
                let order = crate::bfcl::py::compare(a, b, "<");
                order.ok().flatten().unwrap_or(std::cmp::Ordering::Equal)
            });
            out.push_str("{\"__set__\":");
            write_list(out, &sorted);
            out.push('}');
        }
        Py::Str(text) => write_text(out, text),
        other => match crate::bfcl::py::json(other) {
            Some(text) => out.push_str(&text),
            None => write_text(out, &crate::bfcl::py::repr(other)),
        },
    }
}

fn write_list(out: &mut String, items: &[Py]) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index > 0 { "," } else { "" });
        write_canonical(out, item);
    }
    out.push(']');
}

fn canonical_key(key: &Py) -> String {
    match key {
        Py::Str(text) => text.to_string(),
        other => format!("{}:{}", other.type_name(), crate::bfcl::py::repr(other)),
    }
}

/// A JSON string with non-ASCII characters kept.
pub(super) fn write_text(out: &mut String, text: &str) {
    out.push_str(&dumps_with(&Value::Str(text.to_owned()), &Dumps::default()));
}
