//! The tools a prompt offers: their names and the names of their parameters.

use indexmap::IndexMap;
use starling_text::json::{self, Map, ParseError, Value};
use starling_text::python;
use thiserror::Error;

use crate::Mode;
use crate::call::next_span;

/// Why a prompt's tools cannot be read. `tool` counts from 0 within the block.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ToolError {
    /// A line of the block is not JSON.
    #[error("tool {tool} is not JSON: {error}")]
    Json {
        /// Position in the block.
        tool: usize,
        /// Where and why.
        error: ParseError,
    },
    /// The tools are not a list.
    #[error("the tools are not a list")]
    NotAList,
    /// A tool is not an object.
    #[error("tool {tool} is not an object")]
    NotAnObject {
        /// Position in the block.
        tool: usize,
    },
    /// A tool lacks a key.
    #[error("tool {tool} has no `{key}`")]
    Missing {
        /// Position in the block.
        tool: usize,
        /// The key it lacks.
        key: &'static str,
    },
    /// A tool's name is a list or an object.
    #[error("the name of tool {tool} is not text")]
    Name {
        /// Position in the block.
        tool: usize,
    },
    /// A tool's parameters are neither an object nor a list of names.
    #[error("the parameters of tool {tool} are not an object")]
    Parameters {
        /// Position in the block.
        tool: usize,
    },
}

/// So many names are looked through one by one.
const FEW: usize = 8;

/// What may stand as an argument's name in calls of one tool.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameters {
    /// These names.
    Names(IndexMap<String, ()>),
    /// These values, compared as Python compares them.
    List(Vec<Value>),
    /// Any part of this text (the released program's reading of parameters that are a string).
    PartsOf(String),
}

impl Parameters {
    /// Whether an argument may have this name.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            // Most tools have few parameters: looking at each is quicker than hashing.
            Self::Names(names) if names.len() <= FEW => names.keys().any(|known| known == name),
            Self::Names(names) => names.contains_key(name),
            Self::List(items) => items.iter().any(|item| item.as_str() == Some(name)),
            Self::PartsOf(text) => text.contains(name),
        }
    }

    /// As [`Parameters::contains`], for a name that is any value. `None` where Python would raise.
    pub(crate) fn contains_value(&self, name: &Value) -> Option<bool> {
        match (self, name) {
            (_, Value::Str(name)) => Some(self.contains(name)),
            (Self::Names(_), Value::List(_) | Value::Dict(_)) | (Self::PartsOf(_), _) => None,
            (Self::Names(_), _) => Some(false),
            (Self::List(items), _) => Some(items.iter().any(|item| python::eq(item, name))),
        }
    }
}

/// The tools of one prompt, read once and then used for each of its generations.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToolSet {
    named: IndexMap<String, Parameters>,
    /// Tools whose name is a number, a boolean or null: only the released program knows such.
    odd: Vec<(Value, Parameters)>,
}

impl ToolSet {
    /// Reads the last `<tools>…</tools>` block of a prompt, one JSON tool a line. No block: no tools.
    ///
    /// # Errors
    /// [`ToolError`]; a prompt whose tools cannot be read must not be trained on.
    pub fn from_prompt(prompt: &str, mode: Mode) -> Result<Self, ToolError> {
        let mut last = "";
        let mut rest = prompt;
        while let Some((inside, after)) = next_span(rest, "<tools>", "</tools>") {
            (last, rest) = (inside, after);
        }
        let mut set = Self::default();
        let lines = last
            .split('\n')
            .map(python::strip)
            .filter(|line| !line.is_empty());
        for (tool, line) in lines.enumerate() {
            let value = json::parse(line).map_err(|error| ToolError::Json { tool, error })?;
            set.add(tool, &value, mode, !mode.is_faithful())?;
        }
        Ok(set)
    }

    /// Reads tools that are already values: a list of `{name, parameters}`, or null for none.
    ///
    /// # Errors
    /// [`ToolError`].
    pub fn from_value(tools: &Value, mode: Mode) -> Result<Self, ToolError> {
        Self::from_list(tools, mode, !mode.is_faithful())
    }

    /// As [`ToolSet::from_value`], and wrapped tools are understood in every mode.
    ///
    /// # Errors
    /// [`ToolError`].
    pub fn unwrapped(tools: &Value, mode: Mode) -> Result<Self, ToolError> {
        Self::from_list(tools, mode, true)
    }

    fn from_list(tools: &Value, mode: Mode, unwrap: bool) -> Result<Self, ToolError> {
        let mut set = Self::default();
        let items = match tools {
            Value::Null => &[],
            Value::List(items) => items.as_slice(),
            _ => return Err(ToolError::NotAList),
        };
        for (tool, value) in items.iter().enumerate() {
            set.add(tool, value, mode, unwrap)?;
        }
        Ok(set)
    }

    /// How many tools there are.
    pub fn len(&self) -> usize {
        self.named.len() + self.odd.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parameters of a tool.
    pub fn get(&self, name: &str) -> Option<&Parameters> {
        if self.named.len() <= FEW {
            let mut tools = self.named.iter();
            return tools
                .find(|(known, _)| *known == name)
                .map(|(_, found)| found);
        }
        self.named.get(name)
    }

    /// The names of the tools, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    pub(crate) fn get_value(&self, name: &Value) -> Option<&Parameters> {
        match name {
            Value::Str(name) => self.get(name),
            _ => self
                .odd
                .iter()
                .find(|(odd, _)| python::eq(odd, name))
                .map(|(_, found)| found),
        }
    }

    fn add(
        &mut self,
        tool: usize,
        value: &Value,
        mode: Mode,
        unwrap: bool,
    ) -> Result<(), ToolError> {
        let mut map = value.as_dict().ok_or(ToolError::NotAnObject { tool })?;
        if let (true, None, Some(Value::Dict(inner))) =
            (unwrap, map.get("name"), map.get("function"))
        {
            map = inner;
        }
        let take = |key| map.get(key).ok_or(ToolError::Missing { tool, key });
        let (name, parameters) = (take("name")?, take("parameters")?);
        let parameters = match mode {
            Mode::Faithful => faithful_parameters(parameters),
            Mode::Fixed | Mode::Unicode => fixed_parameters(parameters),
        }
        .ok_or(ToolError::Parameters { tool })?;
        match name {
            Value::Str(name) => drop(self.named.insert(name.clone(), parameters)),
            Value::List(_) | Value::Dict(_) => return Err(ToolError::Name { tool }),
            _ if !mode.is_faithful() => return Err(ToolError::Name { tool }),
            odd => match self
                .odd
                .iter_mut()
                .find(|(known, _)| python::eq(known, odd))
            {
                Some((_, known)) => *known = parameters,
                None => self.odd.push((odd.clone(), parameters)),
            },
        }
        Ok(())
    }
}

fn names(map: &Map) -> Parameters {
    Parameters::Names(map.keys().map(|name| (name.clone(), ())).collect())
}

fn faithful_parameters(parameters: &Value) -> Option<Parameters> {
    match parameters {
        Value::Dict(map) => Some(match (map.get("properties"), map.get("type")) {
            (Some(Value::Dict(properties)), Some(kind)) if !kind.is_null() => names(properties),
            _ => names(map),
        }),
        Value::List(items) => Some(Parameters::List(items.clone())),
        Value::Str(text) => Some(Parameters::PartsOf(text.clone())),
        _ => None,
    }
}

/// Tells a JSON schema from a flat map of parameters: in a flat map every value describes a parameter and is
/// an object, while a schema has a textual `type`, or `properties` and no `type`.
fn fixed_parameters(parameters: &Value) -> Option<Parameters> {
    let map = match parameters {
        Value::Dict(map) => map,
        Value::List(items) if items.iter().all(|item| item.as_str().is_some()) => {
            return Some(Parameters::List(items.clone()));
        }
        _ => return None,
    };
    let is_schema = match map.get("type") {
        Some(Value::Dict(_)) => false,
        Some(Value::Str(_) | Value::List(_)) => {
            map.get("properties")
                .is_none_or(|properties| properties.as_dict().is_some())
                && map.values().any(|value| value.as_dict().is_none())
        }
        Some(_) | None => map.get("properties").is_some_and(|properties| {
            properties
                .as_dict()
                .is_some_and(|map| map.values().all(|v| v.as_dict().is_some()))
        }),
    };
    Some(match (is_schema, map.get("properties")) {
        (true, Some(Value::Dict(properties))) => names(properties),
        (true, _) => Parameters::Names(IndexMap::new()),
        (false, _) => names(map),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fixed(parameters: &str) -> Vec<String> {
        match fixed_parameters(&json::parse(parameters).expect(parameters)) {
            Some(Parameters::Names(names)) => names.into_keys().collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn schemas_are_told_from_flat_maps() {
        assert_eq!(
            fixed(r#"{"type": "object", "properties": {"a": {}}, "required": ["a"]}"#),
            ["a"]
        );
        assert_eq!(
            fixed(r#"{"properties": {"a": {}}, "required": ["a"]}"#),
            ["a"]
        );
        assert_eq!(fixed(r#"{"type": null, "properties": {"a": {}}}"#), ["a"]);
        assert_eq!(fixed(r#"{"type": "object", "required": []}"#), [""; 0]);
        assert_eq!(fixed(r#"{"type": "object"}"#), [""; 0]);
        assert_eq!(
            fixed(r#"{"type": {"type": "str"}, "properties": {"type": "str"}}"#),
            ["type", "properties"]
        );
        assert_eq!(
            fixed(r#"{"properties": {"type": "str", "description": "x"}, "a": {}}"#),
            ["properties", "a"]
        );
        assert_eq!(
            fixed(r#"{"a": {"type": "int"}, "required": {"type": "bool"}}"#),
            ["a", "required"]
        );
        assert_eq!(fixed("{}"), [""; 0]);
    }

    #[test]
    fn wrapped_tools_are_understood_unless_faithful() {
        let prompt = "<tools>\n{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"a\": {}}}}\n</tools>";
        let set = ToolSet::from_prompt(prompt, Mode::Fixed).expect("understood");
        assert_eq!(set.names().collect::<Vec<_>>(), ["f"]);
        assert!(
            set.get("f")
                .is_some_and(|parameters| parameters.contains("a"))
        );
        let missing = Err(ToolError::Missing {
            tool: 0,
            key: "name",
        });
        assert_eq!(ToolSet::from_prompt(prompt, Mode::Faithful), missing);
    }

    proptest! {
        #[test]
        fn arbitrary_prompts_never_panic(text in r#"(<tools>|</tools>|\n|[\[\]{}":,]|name|"name"|"parameters"|.){0,30}"#) {
            for mode in [Mode::Faithful, Mode::Fixed, Mode::Unicode] {
                drop(ToolSet::from_prompt(&text, mode));
            }
        }
    }
}
