//! The backward pass: each step mirrors one of the forward pass, in reverse.
//!
//! Gradients of parameters go to a [`Sink`], each once. Only an embedding that is also the head gathers from two
//! places: the head writes its gradient first, and the tokens then add.

use std::ops::Range;

use super::forward::{LayerSaved, Saved, Tokens};
use super::layout::LayerSlots;
use super::sums::Sink;
use super::{Decoder, Scratch};
use crate::kernels::gemm::{Mat, MatMut, Write, matmul};
use crate::kernels::{Real, attention, embedding, norm, rope, swiglu, vector};

impl<T: Real> Decoder<T> {
    /// Gradients of all parameters below the head, from the gradient on the hidden states that
    /// [`Self::forward`] returned (`[rows, h]`, used as room).
    ///
    /// `dhead` is the head's own gradient, `[v, h]`; empty when the sink takes none.
    pub(crate) fn backward(
        &self,
        mut saved: Saved<T>,
        dhidden: &mut [T],
        dhead: &mut [T],
        sink: &Sink<'_, '_, T>,
        scratch: &mut Scratch<T>,
    ) {
        let h = self.config.hidden_size;
        self.norm_backward(
            &self.layout.final_norm,
            &saved.output,
            &saved.output_inverse,
            dhidden,
            sink,
            scratch,
        );
        let mut dx = scratch.copy(dhidden);
        for layer in (0..self.layout.layers.len()).rev() {
            let x = &saved.inputs[layer];
            let rows = self.rows_of(layer, &saved.rows);
            let kept = saved.layers[layer].take();
            let kept =
                kept.unwrap_or_else(|| self.layer_kept(layer, x, &saved.tokens, rows, scratch));
            dx = self.layer_backward(layer, x, kept, dx, &saved.tokens, rows, sink, scratch);
        }
        let (embedding, head) = (&self.layout.embedding, &self.layout.head);
        let ids = saved.ids.iter().map(|&id| id as usize);
        if head == embedding && sink.takes_all() {
            embedding::scatter_add(&dx, h, ids, dhead);
        } else {
            sink.table(embedding, |sum| embedding::scatter_add(&dx, h, ids, sum));
        }
        sink.vector(head, dhead);
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
        sink: &Sink<'_, '_, T>,
        scratch: &mut Scratch<T>,
    ) -> Vec<T> {
        let slots = &self.layout.layers[layer];
        let (n, h, q) = (
            tokens.count(),
            self.config.hidden_size,
            self.config.query_size(),
        );
        let dmiddle = self.feed_forward_backward(slots, &mut saved, dout, sink, scratch);
        let m = dmiddle.len() / h;
        let attended = if rows.is_some() {
            &saved.attended_rows
        } else {
            &saved.attended
        };
        let mut dattended = scratch.take(m * q);
        let d = Mat::new(&dmiddle, m, h);
        let matrix = Mat::new(self.slot(&slots.output), h, q);
        matmul(
            self.precision,
            MatMut::new(&mut dattended, m, q),
            Write::Set,
            d,
            matrix,
        );
        sink.matrix(&slots.output, d, Mat::new(attended, m, q), scratch);
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
        let dnormed = self.attention_backward(slots, x, &saved, dattended, tokens, sink, scratch);
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
        sink: &Sink<'_, '_, T>,
        scratch: &mut Scratch<T>,
    ) -> Vec<T> {
        let (h, i) = (self.config.hidden_size, self.config.intermediate_size);
        let m = saved.middle.len() / h;
        let mut inner = scratch.take(m * i);
        let d = Mat::new(&dout, m, h);
        let down = Mat::new(self.slot(&slots.down), h, i);
        matmul(
            self.precision,
            MatMut::new(&mut inner, m, i),
            Write::Set,
            d,
            down,
        );
        swiglu::swiglu_backward(&mut saved.gate_up, i, &mut inner);
        sink.matrix(&slots.down, d, Mat::new(&inner, m, i), scratch);
        scratch.give(inner);

        let weight = self.slot(&slots.inner_norm);
        let mut normed = scratch.take(m * h);
        norm::rms_norm_again(&saved.middle, weight, &saved.middle_inverse, &mut normed);
        let dgate_up = Mat::new(&saved.gate_up, m, 2 * i);
        sink.matrix(&slots.gate_up, dgate_up, Mat::new(&normed, m, h), scratch);
        let matrix = Mat::new(self.slot(&slots.gate_up), 2 * i, h);
        matmul(
            self.precision,
            MatMut::new(&mut normed, m, h),
            Write::Set,
            dgate_up,
            matrix,
        );
        let (x, inverse) = (&saved.middle, &saved.middle_inverse);
        self.norm_backward(&slots.inner_norm, x, inverse, &mut normed, sink, scratch);
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
        sink: &Sink<'_, '_, T>,
        scratch: &mut Scratch<T>,
    ) -> Vec<T> {
        let (n, h) = (tokens.count(), self.config.hidden_size);
        let width = self.config.query_size() + 2 * self.config.key_size();
        let dqkv = self.heads_backward(slots, saved, &dattended, tokens, sink, scratch);
        scratch.give(dattended);
        if let Some(bias) = &slots.qkv_bias {
            let mut sums = scratch.take(width);
            vector::column_sums(&dqkv, &mut sums);
            sink.vector(bias, &sums);
            scratch.give(sums);
        }
        let weight = self.slot(&slots.input_norm);
        let mut normed = scratch.take(n * h);
        norm::rms_norm_again(x, weight, &saved.input_inverse, &mut normed);
        let d = Mat::new(&dqkv, n, width);
        sink.matrix(&slots.qkv, d, Mat::new(&normed, n, h), scratch);
        let matrix = Mat::new(self.slot(&slots.qkv), width, h);
        matmul(
            self.precision,
            MatMut::new(&mut normed, n, h),
            Write::Set,
            d,
            matrix,
        );
        let inverse = &saved.input_inverse;
        self.norm_backward(&slots.input_norm, x, inverse, &mut normed, sink, scratch);
        scratch.give(dqkv);
        normed
    }

    /// Replaces the gradient on a norm's output by that on its input.
    fn norm_backward(
        &self,
        slot: &Range<usize>,
        x: &[T],
        inverse: &[T],
        dy: &mut [T],
        sink: &Sink<'_, '_, T>,
        scratch: &mut Scratch<T>,
    ) {
        let (mut row, mut dweight) = (scratch.take(slot.len()), scratch.take(slot.len()));
        norm::rms_norm_backward(x, self.slot(slot), inverse, dy, &mut dweight, &mut row);
        sink.vector(slot, &dweight);
        scratch.give(row);
        scratch.give(dweight);
    }

    /// From the gradient on the attention's output to that on the projections, `[n, q + 2·k]`.
    fn heads_backward(
        &self,
        slots: &LayerSlots,
        saved: &LayerSaved<T>,
        dattended: &[T],
        tokens: &Tokens,
        sink: &Sink<'_, '_, T>,
        scratch: &mut Scratch<T>,
    ) -> Vec<T> {
        let n = tokens.count();
        let (query, key) = (self.config.query_size(), self.config.key_size());
        let width = self.config.projected_size();
        let mut dqkv = scratch.take(n * width);
        let (mut dq, mut dk) = (scratch.take(n * query), scratch.take(n * key));
        let turned = self.turned(slots, &saved.qkv, tokens, scratch);
        let shape = self.attention_shape(tokens);
        let mut room = scratch.take(shape.backward_room());
        let values = (query + key).min(saved.qkv.len());
        let v = &saved.qkv[values..];
        let inputs = attention::Inputs {
            q: &turned.q,
            k: &turned.k,
            v,
            v_stride: width,
        };
        let out = attention::InputGradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dqkv[values..],
        };
        attention::attention_backward(
            self.precision,
            &shape,
            inputs,
            &saved.attended,
            &saved.lse,
            dattended,
            out,
            &mut room,
        );
        scratch.give(room);
        let mut turn_back = |offset, slot: Option<&Range<usize>>, inverse: &[T], d: &mut [T]| {
            let mut dweight = slot.map(|slot| scratch.take(slot.len()));
            let norm = slot.zip(dweight.as_mut()).map(|(slot, dweight)| {
                dweight.fill(T::ZERO);
                (self.slot(slot), dweight.as_mut_slice())
            });
            let (x, positions) = (&saved.qkv, &tokens.positions);
            rope::heads_backward(
                x, width, offset, norm, &self.rope, positions, inverse, d, &mut dqkv,
            );
            if let Some((slot, dweight)) = slot.zip(dweight) {
                sink.vector(slot, &dweight);
                scratch.give(dweight);
            }
        };
        let norms = slots.head_norms.as_ref();
        turn_back(0, norms.map(|(query, _)| query), &turned.q_inverse, &mut dq);
        turn_back(query, norms.map(|(_, key)| key), &turned.k_inverse, &mut dk);
        turned.recycle(scratch);
        scratch.give(dq);
        scratch.give(dk);
        dqkv
    }
}
