//! Updates per second of the two training workloads.
//!
//! `cargo bench -p starling-lm --bench train_step -- [tiny|topk|small] [THREADS] [UPDATES]`, and for the comparison with
//! PyTorch (`scripts/bench/lm.sh`) `-- packed smollm2|qwen3-20m ce|ckd keep|recompute [THREADS] [UPDATES] [f32|bf16] [RANK]`:
//! 4,096 tokens in 4 sequences with a loss everywhere (a rank trains an adapter of all matrices), `-- grouped …`: 8
//! answers of 128 tokens to each of 2 prompts of 512, and `-- head [THREADS] [f32|bf16]`: head and distillation loss alone
//! at a vocabulary of 151,936.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::time::Instant;

use starling_lm::decoder::{LoraConfig, Targets};
use starling_lm::kernels::Precision;
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
        "packed" | "grouped" => {
            let config = if argument(1) == "qwen3-20m" {
                qwen3_20m()
            } else {
                small()
            };
            let k = if argument(2) == "ckd" { 100 } else { 0 };
            let batch = if argument(0) == "packed" {
                batch(&config, 4, 1024, 1023, k)
            } else {
                grouped(batch(&config, 16, 640, 128, k), 8, 512)
            };
            run_with(
                argument(0),
                &config,
                &batch,
                argument(4).parse().unwrap_or(2),
                argument(5).parse().unwrap_or(2),
                TrainConfig {
                    recompute: argument(3) == "recompute",
                    precision: precision(argument(6)),
                    lora: argument(7).parse().ok().map(|rank| LoraConfig {
                        rank,
                        alpha: 2.0 * rank as f64,
                        targets: Targets::ALL,
                        seed: 0,
                    }),
                    ..TrainConfig::new(Schedule::constant(1e-4))
                },
            )
        }
        "head" => {
            head(argument(1).parse().unwrap_or(1), precision(argument(2)));
            Ok(())
        }
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

fn precision(name: &str) -> Precision {
    match name {
        "bf16" => Precision::Bf16,
        _ => Precision::F32,
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

/// A Qwen3 of some 20 million parameters.
fn qwen3_20m() -> ModelConfig {
    ModelConfig {
        vocab_size: 16_384,
        hidden_size: 384,
        intermediate_size: 1024,
        num_hidden_layers: 8,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 64,
        max_position_embeddings: 2048,
        ..tiny()
    }
}

/// Gives each `size` sequences the first `prompt` tokens of the first of them.
fn grouped(mut batch: Vec<Sequence>, size: usize, prompt: usize) -> Vec<Sequence> {
    for group in batch.chunks_mut(size) {
        let shared = group[0].ids[..prompt].to_vec();
        for sequence in group {
            sequence.ids[..prompt].copy_from_slice(&shared);
        }
    }
    batch
}

/// Forward and backward of head and distillation loss: vocabulary 151,936, width 1,024, 2,048 positions.
fn head(threads: usize, precision: Precision) {
    use starling_lm::decoder::Scratch;
    use starling_lm::loss::head::Head;
    use starling_lm::loss::topk::{self, Teacher, TopKRoom};
    let (v, h, n, k) = (151_936, 1024, 2048, 100_u32);
    let mut rng = SplitMix64::new(1);
    let mut values = |count: usize| -> Vec<f32> {
        (0..count)
            .map(|_| (rng.uniform() as f32 - 0.5) * 0.1)
            .collect()
    };
    let (hidden, head) = (values(n * h), values(v * h));
    let logprobs: Vec<f32> = (0..k).map(|at| -1.0 - 0.2 * at as f32).collect();
    let mut dheads: Vec<Vec<f32>> = (0..threads).map(|_| vec![0.0; v * h]).collect();
    // touched, so that they are resident before the count begins
    dheads.iter_mut().for_each(|dhead| dhead.fill(1.0));
    let before = resident();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for (part, dhead) in hidden.chunks(n * h / threads).zip(&mut dheads) {
            let (head, logprobs) = (&head, &logprobs);
            scope.spawn(move || {
                let (mut scratch, mut room) = (Scratch::new(), TopKRoom::new());
                let mut dhidden = vec![0.0; part.len()];
                let settings = TopKSettings::default();
                let whole = Head {
                    hidden: part,
                    head,
                    width: h,
                    vocabulary: v,
                    precision,
                };
                whole.differentiate(&mut dhidden, dhead, &mut scratch, |row, logits| {
                    let first = row as u32 * 37;
                    let ids: Vec<u32> = (first..first + k).collect();
                    let teacher = Teacher {
                        ids: &ids,
                        logprobs,
                    };
                    topk::row(&settings, teacher, row, 1.0 / n as f32, logits, &mut room);
                });
            });
        }
    });
    println!(
        "head: {threads} threads, {:.2} s, at most {:.0} MB beyond weights and gradients",
        begin.elapsed().as_secs_f64(),
        (peak() - before) as f64 / 1e6
    );
}

/// A figure of this process in bytes, where the system tells it.
fn figure(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next());
    kilobytes.and_then(|k| k.parse::<usize>().ok()).unwrap_or(0) * 1024
}

fn resident() -> usize {
    figure("VmRSS:")
}

fn peak() -> usize {
    figure("VmHWM:")
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
    let settings = TrainConfig::new(Schedule::constant(1e-4));
    run_with(name, config, batch, threads, updates, settings)
}

fn run_with(
    name: &str,
    config: &ModelConfig,
    batch: &[Sequence],
    threads: usize,
    updates: usize,
    settings: TrainConfig,
) -> Result<(), LmError> {
    let weights = Weights::init(config, 1)?;
    let settings = TrainConfig {
        threads,
        ..settings
    };
    let mut trainer = Trainer::<f32>::new(config, &weights, settings)?;
    drop(weights);
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
        "{name}: {threads} threads, {:.2} updates/s (best {:.2}), {:.0} tokens/s (best {:.0}), {} of {} tokens computed, \
         peak {:.2} GB, loss {:.4} to {:.4}",
        1.0 / mean,
        1.0 / best,
        last.tokens as f64 / mean,
        last.tokens as f64 / best,
        last.computed,
        last.tokens,
        peak() as f64 / 1e9,
        first.loss,
        last.loss
    );
    Ok(())
}
