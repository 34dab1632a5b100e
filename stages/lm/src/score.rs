//! Log-probabilities of given texts: one forward pass, no sampling.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::decoder::{Decoder, Keep, Packing, Scratch, groups};
use crate::error::LmError;
use crate::loss::head::Head;
use crate::loss::logprob::{Slopes, row};
use crate::train::cut;

/// About how many tokens a thread reads at once.
const CHUNK_TOKENS: usize = 640;

/// A text, and the tokens of it to be scored.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// All tokens.
    pub ids: &'a [u32],
    /// Indexes into `ids`, ascending, from 1.
    pub positions: &'a [u32],
}

impl Request<'_> {
    /// Checks that the positions are inside the text.
    pub(crate) fn check(&self) -> Result<(), LmError> {
        let (ids, positions) = (self.ids, self.positions);
        let inside = |position: &u32| *position >= 1 && (*position as usize) < ids.len();
        if !positions.is_sorted_by(|a, b| a < b) || !positions.iter().all(inside) {
            let expected = format!("ascending, in 1..{}", ids.len());
            return Err(LmError::shape("positions", &[positions.len()], expected));
        }
        Ok(())
    }
}

/// What the model thinks of the tokens of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Log-probability of each token, nats.
    pub logprobs: Vec<f32>,
    /// Entropy of the distribution it was judged by, nats.
    pub entropies: Vec<f32>,
    /// The `k` likeliest tokens at its place, likeliest first, `[positions, k]`; equal ones: lower id first.
    pub top_ids: Vec<u32>,
    /// Their log-probabilities, nats, `[positions, k]`.
    pub top_logprobs: Vec<f32>,
}

/// Scores requests and lists the `k` likeliest tokens (at most the vocabulary) at each position.
///
/// The result does not depend on the number of threads.
///
/// # Errors
/// [`LmError::Shape`] for a text that the model cannot read or positions that are not in it.
pub fn score(
    decoder: &Decoder,
    requests: &[Request<'_>],
    k: usize,
    threads: usize,
) -> Result<Vec<Scores>, LmError> {
    let ids: Vec<&[u32]> = requests.iter().map(|request| request.ids).collect();
    let groups = groups(&ids, CHUNK_TOKENS);
    let lens: Vec<usize> = groups.iter().map(|group| group.tokens).collect();
    let chunks: Vec<_> = cut(&lens, CHUNK_TOKENS)
        .into_iter()
        .map(|part| groups[part.start].sequences.start..groups[part.end - 1].sequences.end)
        .collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let run = || {
        let mut scratch = Scratch::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = chunks.get(at) else { break };
            let result = score_chunk(decoder, &requests[chunk.clone()], k, &mut scratch);
            results
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(at, result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(chunks.len()) {
            scope.spawn(run);
        }
        run();
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut scores = Vec::with_capacity(requests.len());
    for result in results.into_values() {
        scores.extend(result?);
    }
    Ok(scores)
}

/// Scores every token of every text from its second on.
///
/// # Errors
/// As [`score`].
pub fn logprobs(
    decoder: &Decoder,
    texts: &[Vec<u32>],
    threads: usize,
) -> Result<Vec<Scores>, LmError> {
    whole(texts, |requests| score(decoder, requests, 0, threads))
}

/// Asks for every token of every text from its second on.
pub(crate) fn whole<T>(texts: &[Vec<u32>], ask: impl FnOnce(&[Request<'_>]) -> T) -> T {
    let positions: Vec<Vec<u32>> = texts
        .iter()
        .map(|ids| (1..ids.len() as u32).collect())
        .collect();
    let requests: Vec<Request<'_>> = texts
        .iter()
        .zip(&positions)
        .map(|(ids, positions)| Request { ids, positions })
        .collect();
    ask(&requests)
}

fn score_chunk(
    decoder: &Decoder,
    requests: &[Request<'_>],
    k: usize,
    scratch: &mut Scratch<f32>,
) -> Result<Vec<Scores>, LmError> {
    let ids: Vec<&[u32]> = requests.iter().map(|request| request.ids).collect();
    let packing = Packing::sharing(&ids, CHUNK_TOKENS);
    let (mut rows, mut origin) = (Vec::new(), Vec::new());
    for (at, request) in requests.iter().enumerate() {
        request.check()?;
        let (ids, positions) = (request.ids, request.positions);
        for &position in positions {
            rows.push(packing.token(at, position as usize - 1));
            origin.push((at, ids[position as usize] as usize));
        }
    }
    let saved = decoder.forward(&packing.batch, &rows, Keep::Nothing, scratch)?;
    let head = Head {
        hidden: &saved.hidden,
        head: decoder.head(),
        width: decoder.config().hidden_size,
        vocabulary: decoder.config().vocab_size,
        precision: decoder.precision(),
    };
    let mut scores = vec![Scores::default(); requests.len()];
    let (mut room, mut order) = (Vec::new(), Vec::new());
    head.read(scratch, |at, logits| {
        let (request, target) = origin[at];
        let scores = &mut scores[request];
        let first = scores.top_ids.len();
        if k > 0 {
            list_top(logits, k, &mut order);
            scores.top_ids.extend_from_slice(&order);
            scores
                .top_logprobs
                .extend(order.iter().map(|&id| logits[id as usize]));
        }
        let logit = logits[target];
        let stats = row(logits, target, &mut room, |_| Slopes::default());
        scores.logprobs.push(stats.logprob);
        scores.entropies.push(stats.entropy);
        // logits to log-probabilities: the target has both
        for value in &mut scores.top_logprobs[first..] {
            *value = (*value - logit) + stats.logprob;
        }
    });
    saved.recycle(scratch);
    Ok(scores)
}

/// The ids of the `k` greatest logits, greatest first.
fn list_top(logits: &[f32], k: usize, order: &mut Vec<u32>) {
    let k = k.min(logits.len());
    order.clear();
    order.extend(0..logits.len() as u32);
    let falling = |a: &u32, b: &u32| {
        logits[*b as usize]
            .total_cmp(&logits[*a as usize])
            .then(a.cmp(b))
    };
    if k < order.len() {
        order.select_nth_unstable_by(k, falling);
        order.truncate(k);
    }
    order.sort_unstable_by(falling);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Architecture;
    use crate::decoder::{PackedBatch, composed};
    use crate::rng::SplitMix64;
    use crate::weights::Weights;
    use crate::weights::tests::tiny;

    #[test]
    fn agrees_with_the_composed_model_on_any_number_of_threads() {
        let config = tiny(Architecture::Qwen2);
        let weights = Weights::init(&config, 3).unwrap();
        let decoder = Decoder::new(&config, &weights).unwrap();
        let mut rng = SplitMix64::new(1);
        let texts: Vec<Vec<u32>> = [9_usize, 100, 1, 120, 100, 120, 110, 100, 2]
            .iter()
            .map(|&len| (0..len).map(|_| rng.below(29) as u32).collect())
            .collect();
        let all = logprobs(&decoder, &texts, 1).unwrap();
        assert_eq!(logprobs(&decoder, &texts, 3).unwrap(), all);
        assert_eq!(all[2], Scores::default());

        let positions = [4, 8];
        let request = Request {
            ids: &texts[0],
            positions: &positions,
        };
        let top = &score(&decoder, &[request], 5, 1).unwrap()[0];
        let batch = PackedBatch::new([texts[0].as_slice()]);
        let logits = composed::logits(&config, &weights, &batch).unwrap();
        let expected = candle_nn::ops::log_softmax(&logits, 1)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        for (at, &position) in positions.iter().enumerate() {
            let row = &expected[position as usize - 1];
            let logprob = row[texts[0][position as usize] as usize];
            assert!((top.logprobs[at] - logprob).abs() < 1e-5);
            assert!((all[0].logprobs[position as usize - 1] - logprob).abs() < 1e-5);
            let entropy: f32 = row.iter().map(|lp| -lp.exp() * lp).sum();
            assert!((top.entropies[at] - entropy).abs() < 1e-5);
            let mut sorted = row.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            for (found, expected) in top.top_logprobs[at * 5..][..5].iter().zip(&sorted) {
                assert!((found - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn misfits_are_errors() {
        let config = tiny(Architecture::Qwen3);
        let decoder = Decoder::new(&config, &Weights::init(&config, 3).unwrap()).unwrap();
        for (ids, positions) in [
            (vec![1, 2], vec![2]),
            (vec![1, 2], vec![0]),
            (vec![1, 99], vec![1]),
            (vec![1; 200], vec![1]),
        ] {
            let request = Request {
                ids: &ids,
                positions: &positions,
            };
            assert!(score(&decoder, &[request], 0, 1).is_err());
        }
    }
}
