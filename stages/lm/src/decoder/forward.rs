//! The forward pass, keeping what the backward pass needs.

use super::layout::LayerSlots;
use super::{Decoder, PackedBatch, Scratch};
use crate::error::LmError;
use crate::kernels::gemm::{Mat, MatMut, Write, matmul};
use crate::kernels::{Real, attention, embedding, norm, rope, swiglu, vector};

/// Segments and positions of a packed batch.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pub(crate) segments: Vec<attention::Segment>,
    pub(crate) positions: Vec<usize>,
}

impl Tokens {
    pub(crate) fn count(&self) -> usize {
        self.positions.len()
    }
}

/// What one layer keeps beside its input.
///
/// # Shapes
/// `n` tokens; `m` = `n`, or the wanted rows in the last layer.
pub(crate) struct LayerSaved<T> {
    /// 1/rms of the input, `[n]`.
    pub(crate) input_inverse: Vec<T>,
    /// Projections before head norms and rotation, `[n, q + 2·k]`.
    pub(crate) qkv: Vec<T>,
    /// Output of the attention, `[n, q]`.
    pub(crate) attended: Vec<T>,
    /// Log-sum-exp of the scores, `[n, heads]`.
    pub(crate) lse: Vec<T>,
    /// Rows of `attended` that go on; empty when all do.
    pub(crate) attended_rows: Vec<T>,
    /// Residual stream between the two halves, `[m, h]`.
    pub(crate) middle: Vec<T>,
    /// 1/rms of it, `[m]`.
    pub(crate) middle_inverse: Vec<T>,
    /// Gate and up, `[m, 2·i]`.
    pub(crate) gate_up: Vec<T>,
}

impl<T: Real> LayerSaved<T> {
    pub(crate) fn recycle(self, scratch: &mut Scratch<T>) {
        for buffer in [
            self.input_inverse,
            self.qkv,
            self.attended,
            self.lse,
            self.attended_rows,
            self.middle,
            self.middle_inverse,
            self.gate_up,
        ] {
            scratch.give(buffer);
        }
    }
}

/// Queries and keys as the attention sees them; cheap to compute again, so nobody keeps them.
pub(crate) struct Turned<T> {
    /// `[n, q]`.
    pub(crate) q: Vec<T>,
    /// `[n, k]`.
    pub(crate) k: Vec<T>,
    /// 1/rms of query heads, `[n, heads]`; empty without head norms.
    pub(crate) q_inverse: Vec<T>,
    /// The same of key heads.
    pub(crate) k_inverse: Vec<T>,
}

impl<T: Real> Turned<T> {
    pub(crate) fn recycle(self, scratch: &mut Scratch<T>) {
        for buffer in [self.q, self.k, self.q_inverse, self.k_inverse] {
            scratch.give(buffer);
        }
    }
}

/// What a forward pass leaves for the backward pass.
pub(crate) struct Saved<T> {
    pub(crate) ids: Vec<u32>,
    pub(crate) tokens: Tokens,
    /// Rows whose final hidden state was asked for.
    pub(crate) rows: Vec<usize>,
    /// Input of each layer, `[n, h]`.
    pub(crate) inputs: Vec<Vec<T>>,
    /// `None` for a layer that is to be computed again.
    pub(crate) layers: Vec<Option<LayerSaved<T>>>,
    /// Output of the last layer, `[rows, h]`.
    pub(crate) output: Vec<T>,
    pub(crate) output_inverse: Vec<T>,
    /// Normalised output, which the head reads, `[rows, h]`.
    pub(crate) hidden: Vec<T>,
}

impl<T: Real> Saved<T> {
    /// Gives all buffers back.
    pub(crate) fn recycle(self, scratch: &mut Scratch<T>) {
        for buffer in self.inputs {
            scratch.give(buffer);
        }
        for layer in self.layers.into_iter().flatten() {
            layer.recycle(scratch);
        }
        scratch.give(self.output);
        scratch.give(self.output_inverse);
        scratch.give(self.hidden);
    }
}

/// Whether layers keep their intermediates for the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    #[default]
    All,
    /// Only each layer's input; the backward pass computes the rest again, to the same bytes.
    Inputs,
    /// Nothing: there will be no backward pass.
    Nothing,
}

impl<T: Real> Decoder<T> {
    /// Runs the decoder over a batch and keeps the normalised final states of `rows` (token indexes, in any
    /// order, also repeated).
    ///
    /// # Errors
    /// [`LmError::Shape`] for a batch that the model cannot read or a row past its end.
    pub(crate) fn forward(
        &self,
        batch: &PackedBatch,
        rows: &[usize],
        keep: Keep,
        scratch: &mut Scratch<T>,
    ) -> Result<Saved<T>, LmError> {
        batch.check(&self.config)?;
        if let Some(&row) = rows.iter().find(|&&row| row >= batch.ids.len()) {
            return Err(LmError::shape(
                "row",
                &[row],
                format!("below {}", batch.ids.len()),
            ));
        }
        let tokens = Tokens {
            segments: batch.segments(),
            positions: batch.positions(),
        };
        let width = self.config.hidden_size;
        let mut x = scratch.take(tokens.count() * width);
        let ids = batch.ids.iter().map(|&id| id as usize);
        embedding::gather(self.slot(&self.layout.embedding), width, ids, &mut x);
        let (mut inputs, mut layers) = (Vec::new(), Vec::new());
        for layer in 0..self.layout.layers.len() {
            let saved = self.layer_kept(layer, &x, &tokens, self.rows_of(layer, rows), scratch);
            let next = self.layer_output(layer, &saved, scratch);
            let input = std::mem::replace(&mut x, next);
            layers.push(match keep {
                Keep::All => Some(saved),
                Keep::Inputs | Keep::Nothing => {
                    saved.recycle(scratch);
                    None
                }
            });
            match keep {
                Keep::All | Keep::Inputs => inputs.push(input),
                Keep::Nothing => scratch.give(input),
            }
        }
        let mut hidden = scratch.take(x.len());
        let mut output_inverse = scratch.take(rows.len());
        let weight = self.slot(&self.layout.final_norm);
        norm::rms_norm(&x, weight, self.epsilon(), &mut hidden, &mut output_inverse);
        Ok(Saved {
            ids: batch.ids.clone(),
            tokens,
            rows: rows.to_vec(),
            inputs,
            layers,
            output: x,
            output_inverse,
            hidden,
        })
    }

    pub(super) fn epsilon(&self) -> T {
        T::from_f64(self.config.rms_norm_eps)
    }

    /// Only the last layer may leave rows out: no later one attends to them.
    pub(super) fn rows_of<'r>(&self, layer: usize, rows: &'r [usize]) -> Option<&'r [usize]> {
        (layer + 1 == self.layout.layers.len()).then_some(rows)
    }

    pub(super) fn attention_shape<'t>(&self, tokens: &'t Tokens) -> attention::Shape<'t> {
        attention::Shape {
            heads: self.config.num_attention_heads,
            key_heads: self.config.num_key_value_heads,
            dim: self.config.head_dim,
            segments: &tokens.segments,
        }
    }

    /// What one layer over `[n, h]` keeps: all but its output.
    pub(super) fn layer_kept(
        &self,
        layer: usize,
        x: &[T],
        tokens: &Tokens,
        rows: Option<&[usize]>,
        scratch: &mut Scratch<T>,
    ) -> LayerSaved<T> {
        let slots = &self.layout.layers[layer];
        let mut saved = self.attention_forward(slots, x, tokens, scratch);
        let (h, q) = (self.config.hidden_size, self.config.query_size());
        saved.middle = match rows {
            None => scratch.copy(x),
            Some(rows) => {
                saved.attended_rows = scratch.take(rows.len() * q);
                let picked = rows.iter().copied();
                embedding::gather(&saved.attended, q, picked.clone(), &mut saved.attended_rows);
                let mut middle = scratch.take(rows.len() * h);
                embedding::gather(x, h, picked, &mut middle);
                middle
            }
        };
        let m = saved.middle.len() / h;
        let attended = if rows.is_some() {
            &saved.attended_rows
        } else {
            &saved.attended
        };
        let output = Mat::new(self.slot(&slots.output), h, q);
        let middle = MatMut::new(&mut saved.middle, m, h);
        matmul(
            self.precision,
            middle,
            Write::Add,
            Mat::new(attended, m, q),
            output.t(),
        );
        self.feed_forward(slots, &mut saved, scratch);
        saved
    }

    /// Norm, projections, rotation and attention.
    fn attention_forward(
        &self,
        slots: &LayerSlots,
        x: &[T],
        tokens: &Tokens,
        scratch: &mut Scratch<T>,
    ) -> LayerSaved<T> {
        let config = &self.config;
        let (n, h) = (tokens.count(), config.hidden_size);
        let (query, key) = (config.query_size(), config.key_size());
        let width = config.projected_size();
        let (mut normed, mut input_inverse) = (scratch.take(n * h), scratch.take(n));
        let weight = self.slot(&slots.input_norm);
        norm::rms_norm(x, weight, self.epsilon(), &mut normed, &mut input_inverse);
        let mut qkv = scratch.take(n * width);
        let matrix = Mat::new(self.slot(&slots.qkv), width, h).t();
        matmul(
            self.precision,
            MatMut::new(&mut qkv, n, width),
            Write::Set,
            Mat::new(&normed, n, h),
            matrix,
        );
        scratch.give(normed);
        if let Some(bias) = &slots.qkv_bias {
            vector::add_row(&mut qkv, self.slot(bias));
        }
        let turned = self.turned(slots, &qkv, tokens, scratch);
        let shape = self.attention_shape(tokens);
        let (mut attended, mut lse) = (
            scratch.take(n * query),
            scratch.take(n * config.num_attention_heads),
        );
        let mut room = scratch.take(shape.forward_room());
        let v = &qkv[(query + key).min(qkv.len())..];
        let inputs = attention::Inputs {
            q: &turned.q,
            k: &turned.k,
            v,
            v_stride: width,
        };
        attention::attention(
            self.precision,
            &shape,
            inputs,
            &mut attended,
            &mut lse,
            &mut room,
        );
        scratch.give(room);
        turned.recycle(scratch);
        LayerSaved {
            input_inverse,
            qkv,
            attended,
            lse,
            attended_rows: Vec::new(),
            middle: Vec::new(),
            middle_inverse: Vec::new(),
            gate_up: Vec::new(),
        }
    }

    /// Normalised and turned queries and keys of the projections.
    pub(super) fn turned(
        &self,
        slots: &LayerSlots,
        qkv: &[T],
        tokens: &Tokens,
        scratch: &mut Scratch<T>,
    ) -> Turned<T> {
        let (config, n) = (&self.config, tokens.count());
        let (query, key) = (config.query_size(), config.key_size());
        let width = config.projected_size();
        let (mut q, mut k) = (scratch.take(n * query), scratch.take(n * key));
        let (mut q_inverse, mut k_inverse) = (Vec::new(), Vec::new());
        let norms = slots.head_norms.as_ref();
        if norms.is_some() {
            q_inverse = scratch.take(n * config.num_attention_heads);
            k_inverse = scratch.take(n * config.num_key_value_heads);
        }
        let heads = |offset: usize, weight: Option<&[T]>, out: &mut [T], inverse: &mut [T]| {
            let (epsilon, positions) = (self.epsilon(), &tokens.positions);
            rope::heads_forward(
                qkv, width, offset, weight, epsilon, &self.rope, positions, out, inverse,
            );
        };
        heads(
            0,
            norms.map(|(weight, _)| self.slot(weight)),
            &mut q,
            &mut q_inverse,
        );
        heads(
            query,
            norms.map(|(_, weight)| self.slot(weight)),
            &mut k,
            &mut k_inverse,
        );
        Turned {
            q,
            k,
            q_inverse,
            k_inverse,
        }
    }

    /// The second half of a layer up to gate and up; reads `middle`, fills in the rest.
    fn feed_forward(
        &self,
        slots: &LayerSlots,
        saved: &mut LayerSaved<T>,
        scratch: &mut Scratch<T>,
    ) {
        let (h, i) = (self.config.hidden_size, self.config.intermediate_size);
        let m = saved.middle.len() / h;
        let (mut normed, mut inverse) = (scratch.take(m * h), scratch.take(m));
        let weight = self.slot(&slots.inner_norm);
        norm::rms_norm(
            &saved.middle,
            weight,
            self.epsilon(),
            &mut normed,
            &mut inverse,
        );
        let mut gate_up = scratch.take(m * 2 * i);
        let matrix = Mat::new(self.slot(&slots.gate_up), 2 * i, h).t();
        matmul(
            self.precision,
            MatMut::new(&mut gate_up, m, 2 * i),
            Write::Set,
            Mat::new(&normed, m, h),
            matrix,
        );
        scratch.give(normed);
        saved.middle_inverse = inverse;
        saved.gate_up = gate_up;
    }

    /// A layer's output, `[m, h]`; the backward pass does not need it.
    fn layer_output(
        &self,
        layer: usize,
        saved: &LayerSaved<T>,
        scratch: &mut Scratch<T>,
    ) -> Vec<T> {
        let slots = &self.layout.layers[layer];
        let (h, i) = (self.config.hidden_size, self.config.intermediate_size);
        let m = saved.middle.len() / h;
        let mut inner = scratch.take(m * i);
        swiglu::swiglu(&saved.gate_up, i, &mut inner);
        let mut out = scratch.copy(&saved.middle);
        let matrix = Mat::new(self.slot(&slots.down), h, i).t();
        matmul(
            self.precision,
            MatMut::new(&mut out, m, h),
            Write::Add,
            Mat::new(&inner, m, i),
            matrix,
        );
        scratch.give(inner);
        out
    }
}
