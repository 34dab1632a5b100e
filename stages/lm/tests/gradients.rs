//! Gradients of the hand-written decoder against candle's autograd, finite differences and itself.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::collections::BTreeMap;

use candle_core::{D, DType, Tensor, Var};
use starling_lm::decoder::composed;
use starling_lm::loss::{Divergence, TopKSettings};
use starling_lm::policy::{KlEstimator, PolicySettings, Ratio};
use starling_lm::rng::SplitMix64;
use starling_lm::train::{
    LossTarget, Normalisation, PolicyTarget, Schedule, Sequence, TopKTarget, TrainConfig, Trainer,
};
use starling_lm::{Architecture, ModelConfig, PackedBatch, RopeScaling, Weights};

const ALL: [Architecture; 3] = [
    Architecture::Qwen3,
    Architecture::Qwen2,
    Architecture::Llama,
];

fn tiny(architecture: Architecture) -> ModelConfig {
    ModelConfig {
        architecture,
        vocab_size: 31,
        hidden_size: 20,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: (architecture == Architecture::Llama).then_some(RopeScaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 32,
        }),
        tie_word_embeddings: architecture != Architecture::Llama,
        max_position_embeddings: 160,
        attention_bias: architecture == Architecture::Qwen2,
        bos_token_id: None,
        eos_token_ids: vec![1],
    }
}

/// Weights far from their start, so that no gradient is small by symmetry, cut to 2^-16 so that the steps of
/// finite differences are exact in f32.
fn weights(config: &ModelConfig) -> Weights {
    let mut rng = SplitMix64::new(11);
    let start = Weights::init(config, 1).unwrap();
    let moved = start.0.iter().map(|(name, tensor)| {
        let values: Vec<f32> = start
            .values(name)
            .unwrap()
            .iter()
            .map(|x| {
                let moved = f64::from(*x) + rng.normal_pair().0 * 0.2;
                ((moved * 65536.0).round() / 65536.0) as f32
            })
            .collect();
        (
            name.clone(),
            Tensor::from_vec(values, tensor.dims(), tensor.device()).unwrap(),
        )
    });
    Weights(moved.collect())
}

fn ids(rng: &mut SplitMix64, len: usize) -> Vec<u32> {
    (0..len).map(|_| rng.below(31) as u32).collect()
}

/// Sequences of several lengths (one longer than an attention tile, one of two tokens) and weights of all kinds.
fn sequences() -> Vec<Sequence> {
    let mut rng = SplitMix64::new(5);
    [70, 2, 13, 9]
        .into_iter()
        .map(|len| {
            let positions: Vec<u32> = (1..len as u32).filter(|p| p % 3 != 2 || *p == 1).collect();
            let weights = positions.iter().map(|p| 0.5 + (p % 4) as f32).collect();
            Sequence {
                ids: ids(&mut rng, len),
                loss: LossTarget::CrossEntropy { positions, weights },
            }
        })
        .collect()
}

fn distilled(settings: TopKSettings) -> Vec<Sequence> {
    let mut rng = SplitMix64::new(8);
    [12_usize, 7]
        .into_iter()
        .map(|len| {
            let positions: Vec<u32> = (2..len as u32).collect();
            let k = 5;
            let (mut teacher_ids, mut teacher_logprobs) = (Vec::new(), Vec::new());
            for _ in &positions {
                let first = rng.below(31) as u32;
                teacher_ids.extend((0..k as u32).map(|at| (first + 3 * at) % 31));
                teacher_logprobs.extend((0..k).map(|at| (-0.9 - 0.4 * at as f64) as f32));
            }
            Sequence {
                ids: ids(&mut rng, len),
                loss: LossTarget::TopK(TopKTarget {
                    positions,
                    weights: Vec::new(),
                    k,
                    teacher_ids,
                    teacher_logprobs,
                    settings,
                }),
            }
        })
        .collect()
}

fn rollouts(settings: PolicySettings) -> Vec<Sequence> {
    let mut rng = SplitMix64::new(21);
    [11_usize, 6, 16]
        .into_iter()
        .map(|len| {
            let positions: Vec<u32> = (3..len as u32).collect();
            let mut near = |centre: f64| -> Vec<f32> {
                positions
                    .iter()
                    .map(|_| (centre + rng.normal_pair().0 * 0.5) as f32)
                    .collect()
            };
            let loss = LossTarget::Policy(PolicyTarget {
                advantages: near(0.1),
                old_logprobs: near(-3.4),
                reference_logprobs: Some(near(-3.3)),
                positions: positions.clone(),
                settings,
            });
            Sequence {
                ids: ids(&mut rng, len),
                loss,
            }
        })
        .collect()
}

fn train_config(threads: usize) -> TrainConfig {
    TrainConfig {
        threads,
        chunk_tokens: 20,
        ..TrainConfig::new(Schedule::constant(1e-2))
    }
}

/// Weighted cross-entropy and its gradients by candle's autograd, in f64.
fn by_autograd(
    config: &ModelConfig,
    weights: &Weights,
    sequences: &[Sequence],
) -> (f64, BTreeMap<String, Vec<f64>>) {
    let vars: BTreeMap<String, Var> = weights
        .0
        .iter()
        .map(|(name, tensor)| {
            (
                name.clone(),
                Var::from_tensor(&tensor.to_dtype(DType::F64).unwrap()).unwrap(),
            )
        })
        .collect();
    let tensors = vars
        .iter()
        .map(|(name, var)| (name.clone(), var.as_tensor().clone()));
    let weights = Weights(tensors.collect());
    let batch = PackedBatch::new(sequences.iter().map(|one| one.ids.as_slice()));
    let logits = composed::logits(config, &weights, &batch).unwrap();
    let logprobs = candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap();
    let (mut rows, mut targets, mut factors, mut start) = (vec![], vec![], vec![], 0);
    for sequence in sequences {
        let LossTarget::CrossEntropy { positions, weights } = &sequence.loss else {
            panic!("cross-entropy only")
        };
        for (&position, &weight) in positions.iter().zip(weights) {
            rows.push(start + position - 1);
            targets.push(sequence.ids[position as usize]);
            factors.push(f64::from(weight));
        }
        start += sequence.ids.len() as u32;
    }
    let device = logits.device();
    let n = rows.len();
    let rows = Tensor::from_vec(rows, n, device).unwrap();
    let targets = Tensor::from_vec(targets, (n, 1), device).unwrap();
    let total: f64 = factors.iter().sum();
    let factors = Tensor::from_vec(factors, (n, 1), device).unwrap();
    let picked = logprobs
        .index_select(&rows, 0)
        .unwrap()
        .gather(&targets, 1)
        .unwrap();
    let loss = ((picked * factors).unwrap().sum_all().unwrap() / -total).unwrap();
    let store = loss.backward().unwrap();
    let gradients = vars.iter().map(|(name, var)| {
        let gradient = store
            .get(var)
            .unwrap_or_else(|| panic!("no gradient for {name}"));
        (
            name.clone(),
            gradient.flatten_all().unwrap().to_vec1().unwrap(),
        )
    });
    (loss.to_scalar().unwrap(), gradients.collect())
}

#[test]
fn agree_with_autograd_in_f64() {
    for architecture in ALL {
        let config = tiny(architecture);
        let weights = weights(&config);
        let sequences = sequences();
        let (expected_loss, expected) = by_autograd(&config, &weights, &sequences);
        let mut trainer = Trainer::<f64>::new(&config, &weights, train_config(1)).unwrap();
        let loss = trainer.gradients(&sequences).unwrap();
        assert!(
            (loss - expected_loss).abs() < 1e-12,
            "{architecture:?}: {loss} {expected_loss}"
        );
        for (name, expected) in &expected {
            let found = trainer.last_gradients().get(name).unwrap();
            let size = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
            let pairs = found.iter().zip(expected);
            let distance = pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            // a key's bias shifts all scores of a query alike
            let zero = name.ends_with("k_proj.bias") && size < 1e-12;
            assert!(
                zero || size > 1e-6,
                "{architecture:?} {name} is not tested: {size}"
            );
            assert!(
                distance < 1e-11 * size + 1e-14,
                "{architecture:?} {name}: {distance} of {size}"
            );
        }
    }
}

#[test]
fn f32_agrees_with_f64() {
    let config = tiny(Architecture::Qwen3);
    let weights = weights(&config);
    let mut exact = Trainer::<f64>::new(&config, &weights, train_config(1)).unwrap();
    let mut short = Trainer::<f32>::new(&config, &weights, train_config(1)).unwrap();
    let (a, b) = (
        exact.gradients(&sequences()).unwrap(),
        short.gradients(&sequences()).unwrap(),
    );
    assert!((a - b).abs() < 1e-5, "{a} {b}");
    for (a, b) in exact
        .last_gradients()
        .values()
        .iter()
        .zip(short.last_gradients().values())
    {
        assert!((a - f64::from(*b)).abs() < 2e-5, "{a} {b}");
    }
}

/// Compares directional derivatives along random directions, tensor by tensor.
fn check_differences(config: &ModelConfig, sequences: &[Sequence], tolerance: f64) {
    let weights = weights(config);
    let mut trainer = Trainer::<f64>::new(config, &weights, train_config(1)).unwrap();
    trainer.gradients(sequences).unwrap();
    let gradients = trainer.last_gradients().clone();
    let mut rng = SplitMix64::new(3);
    for (name, tensor) in &weights.0 {
        let direction: Vec<f32> = (0..tensor.elem_count())
            .map(|_| if rng.below(2) == 0 { 1.0 } else { -1.0 })
            .collect();
        let pairs = gradients.get(name).unwrap().iter().zip(&direction);
        let slope: f64 = pairs.map(|(g, d)| g * f64::from(*d)).sum();
        let loss_at = |steps: f64| {
            let mut moved = weights.clone();
            let by = Tensor::from_vec(direction.clone(), tensor.dims(), tensor.device()).unwrap();
            let by = (by * (steps / 65536.0)).unwrap();
            moved.0.insert(name.clone(), (tensor + by).unwrap());
            let mut trainer = Trainer::<f64>::new(config, &moved, train_config(1)).unwrap();
            trainer.gradients(sequences).unwrap()
        };
        let measured = (loss_at(1.0) - loss_at(-1.0)) * (65536.0 / 2.0);
        let error = (measured - slope).abs();
        assert!(
            error < tolerance * (1.0 + slope.abs()),
            "{name}: {measured} {slope}"
        );
    }
}

#[test]
fn agree_with_finite_differences() {
    for architecture in ALL {
        check_differences(&tiny(architecture), &sequences(), 1e-6);
    }
}

#[test]
fn distillation_agrees_with_finite_differences() {
    let settings = TopKSettings {
        student_top: 6,
        ratio: 0.7,
        ..TopKSettings::default()
    };
    for divergence in [
        Divergence::Forward,
        Divergence::Reverse,
        Divergence::Adaptive,
    ] {
        let settings = TopKSettings {
            divergence,
            ..settings
        };
        check_differences(&tiny(Architecture::Qwen3), &distilled(settings), 1e-5);
    }
}

#[test]
fn policy_gradients_agree_with_finite_differences() {
    for ratio in [Ratio::Token, Ratio::Sequence] {
        // wide clips, so that no step crosses one
        let settings = PolicySettings {
            ratio,
            clip_low: 0.9,
            clip_high: 20.0,
            kl_estimator: KlEstimator::K3,
            kl_coefficient: 0.2,
            entropy_coefficient: 0.3,
            ..PolicySettings::default()
        };
        check_differences(&tiny(Architecture::Llama), &rollouts(settings), 1e-5);
    }
}

#[test]
fn micro_batches_count_equally() {
    let config = tiny(Architecture::Qwen3);
    let weights = weights(&config);
    let loss = |sequences: &[Sequence], normalisation| {
        let config_ = TrainConfig {
            normalisation,
            ..train_config(1)
        };
        let mut trainer = Trainer::<f64>::new(&config, &weights, config_).unwrap();
        trainer.gradients(sequences).unwrap()
    };
    for all in [sequences(), rollouts(PolicySettings::default())] {
        let parts: Vec<f64> = all
            .chunks(2)
            .map(|part| loss(part, Normalisation::Global))
            .collect();
        let mean = parts.iter().sum::<f64>() / parts.len() as f64;
        assert!((loss(&all, Normalisation::Micro(2)) - mean).abs() < 1e-12);
        assert!((loss(&all, Normalisation::Global) - mean).abs() > 1e-6);
    }
}

#[test]
fn a_saved_trainer_goes_on_as_if_it_had_not_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny(Architecture::Qwen3);
    let start = || Trainer::<f32>::new(&config, &weights(&config), train_config(2)).unwrap();
    let mut unbroken = start();
    for _ in 0..3 {
        unbroken.update(&sequences()).unwrap();
    }
    unbroken.save_state(folder.path()).unwrap();
    let first = std::fs::read(folder.path().join("trainer.safetensors")).unwrap();
    let mut resumed = start();
    resumed.load_state(folder.path()).unwrap();
    assert_eq!(resumed.updates(), 3);
    resumed.save_state(folder.path()).unwrap();
    assert!(first == std::fs::read(folder.path().join("trainer.safetensors")).unwrap());
    for _ in 0..2 {
        assert_eq!(
            unbroken.update(&sequences()).unwrap(),
            resumed.update(&sequences()).unwrap()
        );
    }
    assert!(unbroken.decoder().params() == resumed.decoder().params());

    let deeper = ModelConfig {
        num_hidden_layers: 3,
        ..config.clone()
    };
    let mut other = Trainer::<f32>::new(&deeper, &weights(&deeper), train_config(1)).unwrap();
    let error = other.load_state(folder.path()).unwrap_err().to_string();
    assert!(error.contains("model.layers.2"), "{error}");
    std::fs::write(
        folder.path().join("trainer.safetensors"),
        &first[..first.len() / 2],
    )
    .unwrap();
    assert!(resumed.load_state(folder.path()).is_err());
}

#[test]
fn wrong_sequences_are_errors() {
    let config = tiny(Architecture::Qwen3);
    let mut trainer = Trainer::<f32>::new(&config, &weights(&config), train_config(2)).unwrap();
    let ce = |ids: Vec<u32>, positions: Vec<u32>, weights: Vec<f32>| Sequence {
        ids,
        loss: LossTarget::CrossEntropy { positions, weights },
    };
    let before = trainer.decoder().params().to_vec();
    for sequence in [
        ce(vec![1, 2, 3], vec![0], vec![]),
        ce(vec![1, 2, 3], vec![3], vec![]),
        ce(vec![1, 2, 3], vec![2, 1], vec![]),
        ce(vec![1, 2, 31], vec![1], vec![]),
        ce(vec![1; 161], vec![1], vec![]),
        ce(vec![1, 2, 3], vec![1], vec![1.0, 2.0]),
        ce(vec![1, 2, 3], vec![1], vec![f32::NAN]),
        ce(vec![1, 2, 3], vec![], vec![]),
        ce(vec![], vec![], vec![]),
    ] {
        assert!(
            trainer.update(std::slice::from_ref(&sequence)).is_err(),
            "{sequence:?}"
        );
    }
    assert!(trainer.update(&[]).is_err());
    let mut distilled = distilled(TopKSettings::default());
    if let LossTarget::TopK(target) = &mut distilled[0].loss {
        target.teacher_logprobs[3] = f32::NEG_INFINITY;
    }
    assert!(trainer.update(&distilled).is_err());
    assert!(trainer.decoder().params() == before);
}

#[test]
fn do_not_depend_on_threads_or_recomputation() {
    let config = tiny(Architecture::Qwen3);
    let weights = weights(&config);
    let run = |threads: usize, recompute: bool| {
        let config_ = TrainConfig {
            recompute,
            ..train_config(threads)
        };
        let mut trainer = Trainer::<f32>::new(&config, &weights, config_).unwrap();
        let losses: Vec<u64> = (0..3)
            .map(|_| trainer.update(&sequences()).unwrap().loss.to_bits())
            .collect();
        let bits: Vec<u32> = trainer
            .decoder()
            .params()
            .iter()
            .map(|x| x.to_bits())
            .collect();
        (losses, bits)
    };
    let expected = run(1, false);
    for (threads, recompute) in [(2, false), (4, false), (9, false), (1, true), (3, true)] {
        assert!(
            run(threads, recompute) == expected,
            "{threads} threads, recompute {recompute}"
        );
    }
}

#[test]
fn packing_changes_nothing_and_sequences_do_not_see_each_other() {
    let config = tiny(Architecture::Qwen2);
    let weights = weights(&config);
    let all = sequences();
    let gradients = |chunk_tokens: usize, order: &[usize]| {
        let picked: Vec<Sequence> = order.iter().map(|&at| all[at].clone()).collect();
        let config_ = TrainConfig {
            chunk_tokens,
            ..train_config(1)
        };
        let mut trainer = Trainer::<f64>::new(&config, &weights, config_).unwrap();
        trainer.gradients(&picked).unwrap();
        trainer.last_gradients().values().to_vec()
    };
    let expected = gradients(1, &[0, 1, 2, 3]);
    for (chunk_tokens, order) in [
        (1000, [0, 1, 2, 3]),
        (1000, [3, 1, 0, 2]),
        (1, [2, 3, 1, 0]),
    ] {
        for (a, b) in gradients(chunk_tokens, &order).iter().zip(&expected) {
            assert!((a - b).abs() < 1e-13, "{a} {b}");
        }
    }
}

#[test]
fn training_learns_a_short_text_by_heart() {
    let config = tiny(Architecture::Qwen3);
    let weights = Weights::init(&config, 2).unwrap();
    let mut trainer = Trainer::<f32>::new(&config, &weights, train_config(2)).unwrap();
    let first = trainer.update(&sequences()[2..]).unwrap().loss;
    let mut last = first;
    for _ in 0..200 {
        last = trainer.update(&sequences()[2..]).unwrap().loss;
    }
    assert!(first > 3.0 && last < 0.05, "{first} {last}");
}

/// Answers to two prompts, one of them longer than an attention tile, and a text of its own.
fn grouped(loss: impl Fn(&[u32], usize) -> LossTarget) -> Vec<Sequence> {
    let mut rng = SplitMix64::new(31);
    let mut sequences = Vec::new();
    for (prompt, answers) in [(90, [5_usize, 70, 1, 12]), (17, [3, 3, 9, 2])] {
        let prompt = ids(&mut rng, prompt);
        for answer in answers {
            let ids = [prompt.clone(), ids(&mut rng, answer)].concat();
            let loss = loss(&ids, prompt.len());
            sequences.push(Sequence { ids, loss });
        }
    }
    let ids = ids(&mut rng, 30);
    let loss = loss(&ids, 4);
    sequences.push(Sequence { ids, loss });
    sequences
}

#[test]
fn packed_behind_one_prompt_is_as_on_its_own() {
    let answer = |ids: &[u32], prompt: usize| LossTarget::CrossEntropy {
        positions: (prompt as u32..ids.len() as u32).collect(),
        weights: Vec::new(),
    };
    let with_prompt = |ids: &[u32], prompt: usize| LossTarget::CrossEntropy {
        positions: (prompt as u32 - 3..ids.len() as u32).collect(),
        weights: Vec::new(),
    };
    let rollout = |ids: &[u32], prompt: usize| {
        let positions: Vec<u32> = (prompt as u32..ids.len() as u32).collect();
        LossTarget::Policy(PolicyTarget {
            advantages: vec![0.3; positions.len()],
            old_logprobs: vec![-3.4; positions.len()],
            reference_logprobs: None,
            positions,
            settings: PolicySettings {
                ratio: Ratio::Sequence,
                ..PolicySettings::default()
            },
        })
    };
    for architecture in ALL {
        let config = tiny(architecture);
        let weights = weights(&config);
        for sequences in [grouped(answer), grouped(with_prompt), grouped(rollout)] {
            let gradients = |share_prompts: bool, chunk_tokens: usize, recompute: bool| {
                let settings = TrainConfig {
                    share_prompts,
                    chunk_tokens,
                    recompute,
                    ..train_config(1)
                };
                let mut trainer = Trainer::<f64>::new(&config, &weights, settings).unwrap();
                let loss = trainer.gradients(&sequences).unwrap();
                (loss, trainer.last_gradients().values().to_vec())
            };
            let (loss, apart) = gradients(false, 20, false);
            let size = apart.iter().map(|x| x * x).sum::<f64>().sqrt();
            for (chunk_tokens, recompute) in [(1000, false), (1000, true), (40, false), (1, false)]
            {
                let (shared_loss, shared) = gradients(true, chunk_tokens, recompute);
                let pairs = apart.iter().zip(&shared);
                let distance = pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                assert!(
                    (loss - shared_loss).abs() < 1e-12,
                    "{architecture:?}: {loss} {shared_loss}"
                );
                assert!(
                    distance < 1e-11 * size,
                    "{architecture:?}: {distance} of {size}"
                );
            }
        }
    }
}

#[test]
fn sharing_prompts_saves_tokens_and_moves_only_the_last_bits() {
    let config = tiny(Architecture::Qwen3);
    let weights = weights(&config);
    let mut rng = SplitMix64::new(3);
    let prompt = ids(&mut rng, 100);
    let sequences: Vec<Sequence> = (0..8)
        .map(|_| {
            let ids = [prompt.clone(), ids(&mut rng, 12)].concat();
            let loss = LossTarget::CrossEntropy {
                positions: (100..112).collect(),
                weights: Vec::new(),
            };
            Sequence { ids, loss }
        })
        .collect();
    let update = |share_prompts: bool, threads: usize| {
        let settings = TrainConfig {
            share_prompts,
            chunk_tokens: 120,
            ..train_config(threads)
        };
        let mut trainer = Trainer::<f32>::new(&config, &weights, settings).unwrap();
        let stats = trainer.update(&sequences).unwrap();
        (stats, trainer.last_gradients().values().to_vec())
    };
    let (apart, gradients) = update(false, 1);
    let (shared, other) = update(true, 1);
    assert_eq!((apart.tokens, apart.computed), (896, 896));
    assert_eq!((shared.tokens, shared.computed), (896, 196));
    assert!((apart.loss - shared.loss).abs() < 1e-5 * apart.loss);
    let size = gradients.iter().map(|x| x * x).sum::<f32>().sqrt();
    let pairs = gradients.iter().zip(&other);
    let distance = pairs.map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
    assert!(distance < 1e-5 * size, "{distance} of {size}");
    assert_eq!(update(true, 3).1, other);
}
