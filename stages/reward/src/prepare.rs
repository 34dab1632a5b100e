//! Preparation of training data: from four raw corpora to rows of prompt and target.
//!
//! The unified row is `{id, messages: [{role, content, tool_calls?, reasoning_content?}], tools}`, a call
//! `{name, arguments}`. The way is: format, filter by the row's own reward, label, sample by proportion,
//! convert; and, for distillation, rows from a teacher's answers. Each step is a pure function over JSON
//! values and counts what it drops, by reason. With [`Mode::Faithful`] the rows are those of the released
//! scripts, except that a row which stops them is dropped with a reason; the other modes mend their faults.
//!
//! [`Mode::Faithful`]: crate::Mode::Faithful

mod filter;
mod format;
mod labels;
mod proportion;
mod python_random;
mod rollout;
mod toolace;
mod toolmind;
mod trainset;
mod written;

use std::collections::BTreeMap;

use starling_text::json::{self, Map, Value};
use thiserror::Error;

pub use filter::{KEEP_ABOVE, self_reward};
pub use format::{Corpus, Formatted, Formatter, format_row};
pub use labels::{Label, LabelReport, Tag, label_last, label_messages, report};
pub use proportion::{
    Categories, MinCounts, PassedOver, Proportions, Selection, Traits, Walk, estimate_tokens,
    select,
};
pub use python_random::PythonRandom;
pub use rollout::{
    Answered, RolledOut, answer_rows, answers_needed, judge_answer, roll_out, rollout_prompt,
};
pub use trainset::{ThinkFormat, TrainRow, last_alone, prompt, train_row};
pub use written::{reads_back, written};

/// Why a row, or a turn of it, is dropped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum DropReason {
    /// The row is not an object.
    #[error("the row is not an object")]
    NotAnObject,
    /// A key is absent.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A text that should be JSON is not.
    #[error("`{0}` is not JSON")]
    NotJson(&'static str),
    /// A value has another type than the format says.
    #[error("`{0}` has the wrong type")]
    WrongType(&'static str),
    /// The assistant's content holds another number of thoughts than one.
    #[error("an answer holds a broken thought, or several")]
    Thoughts,
    /// A message has a role that the corpus should not have.
    #[error("a message has an unknown role")]
    UnknownRole,
    /// A message of the assistant has neither content nor calls, or a user's message is empty.
    #[error("a message is empty")]
    EmptyMessage,
    /// A call names no tool of the row.
    #[error("a call names an unknown tool")]
    UnknownTool,
    /// A call has an argument that its tool does not have.
    #[error("a call has an unknown argument")]
    UnknownArgument,
    /// The query is to be answered with calls and has none.
    #[error("there are no answers")]
    NoAnswers,
    /// There is no message, so nothing to learn.
    #[error("there are no messages")]
    NoMessages,
    /// The last message is not the assistant's.
    #[error("the last message is not the assistant's")]
    NotAssistant,
    /// The template cannot render the prompt.
    #[error("the prompt cannot be rendered")]
    PromptRender,
    /// The template cannot render the last message.
    #[error("the last message cannot be rendered")]
    TargetRender,
    /// The tools of the prompt cannot be read back.
    #[error("the tools of the prompt cannot be read back")]
    Tools,
    /// The last message is no label.
    #[error(
        "the last message does not read as calls or a reply: arguments that are no JSON, or a stray tag"
    )]
    Label,
    /// Given its own target as the answer, the row earns too little.
    #[error("the row's own target does not earn the full reward")]
    OwnReward,
}

/// What was changed in a row that stays, besides its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Change {
    /// A call named no tool exactly and was given to the first whose name contains its name.
    #[error("a call was given to the tool whose name contains the one it had")]
    ToolRenamed,
    /// Several turns of calls, one after the other, became one.
    #[error("turns of calls were merged into one")]
    TurnsMerged,
    /// A tool held its parameters under `arguments`.
    #[error("a tool's `arguments` became its `parameters`")]
    ParametersRenamed,
}

/// How often each reason applied.
pub type Drops = BTreeMap<DropReason, usize>;

/// Takes a key of an object.
pub(crate) fn take<'a>(map: &'a Map, key: &'static str) -> Result<&'a Value, DropReason> {
    map.get(key).ok_or(DropReason::Missing(key))
}

/// Takes a key that holds JSON, or text that is JSON.
pub(crate) fn take_parsed(map: &Map, key: &'static str) -> Result<Value, DropReason> {
    match take(map, key)? {
        Value::Str(text) => json::parse(text).map_err(|_| DropReason::NotJson(key)),
        value => Ok(value.clone()),
    }
}

pub(crate) fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Dict(
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

pub(crate) fn role(message: &Value) -> Option<&str> {
    message.get("role").and_then(Value::as_str)
}

/// The messages of a unified row.
pub(crate) fn messages(row: &Value) -> Result<&[Value], DropReason> {
    let messages = row.get("messages").ok_or(DropReason::Missing("messages"))?;
    messages.as_list().ok_or(DropReason::WrongType("messages"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use starling_text::template::ChatTemplate;

    use super::*;
    use crate::Mode;

    const MODES: [Mode; 3] = [Mode::Faithful, Mode::Fixed, Mode::Unicode];

    fn value(text: &str) -> Value {
        json::parse(text).expect(text)
    }

    fn format(corpus: Corpus, raw: &str, mode: Mode) -> Result<Vec<String>, DropReason> {
        let mut formatter = Formatter::new(corpus, mode);
        let rows = formatter.push(&value(raw));
        match formatter.drops().keys().next() {
            Some(reason) => Err(reason.clone()),
            None => Ok(rows.iter().map(json::dumps).collect()),
        }
    }

    fn kept(row: &str, mode: Mode) -> Result<f64, DropReason> {
        self_reward(&value(row), &ChatTemplate::qwen3(), mode).map_err(|(reason, _)| reason)
    }

    #[test]
    fn a_query_without_answers_is_dropped_unless_faithful() {
        let raw = r#"{"id": 1, "query": "q", "tools": [], "answers": "[]"}"#;
        assert!(format(Corpus::Xlam, raw, Mode::Faithful).is_ok());
        assert_eq!(
            format(Corpus::Xlam, raw, Mode::Fixed),
            Err(DropReason::NoAnswers)
        );
    }

    #[test]
    fn either_broken_tag_is_a_broken_thought_unless_faithful() {
        for content in [
            "<think>a<think>b</think>c",
            "<think>a</think>b</think>c",
            "a</think>c",
        ] {
            let raw = format!(
                r#"{{"conversations": [{{"role": "assistant", "content": "{content}"}}], "tools": []}}"#
            );
            assert!(format(Corpus::ToolMind, &raw, Mode::Faithful).is_ok());
            assert_eq!(
                format(Corpus::ToolMind, &raw, Mode::Fixed),
                Err(DropReason::Thoughts)
            );
        }
    }

    #[test]
    fn a_skipped_call_ends_the_conversation_unless_faithful() {
        let raw = r#"{"tools": [{"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}],
            "conversations": [{"role": "user", "content": "q"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
            {"role": "tool", "content": "r"}, {"role": "assistant", "content": "done"}]}"#;
        let mut faithful = Formatter::new(Corpus::ToolAce, Mode::Faithful);
        assert_eq!(faithful.push(&value(raw)).len(), 1);
        assert_eq!(faithful.drops().get(&DropReason::UnknownArgument), Some(&1));
        let mut fixed = Formatter::new(Corpus::ToolAce, Mode::Fixed);
        assert_eq!(fixed.push(&value(raw)).len(), 2);
        let unknown = raw.replace("\\\"a\\\"", "\\\"b\\\"");
        assert_eq!(fixed.push(&value(&unknown)).len(), 0);
    }

    #[test]
    fn the_filter_wants_an_answer_of_the_assistant_unless_faithful() {
        let user = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "tools": []}"#;
        assert!(kept(user, Mode::Faithful).is_ok());
        assert_eq!(kept(user, Mode::Fixed), Err(DropReason::NotAssistant));
        let empty = user.replace(r#""user", "content": "b""#, r#""assistant", "content": """#);
        assert!(kept(&empty, Mode::Faithful).is_ok());
        assert_eq!(kept(&empty, Mode::Fixed), Err(DropReason::Label));
    }

    #[test]
    fn wrapped_tools_pass_the_filter_unless_faithful() {
        let row = r#"{"messages": [{"role": "user", "content": "a"},
            {"role": "assistant", "content": null, "tool_calls": [{"name": "f", "arguments": {}}]}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}"#;
        assert_eq!(kept(row, Mode::Faithful), Err(DropReason::Tools));
        assert_eq!(kept(row, Mode::Fixed), Ok(1.0));
    }

    #[test]
    fn native_targets_are_laid_out_as_the_template_lays_them_out() {
        let row = value(
            r#"{"id": "x", "messages": [{"role": "user", "content": "q"},
            {"role": "assistant", "content": "\n\na", "reasoning_content": "\nwhy\n"}], "tools": []}"#,
        );
        let template = ChatTemplate::qwen3();
        let whole = template.render(
            messages(&row).expect("messages"),
            row.get("tools"),
            &Default::default(),
        );
        let convert = |format, reasoning, mode| {
            train_row(&row, &template, format, reasoning, mode).expect("row")
        };
        let native = convert(ThinkFormat::Native, true, Mode::Faithful);
        assert_eq!(
            whole.expect("rendered"),
            format!("{}{}", native.inputs, native.targets)
        );
        let empty = convert(ThinkFormat::Native, false, Mode::Fixed);
        assert_eq!(empty.targets, "<think>\n\n</think>\n\na<|im_end|>");
        let star = convert(ThinkFormat::Star, true, Mode::Fixed);
        assert!(star.inputs.ends_with("<|im_start|>assistant\n<think>"));
        assert_eq!(star.targets, "\nwhy\n</think>\n\na<|im_end|>");
    }

    #[test]
    fn rows_of_a_teacher_have_ids_of_their_own_unless_faithful() {
        let seed = value(
            r#"{"id": "s", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
            "tools": [{"name": "f", "parameters": {"a": {}}}]}"#,
        );
        let call = |a: u8| {
            format!("<tool_call>{{\"name\": \"f\", \"arguments\": {{\"a\": {a}}}}}</tool_call>")
        };
        let texts = [
            format!("t</think>{}{}", call(1), call(2)),
            format!("<think>t</think>{}{}", call(2), call(1)),
            "<think>t</think><tool_call>{".to_owned(),
            "<think>t</think> b ".to_owned(),
        ];
        let ids = |mode| -> Vec<String> {
            let rows = answer_rows(&seed, &texts, mode).expect("answers").rows;
            rows.iter()
                .map(|row| json::dumps(row.get("id").expect("an id")))
                .collect()
        };
        assert_eq!(ids(Mode::Faithful), ["\"s\"", "\"s\"", "\"s\""]);
        assert_eq!(ids(Mode::Fixed), ["\"s#0\"", "\"s#1\""]);
    }

    fn odd_value() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            Just("user"),
            Just("assistant"),
            Just("tool"),
            Just("f"),
            Just(""),
            Just("<think>a</think>b"),
            Just("<tool_call>{}</tool_call>"),
            Just("[]"),
            Just("{\"a\": 1}"),
            Just("[{\"name\": \"f\", \"arguments\": {}}]"),
        ];
        let key = prop_oneof![
            Just("id"),
            Just("role"),
            Just("content"),
            Just("tool_calls"),
            Just("name"),
            Just("parameters"),
            Just("arguments"),
            Just("function"),
            Just("messages"),
            Just("conversations"),
            Just("tools"),
            Just("functions"),
            Just("query"),
            Just("answers"),
            Just("reasoning_content"),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            word.prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::vec((key.clone(), inner), 0..6).prop_map(|entries| {
                    Value::Dict(
                        entries
                            .into_iter()
                            .map(|(k, v)| (k.to_owned(), v))
                            .collect(),
                    )
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn odd_rows_never_panic(messages in odd_value(), tools in odd_value(), raw in odd_value()) {
            let template = ChatTemplate::qwen3();
            let corpora = [Corpus::Xlam, Corpus::ToolMind, Corpus::ToolAce, Corpus::Hammer];
            let parts = |key: &'static str| object([
                ("id", Value::Int(1)), (key, messages.clone()), ("tools", tools.clone()),
                ("query", "q".into()), ("answers", messages.clone()),
            ]);
            for mode in MODES {
                for row in [raw.clone(), parts("messages"), parts("conversations")] {
                    for corpus in corpora {
                        let mut formatter = Formatter::new(corpus, mode);
                        for row in formatter.push(&row) {
                            drop(self_reward(&row, &template, mode));
                        }
                    }
                    drop(self_reward(&row, &template, mode));
                    drop(train_row(&row, &template, ThinkFormat::Star, true, mode));
                    drop(answer_rows(&row, &["<think>a</think>b".to_owned()], mode));
                    let all = super::messages(&row).unwrap_or_default();
                    estimate_tokens(all, row.get("tools"));
                    let all = [all];
                    report(all, true);
                    select(&all, &Proportions::new(10), |_| 0);
                }
            }
        }

        #[test]
        fn samples_are_distinct_positions(seed: u64, length in 0..300_usize, count in 0..320_usize) {
            let mut drawn = PythonRandom::new(seed).sample(length, count);
            drawn.sort_unstable();
            drawn.dedup();
            prop_assert_eq!(drawn.len(), count.min(length));
            prop_assert!(drawn.iter().all(|&position| position < length));
        }
    }
}
