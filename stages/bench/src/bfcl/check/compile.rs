//! Documents and answers in the form that checks need.

use starling_text::json::{Map, Value};
use starling_text::python;

use super::standard::standardise;
use crate::bfcl::category::Language;
use crate::bfcl::prompting::foreign;

/// The Python type of a value; compared exactly, so that a boolean is no integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    None,
    Bool,
    Int,
    Float,
    Str,
    List,
    Dict,
    /// Declared by a Java document; no JSON value has it.
    Set,
    /// Of a Python value that JSON has no form for; nothing is declared so.
    Foreign,
    /// A declared name that the language has no type for.
    Unknown,
}

impl Type {
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Float(_) | Value::List(_) if foreign::is(value) => Self::Foreign,
            Value::Null => Self::None,
            Value::Bool(_) => Self::Bool,
            Value::Int(_) | Value::BigInt(_) => Self::Int,
            Value::Float(_) => Self::Float,
            Value::Str(_) => Self::Str,
            Value::List(_) => Self::List,
            Value::Dict(_) => Self::Dict,
        }
    }

    fn declared(name: &str, language: Language) -> Self {
        match language {
            Language::Python => match name {
                "string" | "any" => Self::Str,
                "integer" => Self::Int,
                "float" => Self::Float,
                "boolean" => Self::Bool,
                "array" | "tuple" => Self::List,
                "dict" => Self::Dict,
                _ => Self::Unknown,
            },
            Language::Java => match name {
                "byte" | "short" | "integer" | "long" => Self::Int,
                "float" | "double" => Self::Float,
                "boolean" => Self::Bool,
                "char" | "String" | "any" => Self::Str,
                "Array" | "ArrayList" | "Queue" | "Stack" => Self::List,
                "HashMap" | "Hashtable" => Self::Dict,
                "Set" => Self::Set,
                _ => Self::Unknown,
            },
            Language::JavaScript => match name {
                "String" | "any" => Self::Str,
                "integer" | "Bigint" => Self::Int,
                "float" => Self::Float,
                "Boolean" => Self::Bool,
                "array" => Self::List,
                "dict" => Self::Dict,
                _ => Self::Unknown,
            },
        }
    }

    /// Whether values of the declared type name have elements of a declared type.
    fn has_elements(name: &str, language: Language) -> bool {
        match language {
            Language::Python => matches!(name, "array" | "tuple"),
            Language::Java => matches!(name, "Array" | "ArrayList"),
            Language::JavaScript => name == "array",
        }
    }
}

/// A document, reduced to the parameters that the answer mentions.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) name: String,
    /// The name with `_` for every dot.
    pub(super) underscored: String,
    pub(super) required: Vec<String>,
    pub(super) parameters: Vec<Parameter>,
}

impl Document {
    pub(super) fn compile(document: &Value, language: Language, answer: &Answer) -> Option<Self> {
        let name = document.get("name")?.as_str()?;
        let parameters = document.get("parameters")?;
        let properties = parameters.get("properties")?.as_dict()?;
        let required = parameters
            .get("required")
            .and_then(Value::as_list)
            .unwrap_or_default();
        let parameter = |(name, alternatives): (&String, &Value)| {
            Parameter::compile(name, properties.get(name)?, alternatives, language)
        };
        Some(Self {
            name: name.to_owned(),
            underscored: name.replace('.', "_"),
            required: required
                .iter()
                .filter_map(|r| r.as_str().map(str::to_owned))
                .collect(),
            // What the answer does not mention is as unexpected as what the document does not.
            parameters: answer.parameters.iter().filter_map(parameter).collect(),
        })
    }
}

/// An accepted call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) name: String,
    /// Names of parameters, and whether each may be left out.
    pub(super) names: Vec<(String, bool)>,
    parameters: Map,
}

impl Answer {
    pub(super) fn compile(answer: &Value) -> Option<Self> {
        let (name, parameters) = answer.as_dict()?.first()?;
        let parameters = parameters.as_dict()?;
        Some(Self {
            name: name.clone(),
            names: parameters
                .iter()
                .map(|(name, alternatives)| (name.clone(), holds_empty(alternatives)))
                .collect(),
            parameters: parameters.clone(),
        })
    }
}

/// Python's `'' in container`.
pub(super) fn holds_empty(container: &Value) -> bool {
    match container {
        Value::List(items) => items.iter().any(is_empty),
        Value::Str(_) => true,
        Value::Dict(map) => map.contains_key(""),
        _ => false,
    }
}

pub(super) fn is_empty(value: &Value) -> bool {
    matches!(value, Value::Str(text) if text.is_empty())
}

/// One parameter with its accepted values.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) declared: String,
    pub(super) expected: Type,
    pub(super) element_declared: Option<String>,
    pub(super) element: Option<Type>,
    /// Type of the first alternative that is not `""`.
    pub(super) first: Option<Type>,
    pub(super) alternatives: Vec<Alternative>,
}

impl Parameter {
    fn compile(
        name: &str,
        property: &Value,
        alternatives: &Value,
        language: Language,
    ) -> Option<Self> {
        let declared = property
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let element_declared = Type::has_elements(declared, language).then(|| {
            let element = property.get("items").and_then(|items| items.get("type"));
            element
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        });
        let alternatives = alternatives.as_list()?;
        Some(Self {
            name: name.to_owned(),
            declared: declared.to_owned(),
            expected: Type::declared(declared, language),
            element: element_declared
                .as_deref()
                .map(|name| Type::declared(name, language)),
            element_declared,
            first: first_type(alternatives),
            alternatives: alternatives.iter().map(Alternative::compile).collect(),
        })
    }
}

/// The type of the first alternative that is not `""`.
pub(super) fn first_type(alternatives: &[Value]) -> Option<Type> {
    alternatives
        .iter()
        .find(|value| !is_empty(value))
        .map(Type::of)
}

/// One accepted value.
#[derive(Debug)]
pub(super) struct Alternative {
    /// As written.
    pub(super) value: Value,
    /// A string standardised; a list with its top-level strings standardised; anything else as written.
    pub(super) standard: Value,
    /// Of a list: the type of its first element that is not `""`.
    pub(super) element: Option<Type>,
    /// Of an object: its keys with their accepted values, standardised.
    pub(super) entries: Option<Vec<Entry>>,
    /// Of a list of objects: the entries of each element.
    pub(super) objects: Option<Vec<Option<Vec<Entry>>>>,
}

/// One key of an accepted object.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) accepted: Vec<Value>,
    pub(super) optional: bool,
}

impl Alternative {
    fn compile(value: &Value) -> Self {
        let list = value.as_list();
        Self {
            value: value.clone(),
            standard: match value {
                Value::List(items) => Value::List(items.iter().map(standard).collect()),
                other => standard(other),
            },
            element: list.and_then(first_type),
            entries: value.as_dict().map(entries),
            objects: list.map(|items| {
                items
                    .iter()
                    .map(|item| item.as_dict().map(entries))
                    .collect()
            }),
        }
    }
}

fn standard(value: &Value) -> Value {
    match value {
        Value::Str(text) => Value::Str(standardise(text).into_owned()),
        other => other.clone(),
    }
}

fn entries(map: &Map) -> Vec<Entry> {
    let accepted = |value: &Value| match value {
        Value::List(items) => items.iter().map(standard).collect(),
        // A bare string is walked like a list of its characters.
        Value::Str(text) => {
            let chars = text.chars().map(|c| Value::Str(c.to_string()));
            chars.map(|c| standard(&c)).collect()
        }
        _ => Vec::new(),
    };
    map.iter()
        .map(|(key, value)| Entry {
            key: key.clone(),
            accepted: accepted(value),
            optional: holds_empty(value),
        })
        .collect()
}

/// Python's `value in alternatives`.
pub(super) fn contains<'a>(
    mut alternatives: impl Iterator<Item = &'a Value>,
    value: &Value,
) -> bool {
    alternatives.any(|alternative| python::eq(alternative, value))
}
