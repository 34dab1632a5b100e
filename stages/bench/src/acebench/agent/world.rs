//! The environment of one conversation: the back ends involved, and running a message's calls on them.

use starling_text::json::{self, Value as Json};

use super::calls::AgentCall;
use super::food::Food;
use super::phone::{Messages, Reminders, Switches};
use super::python::{Raised, Returned, to_json};
use super::start::Start;
use super::travel::Travel;
use crate::acebench::expr::{Value, write_str};
use crate::acebench::{DataError, Lang};

/// What every raised error's text starts with.
const ERROR: &str = "Error during execution";

/// The back ends of one conversation.
#[derive(Debug, Clone)]
pub(super) struct World<'s> {
    start: &'s Start,
    classes: Vec<(String, BackEnd)>,
}

#[derive(Debug, Clone)]
enum BackEnd {
    Base(Switches),
    Messages(Messages),
    Reminders(Reminders),
    Food(Food),
    Travel(Travel),
}

/// What a call gave. The official program prints it after the last call of the message, and a part of it may
/// be the back end's own record, which shows what later calls did to it.
#[derive(Debug, Clone)]
struct Outcome {
    /// The back end that gave it.
    place: usize,
    method: String,
    value: Value<'static>,
}

impl<'s> World<'s> {
    /// Builds the classes with their start data and the entry's switches.
    pub(super) fn new(
        start: &'s Start,
        lang: Lang,
        classes: &[String],
        config: &Json,
    ) -> Result<Self, DataError> {
        let nothing = Json::Dict(json::Map::new());
        let switches = config.get("BaseApi").unwrap_or(&nothing);
        let classes = classes.iter().map(|name| {
            let back_end = match name.as_str() {
                "BaseApi" => BackEnd::Base(Switches::new(switches)),
                "MessageApi" => BackEnd::Messages(Messages::new(start, switches)),
                "ReminderApi" => BackEnd::Reminders(Reminders::new(start, lang, switches)),
                "FoodPlatform" => BackEnd::Food(Food::new(start, lang, switches)),
                "Travel" => BackEnd::Travel(Travel::new(start)),
                _ => {
                    return Err(DataError::Shape(
                        "the entry involves a class that does not exist",
                    ));
                }
            };
            Ok((name.clone(), back_end))
        });
        Ok(Self {
            start,
            classes: classes.collect::<Result<_, _>>()?,
        })
    }

    /// Runs calls one after the other; an error of one does not stop the next.
    pub(super) fn run_all(&mut self, calls: &[AgentCall]) -> Vec<Json> {
        let mut last = None;
        let results: Vec<_> = calls.iter().map(|call| self.run(call, &mut last)).collect();
        let show = |result| match result {
            Ok(outcome) => self.show(outcome),
            Err(Raised(error)) => Json::Str(format!("{ERROR}: {error}")),
        };
        results.into_iter().map(show).collect()
    }

    /// Runs calls until one raises. The official program then answers with a text that it forgets to fill
    /// in, letter by letter.
    pub(super) fn run_until_error(&mut self, calls: &[AgentCall]) -> Result<Vec<Json>, Vec<Json>> {
        let mut last = None;
        let results = calls.iter().map(|call| self.run(call, &mut last));
        let results: Vec<Outcome> = results.collect::<Result<_, _>>().map_err(|_| {
            let letters = format!("{ERROR}: {{str(e)}}");
            let letters = letters.chars().map(|c| Json::Str(c.to_string()));
            letters.collect::<Vec<_>>()
        })?;
        Ok(results
            .into_iter()
            .map(|outcome| self.show(outcome))
            .collect())
    }

    /// Runs one call on every back end that has the method. A method that none has runs nothing, and the
    /// result before it is given again.
    fn run(&mut self, call: &AgentCall, last: &mut Option<Outcome>) -> Result<Outcome, Raised> {
        let start = self.start;
        if let Some((name, whole)) = &call.method {
            for (place, (_, back_end)) in self.classes.iter_mut().enumerate() {
                let arguments = call.arguments.as_deref().filter(|_| *whole);
                // Without arguments it is only asked whether the method exists, on a copy.
                let result = match arguments {
                    Some(arguments) => back_end.call(start, name, arguments),
                    None => back_end
                        .clone()
                        .call(start, name, &[])
                        .map(|_| Err(Raised(format!("name '{name}' is not defined")))),
                };
                if let Some(result) = result {
                    let (method, value) = (name.clone(), result?);
                    *last = Some(Outcome {
                        place,
                        method,
                        value,
                    });
                }
            }
        }
        last.clone().ok_or_else(|| {
            Raised("cannot access local variable 'func_call_result' where it is not associated with a value".to_owned())
        })
    }

    /// A result as the model sees it once all calls of its message have run.
    fn show(&self, mut outcome: Outcome) -> Json {
        if let Some((_, back_end)) = self.classes.get(outcome.place) {
            back_end.refresh(&outcome.method, &mut outcome.value);
        }
        shown(&outcome.value)
    }

    /// The saved attributes of every class, in the order of the classes.
    pub(super) fn state(&self) -> Vec<Json> {
        let saved = self.classes.iter().map(|(name, back_end)| {
            let attributes = back_end.saved().into_iter();
            let attributes = attributes
                .map(|(name, value)| (name.to_owned(), plain(&value)))
                .collect();
            Json::Dict(
                [(name.clone(), Json::Dict(attributes))]
                    .into_iter()
                    .collect(),
            )
        });
        saved.collect()
    }
}

impl BackEnd {
    fn call(
        &mut self,
        start: &Start,
        method: &str,
        given: &[(String, Value<'static>)],
    ) -> Option<Returned> {
        match self {
            Self::Base(switches) => switches.call(start, method, given),
            Self::Messages(messages) => messages.call(start, method, given),
            Self::Reminders(reminders) => reminders.call(start, method, given),
            Self::Food(food) => food.call(start, method, given),
            Self::Travel(travel) => travel.call(start, method, given),
        }
    }

    /// Brings those parts of a result up to date that are the back end's own records.
    fn refresh(&self, method: &str, value: &mut Value<'static>) {
        match self {
            Self::Base(_) | Self::Messages(_) => {}
            Self::Reminders(reminders) => reminders.refresh(method, value),
            Self::Food(food) => food.refresh(method, value),
            Self::Travel(travel) => travel.refresh(method, value),
        }
    }

    fn saved(&self) -> Vec<(&'static str, Value<'static>)> {
        let numbered = |list: &[(i64, Value<'static>)]| {
            Value::Dict(
                list.iter()
                    .map(|(id, value)| (Value::Int(*id), value.clone()))
                    .collect(),
            )
        };
        match self {
            Self::Base(switches) => {
                vec![
                    ("wifi", switches.wifi.clone()),
                    ("logged_in", switches.logged_in.clone()),
                ]
            }
            Self::Messages(messages) => vec![("inbox", numbered(&messages.inbox))],
            Self::Reminders(reminders) => vec![("reminder_list", numbered(&reminders.list))],
            Self::Food(food) => vec![
                ("users", food.users.clone()),
                ("logged_in_users", Value::List(food.logged_in_users.clone())),
                ("orders", Value::List(food.orders.clone())),
            ],
            Self::Travel(travel) => vec![
                ("users", travel.users.clone()),
                ("reservations", Value::List(travel.reservations.clone())),
            ],
        }
    }
}

/// A result as the model sees it: dicts as JSON, all else as text; a text that is JSON counts as its value.
fn shown(value: &Value<'static>) -> Json {
    if let Value::Dict(_) = value
        && let Some(json) = to_json(value)
    {
        return json;
    }
    let printed = printed(value);
    json::parse(&printed).unwrap_or(Json::Str(printed))
}

fn printed(value: &Value<'static>) -> String {
    let mut out = String::new();
    // An integer too long to print would have been refused when the message was read.
    if write_str(&mut out, value).is_err() {
        out.push_str("...");
    }
    out
}

/// A saved value as JSON; one that JSON cannot hold as its text.
fn plain(value: &Value<'static>) -> Json {
    to_json(value).unwrap_or_else(|| Json::Str(printed(value)))
}
