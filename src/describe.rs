//! Kinds as people and programs read them: ports, and parameters from the doc comments of their types.

use serde_json::{Value, json};
use starling_contract::{Kind, Need};

use crate::Registry;

/// How deep parameters within parameters are shown; schemas may refer to themselves.
const DEPTH: usize = 4;

/// A line a kind: name and what it does.
#[must_use]
pub fn list(registry: &Registry) -> String {
    let width = registry.names().map(str::len).max().unwrap_or(0);
    let line = |k: &dyn Kind| format!("{:width$}  {}\n", k.name(), k.about());
    registry.iter().map(line).collect()
}

/// Ports and parameters of a kind.
#[must_use]
pub fn kind(kind: &dyn Kind) -> String {
    let mut lines = vec![
        format!("{} (version {})", kind.name(), kind.version()),
        format!("  {}", kind.about()),
    ];
    let ports = kind.ports();
    if !ports.inputs.is_empty() {
        lines.push("\ninputs".to_owned());
        lines.extend(columns(ports.inputs.iter().map(|i| {
            let name = if i.need.is_named() {
                format!("{}.NAME", i.name)
            } else {
                i.name.to_owned()
            };
            [
                name,
                i.artifact.name().to_owned(),
                need(i.need).to_owned(),
                i.about.to_owned(),
            ]
        })));
    }
    lines.push("\noutputs".to_owned());
    lines.extend(columns(ports.outputs.iter().map(|o| {
        [
            o.name.to_owned(),
            o.artifact.name().to_owned(),
            o.about.to_owned(),
        ]
    })));
    lines.push("\nparameters".to_owned());
    let schema = kind.schema();
    let mut params = Vec::new();
    properties(&schema, &schema, "", DEPTH, &mut params);
    if params.is_empty() {
        lines.push("  none".to_owned());
    }
    // What a table needs is needed only where the table is.
    let needed = |path: &str| params.iter().any(|p| p.path == path && p.required);
    let required: Vec<String> = (params.iter())
        .filter(|p| {
            p.required
                && p.path
                    .rsplit_once('.')
                    .is_none_or(|(table, _)| needed(table))
        })
        .map(|p| format!("{} = …", p.path))
        .collect();
    for param in params {
        let value = match &param.default {
            Some(default) => format!(" = {default}"),
            None if param.required => " (required)".to_owned(),
            None => String::new(),
        };
        let neutral = kind.neutral().contains(&param.path.as_str());
        let note = if neutral { "; changes no result" } else { "" };
        lines.push(format!("  {}{value}   {}{note}", param.path, param.sort));
        lines.extend(
            param
                .about
                .lines()
                .map(|l| format!("      {l}").trim_end().to_owned()),
        );
    }
    lines.push(
        "\nevery stage also takes `threads`, `memory`, `device`, `time-limit`, `shards` and `keep`"
            .to_owned(),
    );
    lines.push(format!("computes on {}", kind.devices().join(" and ")));
    lines.push("\nin a pipeline".to_owned());
    lines.extend(
        example(kind, &required)
            .into_iter()
            .map(|l| format!("  {l}")),
    );
    lines.join("\n") + "\n"
}

/// A stage with what it cannot do without.
fn example(kind: &dyn Kind, required: &[String]) -> Vec<String> {
    let mut lines = vec![
        "[stage.NAME]".to_owned(),
        format!("kind = \"{}\"", kind.name()),
    ];
    for input in kind.ports().inputs {
        let (port, from) = (input.name, format!("STAGE.{}", input.artifact.name()));
        match input.need {
            Need::Required => lines.push(format!("inputs.{port} = \"{from}\"")),
            Need::Many => lines.push(format!("inputs.{port}.NAME = \"{from}\"")),
            Need::Optional | Need::AnyNumber => {}
        }
    }
    lines.extend(required.iter().cloned());
    lines
}

/// The same as JSON, with the schema of the parameters.
#[must_use]
pub fn kind_json(kind: &dyn Kind) -> Value {
    let ports = kind.ports();
    let input = |i: &starling_contract::Input| json!({"name": i.name, "artifact": i.artifact.name(), "need": need(i.need), "about": i.about});
    let output = |o: &starling_contract::Output| json!({"name": o.name, "artifact": o.artifact.name(), "about": o.about, "display": o.display});
    json!({
        "kind": kind.name(),
        "version": kind.version(),
        "about": kind.about(),
        "neutral": kind.neutral(),
        "work": kind.work(),
        "devices": kind.devices(),
        "inputs": ports.inputs.iter().map(input).collect::<Vec<_>>(),
        "outputs": ports.outputs.iter().map(output).collect::<Vec<_>>(),
        "params": kind.schema(),
    })
}

fn need(need: Need) -> &'static str {
    match need {
        Need::Required => "required",
        Need::Optional => "optional",
        Need::Many => "one or more",
        Need::AnyNumber => "any number",
    }
}

/// Rows in columns as wide as their widest cell; the last column is ragged.
fn columns<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> Vec<String> {
    let rows: Vec<[String; N]> = rows.collect();
    let width = |n: usize| rows.iter().map(|r| r[n].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("  {cell:width$}"));
        cells.collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A parameter as its schema describes it.
struct Param {
    path: String,
    sort: String,
    default: Option<String>,
    required: bool,
    about: String,
}

/// The parameters of an object's schema, those within parameters under dotted paths.
fn properties(root: &Value, object: &Value, prefix: &str, depth: usize, params: &mut Vec<Param>) {
    let required = |name: &str| {
        let names = object["required"].as_array();
        names.is_some_and(|n| n.iter().any(|v| v == name))
    };
    for (name, schema) in object["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let target = resolved(root, schema);
        let about = schema
            .get("description")
            .or_else(|| target.get("description"));
        let nested = depth > 0 && target["properties"].is_object();
        params.push(Param {
            sort: if nested {
                "table".to_owned()
            } else {
                sort(root, schema, depth)
            },
            default: schema
                .get("default")
                .filter(|d| !nested || d.is_null())
                .map(Value::to_string),
            required: required(name),
            about: about.and_then(Value::as_str).unwrap_or_default().to_owned(),
            path: path.clone(),
        });
        if nested {
            properties(root, target, &format!("{path}."), depth - 1, params);
        }
    }
}

/// What a reference refers to; an optional value is what it may be.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut at = schema;
    // A reference to a reference is rare, a circle of them impossible in a schema made from types.
    for _ in 0..8 {
        if let Some(name) = at["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
            at = &root["$defs"][name];
        } else if let Some([one, null]) = at["anyOf"].as_array().map(Vec::as_slice)
            && null["type"] == "null"
        {
            at = one;
        } else {
            break;
        }
    }
    at
}

/// What values a parameter takes.
fn sort(root: &Value, schema: &Value, depth: usize) -> String {
    let target = resolved(root, schema);
    if let Some(values) = target["enum"].as_array() {
        return one_of(values.iter());
    }
    let variants = target["oneOf"]
        .as_array()
        .or_else(|| target["anyOf"].as_array());
    if let Some(variants) = variants {
        let constants: Vec<&Value> = variants.iter().filter_map(|v| v.get("const")).collect();
        if constants.len() == variants.len() {
            return one_of(constants.into_iter());
        }
        if depth > 0 {
            let sorts: Vec<String> = variants.iter().map(|v| sort(root, v, depth - 1)).collect();
            return sorts.join(" or ");
        }
    }
    if let Some(constant) = target.get("const") {
        return constant.to_string();
    }
    let names: Vec<&str> = match &target["type"] {
        Value::Array(types) => types
            .iter()
            .filter_map(Value::as_str)
            .filter(|t| *t != "null")
            .collect(),
        other => other.as_str().into_iter().collect(),
    };
    let word = match names[..] {
        ["array"] if depth > 0 => {
            return format!("list of {}", sort(root, &target["items"], depth - 1));
        }
        ["object"] => "table".to_owned(),
        [] => "any value".to_owned(),
        _ => names.join(" or "),
    };
    match (bound(target, "minimum"), bound(target, "maximum")) {
        (Some(least), Some(most)) => format!("{word} from {least} to {most}"),
        (Some(least), None) => format!("{word}, at least {least}"),
        (None, Some(most)) => format!("{word}, at most {most}"),
        (None, None) => word,
    }
}

fn bound(schema: &Value, name: &str) -> Option<String> {
    schema
        .get(name)
        .filter(|v| v.is_number())
        .map(Value::to_string)
}

fn one_of<'a>(values: impl Iterator<Item = &'a Value>) -> String {
    let values: Vec<String> = values
        .filter(|v| !v.is_null())
        .map(Value::to_string)
        .collect();
    format!("one of {}", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::registry;

    #[test]
    fn a_kind_is_described_by_its_types() {
        let registry = registry();
        insta::assert_snapshot!(kind(registry.get("letters").expect("there")), @r#"
        letters (version 1)
          Writes letters.

        outputs
          rows    rows    What the test writes.
          report  report  What the test writes.

        parameters
          count = 1   integer, at least 0
              How often; at least 1.
          log-every = 1   integer, at least 0; changes no result
              Lines between two messages; changes no byte.
          tail   table
              The end.
          tail.coefficient = 0.0   number
              Its weight.
          tail.names = []   list of string
              Its names.
          text (required)   string
              What to write.

        every stage also takes `threads`, `memory`, `device`, `time-limit`, `shards` and `keep`
        computes on cpu

        in a pipeline
          [stage.NAME]
          kind = "letters"
          text = …
        "#);
        let table = kind(registry.get("table").expect("there"));
        assert!(table.contains("\ninputs\n"), "{table}");
    }

    #[test]
    fn every_kind_is_listed() {
        let text = list(&registry());
        assert!(text.starts_with("letters  Writes letters.\n"), "{text}");
        assert_eq!(text.lines().count(), registry().names().count());
    }

    #[test]
    fn schemas_of_all_sorts_are_read() {
        let root = json!({"$defs": {"E": {"oneOf": [{"const": "a"}, {"const": "b"}]}}});
        let sort = |schema: Value| sort(&root, &schema, DEPTH);
        assert_eq!(sort(json!({"$ref": "#/$defs/E"})), "one of \"a\", \"b\"");
        assert_eq!(
            sort(json!({"anyOf": [{"$ref": "#/$defs/E"}, {"type": "null"}]})),
            "one of \"a\", \"b\""
        );
        assert_eq!(sort(json!({"type": ["number", "null"]})), "number");
        assert_eq!(
            sort(json!({"type": "array", "items": {"type": "string"}})),
            "list of string"
        );
        assert_eq!(
            sort(json!({"type": "integer", "minimum": 1, "maximum": 9})),
            "integer from 1 to 9"
        );
        assert_eq!(sort(json!({"enum": ["x"]})), "one of \"x\"");
        assert_eq!(sort(json!(true)), "any value");
    }
}
