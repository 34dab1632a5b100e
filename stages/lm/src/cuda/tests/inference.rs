//! Scoring and generation.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::twin::Twin;
use crate::config::{Architecture, ModelConfig};
use crate::cuda::{Generator, Precision, Scorer};
use crate::decoder::Decoder;
use crate::error::LmError;
use crate::generate::{
    GenerateError, Generator as CpuGenerator, Progress, Request as Prompt, Sample, Sampling,
    StopReason,
};
use crate::rng::SplitMix64;
use crate::score::{Request, Scores, score, whole};
use crate::weights::Weights;
use crate::weights::tests::tiny;

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn text(config: &ModelConfig, len: usize, rng: &mut SplitMix64) -> Vec<u32> {
    (0..len)
        .map(|_| rng.below(config.vocab_size as u64) as u32)
        .collect()
}

fn near(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < tolerance, "{found} {expected}");
    }
}

fn alike(found: &Scores, expected: &Scores) {
    near(&found.logprobs, &expected.logprobs, 2e-5);
    near(&found.entropies, &expected.entropies, 2e-5);
    assert_eq!(found.top_ids, expected.top_ids);
    near(&found.top_logprobs, &expected.top_logprobs, 2e-5);
}

#[test]
fn scores_agree_packed_and_with_a_cache() {
    for architecture in [
        Architecture::Qwen3,
        Architecture::Qwen2,
        Architecture::Llama,
    ] {
        let config = tiny(architecture);
        let weights = Weights::init(&config, 3).unwrap();
        let mut rng = SplitMix64::new(1);
        let mut texts: Vec<Vec<u32>> = [70_usize, 3, 1, 90]
            .iter()
            .map(|&len| text(&config, len, &mut rng))
            .collect();
        let mut other = texts[0][..50].to_vec();
        other.extend(text(&config, 9, &mut rng));
        texts.insert(1, other);
        let decoder = Decoder::new(&config, &weights).unwrap();
        let device = Twin::device(Precision::F32, architecture == Architecture::Qwen2);
        let scorer = Scorer::new(&device, &config, &weights).unwrap();
        let (expected, found) = whole(&texts, |requests| {
            (
                score(&decoder, requests, 5, 1).unwrap(),
                scorer.score(requests, 5).unwrap(),
            )
        });
        let generator = Generator::with_rows(&device, &config, &weights, 8).unwrap();
        for (at, expected) in expected.iter().enumerate() {
            alike(&found[at], expected);
            alike(&generator.score(at, &texts[at], 5).unwrap(), expected);
        }
        let unknown: Request<'_> = Request {
            ids: &[1, 99],
            positions: &[1],
        };
        let outside: Request<'_> = Request {
            ids: &[1, 2],
            positions: &[2],
        };
        for wrong in [unknown, outside] {
            let score = scorer.score(&[wrong], 0);
            assert!(matches!(score, Err(LmError::Shape { .. })), "{score:?}");
        }
        assert!(generator.score(0, &[1, 99], 0).is_err());
        assert!(generator.score(0, &[1; 200], 0).is_err());
    }
}

fn prompts(config: &ModelConfig) -> Vec<Prompt> {
    let mut rng = SplitMix64::new(7);
    let shared = text(config, 80, &mut rng);
    let mut requests = Vec::new();
    for (number, (len, own)) in [(80_usize, 3_usize), (70, 6), (0, 9), (80, 0), (0, 126)]
        .into_iter()
        .enumerate()
    {
        let mut prompt = shared[..len].to_vec();
        prompt.extend(text(config, own, &mut rng));
        let mut request = Prompt::new(number as u64 * 17 + 3, prompt);
        request.samples = 1 + number % 3;
        requests.push(request);
    }
    requests[2].max_new_tokens = Some(0);
    // no answer fits behind this one
    requests.push(Prompt::new(99, text(config, 128, &mut rng)));
    requests
}

fn same_text(found: &Sample, expected: &Sample) {
    assert_eq!(found.tokens, expected.tokens);
    assert_eq!(found.stop, expected.stop);
    near(&found.logprobs, &expected.logprobs, 2e-5);
    near(&found.entropies, &expected.entropies, 2e-5);
    for (found, expected) in found.top.iter().zip(&expected.top) {
        let ids =
            |list: &[crate::generate::TopToken]| list.iter().map(|t| t.id).collect::<Vec<_>>();
        assert_eq!(ids(found), ids(expected));
    }
}

#[test]
fn generation_agrees_and_does_not_depend_on_the_batch() {
    let config = tiny(Architecture::Qwen3);
    let weights = Weights::init(&config, 3).unwrap();
    let cpu = CpuGenerator::new(&config, &weights).unwrap();
    let device = Twin::device(Precision::F32, false);
    let generator = Generator::with_rows(&device, &config, &weights, 8).unwrap();
    let requests = prompts(&config);
    for sampling in [
        Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        Sampling {
            stop_tokens: vec![3],
            top_logprobs: 4,
            ..Sampling::default()
        },
        Sampling {
            top_k: 9,
            top_p: 0.8,
            repetition_penalty: 1.3,
            ..Sampling::default()
        },
    ] {
        let sampling = Sampling {
            max_new_tokens: 14,
            seed: 5,
            ..sampling
        };
        let expected = cpu.generate(&requests, &sampling, 1, &go_on).unwrap();
        let mut bits: Vec<Vec<u32>> = Vec::new();
        for batch in [1, 3, 8] {
            let sampling = Sampling {
                batch,
                ..sampling.clone()
            };
            let (found, usage) = generator
                .generate_with_usage(&requests, &sampling, &go_on)
                .unwrap();
            assert!(
                usage.shared_tokens >= 64 && usage.cache_bytes > 0,
                "{usage:?}"
            );
            for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                same_text(found, expected);
            }
            let lens = |answers: &[Vec<Sample>]| answers.iter().map(Vec::len).collect::<Vec<_>>();
            assert_eq!(lens(&found), lens(&expected));
            let logprobs = found.iter().flatten().flat_map(|sample| &sample.logprobs);
            bits.push(logprobs.map(|x| x.to_bits()).collect());
        }
        assert!(
            bits[0] == bits[1] && bits[0] == bits[2],
            "the batch moved a bit"
        );
        // what a text is given when it is scored is what was recorded with it
        let answer = &generator
            .generate_with_usage(&requests[..1], &sampling, &go_on)
            .unwrap()
            .0[0][0];
        let mut whole = requests[0].prompt.clone();
        whole.extend(&answer.tokens);
        let scores = generator.score(0, &whole, 0).unwrap();
        let tail = &scores.logprobs[requests[0].prompt.len() - 1..];
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(tail), bits(&answer.logprobs));
        assert!(answer.stop != StopReason::Text);
    }
}

/// Draws of the first token with evenly spread random numbers follow the processor's, which are tested against the
/// definition.
#[test]
fn draws_agree_under_every_truncation() {
    let config = tiny(Architecture::Llama);
    // a larger head, so that the distribution is far from uniform
    let mut weights = Weights::init(&config, 3).unwrap();
    let head = (weights.get("lm_head.weight").unwrap() * 30.0).unwrap();
    weights.0.insert("lm_head.weight".to_owned(), head);
    let cpu = CpuGenerator::new(&config, &weights).unwrap();
    let device = Twin::device(Precision::F32, true);
    let generator = Generator::with_rows(&device, &config, &weights, 16).unwrap();
    let mut rng = SplitMix64::new(3);
    let mut request = Prompt::new(11, text(&config, 5, &mut rng));
    request.samples = 64;
    let mut seen = BTreeMap::new();
    for (top_k, top_p, min_p, temperature) in [
        (0, 1.0, 0.0, 1.0),
        (0, 1.0, 0.05, 1.5),
        (5, 1.0, 0.0, 2.0),
        (0, 0.7, 0.0, 1.5),
        (12, 0.9, 0.1, 2.5),
        (1, 1.0, 0.0, 1.0),
        (0, 0.01, 0.0, 1.0),
    ] {
        let sampling = Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            max_new_tokens: 1,
            ..Sampling::default()
        };
        let requests = [request.clone()];
        let expected = cpu.generate(&requests, &sampling, 1, &go_on).unwrap();
        let (found, _) = generator
            .generate_with_usage(&requests, &sampling, &go_on)
            .unwrap();
        for (found, expected) in found[0].iter().zip(&expected[0]) {
            assert_eq!(found.tokens, expected.tokens, "{sampling:?}");
            *seen.entry(found.tokens[0]).or_insert(0) += 1;
        }
    }
    assert!(seen.len() > 5, "too few different tokens to tell: {seen:?}");
}

#[test]
fn damaged_weights_and_interruptions_are_errors() {
    let config = tiny(Architecture::Llama);
    let mut weights = Weights::init(&config, 3).unwrap();
    let device = Twin::device(Precision::Bf16, false);
    let sampling = Sampling {
        max_new_tokens: 3,
        ..Sampling::default()
    };
    let requests = [Prompt::new(1, vec![1, 2, 3]), Prompt::new(2, vec![4])];
    let generator = Generator::with_rows(&device, &config, &weights, 8).unwrap();
    let stop = |_: Progress| ControlFlow::Break(());
    let stopped = generator.generate_with_usage(&requests, &sampling, &stop);
    assert!(matches!(stopped, Err(GenerateError::Interrupted)));
    let name = "model.norm.weight";
    let nan = (weights.get(name).unwrap() * f64::NAN).unwrap();
    weights.0.insert(name.to_owned(), nan);
    let generator = Generator::with_rows(&device, &config, &weights, 8).unwrap();
    let broken = generator.generate_with_usage(&requests, &sampling, &go_on);
    assert!(matches!(broken, Err(GenerateError::NotFinite { .. })));
    assert!(matches!(
        generator.score(0, &[1, 2, 3], 0),
        Err(GenerateError::NotFinite { .. })
    ));
}
