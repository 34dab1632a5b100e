//! How fast a machine does the work of language models, beside the most that it was measured to do.
//!
//! One table for every kind of device: a device says what it is, measures its own ceilings with work that has no
//! other limit (arithmetic in registers, reading far more memory than caches hold), and then each kind of work.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::config::{Architecture, ModelConfig};
use crate::error::LmError;
use crate::generate::{GenerateError, Generator, Kept, Request, Sampling};
use crate::kernels::attention::{Inputs, Segment, Shape, attention};
use crate::kernels::gemm::{Mat, MatMut, Write, matmul};
use crate::kernels::{Precision, bf16, vector};
use crate::rng::SplitMix64;
use crate::train::{LossTarget, Schedule, Sequence, TrainConfig, Trainer};
use crate::weights::Weights;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 10¹² floating-point operations a second; a fused multiply-add is two.
    Tflops,
    /// 10⁹ bytes a second.
    Gbytes,
}

impl Unit {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tflops => "TFLOP/s",
            Self::Gbytes => "GB/s",
        }
    }
}

/// A kind of work.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was done.
    pub work: &'static str,
    /// How much of it.
    pub size: String,
    /// How fast.
    pub figure: f64,
    /// In what.
    pub unit: Unit,
    /// The most that this device was measured to do, in the same unit.
    pub ceiling: f64,
}

/// Something that computes.
pub trait Device {
    /// What it is, for people.
    fn name(&self) -> String;

    /// Measures every kind of work that it does.
    ///
    /// # Errors
    /// [`LmError`] when it fails at one.
    fn measure(&self) -> Result<Vec<Row>, LmError>;
}

/// The processor, with some threads.
#[derive(Clone, Copy, Debug)]
pub struct Processor {
    /// Threads that work at once.
    pub threads: usize,
}

/// Seconds that a measurement should take, so that noise averages out.
const LONG_ENOUGH: f64 = 0.4;
/// Rounds of a ceiling's loop on a thread: some milliseconds, so that starting the thread does not count.
const LONG_ROUNDS: usize = 1 << 21;

impl Device for Processor {
    fn name(&self) -> String {
        format!("cpu, {} threads", self.threads)
    }

    fn measure(&self) -> Result<Vec<Row>, LmError> {
        let fused = self.rate(|| vector::peak(LONG_ROUNDS));
        let pairs = self.rate(|| bf16::peak(LONG_ROUNDS));
        let memory = self.bandwidth();
        let mut rows = vec![
            self.product(Precision::F32, fused),
            self.product(Precision::Bf16, pairs),
            self.attention(fused),
        ];
        for (precision, ceiling) in [(Precision::F32, fused), (Precision::Bf16, pairs)] {
            rows.push(self.train_step(precision, ceiling)?);
        }
        for kept in [Kept::F32, Kept::Q8] {
            rows.push(self.decode(kept, memory)?);
        }
        Ok(rows)
    }
}

impl Processor {
    /// Units a second of something that each thread does for itself and that returns its units.
    fn rate(&self, work: impl Fn() -> f64 + Sync) -> f64 {
        let (mut units, begin) = (0.0, Instant::now());
        loop {
            units += self.on_all(&work);
            let seconds = begin.elapsed().as_secs_f64();
            if seconds > LONG_ENOUGH {
                return units / seconds;
            }
        }
    }

    fn on_all(&self, work: &(impl Fn() -> f64 + Sync)) -> f64 {
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..self.threads).map(|_| scope.spawn(work)).collect();
            let mine = work();
            others
                .into_iter()
                .map(|other| other.join().unwrap_or(0.0))
                .sum::<f64>()
                + mine
        })
    }

    /// Bytes a second of reading, each thread its own 128 MB.
    fn bandwidth(&self) -> f64 {
        let buffers: Vec<Vec<f32>> = (0..self.threads).map(|_| vec![1.0; 1 << 25]).collect();
        let (mut bytes, begin) = (0.0, Instant::now());
        loop {
            std::thread::scope(|scope| {
                for buffer in &buffers {
                    scope.spawn(|| std::hint::black_box(vector::square_sum(buffer)));
                }
            });
            bytes += buffers
                .iter()
                .map(|b| size_of_val(b.as_slice()) as f64)
                .sum::<f64>();
            let seconds = begin.elapsed().as_secs_f64();
            if seconds > LONG_ENOUGH {
                return bytes / seconds / 1e9;
            }
        }
    }

    fn product(&self, precision: Precision, ceiling: f64) -> Row {
        let (m, k, n) = (1024, 576, 1536);
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        let figure = self.rate(|| {
            let mut out = vec![0.0; m * n];
            let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, n, k).t());
            for _ in 0..4 {
                matmul(precision, MatMut::new(&mut out, m, n), Write::Set, a, b);
            }
            8.0 * (m * k * n) as f64 / 1e12
        });
        Row {
            work: "matmul",
            size: format!("{m}×{k}×{n}, {}", name_of(precision)),
            figure,
            unit: Unit::Tflops,
            ceiling,
        }
    }

    /// Causal, forward; what no query sees is not counted as work.
    fn attention(&self, ceiling: f64) -> Row {
        let (tokens, heads, dim) = (1024, 8, 64);
        let width = heads * dim;
        let (q, k, v) = (
            random(tokens * width, 1),
            random(tokens * width, 2),
            random(tokens * width, 3),
        );
        let segments = [Segment {
            start: 0,
            len: tokens,
            before: 0,
            before_len: 0,
        }];
        let shape = Shape {
            heads,
            key_heads: heads,
            dim,
            segments: &segments,
        };
        let figure = self.rate(|| {
            let mut out = vec![0.0; tokens * width];
            let mut lse = vec![0.0; tokens * heads];
            let mut room = vec![0.0; shape.forward_room()];
            let inputs = Inputs {
                q: &q,
                k: &k,
                v: &v,
                v_stride: width,
            };
            attention(
                Precision::F32,
                &shape,
                inputs,
                &mut out,
                &mut lse,
                &mut room,
            );
            2.0 * (tokens * tokens * width) as f64 / 1e12
        });
        Row {
            work: "attention",
            size: format!("{tokens} tokens, {heads}×{dim}, f32"),
            figure,
            unit: Unit::Tflops,
            ceiling,
        }
    }

    /// Forward, backward, optimizer; 6 operations a parameter and token, and attention's own.
    fn train_step(&self, precision: Precision, ceiling: f64) -> Result<Row, LmError> {
        let config = model(8192, 6);
        let (count, len) = (2 * self.threads, 512);
        let mut rng = SplitMix64::new(1);
        let batch: Vec<Sequence> = (0..count)
            .map(|_| Sequence {
                ids: (0..len).map(|_| rng.below(8192) as u32).collect(),
                loss: LossTarget::CrossEntropy {
                    positions: (1..len as u32).collect(),
                    weights: Vec::new(),
                },
            })
            .collect();
        let settings = TrainConfig {
            threads: self.threads,
            precision,
            ..TrainConfig::new(Schedule::constant(1e-5))
        };
        let mut trainer = Trainer::<f32>::new(&config, &Weights::init(&config, 1)?, settings)?;
        trainer.update(&batch)?;
        let begin = Instant::now();
        let mut updates = 0;
        while begin.elapsed().as_secs_f64() < 2.0 * LONG_ENOUGH {
            trainer.update(&batch)?;
            updates += 1;
        }
        let tokens = (updates * count * len) as f64;
        let parameters = trainer.decoder().params().len() as f64;
        let seen = (config.num_hidden_layers * config.query_size() * len) as f64;
        let work = tokens * 6.0 * (parameters + seen) / 1e12;
        Ok(Row {
            work: "train step",
            size: format!(
                "{:.0}M parameters, {count}×{len} tokens, {}",
                parameters / 1e6,
                name_of(precision)
            ),
            figure: work / begin.elapsed().as_secs_f64(),
            unit: Unit::Tflops,
            ceiling,
        })
    }

    /// One sequence: every token reads all weights.
    fn decode(&self, kept: Kept, ceiling: f64) -> Result<Row, LmError> {
        let config = model(49_152, 16);
        let generator = Generator::keeping(&config, &Weights::init(&config, 1)?, kept)?;
        let seconds = |tokens: usize| {
            let sampling = Sampling {
                temperature: 0.0,
                max_new_tokens: tokens,
                ..Sampling::default()
            };
            let begin = Instant::now();
            let request = Request::new(1, vec![1; 16]);
            let go_on = |_| ControlFlow::Continue(());
            generator
                .generate(&[request], &sampling, self.threads, &go_on)
                .map(|_| begin.elapsed().as_secs_f64())
                .map_err(|error| match error {
                    GenerateError::Model(error) => error,
                    other => LmError::Config(other.to_string()),
                })
        };
        seconds(2)?;
        let (few, many) = (seconds(1)?, seconds(41)?);
        let bytes = generator.weight_bytes() as f64;
        Ok(Row {
            work: "decode",
            size: format!(
                "1 sequence, {:.0} MB of weights, {}",
                bytes / 1e6,
                match kept {
                    Kept::F32 => "f32",
                    Kept::Q8 => "Q8_0",
                }
            ),
            figure: 40.0 * bytes / (many - few).max(1e-9) / 1e9,
            unit: Unit::Gbytes,
            ceiling,
        })
    }
}

fn name_of(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

fn model(vocab_size: usize, layers: usize) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size,
        hidden_size: 512,
        intermediate_size: 1536,
        num_hidden_layers: layers,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        head_dim: 64,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        tie_word_embeddings: true,
        max_position_embeddings: 1024,
        attention_bias: false,
        bos_token_id: None,
        // none that is ever drawn
        eos_token_ids: vec![],
    }
}

fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = SplitMix64::new(seed);
    (0..count).map(|_| rng.uniform() as f32 - 0.5).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_share_of_a_measured_ceiling() {
        let rows = Processor { threads: 2 }.measure().unwrap();
        assert_eq!(rows.len(), 7);
        for row in rows {
            // sharing the machine with other tests makes ceilings low, so only nonsense is refused
            let share = row.figure / row.ceiling;
            assert!(share > 0.0 && share < 20.0, "{row:?}");
        }
    }
}
