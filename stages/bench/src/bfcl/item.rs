//! Items of the benchmark, read from the data.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use starling_text::json::{self, Map, ParseError, Value};

use super::backend::Class;
use super::category::{Category, Kind};
use super::check::Checker;
use super::data::{DataError, Source, answers_file, questions_file};
use super::prompt::{Message, Role};
use super::raw::{self, Text};

/// One entry of the benchmark.
///
/// Its parts are parsed when they are first asked for: to score an answer takes a fraction of them.
#[derive(Debug)]
pub struct Item {
    /// The id, unique over all categories.
    pub id: String,
    /// Its category.
    pub category: Category,
    question: Text,
    answer: Option<Text>,
    library: Arc<Library>,
    turns: OnceLock<Vec<Vec<Message>>>,
    shown: OnceLock<Shown>,
    answers: OnceLock<Vec<Value>>,
    checker: OnceLock<Option<Checker>>,
    scenario: OnceLock<Option<Scenario>>,
}

/// Function documents of an entry, without hints.
#[derive(Debug, Default)]
struct Shown {
    /// What prompts show from the start.
    documents: Vec<Value>,
    /// What becomes known at the beginning of a turn.
    held_out: BTreeMap<usize, Vec<Value>>,
}

/// The simulated world of a dialogue.
#[derive(Debug)]
pub struct Scenario {
    /// Back ends, in the data's order.
    pub classes: Vec<Class>,
    /// Initial state by class name.
    pub(super) initial: Map,
    /// Accepted calls of every turn.
    pub(super) truth: Vec<Vec<String>>,
    pub(super) replay: OnceLock<super::truth::Truth>,
}

impl Item {
    fn new(
        category: Category,
        question: Text,
        answer: Option<Text>,
        library: &Arc<Library>,
    ) -> Option<Self> {
        let id = parsed(raw::first_member(&question, "id")?).and_then(|id| text(id, "id"));
        Some(Self {
            id: id.ok()?,
            category,
            question,
            answer,
            library: Arc::clone(library),
            turns: OnceLock::new(),
            shown: OnceLock::new(),
            answers: OnceLock::new(),
            checker: OnceLock::new(),
            scenario: OnceLock::new(),
        })
    }

    /// Messages of every turn; single-turn items have one turn.
    pub fn turns(&self) -> &[Vec<Message>] {
        let read = || read_turns(&self.question).unwrap_or_default();
        self.turns.get_or_init(read)
    }

    /// Function documents that prompts show from the start, without hints.
    pub fn documents(&self) -> &[Value] {
        &self.shown().documents
    }

    /// Documents that become known at the beginning of a turn.
    pub(super) fn held_out(&self, turn: usize) -> Option<&[Value]> {
        self.shown().held_out.get(&turn).map(Vec::as_slice)
    }

    fn shown(&self) -> &Shown {
        let read = || read_shown(self.category, &self.question, &self.library).unwrap_or_default();
        self.shown.get_or_init(read)
    }

    /// Accepted answers as in the data: a list of calls, or of turns of call strings.
    pub fn answers(&self) -> &[Value] {
        let read = || {
            let answer = self.answer.as_deref();
            answer
                .and_then(|answer| read_answers(answer).ok())
                .unwrap_or_default()
        };
        self.answers.get_or_init(read)
    }

    /// The world of a dialogue; `None` for single-turn items.
    pub fn scenario(&self) -> Option<&Scenario> {
        let read = || match self.category.kind() {
            Kind::MultiTurn => read_scenario(&self.question, self.answers()).ok(),
            _ => None,
        };
        self.scenario.get_or_init(read).as_ref()
    }

    /// The compiled documents and answers; `None` for an item that has no accepted calls, or wrong ones.
    pub fn checker(&self) -> Option<&Checker> {
        let build = || {
            let wanted = match self.shown.get() {
                Some(_) => None,
                None => wanted_documents(self.category.kind(), &self.question, self.answers()),
            };
            Checker::new(
                self.category.kind(),
                self.category.language(),
                wanted.as_deref().unwrap_or_else(|| self.documents()),
                self.answers(),
            )
        };
        self.checker.get_or_init(build).as_ref()
    }

    /// Parses everything that would otherwise be parsed on demand.
    fn read_whole(&self) -> Result<(), Problem> {
        parsed(&self.question)?;
        let answers = match self.answer.as_deref() {
            Some(answer) => {
                let id = raw::member(answer, "id").map(parsed).transpose()?;
                if id.as_ref().and_then(Value::as_str) != Some(&self.id) {
                    return Err(shape("the answer of this line has another id"));
                }
                read_answers(answer)?
            }
            None => Vec::new(),
        };
        // What a getter was first to read is the same.
        let _known = self.turns.set(read_turns(&self.question)?);
        let _known = self
            .shown
            .set(read_shown(self.category, &self.question, &self.library)?);
        if self.category.kind() == Kind::MultiTurn {
            let _known = self
                .scenario
                .set(Some(read_scenario(&self.question, &answers)?));
        }
        let _known = self.answers.set(answers);
        Ok(())
    }
}

/// Reads the items of a category. Data from a folder are parsed at once, so that what is wrong with them is told;
/// those of the binary are known to be right.
pub(super) fn load(
    source: &Source,
    category: Category,
    library: &Arc<Library>,
) -> Result<Vec<Item>, DataError> {
    let read = |file: String| source.text(&file).map(|text| raw::lines(&text.into()));
    let questions = read(questions_file(category))?;
    let mut answers = match category.has_answers() {
        true => read(answers_file(category))?,
        false => Vec::new(),
    }
    .into_iter();
    let mut items = Vec::with_capacity(questions.len());
    for (line, question) in questions {
        let at = |problem: Problem| match problem {
            Problem::Data(error) => error,
            Problem::Json(source) => DataError::Json {
                file: questions_file(category),
                line,
                source,
            },
            Problem::Shape(problem) => DataError::Shape {
                file: questions_file(category),
                line,
                problem,
            },
        };
        let answer = answers.next().map(|(_, answer)| answer);
        if answer.is_none() && category.has_answers() {
            return Err(at(shape("has no answer")));
        }
        if !source.is_embedded() {
            parsed(&question).map_err(at)?;
        }
        let item = Item::new(category, question, answer, library);
        let item = item.ok_or_else(|| at(shape("has no `id` that is a text")))?;
        if !source.is_embedded() {
            item.read_whole().map_err(at)?;
        }
        items.push(item);
    }
    Ok(items)
}

#[derive(Debug)]
enum Problem {
    Data(DataError),
    Json(ParseError),
    Shape(String),
}

fn shape(problem: impl Into<String>) -> Problem {
    Problem::Shape(problem.into())
}

fn parsed(text: &str) -> Result<Value, Problem> {
    json::parse(text).map_err(Problem::Json)
}

/// The value of a member that must be there.
fn take(object: &str, key: &str) -> Result<Value, Problem> {
    match raw::member(object, key) {
        Some(value) => parsed(value),
        None => Err(shape(format!("has no `{key}`"))),
    }
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

fn read_turns(question: &str) -> Result<Vec<Vec<Message>>, Problem> {
    let turn = |turn| list(turn, "question")?.into_iter().map(message).collect();
    let turns = list(take(question, "question")?, "question")?;
    turns.into_iter().map(turn).collect()
}

fn read_answers(answer: &str) -> Result<Vec<Value>, Problem> {
    list(take(answer, "ground_truth")?, "ground_truth")
}

fn message(message: Value) -> Result<Message, Problem> {
    let mut message = dict(message, "message")?;
    let mut take = |key: &str| {
        let value = message.swap_remove(key);
        value.ok_or_else(|| shape(format!("a message has no `{key}`")))
    };
    let role = text(take("role")?, "role")?;
    let role = Role::from_name(&role).ok_or_else(|| shape(format!("unknown role `{role}`")))?;
    Ok(Message::new(role, text(take("content")?, "content")?))
}

fn read_classes(question: &str) -> Result<Vec<Class>, Problem> {
    let class = |name: Value| {
        let name = text(name, "involved_classes")?;
        Class::from_name(&name).ok_or_else(|| shape(format!("unknown class `{name}`")))
    };
    let names = list(take(question, "involved_classes")?, "involved_classes")?;
    names.into_iter().map(class).collect()
}

/// The documents of an entry: its own, or those of its back ends.
fn read_shown(category: Category, question: &str, library: &Library) -> Result<Shown, Problem> {
    let mut shown = Shown::default();
    if category.kind() != Kind::MultiTurn {
        shown.documents = list(take(question, "function")?, "function")?;
        return Ok(shown);
    }
    for class in read_classes(question)? {
        let documents = library.of(class).map_err(Problem::Data)?;
        shown.documents.extend(documents.iter().cloned());
    }
    let Some(missed) = raw::member(question, "missed_function") else {
        return Ok(shown);
    };
    for (turn, names) in dict(parsed(missed)?, "missed_function")? {
        let turn = turn
            .parse()
            .map_err(|_| shape("`missed_function` names no turn"))?;
        let mut held = Vec::new();
        for name in list(names, "missed_function")? {
            let named = |document: &Value| document.get("name") == Some(&name);
            let found = shown.documents.iter().position(named);
            held.extend(found.map(|index| shown.documents.remove(index)));
        }
        shown.held_out.insert(turn, held);
    }
    Ok(shown)
}

fn read_scenario(question: &str, answers: &[Value]) -> Result<Scenario, Problem> {
    let turn = |turn: &Value| -> Result<Vec<String>, Problem> {
        let calls = turn
            .as_list()
            .ok_or_else(|| shape("a turn of the answer is no list"))?;
        let call = |call: &Value| call.as_str().map(str::to_owned);
        let calls = calls.iter().map(call).collect::<Option<_>>();
        calls.ok_or_else(|| shape("a call of the answer is no text"))
    };
    Ok(Scenario {
        classes: read_classes(question)?,
        initial: match raw::member(question, "initial_config") {
            Some(initial) => dict(parsed(initial)?, "initial_config")?,
            None => Map::new(),
        },
        truth: answers.iter().map(turn).collect::<Result<_, _>>()?,
        replay: OnceLock::new(),
    })
}

/// What checks need of the documents: names and parameters of those that answers name, or of the first.
///
/// `None` where the text is not as plain as the data are; then all documents are parsed.
fn wanted_documents(kind: Kind, question: &str, answers: &[Value]) -> Option<Vec<Value>> {
    let is_wanted = |name: &str| {
        let names = |answer: &Value| Some(answer.as_dict()?.first()?.0 == name);
        kind == Kind::Simple || answers.iter().any(|answer| names(answer) == Some(true))
    };
    let mut wanted = Vec::new();
    for document in raw::elements(raw::first_member(question, "function")?) {
        let name = raw::first_member(document, "name")?;
        if name.contains('\\') {
            return None;
        }
        if !is_wanted(name.trim_matches('"')) {
            continue;
        }
        let mut parts = Map::new();
        parts.insert("name".to_owned(), parsed(name).ok()?);
        if let Some(parameters) = raw::member(document, "parameters") {
            parts.insert("parameters".to_owned(), parsed(parameters).ok()?);
        }
        wanted.push(Value::Dict(parts));
        if kind == Kind::Simple {
            break;
        }
    }
    Some(wanted)
}

/// Function documents of the back ends, each file read when it is first asked for.
#[derive(Debug)]
pub(super) struct Library {
    source: Source,
    read: [OnceLock<Vec<Value>>; Class::ALL.len()],
}

impl Library {
    pub(super) fn new(source: Source) -> Arc<Self> {
        Arc::new(Self {
            source,
            read: std::array::from_fn(|_| OnceLock::new()),
        })
    }

    fn of(&self, class: Class) -> Result<&[Value], DataError> {
        let cell = &self.read[class as usize];
        if let Some(documents) = cell.get() {
            return Ok(documents);
        }
        let name = class.document_name();
        let documents = self
            .source
            .lines(&format!("multi_turn_func_doc/{name}.json"))?;
        Ok(cell.get_or_init(|| documents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_binary_holds_can_be_read() {
        let source = Source::Embedded;
        let library = Library::new(source.clone());
        for category in Category::ALL {
            let items = load(&source, category, &library).expect("data");
            for item in &items {
                // First what is found in the text alone, then the same from the whole.
                let lean = item.checker().map(|checker| format!("{checker:?}"));
                item.read_whole()
                    .unwrap_or_else(|problem| panic!("{}: {problem:?}", item.id));
                let whole = Checker::new(
                    category.kind(),
                    category.language(),
                    item.documents(),
                    item.answers(),
                );
                assert_eq!(
                    lean,
                    whole.map(|checker| format!("{checker:?}")),
                    "{}",
                    item.id
                );
                assert_eq!(
                    item.scenario().is_some(),
                    category.kind() == Kind::MultiTurn
                );
            }
        }
    }
}
