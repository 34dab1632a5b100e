//! Updates of a policy as `rl` does them: answers of the model of this moment, a reference, an update.

use std::ops::ControlFlow;

use super::twin::Twin;
use crate::config::{Architecture, ModelConfig};
use crate::cuda::Precision;
use crate::generate::{Request, Sampling};
use crate::place::{Place, Scorer, Trainer};
use crate::policy::PolicySettings;
use crate::train::{LossTarget, PolicyTarget, Schedule, Sequence, TrainConfig};
use crate::weights::Weights;
use crate::weights::tests::tiny;

const PROMPTS: [&[u32]; 2] = [&[3, 1, 4, 1, 5, 9, 2, 6], &[3, 1, 4, 1, 5, 3, 5, 8, 9]];

/// Two updates; what was answered, and how likely its tokens were to trainer and reference.
fn refine(place: &Place, config: &ModelConfig, weights: &Weights) -> Vec<(Vec<u32>, Vec<f32>)> {
    let settings = TrainConfig::new(Schedule::constant(1e-3));
    Trainer::probe(place, config, weights, settings).unwrap();
    let reference = Scorer::new(place, config, weights).unwrap();
    let mut trainer = Trainer::new(place, config, weights, settings).unwrap();
    let sampling = Sampling {
        temperature: 1.0,
        max_new_tokens: 12,
        seed: 7,
        ..Sampling::default()
    };
    let mut seen = Vec::new();
    for update in 0..2_u64 {
        let generator = trainer.generator().unwrap();
        let requests = PROMPTS.iter().enumerate().map(|(at, prompt)| {
            let mut request = Request::new(10 * update + at as u64, prompt.to_vec());
            request.samples = 2;
            request
        });
        let requests: Vec<Request> = requests.collect();
        let go_on = |_| ControlFlow::Continue(());
        let answers = generator.generate(&requests, &sampling, 1, &go_on).unwrap();
        let mut sequences = Vec::new();
        for (prompt, samples) in PROMPTS.iter().zip(answers) {
            for (number, sample) in samples.into_iter().enumerate() {
                let ids: Vec<u32> = prompt.iter().chain(&sample.tokens).copied().collect();
                let from = prompt.len() - 1;
                let texts = [ids.clone()];
                let own = trainer.logprobs(&texts, 1).unwrap()[0].logprobs[from..].to_vec();
                let other = reference.logprobs(&texts, 1).unwrap()[0].logprobs[from..].to_vec();
                // What the sampler thought of its tokens is what the trainer thinks of them.
                for (a, b) in own.iter().zip(&sample.logprobs) {
                    assert!((a - b).abs() < 1e-4, "{a} {b}");
                }
                sequences.push(Sequence {
                    loss: LossTarget::Policy(PolicyTarget {
                        positions: (prompt.len() as u32..ids.len() as u32).collect(),
                        advantages: vec![if number == 0 { 1.0 } else { -1.0 }; own.len()],
                        old_logprobs: sample.logprobs,
                        reference_logprobs: Some(other.clone()),
                        settings: PolicySettings {
                            kl_coefficient: 0.1,
                            ..PolicySettings::default()
                        },
                    }),
                    ids,
                });
                seen.push((sample.tokens, own));
                seen.push((Vec::new(), other));
            }
        }
        trainer.update(&sequences).unwrap();
    }
    assert_eq!(trainer.updates(), 2);
    assert!(trainer.adapter().unwrap().is_none());
    seen
}

#[test]
fn updates_of_a_policy_agree() {
    let config = tiny(Architecture::Qwen3);
    let weights = Weights::init(&config, 11).unwrap();
    let expected = refine(&Place::Cpu, &config, &weights);
    let device = Place::Cuda(Twin::device(Precision::F32, false));
    let found = refine(&device, &config, &weights);
    assert_eq!(found.len(), expected.len());
    for ((tokens, logprobs), (own, wanted)) in found.iter().zip(&expected) {
        assert_eq!(tokens, own);
        for (a, b) in logprobs.iter().zip(wanted) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}

#[test]
fn a_tensor_that_cannot_learn_is_named() {
    let config = tiny(Architecture::Qwen3);
    let mut weights = Weights::init(&config, 11).unwrap();
    let name = "model.layers.0.mlp.gate_proj.weight";
    let zeros = weights.get(name).unwrap().zeros_like().unwrap();
    weights.0.insert(name.to_owned(), zeros);
    for place in [Place::Cpu, Place::Cuda(Twin::device(Precision::F32, false))] {
        let settings = TrainConfig::new(Schedule::constant(0.0));
        let error = Trainer::probe(&place, &config, &weights, settings).unwrap_err();
        assert!(error.to_string().contains("mlp.down_proj"), "{error}");
    }
}
