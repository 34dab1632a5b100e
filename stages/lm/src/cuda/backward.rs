//! The backward pass on a device; each step mirrors one of the forward pass, in reverse.
//!
//! Gradients are `f32` and added to what is there, so that chunks add up in their order.

use std::ops::Range;

use super::batch::Batch;
use super::board::{Buffer, Precision};
use super::model::{LayerSaved, Model, Rows, Saved, Side};
use super::ops::{Attended, Matrix};
use crate::error::LmError;

impl Model {
    /// Adds the gradients of all parameters below the head, from that on the normalised final states.
    pub(super) fn backward(
        &self,
        batch: &Batch,
        rows: &Rows,
        mut saved: Saved,
        dhidden: &Buffer,
        grads: &Buffer,
    ) -> Result<(), LmError> {
        let ops = &self.ops;
        let h = self.config.hidden_size;
        let count = rows.list.len();
        let mut dx = ops.zeros(count * h * ops.precision.size())?;
        ops.rms_norm_backward(
            &saved.output,
            self.slot(&self.layout.final_norm),
            &saved.output_inverse,
            dhidden,
            &dx,
            gradient(grads, &self.layout.final_norm),
            count,
            h,
        )?;
        for layer in (0..self.layout.layers.len()).rev() {
            let x = &saved.inputs[layer];
            let rows = self.rows_of(layer, rows);
            let kept = match saved.layers[layer].take() {
                Some(kept) => kept,
                None => self.layer_forward(layer, x, batch, rows)?.0,
            };
            dx = self.layer_backward(layer, x, &kept, dx, batch, rows, grads)?;
        }
        let table = gradient(grads, &self.layout.embedding);
        ops.scatter(&dx, &batch.by_id, table, true, h)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the state of one step of one loop"
    )]
    fn layer_backward(
        &self,
        layer: usize,
        x: &Buffer,
        saved: &LayerSaved,
        dout: Buffer,
        batch: &Batch,
        rows: Option<&Rows>,
        grads: &Buffer,
    ) -> Result<Buffer, LmError> {
        let (ops, config) = (&self.ops, &self.config);
        let slots = &self.layout.layers[layer];
        let (n, h, q) = (batch.tokens, config.hidden_size, config.query_size());
        let m = rows.map_or(n, |rows| rows.list.len());
        self.feed_forward_backward(layer, saved, &dout, m, grads)?;
        let dmiddle = dout;
        let attended = saved.attended_rows.as_ref().unwrap_or(&saved.attended);
        let dattended = self.through(&dmiddle, &slots.output, (m, h, q), attended, grads)?;
        let (dx, dattended) = match rows {
            None => (dmiddle, dattended),
            Some(rows) => {
                let scatter = ops.scatter_of(&rows.list)?;
                let size = ops.precision.size();
                let dx = ops.zeros(n * h * size)?;
                ops.scatter(&dmiddle, &scatter, dx.address(), false, h)?;
                let all = ops.zeros(n * q * size)?;
                ops.scatter(&dattended, &scatter, all.address(), false, q)?;
                (dx, all)
            }
        };
        let width = config.projected_size();
        let dqkv = self.heads_backward(layer, saved, &dattended, batch, grads)?;
        drop(dattended);
        if let Some(bias) = &slots.qkv_bias {
            ops.column_sums(&dqkv, ops.precision, n, width, gradient(grads, bias))?;
        }
        let weight = self.slot(&slots.input_norm);
        let normed = ops.rms_norm_again(x, weight, &saved.input_inverse, n, h)?;
        let dnormed = self.through(&dqkv, &slots.qkv, (n, width, h), &normed, grads)?;
        let dweight = gradient(grads, &slots.input_norm);
        ops.rms_norm_backward(
            x,
            weight,
            &saved.input_inverse,
            &dnormed,
            &dx,
            dweight,
            n,
            h,
        )?;
        Ok(dx)
    }

    /// Back through `outputs = inputs·Wᵀ`: adds the gradient on W `[o, i]` and returns that on the inputs.
    fn through(
        &self,
        doutputs: &Buffer,
        slot: &Range<usize>,
        (rows, o, i): (usize, usize, usize),
        inputs: &Buffer,
        grads: &Buffer,
    ) -> Result<Buffer, LmError> {
        let ops = &self.ops;
        let d = Matrix::new(doutputs.address(), rows, o);
        let dinputs = ops.values(rows * i)?;
        ops.matmul(
            Matrix::new(dinputs.address(), rows, i),
            ops.precision,
            false,
            d,
            Matrix::new(self.slot(slot), o, i),
        )?;
        ops.matmul(
            Matrix::new(gradient(grads, slot), o, i),
            Precision::F32,
            true,
            d.t(),
            Matrix::new(inputs.address(), rows, i),
        )?;
        Ok(dinputs)
    }

    /// Adds to the gradient on the layer's output what comes back through the second half, which makes it that on
    /// `middle`.
    fn feed_forward_backward(
        &self,
        layer: usize,
        saved: &LayerSaved,
        dout: &Buffer,
        m: usize,
        grads: &Buffer,
    ) -> Result<(), LmError> {
        let (ops, config) = (&self.ops, &self.config);
        let slots = &self.layout.layers[layer];
        let (h, i) = (config.hidden_size, config.intermediate_size);
        let d = Matrix::new(dout.address(), m, h);
        let inner = ops.values(m * i)?;
        ops.matmul(
            Matrix::new(inner.address(), m, i),
            ops.precision,
            false,
            d,
            Matrix::new(self.slot(&slots.down), h, i),
        )?;
        // leaves the inner values in `inner` and the gradients of gate and up in their place
        ops.swiglu_backward(&saved.gate_up, &inner, m, i)?;
        ops.matmul(
            Matrix::new(gradient(grads, &slots.down), h, i),
            Precision::F32,
            true,
            d.t(),
            Matrix::new(inner.address(), m, i),
        )?;
        drop(inner);
        let weight = self.slot(&slots.inner_norm);
        let normed = ops.rms_norm_again(&saved.middle, weight, &saved.middle_inverse, m, h)?;
        let shape = (m, 2 * i, h);
        let dnormed = self.through(&saved.gate_up, &slots.gate_up, shape, &normed, grads)?;
        ops.rms_norm_backward(
            &saved.middle,
            weight,
            &saved.middle_inverse,
            &dnormed,
            dout,
            gradient(grads, &slots.inner_norm),
            m,
            h,
        )
    }

    /// From the gradient on the attention's output to that on the projections.
    fn heads_backward(
        &self,
        layer: usize,
        saved: &LayerSaved,
        dattended: &Buffer,
        batch: &Batch,
        grads: &Buffer,
    ) -> Result<Buffer, LmError> {
        let (ops, config) = (&self.ops, &self.config);
        let slots = &self.layout.layers[layer];
        let n = batch.tokens;
        let width = config.projected_size();
        let projected = &saved.projected;
        let values = self.values_at(n);
        let dqkv = ops.values(n * width)?;
        let inputs = Attended {
            q: &projected.q,
            k: &projected.k,
            v: projected.qkv.at(values),
            v_stride: width,
        };
        let (dq, dk) = ops.attention_backward(
            self.heads(),
            inputs,
            (&saved.attended, &saved.lse, dattended),
            (&batch.query_tiles.0, batch.query_tiles.1),
            (&batch.key_tiles.0, batch.key_tiles.1),
            &batch.ranges,
            dqkv.at(values),
            n,
        )?;
        let angles = self.angles(batch.longest)?;
        let norms = slots.head_norms.as_ref();
        for (side, inverse, dout) in [
            (Side::Queries, &projected.q_inverse, &dq),
            (Side::Keys, &projected.k_inverse, &dk),
        ] {
            let turn = self.turn(layer, side, &projected.qkv, n, &batch.positions, &angles);
            let dweight = norms.map_or(0, |(q, k)| match side {
                Side::Queries => gradient(grads, q),
                Side::Keys => gradient(grads, k),
            });
            ops.heads_backward(turn, inverse, dout, &dqkv, dweight)?;
        }
        Ok(dqkv)
    }
}

/// Where the gradient of a part of the parameters lies.
pub(super) fn gradient(grads: &Buffer, range: &Range<usize>) -> u64 {
    grads.at(4 * range.start)
}
