//! Function documents as prompts show them: with hints on the language of the arguments.

use starling_text::json::{Dumps, Map, Value, dumps_with};

use super::category::Language;

/// The document with the hints of its language. Checks use the document without them.
pub(super) fn hinted(document: &Value, language: Language) -> Value {
    let mut document = document.clone();
    let Value::Dict(map) = &mut document else {
        return document;
    };
    append(map, language_hint(language));
    if language == Language::Python {
        return document;
    }
    let properties = map
        .get_mut("parameters")
        .and_then(|parameters| match parameters {
            Value::Dict(parameters) => parameters.get_mut("properties"),
            _ => None,
        });
    if let Some(Value::Dict(properties)) = properties {
        for property in properties.values_mut() {
            if let Value::Dict(property) = property {
                as_string(property, language);
            }
        }
    }
    document
}

fn language_hint(language: Language) -> &'static str {
    match language {
        Language::Python => " Note that the provided function is in Python 3 syntax.",
        Language::Java => " Note that the provided function is in Java 8 SDK syntax.",
        Language::JavaScript => " Note that the provided function is in JavaScript syntax.",
    }
}

/// Turns a property into a string that holds a literal, and says so.
fn as_string(property: &mut Map, language: Language) {
    let declared = property
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let name = match language {
        Language::Java => "Java",
        _ => "JavaScript",
    };
    if declared == "any" {
        append(
            property,
            &format!(
                " This parameter can be of any type of {name} object in string representation."
            ),
        );
    } else {
        append(
            property,
            &format!(" This is {name} {declared} type parameter in string representation."),
        );
    }
    let is_list = match language {
        Language::Java => matches!(declared.as_str(), "Array" | "ArrayList"),
        _ => declared == "array",
    };
    if is_list && let Some(items) = property.shift_remove("items") {
        let element = items
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        append(
            property,
            &format!(
                " The list elements are of type {element}; they are not in string representation."
            ),
        );
    }
    if language == Language::JavaScript
        && declared == "dict"
        && let Some(properties) = property.shift_remove("properties")
    {
        append(
            property,
            &format!(
                " The dictionary entries have the following schema; they are not in string \
                 representation. {}",
                ascii_json(&properties)
            ),
        );
    }
    property.insert("type".to_owned(), Value::Str("string".to_owned()));
}

fn append(map: &mut Map, text: &str) {
    match map.get_mut("description") {
        Some(Value::Str(description)) => description.push_str(text),
        _ => drop(map.insert("description".to_owned(), Value::Str(text.to_owned()))),
    }
}

/// `json.dumps` with Python's defaults.
pub(super) fn ascii_json(value: &Value) -> String {
    dumps_with(
        value,
        &Dumps {
            ensure_ascii: true,
            ..Dumps::default()
        },
    )
}
