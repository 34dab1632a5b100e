//! Mutated inputs for every parser of what models and corpora write: tools, calls, labels, templates, raw rows.
//! An answer or an error is right; a panic is not.
//!
//! What once failed is added to `tests/corpus`. Ten million inputs:
//! `STARLING_FUZZ=10000000 cargo test --release -p starling-reward --test fuzz -- --nocapture`.
#![expect(clippy::print_stdout, reason = "how many were tried, and how fast")]
#![expect(clippy::float_cmp, reason = "a bad format is exactly -1")]

#[path = "support/driver.rs"]
mod driver;

use std::path::Path;

use starling_reward::prepare::{
    self, Corpus, ThinkFormat, format_row, judge_answer, reads_back, self_reward, train_row,
    written,
};
use starling_reward::rouge::{Words, text_similarity};
use starling_reward::toolrl::toolrl;
use starling_reward::{
    CallFormat, Label, Mode, ToolSet, explain, generation_of, score_as, split_thought,
};
use starling_text::json::{self, Value};
use starling_text::pycall;
use starling_text::template::{ChatTemplate, Options};

const MODES: [Mode; 3] = [Mode::Faithful, Mode::Fixed, Mode::Unicode];
const FORMATS: [CallFormat; 3] = [CallFormat::Hermes, CallFormat::Json, CallFormat::Pythonic];

struct Targets {
    tools: ToolSet,
    label: Label,
    template: ChatTemplate,
}

impl Targets {
    fn new() -> Self {
        let prompt = "<tools>\n{\"name\": \"f\", \"parameters\": {\"a\": {}, \"b\": {}}}\n</tools>";
        let label =
            "</think><tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"x y\"}}</tool_call>";
        Self {
            tools: ToolSet::from_prompt(prompt, Mode::Fixed).expect("tools"),
            label: Label::parse(label, Mode::Fixed).expect("a label"),
            template: ChatTemplate::qwen3(),
        }
    }

    fn run(&self, name: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        match name {
            "tools" => {
                for mode in MODES {
                    drop(ToolSet::from_prompt(&text, mode));
                    if let Ok(value) = json::parse(&text) {
                        drop(ToolSet::unwrapped(&value, mode));
                    }
                }
            }
            "calls" => {
                drop(pycall::parse(&text));
                for format in FORMATS {
                    if let Ok(answer) = format.parse(&text) {
                        drop(format.render(answer.calls()));
                    }
                }
            }
            "label" => self.label(&text),
            "template" => {
                if let Ok(template) = ChatTemplate::from_source(&text) {
                    let message = json::parse("{\"role\": \"user\", \"content\": \"a</think>b\"}");
                    let messages = [message.expect("JSON")];
                    drop(template.render(&messages, None, &Options::prompt()));
                }
            }
            _ => self.raw(&text),
        }
    }

    fn label(&self, text: &str) {
        let _thought = split_thought(text);
        let _rest = generation_of(text);
        drop(toolrl(text, text));
        drop(judge_answer(&self.tools, text, Mode::Fixed));
        for words in [Words::Ascii, Words::AnyScript] {
            let alike = text_similarity(text, "The weather of 东京 was dying", words);
            assert!((0.0..=1.0).contains(&alike), "{alike}");
        }
        for mode in MODES {
            for format in FORMATS {
                let outcome = score_as(&self.tools, &self.label, text, format, mode);
                assert!(outcome.reward == -1.0 || (0.0..=1.0).contains(&outcome.reward));
                drop(explain(&self.label, &outcome, mode.into()));
                if let Ok(label) = Label::parse_as(text, format, mode) {
                    let outcome = score_as(&self.tools, &label, text, format, mode);
                    drop(explain(&label, &outcome, mode.into()));
                }
            }
        }
    }

    fn raw(&self, text: &str) {
        let Ok(row) = json::parse(text) else { return };
        let corpora = [
            Corpus::Xlam,
            Corpus::ToolMind,
            Corpus::ToolAce,
            Corpus::Hammer,
        ];
        for mode in [Mode::Faithful, Mode::Fixed] {
            for corpus in corpora {
                for row in format_row(corpus, &row, 3, 2, mode).rows {
                    self.prepared(&row, mode);
                }
            }
        }
        self.prepared(&row, Mode::Fixed);
    }

    fn prepared(&self, row: &Value, mode: Mode) {
        drop(self_reward(row, &self.template, mode));
        let messages = row
            .get("messages")
            .and_then(Value::as_list)
            .unwrap_or_default();
        drop(prepare::label_messages(messages));
        prepare::estimate_tokens(messages, row.get("tools"));
        for format in FORMATS {
            let Ok(text) = written(row, format) else {
                continue;
            };
            let trained = train_row(&text, &self.template, ThinkFormat::Native, true, mode);
            if let Ok(trained) = trained {
                drop(reads_back(row, &trained, format));
            }
        }
    }
}

#[test]
fn strangers_text_never_panics() {
    let targets = Targets::new();
    let names = ["tools", "calls", "label", "template", "raw"].map(|name| (name, Vec::new()));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    driver::drive(&corpus, &names, |name, bytes, _| targets.run(name, bytes));
}
