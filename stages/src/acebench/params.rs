//! What is examined, and how.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_bench::acebench::{Category, Family, Lang, Profile};
use starling_contract::Complaint;

use crate::endpoint::Settings;
use crate::examine::{self, Limits};

/// A language of the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Language {
    /// English.
    En,
    /// Chinese.
    Zh,
}

/// A version of the official evaluator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Version {
    /// August 2025, with which published numbers were computed.
    #[default]
    R2508,
    /// October 2025.
    R2510,
}

/// How functions reach the model, and calls come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// The official prompt; the output is scored as it is.
    #[default]
    Text,
    /// Functions in the template's tool section; `<tool_call>` objects are rewritten before scoring.
    Tool,
}

/// What is examined, and how.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// Categories by their official names, or `normal`, `special`, `agent`, `all`.
    #[serde(default = "defaults::categories")]
    pub(crate) categories: Vec<String>,
    /// Languages; English first is the published order.
    #[serde(default = "defaults::languages")]
    pub(crate) languages: Vec<Language>,
    /// Version of the official evaluator.
    #[serde(default)]
    pub(crate) evaluator: Version,
    /// How functions reach the model.
    #[serde(default)]
    pub(crate) mode: Mode,
    /// At most about so many entries of each category and language, evenly spread over its file, dialogues whole;
    /// all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) items_per_category: Option<usize>,
    /// Most tokens of an answer; 1024 in the official runs.
    #[serde(default = "defaults::max_new_tokens")]
    pub(crate) max_new_tokens: usize,
    /// Longest prompt that is asked, in tokens; longer ones are counted and wrong. 8192 is the official context.
    #[serde(default = "defaults::max_prompt_tokens")]
    pub(crate) max_prompt_tokens: usize,
    /// Sampling temperature; the official runs take the likeliest token, 0.
    #[serde(default)]
    pub(crate) temperature: f32,
    /// Seed of the sampling.
    #[serde(default)]
    pub(crate) seed: u64,
    /// Whether a template that knows of thinking lets the model think.
    #[serde(default)]
    pub(crate) thinking: bool,
    /// Cut everything up to the last `</think>` before scoring.
    #[serde(default = "defaults::yes")]
    pub(crate) strip_thinking: bool,
    /// A server to ask instead of a checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<Settings>,
    /// The model that plays the user of `agent_multi_turn`; officially gpt-4o. Scores depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<Settings>,
    /// Folder with another version of the benchmark's files; left out, the version inside the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
}

mod defaults {
    use super::Language;

    pub(super) fn categories() -> Vec<String> {
        vec!["normal".to_owned(), "special".to_owned()]
    }
    pub(super) fn languages() -> Vec<Language> {
        vec![Language::En]
    }
    pub(super) fn max_new_tokens() -> usize {
        1024
    }
    pub(super) fn max_prompt_tokens() -> usize {
        8192
    }
    pub(super) fn yes() -> bool {
        true
    }
}

/// What names several categories, for messages.
const GROUPS: &str = "all, normal, special, agent";

/// The categories behind a name; none for an unknown one.
fn named(name: &str) -> Vec<Category> {
    let of = |family: Family| -> Vec<Category> {
        Category::ALL
            .into_iter()
            .filter(|c| c.family() == family)
            .collect()
    };
    match name {
        "all" => Category::ALL.to_vec(),
        "normal" => of(Family::Normal),
        "special" => of(Family::Special),
        "agent" => of(Family::Agent),
        name => Category::from_name(name).into_iter().collect(),
    }
}

impl Params {
    /// The categories, each once, in the order of the official sum.
    pub(crate) fn categories(&self) -> Vec<Category> {
        examine::chosen(&self.categories, &Category::ALL, named)
    }

    /// The languages, each once.
    pub(crate) fn langs(&self) -> Vec<Lang> {
        let mut langs = Vec::new();
        for language in &self.languages {
            let lang = match language {
                Language::En => Lang::En,
                Language::Zh => Lang::Zh,
            };
            if !langs.contains(&lang) {
                langs.push(lang);
            }
        }
        langs
    }

    pub(crate) fn profile(&self) -> Profile {
        match self.evaluator {
            Version::R2508 => Profile::R2508,
            Version::R2510 => Profile::R2510,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_new_tokens: self.max_new_tokens,
            max_prompt_tokens: self.max_prompt_tokens,
            items_per_category: self.items_per_category,
            temperature: self.temperature,
        }
    }

    pub(super) fn check(&self) -> Vec<Complaint> {
        let mut complaints = self.limits().check();
        let mut want = |param, good: bool, what: &str| {
            if !good {
                complaints.push(Complaint::new(param, what));
            }
        };
        want("languages", !self.languages.is_empty(), "names no language");
        let dialogues = self.categories().contains(&Category::AgentMultiTurn);
        want(
            "user",
            self.user.is_some() || !dialogues,
            "`agent_multi_turn` needs a server with a model that plays the user",
        );
        let names = Category::ALL.map(Category::name);
        complaints.extend(examine::unknown(&self.categories, named, GROUPS, &names));
        for (param, settings) in [("endpoint", &self.endpoint), ("user", &self.user)] {
            if let Some(what) = settings.as_ref().and_then(Settings::complaint) {
                complaints.push(Complaint::new(param, what));
            }
        }
        complaints
    }
}
