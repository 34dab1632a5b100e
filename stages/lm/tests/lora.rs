//! Low-rank adapters: gradients, threads, going on, files; and products in bfloat16.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use starling_lm::decoder::{LoraConfig, Targets};
use starling_lm::kernels::Precision;
use starling_lm::load::save_adapter;
use starling_lm::rng::SplitMix64;
use starling_lm::train::{LossTarget, Schedule, Sequence, TrainConfig, Trainer};
use starling_lm::{Architecture, Decoder, ModelConfig, Weights};

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
        rope_scaling: None,
        tie_word_embeddings: architecture != Architecture::Llama,
        max_position_embeddings: 160,
        attention_bias: architecture == Architecture::Qwen2,
        bos_token_id: None,
        eos_token_ids: vec![1],
    }
}

fn sequences() -> Vec<Sequence> {
    let mut rng = SplitMix64::new(5);
    [70, 2, 13, 9, 30]
        .into_iter()
        .map(|len| Sequence {
            ids: (0..len).map(|_| rng.below(31) as u32).collect(),
            loss: LossTarget::CrossEntropy {
                positions: (1..len as u32).collect(),
                weights: Vec::new(),
            },
        })
        .collect()
}

fn settings(targets: &[&str], threads: usize) -> TrainConfig {
    TrainConfig {
        threads,
        chunk_tokens: 20,
        lora: Some(LoraConfig {
            rank: 3,
            alpha: 6.0,
            targets: Targets::named(targets.iter().copied()).unwrap(),
            seed: 4,
        }),
        ..TrainConfig::new(Schedule::constant(1e-2))
    }
}

const SETS: [&[&str]; 3] = [
    &[
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ],
    &["q_proj", "v_proj"],
    &["k_proj", "up_proj"],
];

/// Moves an adapter away from its start, where half of it is 0.
fn moved(trainer: &mut Trainer<f64>) -> Vec<f64> {
    let mut rng = SplitMix64::new(7);
    let values = trainer.trained().iter();
    let values: Vec<f64> = values.map(|x| x + 0.2 * rng.normal_pair().0).collect();
    trainer.set_trained(&values).unwrap();
    values
}

#[test]
fn gradients_agree_with_finite_differences() {
    for architecture in [
        Architecture::Qwen3,
        Architecture::Qwen2,
        Architecture::Llama,
    ] {
        let config = tiny(architecture);
        let weights = Weights::init(&config, 1).unwrap();
        for targets in SETS {
            let mut trainer = Trainer::<f64>::new(&config, &weights, settings(targets, 1)).unwrap();
            let values = moved(&mut trainer);
            trainer.gradients(&sequences()).unwrap();
            let gradients = trainer.last_gradients().clone();
            let mut rng = SplitMix64::new(3);
            for entry in gradients.layout().entries() {
                let direction: Vec<f64> =
                    entry.range.clone().map(|_| rng.normal_pair().0).collect();
                let slope: f64 = gradients.values()[entry.range.clone()]
                    .iter()
                    .zip(&direction)
                    .map(|(g, d)| g * d)
                    .sum();
                let mut loss_at = |by: f64| {
                    let mut values = values.clone();
                    for (value, d) in values[entry.range.clone()].iter_mut().zip(&direction) {
                        *value += by * d;
                    }
                    trainer.set_trained(&values).unwrap();
                    trainer.gradients(&sequences()).unwrap()
                };
                let measured = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5;
                let error = (measured - slope).abs();
                assert!(
                    error < 1e-6 * (1.0 + slope.abs()),
                    "{}: {measured} {slope}",
                    entry.name
                );
            }
        }
    }
}

/// dA = s·Bᵀ·dW and dB = s·dW·Aᵀ, with dW from training all of the merged model.
#[test]
fn gradients_are_those_of_the_merged_matrix() {
    let config = tiny(Architecture::Qwen3);
    let start = Weights::init(&config, 1).unwrap();
    let mut narrow = Trainer::<f64>::new(&config, &start, settings(SETS[0], 2)).unwrap();
    let values = moved(&mut narrow);
    narrow.gradients(&sequences()).unwrap();
    let plain = TrainConfig {
        lora: None,
        ..settings(SETS[0], 1)
    };
    let mut whole = Trainer::<f64>::new(&config, &start, plain).unwrap();
    whole.set_trained(narrow.decoder().params()).unwrap();
    whole.gradients(&sequences()).unwrap();
    let gradients = narrow.last_gradients();
    let entries = gradients.layout().entries();
    for pair in entries.chunks_exact(2) {
        let (a, b) = (&pair[0], &pair[1]);
        let name = a.name.replace("lora_A.weight", "weight");
        let dw = whole.last_gradients().get(&name).unwrap();
        let (rank, inputs, outputs) = (a.shape[0], a.shape[1], b.shape[0]);
        let (av, bv) = (&values[a.range.clone()], &values[b.range.clone()]);
        for r in 0..rank {
            for i in 0..inputs {
                let sum = |o: usize| bv[o * rank + r] * dw[o * inputs + i];
                let expected = 2.0 * (0..outputs).map(sum).sum::<f64>();
                let found = gradients.get(&a.name).unwrap()[r * inputs + i];
                assert!(
                    (found - expected).abs() < 1e-12,
                    "{name}: {found} {expected}"
                );
            }
            for o in 0..outputs {
                let sum = |i: usize| dw[o * inputs + i] * av[r * inputs + i];
                let expected = 2.0 * (0..inputs).map(sum).sum::<f64>();
                let found = gradients.get(&b.name).unwrap()[o * rank + r];
                assert!(
                    (found - expected).abs() < 1e-12,
                    "{name}: {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn threads_and_a_break_change_no_byte() {
    let config = tiny(Architecture::Qwen2);
    let weights = Weights::init(&config, 1).unwrap();
    for precision in [Precision::F32, Precision::Bf16] {
        let settings = |threads| TrainConfig {
            precision,
            ..settings(SETS[0], threads)
        };
        let make = |threads| Trainer::<f32>::new(&config, &weights, settings(threads)).unwrap();
        let mut unbroken = make(1);
        for _ in 0..4 {
            unbroken.update(&sequences()).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let mut first = make(3);
        for _ in 0..2 {
            first.update(&sequences()).unwrap();
        }
        first.save_state(folder.path()).unwrap();
        let mut second = make(2);
        second.load_state(folder.path()).unwrap();
        for _ in 0..2 {
            second.update(&sequences()).unwrap();
        }
        assert_eq!(second.trained(), unbroken.trained());
        assert_eq!(second.decoder().params(), unbroken.decoder().params());
    }
}

#[test]
fn an_adapter_learns_and_leaves_the_rest_alone() {
    let config = tiny(Architecture::Llama);
    let weights = Weights::init(&config, 1).unwrap();
    let mut trainer = Trainer::<f32>::new(&config, &weights, settings(SETS[1], 2)).unwrap();
    // nothing has moved yet
    let before = Decoder::<f32>::new(&config, &weights).unwrap();
    assert_eq!(trainer.decoder().params(), before.params());
    let first = trainer.update(&sequences()).unwrap().loss;
    let mut last = first;
    for _ in 0..60 {
        last = trainer.update(&sequences()).unwrap().loss;
    }
    assert!(last < first - 0.05, "{first} {last}");
    let after = trainer.weights().unwrap();
    for name in weights.0.keys() {
        let same = weights.values(name).unwrap() == after.values(name).unwrap();
        let target = name.contains("q_proj.weight") || name.contains("v_proj.weight");
        assert_eq!(same, !target, "{name}");
    }
}

#[test]
fn the_files_hold_what_the_merged_model_was_made_of() {
    let config = tiny(Architecture::Qwen3);
    let weights = Weights::init(&config, 1).unwrap();
    let mut trainer = Trainer::<f32>::new(&config, &weights, settings(SETS[1], 1)).unwrap();
    for _ in 0..3 {
        trainer.update(&sequences()).unwrap();
    }
    let (lora, tensors) = trainer.adapter().unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    save_adapter(folder.path(), &lora, &tensors).unwrap();
    let text = std::fs::read_to_string(folder.path().join("adapter_config.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["r"], 3);
    assert_eq!(
        value["target_modules"],
        serde_json::json!(["q_proj", "v_proj"])
    );
    let path = folder.path().join("adapter_model.safetensors");
    let stored = candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap();
    assert_eq!(stored.len(), 8);
    let merged = trainer.weights().unwrap();
    for layer in 0..2 {
        let stem = format!("model.layers.{layer}.self_attn.v_proj");
        let part = |which: &str| {
            let name = format!("base_model.model.{stem}.{which}.weight");
            stored[&name].clone()
        };
        let moved = part("lora_B").matmul(&part("lora_A")).unwrap();
        let name = format!("{stem}.weight");
        let expected = (weights.get(&name).unwrap() + (moved * 2.0).unwrap()).unwrap();
        let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (a, b) in merged.values(&name).unwrap().iter().zip(&expected) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }
}

#[test]
fn what_cannot_be_adapted_is_an_error() {
    assert!(
        Targets::named(["q_proj", "head"])
            .unwrap_err()
            .to_string()
            .contains("`head`")
    );
    assert!(Targets::named([]).is_err());
    let config = tiny(Architecture::Qwen3);
    let weights = Weights::init(&config, 1).unwrap();
    let mut wrong = settings(SETS[0], 1);
    wrong.lora = wrong.lora.map(|lora| LoraConfig { rank: 0, ..lora });
    assert!(Trainer::<f32>::new(&config, &weights, wrong).is_err());
}

/// Rounding both sides of every product to 8 bits moves a gradient by a few per cent at most, whatever it is summed over.
#[test]
fn gradients_in_bfloat16_are_close_and_the_same_on_any_number_of_threads() {
    for architecture in [Architecture::Qwen3, Architecture::Llama] {
        let config = tiny(architecture);
        let weights = Weights::init(&config, 1).unwrap();
        let gradients = |precision, threads| {
            let settings = TrainConfig {
                precision,
                lora: None,
                ..settings(SETS[0], threads)
            };
            let mut trainer = Trainer::<f32>::new(&config, &weights, settings).unwrap();
            let loss = trainer.gradients(&sequences()).unwrap();
            (loss, trainer.last_gradients().values().to_vec())
        };
        let (loss, exact) = gradients(Precision::F32, 1);
        let (rounded_loss, rounded) = gradients(Precision::Bf16, 1);
        assert!((loss - rounded_loss).abs() < 2e-2 * loss);
        let norm = |values: &mut dyn Iterator<Item = f32>| {
            values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
        };
        let gap = norm(&mut exact.iter().zip(&rounded).map(|(a, b)| a - b));
        let whole = norm(&mut exact.iter().copied());
        assert!(gap > 0.0 && gap < 2e-2 * whole, "{gap} {whole}");
        assert_eq!(gradients(Precision::Bf16, 3).1, rounded);
    }
}
