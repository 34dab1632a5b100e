//! Tokenizer training: a byte-level BPE vocabulary from conversations, with its chat template.
//!
//! | port        | way | artifact  | holds                                                       |
//! |-------------|-----|-----------|-------------------------------------------------------------|
//! | `rows`      | in  | rows      | one or more sets of conversations, under any names          |
//! | `tokenizer` | out | tokenizer | `tokenizer.json`, `tokenizer_config.json`, the chat template |

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_lm::tokenizer::{self, CHAT_TOKENS, TokenizerConfig, TrainOptions};
use starling_text::template::Options;

use crate::chat::{self, Template};
use crate::rows::{self, RowReader};

/// The kind `tokenizer-train`.
pub(crate) struct TokenizerTrain;

/// What vocabulary to make.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// Ids in all: 256 bytes, merges and 7 control tokens; at least 263. Larger shortens sequences and
    /// widens the model's head.
    vocab_size: usize,
    /// Pairs seen less often than this are not merged.
    #[serde(default = "two")]
    min_frequency: u64,
    /// The template that the model will be prompted with: `qwen3`, or `compact` for tiny models.
    #[serde(default)]
    chat_template: Template,
}

fn two() -> u64 {
    2
}

impl Stage for TokenizerTrain {
    const KIND: &'static str = "tokenizer-train";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "trains a byte-level BPE tokenizer on conversations";
    type Params = Params;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[Input::many(
                    "rows",
                    ArtifactType::Rows,
                    "sets of conversations, under any names",
                )],
                outputs: &[Output::new(
                    "tokenizer",
                    ArtifactType::Tokenizer,
                    "`tokenizer.json`, `tokenizer_config.json` and the chat template",
                )],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let least = 256 + CHAT_TOKENS.len();
        if p.vocab_size < least {
            return vec![Complaint::new(
                "vocab-size",
                format!("must be at least {least}"),
            )];
        }
        Vec::new()
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let template = p.chat_template.compile()?;
        let mut texts = Vec::new();
        for (_, path) in context.many("rows") {
            let mut reader = RowReader::open(path)?;
            while let Some((line, row)) = reader.next_row()? {
                let text = template
                    .render(
                        rows::list(&row, "messages"),
                        rows::field(&row, "tools"),
                        &Options::default(),
                    )
                    .map_err(|e| {
                        StageError::input("rows", format!("{}:{line}: {e}", path.display()))
                    })?;
                texts.push(text);
            }
        }
        let options = TrainOptions {
            vocab_size: p.vocab_size,
            min_frequency: p.min_frequency,
            special_tokens: &CHAT_TOKENS,
        };
        let tokenizer = tokenizer::train(&texts, &options).map_err(chat::lm)?;
        context.info(format!(
            "{} ids from {} conversations",
            tokenizer.vocab_size(),
            texts.len()
        ));
        let config = TokenizerConfig {
            eos_token: Some(chat::END.to_owned()),
            pad_token: Some("<|endoftext|>".to_owned()),
            model_max_length: None,
            chat_template: Some(p.chat_template.source().to_owned()),
        };
        tokenizer
            .save(&context.output("tokenizer"), &config)
            .map_err(chat::lm)
    }
}
