//! The phone: its switches, messages and reminders.

use std::collections::BTreeMap;

use starling_text::json;

use super::python::{
    Given, Raised, Returned, bind_all, dict, get, has, key, lower, set, status, text,
};
use super::start::Start;
use crate::acebench::Lang;
use crate::acebench::expr::{Value, equal};

/// How many messages, and how many reminders, fit.
const CAPACITY: usize = 6;

/// Wifi and login; every back end that has them has its own.
#[derive(Debug, Clone)]
pub(super) struct Switches {
    pub(super) wifi: Value<'static>,
    pub(super) logged_in: Value<'static>,
}

impl Switches {
    /// Wifi is off and the device logged in unless the configuration says otherwise.
    pub(super) fn new(config: &json::Value) -> Self {
        let read = |name: &str, default: bool| {
            config
                .get(name)
                .map_or(Value::Bool(default), Value::from_json)
        };
        Self {
            wifi: read("wifi", false),
            logged_in: read("logged_in", true),
        }
    }

    pub(super) fn no_wifi(&self) -> bool {
        equal(&self.wifi, &Value::Bool(false))
    }

    pub(super) fn no_login(&self) -> bool {
        equal(&self.logged_in, &Value::Bool(false))
    }

    pub(super) fn call(&mut self, start: &Start, method: &str, given: &Given) -> Option<Returned> {
        let (switch, answer) = match method {
            "turn_on_wifi" => (&mut self.wifi, "wifi_on"),
            "login_device" => (&mut self.logged_in, "device_on"),
            _ => return None,
        };
        Some(bind_all(&format!("BaseApi.{method}"), [], given).map(|[]| {
            *switch = Value::Bool(true);
            status(true, start.text(answer).to_owned())
        }))
    }
}

/// Messages between six users.
#[derive(Debug, Clone)]
pub(super) struct Messages {
    pub(super) switches: Switches,
    /// Messages by number, in the order of their arrival.
    pub(super) inbox: Vec<(i64, Value<'static>)>,
    last: i64,
}

impl Messages {
    pub(super) fn new(start: &Start, config: &json::Value) -> Self {
        let inbox: Vec<_> = (1..).zip(start.list("inbox")).collect();
        Self {
            switches: Switches::new(config),
            last: inbox.len() as i64,
            inbox,
        }
    }

    pub(super) fn call(&mut self, start: &Start, method: &str, given: &Given) -> Option<Returned> {
        let name = format!("MessageApi.{method}");
        Some(match method {
            "send_message" => bind_all(&name, ["sender_name", "receiver_name", "message"], given)
                .and_then(|[sender, receiver, message]| {
                    self.send(start, &sender, &receiver, message)
                }),
            "delete_message" => {
                bind_all(&name, ["message_id"], given).and_then(|[id]| self.delete(start, &id))
            }
            "view_messages_between_users" => {
                bind_all(&name, ["sender_name", "receiver_name"], given)
                    .and_then(|[sender, receiver]| self.between(start, &sender, &receiver))
            }
            "search_messages" => bind_all(&name, ["user_name", "keyword"], given)
                .and_then(|[user, keyword]| self.search(start, &user, &keyword)),
            "get_all_message_times_with_ids" => {
                bind_all(&name, [], given).and_then(|[]| self.times(start))
            }
            "get_latest_message_id" => {
                bind_all(&name, [], given).and_then(|[]| self.extreme(start, true))
            }
            "get_earliest_message_id" => {
                bind_all(&name, [], given).and_then(|[]| self.extreme(start, false))
            }
            _ => return self.switches.call(start, method, given),
        })
    }

    /// The id of a user, if there is one of that name.
    fn user(start: &Start, name: &Value<'static>) -> Result<Option<Value<'static>>, Raised> {
        Ok(start.entry("phone_users", key(name)?).cloned())
    }

    fn send(
        &mut self,
        start: &Start,
        sender: &Value<'static>,
        receiver: &Value<'static>,
        message: Value<'static>,
    ) -> Returned {
        if self.switches.no_login() {
            return start.refuse("send_no_login");
        }
        if self.switches.no_wifi() {
            return start.refuse("send_no_wifi");
        }
        if self.inbox.len() >= CAPACITY {
            return start.refuse("inbox_full");
        }
        let Some(sender) = Self::user(start, sender)? else {
            return start.refuse("send_unknown");
        };
        let Some(receiver_id) = Self::user(start, receiver)? else {
            return start.refuse("send_unknown");
        };
        self.last += 1;
        // It gets no time, so that later questions for the latest message raise.
        let message = dict([
            ("sender_id", sender),
            ("receiver_id", receiver_id),
            ("message", message),
        ]);
        self.inbox.push((self.last, message));
        start.answer(true, "sent", &[receiver])
    }

    fn delete(&mut self, start: &Start, id: &Value<'static>) -> Returned {
        if self.switches.no_login() {
            return start.refuse("delete_no_login");
        }
        let id = key(id)?;
        let Some(place) = self
            .inbox
            .iter()
            .position(|(known, _)| equal(&Value::Int(*known), id))
        else {
            return start.refuse("message_unknown");
        };
        self.inbox.remove(place);
        start.answer(true, "message_deleted", &[id])
    }

    fn between(
        &self,
        start: &Start,
        sender: &Value<'static>,
        receiver: &Value<'static>,
    ) -> Returned {
        if self.switches.no_login() {
            return start.refuse("view_no_login");
        }
        let Some(sender_id) = Self::user(start, sender)? else {
            return start.refuse("sender_unknown");
        };
        let Some(receiver_id) = Self::user(start, receiver)? else {
            return start.refuse("receiver_unknown");
        };
        let mut found = Vec::new();
        for (id, message) in &self.inbox {
            if has(message, "sender_id", &sender_id) && has(message, "receiver_id", &receiver_id) {
                found.push(dict([
                    ("id", Value::Int(*id)),
                    ("sender", sender.clone()),
                    ("receiver", receiver.clone()),
                    ("message", get(message, "message")?.clone()),
                ]));
            }
        }
        found_or(start, found, "messages", "no_messages")
    }

    fn search(&self, start: &Start, user: &Value<'static>, keyword: &Value<'static>) -> Returned {
        let Some(user) = Self::user(start, user)? else {
            return start.refuse("user_unknown");
        };
        let mut found = Vec::new();
        for (id, message) in &self.inbox {
            let concerned = has(message, "sender_id", &user) || has(message, "receiver_id", &user);
            if concerned && contains_lower(get(message, "message")?, keyword)? {
                found.push(dict([
                    ("id", Value::Int(*id)),
                    ("sender_id", get(message, "sender_id")?.clone()),
                    ("receiver_id", get(message, "receiver_id")?.clone()),
                    ("message", get(message, "message")?.clone()),
                ]));
            }
        }
        found_or(start, found, "messages", "no_match")
    }

    fn times(&self, start: &Start) -> Returned {
        if self.switches.no_login() {
            return start.refuse("times_no_login");
        }
        let times = self
            .inbox
            .iter()
            .map(|(id, message)| Ok((Value::Int(*id), get(message, "time")?.clone())));
        Ok(Value::Dict(times.collect::<Result<_, Raised>>()?))
    }

    /// The number of the latest (or earliest) message; of equal ones the first.
    fn extreme(&self, start: &Start, latest: bool) -> Returned {
        let word = if latest { "latest" } else { "earliest" };
        if self.switches.no_login() {
            return start.refuse(if latest {
                "latest_no_login"
            } else {
                "earliest_no_login"
            });
        }
        if self.inbox.is_empty() {
            return start.refuse("inbox_empty");
        }
        let mut best: Option<(&str, i64)> = None;
        for (id, message) in &self.inbox {
            // Dates are written year first, so that their texts are in their order.
            let time = get(message, "time")?.as_str().unwrap_or_default();
            let better =
                best.is_none_or(|(known, _)| if latest { time > known } else { time < known });
            if better {
                best = Some((time, *id));
            }
        }
        let id = Value::Int(best.map_or(0, |(_, id)| id));
        let message = start.fill(word, &[&id])?;
        Ok(dict([
            ("status", Value::Bool(true)),
            ("message", text(message)),
            ("message_id", id),
        ]))
    }
}

/// The records found, or a refusal when there are none.
pub(super) fn found_or(
    start: &Start,
    found: Vec<Value<'static>>,
    name: &str,
    refusal: &str,
) -> Returned {
    if found.is_empty() {
        return start.refuse(refusal);
    }
    Ok(dict([
        ("status", Value::Bool(true)),
        (name, Value::List(found)),
    ]))
}

/// `keyword.lower() in value.lower()`.
pub(super) fn contains_lower(value: &Value<'_>, keyword: &Value<'_>) -> Result<bool, Raised> {
    let keyword = lower(keyword)?;
    Ok(lower(value)?.contains(&keyword))
}

/// Reminders, at most [`CAPACITY`].
#[derive(Debug, Clone)]
pub(super) struct Reminders {
    lang: Lang,
    switches: Switches,
    pub(super) list: Vec<(i64, Value<'static>)>,
    /// Records that were deleted, by their own number: an answer may still hold one.
    deleted: BTreeMap<i64, Value<'static>>,
    last: i64,
}

impl Reminders {
    pub(super) fn new(start: &Start, lang: Lang, config: &json::Value) -> Self {
        let list: Vec<_> = (1..).zip(start.list("reminders")).collect();
        Self {
            lang,
            switches: Switches::new(config),
            last: list.len() as i64,
            list,
            deleted: BTreeMap::new(),
        }
    }

    /// Brings the record of an answer up to date.
    pub(super) fn refresh(&self, method: &str, answer: &mut Value<'static>) {
        if method != "view_reminder_by_title" {
            return;
        }
        let Some(number) = get(answer, "reminder").ok().and_then(number) else {
            return;
        };
        let mut listed = self.list.iter().map(|(_, reminder)| reminder);
        let listed = listed.find(|reminder| self::number(reminder) == Some(number));
        if let Some(reminder) = listed.or_else(|| self.deleted.get(&number)) {
            set(answer, "reminder", reminder.clone());
        }
    }

    pub(super) fn call(&mut self, start: &Start, method: &str, given: &Given) -> Option<Returned> {
        let name = format!("ReminderApi.{method}");
        Some(match (method, self.lang) {
            ("view_reminder_by_title", _) => {
                bind_all(&name, ["title"], given).and_then(|[title]| self.view(start, &title))
            }
            ("add_reminder", _) => bind_all(&name, ["title", "description", "time"], given)
                .and_then(|[title, description, time]| self.add(start, &title, description, time)),
            ("delete_reminder", _) => {
                bind_all(&name, ["reminder_id"], given).and_then(|[id]| self.delete(start, &id))
            }
            ("view_all_reminders", _) => {
                bind_all(&name, [], given).and_then(|[]| self.view_all(start))
            }
            // The English class lacks the last two, though its list offers one of them.
            ("mark_as_notified", Lang::Zh) => {
                bind_all(&name, ["reminder_id"], given).and_then(|[id]| self.mark(start, &id))
            }
            ("search_reminders", Lang::Zh) => bind_all(&name, ["keyword"], given)
                .and_then(|[keyword]| self.search(start, &keyword)),
            _ => return self.switches.call(start, method, given),
        })
    }

    fn place(&self, id: &Value<'static>) -> Result<Option<usize>, Raised> {
        let id = key(id)?;
        Ok(self
            .list
            .iter()
            .position(|(known, _)| equal(&Value::Int(*known), id)))
    }

    fn view(&self, start: &Start, title: &Value<'static>) -> Returned {
        if self.switches.no_login() {
            return start.refuse("reminder_no_login");
        }
        match self
            .list
            .iter()
            .find(|(_, reminder)| has(reminder, "title", title))
        {
            Some((_, reminder)) => Ok(dict([
                ("status", Value::Bool(true)),
                ("reminder", reminder.clone()),
            ])),
            None => start.answer(false, "reminder_no_title", &[title]),
        }
    }

    fn add(
        &mut self,
        start: &Start,
        title: &Value<'static>,
        description: Value<'static>,
        time: Value<'static>,
    ) -> Returned {
        if self.switches.no_login() {
            return start.refuse("add_no_login");
        }
        if self.list.len() >= CAPACITY {
            return start.refuse("reminders_full");
        }
        self.last += 1;
        let reminder = dict([
            ("reminder_id", Value::Int(self.last)),
            ("title", title.clone()),
            ("description", description),
            ("time", time),
            ("notified", Value::Bool(false)),
        ]);
        self.list.push((self.last, reminder));
        start.answer(true, "reminder_added", &[title])
    }

    fn delete(&mut self, start: &Start, id: &Value<'static>) -> Returned {
        if self.switches.no_login() {
            return start.refuse("delete_reminder_no_login");
        }
        let Some(place) = self.place(id)? else {
            return start.refuse("reminder_unknown");
        };
        let (_, reminder) = self.list.remove(place);
        if let Some(number) = number(&reminder) {
            self.deleted.insert(number, reminder);
        }
        start.answer(true, "reminder_deleted", &[id])
    }

    fn view_all(&self, start: &Start) -> Returned {
        let mut all = Vec::new();
        for (_, reminder) in &self.list {
            all.push(dict([
                ("title", get(reminder, "title")?.clone()),
                ("description", get(reminder, "description")?.clone()),
                ("time", get(reminder, "time")?.clone()),
                ("notified", get(reminder, "notified")?.clone()),
            ]));
        }
        found_or(start, all, "reminders", "no_reminders")
    }

    fn mark(&mut self, start: &Start, id: &Value<'static>) -> Returned {
        let Some(place) = self.place(id)? else {
            return start.refuse("reminder_unknown");
        };
        set(&mut self.list[place].1, "notified", Value::Bool(true));
        start.answer(true, "reminder_marked", &[id])
    }

    /// Every hit raises: the official program formats a time that it stores as text.
    fn search(&self, start: &Start, keyword: &Value<'static>) -> Returned {
        for (_, reminder) in &self.list {
            if contains_lower(get(reminder, "title")?, keyword)?
                || contains_lower(get(reminder, "description")?, keyword)?
            {
                return Err(Raised(
                    "'str' object has no attribute 'strftime'".to_owned(),
                ));
            }
        }
        start.refuse("no_reminder_match")
    }
}

/// The number that a reminder bears itself, which is not the one that it is deleted by.
fn number(reminder: &Value<'static>) -> Option<i64> {
    match get(reminder, "reminder_id") {
        Ok(Value::Int(number)) => Some(*number),
        _ => None,
    }
}
