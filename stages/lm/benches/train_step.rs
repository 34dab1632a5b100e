//! Updates per second of the two training workloads.
//!
//! `cargo bench -p starling-lm --bench train_step -- [tiny|small] [THREADS] [UPDATES]`

#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::time::Instant;

use starling_lm::loss::TopKSettings;
use starling_lm::rng::SplitMix64;
use starling_lm::train::{LossTarget, Schedule, Sequence, TopKTarget, TrainConfig, Trainer};
use starling_lm::{Architecture, LmError, ModelConfig, Weights};

fn main() -> Result<(), LmError> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let argument = |at: usize| arguments.get(at).map_or("", String::as_str);
    let threads = argument(1).parse().unwrap_or(2);
    let updates = argument(2).parse().ok();
    match argument(0) {
        "small" => run(
            "small",
            &small(),
            &batch(&small(), 4, 320, 80, 0),
            threads,
            updates.unwrap_or(2),
        ),
        "topk" => run(
            "topk",
            &tiny(),
            &batch(&tiny(), 32, 80, 40, 100),
            threads,
            updates.unwrap_or(40),
        ),
        _ => run(
            "tiny",
            &tiny(),
            &batch(&tiny(), 32, 80, 40, 0),
            threads,
            updates.unwrap_or(40),
        ),
    }
}

/// A Qwen3 of three layers of width 96.
fn tiny() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size: 600,
        hidden_size: 96,
        intermediate_size: 256,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 24,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        tie_word_embeddings: true,
        max_position_embeddings: 512,
        attention_bias: false,
        bos_token_id: None,
        eos_token_ids: vec![1],
    }
}

/// The shape of SmolLM2-135M.
fn small() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: 49_152,
        hidden_size: 576,
        intermediate_size: 1536,
        num_hidden_layers: 30,
        num_attention_heads: 9,
        num_key_value_heads: 3,
        head_dim: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 100_000.0,
        rope_scaling: None,
        tie_word_embeddings: true,
        max_position_embeddings: 8192,
        attention_bias: false,
        bos_token_id: None,
        eos_token_ids: vec![2],
    }
}

/// `count` sequences of `len` tokens with a loss on the last `tail`; distilled from `k` tokens when there are any.
fn batch(config: &ModelConfig, count: usize, len: usize, tail: usize, k: usize) -> Vec<Sequence> {
    let mut rng = SplitMix64::new(1);
    let vocabulary = config.vocab_size as u64;
    (0..count)
        .map(|_| {
            let ids = (0..len).map(|_| rng.below(vocabulary) as u32).collect();
            let positions: Vec<u32> = (len as u32 - tail as u32..len as u32).collect();
            let loss = if k == 0 {
                LossTarget::CrossEntropy {
                    positions,
                    weights: Vec::new(),
                }
            } else {
                let mut target = TopKTarget {
                    positions,
                    weights: Vec::new(),
                    k,
                    teacher_ids: Vec::new(),
                    teacher_logprobs: Vec::new(),
                    settings: TopKSettings::default(),
                };
                for _ in 0..tail {
                    let first = rng.below(vocabulary) as u32;
                    for at in 0..k as u32 {
                        target
                            .teacher_ids
                            .push((first + at) % config.vocab_size as u32);
                        target.teacher_logprobs.push(-1.0 - 0.2 * at as f32);
                    }
                }
                LossTarget::TopK(target)
            };
            Sequence { ids, loss }
        })
        .collect()
}

fn run(
    name: &str,
    config: &ModelConfig,
    batch: &[Sequence],
    threads: usize,
    updates: usize,
) -> Result<(), LmError> {
    let weights = Weights::init(config, 1)?;
    let settings = TrainConfig {
        threads,
        ..TrainConfig::new(Schedule::constant(1e-4))
    };
    let mut trainer = Trainer::<f32>::new(config, &weights, settings)?;
    let first = trainer.update(batch)?;
    let (mut best, start) = (f64::INFINITY, Instant::now());
    let mut last = first;
    for _ in 0..updates {
        let begin = Instant::now();
        last = trainer.update(batch)?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    let mean = start.elapsed().as_secs_f64() / updates as f64;
    println!(
        "{name}: {threads} threads, {:.2} updates/s (best {:.2}), {:.0} tokens/s, loss {:.4} to {:.4}",
        1.0 / mean,
        1.0 / best,
        last.tokens as f64 / mean,
        first.loss,
        last.loss
    );
    Ok(())
}
