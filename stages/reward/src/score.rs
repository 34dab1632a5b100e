//! The Sim-RL reward of one generation.
//!
//! `R = (F - 1) + F · A`: -1 for bad format, else the answer's score in [0, 1]. Calls are scored by
//! intersection over union under a greedy matching, replies by ROUGE-L.

use starling_text::json::Value;
use starling_text::python;
use thiserror::Error;

use crate::call::{Answer, Call, CallError, CallFormat, find_tag, split_thought};
use crate::rouge::{Words, text_similarity};
use crate::similarity::arguments_similarity;
use crate::tools::ToolSet;
use crate::{END_OF_TURN, Mode};

const HEADER: &str = "<|im_start|>assistant\n";

/// Why a label can be no label.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LabelError {
    /// It holds `</think>` more or less than once.
    #[error("the label holds `</think>` {0} times, not once")]
    Thoughts(usize),
    /// One of its calls cannot be read.
    #[error("the label's calls cannot be read: {0}")]
    Call(#[from] CallError),
    /// It opens a call that it does not close.
    #[error("the label opens a call and does not close it")]
    Unclosed,
    /// It has neither calls nor a reply, so no answer could match it.
    #[error("the label is empty")]
    Empty,
    /// A call's name is not text.
    #[error("a call of the label has a name that is not text")]
    Name,
    /// A call's arguments are not an object.
    #[error("a call of the label has arguments that are not an object")]
    Arguments,
}

/// What the model should have answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    answer: Answer,
}

impl Label {
    /// Reads a label: `…</think>` and the answer. The faithful mode takes every label that the released
    /// program takes, even where it would then fail to score; the others refuse what nothing can match.
    ///
    /// # Errors
    /// [`LabelError`]; such a row is a mistake of the data and must not be trained on.
    pub fn parse(text: &str, mode: Mode) -> Result<Self, LabelError> {
        Self::parse_as(text, CallFormat::Hermes, mode)
    }

    /// As [`Label::parse`], with calls in another format.
    ///
    /// # Errors
    /// [`LabelError`].
    pub fn parse_as(text: &str, format: CallFormat, mode: Mode) -> Result<Self, LabelError> {
        const CLOSE: &str = "</think>";
        let at = find_tag(text, 0, CLOSE).ok_or(LabelError::Thoughts(0))?;
        let answer = &text[at + CLOSE.len()..];
        if find_tag(answer, 0, CLOSE).is_some() {
            return Err(LabelError::Thoughts(text.matches("</think>").count()));
        }
        let answer = read_answer(answer, format, mode)?;
        if !mode.is_faithful() {
            refuse_unmatchable(&answer)?;
        }
        Ok(Self { answer })
    }

    /// A label made of calls.
    pub fn from_calls(calls: Vec<Call>) -> Self {
        Self {
            answer: Answer::Calls {
                calls,
                unclosed: false,
            },
        }
    }

    /// What the label says.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }
}

fn refuse_unmatchable(answer: &Answer) -> Result<(), LabelError> {
    match answer {
        Answer::Unclosed | Answer::Calls { unclosed: true, .. } => Err(LabelError::Unclosed),
        Answer::Reply(text) if text.is_empty() => Err(LabelError::Empty),
        Answer::Calls { calls, .. } if calls.iter().any(|call| call.name.as_str().is_none()) => {
            Err(LabelError::Name)
        }
        Answer::Calls { calls, .. } if calls.iter().any(|c| c.arguments.as_dict().is_none()) => {
            Err(LabelError::Arguments)
        }
        Answer::Calls { .. } | Answer::Reply(_) => Ok(()),
    }
}

/// Reads an answer; the end-of-turn mark is part of a reply in the faithful mode alone.
fn read_answer(text: &str, format: CallFormat, mode: Mode) -> Result<Answer, CallError> {
    let mut text = python::strip(text);
    if !mode.is_faithful() {
        text = text.strip_suffix(END_OF_TURN).unwrap_or(text);
    }
    format.parse(text)
}

/// The rule by which a generation lost everything.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// Bad format: not exactly one thought.
    #[error("{0} thoughts instead of one")]
    Thoughts(usize),
    /// Bad format: a call cannot be read.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Bad format, unless faithful: a call is opened and not closed.
    #[error("a call is opened and not closed")]
    UnclosedCall,
    /// Bad format: a call names no tool of the prompt.
    #[error("no tool is called `{0}`")]
    UnknownTool(String),
    /// Bad format: an argument that the tool does not have.
    #[error("tool `{tool}` has no parameter `{argument}`")]
    UnknownArgument {
        /// The tool.
        tool: String,
        /// The argument.
        argument: String,
    },
    /// Bad format: arguments that are not an object.
    #[error("the arguments of `{0}` are not an object")]
    Arguments(String),
    /// Bad format: the generation and the label cannot be compared, which stops the released program.
    #[error("the generation and the label cannot be compared")]
    Unscorable,
    /// Good format, score 0: the label holds calls, the generation none.
    #[error("no call where calls were expected")]
    NoCalls,
    /// Good format, score 0: the label is a reply, the generation has none.
    #[error("no reply where one was expected")]
    NoReply,
}

impl Fault {
    /// A word for the rule, for reports and for counting.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Thoughts(_) => "thoughts",
            Self::Call(_) => "unreadable-call",
            Self::UnclosedCall => "unclosed-call",
            Self::UnknownTool(_) => "unknown-tool",
            Self::UnknownArgument { .. } => "unknown-argument",
            Self::Arguments(_) => "arguments",
            Self::Unscorable => "unscorable",
            Self::NoCalls => "no-calls",
            Self::NoReply => "no-reply",
        }
    }

    /// Whether the fault makes the format bad.
    pub fn is_format(&self) -> bool {
        !matches!(self, Self::NoCalls | Self::NoReply)
    }
}

/// A generated call and the label's call it was matched with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Position among the generated calls.
    pub generated: usize,
    /// Position among the label's calls.
    pub label: usize,
    /// How alike their arguments are, in [0, 1].
    pub similarity: f64,
}

/// The reward of a generation, and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// -1 for bad format, else `answer_reward`.
    pub reward: f64,
    /// -1 or 1.
    pub format_reward: f64,
    /// In [0, 1]; 0 for bad format.
    pub answer_reward: f64,
    /// The rule that cost everything, if one did.
    pub why: Option<Fault>,
    /// The generated calls, as far as they could be read.
    pub calls: Vec<Call>,
    /// The generated reply, where one was compared.
    pub reply: Option<String>,
    /// Which generated call answers which call of the label, in the order of the generation.
    pub alignment: Vec<Match>,
}

/// What follows the last assistant header of a text that is prompt and generation in one.
pub fn generation_of(query: &str) -> &str {
    let mut rest = query;
    while let Some(at) = find_tag(rest, 0, HEADER) {
        rest = &rest[at + HEADER.len()..];
    }
    rest
}

/// Scores a generation, special tokens included, `<think>` included even when the prompt ended in it.
pub fn score(tools: &ToolSet, label: &Label, generation: &str, mode: Mode) -> Outcome {
    score_as(tools, label, generation, CallFormat::Hermes, mode)
}

/// As [`score`], for generations that write calls in another format.
pub fn score_as(
    tools: &ToolSet,
    label: &Label,
    generation: &str,
    format: CallFormat,
    mode: Mode,
) -> Outcome {
    let answer = match read_generation(tools, generation, format, mode) {
        Ok(answer) => answer,
        Err((fault, answer)) => return bad_format(fault, answer),
    };
    score_answer(label, answer, Words::from(mode))
}

/// Scores an answer of good format.
fn score_answer(label: &Label, answer: Answer, words: Words) -> Outcome {
    match (&label.answer, answer) {
        (Answer::Calls { .. }, answer) if answer.calls().is_empty() => shortfall(Fault::NoCalls),
        (
            Answer::Calls {
                calls: expected, ..
            },
            answer,
        ) => score_calls(answer, expected, words),
        (Answer::Reply(expected), Answer::Reply(reply)) if !reply.is_empty() => {
            let similarity = text_similarity(&reply, expected, words);
            Outcome {
                reply: Some(reply),
                ..good_format(similarity, Vec::new(), Vec::new())
            }
        }
        (Answer::Unclosed, Answer::Reply(reply)) if !reply.is_empty() => {
            bad_format(Fault::Unscorable, Answer::Unclosed)
        }
        (Answer::Reply(_) | Answer::Unclosed, answer) => Outcome {
            calls: into_calls(answer),
            ..shortfall(Fault::NoReply)
        },
    }
}

/// Reads and checks a generation; on a fault, what could be read comes back with it.
pub(crate) fn read_generation(
    tools: &ToolSet,
    generation: &str,
    format: CallFormat,
    mode: Mode,
) -> Result<Answer, (Fault, Answer)> {
    let fail = |fault| (fault, Answer::Unclosed);
    let generation = generation_of(generation);
    let (_, answer) = split_thought(generation).map_err(|spans| fail(Fault::Thoughts(spans)))?;
    let answer = read_answer(answer, format, mode).map_err(|error| fail(error.into()))?;
    match validate(tools, &answer, mode) {
        Ok(()) => Ok(answer),
        Err(fault) => Err((fault, answer)),
    }
}

fn validate(tools: &ToolSet, answer: &Answer, mode: Mode) -> Result<(), Fault> {
    if !mode.is_faithful()
        && matches!(
            answer,
            Answer::Unclosed | Answer::Calls { unclosed: true, .. }
        )
    {
        return Err(Fault::UnclosedCall);
    }
    for Call { name, arguments } in answer.calls() {
        let tool = || python::str(name).into_owned();
        let parameters = tools
            .get_value(name)
            .ok_or_else(|| Fault::UnknownTool(tool()))?;
        let unknown = |argument: String| {
            Err(Fault::UnknownArgument {
                tool: tool(),
                argument,
            })
        };
        match arguments {
            Value::Dict(map) => {
                if let Some(name) = map.keys().find(|name| !parameters.contains(name)) {
                    return unknown(name.clone());
                }
            }
            // The released program walks over the elements or characters as if they were names.
            Value::List(items) if mode.is_faithful() => {
                let known = |item: &&Value| parameters.contains_value(item) != Some(true);
                if let Some(item) = items.iter().find(known) {
                    return unknown(python::str(item).into_owned());
                }
            }
            Value::Str(text) if mode.is_faithful() => {
                let known = |c: &char| !parameters.contains(c.encode_utf8(&mut [0; 4]));
                if let Some(c) = text.chars().find(known) {
                    return unknown(c.into());
                }
            }
            _ => return Err(Fault::Arguments(tool())),
        }
    }
    Ok(())
}

/// Intersection over union: each generated call takes the likest of the label's calls that are left under its
/// name, the first of equals, even when nothing is alike.
fn score_calls(answer: Answer, expected: &[Call], words: Words) -> Outcome {
    let mut free: Vec<bool> = vec![true; expected.len()];
    let mut alignment = Vec::new();
    let mut sum = 0.0;
    let unscorable_label = |call: &Call| matches!(call.name, Value::List(_) | Value::Dict(_));
    if expected.iter().any(unscorable_label) {
        return bad_format(Fault::Unscorable, answer);
    }
    for (generated, call) in answer.calls().iter().enumerate() {
        let mut best: Option<Match> = None;
        for (label, other) in expected.iter().enumerate() {
            if !free[label] || !python::eq(&call.name, &other.name) {
                continue;
            }
            let Ok(similarity) = arguments_similarity(&call.arguments, &other.arguments, words)
            else {
                return bad_format(Fault::Unscorable, answer);
            };
            if best.is_none_or(|best| similarity > best.similarity) {
                best = Some(Match {
                    generated,
                    label,
                    similarity,
                });
            }
        }
        if let Some(found) = best {
            free[found.label] = false;
            sum += found.similarity;
            alignment.push(found);
        }
    }
    let calls = into_calls(answer);
    let union = calls.len() + expected.len() - alignment.len();
    let score = if union == 0 { 1.0 } else { sum / union as f64 };
    good_format(score, calls, alignment)
}

fn into_calls(answer: Answer) -> Vec<Call> {
    match answer {
        Answer::Calls { calls, .. } => calls,
        Answer::Reply(_) | Answer::Unclosed => Vec::new(),
    }
}

fn good_format(score: f64, calls: Vec<Call>, alignment: Vec<Match>) -> Outcome {
    Outcome {
        reward: score,
        format_reward: 1.0,
        answer_reward: score,
        why: None,
        calls,
        reply: None,
        alignment,
    }
}

fn shortfall(fault: Fault) -> Outcome {
    Outcome {
        why: Some(fault),
        ..good_format(0.0, Vec::new(), Vec::new())
    }
}

fn bad_format(fault: Fault, answer: Answer) -> Outcome {
    Outcome {
        reward: -1.0,
        format_reward: -1.0,
        answer_reward: 0.0,
        why: Some(fault),
        calls: into_calls(answer),
        reply: None,
        alignment: Vec::new(),
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the expected numbers are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROMPT: &str =
        "<tools>\n{\"name\": \"f\", \"parameters\": {\"a\": {}, \"b\": {}}}\n</tools>";

    fn reward(label: &str, generation: &str, mode: Mode) -> (f64, Option<Fault>) {
        let tools = ToolSet::from_prompt(PROMPT, mode).expect("tools");
        let label = Label::parse(label, mode).expect(label);
        let outcome = score(&tools, &label, generation, mode);
        (outcome.reward, outcome.why)
    }

    #[test]
    fn the_end_mark_earns_nothing_unless_faithful() {
        let (label, blank) = ("</think>OK<|im_end|>\n", "<think>t</think><|im_end|>");
        assert_eq!(reward(label, blank, Mode::Faithful).0, 0.8);
        assert_eq!(
            reward(label, blank, Mode::Fixed),
            (0.0, Some(Fault::NoReply))
        );
        assert_eq!(
            reward(label, "<think>t</think>ok", Mode::Fixed),
            (1.0, None)
        );
        assert_eq!(
            Label::parse("</think><|im_end|>", Mode::Fixed),
            Err(LabelError::Empty)
        );
    }

    #[test]
    fn an_unclosed_call_is_bad_format_unless_faithful() {
        let label = r#"</think><tool_call>{"name": "f", "arguments": {}}</tool_call>"#;
        let generation = "<think>t</think><tool_call>{";
        assert_eq!(
            reward(label, generation, Mode::Faithful),
            (0.0, Some(Fault::NoCalls))
        );
        assert_eq!(
            reward(label, generation, Mode::Fixed),
            (-1.0, Some(Fault::UnclosedCall))
        );
        assert_eq!(
            Label::parse("</think><tool_call>{", Mode::Fixed),
            Err(LabelError::Unclosed)
        );
    }

    #[test]
    fn arguments_that_are_no_object_are_bad_format_unless_faithful() {
        let label = r#"</think><tool_call>{"name": "f", "arguments": {}}</tool_call>"#;
        let generation = r#"<think>t</think><tool_call>{"name": "f", "arguments": []}</tool_call>"#;
        assert_eq!(reward(label, generation, Mode::Faithful), (1.0, None));
        assert_eq!(
            reward(label, generation, Mode::Fixed),
            (-1.0, Some(Fault::Arguments("f".into())))
        );
    }

    #[test]
    fn matching_is_greedy_and_tells_who_met_whom() {
        let call = |a: &str| {
            format!("<tool_call>{{\"name\": \"f\", \"arguments\": {{\"a\": \"{a}\"}}}}</tool_call>")
        };
        let label = format!("</think>{}{}", call("one two"), call("one"));
        let generation = format!("<think></think>{}{}", call("one"), call("zero"));
        let tools = ToolSet::from_prompt(PROMPT, Mode::Fixed).expect("tools");
        let label = Label::parse(&label, Mode::Fixed).expect("label");
        let outcome = score(&tools, &label, &generation, Mode::Fixed);
        let pairs: Vec<_> = outcome
            .alignment
            .iter()
            .map(|m| (m.generated, m.label, m.similarity))
            .collect();
        assert_eq!(pairs, [(0, 1, 1.0), (1, 0, 0.0)]);
        assert_eq!(outcome.reward, 0.5);
        let unknown =
            "<think></think><tool_call>{\"name\": \"f\", \"arguments\": {\"c\": 1}}</tool_call>";
        let fault = Fault::UnknownArgument {
            tool: "f".into(),
            argument: "c".into(),
        };
        assert_eq!(score(&tools, &label, unknown, Mode::Fixed).why, Some(fault));
    }

    proptest! {
        #[test]
        fn rewards_stay_in_range(
            label in r#"(</think>|<tool_call>|</tool_call>|\{"name": "f", "arguments": (\{"a": "x y"\}|\[\]|"")\}|ok|<\|im_end\|>){0,8}"#,
            generation in r#"<think>(</think>|<tool_call>|</tool_call>|\{"name": "f", "arguments": (\{"a": "x"\}|\["a"\]|"a"|null)\}|ok|<\|im_end\|>){0,8}"#,
        ) {
            for mode in [Mode::Faithful, Mode::Fixed, Mode::Unicode] {
                let tools = ToolSet::from_prompt(PROMPT, mode).expect("tools");
                let Ok(label) = Label::parse(&label, mode) else { continue };
                let outcome = score(&tools, &label, &generation, mode);
                prop_assert!(outcome.reward == -1.0 || (0.0..=1.0).contains(&outcome.reward));
                prop_assert_eq!(outcome.reward == -1.0, outcome.format_reward == -1.0);
                prop_assert!(outcome.answer_reward >= 0.0);
            }
        }
    }
}
