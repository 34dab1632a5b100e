//! `starling lm logprobs`: scores rows of texts.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use clap::Args;
use starling_lm::generate::GenerateError;
use starling_lm::score::Scores;
use starling_text::json::Value;

use super::ModelArguments;
use super::rows::{self, Files, Row, Texts, to_json};
use crate::cli::output::Failure;

/// Rows held at once.
const ROWS: usize = 256;

/// Write the natural log-probability of every token but the first
///
/// Rows come as `{"id", "ids": [...]}` or `{"id", "text"}` and go as `{"id", "logprobs": [...]}`, in their order; those
/// with a text also get their `ids`. What is wrong with a row is told in its place as `{"id", "error"}`, and the exit
/// code is 4 then. A row's numbers do not depend on the other rows or on the threads.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    files: Files,
    /// Also write the K likeliest tokens at each place, as `top_ids` and `top_logprobs`
    #[arg(long, value_name = "K", default_value_t = 0)]
    topk: usize,
}

impl Arguments {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let mut stream = self.files.open()?;
        let (checkpoint, generator) = self.model.load()?;
        let texts = Texts::new(&checkpoint);
        let topk = self.topk.min(checkpoint.config.vocab_size);
        loop {
            let rows = stream.read(ROWS)?;
            if rows.is_empty() {
                return stream.finish();
            }
            let asked: Vec<Result<Asked, String>> =
                rows.iter().map(|row| asked(row, &texts)).collect();
            let ids: Vec<&[u32]> = asked
                .iter()
                .flatten()
                .map(|asked| asked.ids.as_slice())
                .collect();
            let found: Mutex<BTreeMap<usize, Result<Scores, GenerateError>>> = Mutex::default();
            let outcome = generator.score(&ids, topk, self.model.threads(), &|at, scores| {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.insert(at, scores);
            });
            outcome.map_err(|error| Failure::new(starling::exit::STAGE, error.to_string()))?;
            let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
            let mut found = found.into_values();
            for (row, asked) in rows.iter().zip(asked) {
                let scores = match &asked {
                    Ok(_) => found
                        .next()
                        .unwrap_or(Err(GenerateError::Interrupted))
                        .map_err(reason),
                    Err(reason) => Err(reason.clone()),
                };
                match (asked, scores) {
                    (Ok(asked), Ok(scores)) => stream.write(row, &fields(&asked, &scores, topk))?,
                    (_, Err(reason)) | (Err(reason), _) => stream.write_wrong(row, &reason)?,
                }
            }
            stream.flush()?;
        }
    }
}

/// What a row wants scored.
struct Asked {
    ids: Vec<u32>,
    /// Whether it came as a text.
    encoded: bool,
}

fn asked(row: &Row, texts: &Texts) -> Result<Asked, String> {
    let body = row.body.as_ref().map_err(String::clone)?;
    match (body.get("ids"), body.get("text").map(Value::as_str)) {
        (Some(value), None) => Ok(Asked {
            ids: rows::ids(value)?,
            encoded: false,
        }),
        (None, Some(Some(text))) => Ok(Asked {
            ids: texts.encode(text)?,
            encoded: true,
        }),
        (None, Some(None)) => Err("`text` is not a text".to_owned()),
        (Some(_), Some(_)) => Err("a row has either `ids` or `text`, not both".to_owned()),
        (None, None) => Err("a row needs `ids` or `text`".to_owned()),
    }
}

fn fields<'a>(asked: &Asked, scores: &Scores, topk: usize) -> Vec<(&'a str, String)> {
    let mut fields = Vec::new();
    if asked.encoded {
        fields.push(("ids", to_json(&asked.ids)));
    }
    fields.push(("logprobs", to_json(&scores.logprobs)));
    if topk > 0 {
        let ids: Vec<&[u32]> = scores.top_ids.chunks(topk).collect();
        let logprobs: Vec<&[f32]> = scores.top_logprobs.chunks(topk).collect();
        fields.push(("top_ids", to_json(&ids)));
        fields.push(("top_logprobs", to_json(&logprobs)));
    }
    fields
}

/// What is wrong with a row, without its number in the batch.
pub(super) fn reason(error: GenerateError) -> String {
    match error {
        GenerateError::Request { reason, .. } => reason,
        GenerateError::NotFinite { position, .. } => {
            format!("the logits after token {position} are not finite: the weights are damaged")
        }
        other => other.to_string(),
    }
}
