//! What is examined, and how.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_bench::bfcl::{self, Category, Section};
use starling_contract::Complaint;

use crate::endpoint::Settings;
use crate::examine::{self, Limits};

/// How prompts are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// As the official handler of Qwen models writes them, whatever the model's template: comparable numbers.
    #[default]
    Official,
    /// By the model's own chat template, tools in its tool section.
    Template,
}

/// How functions reach the model, and calls come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// Functions in the tool section of the prompt; `<tool_call>` blocks.
    #[default]
    FunctionCalling,
    /// Functions in a system message; texts like `[f(a=1)]`.
    Prompt,
}

/// What is examined, and how.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// Categories by their official names, or `non-live`, `live`, `multi-turn`, `single-turn`, `all`.
    #[serde(default = "defaults::categories")]
    pub(crate) categories: Vec<String>,
    /// At most so many entries of each category, evenly spread over its file; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) items_per_category: Option<usize>,
    /// Most tokens of an answer; the official runs allow 4096.
    #[serde(default = "defaults::max_new_tokens")]
    pub(crate) max_new_tokens: usize,
    /// Longest prompt that is asked, in tokens; longer ones are counted and wrong. The engine keeps it below the
    /// model's context.
    #[serde(default = "defaults::max_prompt_tokens")]
    pub(crate) max_prompt_tokens: usize,
    /// Sampling temperature; 0 takes the likeliest token. The official runs use 0.001.
    #[serde(default)]
    pub(crate) temperature: f32,
    /// Seed of the sampling.
    #[serde(default)]
    pub(crate) seed: u64,
    /// How functions reach the model, and calls come back.
    #[serde(default)]
    pub(crate) mode: Mode,
    /// How prompts are written; a server always uses its template.
    #[serde(default)]
    pub(crate) format: Format,
    /// False closes the thought before the answer begins; true and left out leave it to the model, as the official
    /// runs do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) thinking: Option<bool>,
    /// A server to ask instead of a checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<Settings>,
    /// Folder with another version of the benchmark's files; left out, the version inside the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
}

mod defaults {
    pub(super) fn categories() -> Vec<String> {
        vec!["all".to_owned()]
    }
    pub(super) fn max_new_tokens() -> usize {
        4096
    }
    pub(super) fn max_prompt_tokens() -> usize {
        32_768
    }
}

/// What names several categories, for messages.
const GROUPS: &str = "all, single-turn, non-live, live, multi-turn";

/// The categories behind a name; none for an unknown one.
fn named(name: &str) -> Vec<Category> {
    let of = |wanted: &dyn Fn(Category) -> bool| -> Vec<Category> {
        Category::ALL.into_iter().filter(|c| wanted(*c)).collect()
    };
    match name {
        "all" => Category::ALL.to_vec(),
        "non-live" => of(&|c| c.section() == Section::NonLive),
        "live" => of(&|c| c.section() == Section::Live),
        "multi-turn" => of(&|c| c.section() == Section::MultiTurn),
        "single-turn" => of(&|c| c.section() != Section::MultiTurn),
        name => Category::from_name(name).into_iter().collect(),
    }
}

impl Params {
    pub(crate) fn mode(&self) -> bfcl::Mode {
        match self.mode {
            Mode::FunctionCalling => bfcl::Mode::FunctionCalling,
            Mode::Prompt => bfcl::Mode::Prompting,
        }
    }

    /// The categories, each once, in the order of the score table.
    pub(crate) fn categories(&self) -> Vec<Category> {
        examine::chosen(&self.categories, &Category::ALL, named)
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
        let names = Category::ALL.map(Category::name);
        complaints.extend(examine::unknown(&self.categories, named, GROUPS, &names));
        if let Some(what) = self.endpoint.as_ref().and_then(Settings::complaint) {
            complaints.push(Complaint::new("endpoint", what));
        }
        complaints
    }
}
