//! The queries and tools of the benchmarks' test data, by what makes two of them the same.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_bench::{acebench, bfcl};
use starling_contract::StageError;
use starling_text::json::Value;

/// A benchmark whose test data the program holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Benchmark {
    /// The Berkeley Function-Calling Leaderboard, all categories.
    Bfcl,
    /// ACEBench, English and Chinese.
    Acebench,
}

/// Benchmark and item in which something occurs first.
type Origin = (&'static str, String);

/// What the tests hold.
#[derive(Default)]
pub(super) struct Known {
    pub(super) queries: BTreeMap<String, Origin>,
    pub(super) tools: BTreeMap<String, Origin>,
    /// Digests of the data by benchmark.
    pub(super) digests: BTreeMap<&'static str, String>,
}

impl Known {
    /// Reads the test data out of the program.
    pub(super) fn load(benchmarks: &[Benchmark]) -> Result<Self, StageError> {
        let mut known = Self::default();
        for benchmark in benchmarks {
            match benchmark {
                Benchmark::Bfcl => known.bfcl().map_err(|e| failed(&e))?,
                Benchmark::Acebench => known.acebench().map_err(|e| failed(&e))?,
            }
        }
        Ok(known)
    }

    fn query(&mut self, benchmark: &'static str, item: &str, text: &str) {
        if let Some(identity) = query_identity(text) {
            let origin = || (benchmark, item.to_owned());
            self.queries.entry(identity).or_insert_with(origin);
        }
    }

    fn tool(&mut self, benchmark: &'static str, item: &str, tool: &Value) {
        if let Some(identity) = tool_identity(tool) {
            let origin = || (benchmark, item.to_owned());
            self.tools.entry(identity).or_insert_with(origin);
        }
    }

    fn bfcl(&mut self) -> Result<(), bfcl::DataError> {
        let data = bfcl::Bfcl::embedded()?;
        for category in bfcl::Category::ALL {
            for item in data.items(category)? {
                for message in item.turns().iter().flatten() {
                    if message.role == bfcl::Role::User {
                        self.query("bfcl", &item.id, &message.content);
                    }
                }
                for tool in item.documents() {
                    self.tool("bfcl", &item.id, tool);
                }
            }
        }
        self.digests.insert("bfcl", data.digest()?);
        Ok(())
    }

    fn acebench(&mut self) -> Result<(), acebench::DataError> {
        let mut digests = Vec::new();
        for lang in acebench::Lang::ALL {
            let data = acebench::Dataset::embedded(lang, acebench::Profile::default())?;
            for item in data.items() {
                for part in said_by_user(&item.question) {
                    self.query("acebench", &item.id, &part);
                }
                for tool in &item.functions {
                    self.tool("acebench", &item.id, tool);
                }
            }
            digests.push(data.digest().to_owned());
        }
        self.digests.insert("acebench", digests.join(" "));
        Ok(())
    }
}

fn failed(error: &dyn std::error::Error) -> StageError {
    StageError::failed(format!(
        "the test data inside the program cannot be read: {error}"
    ))
}

/// The user's parts of a conversation in one text; a text without speakers is one part.
fn said_by_user(question: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut user = true;
    for line in question.lines() {
        let speaks = |who: &str| {
            line.strip_prefix(who)
                .and_then(|rest| rest.strip_prefix(':'))
        };
        if let Some(rest) = speaks("user") {
            user = true;
            parts.push(rest.to_owned());
        } else if ["system", "assistant", "agent"]
            .iter()
            .any(|who| speaks(who).is_some())
        {
            user = false;
        } else if user {
            match parts.last_mut() {
                Some(part) => {
                    part.push(' ');
                    part.push_str(line);
                }
                None => parts.push(line.to_owned()),
            }
        }
    }
    parts
}

/// The letters and digits of a text, lower-case, with one space between words; nothing for texts that are too
/// short to tell one question from another.
pub(super) fn query_identity(text: &str) -> Option<String> {
    let mut words: Vec<String> = vec![String::new()];
    for c in text.chars() {
        if c.is_alphanumeric() {
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
        } else if words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
    }
    words.retain(|word| !word.is_empty());
    let wide = |c: char| u32::from(c) >= 0x2E80;
    let characters: usize = words
        .iter()
        .flat_map(|w| w.chars())
        .filter(|c| wide(*c))
        .count();
    (words.len() >= 3 || characters >= 8).then(|| words.join(" "))
}

/// Name and sorted parameter names of a tool, bare or wrapped; nothing without either.
pub(super) fn tool_identity(tool: &Value) -> Option<String> {
    let tool = tool
        .get("function")
        .filter(|f| f.get("name").is_some())
        .unwrap_or(tool);
    let name = tool.get("name")?.as_str()?;
    let parameters = tool
        .get("parameters")
        .or_else(|| tool.get("arguments"))?
        .as_dict()?;
    let schema = parameters
        .get("properties")
        .and_then(Value::as_dict)
        .filter(|_| parameters.get("type").is_none_or(|t| t.as_dict().is_none()));
    let mut names: Vec<&str> = schema
        .unwrap_or(parameters)
        .keys()
        .map(String::as_str)
        .collect();
    if names.is_empty() {
        return None;
    }
    names.sort_unstable();
    let spelled = |text: &str| {
        let kept = text.chars().filter(|c| c.is_alphanumeric());
        kept.flat_map(char::to_lowercase).collect::<String>()
    };
    let names: Vec<String> = names.into_iter().map(spelled).collect();
    Some(format!("{}({})", spelled(name), names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_told_from_the_system() {
        let parts = said_by_user("user: one\nmore\nsystem: no\nneither\nuser: two\n");
        assert_eq!(parts, [" one more", " two"]);
        assert_eq!(said_by_user("nobody named"), ["nobody named"]);
    }

    #[test]
    fn short_texts_tell_nothing() {
        assert_eq!(query_identity("Yes, please!"), None);
        assert_eq!(
            query_identity("What's  the TIME?").as_deref(),
            Some("what s the time")
        );
        assert!(query_identity("东京今天的天气怎么样").is_some());
    }
}
