//! The decoder as generation runs it: packed weights, rows of many sequences at once, no gradients.

use pulp::Arch;

use super::attention::{Attend, Buffers, Query};
use super::cache::{Cache, CacheShape};
use super::math;
use super::rope::Rope;
use super::tile::{Packed, matmul};
use crate::config::ModelConfig;
use crate::error::LmError;
use crate::weights::Weights;

/// Rows of a prompt that are computed at a time; bounds memory, changes no bit.
const CHUNK: usize = 128;

#[derive(Debug)]
struct Layer {
    input_norm: Vec<f32>,
    qkv: Packed,
    qkv_bias: Option<Vec<f32>>,
    q_norm: Option<Vec<f32>>,
    k_norm: Option<Vec<f32>>,
    output: Packed,
    middle_norm: Vec<f32>,
    gate_up: Packed,
    down: Packed,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) config: ModelConfig,
    arch: Arch,
    rope: Rope,
    /// Row-major rows, or none when the head holds them.
    embedding: Option<Vec<f32>>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Packed,
}

/// Buffers of one thread, kept between calls.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    stream: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    inner: Vec<f32>,
    branch: Vec<f32>,
    turned: Vec<f32>,
    list: Vec<Query>,
    attention: Buffers,
}

impl Model {
    pub(super) fn new(config: &ModelConfig, weights: &Weights) -> Result<Self, LmError> {
        weights.check(config)?;
        let embedding = weights.values("model.embed_tokens.weight")?;
        let (head, embedding) = if config.tie_word_embeddings {
            (Packed::new(config.hidden_size, &[&embedding]), None)
        } else {
            let head = weights.values("lm_head.weight")?;
            let head = Packed::new(config.hidden_size, &[&head]);
            (head, Some(embedding))
        };
        let layers = (0..config.num_hidden_layers).map(|index| layer(config, weights, index));
        Ok(Self {
            config: config.clone(),
            arch: Arch::new(),
            rope: Rope::new(config),
            embedding,
            layers: layers.collect::<Result<_, _>>()?,
            norm: weights.values("model.norm.weight")?,
            head,
        })
    }

    pub(super) fn arch(&self) -> Arch {
        self.arch
    }

    pub(super) fn cache(&self) -> Cache {
        Cache::new(CacheShape::new(&self.config))
    }

    /// Reads the next tokens of one sequence and gives the hidden rows of the last `wanted` of them.
    ///
    /// # Shapes
    /// Returns `[wanted, hidden_size]`, normalised, ready for [`logits`](Self::logits).
    pub(super) fn read(
        &self,
        tokens: &[u32],
        cache: &mut Cache,
        wanted: usize,
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        let hidden = self.config.hidden_size;
        let skipped = tokens.len() - wanted;
        let mut rows = Vec::with_capacity(wanted * hidden);
        for (index, chunk) in tokens.chunks(CHUNK).enumerate() {
            let first = index * CHUNK;
            self.forward(chunk, std::slice::from_mut(cache), scratch);
            let unwanted = skipped.saturating_sub(first).min(chunk.len());
            rows.extend_from_slice(&scratch.normed[unwanted * hidden..chunk.len() * hidden]);
        }
        rows
    }

    /// Reads one token of each sequence and leaves the logits of the next ones.
    ///
    /// # Shapes
    /// `logits` becomes `[sequences, vocab_size]`.
    pub(super) fn step(
        &self,
        tokens: &[u32],
        caches: &mut [Cache],
        scratch: &mut Scratch,
        logits: &mut Vec<f32>,
    ) {
        self.forward(tokens, caches, scratch);
        let normed = std::mem::take(&mut scratch.normed);
        self.logits(&normed, scratch, logits);
        scratch.normed = normed;
    }

    /// The logits of hidden rows.
    pub(super) fn logits(&self, rows: &[f32], scratch: &mut Scratch, logits: &mut Vec<f32>) {
        let count = rows.len() / self.config.hidden_size;
        logits.resize(count * self.head.outputs(), 0.0);
        matmul(self.arch, rows, &self.head, &mut scratch.turned, logits);
    }

    /// Runs the layers: every token on the one cache in turn, or one token on each cache.
    fn forward(&self, tokens: &[u32], caches: &mut [Cache], scratch: &mut Scratch) {
        let config = &self.config;
        let per_cache = tokens.len() / caches.len();
        let mut positions = Vec::with_capacity(tokens.len());
        for cache in caches.iter_mut() {
            positions.extend(cache.length()..cache.length() + per_cache);
            cache.grow(per_cache);
        }
        scratch
            .stream
            .resize(tokens.len() * config.hidden_size, 0.0);
        let rows = scratch.stream.chunks_exact_mut(config.hidden_size);
        for (row, &token) in rows.zip(tokens) {
            self.embed(token, row);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            self.attend(index, layer, caches, &positions, scratch);
            self.feed(layer, scratch);
        }
        self.normalise(&self.norm, scratch);
    }

    fn embed(&self, token: u32, row: &mut [f32]) {
        match &self.embedding {
            Some(rows) => {
                let hidden = row.len();
                row.copy_from_slice(&rows[token as usize * hidden..][..hidden]);
            }
            None => self.head.row(token as usize, row),
        }
    }

    /// `normed = rms_norm(stream)`.
    fn normalise(&self, weight: &[f32], scratch: &mut Scratch) {
        let (hidden, epsilon) = (weight.len(), self.config.rms_norm_eps as f32);
        let Scratch { stream, normed, .. } = scratch;
        normed.resize(stream.len(), 0.0);
        let rows = stream
            .chunks_exact(hidden)
            .zip(normed.chunks_exact_mut(hidden));
        self.arch.dispatch(
            #[inline(always)]
            || {
                for (row, normed) in rows {
                    math::rms_norm(row, weight, epsilon, normed);
                }
            },
        );
    }

    /// Adds the attention of a layer to the stream.
    fn attend(
        &self,
        index: usize,
        layer: &Layer,
        caches: &mut [Cache],
        positions: &[usize],
        scratch: &mut Scratch,
    ) {
        let config = &self.config;
        self.normalise(&layer.input_norm, scratch);
        let width = layer.qkv.outputs();
        let (query, key) = (config.query_size(), config.key_size());
        let rows = positions.len();
        let per_cache = rows / caches.len();
        scratch.qkv.resize(rows * width, 0.0);
        let Scratch {
            normed,
            qkv,
            turned,
            ..
        } = scratch;
        matmul(self.arch, normed, &layer.qkv, turned, qkv);
        for (row, (values, &position)) in qkv.chunks_exact_mut(width).zip(positions).enumerate() {
            self.place(layer, values, position);
            let (keys, values) = values[query..].split_at(key);
            caches[row / per_cache].write(index, position, keys, values);
        }
        scratch.attended.resize(rows * query, 0.0);
        for (number, cache) in caches.iter().enumerate() {
            self.attend_cache(
                index,
                cache,
                number * per_cache,
                positions,
                scratch,
                per_cache,
            );
        }
        let Scratch {
            attended,
            branch,
            turned,
            stream,
            ..
        } = scratch;
        self.add_product(attended, &layer.output, turned, branch, stream);
    }

    /// Biases, norms and positions of a row's queries and keys.
    fn place(&self, layer: &Layer, row: &mut [f32], position: usize) {
        let config = &self.config;
        let epsilon = config.rms_norm_eps as f32;
        let (dim, query) = (config.head_dim, config.query_size());
        let turning = query + config.key_size();
        self.arch.dispatch(
            #[inline(always)]
            || {
                if let Some(bias) = &layer.qkv_bias {
                    math::add(row, bias);
                }
                for (head, values) in row[..turning].chunks_exact_mut(dim).enumerate() {
                    let norm = if head * dim < query {
                        &layer.q_norm
                    } else {
                        &layer.k_norm
                    };
                    if let Some(weight) = norm {
                        math::rms_norm_in_place(values, weight, epsilon);
                    }
                    self.rope.turn(values, position);
                }
            },
        );
    }

    /// Attention of the rows that belong to one cache.
    fn attend_cache(
        &self,
        layer: usize,
        cache: &Cache,
        first: usize,
        positions: &[usize],
        scratch: &mut Scratch,
        count: usize,
    ) {
        let config = &self.config;
        let (dim, query) = (config.head_dim, config.query_size());
        let width = query + 2 * config.key_size();
        let group = config.num_attention_heads / config.num_key_value_heads;
        // Queries lie in rows of `qkv`; outputs are wanted in rows of `attended`, so those of one call are gathered.
        let Scratch {
            qkv,
            attended,
            list,
            attention,
            ..
        } = scratch;
        let rows = first..first + count;
        let queries = &mut attended[rows.start * query..rows.end * query];
        for (queries, row) in queries.chunks_exact_mut(query).zip(rows.clone()) {
            queries.copy_from_slice(&qkv[row * width..][..query]);
        }
        let asked = &mut qkv[rows.start * width..][..count * query];
        asked.copy_from_slice(queries);
        for head in 0..config.num_key_value_heads {
            for member in 0..group {
                if count == 1 && member > 0 {
                    break;
                }
                list.clear();
                let members = if count == 1 {
                    0..group
                } else {
                    member..member + 1
                };
                for row in 0..count {
                    list.extend(members.clone().map(|member| Query {
                        start: row * query + (head * group + member) * dim,
                        visible: positions[first + row] + 1,
                    }));
                }
                let call = Attend {
                    cache,
                    layer,
                    head,
                    head_dim: dim,
                    scale: (1.0 / (dim as f64).sqrt()) as f32,
                    list,
                    queries: asked,
                    buffers: attention,
                    out: queries,
                };
                call.run(self.arch);
            }
        }
    }

    /// Adds the feed-forward part of a layer to the stream.
    fn feed(&self, layer: &Layer, scratch: &mut Scratch) {
        self.normalise(&layer.middle_norm, scratch);
        let inner_size = self.config.intermediate_size;
        let rows = scratch.normed.len() / self.config.hidden_size;
        let Scratch {
            normed,
            gate_up,
            inner,
            branch,
            turned,
            stream,
            ..
        } = scratch;
        gate_up.resize(rows * 2 * inner_size, 0.0);
        inner.resize(rows * inner_size, 0.0);
        matmul(self.arch, normed, &layer.gate_up, turned, gate_up);
        self.arch.dispatch(
            #[inline(always)]
            || {
                let rows = gate_up.chunks_exact(2 * inner_size);
                for (both, inner) in rows.zip(inner.chunks_exact_mut(inner_size)) {
                    let (gate, up) = both.split_at(inner_size);
                    math::swiglu(gate, up, inner);
                }
            },
        );
        self.add_product(inner, &layer.down, turned, branch, stream);
    }

    /// `stream += x · weightᵀ`.
    fn add_product(
        &self,
        x: &[f32],
        weight: &Packed,
        turned: &mut Vec<f32>,
        branch: &mut Vec<f32>,
        stream: &mut [f32],
    ) {
        branch.resize(stream.len(), 0.0);
        matmul(self.arch, x, weight, turned, branch);
        self.arch.dispatch(
            #[inline(always)]
            || math::add(stream, branch),
        );
    }
}

fn layer(config: &ModelConfig, weights: &Weights, index: usize) -> Result<Layer, LmError> {
    let values = |rest: &str| weights.values(&format!("model.layers.{index}.{rest}"));
    let projection = |name: &str| values(&format!("{name}.weight"));
    let optional = |wanted: bool, rest: &str| wanted.then(|| values(rest)).transpose();
    let qkv = [
        projection("self_attn.q_proj")?,
        projection("self_attn.k_proj")?,
        projection("self_attn.v_proj")?,
    ];
    let gate_up = [projection("mlp.gate_proj")?, projection("mlp.up_proj")?];
    let qkv_bias = if config.attention_bias {
        let mut bias = values("self_attn.q_proj.bias")?;
        bias.extend(values("self_attn.k_proj.bias")?);
        bias.extend(values("self_attn.v_proj.bias")?);
        Some(bias)
    } else {
        None
    };
    let normed = config.architecture.has_qk_norm();
    let hidden = config.hidden_size;
    Ok(Layer {
        input_norm: values("input_layernorm.weight")?,
        qkv: Packed::new(hidden, &[&qkv[0], &qkv[1], &qkv[2]]),
        qkv_bias,
        q_norm: optional(normed, "self_attn.q_norm.weight")?,
        k_norm: optional(normed, "self_attn.k_norm.weight")?,
        output: Packed::new(config.query_size(), &[&projection("self_attn.o_proj")?]),
        middle_norm: values("post_attention_layernorm.weight")?,
        gate_up: Packed::new(hidden, &[&gate_up[0], &gate_up[1]]),
        down: Packed::new(config.intermediate_size, &[&projection("mlp.down_proj")?]),
    })
}
