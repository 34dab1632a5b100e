//! Rows of outputs, and rows of expected results: told apart by their fields, judged one by one.
//!
//! | shape     | fields                          | what is computed                                   |
//! |-----------|---------------------------------|----------------------------------------------------|
//! | result    | `id`, `result`                  | the verdict on a stored result, as the package stores it |
//! | case      | `id`, `output` or `raw`         | the verdict on decoded calls, or on a model's text |
//! | dialogue  | `id`, `turns` or `raw_turns`    | the verdict on call strings, or on a model's texts |
//! | truth     | `id`, `turns` with `response`   | responses and states of the accepted calls         |
//! | convert   | `language`, `type`, `input`     | the value of a Java or JavaScript literal          |
//! | probe     | `class`, `initial_config`, `calls` | responses and states of one back end            |
//! | prompt    | `id`, `sha256` or `query_sha256` | length and digest of every prompt                 |
//! | completion | `text`                         | a completion taken apart                           |
//!
//! `output` holds decoded calls; a text there is a model's, but in rows of expected results (which have `mutation`),
//! where it is a wrong form of calls. A row that is about no item, or whose fields have other forms, is an error in words; nothing panics.

use starling_text::json::{Map, Value};
use starling_text::python;

use super::{
    Answer, Bfcl, Category, Class, DecodedCall, ErrorKind, Item, Kind, Language, Message, Verdict,
    convert, decoded_calls, read,
};
use crate::rows::{Judged, canonical, fields, list, sha256, text, texts};

/// Responses of more characters than this are given by length, digest and ends, as in rows of expected results.
const LONG: usize = 1500;

/// Hexadecimal digits of a state's digest that rows give.
const STATE_DIGITS: usize = 16;

impl Bfcl {
    /// Judges one row.
    ///
    /// # Errors
    /// What is wrong with the row, in words.
    pub fn judge_row(&self, row: &Value) -> Result<Judged, String> {
        let has = |name: &str| row.get(name).is_some();
        if !matches!(row, Value::Dict(_)) {
            return Err("a row is a JSON object".to_owned());
        }
        if has("language") && has("input") {
            return conversion(row);
        }
        if has("class") && has("calls") {
            return self.probe(row);
        }
        if has("text") && !has("id") {
            return completion(row);
        }
        let item = self.item_of(row)?;
        if has("result") {
            return self.stored(item, row);
        }
        if has("output") || has("raw") {
            return self.case(item, row);
        }
        if has("raw_turns") {
            return self.turns(item, row);
        }
        if has("turns") {
            let responds = list(row, "turns")?
                .iter()
                .filter_map(Value::as_list)
                .flatten()
                .any(|call| call.get("response").is_some());
            return match responds || has("state_after_turn") {
                true => self.truth_row(item, row),
                false => self.turns(item, row),
            };
        }
        if has("sha256") || has("query_sha256") || has("model_texts") {
            return self.prompt_row(item, row);
        }
        Err(
            "has none of the fields `result`, `output`, `raw`, `turns`, `raw_turns`, `sha256`, `query_sha256`"
                .to_owned(),
        )
    }

    fn item_of(&self, row: &Value) -> Result<&Item, String> {
        let id = text(row, "id")?;
        let item = self.item(id).map_err(|error| error.to_string())?;
        item.ok_or_else(|| match Category::of_id(id) {
            Some(category) => format!("`{category}` has no entry `{id}`"),
            None => format!("`{id}` belongs to no category of the benchmark"),
        })
    }

    fn stored(&self, item: &Item, row: &Value) -> Result<Judged, String> {
        let result = row.get("result").cloned().unwrap_or_default();
        let verdict = self.check_answer(item, &Answer::from_value(result));
        Ok(verdict_on("result", item, row, verdict))
    }

    fn case(&self, item: &Item, row: &Value) -> Result<Judged, String> {
        let verdict = match row.get("raw") {
            Some(_) => self.check(item, text(row, "raw")?),
            None => {
                let underscores =
                    row.get("underscore_to_dot").and_then(Value::as_bool) == Some(true);
                let output = row.get("output").cloned().unwrap_or_default();
                // In rows of expected results a text is a wrong form of decoded calls; elsewhere it is a model's.
                let is_expectation = ["mutation", "underscore_to_dot"]
                    .iter()
                    .any(|name| row.get(name).is_some());
                match output {
                    Value::Str(text) if !is_expectation => self.check(item, &text),
                    output => self.check_decoded(item, &output, underscores),
                }
            }
        };
        Ok(verdict_on("case", item, row, verdict))
    }

    /// Checks calls that were decoded elsewhere, whatever the category; see [`Self::check_calls`].
    pub fn check_decoded(&self, item: &Item, output: &Value, underscores: bool) -> Verdict {
        let calls = match decoded_calls(output) {
            Ok(calls) => calls,
            Err(kind) if item.category.has_answers() => return kind.into(),
            Err(_) => Vec::<DecodedCall<'_>>::new(),
        };
        match item.category.kind() {
            Kind::Irrelevance if !calls.is_empty() => ErrorKind::IrrelevanceSuccess.into(),
            Kind::Relevance if calls.is_empty() => ErrorKind::RelevanceFailed.into(),
            Kind::Irrelevance | Kind::Relevance => Verdict::VALID,
            Kind::MultiTurn => ErrorKind::InferenceError.into(),
            _ => self.check_calls(item, &calls, underscores),
        }
    }

    fn turns(&self, item: &Item, row: &Value) -> Result<Judged, String> {
        let verdict = match row.get("raw_turns") {
            Some(_) => {
                let turns = list(row, "raw_turns")?.iter();
                let turns: Result<Vec<_>, _> = turns.map(|turn| texts(turn, "raw_turns")).collect();
                self.check_turns(item, &turns?)
            }
            None => {
                let steps = |turn: &Value| -> Result<Vec<Vec<String>>, String> {
                    let steps = turn
                        .as_list()
                        .ok_or("`turns` does not hold lists of lists of texts")?;
                    steps.iter().map(|step| texts(step, "turns")).collect()
                };
                let turns: Result<Vec<_>, _> = list(row, "turns")?.iter().map(steps).collect();
                self.check_turn_calls(item, &turns?)
            }
        };
        Ok(verdict_on("dialogue", item, row, verdict))
    }

    fn truth_row(&self, item: &Item, row: &Value) -> Result<Judged, String> {
        let turns = self
            .replay(item)
            .ok_or_else(|| format!("`{}` is no dialogue", item.id))?;
        let calls = item.scenario().map(|s| s.truth.as_slice()).unwrap_or(&[]);
        let turn = |(calls, turn): (&Vec<String>, &super::ReplayedTurn)| {
            let call = |(call, response): (&String, &String)| {
                Value::Dict(fields([
                    ("call", Value::Str(call.clone())),
                    ("response", response_value(response)),
                ]))
            };
            Value::List(calls.iter().zip(&turn.responses).map(call).collect())
        };
        let states = turns
            .iter()
            .map(|turn| Value::Str(short_digest(&turn.state_digest)));
        let computed = fields([
            (
                "turns",
                Value::List(calls.iter().zip(&turns).map(turn).collect()),
            ),
            ("state_after_turn", Value::List(states.collect())),
            ("final_state", self.final_state_value(item)),
        ]);
        Ok(expectation("truth", item, row, computed))
    }

    /// The final state, long attributes by their digest.
    fn final_state_value(&self, item: &Item) -> Value {
        let class = |(class, state): (&'static str, super::ClassState)| {
            let mut attributes = state.attributes;
            if let Some(directory) = state.working_directory {
                attributes.push(("@cwd", canonical(&Value::Str(directory))));
            }
            let attribute = |(name, json): (&str, String)| {
                let length = json.chars().count();
                let value = match length > LONG {
                    true => Value::Dict(fields([
                        ("__digest__", Value::Str(sha256(&json))),
                        ("len", Value::Int(length as i64)),
                    ])),
                    // What was just written reads back.
                    false => super::loads::loads(&json).unwrap_or_default(),
                };
                (name.to_owned(), value)
            };
            let attributes: Map = attributes.into_iter().map(attribute).collect();
            (class.to_owned(), Value::Dict(attributes))
        };
        let state = self.final_state(item).unwrap_or_default();
        Value::Dict(state.into_iter().map(class).collect())
    }

    fn probe(&self, row: &Value) -> Result<Judged, String> {
        let name = text(row, "class")?;
        let class = Class::from_name(name).ok_or_else(|| format!("no class `{name}`"))?;
        let long_context = row.get("long_context").and_then(Value::as_bool) == Some(true);
        let scenario = row.get("initial_config").unwrap_or(&Value::Null);
        let mut sandbox = self
            .sandbox(class, scenario, long_context)
            .ok_or("the benchmark cannot load `initial_config`")?;
        let mut calls = Vec::new();
        let mut agrees = true;
        let marked = |row: &Value| row.get("hash_seed_dependent").is_some_and(python::truthy);
        for call in list(row, "calls")? {
            let code = call.as_str().map_or_else(|| text(call, "call"), Ok)?;
            let response = response_value(&sandbox.execute(code));
            let state = short_digest(&sandbox.state_digest());
            let same = call
                .get("response")
                .is_none_or(|wanted| same_response(wanted, &response))
                && call.get("state").is_none_or(|s| s.as_str() == Some(&state));
            agrees &= same || marked(row) || marked(call);
            calls.push(Value::Dict(fields([
                ("call", Value::Str(code.to_owned())),
                ("response", response),
                ("state", Value::Str(state)),
            ])));
        }
        let expects = list(row, "calls")?
            .iter()
            .any(|call| call.get("response").is_some());
        Ok(Judged {
            shape: "probe",
            id: row_name(row),
            category: String::new(),
            valid: None,
            error: None,
            computed: fields([("calls", Value::List(calls))]),
            agrees: expects.then_some(agrees),
        })
    }

    fn prompt_row(&self, item: &Item, row: &Value) -> Result<Judged, String> {
        let history = "the history of this dialogue cannot be written";
        let computed = match (self.dialogue(item), row.get("model_texts")) {
            (None, _) => {
                let prompt = self.prompt(item).text().map_err(|_| history)?;
                fields([
                    ("len", Value::Int(prompt.chars().count() as i64)),
                    ("sha256", Value::Str(sha256(&prompt))),
                ])
            }
            (Some(mut dialogue), texts_to_play) => {
                let mut queries = Vec::new();
                let played = texts_to_play.and_then(Value::as_list).unwrap_or(&[]);
                for turn in played {
                    for answer in texts(turn, "model_texts")? {
                        let query = dialogue.next_query();
                        queries.extend(query.map(|query| Value::Str(sha256(&query))));
                        dialogue.answer(&answer);
                    }
                }
                fields([("query_sha256", Value::List(queries))])
            }
        };
        Ok(expectation("prompt", item, row, computed))
    }
}

fn conversion(row: &Value) -> Result<Judged, String> {
    let language = match text(row, "language")? {
        "java" => Language::Java,
        "javascript" | "js" => Language::JavaScript,
        other => return Err(format!("`language` is java or javascript, not `{other}`")),
    };
    let element = row.get("nested").and_then(Value::as_str);
    let found = convert(language, text(row, "input")?, text(row, "type")?, element);
    let (mut computed, printed) = match found {
        Ok(value) => {
            let printed = python::repr(&value);
            (fields([("value", value)]), printed)
        }
        Err(raised) => (
            fields([("raised", Value::Str(format!("{raised:?}")))]),
            format!("{raised:?}"),
        ),
    };
    let expected = match (row.get("value_python"), row.get("value")) {
        (Some(printed), _) => printed.as_str().map(str::to_owned),
        (None, Some(value)) => Some(python::repr(value)),
        (None, None) => None,
    };
    if row.get("value_python").is_some() {
        computed = fields([("value_python", Value::Str(printed.clone()))]);
    }
    Ok(Judged {
        shape: "convert",
        id: row_name(row),
        category: String::new(),
        valid: None,
        error: None,
        computed,
        agrees: expected.map(|expected| expected == printed),
    })
}

fn completion(row: &Value) -> Result<Judged, String> {
    let completion = read(text(row, "text")?);
    let message = Message::assistant(&completion);
    let history = fields([
        ("role", Value::Str("assistant".to_owned())),
        ("content", Value::Str(message.content.clone())),
        ("reasoning_content", Value::Str(message.reasoning.clone())),
        ("tool_calls", Value::List(message.tool_calls)),
    ]);
    let agrees = row.get("history_message").map(|expected| {
        let none = Value::List(Vec::new());
        row.get("cleaned").and_then(Value::as_str) == Some(completion.cleaned)
            && row.get("reasoning").and_then(Value::as_str) == Some(completion.reasoning)
            && history
                .iter()
                .all(|(name, found)| expected.get(name).unwrap_or(&none) == found)
    });
    Ok(Judged {
        shape: "completion",
        id: row_name(row),
        category: String::new(),
        valid: None,
        error: None,
        computed: fields([
            ("cleaned", Value::Str(completion.cleaned.to_owned())),
            ("reasoning", Value::Str(completion.reasoning.to_owned())),
            ("history_message", Value::Dict(history)),
        ]),
        agrees,
    })
}

/// The row's own name: its id, or its number.
fn row_name(row: &Value) -> String {
    match row.get("id").or_else(|| row.get("row")) {
        Some(Value::Str(id)) => id.clone(),
        Some(other) => python::repr(other),
        None => String::new(),
    }
}

fn short_digest(digest: &str) -> String {
    digest.chars().take(STATE_DIGITS).collect()
}

/// A response as rows write it.
fn response_value(response: &str) -> Value {
    let length = response.chars().count();
    if length <= LONG {
        return Value::Str(response.to_owned());
    }
    let ends = |from: usize, count: usize| response.chars().skip(from).take(count).collect();
    Value::Dict(fields([
        ("len", Value::Int(length as i64)),
        ("sha256", Value::Str(sha256(response))),
        ("head", Value::Str(ends(0, 200))),
        ("tail", Value::Str(ends(length - 200, 200))),
    ]))
}

fn same_response(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Dict(expected), Value::Dict(found)) => ["len", "sha256"]
            .iter()
            .all(|name| expected.get(name) == found.get(name)),
        _ => expected == found,
    }
}

fn verdict_on(shape: &'static str, item: &Item, row: &Value, verdict: Verdict) -> Judged {
    let error = verdict.error.map(ErrorKind::name);
    let mut computed = fields([
        ("valid", Value::Bool(verdict.is_valid())),
        (
            "error_type",
            error.map_or(Value::Null, |name| Value::Str(name.to_owned())),
        ),
    ]);
    if let Some(turn) = verdict.turn {
        computed.insert("turn".to_owned(), Value::Int(turn as i64));
    }
    for name in ["row", "mutation"] {
        if let Some(value) = row.get(name) {
            computed.insert(name.to_owned(), value.clone());
        }
    }
    let agrees = row.get("valid").map(|valid| {
        valid.as_bool() == Some(verdict.is_valid())
            && row.get("error_type").and_then(Value::as_str) == error
    });
    Judged {
        shape,
        id: item.id.clone(),
        category: item.category.name().to_owned(),
        valid: Some(verdict.is_valid()),
        error: error.map(str::to_owned),
        computed,
        agrees,
    }
}

/// A row whose fields are compared with what was computed, those that it has.
fn expectation(shape: &'static str, item: &Item, row: &Value, computed: Map) -> Judged {
    let mut compared = false;
    let mut agrees = true;
    for (name, found) in &computed {
        let Some(expected) = row.get(name) else {
            continue;
        };
        compared = true;
        agrees &= match name.as_str() {
            "turns" => same_turns(expected, found),
            "final_state" => same_state(expected, found),
            _ => expected == found,
        };
    }
    Judged {
        shape,
        id: item.id.clone(),
        category: item.category.name().to_owned(),
        valid: None,
        error: None,
        computed,
        agrees: compared.then_some(agrees),
    }
}

fn same_turns(expected: &Value, found: &Value) -> bool {
    let responses = |turns: &Value| -> Vec<Vec<Value>> {
        let turns = turns.as_list().unwrap_or_default().iter();
        turns
            .map(|turn| {
                let calls = turn.as_list().unwrap_or_default().iter();
                calls
                    .map(|call| call.get("response").cloned().unwrap_or_default())
                    .collect()
            })
            .collect()
    };
    let (expected, found) = (responses(expected), responses(found));
    expected.len() == found.len()
        && expected
            .iter()
            .zip(&found)
            .all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_response(a, b)))
}

fn same_state(expected: &Value, found: &Value) -> bool {
    let (Some(expected), Some(found)) = (expected.as_dict(), found.as_dict()) else {
        return false;
    };
    expected.len() == found.len()
        && expected.iter().all(|(class, expected)| {
            let Some(found) = found.get(class) else {
                return false;
            };
            let all = expected.as_dict().into_iter().flatten();
            all.clone().all(|(name, expected)| {
                let Some(found) = found.get(name) else {
                    return false;
                };
                match (expected.get("__digest__"), found.get("__digest__")) {
                    (Some(a), Some(b)) => a == b,
                    // Where exactly a long attribute begins differs by the quotes that are counted.
                    (Some(digest), None) => digest.as_str() == Some(&sha256(&canonical(found))),
                    (None, Some(digest)) => digest.as_str() == Some(&sha256(&canonical(expected))),
                    (None, None) => canonical(expected) == canonical(found),
                }
            })
        })
}
