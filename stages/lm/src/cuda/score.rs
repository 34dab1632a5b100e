//! Log-probabilities of given texts on a device: one forward pass over packed texts, no sampling.

use super::batch::Batch;
use super::device::Device;
use super::losses::{STATS, chunks};
use super::model::{Model, Rows};
use super::train::Trainer;
use crate::config::ModelConfig;
use crate::decoder::{Keep, Packing, groups};
use crate::error::LmError;
use crate::score::{Request, Scores};
use crate::train::cut;
use crate::weights::Weights;

/// About how many tokens are read at once.
const CHUNK_TOKENS: usize = 8192;

/// A model that scores texts on a device.
#[derive(Debug)]
pub struct Scorer {
    model: Model,
}

impl Scorer {
    /// Puts weights on a device.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn new(device: &Device, config: &ModelConfig, weights: &Weights) -> Result<Self, LmError> {
        Ok(Self {
            model: Model::new(device, config, weights, false)?,
        })
    }

    /// Scores requests and lists the `k` likeliest tokens (at most the vocabulary) at each position, as
    /// [`crate::score::score`] does.
    ///
    /// # Errors
    /// [`LmError::Shape`] for a text that the model cannot read or positions that are not in it; [`LmError::Config`] for
    /// longer lists than the kernels sort; [`LmError::Device`] when the device fails.
    pub fn score(&self, requests: &[Request<'_>], k: usize) -> Result<Vec<Scores>, LmError> {
        score(&self.model, requests, k)
    }
}

impl Trainer {
    /// Scores requests with the weights as they are now, as [`Scorer::score`] does.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub fn score(&self, requests: &[Request<'_>], k: usize) -> Result<Vec<Scores>, LmError> {
        score(self.model(), requests, k)
    }
}

fn score(model: &Model, requests: &[Request<'_>], k: usize) -> Result<Vec<Scores>, LmError> {
    let ids: Vec<&[u32]> = requests.iter().map(|request| request.ids).collect();
    let groups = groups(&ids, CHUNK_TOKENS);
    let lens: Vec<usize> = groups.iter().map(|group| group.tokens).collect();
    let mut scores = Vec::with_capacity(requests.len());
    for part in cut(&lens, CHUNK_TOKENS) {
        let sequences = groups[part.start].sequences.start..groups[part.end - 1].sequences.end;
        scores.extend(score_chunk(model, &requests[sequences], k)?);
    }
    Ok(scores)
}

fn score_chunk(model: &Model, requests: &[Request<'_>], k: usize) -> Result<Vec<Scores>, LmError> {
    let ids: Vec<&[u32]> = requests.iter().map(|request| request.ids).collect();
    let packing = Packing::sharing(&ids, CHUNK_TOKENS);
    packing.batch.check(&model.config)?;
    let (mut rows, mut origin, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for (at, request) in requests.iter().enumerate() {
        request.check()?;
        for &position in request.positions {
            rows.push(packing.token(at, position as usize - 1));
            origin.push(at);
            targets.push(request.ids[position as usize] as i32);
        }
    }
    let ops = &model.ops;
    let batch = Batch::new(ops, &packing.batch)?;
    let rows = Rows::new(ops, rows)?;
    let saved = model.forward(&batch, &rows, Keep::Nothing)?;
    let v = model.config.vocab_size;
    let k = k.min(v);
    let mut scores = vec![Scores::default(); requests.len()];
    for (first, count) in chunks(origin.len(), v) {
        let logits = model.logits(&saved.hidden, first, count)?;
        let targets = ops.upload_ints(&targets[first..first + count])?;
        let stats = ops.row_stats(&logits, count, v, &targets)?;
        let said = stats.floats(STATS * count)?;
        let (ids, logprobs) = if k > 0 {
            let (ids, logprobs) = ops.top_rows(&logits, count, v, &stats, k)?;
            (ids.ids(k * count)?, logprobs.floats(k * count)?)
        } else {
            (Vec::new(), Vec::new())
        };
        for row in 0..count {
            let scores = &mut scores[origin[first + row]];
            scores.logprobs.push(said[STATS * row]);
            scores.entropies.push(said[STATS * row + 1]);
            scores.top_ids.extend(&ids[k * row..k * (row + 1)]);
            scores
                .top_logprobs
                .extend(&logprobs[k * row..k * (row + 1)]);
        }
    }
    Ok(scores)
}
