//! A small check of JSON against a JSON Schema, for tests of the schema that starling writes.
//!
//! It knows the keywords that occur there and panics at any other, so that nothing is skipped unseen.

use serde_json::Value;

/// What does not conform: the place in the document, and why.
pub(crate) fn problems(schema: &Value, document: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    check(schema, schema, document, "", &mut problems);
    problems
}

fn conforms(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut problems = Vec::new();
    check(root, schema, value, "", &mut problems);
    problems.is_empty()
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, problems: &mut Vec<String>) {
    let map = match schema {
        Value::Bool(true) => return,
        Value::Bool(false) => {
            problems.push(format!("{at}: nothing is allowed here"));
            return;
        }
        Value::Object(map) => map,
        other => panic!("{other} is no schema"),
    };
    let mut wrong = |why: String| problems.push(format!("{at}: {why}"));
    for (keyword, rule) in map {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "then" | "format" => {}
            "type" => {
                let types: Vec<&str> = match rule {
                    Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
                    one => one.as_str().into_iter().collect(),
                };
                if !types.iter().any(|t| is_of(t, value)) {
                    wrong(format!("{value} is not of type {types:?}"));
                }
            }
            "const" if rule != value => wrong(format!("{value} is not {rule}")),
            "const" => {}
            "enum" if !rule.as_array().expect("a list").contains(value) => {
                wrong(format!("{value} is none of {rule}"));
            }
            "enum" => {}
            "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" => {
                if let (Some(value), Some(bound)) = (value.as_f64(), rule.as_f64()) {
                    let fits = match keyword.as_str() {
                        "minimum" => value >= bound,
                        "exclusiveMinimum" => value > bound,
                        "maximum" => value <= bound,
                        _ => value < bound,
                    };
                    if !fits {
                        wrong(format!("{value} is not within {keyword} {bound}"));
                    }
                }
            }
            "minItems" | "maxItems" | "minLength" | "maxLength" => {
                let size = match (keyword.ends_with("Items"), value) {
                    (true, Value::Array(list)) => list.len(),
                    (false, Value::String(text)) => text.chars().count(),
                    _ => continue,
                };
                let bound = usize::try_from(rule.as_u64().expect("a number")).expect("small");
                if (keyword.starts_with("min") && size < bound)
                    || (keyword.starts_with("max") && size > bound)
                {
                    wrong(format!("{size} is not within {keyword} {bound}"));
                }
            }
            "pattern" => {
                if let Some(text) = value.as_str()
                    && !matches(rule.as_str().expect("text"), text)
                {
                    wrong(format!("{text:?} does not match {rule}"));
                }
            }
            _ => {}
        }
    }
    for (keyword, rule) in map {
        match keyword.as_str() {
            "$ref" => {
                let name = rule.as_str().and_then(|r| r.strip_prefix("#/$defs/"));
                let name = name.unwrap_or_else(|| panic!("{rule} leads elsewhere"));
                let target = root["$defs"]
                    .get(name)
                    .unwrap_or_else(|| panic!("no {name}"));
                check(root, target, value, at, problems);
            }
            "allOf" => {
                for one in rule.as_array().expect("a list") {
                    check(root, one, value, at, problems);
                }
            }
            "anyOf" | "oneOf" => {
                let list = rule.as_array().expect("a list");
                let fitting = list.iter().filter(|one| conforms(root, one, value)).count();
                if fitting == 0 || (keyword == "oneOf" && fitting > 1) {
                    problems.push(format!("{at}: {value} fits {fitting} of {keyword}"));
                }
            }
            "if" => {
                if conforms(root, rule, value) {
                    check(root, &map["then"], value, at, problems);
                }
            }
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}/{n}"), problems);
                }
            }
            "required" => {
                for name in rule
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                {
                    if value.is_object() && value.get(name).is_none() {
                        problems.push(format!("{at}: lacks {name}"));
                    }
                }
            }
            "properties" => {
                for (name, inner) in rule.as_object().expect("a map") {
                    if let Some(value) = value.get(name) {
                        check(root, inner, value, &format!("{at}/{name}"), problems);
                    }
                }
            }
            "propertyNames" => {
                for name in value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name)
                {
                    check(
                        root,
                        rule,
                        &Value::from(name.as_str()),
                        &format!("{at}/{name}"),
                        problems,
                    );
                }
            }
            "additionalProperties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    if map.get("properties").is_none_or(|p| p.get(name).is_none()) {
                        check(root, rule, inner, &format!("{at}/{name}"), problems);
                    }
                }
            }
            "$schema" | "$defs" | "title" | "description" | "default" | "then" | "format"
            | "type" | "const" | "enum" | "minimum" | "exclusiveMinimum" | "maximum"
            | "exclusiveMaximum" | "minItems" | "maxItems" | "minLength" | "maxLength"
            | "pattern" => {}
            other => panic!("the check does not know {other}"),
        }
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("there is no type {other}"),
    }
}

/// The patterns that the schema has; another one is a reason to look.
fn matches(pattern: &str, text: &str) -> bool {
    let word = |text: &str, first: &dyn Fn(char) -> bool| {
        (1..=64).contains(&text.len())
            && text.starts_with(first)
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    let letter = |c: char| c.is_ascii_alphabetic();
    match pattern {
        "\\." => text.contains('.'),
        "@.*\\*.*\\." => text.contains('@') && text.contains('*') && text.contains('.'),
        "\\$\\{[A-Za-z_][A-Za-z0-9_-]*\\}" => text.contains("${") && text.contains('}'),
        "^[A-Za-z][A-Za-z0-9_-]{0,63}$" => word(text, &letter),
        "^[A-Za-z_][A-Za-z0-9_-]{0,63}$" => word(text, &|c| letter(c) || c == '_'),
        other => panic!("the check does not know the pattern {other}"),
    }
}
