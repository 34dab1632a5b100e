//! The Berkeley Function Calling Leaderboard, version 3, item for item.
//!
//! [`Bfcl`] holds the items; their data are part of the binary. A single-turn item gives a prompt and checks a text;
//! a multi-turn item gives a [`Dialogue`] that queries, executes and finally judges. [`Summary`] turns verdicts into
//! the scores of versions 3 and 4. Nothing here knows a model, and nothing is random: all simulated worlds draw from
//! seeded streams.
//!
//! Behaviour follows `bfcl-eval` 2026.3.23, where it can be reproduced. Three things cannot: Python's order of hash
//! sets, its object identities, and today's date, which the caller gives.

mod backend;
mod calls;
mod category;
mod check;
mod data;
mod dialogue;
mod document;
mod execute;
mod item;
mod literal;
mod loads;
mod number;
mod output;
mod plain;
mod prompt;
mod prompting;
mod py;
mod raw;
pub mod report;
mod results;
mod rows;
mod score;
mod truth;
mod verdict;

use std::sync::{Arc, OnceLock};

use starling_text::json::Value;

pub use backend::{Class, Date};
pub use calls::{Arguments, DecodedCall};
pub use category::{Category, Kind, Language, Section, sort_key};
pub use check::Checker;
pub use data::{DataError, Source};
pub use dialogue::{ClassState, Dialogue, ExplainedTurn, ReplayedTurn};
pub use item::{Item, Scenario};
pub use literal::{Raised, convert};
pub use output::{
    Completion, Undecodable, decode_calls, decode_executable, decoded_calls, read, tool_calls,
};
pub use prompt::{BadHistory, Message, Prompt, Role};
pub use prompting::{Mode, decode_prompted, decode_prompted_executable};
pub use results::{Answer, Answers, ResultsError, read_folder, read_lines, write_lines};
pub use score::{Count, FORMULA_V3, FORMULA_V4, ScoreV3, ScoreV4, Summary, percent};
pub use verdict::{ErrorKind, Verdict};

use backend::{Setting, Tables};
pub(crate) use data::hex;

/// The benchmark: its items, read category by category when they are first asked for.
#[derive(Debug)]
pub struct Bfcl {
    source: Source,
    tables: Arc<Tables>,
    library: Arc<item::Library>,
    today: Date,
    mode: Mode,
    categories: [OnceLock<Vec<Item>>; 17],
}

impl Bfcl {
    /// The benchmark from the data of the binary.
    ///
    /// # Errors
    /// Never for the data that were compiled in; see [`Self::open`].
    pub fn embedded() -> Result<Self, DataError> {
        Self::open(Source::Embedded)
    }

    /// The benchmark from other data.
    ///
    /// # Errors
    /// [`DataError`] when the tables of the back ends cannot be read.
    pub fn open(source: Source) -> Result<Self, DataError> {
        Ok(Self {
            tables: Tables::load(&source)?,
            library: item::Library::new(source.clone()),
            source,
            today: Date::RELEASE,
            mode: Mode::default(),
            categories: std::array::from_fn(|_| OnceLock::new()),
        })
    }

    /// The same benchmark on another day, which decides how old travellers are.
    pub fn on(mut self, today: Date) -> Self {
        self.today = today;
        self
    }

    /// The same benchmark in another mode, which decides how prompts are written and answers decoded.
    pub fn in_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Digest of all data files.
    ///
    /// # Errors
    /// [`DataError`] when a file cannot be read.
    pub fn digest(&self) -> Result<String, DataError> {
        self.source.digest()
    }

    /// The items of a category, in the data's order.
    ///
    /// # Errors
    /// [`DataError`] when the files of the category cannot be read.
    pub fn items(&self, category: Category) -> Result<&[Item], DataError> {
        let cell = &self.categories[category as usize];
        if let Some(items) = cell.get() {
            return Ok(items);
        }
        let items = item::load(&self.source, category, &self.library)?;
        Ok(cell.get_or_init(|| items))
    }

    /// The item of an id; `None` when there is none.
    ///
    /// # Errors
    /// [`DataError`] when the files of its category cannot be read.
    pub fn item(&self, id: &str) -> Result<Option<&Item>, DataError> {
        let Some(category) = Category::of_id(id) else {
            return Ok(None);
        };
        let items = self.items(category)?;
        // Most ids are numbered by their place.
        let (place, _) = sort_key(id);
        let guess = usize::try_from(place)
            .ok()
            .and_then(|place| items.get(place));
        Ok(guess
            .filter(|item| item.id == id)
            .or_else(|| items.iter().find(|item| item.id == id)))
    }

    fn setting(&self, item: &Item) -> Setting {
        Setting {
            tables: Arc::clone(&self.tables),
            long_context: item.category.is_long_context(),
            today: self.today,
        }
    }

    /// The only query of a single-turn item, or the first one of a dialogue.
    pub fn prompt(&self, item: &Item) -> Prompt {
        let messages = item.turns().first().cloned().unwrap_or_default();
        Prompt::new(self.mode, hinted(item), messages)
    }

    /// Starts a dialogue; `None` for a single-turn item.
    pub fn dialogue<'a>(&self, item: &'a Item) -> Option<Dialogue<'a>> {
        Dialogue::new(item, self.setting(item), self.mode, hinted(item))
    }

    /// The calls of an answer to a single-turn item, as the mode decodes them.
    ///
    /// # Errors
    /// [`ErrorKind::DecoderFailed`] or [`ErrorKind::DecoderWrongOutputFormat`].
    pub fn decode<'t>(
        &self,
        item: &Item,
        text: &'t str,
    ) -> Result<Vec<DecodedCall<'t>>, ErrorKind> {
        match self.mode {
            Mode::FunctionCalling => decode_calls(text).map_err(|_| ErrorKind::DecoderFailed),
            Mode::Prompting => decode_prompted(text, item.category.language()),
        }
    }

    /// The call strings of an answer in a dialogue, as the mode decodes them.
    ///
    /// # Errors
    /// [`ErrorKind::DecoderFailed`].
    pub fn decode_executable(&self, text: &str) -> Result<Vec<String>, ErrorKind> {
        dialogue::decode(self.mode, text)
    }

    /// Checks what a model answered to a single-turn item.
    ///
    /// The text is scored as it is: thoughts are to be cut off first ([`read`]).
    pub fn check(&self, item: &Item, text: &str) -> Verdict {
        let decoded = self.decode(item, text);
        match item.category.kind() {
            Kind::Irrelevance => match decoded {
                Ok(calls) if !calls.is_empty() => ErrorKind::IrrelevanceSuccess.into(),
                _ => Verdict::VALID,
            },
            Kind::Relevance => match decoded {
                Ok(calls) if !calls.is_empty() => Verdict::VALID,
                _ => ErrorKind::RelevanceFailed.into(),
            },
            Kind::MultiTurn => ErrorKind::InferenceError.into(),
            _ => match decoded {
                Ok(calls) => self.check_calls(item, &calls, false),
                Err(kind) => kind.into(),
            },
        }
    }

    /// Checks decoded calls of a single-turn item; see [`Checker::check`] for `underscores`.
    pub fn check_calls(
        &self,
        item: &Item,
        calls: &[DecodedCall<'_>],
        underscores: bool,
    ) -> Verdict {
        match item.checker() {
            Some(checker) => checker.check(calls, underscores).into(),
            None => ErrorKind::CheckerRaised.into(),
        }
    }

    /// Checks the texts of a dialogue: turns of steps.
    pub fn check_turns(&self, item: &Item, turns: &[Vec<String>]) -> Verdict {
        dialogue::check_texts(item, &self.setting(item), self.mode, turns)
    }

    /// Checks the decoded call strings of a dialogue: turns of steps of calls.
    pub fn check_turn_calls(&self, item: &Item, turns: &[Vec<Vec<String>>]) -> Verdict {
        dialogue::check_calls(item, &self.setting(item), turns)
    }

    /// Checks a stored answer.
    pub fn check_answer(&self, item: &Item, answer: &Answer) -> Verdict {
        match (item.category.kind(), answer) {
            (Kind::MultiTurn, Answer::Turns(turns)) => self.check_turns(item, turns),
            (Kind::MultiTurn, Answer::Other(Value::List(turns))) => self.check_mixed(item, turns),
            (Kind::MultiTurn, _) => ErrorKind::InferenceError.into(),
            (_, Answer::Text(text)) => self.check(item, text),
            (Kind::Irrelevance, _) => Verdict::VALID,
            (Kind::Relevance, _) => ErrorKind::RelevanceFailed.into(),
            _ => ErrorKind::DecoderFailed.into(),
        }
    }

    /// Checks turns that do not hold texts alone.
    fn check_mixed(&self, item: &Item, turns: &[Value]) -> Verdict {
        let expected = item.scenario().map_or(0, |scenario| scenario.truth.len());
        if turns.len() != expected {
            return ErrorKind::ForceTerminated.into();
        }
        match turns.iter().map(results::texts).collect::<Option<Vec<_>>>() {
            Some(turns) => self.check_turns(item, &turns),
            None => ErrorKind::InferenceError.into(),
        }
    }

    /// Scores stored answers; an item of a category with answers that has none itself counts as wrong.
    ///
    /// # Errors
    /// [`DataError`] when the files of a category cannot be read.
    pub fn score(&self, answers: &Answers) -> Result<Summary, DataError> {
        let mut summary = Summary::default();
        let mut answered = [false; 17];
        for category in answers.keys().filter_map(|id| Category::of_id(id)) {
            answered[category as usize] = true;
        }
        for category in Category::ALL.into_iter().filter(|c| answered[*c as usize]) {
            for item in self.items(category)? {
                let verdict = match answers.get(&item.id) {
                    Some(answer) => self.check_answer(item, answer),
                    None => ErrorKind::Missing.into(),
                };
                summary.add(category, verdict);
            }
        }
        Ok(summary)
    }

    /// Plays the texts of a dialogue beside the accepted calls, turn by turn, for people to read.
    pub fn explain_turns(&self, item: &Item, turns: &[Vec<String>]) -> Option<Vec<ExplainedTurn>> {
        dialogue::explain(item, &self.setting(item), self.mode, turns)
    }

    /// Executes the accepted calls of a dialogue.
    pub fn replay(&self, item: &Item) -> Option<Vec<ReplayedTurn>> {
        dialogue::replayed(item, &self.setting(item))
    }

    /// The state in which the accepted calls leave the instances of a dialogue.
    pub fn final_state(&self, item: &Item) -> Option<Vec<(&'static str, ClassState)>> {
        dialogue::final_state(item, &self.setting(item))
    }

    /// A single instance of a back end, to be called directly.
    ///
    /// `None` where the benchmark would fail to load the scenario.
    pub fn sandbox(&self, class: Class, scenario: &Value, long_context: bool) -> Option<Sandbox> {
        let setting = Setting {
            tables: Arc::clone(&self.tables),
            long_context,
            today: self.today,
        };
        let instance = class.load(&py::Py::from(scenario), &setting).ok()?;
        Some(Sandbox(execute::World::new(
            vec![(class, instance)],
            dialogue::MODEL_SIDE,
            "sandbox",
        )))
    }
}

/// Documents of an item with the hints of prompts.
fn hinted(item: &Item) -> Vec<Value> {
    let language = item.category.language();
    item.documents()
        .iter()
        .map(|document| document::hinted(document, language))
        .collect()
}

/// One back end on its own.
#[derive(Debug)]
pub struct Sandbox(execute::World);

impl Sandbox {
    /// Executes a call string.
    pub fn execute(&mut self, call: &str) -> String {
        self.0.execute(call)
    }

    /// Digest of the public attributes, by class name.
    pub fn state_digest(&self) -> String {
        backend::digest(&self.0.instances)
    }
}
