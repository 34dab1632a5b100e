//! Log-probabilities, loss and gradients of whole models against PyTorch's, from golden files.
//!
//! `scripts/peers/transformers_parity.py golden` writes them; each names the versions it was written by.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

#[path = "../../../tests/support/golden.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod golden;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use starling_lm::generate::{Generator, Kept};
use starling_lm::loss::TopKSettings;
use starling_lm::train::{LossTarget, Schedule, Sequence, TopKTarget, TrainConfig, Trainer};
use starling_lm::{ModelConfig, Weights};

/// What PyTorch computed in `f64` for one model.
struct Golden {
    name: String,
    bytes: Vec<u8>,
}

fn goldens() -> Vec<Golden> {
    golden::own_files("lm", |name| name.ends_with(".safetensors"))
        .into_iter()
        .map(|path| Golden {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            bytes: std::fs::read(&path).unwrap(),
        })
        .collect()
}

/// Says how many cases a set had; none is a failure.
#[expect(
    clippy::print_stdout,
    reason = "a golden test tells how many cases it saw"
)]
fn count(set: &str, cases: usize) {
    println!("golden lm {set}: {cases} cases");
    assert!(cases > 0);
}

impl Golden {
    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    fn note(&self, key: &str) -> String {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).unwrap();
        header.metadata().as_ref().unwrap()[key].clone()
    }

    fn words(&self, name: &str) -> Vec<[u8; 4]> {
        let file = self.file();
        let view = file.tensor(name).unwrap();
        view.data().as_chunks().0.to_vec()
    }

    fn reals(&self, name: &str) -> Vec<f32> {
        self.words(name)
            .into_iter()
            .map(f32::from_le_bytes)
            .collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.words(name)
            .into_iter()
            .map(u32::from_le_bytes)
            .collect()
    }

    fn model(&self) -> (ModelConfig, Weights) {
        let config = ModelConfig::from_json(&self.note("config")).unwrap();
        let mut weights = Weights::default();
        for (name, view) in self.file().tensors() {
            if let Some(short) = name.strip_prefix("weight.") {
                let values = self.reals(&name);
                let tensor = Tensor::from_vec(values, view.shape(), &Device::Cpu).unwrap();
                weights.0.insert(short.to_owned(), tensor);
            }
        }
        weights.check(&config).unwrap();
        (config, weights)
    }

    fn sequence(&self, loss: &str) -> Sequence {
        let positions = self.ids("positions");
        let loss = if loss == "ce" {
            LossTarget::CrossEntropy {
                positions,
                weights: Vec::new(),
            }
        } else {
            LossTarget::TopK(TopKTarget {
                k: self.ids("teacher_ids").len() / positions.len(),
                positions,
                weights: Vec::new(),
                teacher_ids: self.ids("teacher_ids"),
                teacher_logprobs: self.reals("teacher_logprobs"),
                settings: TopKSettings {
                    student_top: 9,
                    ratio: 0.8,
                    ..TopKSettings::default()
                },
            })
        };
        Sequence {
            ids: self.ids("ids"),
            loss,
        }
    }
}

#[test]
fn golden_lm_logits() {
    let mut cases = 0;
    for golden in goldens() {
        let (config, weights) = golden.model();
        let (ids, logits) = (golden.ids("ids"), golden.reals("logits"));
        let generator = Generator::new(&config, &weights).unwrap();
        let found = generator.logits(&ids).unwrap();
        let greatest = logits.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let pairs = found.iter().zip(&logits);
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / greatest;
        assert!(worst < 1e-4, "{}: {worst}", golden.name);

        let scores = &generator.scores(&[ids.as_slice()], 3, 1).unwrap()[0];
        let decoder = starling_lm::Decoder::new(&config, &weights).unwrap();
        let other =
            &starling_lm::score::logprobs(&decoder, std::slice::from_ref(&ids), 1).unwrap()[0];
        for (at, row) in logits
            .chunks_exact(config.vocab_size)
            .enumerate()
            .take(ids.len() - 1)
        {
            let mass: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            let exact = f64::from(row[ids[at + 1] as usize]) - mass.ln();
            for logprob in [scores.logprobs[at], other.logprobs[at]] {
                assert!(
                    (f64::from(logprob) - exact).abs() < 1e-4 * exact.abs().max(1.0),
                    "{}",
                    golden.name
                );
            }
            let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let top = f64::from(scores.top_logprobs[3 * at]);
            assert!((top - (f64::from(best) - mass.ln())).abs() < 1e-4);
        }
        // integers are near, not equal
        if config.hidden_size.is_multiple_of(32) {
            let kept = Generator::keeping(&config, &weights, Kept::Q8).unwrap();
            assert!(kept.weight_bytes() < generator.weight_bytes());
        }
        cases += 1;
    }
    count("logits", cases);
}

#[test]
fn golden_lm_gradients() {
    let mut cases = 0;
    for golden in goldens() {
        let (config, weights) = golden.model();
        for loss in ["ce", "ckd"] {
            for recompute in [false, true] {
                let settings = TrainConfig {
                    recompute,
                    ..TrainConfig::new(Schedule::constant(0.0))
                };
                let mut trainer = Trainer::<f32>::new(&config, &weights, settings).unwrap();
                let found = trainer.gradients(&[golden.sequence(loss)]).unwrap();
                let expected: f64 = golden.note(loss).parse().unwrap();
                assert!(
                    (found - expected).abs() < 1e-5 * expected.abs(),
                    "{} {loss}: {found} {expected}",
                    golden.name
                );
                let (mut distance, mut size) = (0.0, 0.0);
                for name in weights.0.keys() {
                    let expected = golden.reals(&format!("{loss}.{name}"));
                    let found = trainer.last_gradients().get(name).unwrap();
                    let (mut apart, mut own) = (0.0, 0.0);
                    for (a, b) in found.iter().zip(&expected) {
                        apart += f64::from(a - b).powi(2);
                        own += f64::from(*b).powi(2);
                    }
                    // a key's bias shifts all scores of a query alike: its gradient is 0 but for rounding
                    if !name.ends_with("k_proj.bias") {
                        let apart = (apart / own).sqrt();
                        assert!(apart < 3e-5, "{} {loss} {name}: {apart}", golden.name);
                    }
                    distance += apart;
                    size += own;
                }
                let distance = (distance / size).sqrt();
                let limit = if golden.name.starts_with("qwen3") {
                    1e-5
                } else {
                    2e-5
                };
                assert!(distance < limit, "{} {loss}: {distance}", golden.name);
                cases += 1;
            }
        }
    }
    count("gradients", cases);
}
