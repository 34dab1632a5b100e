//! `starling inspect case`: an entry of a benchmark, and an output of it with its verdict.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;
use starling::{exit, suggest};
use starling_bench::acebench::{self, Acebench, Family, Lang, Profile, strip_thinking};
use starling_bench::bfcl::{self, Answer, Bfcl, Category, DecodedCall, Kind, Mode, Source};
use starling_text::json::{self, Value};
use starling_text::python;

use super::bench_rows::Rows;
use crate::cli::output::{self, Failure, chain};

/// Width of a column of what stands side by side.
const COLUMN: usize = 58;

/// Show an entry of a benchmark: prompt, tools, output, decoded calls beside accepted ones, the rule that failed
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The benchmark
    #[arg(value_enum)]
    bench: Bench,
    /// The entry, for example simple_python_0 or normal_atom_bool_3
    id: String,
    /// Outputs to take the entry's one from: rows with `id` and `result`, `output`, `raw` or `raw_turns`
    #[arg(long, value_name = "PATH")]
    outputs: Option<PathBuf>,
    /// The prompt as one text, instead of its messages and tools
    #[arg(long)]
    prompt: bool,
    /// BFCL: the entry in prompting mode, functions in the system message and calls like `[f(a=1)]`
    #[arg(long)]
    prompt_mode: bool,
    /// Another version of the benchmark's data
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// ACEBench: the language
    #[arg(long, value_enum, default_value_t = Language::En)]
    lang: Language,
    /// Print entry, output and verdict as JSON
    #[arg(long, conflicts_with = "prompt")]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bench {
    /// Berkeley Function Calling Leaderboard, version 3
    Bfcl,
    /// ACEBench
    Acebench,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    /// English
    En,
    /// Chinese
    Zh,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let failed = |error: bfcl::DataError| Failure::new(exit::PIPELINE, chain(&error));
        match self.bench {
            Bench::Bfcl => {
                let source = self.data.clone().map_or(Source::Embedded, Source::Folder);
                let mode = match self.prompt_mode {
                    true => Mode::Prompting,
                    false => Mode::FunctionCalling,
                };
                let bfcl = Bfcl::open(source).map_err(failed)?.in_mode(mode);
                let item = self.bfcl_item(&bfcl)?;
                let answer = self.output(None)?.map(Answer::from_value);
                if self.json {
                    output::json(&bfcl_json(&bfcl, item, answer.as_ref()));
                } else {
                    output::data(&self.bfcl(&bfcl, item, answer));
                }
            }
            Bench::Acebench if self.prompt_mode => {
                return Err(Failure::usage(
                    "`--prompt-mode` is a mode of bfcl; acebench always asks with texts",
                ));
            }
            Bench::Acebench => {
                let lang = match self.lang {
                    Language::En => Lang::En,
                    Language::Zh => Lang::Zh,
                };
                let bench = Acebench::new(self.data.clone());
                let data = bench.dataset(lang, Profile::R2508);
                let data = data.map_err(|e| Failure::new(exit::PIPELINE, chain(&e)))?;
                let item = self.acebench_item(data)?;
                let answer = self.acebench_output(lang)?;
                if self.json {
                    output::json(&acebench_json(data, item, lang, answer.as_deref()));
                } else {
                    output::data(&self.acebench(data, item, lang, answer.as_deref()));
                }
            }
        }
        Ok(exit::DONE)
    }

    fn bfcl_item<'a>(&self, bfcl: &'a Bfcl) -> Result<&'a bfcl::Item, Failure> {
        let item = bfcl.item(&self.id);
        let item = item.map_err(|e| Failure::new(exit::PIPELINE, chain(&e)))?;
        if let Some(item) = item {
            return Ok(item);
        }
        let names = Category::ALL.map(Category::name);
        let category = Category::of_id(&self.id);
        let items = category.map_or(Ok(&[][..]), |category| bfcl.items(category));
        let items = items.map_err(|e| Failure::new(exit::PIPELINE, chain(&e)))?;
        let known: Vec<&str> = items.iter().map(|item| &*item.id).collect();
        let stem = self.id.rsplit_once('_').map_or(&*self.id, |(stem, _)| stem);
        let category = category.map_or(stem, |category| category.name());
        Err(unknown(&self.id, category, &known, &names))
    }

    fn bfcl(&self, bfcl: &Bfcl, item: &bfcl::Item, answer: Option<Answer>) -> String {
        let mut out = String::new();
        head(&mut out, &format!("{} of {}", item.id, item.category));
        let prompt = bfcl.prompt(item);
        if self.prompt {
            let text = prompt
                .text()
                .unwrap_or_else(|_| "(cannot be written)".to_owned());
            let _ = writeln!(out, "{text}");
        } else {
            for (turn, messages) in item.turns().iter().enumerate() {
                for message in messages {
                    let turn = if item.turns().len() > 1 {
                        format!(" (turn {turn})")
                    } else {
                        String::new()
                    };
                    let _ = writeln!(out, "{}{turn}: {}", message.role.name(), message.content);
                }
            }
            let tools = match self.prompt_mode {
                true => "tools (in the system message: --prompt)".to_owned(),
                false => format!("tools ({})", prompt.documents.len()),
            };
            head(&mut out, &tools);
            for document in &prompt.documents {
                let _ = writeln!(out, "{}", json::dumps(document));
            }
        }
        let Some(answer) = answer else {
            head(&mut out, "accepted");
            for answer in item.answers() {
                let _ = writeln!(out, "{}", json::dumps(answer));
            }
            return out;
        };
        match (&answer, item.category.kind()) {
            (Answer::Turns(turns), Kind::MultiTurn) => {
                turns_side_by_side(&mut out, bfcl, item, turns);
            }
            (Answer::Text(text), kind) if kind != Kind::MultiTurn => {
                head(&mut out, "output");
                let _ = writeln!(out, "{text}");
                calls_side_by_side(&mut out, bfcl, item, text);
            }
            (other, _) => {
                head(&mut out, "output");
                let _ = writeln!(out, "{}", json::dumps(&other.to_value()));
            }
        }
        let verdict = bfcl.check_answer(item, &answer);
        head(&mut out, "verdict");
        match verdict.error {
            None => out.push_str("right\n"),
            Some(error) => {
                let turn = verdict
                    .turn
                    .map_or_else(String::new, |turn| format!(" in turn {turn}"));
                let _ = writeln!(out, "wrong{turn}: {error}\n{}", error.rule());
            }
        }
        out
    }

    fn acebench_item<'a>(
        &self,
        data: &'a acebench::Dataset,
    ) -> Result<&'a acebench::Item, Failure> {
        data.get(&self.id).ok_or_else(|| {
            let names = acebench::Category::ALL.map(acebench::Category::name);
            let number = |c: char| c.is_ascii_digit() || c == '_';
            let name = self.id.trim_end_matches(number);
            let category = acebench::Category::from_name(name);
            let items = category
                .into_iter()
                .flat_map(|category| data.category(category));
            let known: Vec<&str> = items.map(|item| &*item.id).collect();
            unknown(&self.id, name, &known, &names)
        })
    }

    /// The entry's output, which is a text.
    fn acebench_output(&self, lang: Lang) -> Result<Option<String>, Failure> {
        let Some(value) = self.output(Some(lang))? else {
            return Ok(None);
        };
        let text = value.as_str().map(str::to_owned).ok_or_else(|| {
            Failure::new(
                exit::PIPELINE,
                format!(
                    "the output of `{}` is no text, which ACEBench's are; agents' are for `score acebench`",
                    self.id
                ),
            )
        });
        text.map(Some)
    }

    fn acebench(
        &self,
        data: &acebench::Dataset,
        item: &acebench::Item,
        lang: Lang,
        answer: Option<&str>,
    ) -> String {
        let mut out = String::new();
        head(
            &mut out,
            &format!("{} of {} ({lang})", item.id, item.category),
        );
        let prompt = data.prompt(item);
        if self.prompt {
            let _ = writeln!(out, "{}\n\n{}", prompt.system, prompt.user);
        } else {
            for (name, text) in [("time", &item.time), ("question", &item.question)] {
                if !text.is_empty() {
                    let _ = writeln!(out, "{name}: {text}");
                }
            }
            if let Some(profile) = &item.profile {
                let _ = writeln!(out, "profile: {profile}");
            }
            head(&mut out, &format!("tools ({})", item.functions.len()));
            for function in &item.functions {
                let _ = writeln!(out, "{}", json::dumps(function));
            }
        }
        head(&mut out, "accepted");
        let _ = writeln!(out, "{}", json::dumps(&item.answer));
        let Some(text) = answer else {
            return out;
        };
        head(&mut out, "output");
        let _ = writeln!(out, "{text}");
        if item.category.family() == Family::Agent {
            out.push_str("(an agent's entry is judged by its end state: `score acebench`)\n");
            return out;
        }
        if item.category.family() == Family::Normal {
            reference_side_by_side(&mut out, data, item, text);
        }
        let verdict = data.check(item, text);
        head(&mut out, "verdict");
        match verdict.error {
            None => out.push_str("right\n"),
            Some(error) => {
                let _ = writeln!(out, "wrong: {error}\n{}", error.rule());
                if strip_thinking(text) != text {
                    let other = data.check(item, strip_thinking(text));
                    let said = if other.valid() {
                        "right"
                    } else {
                        other.error_name()
                    };
                    let _ = writeln!(out, "without the thought: {said}");
                }
            }
        }
        out
    }

    /// The entry's output, from the file of outputs; the last row of an id counts.
    fn output(&self, lang: Option<Lang>) -> Result<Option<Value>, Failure> {
        let Some(path) = &self.outputs else {
            return Ok(None);
        };
        let rows = Rows::read(path, |name| name.contains(".json"))?;
        let fits = |row: &Value| {
            let other = |lang: Lang| {
                row.get("lang")
                    .and_then(Value::as_str)
                    .is_some_and(|name| name != lang.name())
            };
            row.get("id").and_then(Value::as_str) == Some(&self.id) && !lang.is_some_and(other)
        };
        let found = rows
            .rows
            .iter()
            .filter_map(|row| row.value().ok())
            .rfind(|row| fits(row));
        let found = found.ok_or_else(|| missing(path, &self.id, &rows))?;
        let value = ["result", "output", "raw", "raw_turns", "turns", "answer"]
            .into_iter()
            .find_map(|name| found.get(name));
        value.cloned().map(Some).ok_or_else(|| {
            Failure::new(
                exit::PIPELINE,
                format!(
                    "the row of `{}` has none of `result`, `output`, `raw`, `raw_turns`",
                    self.id
                ),
            )
        })
    }
}

/// A value as other programs read it; one that JSON cannot say (NaN) stands as its text.
fn plain(value: &Value) -> serde_json::Value {
    let text = json::dumps(value);
    serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))
}

fn plain_all<'a>(values: impl IntoIterator<Item = &'a Value>) -> Vec<serde_json::Value> {
    values.into_iter().map(plain).collect()
}

fn bfcl_json(bfcl: &Bfcl, item: &bfcl::Item, answer: Option<&Answer>) -> serde_json::Value {
    let turns = item.turns().iter().map(|messages| {
        let messages = messages
            .iter()
            .map(|m| json!({"role": m.role.name(), "content": m.content}));
        messages.collect::<Vec<_>>()
    });
    let verdict = answer.map(|answer| {
        let verdict = bfcl.check_answer(item, answer);
        let error = verdict.error;
        json!({
            "valid": error.is_none(),
            "error_type": error.map(bfcl::ErrorKind::name),
            "rule": error.map(bfcl::ErrorKind::rule),
            "turn": verdict.turn,
        })
    });
    let decoded = match answer {
        Some(Answer::Text(text)) if item.category.kind() != Kind::MultiTurn => {
            let calls = bfcl.decode(item, text).ok();
            calls.map(|calls| {
                let call = |call: &DecodedCall<'_>| {
                    let arguments = call.arguments.iter();
                    let arguments: serde_json::Map<_, _> = arguments
                        .map(|(name, value)| (name.to_string(), plain(value)))
                        .collect();
                    json!({"name": call.name.as_deref(), "arguments": arguments})
                };
                calls.iter().map(call).collect::<Vec<_>>()
            })
        }
        _ => None,
    };
    json!({
        "bench": "bfcl",
        "id": item.id,
        "category": item.category.name(),
        "turns": turns.collect::<Vec<_>>(),
        "tools": plain_all(&bfcl.prompt(item).documents),
        "accepted": plain_all(item.answers()),
        "output": answer.map(|answer| plain(&answer.to_value())),
        "decoded": decoded,
        "verdict": verdict,
    })
}

fn acebench_json(
    data: &acebench::Dataset,
    item: &acebench::Item,
    lang: Lang,
    answer: Option<&str>,
) -> serde_json::Value {
    let checked = answer.filter(|_| item.category.family() != Family::Agent);
    let verdict = checked.map(|text| {
        let verdict = data.check(item, text);
        json!({
            "valid": verdict.valid(),
            "error_type": verdict.error.is_some().then(|| verdict.error_name()),
            "rule": verdict.error.as_ref().map(|error| error.rule()),
        })
    });
    json!({
        "bench": "acebench",
        "id": item.id,
        "category": item.category.name(),
        "lang": lang.name(),
        "time": item.time,
        "question": item.question,
        "profile": item.profile,
        "tools": plain_all(&item.functions),
        "accepted": plain(&item.answer),
        "output": answer,
        "verdict": verdict,
    })
}

fn missing(path: &Path, id: &str, rows: &Rows) -> Failure {
    let mut text = format!("{} has no row with the id `{id}`", path.display());
    if let Some(bad) = rows.first_bad() {
        let _ = write!(text, "; some rows cannot be read, the first is {bad}");
    }
    Failure::new(exit::PIPELINE, text)
}

/// Says what an entry that is not there may have been: one of `known`, all of its category, or of another category.
fn unknown(id: &str, category: &str, known: &[&str], names: &[&str]) -> Failure {
    let help = match (known, suggest::nearest(category, names.iter().copied())) {
        ([first, .., last], _) => format!(
            "`{category}` has {} of them, {first} to {last}",
            known.len()
        ),
        (_, Some(near)) => format!("did you mean the category `{near}`?"),
        _ => format!(
            "an id is a category with a number, and categories are {}",
            names.join(", ")
        ),
    };
    Failure::usage(format!("the benchmark has no entry `{id}`; {help}"))
}

fn head(out: &mut String, title: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(out, "── {title}");
}

/// Cuts a text into lines of a column.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let chars: Vec<char> = line.chars().collect();
        if chars.is_empty() {
            lines.push(String::new());
        }
        lines.extend(
            chars
                .chunks(COLUMN)
                .map(|chunk| chunk.iter().collect::<String>()),
        );
    }
    lines
}

/// Two texts side by side, with a mark in front of the first line.
fn beside(out: &mut String, mark: &str, left: &str, right: &str) {
    let (left, right) = (wrapped(left), wrapped(right));
    for row in 0..left.len().max(right.len()).max(1) {
        let part = |lines: &[String]| lines.get(row).cloned().unwrap_or_default();
        let mark = if row == 0 { mark } else { "" };
        let (a, b) = (part(&left), part(&right));
        let line = format!("{mark:<2}{a:<COLUMN$} │ {b}");
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

/// Decoded calls of a single-turn entry beside accepted ones, argument by argument.
fn calls_side_by_side(out: &mut String, bfcl: &Bfcl, item: &bfcl::Item, text: &str) {
    head(out, "decoded │ accepted");
    let calls: Vec<DecodedCall<'_>> = match bfcl.decode(item, text) {
        Ok(calls) => calls,
        Err(_) => {
            out.push_str("(cannot be decoded)\n");
            Vec::new()
        }
    };
    let accepted = item.answers();
    for index in 0..calls.len().max(accepted.len()) {
        let call = calls.get(index);
        let answer = accepted
            .get(index)
            .and_then(Value::as_dict)
            .and_then(|answer| answer.first());
        let name = call.map(|call| call.name.as_deref().unwrap_or("(no text)").to_owned());
        let wanted = answer.map(|(name, _)| name.clone());
        let mark = if name == wanted { "" } else { "✗" };
        beside(
            out,
            mark,
            &name.unwrap_or_else(|| "(no call)".to_owned()),
            &wanted.unwrap_or_else(|| "(no call)".to_owned()),
        );
        let wanted = answer.and_then(|(_, arguments)| arguments.as_dict());
        let verdicts = match (call, item.checker()) {
            (Some(call), Some(checker)) => checker.arguments(index, call),
            _ => Vec::new(),
        };
        for (name, verdict) in &verdicts {
            let given = call
                .and_then(|call| call.arguments.get(name))
                .map(json::dumps);
            let accepted = wanted.and_then(|wanted| wanted.get(name)).map(json::dumps);
            let left = format!("  {name} = {}", given.unwrap_or_default());
            let mut right = accepted.unwrap_or_else(|| "(not accepted)".to_owned());
            if let Err(error) = verdict {
                let _ = write!(right, "\n{error}: {}", error.rule());
            }
            beside(out, if verdict.is_ok() { "" } else { "✗" }, &left, &right);
        }
        for (name, accepted) in wanted.into_iter().flatten() {
            if verdicts.iter().all(|(given, _)| given != name) {
                let optional = accepted
                    .as_list()
                    .is_some_and(|a| a.iter().any(|a| a.as_str() == Some("")));
                let mark = if optional { "" } else { "✗" };
                beside(
                    out,
                    mark,
                    &format!("  {name} (left out)"),
                    &json::dumps(accepted),
                );
            }
        }
    }
}

/// A dialogue turn by turn: calls and responses, states that differ, responses that were never seen.
fn turns_side_by_side(out: &mut String, bfcl: &Bfcl, item: &bfcl::Item, turns: &[Vec<String>]) {
    for (index, turn) in bfcl
        .explain_turns(item, turns)
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        head(out, &format!("turn {index}: output"));
        for text in turns.get(index).into_iter().flatten() {
            let _ = writeln!(out, "{text}");
        }
        head(out, &format!("turn {index}: calls │ accepted"));
        for row in 0..turn.calls.len().max(turn.accepted.len()) {
            let shown = |calls: &[(String, String)]| {
                calls.get(row).map_or_else(String::new, |(call, response)| {
                    format!("{call}\n→ {response}")
                })
            };
            beside(out, "", &shown(&turn.calls), &shown(&turn.accepted));
        }
        for (name, found, expected) in &turn.differing {
            beside(out, "✗", &format!("{name} = {found}"), expected);
        }
        for response in &turn.missing {
            beside(out, "✗", "(response never received)", response);
        }
    }
}

/// Calls of an ACEBench output beside the reference's.
fn reference_side_by_side(
    out: &mut String,
    data: &acebench::Dataset,
    item: &acebench::Item,
    text: &str,
) {
    head(out, "decoded │ reference");
    let Some(calls) = data.decoded(item, text) else {
        out.push_str("(no list of calls)\n");
        return;
    };
    let first = match &item.answer {
        Value::List(references) => references.first(),
        reference => Some(reference),
    };
    let reference: Vec<(&String, &Value)> = first
        .and_then(Value::as_dict)
        .into_iter()
        .flatten()
        .collect();
    for index in 0..calls.len().max(reference.len()) {
        let (call, wanted) = (calls.get(index), reference.get(index));
        beside(
            out,
            "",
            call.map_or("(no call)", |(name, _)| name),
            wanted.map_or("(no call)", |(name, _)| name),
        );
        let wanted = wanted.and_then(|(_, arguments)| arguments.as_dict());
        for (name, value) in call.into_iter().flat_map(|(_, arguments)| arguments) {
            let right = wanted.and_then(|wanted| wanted.get(name)).map(python::repr);
            let mark = if right.is_none() { "✗" } else { "" };
            beside(
                out,
                mark,
                &format!("  {name} = {value}"),
                &right.unwrap_or_else(|| "(not in the reference)".to_owned()),
            );
        }
        for (name, value) in wanted.into_iter().flatten() {
            let given =
                call.is_some_and(|(_, arguments)| arguments.iter().any(|(given, _)| given == name));
            if !given {
                beside(
                    out,
                    "",
                    &format!("  {name} (left out)"),
                    &python::repr(value),
                );
            }
        }
    }
}
