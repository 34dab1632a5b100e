//! World: makes seeded function-calling conversations whose test tools never occur in training.
//!
//! | port    | way | artifact | holds                                                       |
//! |---------|-----|----------|-------------------------------------------------------------|
//! | `base`  | out | rows     | conversations over tools of neither `train` nor `test`      |
//! | `train` | out | rows     | conversations to learn from                                 |
//! | `test`  | out | rows     | conversations over tools that occur in no other port        |
//!
//! A tool is a verb and a noun (`book_hotel`); the pairs are dealt to the three ports, so a model can
//! call a test tool only by reading its prompt. Same seed, same bytes.

mod words;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{ArtifactType, Complaint, Output, Ports, Stage, StageContext, StageError};
use starling_text::json::Value;

use crate::random::Random;
use crate::rows::{RowWriter, object, string};

/// The kind `world`.
pub(crate) struct World;

/// How large and how hard the world is.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// Seed of every choice.
    #[serde(default = "defaults::seed")]
    seed: u64,
    /// Conversations of the port `base`.
    base_rows: usize,
    /// Conversations of the port `train`.
    train_rows: usize,
    /// Conversations of the port `test`.
    test_rows: usize,
    /// Tools shown in a prompt, 2 to 8; more make choosing harder and prompts longer.
    #[serde(default = "defaults::tools")]
    tools: usize,
    /// Most arguments of a tool, 1 to 4; each tool has between one and this many.
    #[serde(default = "defaults::arguments")]
    arguments: usize,
    /// Share of conversations with two calls, in [0, 1].
    #[serde(default = "defaults::parallel")]
    parallel: f64,
    /// Share of conversations that no tool fits, answered in words, in [0, 1].
    #[serde(default = "defaults::irrelevant")]
    irrelevant: f64,
    /// Share of the tool names that only `test` uses, in (0, 1).
    #[serde(default = "defaults::test_tools")]
    test_tools: f64,
    /// Share of the tool names that only `base` uses, in (0, 1).
    #[serde(default = "defaults::base_tools")]
    base_tools: f64,
}

mod defaults {
    pub(super) fn seed() -> u64 {
        1
    }
    pub(super) fn tools() -> usize {
        2
    }
    pub(super) fn arguments() -> usize {
        2
    }
    pub(super) fn parallel() -> f64 {
        0.06
    }
    pub(super) fn irrelevant() -> f64 {
        0.04
    }
    pub(super) fn test_tools() -> f64 {
        0.2
    }
    pub(super) fn base_tools() -> f64 {
        0.2
    }
}

impl Stage for World {
    const KIND: &'static str = "world";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "makes seeded function-calling conversations whose test tools never occur in training";
    type Params = Params;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[],
                outputs: &[
                    Output::new(
                        "base",
                        ArtifactType::Rows,
                        "conversations over tools of neither `train` nor `test`",
                    ),
                    Output::new("train", ArtifactType::Rows, "conversations to learn from"),
                    Output::new(
                        "test",
                        ArtifactType::Rows,
                        "conversations over tools that occur in no other port",
                    ),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut range = |param, good: bool, what: &str| {
            if !good {
                complaints.push(Complaint::new(param, format!("must be {what}")));
            }
        };
        range("tools", (2..=8).contains(&p.tools), "between 2 and 8");
        range(
            "arguments",
            (1..=4).contains(&p.arguments),
            "between 1 and 4",
        );
        range(
            "parallel",
            (0.0..=1.0).contains(&p.parallel),
            "between 0 and 1",
        );
        range(
            "irrelevant",
            (0.0..=1.0).contains(&p.irrelevant) && p.parallel + p.irrelevant <= 1.0,
            "between 0 and 1, and at most 1 together with `parallel`",
        );
        range(
            "test-tools",
            p.test_tools > 0.0 && p.test_tools < 1.0,
            "between 0 and 1",
        );
        range(
            "base-tools",
            p.base_tools > 0.0 && p.base_tools + p.test_tools < 1.0,
            "above 0, and below 1 together with `test-tools`",
        );
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut tools = all_tools(&p);
        Random::new(p.seed, "deal tools").shuffle(&mut tools);
        let share = |s: f64| ((s * tools.len() as f64) as usize).max(2 * p.tools);
        let (test, rest) = tools.split_at(share(p.test_tools));
        let (base, train) = rest.split_at(share(p.base_tools));
        for (port, tools, rows) in [
            ("base", base, p.base_rows),
            ("train", train, p.train_rows),
            ("test", test, p.test_rows),
        ] {
            let mut random = Random::new(p.seed, port);
            let mut writer = RowWriter::create(&context.output(port))?;
            let mut seen = BTreeSet::new();
            let mut tries = 0usize;
            while seen.len() < rows {
                tries += 1;
                if tries > 100 * rows + 1000 {
                    return Err(StageError::failed_try(
                        format!(
                            "found only {} different conversations for `{port}`",
                            seen.len()
                        ),
                        format!("ask for fewer `{port}-rows`, or more `arguments`"),
                    ));
                }
                let (messages, shown) = conversation(&p, tools, &mut random);
                let text = starling_text::json::dumps(&messages);
                if !seen.insert(text) {
                    continue;
                }
                writer.write(&object([
                    ("id", string(format!("{port}-{}", seen.len() - 1))),
                    ("messages", messages),
                    ("tools", shown),
                ]))?;
            }
            let _ = writer.finish()?;
        }
        Ok(())
    }
}

/// A tool: what it does, to what, with which arguments.
#[derive(Debug, Clone)]
struct Tool {
    verb: &'static str,
    noun: &'static str,
    arguments: Vec<&'static str>,
}

impl Tool {
    fn name(&self) -> String {
        format!("{}_{}", self.verb, self.noun)
    }

    fn json(&self) -> Value {
        let parameters = self
            .arguments
            .iter()
            .map(|a| ((*a).to_owned(), string("string")))
            .collect();
        object([
            ("name", string(self.name())),
            ("parameters", Value::Dict(parameters)),
        ])
    }
}

fn all_tools(p: &Params) -> Vec<Tool> {
    let mut random = Random::new(p.seed, "arguments of tools");
    let mut tools = Vec::with_capacity(words::VERBS.len() * words::NOUNS.len());
    for verb in words::VERBS {
        for noun in words::NOUNS {
            let mut names: Vec<&str> = words::ARGUMENTS.to_vec();
            random.shuffle(&mut names);
            names.truncate(1 + random.below(p.arguments));
            tools.push(Tool {
                verb,
                noun,
                arguments: names,
            });
        }
    }
    tools
}

/// A conversation and the tools its prompt shows.
fn conversation(p: &Params, tools: &[Tool], random: &mut Random) -> (Value, Value) {
    let mut shown: Vec<&Tool> = Vec::with_capacity(p.tools + 1);
    while shown.len() < p.tools + 1 {
        let tool = random.pick(tools);
        if !shown.iter().any(|t| t.name() == tool.name()) {
            shown.push(tool);
        }
    }
    let hidden = shown.pop();
    let kind = random.unit();
    let (query, answer) = if kind < p.irrelevant {
        let tool = hidden.unwrap_or(shown[0]);
        let (query, _) = request(tool, random);
        (query, reply(words::REFUSAL))
    } else if kind < p.irrelevant + p.parallel {
        let first = request(shown[0], random);
        let second = request(shown[1], random);
        (
            format!("{} and then {}", first.0, second.0),
            calls(vec![first.1, second.1]),
        )
    } else {
        let (query, call) = request(shown[0], random);
        (query, calls(vec![call]))
    };
    random.shuffle(&mut shown);
    let user = object([("role", string("user")), ("content", string(query))]);
    let shown = shown.into_iter().map(Tool::json).collect();
    (Value::List(vec![user, answer]), Value::List(shown))
}

/// A request in words and the call that answers it.
fn request(tool: &Tool, random: &mut Random) -> (String, Value) {
    let mut values: Vec<&str> = words::VALUES.to_vec();
    random.shuffle(&mut values);
    let pairs: Vec<(&str, &str)> = tool
        .arguments
        .iter()
        .copied()
        .zip(values.iter().copied())
        .collect();
    let (before, between) = *random.pick(words::PHRASES);
    let spelled: Vec<String> = pairs.iter().map(|(a, v)| format!("{a} {v}")).collect();
    let query = format!(
        "{before}{} the {}{between}{}",
        tool.verb,
        tool.noun,
        spelled.join(" and ")
    );
    let arguments = Value::Dict(
        pairs
            .iter()
            .map(|(a, v)| ((*a).to_owned(), string(*v)))
            .collect(),
    );
    (
        query,
        object([("name", string(tool.name())), ("arguments", arguments)]),
    )
}

fn calls(calls: Vec<Value>) -> Value {
    object([
        ("role", string("assistant")),
        ("content", Value::Null),
        ("tool_calls", Value::List(calls)),
    ])
}

fn reply(text: &str) -> Value {
    object([
        ("role", string("assistant")),
        ("content", string(text)),
        ("tool_calls", Value::Null),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> Params {
        toml::from_str(
            "base-rows = 50\ntrain-rows = 200\ntest-rows = 60\nparallel = 0.2\nirrelevant = 0.2",
        )
        .expect("valid parameters")
    }

    fn make(folder: &std::path::Path) -> [Vec<Value>; 3] {
        crate::testing::run::<World>(params(), folder, &[]);
        ["base", "train", "test"]
            .map(|port| crate::rows::read_all(&folder.join("out").join(port)).expect("rows"))
    }

    fn tool_names(rows: &[Value]) -> BTreeSet<String> {
        rows.iter()
            .flat_map(|r| crate::rows::list(r, "tools"))
            .filter_map(|t| crate::rows::text(t, "name").map(str::to_owned))
            .collect()
    }

    #[test]
    fn no_tool_occurs_in_two_ports() {
        let folder = tempfile::tempdir().expect("a folder");
        let [base, train, test] = make(folder.path());
        assert_eq!((base.len(), train.len(), test.len()), (50, 200, 60));
        let (base, train, test) = (tool_names(&base), tool_names(&train), tool_names(&test));
        assert!(train.is_disjoint(&test) && base.is_disjoint(&test) && base.is_disjoint(&train));
        assert!(train.len() > 100, "{}", train.len());
    }

    #[test]
    fn the_same_seed_makes_the_same_world() {
        let one = tempfile::tempdir().expect("a folder");
        let two = tempfile::tempdir().expect("a folder");
        assert_eq!(make(one.path()), make(two.path()));
    }

    #[test]
    fn every_called_tool_is_shown_and_every_value_is_in_the_query() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut kinds = [0usize; 3];
        for row in make(folder.path()).iter().flatten() {
            let [user, answer] = crate::rows::list(row, "messages") else {
                panic!("two messages")
            };
            let query = crate::rows::text(user, "content").expect("a query");
            let called = crate::rows::list(answer, "tool_calls");
            kinds[called.len()] += 1;
            let shown = tool_names(std::slice::from_ref(row));
            for call in called {
                assert!(shown.contains(crate::rows::text(call, "name").expect("a name")));
                let Some(Value::Dict(arguments)) = crate::rows::field(call, "arguments") else {
                    panic!("arguments")
                };
                for (name, value) in arguments {
                    let Value::Str(value) = value else {
                        panic!("a word")
                    };
                    assert!(query.contains(&format!("{name} {value}")), "{query}");
                }
            }
        }
        assert!(kinds.iter().all(|k| *k > 20), "{kinds:?}");
    }
}
