//! The JSON Schema of pipelines, made from the types: what an editor needs to complete and to underline.
//!
//! It knows every kind with its parameters, their documentation and their defaults, and its inputs. It is
//! looser than the command where a file alone cannot tell: what a stage lacks may come from a file that it
//! extends, from an arm or from a profile, and any value may be a variable.

use serde_json::{Map, Value, json};
use starling_contract::{Input, Kind, Need};

use crate::Registry;

/// The schema of a pipeline of these kinds.
#[must_use]
pub fn schema(registry: &Registry) -> Value {
    let mut defs = Map::new();
    defs.insert("variable".into(), variable());
    defs.insert("vars".into(), vars());
    let mut by_kind = Vec::new();
    let mut kinds = Map::new();
    let mut names = Vec::new();
    for kind in registry.iter() {
        let name = kind.name();
        let params = params(kind, &mut defs);
        let stage = stage(kind, params.clone());
        defs.insert(format!("stage.{name}"), stage);
        defs.insert(
            format!("params.{name}"),
            json!({"description": kind.about(), "type": "object", "properties": params}),
        );
        by_kind.push(json!({
            "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
            "then": {"$ref": format!("#/$defs/stage.{name}")},
        }));
        kinds.insert(
            name.into(),
            json!({"$ref": format!("#/$defs/params.{name}")}),
        );
        names.push(json!({"const": name, "description": kind.about()}));
    }
    names.push(reference("variable"));
    defs.insert(
        "stage".into(),
        json!({
            "description": "A stage. Its kind says which inputs and parameters it has.",
            "type": "object",
            "properties": {
                "kind": {
                    "description": "What sort of work it is; `starling stages` lists the kinds.",
                    "anyOf": names,
                },
                "like": like(),
            },
            "allOf": by_kind,
        }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "starling pipeline",
        "description": "Stages of an experiment; see docs/pipelines.md.",
        "type": "object",
        "properties": {
            "extends": {
                "description": "A pipeline that this one changes: tables join key by key, this file wins.",
                "type": "string",
            },
            "include": {
                "description": "Files whose stages, variables and profiles are added to this one's.",
                "type": "array",
                "items": {"type": "string"},
            },
            "vars": reference("vars"),
            "stage": {
                "description": "The stages, by name.",
                "type": "object",
                "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_-]{0,63}$"},
                "additionalProperties": reference("stage"),
            },
            "matrix": matrix(),
            "profile": {
                "description": "Ways to run on one sort of machine; `--profile NAME` chooses one.",
                "type": "object",
                "additionalProperties": profile(kinds),
            },
            "run": {
                "description": "How to run; changes no result.",
                "type": "object",
                "properties": {"threads": threads(), "memory": memory(), "cards": cards()},
                "additionalProperties": false,
            },
        },
        "additionalProperties": false,
        "$defs": defs,
    })
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn variable() -> Value {
    json!({
        "description": "The value of a variable: \"${name}\".",
        "type": "string",
        "pattern": "\\$\\{[A-Za-z_][A-Za-z0-9_-]*\\}",
    })
}

fn vars() -> Value {
    json!({
        "description": "Values that stages mention as \"${name}\".",
        "type": "object",
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,63}$"},
    })
}

fn like() -> Value {
    json!({
        "description": "A stage that this one is like, in all that it does not say itself.",
        "type": "string",
    })
}

fn matrix() -> Value {
    let arm = json!({
        "description": "What this arm changes, as in `STAGE.PARAM = value`; `vars.NAME` for a variable.",
        "type": "object",
        "properties": {"vars": reference("vars")},
        "additionalProperties": reference("stage"),
    });
    json!({
        "description": "Points that the pipeline runs at; a value enters only the stages that mention it.",
        "type": "object",
        "properties": {
            "axes": {
                "description": "Lists of values, as in `STAGE.PARAM = [1, 2]` or `vars.NAME = [1, 2]`.",
                "type": "object",
                "additionalProperties": {"type": "object"},
            },
            "arms": {
                "description": "Named variants.",
                "type": "object",
                "additionalProperties": arm,
            },
            "seeds": {"description": "Values of `${seed}`.", "type": "array"},
            "zip": {
                "description": "Axes that advance together, as in `[[\"ckd.lr\", \"ckd.updates\"]]`.",
                "type": "array",
                "items": {"type": "array", "items": {"type": "string"}},
            },
            "exclude": {
                "description": "Points to leave out, as in `[{ arm = \"sft\", seed = 3 }]`.",
                "type": "array",
                "items": {"type": "object"},
            },
        },
        "additionalProperties": false,
    })
}

fn profile(kinds: Map<String, Value>) -> Value {
    json!({
        "type": "object",
        "properties": {
            "device": device("Where stages compute that do not say so and can; changes no key."),
            "threads": threads(),
            "memory": memory(),
            "cards": cards(),
            "vars": reference("vars"),
            "stage": {
                "description": "Parameters by stage.",
                "type": "object",
                "additionalProperties": {"type": "object"},
            },
            "kind": {
                "description": "Parameters by kind.",
                "type": "object",
                "properties": kinds,
                "additionalProperties": false,
            },
        },
        "additionalProperties": false,
    })
}

fn threads() -> Value {
    json!({
        "description": "CPU threads; changes no result.",
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 4096}, reference("variable")],
    })
}

fn memory() -> Value {
    json!({"description": "Memory, as in \"16GB\"; changes no result.", "type": "string"})
}

fn cards() -> Value {
    json!({
        "description": "NVIDIA devices that stages share, each process with one of its own; changes no result.",
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 4096}, reference("variable")],
    })
}

fn device(about: &str) -> Value {
    json!({"description": about, "anyOf": [{"enum": ["cpu", "cuda"]}, reference("variable")]})
}

/// The parameters of a kind; types that they share go into `defs` under the kind's name.
fn params(kind: &dyn Kind, defs: &mut Map<String, Value>) -> Value {
    let mut schema = kind.schema();
    let prefix = format!("{}.", kind.name());
    loosen(&mut schema, &prefix);
    if let Some(Value::Object(inner)) = schema.get_mut("$defs").map(Value::take) {
        defs.extend(
            inner
                .into_iter()
                .map(|(name, def)| (format!("{prefix}{name}"), def)),
        );
    }
    schema
        .get_mut("properties")
        .map_or_else(|| json!({}), Value::take)
}

/// Lets variables stand anywhere and values be missing, and renames what is referred to.
fn loosen(schema: &mut Value, prefix: &str) {
    let Value::Object(map) = schema else { return };
    map.remove("required");
    if let Some(Value::String(target)) = map.get_mut("$ref")
        && let Some(name) = target.strip_prefix("#/$defs/")
    {
        *target = format!("#/$defs/{prefix}{name}");
    }
    for (key, inner) in map.iter_mut() {
        match (key.as_str(), inner) {
            ("properties", Value::Object(properties)) => {
                for value in properties.values_mut() {
                    loosen(value, prefix);
                    allow_variable(value);
                }
            }
            ("$defs", Value::Object(inner)) => {
                inner.values_mut().for_each(|value| loosen(value, prefix));
            }
            ("items" | "additionalProperties", inner @ Value::Object(_)) => {
                loosen(inner, prefix);
                allow_variable(inner);
            }
            ("anyOf" | "oneOf" | "allOf", Value::Array(list)) => {
                list.iter_mut().for_each(|value| loosen(value, prefix));
            }
            _ => {}
        }
    }
}

/// A value of the schema, or a variable.
fn allow_variable(schema: &mut Value) {
    let restricted = ["enum", "const", "pattern", "format"];
    let any_text = schema["type"] == "string" && restricted.iter().all(|r| schema.get(r).is_none());
    if any_text || !schema.is_object() {
        return;
    }
    let mut outer = Map::new();
    if let Some(map) = schema.as_object_mut() {
        for note in ["description", "default"] {
            outer.extend(map.remove(note).map(|value| (note.to_owned(), value)));
        }
    }
    outer.insert(
        "anyOf".into(),
        json!([schema.take(), reference("variable")]),
    );
    *schema = Value::Object(outer);
}

fn stage(kind: &dyn Kind, params: Value) -> Value {
    let mut properties = match params {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let ports = kind.ports().inputs;
    let inputs: Map<String, Value> = ports
        .iter()
        .map(|i| (i.name.to_owned(), input(i)))
        .collect();
    properties.insert("kind".into(), json!({}));
    properties.insert("like".into(), like());
    properties.insert(
        "inputs".into(),
        json!({
            "description": "What it reads, as in `inputs.PORT = \"stage.output\"`.",
            "type": "object",
            "properties": inputs,
            "additionalProperties": false,
        }),
    );
    properties.insert("threads".into(), threads());
    properties.insert("memory".into(), memory());
    properties.insert(
        "device".into(),
        device("Where it computes; not in its key."),
    );
    properties.insert(
        "time-limit".into(),
        json!({
            "description": "How long an attempt may take, as in \"1h30m\"; changes no result.",
            "type": "string",
        }),
    );
    properties.insert(
        "shards".into(),
        json!({
            "description": "Into how many parts its rows are grouped; changes no result.",
            "anyOf": [{"type": "integer", "minimum": 1, "maximum": 4096}, reference("variable")],
        }),
    );
    properties.insert(
        "keep".into(),
        json!({
            "description": "What `gc` leaves of its outputs: all, or only digest and recipe.",
            "anyOf": [{"enum": ["all", "digest"]}, reference("variable")],
        }),
    );
    json!({
        "description": kind.about(),
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn input(input: &Input) -> Value {
    let about = format!("{} ({}).", input.about, input.artifact.name());
    let one = json!({"type": "string", "pattern": "\\."});
    match input.need {
        Need::Required | Need::Optional => {
            json!({"description": about, "type": "string", "pattern": "\\."})
        }
        Need::Many | Need::AnyNumber => json!({
            "description": format!("{about} Several, each under a name, or all arms of a stage."),
            "anyOf": [
                {"type": "string", "pattern": "@.*\\*.*\\."},
                {"type": "object", "additionalProperties": one},
                reference("variable"),
            ],
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::testing::{conforms, registry};

    fn problems(text: &str) -> Vec<String> {
        let document: toml::Value = toml::from_str(text).expect("TOML");
        let document = serde_json::to_value(document).expect("JSON");
        conforms::problems(&schema(&registry()), &document)
    }

    #[test]
    fn right_pipelines_conform() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pipelines/good");
        let mut checked = 0;
        for entry in fs::read_dir(folder).expect("the folder") {
            let path = entry.expect("readable").path();
            if path.extension().is_some_and(|e| e == "toml") {
                let text = fs::read_to_string(&path).expect("readable");
                // `--set` may make a wrong file right; that one is not for editors.
                if !text.starts_with("# --set") {
                    assert_eq!(problems(&text), [] as [&str; 0], "{}", path.display());
                    checked += 1;
                }
            }
        }
        assert!(checked >= 3, "only {checked} files");
    }

    #[test]
    fn wrong_pipelines_do_not() {
        let stage = |rest: &str| problems(&format!("[stage.a]\n{rest}"));
        assert_eq!(
            stage("kind = 'letters'\ntext = 'x'\ncount = '${n}'"),
            [] as [&str; 0]
        );
        for (rest, place) in [
            ("kind = 'letters'\ncuont = 2", "/stage/a/cuont"),
            ("kind = 'letters'\ncount = 'two'", "/stage/a/count"),
            ("kind = 'letters'\ntail.names = [1]", "/stage/a/tail"),
            ("kind = 'leters'", "/stage/a/kind"),
            (
                "kind = 'upper'\ninputs.row = 'a.rows'",
                "/stage/a/inputs/row",
            ),
            ("kind = 'upper'\ninputs.rows = 'a'", "/stage/a/inputs/rows"),
            (
                "kind = 'table'\ninputs.arms = 'a.evaluation'",
                "/stage/a/inputs/arms",
            ),
        ] {
            let problems = stage(rest);
            assert!(
                problems.iter().any(|p| p.starts_with(place)),
                "{rest}: {problems:?}"
            );
        }
        assert!(!problems("[stages.a]\nkind = 'letters'").is_empty());
        assert!(!problems("[matrix]\naxis.a.count = [1]").is_empty());
        assert!(!problems("[profile.gpu]\nkind.letters.count = 'x'").is_empty());
    }
}
