//! Items of the benchmark, read from the data.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use starling_text::json::{Map, Value};

use super::backend::Class;
use super::category::{Category, Kind};
use super::check::Checker;
use super::data::{DataError, Source, answers_file, questions_file};
use super::prompt::{Message, Role};

/// One entry of the benchmark.
#[derive(Debug)]
pub struct Item {
    /// The id, unique over all categories.
    pub id: String,
    /// Its category.
    pub category: Category,
    /// Messages of every turn; single-turn items have one turn.
    pub turns: Vec<Vec<Message>>,
    /// Function documents that prompts show from the start, without hints.
    pub documents: Vec<Value>,
    pub(super) answers: Vec<Value>,
    pub(super) checker: OnceLock<Option<Checker>>,
    /// What only dialogues have.
    pub(super) dialogue: Option<Scenario>,
}

/// The simulated world of a dialogue.
#[derive(Debug)]
pub struct Scenario {
    /// Back ends, in the data's order.
    pub classes: Vec<Class>,
    /// Initial state by class name.
    pub(super) initial: Map,
    /// Documents that become known at the beginning of a turn.
    pub(super) held_out: BTreeMap<usize, Vec<Value>>,
    /// Accepted calls of every turn.
    pub(super) truth: Vec<Vec<String>>,
    pub(super) replay: OnceLock<super::dialogue::Truth>,
}

impl Item {
    /// Accepted answers as in the data: a list of calls, or of turns of call strings.
    pub fn answers(&self) -> &[Value] {
        &self.answers
    }

    /// The world of a dialogue; `None` for single-turn items.
    pub fn scenario(&self) -> Option<&Scenario> {
        self.dialogue.as_ref()
    }

    /// The compiled documents and answers; `None` for an item that has no accepted calls, or wrong ones.
    pub fn checker(&self) -> Option<&Checker> {
        let build = || {
            Checker::new(
                self.category.kind(),
                self.category.language(),
                &self.documents,
                &self.answers,
            )
        };
        self.checker.get_or_init(build).as_ref()
    }
}

/// Reads the items of a category.
pub(super) fn load(source: &Source, category: Category) -> Result<Vec<Item>, DataError> {
    let questions = source.lines(&questions_file(category))?;
    let mut answers = match category.has_answers() {
        true => source.lines(&answers_file(category))?,
        false => Vec::new(),
    }
    .into_iter();
    let mut documents = Documents::new(source);
    let mut items = Vec::with_capacity(questions.len());
    for (index, question) in questions.into_iter().enumerate() {
        let at = |problem: String| DataError::Shape {
            file: questions_file(category),
            line: index + 1,
            problem,
        };
        let answer = match category.has_answers() {
            true => Some(
                answers
                    .next()
                    .ok_or_else(|| at("has no answer".to_owned()))?,
            ),
            false => None,
        };
        items.push(item(category, question, answer, &mut documents).map_err(
            |problem| match problem {
                Problem::Data(error) => error,
                Problem::Shape(problem) => at(problem),
            },
        )?);
    }
    Ok(items)
}

enum Problem {
    Data(DataError),
    Shape(String),
}

fn shape(problem: impl Into<String>) -> Problem {
    Problem::Shape(problem.into())
}

fn take(map: &mut Map, key: &str) -> Result<Value, Problem> {
    map.swap_remove(key)
        .ok_or_else(|| shape(format!("has no `{key}`")))
}

fn list(value: Value, key: &str) -> Result<Vec<Value>, Problem> {
    match value {
        Value::List(items) => Ok(items),
        _ => Err(shape(format!("`{key}` is no list"))),
    }
}

fn dict(value: Value, key: &str) -> Result<Map, Problem> {
    match value {
        Value::Dict(map) => Ok(map),
        _ => Err(shape(format!("`{key}` is no object"))),
    }
}

fn text(value: Value, key: &str) -> Result<String, Problem> {
    match value {
        Value::Str(text) => Ok(text),
        _ => Err(shape(format!("`{key}` is no text"))),
    }
}

fn item(
    category: Category,
    question: Value,
    answer: Option<Value>,
    documents: &mut Documents<'_>,
) -> Result<Item, Problem> {
    let mut question = dict(question, "entry")?;
    let id = text(take(&mut question, "id")?, "id")?;
    let turns = list(take(&mut question, "question")?, "question")?;
    let answers = match answer {
        Some(answer) => {
            let mut answer = dict(answer, "answer")?;
            if answer.get("id").and_then(Value::as_str) != Some(&id) {
                return Err(shape("the answer of this line has another id"));
            }
            list(take(&mut answer, "ground_truth")?, "ground_truth")?
        }
        None => Vec::new(),
    };
    let turns = turns
        .into_iter()
        .map(|turn| list(turn, "question")?.into_iter().map(message).collect());
    let turns = turns.collect::<Result<Vec<Vec<Message>>, Problem>>()?;
    let (documents, dialogue) = match category.kind() {
        Kind::MultiTurn => {
            let (shown, scenario) = scenario(&mut question, &answers, documents)?;
            (shown, Some(scenario))
        }
        _ => (list(take(&mut question, "function")?, "function")?, None),
    };
    Ok(Item {
        id,
        category,
        turns,
        documents,
        answers,
        checker: OnceLock::new(),
        dialogue,
    })
}

fn message(message: Value) -> Result<Message, Problem> {
    let mut message = dict(message, "message")?;
    let role = text(take(&mut message, "role")?, "role")?;
    let role = Role::from_name(&role).ok_or_else(|| shape(format!("unknown role `{role}`")))?;
    Ok(Message::new(
        role,
        text(take(&mut message, "content")?, "content")?,
    ))
}

fn scenario(
    question: &mut Map,
    answers: &[Value],
    documents: &mut Documents<'_>,
) -> Result<(Vec<Value>, Scenario), Problem> {
    let initial = match question.swap_remove("initial_config") {
        Some(initial) => dict(initial, "initial_config")?,
        None => Map::new(),
    };
    let names = list(take(question, "involved_classes")?, "involved_classes")?;
    let class = |name: Value| {
        let name = text(name, "involved_classes")?;
        Class::from_name(&name).ok_or_else(|| shape(format!("unknown class `{name}`")))
    };
    let classes: Vec<Class> = names.into_iter().map(class).collect::<Result<_, _>>()?;
    let mut shown = Vec::new();
    for class in &classes {
        shown.extend(documents.of(*class).map_err(Problem::Data)?.iter().cloned());
    }
    let mut held_out = BTreeMap::new();
    if let Some(missed) = question.swap_remove("missed_function") {
        for (turn, names) in dict(missed, "missed_function")? {
            let turn = turn
                .parse()
                .map_err(|_| shape("`missed_function` names no turn"))?;
            let mut held = Vec::new();
            for name in list(names, "missed_function")? {
                let found = shown
                    .iter()
                    .position(|document| document.get("name") == Some(&name));
                held.extend(found.map(|index| shown.remove(index)));
            }
            held_out.insert(turn, held);
        }
    }
    let turn = |turn: &Value| -> Result<Vec<String>, Problem> {
        let calls = turn
            .as_list()
            .ok_or_else(|| shape("a turn of the answer is no list"))?;
        let call = |call: &Value| call.as_str().map(str::to_owned);
        let calls = calls.iter().map(call).collect::<Option<_>>();
        calls.ok_or_else(|| shape("a call of the answer is no text"))
    };
    let scenario = Scenario {
        classes,
        initial,
        held_out,
        truth: answers.iter().map(turn).collect::<Result<_, _>>()?,
        replay: OnceLock::new(),
    };
    Ok((shown, scenario))
}

/// Function documents of the back ends, each file read once.
struct Documents<'a> {
    source: &'a Source,
    read: BTreeMap<&'static str, Vec<Value>>,
}

impl<'a> Documents<'a> {
    fn new(source: &'a Source) -> Self {
        Self {
            source,
            read: BTreeMap::new(),
        }
    }

    fn of(&mut self, class: Class) -> Result<&[Value], DataError> {
        let name = class.document_name();
        if !self.read.contains_key(name) {
            let lines = self
                .source
                .lines(&format!("multi_turn_func_doc/{name}.json"))?;
            self.read.insert(name, lines);
        }
        Ok(&self.read[name])
    }
}
