//! The prompt of a function-calling Qwen model, as the benchmark's own handler writes it.
//!
//! It differs from the model's chat template: documents keep the benchmark's type names, JSON is written in ASCII, and
//! nothing switches thinking off.

use starling_text::json::Value;
use starling_text::python;

use super::document::ascii_json;
use super::output::{Completion, split_thoughts};
use super::prompting::{self, Mode};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named like the roles of chat templates")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    /// The name in chat templates.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::System, Self::User, Self::Assistant, Self::Tool]
            .into_iter()
            .find(|role| role.name() == name)
    }
}

/// A message of a dialogue.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// What the assistant thought.
    pub reasoning: String,
    /// Tool calls of the assistant: objects with `name` and `arguments`.
    pub tool_calls: Vec<Value>,
}

impl Message {
    /// A message without thoughts and tool calls.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
        }
    }

    /// The message that a completion leaves in the history in prompting mode.
    pub(super) fn prompted(completion: &Completion<'_>) -> Self {
        Self {
            reasoning: completion.reasoning.to_owned(),
            ..Self::new(Role::Assistant, completion.cleaned)
        }
    }

    /// The message that a completion leaves in the history: text beside tool calls is lost.
    pub fn assistant(completion: &Completion<'_>) -> Self {
        let content = match completion.tool_calls.is_empty() {
            true => completion.cleaned,
            false => "",
        };
        Self {
            role: Role::Assistant,
            content: content.to_owned(),
            reasoning: completion.reasoning.to_owned(),
            tool_calls: completion.tool_calls.clone(),
        }
    }
}

/// A query: what may be called and what was said.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Function documents, with their hints.
    pub documents: Vec<Value>,
    /// Messages so far.
    pub messages: Vec<Message>,
}

/// A tool call of the history is not an object with a textual name and arguments; the benchmark's handler raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadHistory;

const PREAMBLE: &str = "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
    You are provided with function signatures within <tools></tools> XML tags:\n<tools>";

const INSTRUCTION: &str = "\n</tools>\n\nFor each function call, return a json object with function name and \
    arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n\
    {\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n";

impl Prompt {
    /// The first query of a dialogue. In prompting mode the documents are in the system message, before what the data
    /// say there.
    pub(super) fn new(mode: Mode, documents: Vec<Value>, mut messages: Vec<Message>) -> Self {
        if mode == Mode::FunctionCalling {
            return Self {
                documents,
                messages,
            };
        }
        let system = prompting::system(&documents);
        match messages.first_mut().filter(|m| m.role == Role::System) {
            Some(leading) => leading.content = format!("{system}\n\n{}", leading.content),
            None => messages.insert(0, Message::new(Role::System, system)),
        }
        Self {
            documents: Vec::new(),
            messages,
        }
    }

    /// The text to complete.
    ///
    /// # Errors
    /// [`BadHistory`] where the benchmark cannot write a tool call of the history.
    pub fn text(&self) -> Result<String, BadHistory> {
        let mut out = self.system();
        let last_query = last_query(&self.messages);
        for (index, message) in self.messages.iter().enumerate() {
            let neighbour = |i: Option<usize>| i.and_then(|i| self.messages.get(i)).map(|m| m.role);
            match message.role {
                Role::System if index == 0 => {}
                Role::User | Role::System => {
                    let role = message.role.name();
                    push(
                        &mut out,
                        &["<|im_start|>", role, "\n", &message.content, "<|im_end|>\n"],
                    );
                }
                Role::Assistant => {
                    let last = index + 1 == self.messages.len();
                    assistant(&mut out, message, index > last_query, last)?;
                }
                Role::Tool => {
                    if neighbour(index.checked_sub(1)) != Some(Role::Tool) {
                        out.push_str("<|im_start|>user");
                    }
                    push(
                        &mut out,
                        &[
                            "\n<tool_response>\n",
                            &message.content,
                            "\n</tool_response>",
                        ],
                    );
                    if neighbour(Some(index + 1)) != Some(Role::Tool) {
                        out.push_str("<|im_end|>\n");
                    }
                }
            }
        }
        out.push_str("<|im_start|>assistant\n");
        Ok(out)
    }

    /// The system block: the leading system message, and the documents if there are any.
    fn system(&self) -> String {
        let mut out = String::new();
        let leading = self
            .messages
            .first()
            .filter(|message| message.role == Role::System);
        if self.documents.is_empty() {
            if let Some(message) = leading {
                push(
                    &mut out,
                    &["<|im_start|>system\n", &message.content, "<|im_end|>\n"],
                );
            }
            return out;
        }
        out.push_str("<|im_start|>system\n");
        if let Some(message) = leading {
            push(&mut out, &[&message.content, "\n\n"]);
        }
        out.push_str(PREAMBLE);
        for document in &self.documents {
            push(&mut out, &["\n", &ascii_json(document)]);
        }
        out.push_str(INSTRUCTION);
        out
    }
}

fn push(out: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| out.push_str(part));
}

/// The last user message that is no tool response, or else the last message.
fn last_query(messages: &[Message]) -> usize {
    let is_query = |message: &Message| {
        let wrapped = message.content.starts_with("<tool_response>")
            && message.content.ends_with("</tool_response>");
        message.role == Role::User && !wrapped
    };
    let last = messages.len().saturating_sub(1);
    messages.iter().rposition(is_query).unwrap_or(last)
}

fn assistant(
    out: &mut String,
    message: &Message,
    recent: bool,
    last: bool,
) -> Result<(), BadHistory> {
    let mut content = message.content.as_str();
    let mut reasoning = message.reasoning.as_str();
    if reasoning.is_empty()
        && let Some((thought, rest)) = split_thoughts(content)
    {
        (reasoning, content) = (thought, rest);
    }
    out.push_str("<|im_start|>assistant\n");
    if recent && (last || !reasoning.is_empty()) {
        let thought = reasoning.trim_matches('\n');
        push(
            out,
            &[
                "<think>\n",
                thought,
                "\n</think>\n\n",
                content.trim_start_matches('\n'),
            ],
        );
    } else {
        out.push_str(content);
    }
    for call in &message.tool_calls {
        let first = &message.tool_calls[0];
        if !content.is_empty() || !python::eq(call, first) {
            out.push('\n');
        }
        tool_call(out, call)?;
    }
    out.push_str("<|im_end|>\n");
    Ok(())
}

fn tool_call(out: &mut String, call: &Value) -> Result<(), BadHistory> {
    let call = call.get("function").unwrap_or(call);
    let name = call.get("name").and_then(Value::as_str).ok_or(BadHistory)?;
    let arguments = match call.get("arguments").ok_or(BadHistory)? {
        Value::Str(text) => text.clone(),
        arguments => ascii_json(arguments),
    };
    push(
        out,
        &[
            "<tool_call>\n{\"name\": \"",
            name,
            "\", \"arguments\": ",
            &arguments,
            "}\n</tool_call>",
        ],
    );
    Ok(())
}
