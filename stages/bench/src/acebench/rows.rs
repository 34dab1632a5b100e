//! Rows of outputs, and rows of expected results: told apart by their fields, judged one by one.
//!
//! | shape  | fields                          | what is computed                                        |
//! |--------|---------------------------------|---------------------------------------------------------|
//! | case   | `id`, `output` (or `result`)    | the verdict on an output, under one profile or both      |
//! | agent  | `id`, `result`, `process`       | the score of an end state and of the messages before it  |
//! | replay | `id`, `steps`                   | the environment's answers to scripted messages, the score |
//! | prompt | `id`, `system…` or `user…`      | both messages, their lengths and digests                 |
//! | run    | `bits`                          | the official table of a whole run                        |
//!
//! `lang` may be left out: English then. Nothing panics: what is wrong with a row is said in words.

use std::path::PathBuf;
use std::sync::OnceLock;

use indexmap::IndexMap;
use starling_text::json::Value;
use starling_text::python;

use super::{
    AgentScore, Category, CategoryScore, DataError, Dataset, ErrorKind, Family, Item, Lang,
    MultiStep, MultiTurn, Outcome, Profile, Summary, Verdict,
};
use crate::rows::{Judged, fields, list, sha256, text, texts};

/// The benchmark in both languages and under both profiles, each read when it is first asked for.
#[derive(Debug, Default)]
pub struct Acebench {
    folder: Option<PathBuf>,
    data: [OnceLock<Dataset>; 4],
}

impl Acebench {
    /// The data of the program, or those of a folder laid out alike.
    #[must_use]
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            data: Default::default(),
        }
    }

    /// The entries of a language under a profile.
    ///
    /// # Errors
    /// [`DataError`] for another folder whose files cannot be read.
    pub fn dataset(&self, lang: Lang, profile: Profile) -> Result<&Dataset, DataError> {
        let cell = &self.data[2 * lang as usize + profile as usize];
        if let Some(data) = cell.get() {
            return Ok(data);
        }
        let data = match &self.folder {
            Some(folder) => Dataset::from_folder(folder, lang, profile)?,
            None => Dataset::embedded(lang, profile)?,
        };
        Ok(cell.get_or_init(|| data))
    }

    /// Judges one row under `profile`; a row of expected results that names the other profile too is judged
    /// under both. The outcome is what [`Dataset::summary`] adds up.
    ///
    /// # Errors
    /// What is wrong with the row, in words.
    pub fn judge_row(
        &self,
        profile: Profile,
        row: &Value,
    ) -> Result<(Judged, Option<(Lang, Outcome)>), String> {
        let has = |name: &str| row.get(name).is_some();
        if !matches!(row, Value::Dict(_)) {
            return Err("a row is a JSON object".to_owned());
        }
        let lang = match row.get("lang").or_else(|| row.get("language")) {
            None => Lang::En,
            Some(name) => name
                .as_str()
                .and_then(Lang::from_name)
                .ok_or("`lang` is neither `en` nor `zh`")?,
        };
        let data = self.dataset(lang, profile).map_err(|e| e.to_string())?;
        if has("bits") {
            return Ok((run(data, row)?, None));
        }
        let id = text(row, "id")?;
        let item = data
            .get(id)
            .ok_or_else(|| format!("the {lang} data have no entry `{id}`"))?;
        if has("steps") {
            let (judged, score) = replay(data, item, row)?;
            return Ok((judged, Some((lang, Outcome::Agent(score)))));
        }
        if has("process") {
            let (judged, score) = agent(data, item, row)?;
            return Ok((judged, Some((lang, Outcome::Agent(score)))));
        }
        if has("output") || has("result") {
            let (judged, verdict) = self.case(data, item, row)?;
            return Ok((judged, Some((lang, Outcome::Verdict(verdict)))));
        }
        if ["system", "user", "system_sha256", "user_sha256"]
            .iter()
            .any(|name| has(name))
        {
            return Ok((prompt(data, item, row), None));
        }
        Err(
            "has none of the fields `output`, `result`, `process`, `steps`, `system`, `bits`"
                .to_owned(),
        )
    }

    fn case(&self, data: &Dataset, item: &Item, row: &Value) -> Result<(Judged, Verdict), String> {
        if item.category.family() == Family::Agent {
            return Err(format!(
                "`{}` is judged by an end state: the row needs `result` and `process`, or `steps`",
                item.id
            ));
        }
        let output = text(
            row,
            if row.get("output").is_some() {
                "output"
            } else {
                "result"
            },
        )?;
        let verdict = data.check(item, output);
        let expected = |valid: &str, error: &str, verdict: Verdict| {
            let expected = row.get(valid)?.as_bool();
            let error = row.get(error).and_then(Value::as_str).unwrap_or_default();
            // Which exception stopped the official program is no part of the verdict.
            let error = if error.starts_with("crash:") {
                "crash"
            } else {
                error
            };
            Some(expected == Some(verdict.valid()) && error == verdict.error_name())
        };
        let mut computed = fields([
            ("lang", Value::Str(item.lang.name().to_owned())),
            ("valid", Value::Bool(verdict.valid())),
            ("error_type", Value::Str(verdict.error_name().to_owned())),
        ]);
        let mut agrees = match data.profile() {
            Profile::R2508 => expected("valid", "error_type", verdict),
            Profile::R2510 => expected("valid_r2510", "error_type_r2510", verdict)
                .or_else(|| expected("valid", "error_type", verdict)),
        };
        if data.profile() == Profile::R2508 && row.get("valid_r2510").is_some() {
            let later = self
                .dataset(item.lang, Profile::R2510)
                .map_err(|e| e.to_string())?;
            if let Some(item) = later.get(&item.id) {
                let verdict = later.check(item, output);
                computed.insert("valid_r2510".to_owned(), Value::Bool(verdict.valid()));
                let error = Value::Str(verdict.error_name().to_owned());
                computed.insert("error_type_r2510".to_owned(), error);
                let same = expected("valid_r2510", "error_type_r2510", verdict) == Some(true);
                agrees = agrees.map(|agrees| agrees && same);
            }
        }
        for name in ["case", "kind"] {
            if let Some(value) = row.get(name) {
                computed.insert(name.to_owned(), value.clone());
            }
        }
        let judged = Judged {
            valid: Some(verdict.valid()),
            error: verdict.error.map(|error| error.name().to_owned()),
            ..judged("case", item, computed, agrees)
        };
        Ok((judged, verdict))
    }
}

fn judged(
    shape: &'static str,
    item: &Item,
    computed: starling_text::json::Map,
    agrees: Option<bool>,
) -> Judged {
    Judged {
        shape,
        id: item.id.clone(),
        category: item.category.name().to_owned(),
        valid: None,
        error: None,
        computed,
        agrees,
    }
}

/// To three decimals, as a category of one entry would be.
fn rounded(x: f64) -> f64 {
    super::score::round3(x)
}

fn end_of(score: AgentScore) -> f64 {
    if score.end { 1.0 } else { 0.0 }
}

/// The same number; all of them are written with so few digits that they read back exactly.
fn same(row: &Value, name: &str, found: f64) -> Option<bool> {
    let expected = row.get(name)?.as_f64()?;
    Some((expected - found).abs() < 1e-9)
}

fn both(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a && b),
        (a, b) => a.or(b),
    }
}

fn agent_fields(item: &Item, row: &Value, score: AgentScore) -> starling_text::json::Map {
    let mut computed = fields([
        ("lang", Value::Str(item.lang.name().to_owned())),
        ("valid", Value::Bool(score.end)),
        ("end", Value::Float(end_of(score))),
        ("process_accuracy", Value::Float(rounded(score.process))),
    ]);
    for name in ["case", "state_kind", "process_kind"] {
        if let Some(value) = row.get(name) {
            computed.insert(name.to_owned(), value.clone());
        }
    }
    computed
}

fn as_expected(row: &Value, score: AgentScore) -> Option<bool> {
    let process = same(row, "process_accuracy", rounded(score.process));
    both(same(row, "end", end_of(score)), process)
}

fn agent(data: &Dataset, item: &Item, row: &Value) -> Result<(Judged, AgentScore), String> {
    let messages = texts(row.get("process").unwrap_or(&Value::Null), "process")?;
    let score = data
        .score_agent(item, list(row, "result")?, &messages)
        .ok_or_else(|| format!("`{}` is no entry of an agent", item.id))?;
    let judged = Judged {
        valid: Some(score.end),
        ..judged(
            "agent",
            item,
            agent_fields(item, row, score),
            as_expected(row, score),
        )
    };
    Ok((judged, score))
}

fn replay(data: &Dataset, item: &Item, row: &Value) -> Result<(Judged, AgentScore), String> {
    let steps = list(row, "steps")?;
    let mut messages = Vec::new();
    for step in steps {
        messages.push(step.as_str().map_or_else(|| text(step, "agent"), Ok)?);
    }
    let mut answers = Vec::new();
    let mut agrees = None;
    let mut answer = |step: &Value, message: &str, given: &str, value: Value, same: bool| {
        if ["execution", "error", "raises"]
            .iter()
            .any(|name| step.get(name).is_some())
        {
            agrees = both(agrees, Some(same));
        }
        answers.push(Value::Dict(fields([
            ("agent", Value::Str(message.to_owned())),
            (given, value),
        ])));
    };
    let wrong = |error: DataError| error.to_string();
    let (state, score) = match item.category {
        Category::AgentMultiStep => {
            let mut driver = MultiStep::new(data, item).map_err(wrong)?;
            for (step, message) in steps.iter().zip(messages) {
                let value = driver.run(message);
                let same = same_answer(step, &value);
                answer(step, message, "execution", value, same);
            }
            (driver.state(), driver.score())
        }
        _ => {
            let mut driver = MultiTurn::new(data, item).map_err(wrong)?;
            for (step, message) in steps.iter().zip(messages) {
                match driver.run(message) {
                    Some(Ok(results)) => {
                        let value = Value::List(results);
                        let same = same_answer(step, &value);
                        answer(step, message, "execution", value, same);
                    }
                    Some(Err(_)) => {
                        let same = step.get("error").and_then(Value::as_bool) == Some(true);
                        answer(step, message, "error", Value::Bool(true), same);
                    }
                    None => {
                        let same = step.get("raises").is_some();
                        answer(step, message, "raises", Value::Bool(true), same);
                    }
                }
            }
            (driver.state(), driver.score())
        }
    };
    let state = Value::List(state);
    let same_state = row
        .get("result")
        .map(|expected| python::eq(expected, &state));
    let agrees = both(both(agrees, same_state), as_expected(row, score));
    let mut computed = agent_fields(item, row, score);
    computed.insert("steps".to_owned(), Value::List(answers));
    computed.insert("result".to_owned(), state);
    let judged = Judged {
        valid: Some(score.end),
        ..judged("replay", item, computed, agrees)
    };
    Ok((judged, score))
}

/// Texts of raised errors are compared by their first three words.
fn same_answer(step: &Value, found: &Value) -> bool {
    const ERROR: &str = "Error during execution";
    let Value::List(items) = found else {
        return step.get("execution") == Some(found);
    };
    let items = items.iter().map(|item| match item.as_str() {
        Some(text) if text.starts_with(ERROR) => Value::Str(ERROR.to_owned()),
        _ => item.clone(),
    });
    let found = Value::List(items.collect());
    step.get("execution")
        .is_some_and(|expected| python::eq(expected, &found))
}

fn prompt(data: &Dataset, item: &Item, row: &Value) -> Judged {
    let prompt = data.prompt(item);
    let count = |text: &str| Value::Int(text.chars().count() as i64);
    let mut computed = fields([
        ("lang", Value::Str(item.lang.name().to_owned())),
        ("system_sha256", Value::Str(sha256(&prompt.system))),
        ("user_sha256", Value::Str(sha256(&prompt.user))),
        ("system_chars", count(&prompt.system)),
        ("user_chars", count(&prompt.user)),
    ]);
    for (name, message) in [("system", prompt.system), ("user", prompt.user)] {
        if row.get(name).is_some() {
            computed.insert(name.to_owned(), Value::Str(message));
        }
    }
    let compared = computed
        .iter()
        .filter_map(|(name, found)| row.get(name).map(|expected| expected == found));
    let agrees = compared.fold(None, |sum, same| both(sum, Some(same)));
    judged("prompt", item, computed, agrees)
}

/// The pass bits of a run as its table; agent categories are given by their accuracies alone.
fn run(data: &Dataset, row: &Value) -> Result<Judged, String> {
    let bits = row
        .get("bits")
        .and_then(Value::as_dict)
        .ok_or("`bits` is no object")?;
    let mut outcomes = IndexMap::new();
    for (name, bits) in bits {
        let category = Category::from_name(name).ok_or_else(|| format!("no category `{name}`"))?;
        let bits = bits
            .as_str()
            .ok_or_else(|| format!("the bits of `{name}` are no text"))?;
        let count = data.category(category).count();
        if bits.len() != count {
            return Err(format!("`{name}` has {count} entries, not {}", bits.len()));
        }
        for (item, bit) in data.category(category).zip(bits.bytes()) {
            let error = (bit == b'0').then_some(ErrorKind::Value);
            outcomes.insert(item.id.clone(), Outcome::Verdict(Verdict { error }));
        }
    }
    let counted = data.summary(&outcomes);
    let given = row.get("categories");
    let number = |row: &Value, name: &str| row.get(name).and_then(Value::as_f64);
    let all = Category::ALL.into_iter().filter_map(|category| {
        if let Some(score) = counted.category(category) {
            return Some((category, *score));
        }
        let given = given?.get(category.name())?;
        let score = CategoryScore {
            accuracy: number(given, "end_to_end_accuracy")?,
            process: number(given, "process_accuracy"),
            correct: 0,
            total: 0,
            dialogues: None,
        };
        Some((category, score))
    });
    let summary = Summary::from_categories(all.collect::<Vec<_>>());
    let mut agrees = None;
    let mut table = starling_text::json::Map::new();
    for (name, value) in summary.rows() {
        agrees = both(
            agrees,
            row.get("summary").and_then(|s| same(s, name, value)),
        );
        table.insert(name.to_owned(), Value::Float(value));
    }
    Ok(Judged {
        shape: "run",
        id: row.get("run").map(python::repr).unwrap_or_default(),
        category: String::new(),
        valid: None,
        error: None,
        computed: fields([
            ("lang", Value::Str(data.lang().name().to_owned())),
            ("summary", Value::Dict(table)),
        ]),
        agrees,
    })
}
