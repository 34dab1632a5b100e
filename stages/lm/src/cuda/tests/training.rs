//! Losses, gradients and updates.

use super::twin::Twin;
use crate::config::{Architecture, ModelConfig};
use crate::cuda::{Device, Precision, Trainer};
use crate::loss::{Divergence, TopKSettings};
use crate::memory::DeviceMemory;
use crate::policy::{PolicySettings, Ratio};
use crate::rng::SplitMix64;
use crate::train::{
    LossTarget, PolicyTarget, Schedule, Sequence, TopKTarget, TrainConfig, Trainer as CpuTrainer,
};
use crate::weights::Weights;
use crate::weights::tests::tiny;

const ARCHITECTURES: [Architecture; 3] = [
    Architecture::Qwen3,
    Architecture::Qwen2,
    Architecture::Llama,
];

/// Texts of which some begin alike, long enough for several tiles of the attention.
fn texts(config: &ModelConfig, rng: &mut SplitMix64) -> Vec<Vec<u32>> {
    let mut token = |_: usize| rng.below(config.vocab_size as u64) as u32;
    let prompt: Vec<u32> = (0..37).map(&mut token).collect();
    let mut texts: Vec<Vec<u32>> = [5_usize, 18, 1]
        .iter()
        .map(|&own| {
            prompt
                .iter()
                .copied()
                .chain((0..own).map(&mut token))
                .collect()
        })
        .collect();
    texts.push((0..70).map(&mut token).collect());
    texts.push((0..2).map(&mut token).collect());
    texts
}

fn positions(ids: &[u32], rng: &mut SplitMix64) -> Vec<u32> {
    (1..ids.len() as u32).filter(|_| rng.below(3) > 0).collect()
}

fn cross_entropy(ids: Vec<u32>, rng: &mut SplitMix64) -> Sequence {
    let positions = positions(&ids, rng);
    let weights = positions.iter().map(|_| rng.uniform() as f32).collect();
    Sequence {
        ids,
        loss: LossTarget::CrossEntropy { positions, weights },
    }
}

fn cross_entropies(texts: Vec<Vec<u32>>, rng: &mut SplitMix64) -> Vec<Sequence> {
    let texts = texts.into_iter();
    texts.map(|ids| cross_entropy(ids, rng)).collect()
}

fn topk(
    ids: Vec<u32>,
    v: usize,
    k: usize,
    settings: TopKSettings,
    rng: &mut SplitMix64,
) -> Sequence {
    let positions = positions(&ids, rng);
    let (mut teacher_ids, mut teacher_logprobs) = (Vec::new(), Vec::new());
    for _ in &positions {
        let first = rng.below(v as u64) as usize;
        let logits: Vec<f64> = (0..v).map(|_| 2.0 * rng.normal_pair().0).collect();
        let sum: f64 = logits.iter().map(|z| z.exp()).sum();
        for at in 0..k {
            let id = (first + at * 3) % v;
            teacher_ids.push(id as u32);
            teacher_logprobs.push((logits[id] - sum.ln()) as f32);
        }
    }
    Sequence {
        ids,
        loss: LossTarget::TopK(TopKTarget {
            positions,
            weights: Vec::new(),
            k,
            teacher_ids,
            teacher_logprobs,
            settings,
        }),
    }
}

fn policy(ids: Vec<u32>, settings: PolicySettings, rng: &mut SplitMix64) -> Sequence {
    let positions = positions(&ids, rng);
    let mut draw = |around: f64, by: f64| -> Vec<f32> {
        let number = |_: &u32| (around + by * rng.normal_pair().0) as f32;
        positions.iter().map(number).collect()
    };
    let (advantages, old, reference) = (draw(0.0, 1.0), draw(-3.4, 0.2), draw(-3.4, 0.3));
    Sequence {
        ids,
        loss: LossTarget::Policy(PolicyTarget {
            positions,
            advantages,
            old_logprobs: old,
            reference_logprobs: Some(reference),
            settings,
        }),
    }
}

fn relative(found: &[f32], expected: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let pairs = found.iter().zip(expected);
    let off = square(&mut pairs.map(|(a, b)| f64::from(a - b)));
    let size = square(&mut expected.iter().map(|&b| f64::from(b)));
    if size > 0.0 {
        (off / size).sqrt()
    } else {
        off.sqrt()
    }
}

/// Gradients of every tensor, then three updates, against the processor's.
fn agree(
    config: &ModelConfig,
    sequences: &[Sequence],
    settings: TrainConfig,
    precision: Precision,
    backwards: bool,
    tolerance: f64,
) {
    let weights = Weights::init(config, 5).unwrap();
    let mut cpu = CpuTrainer::<f32>::new(config, &weights, settings).unwrap();
    let device = Twin::device(precision, backwards);
    let mut device = Trainer::new(&device, config, &weights, settings).unwrap();
    let expected = cpu.gradients(sequences).unwrap();
    let found = device.gradients(sequences).unwrap();
    assert!(
        (found - expected).abs() <= tolerance * expected.abs().max(1.0),
        "loss {found}, {expected}"
    );
    let gradients = device.last_gradients().unwrap();
    for entry in cpu.decoder().layout().entries() {
        let expected = cpu.last_gradients().get(&entry.name).unwrap();
        let off = relative(gradients.get(&entry.name).unwrap(), expected);
        assert!(off <= tolerance, "{}: {off}", entry.name);
    }
    for _ in 0..3 {
        let expected = cpu.update(sequences).unwrap();
        let found = device.update(sequences).unwrap();
        let near = |a: f64, b: f64| (a - b).abs() <= 3.0 * tolerance * b.abs().max(1.0);
        assert!(near(found.loss, expected.loss), "{found:?} {expected:?}");
        assert!(near(found.grad_norm, expected.grad_norm));
        assert!(near(found.policy.policy, expected.policy.policy));
        assert!(near(found.policy.kl, expected.policy.kl));
        assert!(near(found.policy.entropy, expected.policy.entropy));
        assert!(near(found.policy.clipped, expected.policy.clipped));
        let counts =
            |stats: &crate::train::UpdateStats| (stats.tokens, stats.computed, stats.positions);
        assert_eq!(counts(&found), counts(&expected));
    }
    let off = relative(&device.state().unwrap().params, cpu.decoder().params());
    assert!(off <= tolerance, "weights {off}");
}

fn settings() -> TrainConfig {
    TrainConfig {
        chunk_tokens: 64,
        ..TrainConfig::new(Schedule::constant(1e-3))
    }
}

#[test]
fn cross_entropy_agrees() {
    for (at, architecture) in ARCHITECTURES.into_iter().enumerate() {
        let config = tiny(architecture);
        let mut rng = SplitMix64::new(at as u64);
        let sequences = cross_entropies(texts(&config, &mut rng), &mut rng);
        agree(
            &config,
            &sequences,
            settings(),
            Precision::F32,
            at == 1,
            1e-5,
        );
    }
}

#[test]
fn layers_that_are_computed_again_give_the_same() {
    let config = tiny(Architecture::Qwen3);
    let mut rng = SplitMix64::new(9);
    let sequences = cross_entropies(texts(&config, &mut rng), &mut rng);
    let weights = Weights::init(&config, 5).unwrap();
    let mut all = Vec::new();
    for (recompute, backwards) in [(false, false), (true, false), (false, true)] {
        let settings = TrainConfig {
            recompute,
            ..settings()
        };
        let device = Twin::device(Precision::F32, backwards);
        let mut device = Trainer::new(&device, &config, &weights, settings).unwrap();
        device.update(&sequences).unwrap();
        all.push(device.state().unwrap().params);
    }
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert!(bits(&all[0]) == bits(&all[1]), "computed again");
    assert!(bits(&all[0]) == bits(&all[2]), "another order of threads");
}

#[test]
fn divergences_agree() {
    let config = tiny(Architecture::Llama);
    let v = config.vocab_size;
    let half = Divergence::JensenShannon { beta: 0.4 };
    for (number, (divergence, k, tail, student_top, ratio)) in [
        (Divergence::Forward, 5, 10.0, 7, 1.0),
        (Divergence::Reverse, 6, 0.0, 7, 0.7),
        (Divergence::Adaptive, 7, 2.0, 4, 0.5),
        (half, 4, 0.0, 7, 1.0),
        (half, v, 0.0, 7, 1.0),
        (Divergence::JensenShannon { beta: 0.0 }, 4, 1.0, 200, 1.0),
        (Divergence::JensenShannon { beta: 1.0 }, 4, 0.0, 7, 0.9),
    ]
    .into_iter()
    .enumerate()
    {
        let settings_of_loss = TopKSettings {
            divergence,
            tail_coefficient: tail,
            student_top,
            ratio,
        };
        let mut rng = SplitMix64::new(100 + number as u64);
        let sequences: Vec<_> = texts(&config, &mut rng)
            .into_iter()
            .take(3)
            .enumerate()
            .map(|(at, ids)| match at {
                2 => cross_entropy(ids, &mut rng),
                _ => topk(ids, v, k, settings_of_loss, &mut rng),
            })
            .collect();
        agree(
            &config,
            &sequences,
            settings(),
            Precision::F32,
            number % 2 == 1,
            2e-5,
        );
    }
}

#[test]
fn policies_agree() {
    let config = tiny(Architecture::Qwen3);
    for (number, ratio) in [Ratio::Token, Ratio::Sequence].into_iter().enumerate() {
        let settings_of_loss = PolicySettings {
            ratio,
            entropy_coefficient: 0.01,
            kl_coefficient: 0.1,
            dual_clip: Some(3.0),
            ..PolicySettings::default()
        };
        let mut rng = SplitMix64::new(200 + number as u64);
        let sequences: Vec<_> = texts(&config, &mut rng)
            .into_iter()
            .take(4)
            .map(|ids| policy(ids, settings_of_loss, &mut rng))
            .collect();
        agree(&config, &sequences, settings(), Precision::F32, false, 2e-5);
    }
}

#[test]
fn half_precision_is_near() {
    let config = tiny(Architecture::Qwen3);
    let mut rng = SplitMix64::new(3);
    let sequences = cross_entropies(texts(&config, &mut rng), &mut rng);
    agree(
        &config,
        &sequences,
        settings(),
        Precision::Bf16,
        false,
        3e-2,
    );
}

#[test]
fn a_state_goes_on_as_if_nothing_had_happened() {
    let config = tiny(Architecture::Qwen2);
    let mut rng = SplitMix64::new(4);
    let ids = texts(&config, &mut rng).swap_remove(0);
    let sequences = [cross_entropy(ids, &mut rng)];
    let weights = Weights::init(&config, 5).unwrap();
    let device = Twin::device(Precision::Bf16, false);
    let new = || Trainer::new(&device, &config, &weights, settings()).unwrap();
    let mut unbroken = new();
    unbroken.update(&sequences).unwrap();
    let state = unbroken.state().unwrap();
    unbroken.update(&sequences).unwrap();
    let mut resumed = new();
    resumed.set_state(&state).unwrap();
    resumed.update(&sequences).unwrap();
    assert_eq!(resumed.updates(), 2);
    assert!(resumed.state().unwrap().params == unbroken.state().unwrap().params);

    // through a file, which the processor's trainer reads as well
    let folder = tempfile::tempdir().unwrap();
    unbroken.save_state(folder.path()).unwrap();
    let mut resumed = new();
    resumed.load_state(folder.path()).unwrap();
    let (found, expected) = (resumed.state().unwrap(), unbroken.state().unwrap());
    assert!(found.params == expected.params && found.second == expected.second);
    let mut cpu = CpuTrainer::<f32>::new(&config, &weights, settings()).unwrap();
    cpu.load_state(folder.path()).unwrap();
    assert!(cpu.decoder().params() == expected.params && cpu.updates() == 2);
}

#[test]
fn the_formula_of_the_memory_is_near_what_is_taken() {
    let config = ModelConfig {
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 4,
        vocab_size: 60,
        ..tiny(Architecture::Qwen3)
    };
    let weights = Weights::init(&config, 5).unwrap();
    let mut rng = SplitMix64::new(6);
    let texts = (0..3).map(|_| (0..100).map(|_| rng.below(60) as u32).collect::<Vec<u32>>());
    let sequences = cross_entropies(texts.collect(), &mut rng);
    for (precision, recompute) in [
        (Precision::F32, false),
        (Precision::Bf16, false),
        (Precision::F32, true),
    ] {
        let board = Twin::board(false);
        let device = Device::with_board(board.clone(), precision);
        let settings = TrainConfig {
            chunk_tokens: 300,
            recompute,
            ..settings()
        };
        let mut trainer = Trainer::new(&device, &config, &weights, settings).unwrap();
        trainer.update(&sequences).unwrap();
        let said = DeviceMemory::training(&config, precision, 300, recompute).total() as f64;
        // the table of angles and the lists of tiles are not in it
        let taken = board.peak() as f64;
        assert!(taken < 1.15 * said && said < 1.4 * taken, "{taken} {said}");
    }
}
