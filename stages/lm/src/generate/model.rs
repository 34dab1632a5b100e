//! The decoder as generation runs it: packed weights, rows of many sequences at once, no gradients.

use std::borrow::Cow;
use std::ops::Range;

use pulp::Arch;

use super::Kept;
use super::attention::{Attend, Buffers, Query};
use super::cache::{Cache, CacheShape};
use super::tile::{self, GROUP, Packed, Quantised, matmul};
use crate::config::ModelConfig;
use crate::error::LmError;
use crate::kernels::norm::rms_norm;
use crate::kernels::rope::{RopeTable, heads_forward};
use crate::kernels::swiglu::swiglu;
use crate::kernels::vector::{add_assign, add_row};

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

/// The values of a tensor by its name, row-major, borrowed where they lie already.
pub(crate) type Values<'a> = dyn Fn(&str) -> Result<Cow<'a, [f32]>, LmError> + 'a;

/// Bytes of weights from which on threads share each product; smaller models fit near the processor, and threads
/// do better with sequences of their own.
const SHARED_BYTES: usize = 24 << 20;

#[derive(Debug)]
pub(super) struct Model {
    pub(super) config: ModelConfig,
    arch: Arch,
    rope: RopeTable<f32>,
    /// Row-major rows, or none when the head holds them.
    embedding: Option<Vec<f32>>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Packed,
}

/// Buffers kept between calls; with more than one thread, those of the rayon pool that it is used in.
#[derive(Debug)]
pub(super) struct Scratch {
    stream: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    /// 1 / root mean square of each row or head; nothing reads it.
    inverse: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    inner: Vec<f32>,
    branch: Vec<f32>,
    /// One for each thread.
    product: Vec<tile::Buffers>,
    /// One for each thread.
    attention: Vec<(Vec<Query>, Buffers)>,
}

impl Scratch {
    /// Buffers for work that up to `threads` threads share.
    pub(super) fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        Self {
            stream: Vec::new(),
            normed: Vec::new(),
            qkv: Vec::new(),
            queries: Vec::new(),
            keys: Vec::new(),
            inverse: Vec::new(),
            attended: Vec::new(),
            gate_up: Vec::new(),
            inner: Vec::new(),
            branch: Vec::new(),
            product: (0..threads).map(|_| tile::Buffers::default()).collect(),
            attention: (0..threads).map(|_| Default::default()).collect(),
        }
    }
}

impl Model {
    pub(super) fn new(
        config: &ModelConfig,
        values: &Values<'_>,
        kept: Kept,
    ) -> Result<Self, LmError> {
        let embedding = values("model.embed_tokens.weight")?;
        let (head, embedding) = if config.tie_word_embeddings {
            (pack(config.hidden_size, &[&embedding], kept), None)
        } else {
            let head = pack(config.hidden_size, &[&values("lm_head.weight")?], kept);
            (head, Some(embedding.into_owned()))
        };
        let layers = (0..config.num_hidden_layers).map(|index| layer(config, values, kept, index));
        Ok(Self {
            config: config.clone(),
            arch: Arch::new(),
            rope: RopeTable::new(config),
            embedding,
            layers: layers.collect::<Result<_, _>>()?,
            norm: values("model.norm.weight")?.into_owned(),
            head,
        })
    }

    /// Bytes that computing one token reads.
    pub(super) fn bytes(&self) -> usize {
        let layer = |layer: &Layer| {
            let Layer {
                qkv,
                output,
                gate_up,
                down,
                ..
            } = layer;
            [qkv, output, gate_up, down].map(Packed::bytes)
        };
        let layers: usize = self.layers.iter().flat_map(layer).sum();
        layers + self.head.bytes()
    }

    /// Whether threads do better sharing each product than with sequences of their own.
    pub(super) fn is_heavy(&self) -> bool {
        self.bytes() > SHARED_BYTES
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
        matmul(self.arch, rows, &self.head, &mut scratch.product, logits);
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
        let Scratch {
            stream,
            normed,
            inverse,
            ..
        } = scratch;
        normed.resize(stream.len(), 0.0);
        inverse.resize(stream.len() / weight.len(), 0.0);
        rms_norm(stream, weight, self.epsilon(), normed, inverse);
    }

    fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
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
        self.normalise(&layer.input_norm, scratch);
        self.project(layer, positions, scratch);
        let (query, key) = (self.config.query_size(), self.config.key_size());
        let per_cache = positions.len() / caches.len();
        let rows = scratch.qkv.chunks_exact(layer.qkv.outputs());
        let rows = rows.zip(scratch.keys.chunks_exact(key)).zip(positions);
        for (row, ((qkv, keys), &position)) in rows.enumerate() {
            caches[row / per_cache].write(index, position, keys, &qkv[query + key..]);
        }
        scratch.attended.resize(positions.len() * query, 0.0);
        if per_cache == 1 {
            self.attend_steps(index, caches, positions, scratch);
        } else {
            for (number, cache) in caches.iter().enumerate() {
                let rows = number * per_cache..(number + 1) * per_cache;
                self.attend_prompt(index, cache, rows, positions, scratch);
            }
        }
        let Scratch {
            attended,
            branch,
            product,
            stream,
            ..
        } = scratch;
        self.add_product(attended, &layer.output, product, branch, stream);
    }

    /// Queries and keys, normalised and turned to their positions, and values (left in `qkv`).
    fn project(&self, layer: &Layer, positions: &[usize], scratch: &mut Scratch) {
        let config = &self.config;
        let (query, key) = (config.query_size(), config.key_size());
        let (rows, width) = (positions.len(), layer.qkv.outputs());
        let Scratch {
            normed,
            qkv,
            queries,
            keys,
            inverse,
            product,
            ..
        } = scratch;
        qkv.resize(rows * width, 0.0);
        matmul(self.arch, normed, &layer.qkv, product, qkv);
        if let Some(bias) = &layer.qkv_bias {
            add_row(qkv, bias);
        }
        inverse.resize(rows * config.num_attention_heads, 0.0);
        let parts = [
            (0, query, queries, &layer.q_norm),
            (query, key, keys, &layer.k_norm),
        ];
        for (offset, size, out, norm) in parts {
            out.resize(rows * size, 0.0);
            heads_forward(
                qkv,
                width,
                offset,
                norm.as_deref(),
                self.epsilon(),
                &self.rope,
                positions,
                out,
                inverse,
            );
        }
    }

    /// Attention of one row of each cache: the heads that share keys are taken together.
    fn attend_steps(
        &self,
        layer: usize,
        caches: &[Cache],
        positions: &[usize],
        scratch: &mut Scratch,
    ) {
        let config = &self.config;
        let (dim, heads) = (config.head_dim, config.num_key_value_heads);
        let group = config.num_attention_heads / heads;
        let width = group * dim;
        let Scratch {
            queries,
            attended,
            attention,
            ..
        } = scratch;
        let longest = positions.iter().max().map_or(0, |position| position + 1);
        let units = caches.len() * heads;
        let threads = threads_for(units * width * longest, attention.len());
        let share = units.div_ceil(threads);
        let one =
            |first: usize, queries: &[f32], out: &mut [f32], room: &mut (Vec<Query>, Buffers)| {
                let (list, buffers) = room;
                let parts = queries.chunks_exact(width).zip(out.chunks_exact_mut(width));
                for (at, (queries, out)) in parts.enumerate() {
                    let (row, head) = ((first + at) / heads, (first + at) % heads);
                    list.clear();
                    list.extend((0..group).map(|head| Query {
                        start: head * dim,
                        visible: positions[row] + 1,
                    }));
                    let call = Attend {
                        cache: &caches[row],
                        layer,
                        head,
                        head_dim: dim,
                        scale: (1.0 / (dim as f64).sqrt()) as f32,
                        list,
                        queries,
                        buffers,
                        out,
                    };
                    call.run(self.arch);
                }
            };
        spread(
            threads,
            share * width,
            queries,
            attended,
            attention,
            |part, queries, out, room| {
                one(part * share, queries, out, room);
            },
        );
    }

    /// Attention of rows of one cache that follow each other.
    fn attend_prompt(
        &self,
        layer: usize,
        cache: &Cache,
        rows: Range<usize>,
        positions: &[usize],
        scratch: &mut Scratch,
    ) {
        let config = &self.config;
        let (dim, query) = (config.head_dim, config.query_size());
        let group = config.num_attention_heads / config.num_key_value_heads;
        let Scratch {
            queries,
            attended,
            attention,
            ..
        } = scratch;
        let longest = positions[rows.end - 1] + 1;
        let threads = threads_for(rows.len() * query * longest, attention.len());
        let share = rows.len().div_ceil(threads).next_multiple_of(8);
        let whole = rows.start * query..rows.end * query;
        let (queries, attended) = (&queries[whole.clone()], &mut attended[whole]);
        spread(
            threads,
            share * query,
            queries,
            attended,
            attention,
            |part, queries, out, room| {
                let (list, buffers) = room;
                let first = rows.start + part * share;
                for head in 0..config.num_attention_heads {
                    list.clear();
                    list.extend((0..out.len() / query).map(|row| Query {
                        start: row * query + head * dim,
                        visible: positions[first + row] + 1,
                    }));
                    let call = Attend {
                        cache,
                        layer,
                        head: head / group,
                        head_dim: dim,
                        scale: (1.0 / (dim as f64).sqrt()) as f32,
                        list,
                        queries,
                        buffers,
                        out,
                    };
                    call.run(self.arch);
                }
            },
        );
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
            product,
            stream,
            ..
        } = scratch;
        gate_up.resize(rows * 2 * inner_size, 0.0);
        inner.resize(rows * inner_size, 0.0);
        matmul(self.arch, normed, &layer.gate_up, product, gate_up);
        let share = rows.div_ceil(threads_for(16 * inner.len(), product.len()));
        if share == rows {
            swiglu(gate_up, inner_size, inner);
        } else {
            let parts = gate_up.chunks(share * 2 * inner_size);
            let parts = parts.zip(inner.chunks_mut(share * inner_size));
            rayon::scope(|scope| {
                for (gate_up, inner) in parts {
                    scope.spawn(move |_| swiglu(gate_up, inner_size, inner));
                }
            });
        }
        self.add_product(inner, &layer.down, product, branch, stream);
    }

    /// `stream += x · weightᵀ`.
    fn add_product(
        &self,
        x: &[f32],
        weight: &Packed,
        product: &mut [tile::Buffers],
        branch: &mut Vec<f32>,
        stream: &mut [f32],
    ) {
        branch.resize(stream.len(), 0.0);
        matmul(self.arch, x, weight, product, branch);
        add_assign(stream, branch);
    }
}

/// How many of the threads some work is worth, counted in multiplications.
fn threads_for(work: usize, threads: usize) -> usize {
    if work < 1 << 16 { 1 } else { threads }
}

/// Calls `work` with the parts of two slices, on the current pool when there is more than one thread.
fn spread<'a, R: Send>(
    threads: usize,
    part: usize,
    queries: &'a [f32],
    out: &'a mut [f32],
    rooms: &'a mut [R],
    work: impl Fn(usize, &'a [f32], &'a mut [f32], &'a mut R) + Send + Sync,
) {
    let parts = queries.chunks(part).zip(out.chunks_mut(part)).zip(rooms);
    let work = &work;
    if threads == 1 {
        for (at, ((queries, out), room)) in parts.enumerate() {
            work(at, queries, out, room);
        }
        return;
    }
    rayon::scope(|scope| {
        for (at, ((queries, out), room)) in parts.enumerate() {
            scope.spawn(move |_| work(at, queries, out, room));
        }
    });
}

fn pack(inputs: usize, matrices: &[&[f32]], kept: Kept) -> Packed {
    if kept == Kept::Q8 && inputs.is_multiple_of(GROUP) {
        let matrices: Vec<Quantised> = matrices.iter().map(|m| quantise(m)).collect();
        Packed::quantised(inputs, &matrices.iter().collect::<Vec<_>>())
    } else {
        Packed::new(inputs, matrices)
    }
}

/// Rounds values to integers by groups, as Q8_0 does: what came from such integers becomes them again.
pub(crate) fn quantise(values: &[f32]) -> Quantised {
    let mut quantised = Quantised {
        integers: Vec::with_capacity(values.len()),
        factors: Vec::with_capacity(values.len() / GROUP),
    };
    for group in values.chunks(GROUP) {
        let greatest = group
            .iter()
            .fold(0.0_f32, |most, value| most.max(value.abs()));
        let factor = greatest / 127.0;
        let inverse = if factor > 0.0 { 1.0 / factor } else { 0.0 };
        let integers = group.iter().map(|value| (value * inverse).round() as i8);
        quantised.integers.extend(integers);
        quantised.factors.push(half::f16::from_f32(factor).to_f32());
    }
    quantised
}

fn layer(
    config: &ModelConfig,
    values: &Values<'_>,
    kept: Kept,
    index: usize,
) -> Result<Layer, LmError> {
    let values = |rest: &str| values(&format!("model.layers.{index}.{rest}"));
    let vector = |rest: &str| values(rest).map(Cow::into_owned);
    let projection = |name: &str| values(&format!("{name}.weight"));
    let optional = |wanted: bool, rest: &str| wanted.then(|| vector(rest)).transpose();
    let qkv = [
        projection("self_attn.q_proj")?,
        projection("self_attn.k_proj")?,
        projection("self_attn.v_proj")?,
    ];
    let gate_up = [projection("mlp.gate_proj")?, projection("mlp.up_proj")?];
    let qkv_bias = if config.attention_bias {
        let mut bias = vector("self_attn.q_proj.bias")?;
        bias.extend(&*values("self_attn.k_proj.bias")?);
        bias.extend(&*values("self_attn.v_proj.bias")?);
        Some(bias)
    } else {
        None
    };
    let normed = config.architecture.has_qk_norm();
    let hidden = config.hidden_size;
    Ok(Layer {
        input_norm: vector("input_layernorm.weight")?,
        qkv: pack(hidden, &[&qkv[0], &qkv[1], &qkv[2]], kept),
        qkv_bias,
        q_norm: optional(normed, "self_attn.q_norm.weight")?,
        k_norm: optional(normed, "self_attn.k_norm.weight")?,
        output: pack(
            config.query_size(),
            &[&projection("self_attn.o_proj")?],
            kept,
        ),
        middle_norm: vector("post_attention_layernorm.weight")?,
        gate_up: pack(hidden, &[&gate_up[0], &gate_up[1]], kept),
        down: pack(
            config.intermediate_size,
            &[&projection("mlp.down_proj")?],
            kept,
        ),
    })
}
