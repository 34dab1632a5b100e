//! Labels of the assistant's messages: what kind of answer, how far into the conversation.

use indexmap::IndexMap;
use starling_text::json::{Map, Value};
use starling_text::python;

use super::{object, role};

/// A trait of a message of the assistant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tag {
    /// It says something.
    Response,
    /// It makes more than one call.
    Parallel,
    /// It makes exactly one call.
    Single,
    /// It makes calls right after a tool's result.
    MultiStep,
}

impl Tag {
    /// The tag's word in data and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Parallel => "parallel",
            Self::Single => "single",
            Self::MultiStep => "multi-step",
        }
    }
}

impl Label {
    /// The label as `{position, tags, turns, tool_call_num}`.
    pub fn to_value(&self) -> Value {
        let tags: Vec<Value> = self.tags.iter().map(|tag| tag.word().into()).collect();
        object([
            ("position", int(self.position)),
            ("tags", tags.into()),
            ("turns", int(self.turns)),
            ("tool_call_num", int(self.calls)),
        ])
    }
}

/// The labels of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// 0-based position in the conversation.
    pub position: usize,
    /// What it is.
    pub tags: Vec<Tag>,
    /// `(position + 1) / 2`, rounded down; tool results and a system message count.
    pub turns: usize,
    /// How many calls it makes.
    pub calls: usize,
}

/// Labels every message of the assistant.
pub fn label_messages(messages: &[Value]) -> Vec<Label> {
    (0..messages.len())
        .filter_map(|position| label(messages, position))
        .collect()
}

/// Labels the last message of the assistant, which need not be the last message.
pub fn label_last(messages: &[Value]) -> Option<Label> {
    (0..messages.len())
        .rev()
        .find_map(|position| label(messages, position))
}

fn label(messages: &[Value], position: usize) -> Option<Label> {
    let message = &messages[position];
    if role(message) != Some("assistant") {
        return None;
    }
    let calls = message
        .get("tool_calls")
        .and_then(Value::as_list)
        .map_or(0, <[Value]>::len);
    let mut tags = Vec::new();
    if message.get("content").is_some_and(python::truthy) {
        tags.push(Tag::Response);
    }
    match calls {
        0 => {}
        1 => tags.push(Tag::Single),
        _ => tags.push(Tag::Parallel),
    }
    let after_tool = position > 0 && role(&messages[position - 1]) == Some("tool");
    if after_tool && calls > 0 {
        tags.push(Tag::MultiStep);
    }
    Some(Label {
        position,
        tags,
        turns: position.div_ceil(2),
        calls,
    })
}

/// Counts tags, combinations of tags, turns and calls over all messages of the assistant, or only over those
/// that end their conversation; the summary counts all messages in either case.
pub fn report<'a>(conversations: impl IntoIterator<Item = &'a [Value]>, only_last: bool) -> Value {
    let mut report = LabelReport::new(only_last);
    for conversation in conversations {
        report.add(conversation.len(), &label_messages(conversation));
    }
    report.finish()
}

/// The counts of [`report`], taken one conversation at a time.
#[derive(Default)]
pub struct LabelReport {
    only_last: bool,
    total: usize,
    messages: usize,
    tags: Counts,
    combinations: Counts,
    turns: Counts,
    calls: Counts,
}

impl LabelReport {
    /// Starts counting.
    pub fn new(only_last: bool) -> Self {
        Self {
            only_last,
            ..Self::default()
        }
    }

    /// Counts a conversation of so many messages with the labels of [`label_messages`].
    pub fn add(&mut self, messages: usize, labels: &[Label]) {
        self.total += 1;
        self.messages += labels.len();
        for label in labels {
            if self.only_last && label.position + 1 != messages {
                continue;
            }
            let mut words: Vec<_> = label.tags.iter().map(|tag| tag.word()).collect();
            words.iter().for_each(|word| self.tags.add(word));
            words.sort_unstable();
            self.combinations.add(&words.join("+"));
            self.turns.add(&label.turns.to_string());
            self.calls.add(&label.calls.to_string());
        }
    }

    /// The report.
    pub fn finish(mut self) -> Value {
        self.combinations.0.sort_by(|_, a, _, b| b.cmp(a));
        object([
            (
                "summary",
                object([
                    ("total_conversations", int(self.total)),
                    ("total_assistant_messages", int(self.messages)),
                    ("only_stat_last_round", self.only_last.into()),
                ]),
            ),
            (
                "tag_distribution",
                self.tags.section(Some("total_tags"), "tag"),
            ),
            (
                "tag_combination_distribution",
                self.combinations
                    .section(Some("total_combinations"), "combination"),
            ),
            ("turns_distribution", self.turns.section(None, "turns")),
            (
                "tool_call_num_distribution",
                self.calls.section(None, "tool_call_num"),
            ),
        ])
    }
}

fn int(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Counts in the order of first appearance.
#[derive(Default)]
struct Counts(IndexMap<String, usize>);

impl Counts {
    fn add(&mut self, word: &str) {
        match self.0.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(word.to_owned(), 1)),
        }
    }

    fn section(&self, total_name: Option<&str>, prefix: &str) -> Value {
        let total: usize = self.0.values().sum();
        let percent = |count: usize| Value::Float(count as f64 / total as f64 * 100.0);
        let map = |value: &dyn Fn(usize) -> Value| -> Map {
            self.0
                .iter()
                .map(|(word, &count)| (word.clone(), value(count)))
                .collect()
        };
        let mut section = Map::new();
        if let Some(name) = total_name {
            section.insert(name.to_owned(), int(total));
        }
        section.insert(format!("{prefix}_counts"), map(&int).into());
        section.insert(format!("{prefix}_percentages"), map(&percent).into());
        Value::Dict(section)
    }
}
