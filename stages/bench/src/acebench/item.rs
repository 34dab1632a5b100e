//! One entry of the benchmark.

use starling_text::json::{self, Value};

use super::agent::AgentTruth;
use super::reference::Normal;
use super::special::Special;
use super::{Category, DataError, Lang};

/// One entry: what the model is asked and what is expected.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its language.
    pub lang: Lang,
    /// Its category.
    pub category: Category,
    /// Category plus number, unique within the language.
    pub id: String,
    /// The conversation as one text, lines starting `user:` and `system:`.
    pub question: String,
    /// A sentence with the current date, or nothing.
    pub time: String,
    /// A user profile (only in [`Category::Preference`]).
    pub profile: Option<String>,
    /// The function descriptions, as the file has them.
    pub functions: Vec<Value>,
    /// What is expected, as the file has it.
    pub answer: Value,
    pub(super) truth: Truth,
}

/// What is expected, in the form its checker wants.
#[derive(Debug, Clone)]
pub(super) enum Truth {
    Normal(Normal),
    Special(Box<Special>),
    Agent(Box<AgentTruth>),
}

impl Item {
    pub(super) fn read(
        lang: Lang,
        category: Category,
        question: &Value,
        answer: &Value,
    ) -> Result<Self, DataError> {
        let text = |key: &str| question.get(key).and_then(Value::as_str).map(str::to_owned);
        let id = text("id").ok_or(DataError::Shape("the entry has no id"))?;
        if answer.get("id").and_then(Value::as_str) != Some(&id) {
            return Err(DataError::Shape("the answer on this line has another id"));
        }
        let functions = question.get("function").and_then(Value::as_list);
        let functions = functions
            .ok_or(DataError::Shape("the entry has no functions"))?
            .to_vec();
        let truth = answer
            .get("ground_truth")
            .ok_or(DataError::Shape("the answer has no ground truth"))?;
        let truth = match category.family() {
            super::Family::Normal => Truth::Normal(Normal::compile(&functions, truth)?),
            super::Family::Special => Truth::Special(Box::new(Special::compile(category, truth)?)),
            super::Family::Agent => Truth::Agent(Box::new(AgentTruth::read(question, answer)?)),
        };
        Ok(Self {
            lang,
            category,
            id,
            question: text("question").ok_or(DataError::Shape("the entry has no question"))?,
            time: text("time").unwrap_or_default(),
            profile: text("profile"),
            functions,
            answer: answer.get("ground_truth").cloned().unwrap_or_default(),
            truth,
        })
    }

    /// The dialogue that a multi-turn entry is a turn of: its id without the number of the turn.
    pub fn dialogue(&self) -> Option<&str> {
        let (dialogue, _) = self
            .id
            .rsplit_once('_')
            .filter(|_| self.category.is_multi_turn())?;
        Some(dialogue)
    }

    /// The function descriptions as Python prints the list, which is how the prompt shows them.
    pub fn functions_text(&self) -> String {
        starling_text::python::repr(&json::Value::List(self.functions.clone()))
    }
}
