//! Reference answers and function descriptions, prepared once for many checks.

use starling_text::json;

use super::DataError;
use super::expr::{Kind, Value, equal, write_str};
use super::normalise::normalise;
use super::plain::same;
use super::prepare::without_space;

/// Everything the checker needs to know of a Normal entry.
#[derive(Debug, Clone)]
pub(super) struct Normal {
    /// Any one of them is accepted.
    pub(super) references: Vec<Reference>,
    pub(super) functions: Vec<Function>,
}

/// One accepted set of calls.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) calls: Vec<ReferenceCall>,
    /// The names of the calls, sorted.
    pub(super) names: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct ReferenceCall {
    /// The key without the number that tells equal names apart.
    pub(super) name: String,
    /// Which of the functions describes it.
    pub(super) function: Option<usize>,
    /// The description has the name of the call.
    pub(super) is_described: bool,
    /// The reference has no arguments.
    pub(super) is_empty: bool,
    /// What is known of each argument: first those of the reference in their order, as outputs mostly have them.
    slots: Vec<Slot>,
    /// How many arguments are required.
    pub(super) required: usize,
    /// The arguments equal the description's properties, so that any call will do.
    pub(super) is_schema: bool,
}

/// What schema and reference say of an argument.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    name: String,
    pub(super) required: bool,
    pub(super) schema: Option<Schema>,
    pub(super) reference: Option<ReferenceValue>,
}

impl ReferenceCall {
    /// The slot of an argument that stands at such a place of a call.
    pub(super) fn slot(&self, place: usize, name: &str) -> Option<&Slot> {
        let is_it = |slot: &&Slot| same(&slot.name, name);
        let expected = self.slots.get(place).filter(is_it);
        expected.or_else(|| self.slots.iter().find(is_it))
    }
}

/// A reference value and the text that an answer must contain.
#[derive(Debug, Clone)]
pub(super) struct ReferenceValue {
    pub(super) value: Value<'static>,
    /// Normalised for a text, printed for all else but maps.
    pub(super) needle: String,
    /// For a text: itself without white space, if that is compared like it; else empty.
    spaceless: String,
    pub(super) items: Vec<Self>,
    pub(super) entries: Vec<(String, Self)>,
}

#[derive(Debug, Clone)]
pub(super) struct Function {
    name: String,
    /// The parameters object is `{}` or missing.
    pub(super) no_parameters: bool,
    required: Vec<String>,
    properties: Vec<(String, Schema)>,
    raw_properties: Value<'static>,
}

/// What a parameter's schema says, as far as it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Schema {
    pub(super) expected: Expected,
    /// The type of a list's items; text or map where the schema does not state it.
    pub(super) items: Option<Expected>,
}

/// The types a schema can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Text,
    Int,
    Float,
    Bool,
    /// `array` and `list`.
    List,
    Tuple,
    /// `list(string)` and `list(enum)`.
    ListOf {
        text: bool,
    },
    /// `objectArray`.
    Objects,
    Map,
    /// `enum`, which no value is.
    Nothing,
}

impl Expected {
    fn read(name: &str) -> Option<Self> {
        Some(match name {
            "string" | "any" => Self::Text,
            "integer" | "int" | "number" => Self::Int,
            "float" => Self::Float,
            "boolean" => Self::Bool,
            "array" | "list" => Self::List,
            "tuple" => Self::Tuple,
            "list(string)" => Self::ListOf { text: true },
            "list(enum)" => Self::ListOf { text: false },
            "objectArray" => Self::Objects,
            "object" | "dict" => Self::Map,
            "enum" => Self::Nothing,
            _ => return None,
        })
    }

    pub(super) fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::Text => Kind::Str,
            Self::Int => Kind::Int,
            Self::Float => Kind::Float,
            Self::Bool => Kind::Bool,
            Self::List | Self::Tuple | Self::ListOf { .. } | Self::Objects => Kind::List,
            Self::Map => Kind::Dict,
            Self::Nothing => return None,
        })
    }

    /// The type of the items when the schema does not state one.
    pub(super) fn unstated_items(self) -> Self {
        match self {
            Self::ListOf { text: true } => Self::Text,
            _ => Self::Map,
        }
    }
}

impl Normal {
    pub(super) fn compile(
        functions: &[json::Value],
        truth: &json::Value,
    ) -> Result<Self, DataError> {
        let functions: Vec<Function> = functions
            .iter()
            .map(Function::compile)
            .collect::<Result<_, _>>()?;
        let references = match truth {
            json::Value::List(list) => list.iter().collect(),
            single => vec![single],
        };
        let references = references
            .into_iter()
            .map(|reference| Reference::compile(reference, &functions));
        Ok(Self {
            references: references.collect::<Result<_, _>>()?,
            functions,
        })
    }
}

impl Reference {
    fn compile(reference: &json::Value, functions: &[Function]) -> Result<Self, DataError> {
        let map = reference
            .as_dict()
            .ok_or(DataError::Shape("a reference is not an object"))?;
        let mut calls = Vec::with_capacity(map.len());
        for (key, arguments) in map {
            let arguments = arguments
                .as_dict()
                .ok_or(DataError::Shape("reference arguments are not an object"))?;
            let function = functions
                .iter()
                .position(|function| key.contains(&function.name));
            let value = Value::from_json(&json::Value::Dict(arguments.clone()));
            let function = function.map(|i| (i, &functions[i]));
            let slots = slots(arguments, function.map(|(_, function)| function));
            let name = without_number(key).to_owned();
            calls.push(ReferenceCall {
                is_described: function.is_some_and(|(_, function)| function.name == name),
                name,
                function: function.map(|(i, _)| i),
                is_empty: arguments.is_empty(),
                required: slots.iter().filter(|slot| slot.required).count(),
                slots,
                is_schema: function
                    .is_some_and(|(_, function)| equal(&function.raw_properties, &value)),
            });
        }
        let mut names: Vec<String> = calls.iter().map(|call| call.name.clone()).collect();
        names.sort_unstable();
        Ok(Self { calls, names })
    }
}

/// Every argument that the reference or the function's description names.
fn slots(arguments: &json::Map, function: Option<&Function>) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::new();
    let names = arguments.iter().map(|(name, _)| name);
    let properties = function.map_or(&[][..], |function| &function.properties);
    let required = function.map_or(&[][..], |function| &function.required);
    let described = properties.iter().map(|(name, _)| name);
    for name in names.chain(described).chain(required) {
        if slots.iter().any(|slot| slot.name == *name) {
            continue;
        }
        let property = properties.iter().find(|(known, _)| known == name);
        slots.push(Slot {
            name: name.clone(),
            required: required.contains(name),
            schema: property.map(|(_, schema)| *schema),
            reference: arguments.get(name).map(ReferenceValue::compile),
        });
    }
    slots
}

/// Removes one ending `_` + digits.
fn without_number(key: &str) -> &str {
    let base = key.trim_end_matches(|c: char| c.is_ascii_digit());
    match base.strip_suffix('_') {
        Some(name) if base.len() < key.len() => name,
        _ => key,
    }
}

impl ReferenceValue {
    /// Whether the text is the reference's own, with or without its white space: then every comparison of texts holds.
    pub(super) fn is_text(&self, text: &str) -> bool {
        (text == self.spaceless && !text.is_empty()) || self.value.as_str() == Some(text)
    }

    fn compile(json: &json::Value) -> Self {
        let value = Value::from_json(json);
        let needle = match json {
            json::Value::Str(text) => normalise(text),
            json::Value::Dict(_) => String::new(),
            _ => {
                let mut printed = String::new();
                // Numbers of the data are short; one too long to print would match nothing.
                if write_str(&mut printed, &value).is_err() {
                    printed = "\0".to_owned();
                }
                printed
            }
        };
        let spaceless = json.as_str().map(without_space).unwrap_or_default();
        let spaceless = match normalise(&spaceless) == needle {
            true => spaceless.into_owned(),
            false => String::new(),
        };
        Self {
            value,
            needle,
            spaceless,
            items: json
                .as_list()
                .unwrap_or_default()
                .iter()
                .map(Self::compile)
                .collect(),
            entries: json
                .as_dict()
                .map(|map| {
                    map.iter()
                        .map(|(key, value)| (key.clone(), Self::compile(value)))
                        .collect()
                })
                .unwrap_or_default(),
        }
    }
}

impl Function {
    fn compile(json: &json::Value) -> Result<Self, DataError> {
        let name = json.get("name").and_then(json::Value::as_str);
        let name = name
            .ok_or(DataError::Shape("a function has no name"))?
            .to_owned();
        let parameters = json.get("parameters");
        let properties = parameters.and_then(|parameters| parameters.get("properties"));
        let raw_properties = properties.map_or(Value::Dict(Vec::new()), Value::from_json);
        let mut compiled = Vec::new();
        for (name, schema) in properties
            .and_then(json::Value::as_dict)
            .into_iter()
            .flatten()
        {
            compiled.push((name.clone(), Schema::compile(schema)));
        }
        let required = parameters.and_then(|parameters| parameters.get("required"));
        let required = required.and_then(json::Value::as_list).unwrap_or_default();
        Ok(Self {
            name,
            no_parameters: parameters
                .and_then(json::Value::as_dict)
                .is_none_or(json::Map::is_empty),
            required: required
                .iter()
                .filter_map(json::Value::as_str)
                .map(str::to_owned)
                .collect(),
            properties: compiled,
            raw_properties,
        })
    }
}

impl Schema {
    /// A type that the evaluator does not know is one that no value has.
    fn compile(json: &json::Value) -> Self {
        let read = |json: &json::Value| {
            json.get("type")
                .and_then(json::Value::as_str)
                .and_then(Expected::read)
        };
        Self {
            expected: read(json).unwrap_or(Expected::Nothing),
            items: json.get("items").and_then(read),
        }
    }
}
