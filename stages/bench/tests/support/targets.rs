//! What fuzzing runs: a text goes in, something is said about it, nothing panics.

use starling_bench::acebench::{
    self, Dataset, Family, Lang, MultiStep, Profile, strip_thinking, text_from_tool_calls,
};
use starling_bench::bfcl::{self, Bfcl, Category, Class, Language, convert, decode_calls, read};
use starling_text::json::{self, Value};

/// Names of the targets, each with its corpus.
pub(crate) const TARGETS: [(&str, &str); 5] = [
    ("bfcl-answers", include_str!("../corpus/bfcl-answers.jsonl")),
    (
        "bfcl-prompted",
        include_str!("../corpus/bfcl-prompted.jsonl"),
    ),
    ("bfcl-calls", include_str!("../corpus/bfcl-calls.jsonl")),
    (
        "bfcl-literals",
        include_str!("../corpus/bfcl-literals.jsonl"),
    ),
    (
        "acebench-outputs",
        include_str!("../corpus/acebench-outputs.jsonl"),
    ),
];

/// The texts of a corpus: a JSON string a line.
pub(crate) fn corpus(lines: &str) -> Vec<String> {
    let text = |line: &str| match json::parse(line).expect("a line of JSON") {
        Value::Str(text) => text,
        other => panic!("a corpus holds texts, not {other:?}"),
    };
    lines.lines().map(text).collect()
}

/// Both benchmarks, read once.
pub(crate) struct World {
    bfcl: Bfcl,
    /// The same in prompting mode.
    prompted: Bfcl,
    acebench: Vec<Dataset>,
}

impl World {
    pub(crate) fn new() -> Self {
        let data = |profile| Dataset::embedded(Lang::En, profile).expect("embedded data");
        Self {
            bfcl: Bfcl::embedded().expect("embedded data"),
            prompted: Bfcl::embedded()
                .expect("embedded data")
                .in_mode(bfcl::Mode::Prompting),
            acebench: Profile::ALL.map(data).into(),
        }
    }

    /// Runs a target on a text; the answer is a number that depends on every verdict.
    pub(crate) fn run(&self, target: &str, text: &str) -> usize {
        match target {
            "bfcl-answers" => answers(&self.bfcl, text),
            "bfcl-prompted" => answers(&self.prompted, text),
            "bfcl-calls" => self.calls(text),
            "bfcl-literals" => literals(text),
            "acebench-outputs" => self.outputs(text),
            other => panic!("no target `{other}`"),
        }
    }

    fn calls(&self, text: &str) -> usize {
        let mut length = 0;
        for class in Class::ALL {
            let mut sandbox = self
                .bfcl
                .sandbox(*class, &Value::Null, text.len().is_multiple_of(2))
                .expect("an instance");
            for call in text.split('\n') {
                length += sandbox.execute(call).len();
            }
            length += sandbox.state_digest().len();
        }
        length
    }

    fn outputs(&self, text: &str) -> usize {
        let mut valid = 0;
        let rewritten = text_from_tool_calls(text);
        for data in &self.acebench {
            for category in acebench::Category::ALL {
                let item = data
                    .category(category)
                    .nth(text.len() % 20)
                    .expect("an entry");
                if category.family() == Family::Agent {
                    if let Ok(mut step) = MultiStep::new(data, item) {
                        step.respond(text);
                        valid += usize::from(step.score().end);
                    }
                    continue;
                }
                valid += usize::from(data.check(item, text).valid());
                valid += usize::from(data.check(item, strip_thinking(text)).valid());
                if let Some(rewritten) = &rewritten {
                    valid += usize::from(data.check(item, rewritten).valid());
                }
            }
        }
        valid
    }
}

fn answers(bfcl: &Bfcl, text: &str) -> usize {
    let completion = read(text);
    let mut valid = decode_calls(text).map_or(1, |calls| calls.len());
    for category in Category::ALL {
        let items = bfcl.items(category).expect("data");
        let Some(item) = items.get(text.len() % items.len()) else {
            continue;
        };
        let verdict = match item.scenario() {
            None => bfcl.check(item, completion.cleaned),
            Some(_) => {
                let turns = vec![vec![completion.cleaned.to_owned()]; item.answers().len()];
                bfcl.check_turns(item, &turns)
            }
        };
        valid += usize::from(verdict.is_valid());
    }
    valid
}

fn literals(text: &str) -> usize {
    let types = [
        "integer",
        "long",
        "float",
        "String",
        "Boolean",
        "array",
        "dict",
        "ArrayList",
        "HashMap",
        "Array",
        "any",
    ];
    let mut read = 0;
    for language in [Language::Java, Language::JavaScript] {
        for declared in types {
            for element in [None, Some("String"), Some("integer"), Some("char")] {
                let found: Result<Value, bfcl::Raised> = convert(language, text, declared, element);
                read += usize::from(found.is_ok());
            }
        }
    }
    read
}
