//! The backward pass: each step mirrors one of the forward pass, in reverse.
//!
//! Matrix gradients are written, not added, so a gradient buffer need not be zeroed first. Only the
//! embedding gathers from two places: the head writes it first, or it is zeroed, and the tokens then add.

use super::forward::{LayerSaved, Saved, Tokens};
use super::layout::LayerSlots;
use super::{Decoder, Gradients, Scratch};
use crate::kernels::gemm::{Mat, MatMut, Write, matmul};
use crate::kernels::{Real, attention, embedding, norm, rope, swiglu, vector};

impl<T: Real> Decoder<T> {
    /// Gradients of all parameters below the head, from the gradient on the hidden states that
    /// [`Self::forward`] returned (`[rows, h]`, used as room).
    ///
    /// The head's own gradient must be in `gradients` already.
    pub(crate) fn backward(
        &self,
        mut saved: Saved<T>,
        dhidden: &mut [T],
        gradients: &mut Gradients<T>,
        scratch: &mut Scratch<T>,
    ) {
        let grads = &mut gradients.values;
        let h = self.config.hidden_size;
        let mut row = scratch.take(h);
        let weight = self.slot(&self.layout.final_norm);
        let dweight = &mut grads[self.layout.final_norm.clone()];
        norm::rms_norm_backward(
            &saved.output,
            weight,
            &saved.output_inverse,
            dhidden,
            dweight,
            &mut row,
        );
        scratch.give(row);
        let mut dx = scratch.copy(dhidden);
        for layer in (0..self.layout.layers.len()).rev() {
            let x = &saved.inputs[layer];
            let rows = self.rows_of(layer, &saved.rows);
            let kept = saved.layers[layer].take();
            let kept = kept.unwrap_or_else(|| {
                let (kept, out) = self.layer_forward(layer, x, &saved.tokens, rows, scratch);
                scratch.give(out);
                kept
            });
            dx = self.layer_backward(layer, x, kept, dx, &saved.tokens, rows, grads, scratch);
        }
        let slot = self.layout.embedding.clone();
        if self.layout.head != slot {
            grads[slot.clone()].fill(T::ZERO);
        }
        let ids = saved.ids.iter().map(|&id| id as usize);
        embedding::scatter_add(&dx, h, ids, &mut grads[slot]);
        scratch.give(dx);
        saved.recycle(scratch);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the state of one step of one loop"
    )]
    fn layer_backward(
        &self,
        layer: usize,
        x: &[T],
        mut saved: LayerSaved<T>,
        dout: Vec<T>,
        tokens: &Tokens,
        rows: Option<&[usize]>,
        grads: &mut [T],
        scratch: &mut Scratch<T>,
    ) -> Vec<T> {
        let slots = &self.layout.layers[layer];
        let (n, h, q) = (
            tokens.count(),
            self.config.hidden_size,
            self.config.query_size(),
        );
        let dmiddle = self.feed_forward_backward(slots, &mut saved, dout, grads, scratch);
        let m = dmiddle.len() / h;
        let attended = if rows.is_some() {
            &saved.attended_rows
        } else {
            &saved.attended
        };
        let mut dattended = scratch.take(m * q);
        let d = Mat::new(&dmiddle, m, h);
        let matrix = Mat::new(self.slot(&slots.output), h, q);
        matmul(MatMut::new(&mut dattended, m, q), Write::Set, d, matrix);
        let dmatrix = MatMut::new(&mut grads[slots.output.clone()], h, q);
        matmul(dmatrix, Write::Set, d.t(), Mat::new(attended, m, q));
        let (mut dx, dattended) = match rows {
            None => (dmiddle, dattended),
            Some(rows) => {
                let picked = rows.iter().copied();
                let mut dx = scratch.take(n * h);
                dx.fill(T::ZERO);
                embedding::scatter_add(&dmiddle, h, picked.clone(), &mut dx);
                let mut all = scratch.take(n * q);
                all.fill(T::ZERO);
                embedding::scatter_add(&dattended, q, picked, &mut all);
                scratch.give(dmiddle);
                scratch.give(dattended);
                (dx, all)
            }
        };
        let dnormed = self.attention_backward(slots, x, &saved, dattended, tokens, grads, scratch);
        vector::add_assign(&mut dx, &dnormed);
        scratch.give(dnormed);
        saved.recycle(scratch);
        dx
    }

    /// From the gradient on the layer's output to that on `middle`.
    fn feed_forward_backward(
        &self,
        slots: &LayerSlots,
        saved: &mut LayerSaved<T>,
        mut dout: Vec<T>,
        grads: &mut [T],
        scratch: &mut Scratch<T>,
    ) -> Vec<T> {
        let (h, i) = (self.config.hidden_size, self.config.intermediate_size);
        let m = saved.middle.len() / h;
        let mut inner = scratch.take(m * i);
        let d = Mat::new(&dout, m, h);
        let down = Mat::new(self.slot(&slots.down), h, i);
        matmul(MatMut::new(&mut inner, m, i), Write::Set, d, down);
        swiglu::swiglu_backward(&mut saved.gate_up, i, &mut inner);
        let dmatrix = MatMut::new(&mut grads[slots.down.clone()], h, i);
        matmul(dmatrix, Write::Set, d.t(), Mat::new(&inner, m, i));
        scratch.give(inner);

        let weight = self.slot(&slots.inner_norm);
        let mut normed = scratch.take(m * h);
        norm::rms_norm_again(&saved.middle, weight, &saved.middle_inverse, &mut normed);
        let dgate_up = Mat::new(&saved.gate_up, m, 2 * i);
        let dmatrix = MatMut::new(&mut grads[slots.gate_up.clone()], 2 * i, h);
        matmul(dmatrix, Write::Set, dgate_up.t(), Mat::new(&normed, m, h));
        let matrix = Mat::new(self.slot(&slots.gate_up), 2 * i, h);
        matmul(MatMut::new(&mut normed, m, h), Write::Set, dgate_up, matrix);
        let mut row = scratch.take(h);
        let dweight = &mut grads[slots.inner_norm.clone()];
        let (x, inverse) = (&saved.middle, &saved.middle_inverse);
        norm::rms_norm_backward(x, weight, inverse, &mut normed, dweight, &mut row);
        scratch.give(row);
        vector::add_assign(&mut dout, &normed);
        scratch.give(normed);
        dout
    }

    /// From the gradient on the attention's output to that on the layer's input, through the norm.
    #[expect(
        clippy::too_many_arguments,
        reason = "the state of one step of one loop"
    )]
    fn attention_backward(
        &self,
        slots: &LayerSlots,
        x: &[T],
        saved: &LayerSaved<T>,
        dattended: Vec<T>,
        tokens: &Tokens,
        grads: &mut [T],
        scratch: &mut Scratch<T>,
    ) -> Vec<T> {
        let (n, h) = (tokens.count(), self.config.hidden_size);
        let width = self.config.query_size() + 2 * self.config.key_size();
        let dqkv = self.heads_backward(slots, saved, &dattended, tokens, grads, scratch);
        scratch.give(dattended);
        if let Some(bias) = &slots.qkv_bias {
            vector::column_sums(&dqkv, &mut grads[bias.clone()]);
        }
        let weight = self.slot(&slots.input_norm);
        let mut normed = scratch.take(n * h);
        norm::rms_norm_again(x, weight, &saved.input_inverse, &mut normed);
        let d = Mat::new(&dqkv, n, width);
        let dmatrix = MatMut::new(&mut grads[slots.qkv.clone()], width, h);
        matmul(dmatrix, Write::Set, d.t(), Mat::new(&normed, n, h));
        let matrix = Mat::new(self.slot(&slots.qkv), width, h);
        matmul(MatMut::new(&mut normed, n, h), Write::Set, d, matrix);
        let mut row = scratch.take(h);
        let dweight = &mut grads[slots.input_norm.clone()];
        norm::rms_norm_backward(
            x,
            weight,
            &saved.input_inverse,
            &mut normed,
            dweight,
            &mut row,
        );
        scratch.give(row);
        scratch.give(dqkv);
        normed
    }

    /// From the gradient on the attention's output to that on the projections, `[n, q + 2·k]`.
    fn heads_backward(
        &self,
        slots: &LayerSlots,
        saved: &LayerSaved<T>,
        dattended: &[T],
        tokens: &Tokens,
        grads: &mut [T],
        scratch: &mut Scratch<T>,
    ) -> Vec<T> {
        let n = tokens.count();
        let (query, key) = (self.config.query_size(), self.config.key_size());
        let width = query + 2 * key;
        let mut dqkv = scratch.take(n * width);
        let (mut dq, mut dk) = (scratch.take(n * query), scratch.take(n * key));
        let shape = self.attention_shape(tokens);
        let mut room = scratch.take(2 * shape.score_room());
        let values = (query + key).min(saved.qkv.len());
        let v = &saved.qkv[values..];
        let inputs = attention::Inputs {
            q: &saved.q,
            k: &saved.k,
            v,
            v_stride: width,
        };
        let out = attention::InputGradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dqkv[values..],
        };
        attention::attention_backward(
            &shape,
            inputs,
            &saved.attended,
            &saved.lse,
            dattended,
            out,
            &mut room,
        );
        scratch.give(room);
        let mut turn_back =
            |offset, slot: Option<&std::ops::Range<usize>>, inverse, d: &mut [T]| {
                let norm = slot.map(|slot| {
                    let dweight = &mut grads[slot.clone()];
                    dweight.fill(T::ZERO);
                    (self.slot(slot), dweight)
                });
                let (x, positions) = (&saved.qkv, &tokens.positions);
                rope::heads_backward(
                    x, width, offset, norm, &self.rope, positions, inverse, d, &mut dqkv,
                );
            };
        let norms = slots.head_norms.as_ref();
        turn_back(0, norms.map(|(query, _)| query), &saved.q_inverse, &mut dq);
        turn_back(query, norms.map(|(_, key)| key), &saved.k_inverse, &mut dk);
        scratch.give(dq);
        scratch.give(dk);
        dqkv
    }
}
