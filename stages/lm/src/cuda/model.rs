//! The decoder on a device: parameters, and the forward pass that keeps what the backward pass needs.
//!
//! Step for step the program of [`crate::decoder`], over the same layout of parameters.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::batch::Batch;
use super::board::{Buffer, Precision};
use super::device::Device;
use super::ops::{Attended, Heads, Matrix, Ops, Turn};
use crate::config::ModelConfig;
use crate::decoder::{Keep, Layout};
use crate::error::LmError;
use crate::kernels::rope::RopeTable;
use crate::weights::Weights;

/// Positions by which the table of angles grows.
const ANGLES: usize = 512;

/// Cosines and sines of the first positions.
#[derive(Debug)]
struct Angles {
    cosines: Buffer,
    sines: Buffer,
    positions: usize,
}

/// A decoder on a device.
#[derive(Debug)]
pub(crate) struct Model {
    pub(super) ops: Ops,
    pub(super) config: ModelConfig,
    pub(super) layout: Arc<Layout>,
    /// All parameters, `f32`; none when they are only computed with, in another type.
    pub(super) master: Option<Buffer>,
    /// All parameters in the type of activations, where that is not `f32`.
    pub(super) copy: Option<Buffer>,
    rope: RopeTable<f32>,
    angles: Mutex<Option<Arc<Angles>>>,
}

/// Queries, keys and values of rows: as they are projected, and queries and keys turned to their positions.
#[derive(Debug)]
pub(super) struct Projected {
    /// `[rows, query + 2 key]`.
    pub(super) qkv: Buffer,
    pub(super) q: Buffer,
    pub(super) k: Buffer,
    /// 1/rms of each head, where heads are normalised.
    pub(super) q_inverse: Buffer,
    pub(super) k_inverse: Buffer,
}

/// What one layer keeps beside its input; shapes as in the decoder's `LayerSaved`.
#[derive(Debug)]
pub(super) struct LayerSaved {
    pub(super) input_inverse: Buffer,
    pub(super) projected: Projected,
    pub(super) attended: Buffer,
    pub(super) lse: Buffer,
    pub(super) attended_rows: Option<Buffer>,
    pub(super) middle: Buffer,
    pub(super) middle_inverse: Buffer,
    pub(super) gate_up: Buffer,
}

/// What a forward pass leaves.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) inputs: Vec<Buffer>,
    pub(super) layers: Vec<Option<LayerSaved>>,
    pub(super) output: Buffer,
    pub(super) output_inverse: Buffer,
    /// Normalised, `[rows, h]`.
    pub(super) hidden: Buffer,
}

/// The rows that go on after the last layer's attention.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) list: Vec<usize>,
    pub(super) ids: Buffer,
}

impl Rows {
    pub(super) fn new(ops: &Ops, list: Vec<usize>) -> Result<Self, LmError> {
        let ids: Vec<i32> = list.iter().map(|&row| row as i32).collect();
        Ok(Self {
            ids: ops.upload_ints(&ids)?,
            list,
        })
    }
}

impl Model {
    /// Puts weights on a device. Without `train` only what is computed with is kept.
    ///
    /// # Errors
    /// [`LmError::Tensor`] and [`LmError::Config`] for weights that do not fit; [`LmError::Device`] when the device
    /// fails.
    pub(crate) fn new(
        device: &Device,
        config: &ModelConfig,
        weights: &Weights,
        train: bool,
    ) -> Result<Self, LmError> {
        let layout = Layout::new(config)?;
        let values = layout.flatten(config, weights)?;
        let ops = Ops {
            board: Arc::clone(&device.board),
            precision: device.precision,
        };
        let master = ops.upload_floats(&values)?;
        let mut model = Self {
            rope: RopeTable::new(config),
            angles: Mutex::new(None),
            copy: None,
            master: Some(master),
            layout: Arc::new(layout),
            config: config.clone(),
            ops,
        };
        model.refresh_copy()?;
        if !train && model.copy.is_some() {
            model.master = None;
        }
        Ok(model)
    }

    /// Makes the parameters that are computed with from the `f32` ones.
    pub(super) fn refresh_copy(&mut self) -> Result<(), LmError> {
        let len = self.layout.len();
        if self.ops.precision != Precision::F32
            && let Some(master) = &self.master
        {
            let copy = match self.copy.take() {
                Some(copy) => copy,
                None => self.ops.values(len)?,
            };
            self.ops.convert(master.address(), copy.address(), len)?;
            self.copy = Some(copy);
        }
        Ok(())
    }

    /// Where a part of the parameters that are computed with lies.
    pub(super) fn slot(&self, range: &Range<usize>) -> u64 {
        let buffer = self.copy.as_ref().or(self.master.as_ref());
        let buffer = buffer.expect("a model has one or the other");
        buffer.at(range.start * self.ops.precision.size())
    }

    pub(super) fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    pub(super) fn heads(&self) -> Heads {
        Heads {
            heads: self.config.num_attention_heads,
            key_heads: self.config.num_key_value_heads,
            dim: self.config.head_dim,
        }
    }

    /// Cosines and sines of at least the first `positions`, in memory that lives as long as what is given back.
    pub(super) fn angles(&self, positions: usize) -> Result<AnglesHeld, LmError> {
        let mut held = self.angles.lock().unwrap_or_else(PoisonError::into_inner);
        let known = held.as_ref().filter(|angles| angles.positions >= positions);
        if let Some(angles) = known {
            return Ok(AnglesHeld(Arc::clone(angles)));
        }
        let longest = self.config.max_position_embeddings;
        let count = positions
            .next_multiple_of(ANGLES)
            .min(longest.max(positions));
        let (mut cosines, mut sines) = (Vec::new(), Vec::new());
        for position in 0..count {
            let (cos, sin) = self.rope.at(position);
            cosines.extend_from_slice(cos);
            sines.extend_from_slice(sin);
        }
        let angles = Arc::new(Angles {
            cosines: self.ops.upload_floats(&cosines)?,
            sines: self.ops.upload_floats(&sines)?,
            positions: count,
        });
        *held = Some(Arc::clone(&angles));
        Ok(AnglesHeld(angles))
    }

    /// Only the last layer may leave rows out: no later one attends to them.
    pub(super) fn rows_of<'r>(&self, layer: usize, rows: &'r Rows) -> Option<&'r Rows> {
        (layer + 1 == self.layout.layers.len()).then_some(rows)
    }

    /// Runs the decoder over a batch and keeps the normalised final states of `rows`.
    pub(super) fn forward(&self, batch: &Batch, rows: &Rows, keep: Keep) -> Result<Saved, LmError> {
        let h = self.config.hidden_size;
        let embedding = self.slot(&self.layout.embedding);
        let mut x = self.ops.gather(embedding, &batch.ids, batch.tokens, h)?;
        let (mut inputs, mut layers) = (Vec::new(), Vec::new());
        for layer in 0..self.layout.layers.len() {
            let rows = self.rows_of(layer, rows);
            let (saved, next) = self.layer_forward(layer, &x, batch, rows)?;
            let input = std::mem::replace(&mut x, next);
            layers.push((keep == Keep::All).then_some(saved));
            if keep != Keep::Nothing {
                inputs.push(input);
            }
        }
        let weight = self.slot(&self.layout.final_norm);
        let count = rows.list.len();
        let (hidden, output_inverse) = self.ops.rms_norm(&x, weight, self.epsilon(), count, h)?;
        Ok(Saved {
            inputs,
            layers,
            output: x,
            output_inverse,
            hidden,
        })
    }

    /// One layer; returns what it keeps and its output.
    pub(super) fn layer_forward(
        &self,
        layer: usize,
        x: &Buffer,
        batch: &Batch,
        rows: Option<&Rows>,
    ) -> Result<(LayerSaved, Buffer), LmError> {
        let (ops, config) = (&self.ops, &self.config);
        let slots = &self.layout.layers[layer];
        let (n, h) = (batch.tokens, config.hidden_size);
        let query = config.query_size();
        let input_norm = self.slot(&slots.input_norm);
        let (normed, input_inverse) = ops.rms_norm(x, input_norm, self.epsilon(), n, h)?;
        let projected = self.project_heads(layer, normed, n, &batch.positions, batch.longest)?;
        let Projected { qkv, q, k, .. } = &projected;
        let inputs = Attended {
            q,
            k,
            v: qkv.at(self.values_at(n)),
            v_stride: config.projected_size(),
        };
        let tiles = (&batch.query_tiles.0, batch.query_tiles.1);
        let (attended, lse) = ops.attention(self.heads(), inputs, tiles, n)?;
        let (attended_rows, middle, m) = match rows {
            None => (None, ops.copy_of(x)?, n),
            Some(rows) => {
                let count = rows.list.len();
                let picked = ops.gather(attended.address(), &rows.ids, count, query)?;
                let middle = ops.gather(x.address(), &rows.ids, count, h)?;
                (Some(picked), middle, count)
            }
        };
        let from = attended_rows.as_ref().unwrap_or(&attended);
        ops.matmul(
            Matrix::new(middle.address(), m, h),
            ops.precision,
            true,
            Matrix::new(from.address(), m, query),
            Matrix::new(self.slot(&slots.output), h, query).t(),
        )?;
        let inner = config.intermediate_size;
        let weight = self.slot(&slots.inner_norm);
        let (normed, middle_inverse) = ops.rms_norm(&middle, weight, self.epsilon(), m, h)?;
        let gate_up = self.project(&normed, m, h, &slots.gate_up, 2 * inner)?;
        drop(normed);
        let inside = ops.swiglu(&gate_up, m, inner)?;
        let out = ops.copy_of(&middle)?;
        ops.matmul(
            Matrix::new(out.address(), m, h),
            ops.precision,
            true,
            Matrix::new(inside.address(), m, inner),
            Matrix::new(self.slot(&slots.down), h, inner).t(),
        )?;
        let saved = LayerSaved {
            input_inverse,
            projected,
            attended,
            lse,
            attended_rows,
            middle,
            middle_inverse,
            gate_up,
        };
        Ok((saved, out))
    }

    /// Queries, keys and values of normalised rows at these positions, all below `longest`.
    pub(super) fn project_heads(
        &self,
        layer: usize,
        normed: Buffer,
        rows: usize,
        positions: &Buffer,
        longest: usize,
    ) -> Result<Projected, LmError> {
        let (ops, config) = (&self.ops, &self.config);
        let slots = &self.layout.layers[layer];
        let width = config.projected_size();
        let qkv = self.project(&normed, rows, config.hidden_size, &slots.qkv, width)?;
        drop(normed);
        if let Some(bias) = &slots.qkv_bias {
            ops.add_row(&qkv, self.slot(bias), rows, width)?;
        }
        let angles = self.angles(longest)?;
        let turn = |side| self.turn(layer, side, &qkv, rows, positions, &angles);
        let (q, q_inverse) = ops.heads_forward(turn(Side::Queries), self.epsilon())?;
        let (k, k_inverse) = ops.heads_forward(turn(Side::Keys), self.epsilon())?;
        Ok(Projected {
            qkv,
            q,
            k,
            q_inverse,
            k_inverse,
        })
    }

    /// The queries or the keys of projected rows, and how they are turned.
    pub(super) fn turn<'a>(
        &self,
        layer: usize,
        side: Side,
        qkv: &'a Buffer,
        tokens: usize,
        positions: &'a Buffer,
        angles: &AnglesHeld,
    ) -> Turn<'a> {
        let config = &self.config;
        let norms = self.layout.layers[layer].head_norms.as_ref();
        let (offset, heads, norm) = match side {
            Side::Queries => (0, config.num_attention_heads, norms.map(|(q, _)| q)),
            Side::Keys => (
                config.query_size(),
                config.num_key_value_heads,
                norms.map(|(_, k)| k),
            ),
        };
        Turn {
            rows: qkv,
            stride: config.projected_size(),
            offset,
            weight: norm.map(|norm| self.slot(norm)),
            angles: angles.addresses(),
            positions,
            tokens,
            heads,
            dim: config.head_dim,
        }
    }

    /// The byte of projected rows, of which there are so many, where their values begin.
    pub(super) fn values_at(&self, rows: usize) -> usize {
        let config = &self.config;
        let column = config.query_size() + config.key_size();
        column.min(config.projected_size() * rows) * self.ops.precision.size()
    }

    /// Rows times the transpose of a matrix of the parameters, `[outputs, inputs]`.
    pub(super) fn project(
        &self,
        rows: &Buffer,
        count: usize,
        inputs: usize,
        slot: &Range<usize>,
        outputs: usize,
    ) -> Result<Buffer, LmError> {
        let out = self.ops.values(count * outputs)?;
        self.ops.matmul(
            Matrix::new(out.address(), count, outputs),
            self.ops.precision,
            false,
            Matrix::new(rows.address(), count, inputs),
            Matrix::new(self.slot(slot), outputs, inputs).t(),
        )?;
        Ok(out)
    }

    /// Logits of normalised rows, `f32` `[count, v]`; `first` is the first of `rows`.
    pub(super) fn logits(
        &self,
        rows: &Buffer,
        first: usize,
        count: usize,
    ) -> Result<Buffer, LmError> {
        let (h, v) = (self.config.hidden_size, self.config.vocab_size);
        let logits = self.ops.floats(count * v)?;
        self.ops.matmul(
            Matrix::new(logits.address(), count, v),
            Precision::F32,
            false,
            Matrix::new(rows.at(first * h * self.ops.precision.size()), count, h),
            Matrix::new(self.slot(&self.layout.head), v, h).t(),
        )?;
        Ok(logits)
    }
}

/// Which heads are turned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Queries,
    Keys,
}

/// The table of angles, kept while it is used.
#[derive(Debug)]
pub(super) struct AnglesHeld(Arc<Angles>);

impl AnglesHeld {
    pub(super) fn addresses(&self) -> (u64, u64) {
        (self.0.cosines.address(), self.0.sines.address())
    }
}
