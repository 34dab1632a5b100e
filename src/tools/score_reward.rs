//! `starling score reward`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::{Args, ValueEnum};
use rayon::prelude::*;
use starling::exit;
use starling_reward::rouge::{Words, rouge_l, text_similarity};
use starling_reward::toolrl::toolrl;
use starling_reward::{
    CallFormat, Fault, Label, Mode, ToolError, ToolSet, explain, score_as, stem,
};
use starling_stages::rows::ReadRow;
use starling_text::json::{self, Map, Value};

use super::files::{self, Bad, Out};
use crate::cli::output::{self, Failure};

/// What opens the assistant's turn; what follows it in a prompt is the beginning of the answer.
const ASSISTANT: &str = "<|im_start|>assistant\n";
/// Differences from expected values that are told one by one.
const TOLD: usize = 20;
/// How far a value may be from the expected one.
const TOLERANCE: f64 = 1e-12;

/// Score answers with the Sim-RL reward
///
/// A row holds the answer (`generation`, `answer`, `output`, `completion`, or `query`: prompt and answer in
/// one), the label (`label` or `targets`), and the tools (`tools`, a prompt in `inputs` or `prompt`, or
/// `tools_id`, looked up in --tools). Rows of rollouts find prompt and label in --labels by their `seed`.
/// Rows of `response` and `ground_truth` get ToolRL's reward, rows of `pred` and `ref` ROUGE-L, rows of
/// `word` its stem. JSON lines, JSON, Parquet, gzip and Zstandard are told by content; `-` is standard input.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The rows
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// Where the scores go, a row for each row, in order; .gz, .zst, .json and .parquet are understood
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The rules
    #[arg(long, value_enum, default_value_t = Rules::Fixed)]
    mode: Rules,
    /// How calls are written, unless a row's `call_format` says
    #[arg(long, value_enum, default_value_t = Calls::Hermes)]
    call_format: Calls,
    /// Tools or prompts by `tools_id` [default: tools.jsonl or tools.jsonl.gz beside the rows, if needed]
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    /// Training rows with the prompts and labels of rollouts, by `id`
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Write the alignment and each component of every reward
    #[arg(long)]
    explain: bool,
    /// Compare with the values that the rows already hold; exit with 7 where they differ
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Rules {
    /// The released program's, oddities included
    Faithful,
    /// The released program's intent
    Fixed,
    /// As fixed, and words of any script are compared
    Unicode,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Calls {
    /// A JSON object in <tool_call> tags
    Hermes,
    /// One JSON list
    Json,
    /// One list of Python calls
    Pythonic,
}

impl From<Calls> for CallFormat {
    fn from(calls: Calls) -> Self {
        match calls {
            Calls::Hermes => Self::Hermes,
            Calls::Json => Self::Json,
            Calls::Pythonic => Self::Pythonic,
        }
    }
}

type Known = Result<ToolSet, ToolError>;

/// What rows refer to.
struct Tables {
    mode: Mode,
    format: CallFormat,
    explain: bool,
    /// Rows of tools by id, each read when it is first asked for.
    tools: BTreeMap<String, (Value, OnceLock<Known>)>,
    labels: BTreeMap<String, Value>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let mut reader = files::open(&self.input)?;
        let mut out = Out::create(&self.out)?;
        let mut tables = Tables {
            mode: match self.mode {
                Rules::Faithful => Mode::Faithful,
                Rules::Fixed => Mode::Fixed,
                Rules::Unicode => Mode::Unicode,
            },
            format: self.call_format.into(),
            explain: self.explain,
            tools: BTreeMap::new(),
            labels: BTreeMap::new(),
        };
        if let Some(path) = self.tools.clone().or_else(|| beside(&self.input)) {
            for (id, row) in by_id(&path, "tools_id")? {
                tables.tools.insert(id, (row, OnceLock::new()));
            }
        }
        if let Some(path) = &self.labels {
            tables.labels = by_id(path, "id")?;
        }
        let (mut rows, mut bad, mut different) = (0, Bad::default(), 0);
        loop {
            let chunk = reader.chunk().map_err(|e| files::failure(&e))?;
            if chunk.is_empty() {
                break;
            }
            let scored: Vec<_> = chunk.par_iter().map(|row| tables.answer(row)).collect();
            for (row, scored) in chunk.iter().zip(scored) {
                rows += 1;
                if let Some(why) = &scored.bad {
                    bad.tell(&self.input, &row.place, why);
                }
                if self.check
                    && let Ok(value) = &row.value
                    && let Some(what) = difference(value, &scored.row)
                {
                    different += 1;
                    if different <= TOLD {
                        let (file, line) = (self.input.display(), row.place.line);
                        output::story(&format!("{file}:{line}: {what}"));
                    }
                }
                out.write(&Value::Dict(scored.row))?;
            }
        }
        out.finish()?;
        if different > 0 {
            return Err(Failure::new(
                exit::DIFFERS,
                format!("{different} of {rows} rows differ from the values they hold"),
            ));
        }
        if rows == 0 {
            let text = format!("{} holds no rows", self.input.display());
            return Err(Failure::new(exit::PIPELINE, text));
        }
        let code = bad.code(rows);
        if code == exit::DONE {
            output::story(&format!("{rows} rows scored"));
        }
        Ok(code)
    }
}

/// The file of tools beside the rows.
fn beside(input: &Path) -> Option<PathBuf> {
    let folder = input.parent()?;
    ["tools.jsonl", "tools.jsonl.gz"]
        .map(|name| folder.join(name))
        .into_iter()
        .find(|path| path.is_file())
}

/// The rows of a file by the text under `key`.
fn by_id(path: &Path, key: &str) -> Result<BTreeMap<String, Value>, Failure> {
    let mut reader = files::open(path)?;
    let mut rows = BTreeMap::new();
    loop {
        let chunk = reader.chunk().map_err(|e| files::failure(&e))?;
        if chunk.is_empty() {
            return Ok(rows);
        }
        for row in chunk {
            let place = format!("{}:{}", path.display(), row.place.line);
            let wrong = |why: &str| Failure::new(exit::PIPELINE, format!("{place}: {why}"));
            let value = row.value.map_err(|why| wrong(&why))?;
            let id = value.get(key).map(spelled);
            let id = id.ok_or_else(|| wrong(&format!("no `{key}`")))?;
            rows.insert(id, value);
        }
    }
}

fn spelled(id: &Value) -> String {
    id.as_str().map_or_else(|| json::dumps(id), str::to_owned)
}

/// The scores of a row, and why it has none.
struct Scored {
    row: Map,
    bad: Option<String>,
}

impl Tables {
    fn answer(&self, read: &ReadRow) -> Scored {
        let mut row = Map::new();
        let value = match &read.value {
            Ok(value) => value,
            Err(why) => {
                row.insert("line".to_owned(), count(read.place.line));
                return failed(row, "unreadable", None, why);
            }
        };
        match value.get("id") {
            Some(id) => drop(row.insert("id".to_owned(), id.clone())),
            None => drop(row.insert("line".to_owned(), count(read.place.line))),
        }
        if let Some(sample) = value.get("sample") {
            row.insert("sample".to_owned(), sample.clone());
        }
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        if let (Some(response), Some(label)) = (text("response"), text("ground_truth")) {
            return baseline(row, response, label);
        }
        if let (Some(a), Some(b)) = (text("pred"), text("ref")) {
            return rouge(row, a, b, self.mode.into());
        }
        if let Some(word) = text("word") {
            row.insert("word".to_owned(), word.into());
            row.insert("stem".to_owned(), stem(word).into());
            return Scored { row, bad: None };
        }
        self.reward(row, value)
    }

    fn reward(&self, mut out: Map, row: &Value) -> Scored {
        let case = match self.case(row) {
            Ok(case) => case,
            Err(why) => return failed(out, "unreadable", None, &why),
        };
        // Where the released program stops, a faithful score says so.
        let stopped = if self.mode.is_faithful() {
            "raises"
        } else {
            "refused"
        };
        let tools = match case.tools.as_ref() {
            Ok(tools) => tools,
            Err(why) => return failed(out, stopped, Some("prompt"), &why.to_string()),
        };
        let label = match Label::parse_as(&case.label, case.format, self.mode) {
            Ok(label) => label,
            Err(why) => return failed(out, stopped, Some("label"), &why.to_string()),
        };
        let outcome = score_as(tools, &label, &case.generation, case.format, self.mode);
        let word = match &outcome.why {
            Some(Fault::Unscorable) if self.mode.is_faithful() => "raises",
            Some(fault) if fault.is_format() => "invalid",
            _ => "ok",
        };
        out.insert("outcome".to_owned(), word.into());
        if word == "raises" {
            out.insert("cause".to_owned(), "scoring".into());
        }
        for (name, value) in [
            ("reward", outcome.reward),
            ("format_reward", outcome.format_reward),
            ("answer_reward", outcome.answer_reward),
        ] {
            out.insert(name.to_owned(), Value::Float(value));
        }
        if let Some(fault) = &outcome.why {
            out.insert("rule".to_owned(), fault.rule().into());
            out.insert("why".to_owned(), fault.to_string().into());
        }
        if self.explain {
            let words = Words::from(self.mode);
            out.insert("explain".to_owned(), explain(&label, &outcome, words));
        }
        Scored {
            row: out,
            bad: None,
        }
    }

    /// Finds tools, label and answer of a row.
    fn case<'a>(&'a self, row: &Value) -> Result<Case<'a>, String> {
        let text = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
        let seed = row.get("seed").or_else(|| row.get("id")).map(spelled);
        let seed = seed.and_then(|id| self.labels.get(&id));
        let is_rollout = row.get("seed").is_some() && row.get("generation").is_none();
        let prompt = text(row, "inputs")
            .or_else(|| text(row, "prompt"))
            .or_else(|| seed.and_then(|seed| text(seed, "inputs")));
        let begun = prompt.as_deref().and_then(|p| p.rsplit_once(ASSISTANT));
        let begun = begun.map_or("", |(_, begun)| begun);
        let answers = ["generation", "answer", "output", "completion"];
        let answer = if is_rollout {
            text(row, "targets")
        } else {
            answers.iter().find_map(|key| text(row, key))
        };
        let generation = match (answer, text(row, "query")) {
            (Some(answer), _) => format!("{begun}{answer}"),
            (None, Some(query)) => query,
            (None, None) => return Err("no answer: neither `generation` nor `query`".to_owned()),
        };
        let own = text(row, "label").or_else(|| text(row, "targets").filter(|_| !is_rollout));
        let label = own.or_else(|| seed.and_then(|seed| text(seed, "targets")));
        let label = label.ok_or("no `label`; for rollouts give --labels")?;
        // A label that is a whole turn needs nothing before it.
        let label = if label.contains("<think>") || !begun.contains("</think>") {
            label
        } else {
            format!("{begun}{label}")
        };
        let format = match row.get("call_format").or_else(|| seed?.get("call_format")) {
            None => self.format,
            Some(word) => match word.as_str() {
                Some("hermes") => CallFormat::Hermes,
                Some("json") => CallFormat::Json,
                Some("pythonic") => CallFormat::Pythonic,
                _ => return Err("`call_format` is none of hermes, json, pythonic".to_owned()),
            },
        };
        Ok(Case {
            tools: self.tools_of(row, prompt.as_deref())?,
            label,
            generation,
            format,
        })
    }

    fn tools_of(&self, row: &Value, prompt: Option<&str>) -> Result<Tools<'_>, String> {
        if let Some(tools) = row.get("tools") {
            return Ok(Tools::Own(ToolSet::from_value(tools, self.mode)));
        }
        if let Some(id) = row.get("tools_id").map(spelled) {
            let (found, read) = self
                .tools
                .get(&id)
                .ok_or_else(|| format!("no tools are known as `{id}`; see --tools"))?;
            return Ok(Tools::Shared(read.get_or_init(|| {
                match (
                    found.get("tools"),
                    found.get("prompt").and_then(Value::as_str),
                ) {
                    (Some(tools), _) => ToolSet::from_value(tools, self.mode),
                    (None, prompt) => ToolSet::from_prompt(prompt.unwrap_or_default(), self.mode),
                }
            })));
        }
        let query = row.get("query").and_then(Value::as_str);
        match prompt.or(query) {
            Some(prompt) => Ok(Tools::Own(ToolSet::from_prompt(prompt, self.mode))),
            None => Err("no tools: neither `tools`, `inputs`, `prompt` nor `tools_id`".to_owned()),
        }
    }
}

/// What a reward is made of.
struct Case<'a> {
    tools: Tools<'a>,
    label: String,
    generation: String,
    format: CallFormat,
}

enum Tools<'a> {
    Own(Known),
    Shared(&'a Known),
}

impl Tools<'_> {
    fn as_ref(&self) -> Result<&ToolSet, &ToolError> {
        match self {
            Self::Own(known) => known.as_ref(),
            Self::Shared(known) => known.as_ref(),
        }
    }
}

fn failed(mut row: Map, outcome: &str, cause: Option<&str>, why: &str) -> Scored {
    row.insert("outcome".to_owned(), outcome.into());
    if let Some(cause) = cause {
        row.insert("cause".to_owned(), cause.into());
    }
    row.insert("error".to_owned(), why.into());
    let place = cause.map_or_else(String::new, |cause| format!("{cause}: "));
    Scored {
        row,
        bad: Some(format!("{place}{why}")),
    }
}

fn baseline(mut row: Map, response: &str, label: &str) -> Scored {
    match toolrl(response, label) {
        Ok(reward) => {
            for (name, value) in [
                ("score", reward.score()),
                ("format", reward.format),
                ("correctness", reward.correctness),
            ] {
                row.insert(name.to_owned(), Value::Float(value));
            }
            Scored { row, bad: None }
        }
        Err(why) => failed(row, "refused", Some("label"), &why.to_string()),
    }
}

fn rouge(mut row: Map, a: &str, b: &str, words: Words) -> Scored {
    let rouge = rouge_l(a, b, words);
    for (name, value) in [
        ("fmeasure", rouge.f_measure),
        ("precision", rouge.precision),
        ("recall", rouge.recall),
        ("similarity", text_similarity(a, b, words)),
    ] {
        row.insert(name.to_owned(), Value::Float(value));
    }
    Scored { row, bad: None }
}

fn count(n: usize) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// The first value that is another one than the row already holds.
fn difference(held: &Value, scored: &Map) -> Option<String> {
    scored.iter().find_map(|(name, value)| {
        let held = held.get(name)?;
        match (held.as_f64(), value.as_f64()) {
            (Some(a), Some(b)) if (a - b).abs() > TOLERANCE => {
                Some(format!("`{name}` is {b}, and {a} was expected"))
            }
            (None, None) if held != value && name != "error" => Some(format!(
                "`{name}` is {}, and {} was expected",
                json::dumps(value),
                json::dumps(held)
            )),
            _ => None,
        }
    })
}
