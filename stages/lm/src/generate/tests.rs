//! Answers against the slow path, in any batch and on any threads.

use std::sync::Mutex;

use candle_core::{D, DType, Device, Tensor};

use super::*;
use crate::config::{Architecture, RopeScaling};
use crate::rng::SplitMix64;
use crate::score::Scores;
use crate::weights::tests::tiny;

const ARCHITECTURES: [Architecture; 3] = [
    Architecture::Qwen3,
    Architecture::Qwen2,
    Architecture::Llama,
];

fn quiet(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A tiny decoder whose every weight is random, norms and biases too, and large enough to matter.
fn random_model(architecture: Architecture) -> (ModelConfig, Weights) {
    let mut config = ModelConfig {
        max_position_embeddings: 300,
        ..tiny(architecture)
    };
    if architecture == Architecture::Llama {
        config.rope_scaling = Some(RopeScaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64,
        });
    }
    let mut rng = SplitMix64::new(architecture as u64);
    let mut weights = Weights::init(&config, 1).unwrap();
    for (name, tensor) in &mut weights.0 {
        let shift = if name.ends_with("norm.weight") {
            1.0
        } else {
            0.0
        };
        let values: Vec<f32> = (0..tensor.elem_count())
            .map(|_| (shift + 0.3 * rng.normal_pair().0) as f32)
            .collect();
        *tensor = Tensor::from_vec(values, tensor.dims(), &Device::Cpu).unwrap();
    }
    (config, weights)
}

fn generator(architecture: Architecture) -> Generator {
    let (config, weights) = random_model(architecture);
    Generator::new(&config, &weights).unwrap()
}

fn text(length: usize, seed: u64) -> Vec<u32> {
    let mut rng = SplitMix64::new(seed);
    (0..length).map(|_| rng.below(29) as u32).collect()
}

/// The logits by the models' published definition, composed of candle tensors in `f64`.
fn composed(
    config: &ModelConfig,
    weights: &Weights,
    tokens: &[u32],
) -> candle_core::Result<Vec<f64>> {
    let get = |name: &str| weights.get(name).unwrap().to_dtype(DType::F64);
    let (n, d) = (tokens.len(), config.head_dim);
    let norm = |x: &Tensor, weight: &Tensor| -> candle_core::Result<Tensor> {
        let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&(mean + config.rms_norm_eps)?.sqrt()?)?
            .broadcast_mul(weight)
    };
    let mut angles = Vec::new();
    for position in 0..n {
        for pair in 0..d / 2 {
            let mut turn = config.rope_theta.powf(-2.0 * pair as f64 / d as f64);
            if let Some(scaling) = &config.rope_scaling {
                let context = scaling.original_max_position_embeddings as f64;
                let wavelength = std::f64::consts::TAU / turn;
                if wavelength > context / scaling.low_freq_factor {
                    turn /= scaling.factor;
                } else if wavelength > context / scaling.high_freq_factor {
                    let span = scaling.high_freq_factor - scaling.low_freq_factor;
                    let smooth = (context / wavelength - scaling.low_freq_factor) / span;
                    turn = (1.0 - smooth) * turn / scaling.factor + smooth * turn;
                }
            }
            angles.push(position as f64 * turn);
        }
    }
    let angles = Tensor::from_vec(angles, (n, d / 2), &Device::Cpu)?;
    let (cos, sin) = (angles.cos()?, angles.sin()?);
    let turned = |x: &Tensor| -> candle_core::Result<Tensor> {
        let (a, b) = (
            x.narrow(D::Minus1, 0, d / 2)?,
            x.narrow(D::Minus1, d / 2, d / 2)?,
        );
        let low = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let high = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        Tensor::cat(&[low, high], D::Minus1)
    };
    let mask: Vec<f64> = (0..n * n)
        .map(|at| {
            if at % n > at / n {
                f64::NEG_INFINITY
            } else {
                0.0
            }
        })
        .collect();
    let mask = Tensor::from_vec(mask, (n, n), &Device::Cpu)?;
    let embedding = get("model.embed_tokens.weight")?;
    let ids = Tensor::new(tokens, &Device::Cpu)?;
    let mut stream = embedding.index_select(&ids, 0)?;
    for index in 0..config.num_hidden_layers {
        let get = |rest: &str| get(&format!("model.layers.{index}.{rest}"));
        let x = norm(&stream, &get("input_layernorm.weight")?)?;
        let heads = |part: &str, count: usize| -> candle_core::Result<Tensor> {
            let mut y = x.matmul(&get(&format!("self_attn.{part}_proj.weight"))?.t()?)?;
            if config.attention_bias {
                y = y.broadcast_add(&get(&format!("self_attn.{part}_proj.bias"))?)?;
            }
            y = y.reshape((n, count, d))?;
            if config.architecture.has_qk_norm() && part != "v" {
                y = norm(&y, &get(&format!("self_attn.{part}_norm.weight"))?)?;
            }
            y.transpose(0, 1)?.contiguous()
        };
        let (query_heads, key_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let group = query_heads / key_heads;
        let repeat = |x: Tensor| -> candle_core::Result<Tensor> {
            x.unsqueeze(1)?
                .repeat((1, group, 1, 1))?
                .reshape((query_heads, n, d))
        };
        let q = turned(&heads("q", query_heads)?)?;
        let k = repeat(turned(&heads("k", key_heads)?)?)?;
        let v = repeat(heads("v", key_heads)?)?;
        let scores = (q.matmul(&k.t()?)? / (d as f64).sqrt())?.broadcast_add(&mask)?;
        let shares = scores.exp()?;
        let shares = shares.broadcast_div(&shares.sum_keepdim(D::Minus1)?)?;
        let attended = shares
            .matmul(&v)?
            .transpose(0, 1)?
            .reshape((n, query_heads * d))?;
        stream = (stream + attended.matmul(&get("self_attn.o_proj.weight")?.t()?)?)?;
        let x = norm(&stream, &get("post_attention_layernorm.weight")?)?;
        let gate = x.matmul(&get("mlp.gate_proj.weight")?.t()?)?;
        let gate = (&gate / ((gate.neg()?.exp()? + 1.0)?))?;
        let up = x.matmul(&get("mlp.up_proj.weight")?.t()?)?;
        stream = (stream + (gate * up)?.matmul(&get("mlp.down_proj.weight")?.t()?)?)?;
    }
    let head = match config.tie_word_embeddings {
        true => embedding,
        false => get("lm_head.weight")?,
    };
    let x = norm(&stream, &get("model.norm.weight")?)?;
    x.matmul(&head.t()?)?.flatten_all()?.to_vec1()
}

#[test]
fn logits_are_those_of_the_composed_decoder() {
    for architecture in ARCHITECTURES {
        let (config, weights) = random_model(architecture);
        let generator = Generator::new(&config, &weights).unwrap();
        for length in [1, 5, 64, 150] {
            let tokens = text(length, 4);
            let exact = composed(&config, &weights, &tokens).unwrap();
            let found = generator.logits(&tokens).unwrap();
            let size = exact.iter().fold(0.0_f64, |size, x| size.max(x.abs()));
            let error = exact.iter().zip(&found).fold(0.0_f64, |error, (a, &b)| {
                error.max((a - f64::from(b)).abs())
            });
            assert_eq!(exact.len(), found.len());
            assert!(
                error < 1e-4 * size,
                "{architecture:?} {length}: {error} of {size}"
            );
        }
    }
}

/// Requests of many lengths, some past a block of the cache, with several samples.
fn requests() -> Vec<Request> {
    let lengths = [3, 70, 1, 64, 20, 131, 9, 33];
    let request = |(index, &length): (usize, &usize)| Request {
        id: 100 + index as u64,
        prompt: text(length, index as u64),
        samples: index % 4 + 1,
        max_new_tokens: (index == 4).then_some(5),
    };
    lengths.iter().enumerate().map(request).collect()
}

fn sampling() -> Sampling {
    Sampling {
        temperature: 0.9,
        top_p: 0.95,
        top_k: 20,
        stop_tokens: vec![7],
        max_new_tokens: 70,
        seed: 5,
        top_logprobs: 4,
        ..Sampling::default()
    }
}

#[test]
fn batches_threads_and_company_change_no_bit() {
    for architecture in ARCHITECTURES {
        let generator = generator(architecture);
        let requests = requests();
        let alone: Vec<Vec<Sample>> = requests
            .iter()
            .map(|request| {
                let one = std::slice::from_ref(request);
                let narrow = Sampling {
                    batch: 1,
                    ..sampling()
                };
                generator
                    .generate(one, &narrow, 1, &quiet)
                    .unwrap()
                    .remove(0)
            })
            .collect();
        for (batch, threads) in [(1, 1), (3, 2), (8, 1), (32, 1), (32, 3), (5, 40)] {
            let sampling = Sampling {
                batch,
                ..sampling()
            };
            let together = generator
                .generate(&requests, &sampling, threads, &quiet)
                .unwrap();
            assert_eq!(together, alone, "{architecture:?} {batch} {threads}");
        }
        let stops = alone.iter().flatten().map(|sample| sample.stop);
        assert!(stops.clone().any(|stop| stop == StopReason::Stop));
        assert!(stops.clone().any(|stop| stop == StopReason::Length));
    }
}

#[test]
fn more_samples_leave_the_first_ones_alone() {
    let generator = generator(Architecture::Qwen3);
    let mut request = Request::new(8, text(12, 0));
    let few = generator
        .generate(std::slice::from_ref(&request), &sampling(), 2, &quiet)
        .unwrap();
    request.samples = 9;
    let many = generator
        .generate(&[request], &sampling(), 2, &quiet)
        .unwrap();
    assert_eq!(few[0], many[0][..1]);
    assert_ne!(many[0][0], many[0][1]);
}

#[test]
fn records_are_those_of_reading_the_whole_text_again() {
    for architecture in ARCHITECTURES {
        let generator = generator(architecture);
        let requests = requests();
        let answers = generator
            .generate(&requests, &sampling(), 1, &quiet)
            .unwrap();
        for (request, samples) in requests.iter().zip(&answers) {
            for sample in samples {
                let tokens: Vec<u32> = [&request.prompt[..], &sample.tokens].concat();
                let logits = generator.logits(&tokens).unwrap();
                for (index, &token) in sample.tokens.iter().enumerate() {
                    let row = &logits[(request.prompt.len() + index - 1) * 29..][..29];
                    let mass: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
                    let exact = f64::from(row[token as usize]) - mass.ln();
                    let found = f64::from(sample.logprobs[index]);
                    assert!((found - exact).abs() < 1e-5, "{found} {exact}");
                    assert_eq!(sample.top[index].len(), 4);
                }
            }
        }
    }
}

#[test]
fn greedy_takes_the_likeliest_at_every_position() {
    let generator = generator(Architecture::Llama);
    let greedy = Sampling {
        temperature: 0.0,
        max_new_tokens: 40,
        ..Sampling::default()
    };
    let request = Request::new(1, text(30, 2));
    let sample = generator
        .generate(std::slice::from_ref(&request), &greedy, 1, &quiet)
        .unwrap();
    let sample = &sample[0][0];
    let tokens: Vec<u32> = [&request.prompt[..], &sample.tokens].concat();
    let logits = generator.logits(&tokens).unwrap();
    for (index, &token) in sample.tokens.iter().enumerate() {
        let row = &logits[(29 + index) * 29..][..29];
        assert!(row.iter().all(|&logit| logit <= row[token as usize]));
    }
    assert_eq!((sample.tokens.len(), sample.stop), (40, StopReason::Length));
}

#[test]
fn answers_end_at_the_context_and_at_their_limits() {
    let generator = generator(Architecture::Qwen2);
    let open = Sampling {
        max_new_tokens: 50,
        ..Sampling::default()
    };
    let of = |length: usize, samples: usize, max_new_tokens: Option<usize>| Request {
        id: 0,
        prompt: text(length, 1),
        samples,
        max_new_tokens,
    };
    let requests = [
        of(280, 2, None),
        of(300, 1, None),
        of(500, 1, None),
        of(10, 1, Some(0)),
        of(10, 0, None),
        of(250, 1, None),
    ];
    let answers = generator.generate(&requests, &open, 2, &quiet).unwrap();
    let ends: Vec<Vec<(usize, StopReason)>> = answers
        .iter()
        .map(|samples| samples.iter().map(|s| (s.tokens.len(), s.stop)).collect())
        .collect();
    use StopReason::{Context, Length};
    assert_eq!(ends[0], [(20, Context), (20, Context)]);
    assert_eq!(ends[1], [(0, Context)]);
    assert_eq!(ends[2], [(0, Context)]);
    assert_eq!(ends[3], [(0, Length)]);
    assert_eq!(ends[4], []);
    assert_eq!(ends[5], [(50, Length)]);
    assert!(
        generator
            .generate(&[], &open, 2, &quiet)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn progress_counts_and_can_stop() {
    let generator = generator(Architecture::Qwen3);
    let seen = Mutex::new(Vec::new());
    let note = |progress: Progress| {
        seen.lock().unwrap().push(progress);
        ControlFlow::Continue(())
    };
    let answers = generator
        .generate(&requests(), &sampling(), 2, &note)
        .unwrap();
    let mut seen = seen.into_inner().unwrap();
    seen.sort_by_key(|progress| progress.samples);
    let tokens: usize = answers
        .iter()
        .flatten()
        .map(|sample| sample.tokens.len())
        .sum();
    let last = seen.last().unwrap();
    assert_eq!((seen.len(), last.samples, last.all_samples), (20, 20, 20));
    assert_eq!(
        seen.iter().map(|progress| progress.tokens).max(),
        Some(tokens)
    );

    let stop = |_: Progress| ControlFlow::Break(());
    let outcome = generator.generate(&requests(), &sampling(), 2, &stop);
    assert!(matches!(outcome, Err(GenerateError::Interrupted)));
}

#[test]
fn what_cannot_be_done_is_an_error() {
    let generator = generator(Architecture::Qwen3);
    let fails = |requests: &[Request], sampling: &Sampling| {
        generator
            .generate(requests, sampling, 2, &quiet)
            .unwrap_err()
            .to_string()
    };
    let good = Sampling::default();
    assert!(fails(&[Request::new(4, Vec::new())], &good).contains("request 4"));
    assert!(fails(&[Request::new(4, vec![29])], &good).contains("token 29"));
    for wrong in [
        Sampling {
            temperature: f32::NAN,
            ..good.clone()
        },
        Sampling {
            temperature: -1.0,
            ..good.clone()
        },
        Sampling {
            top_p: 0.0,
            ..good.clone()
        },
        Sampling {
            top_p: f32::NAN,
            ..good.clone()
        },
        Sampling {
            batch: 0,
            ..good.clone()
        },
        Sampling {
            min_p: 1.5,
            ..good.clone()
        },
        Sampling {
            repetition_penalty: 0.0,
            ..good.clone()
        },
    ] {
        assert!(fails(&[Request::new(1, vec![1])], &wrong).starts_with("sampling"));
    }
    assert!(generator.logits(&text(301, 0)).is_err());

    let (config, mut weights) = random_model(Architecture::Qwen3);
    let nan = Tensor::full(f32::NAN, 12, &Device::Cpu).unwrap();
    weights.0.insert("model.norm.weight".into(), nan);
    let broken = Generator::new(&config, &weights).unwrap();
    let outcome = broken.generate(&requests(), &good, 2, &quiet);
    assert!(matches!(outcome, Err(GenerateError::NotFinite { .. })));
    weights.0.remove("model.norm.weight");
    assert!(Generator::new(&config, &weights).is_err());
}

/// A model large enough that threads share each product.
fn heavy() -> (ModelConfig, Weights) {
    let config = ModelConfig {
        vocab_size: 700,
        hidden_size: 1024,
        intermediate_size: 2560,
        num_hidden_layers: 3,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 32,
        max_position_embeddings: 300,
        ..tiny(Architecture::Qwen3)
    };
    let weights = Weights::init(&config, 2).unwrap();
    (config, weights)
}

#[test]
fn a_heavy_model_gives_the_same_text_on_any_number_of_threads() {
    let (config, weights) = heavy();
    for kept in [Kept::F32, Kept::Q8] {
        let generator = Generator::keeping(&config, &weights, kept).unwrap();
        assert!(generator.weight_bytes() > 24 << 20);
        let requests: Vec<Request> = [1, 40, 150, 150]
            .iter()
            .enumerate()
            .map(|(at, &length)| Request {
                samples: 2,
                ..Request::new(at as u64, text(length, 9))
            })
            .collect();
        let sampling = Sampling {
            max_new_tokens: 12,
            batch: 8,
            ..sampling()
        };
        let first = generator.generate(&requests, &sampling, 1, &quiet).unwrap();
        for (threads, batch) in [(2, 8), (3, 1), (2, 3)] {
            let sampling = Sampling {
                batch,
                ..sampling.clone()
            };
            assert_eq!(
                generator
                    .generate(&requests, &sampling, threads, &quiet)
                    .unwrap(),
                first
            );
        }
        let texts: Vec<Vec<u32>> = requests
            .iter()
            .map(|request| request.prompt.clone())
            .collect();
        let scores = generator.scores(&texts, 3, 1).unwrap();
        assert_eq!(generator.scores(&texts, 3, 2).unwrap(), scores);
    }
}

#[test]
fn prompts_that_begin_alike_are_read_once_and_give_the_same_text() {
    for architecture in ARCHITECTURES {
        let generator = generator(architecture);
        let system = text(130, 4);
        let requests: Vec<Request> = [0, 1, 5, 70, 70, 3]
            .iter()
            .enumerate()
            .map(|(at, &own)| {
                let prompt = [system.clone(), text(own, at as u64)].concat();
                Request {
                    samples: 2,
                    ..Request::new(at as u64, prompt)
                }
            })
            .collect();
        let (together, usage) = generator
            .generate_with_usage(&requests, &sampling(), 1, &quiet)
            .unwrap();
        let all: usize = requests.iter().map(|request| request.prompt.len()).sum();
        assert_eq!(usage.read_tokens + usage.shared_tokens, all);
        assert!(usage.shared_tokens >= 5 * 129, "{usage:?}");
        assert!(usage.step_tokens >= usage.steps && usage.cache_bytes > 0);
        for (request, expected) in requests.iter().zip(&together) {
            let alone = generator.generate(std::slice::from_ref(request), &sampling(), 1, &quiet);
            assert_eq!(&alone.unwrap()[0], expected);
        }
    }
}

#[test]
fn scores_are_the_bits_that_generation_recorded() {
    let generator = generator(Architecture::Qwen3);
    let requests = requests();
    let answers = generator
        .generate(&requests, &sampling(), 1, &quiet)
        .unwrap();
    for (request, samples) in requests.iter().zip(&answers) {
        for sample in samples {
            let whole = [&request.prompt[..], &sample.tokens].concat();
            let scores = &generator.scores(&[whole], 4, 1).unwrap()[0];
            let from = request.prompt.len() - 1;
            assert_eq!(scores.logprobs[from..], sample.logprobs);
            assert_eq!(scores.entropies[from..], sample.entropies);
            let top: Vec<u32> = sample.top.iter().flatten().map(|top| top.id).collect();
            assert_eq!(scores.top_ids[4 * from..], top);
        }
    }
    let outcome = generator.scores(&[vec![1, 2], vec![1, 99]], 0, 1);
    assert!(matches!(outcome, Err(GenerateError::Request { id: 1, .. })));
    let none: Vec<Vec<u32>> = vec![vec![], vec![3]];
    assert_eq!(
        generator.scores(&none, 2, 1).unwrap(),
        [Scores::default(), Scores::default()]
    );
}

#[test]
fn a_penalty_on_repetition_leaves_no_token_twice_where_it_is_great() {
    let generator = generator(Architecture::Qwen2);
    let sampling = Sampling {
        temperature: 0.0,
        repetition_penalty: 1e6,
        max_new_tokens: 6,
        ..Sampling::default()
    };
    let prompt = vec![1, 2, 3];
    let sample = generator
        .generate(&[Request::new(1, prompt.clone())], &sampling, 1, &quiet)
        .unwrap();
    let mut tokens = [prompt, sample[0][0].tokens.clone()].concat();
    let count = tokens.len();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!((count, tokens.len()), (9, 9));
}
