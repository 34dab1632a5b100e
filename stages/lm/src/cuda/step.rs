//! The decoder with a cache: rows that each belong to a sequence and a position.
//!
//! Every product has [`Stepper::rows`] rows, filled up with padding, and every other kernel computes a row by itself. So
//! a row's numbers do not depend on which rows are computed beside it, as long as cuBLAS treats the rows of a product
//! alike.

use super::board::{Arg, Buffer};
use super::cache::Cache;
use super::device::Device;
use super::model::Model;
use super::ops::{Matrix, SPLIT};
use crate::config::ModelConfig;
use crate::error::LmError;
use crate::weights::Weights;

/// A model that reads tokens with a cache.
#[derive(Debug)]
pub(super) struct Stepper {
    pub(super) model: Model,
    /// Rows of every product.
    pub(super) rows: usize,
}

/// The rows of a call.
struct Step {
    ids: Buffer,
    positions: Buffer,
    table: Buffer,
    table_width: usize,
    /// One past the last position of any row.
    longest: usize,
}

impl Stepper {
    pub(super) fn new(
        device: &Device,
        config: &ModelConfig,
        weights: &Weights,
        rows: usize,
    ) -> Result<Self, LmError> {
        Ok(Self {
            model: Model::new(device, config, weights, false)?,
            rows,
        })
    }

    pub(super) fn cache(&self) -> Cache {
        Cache::new(&self.model.config)
    }

    /// Reads the next tokens of one sequence; calls `each` with the normalised rows after each part of at most
    /// [`Self::rows`] tokens: `[rows, h]`, and how many of them count.
    pub(super) fn read(
        &self,
        tokens: &[u32],
        cache: &mut Cache,
        mut each: impl FnMut(Buffer, usize) -> Result<(), LmError>,
    ) -> Result<(), LmError> {
        for part in tokens.chunks(self.rows) {
            let first = cache.length();
            cache.grow(&self.model.ops, part.len())?;
            let table: Vec<u64> = cache.addresses().collect();
            let rows: Vec<(u32, usize, &[u64])> = part
                .iter()
                .enumerate()
                .map(|(at, &token)| (token, first + at, table.as_slice()))
                .collect();
            each(self.forward(&rows)?, part.len())?;
        }
        Ok(())
    }

    /// Reads one token of each sequence; gives the normalised rows `[rows, h]`.
    pub(super) fn step(
        &self,
        tokens: &[u32],
        caches: &mut [&mut Cache],
    ) -> Result<Buffer, LmError> {
        let mut tables = Vec::with_capacity(tokens.len());
        for cache in caches.iter_mut() {
            cache.grow(&self.model.ops, 1)?;
            tables.push(cache.addresses().collect::<Vec<u64>>());
        }
        let rows: Vec<(u32, usize, &[u64])> = tokens
            .iter()
            .zip(caches.iter())
            .zip(&tables)
            .map(|((&token, cache), table)| (token, cache.length() - 1, table.as_slice()))
            .collect();
        self.forward(&rows)
    }

    /// Logits of normalised rows, `[rows, v]`.
    pub(super) fn logits(&self, rows: &Buffer) -> Result<Buffer, LmError> {
        self.model.logits(rows, 0, self.rows)
    }

    /// Token, position and blocks of each row, padded.
    fn lay_out(&self, rows: &[(u32, usize, &[u64])]) -> Result<Step, LmError> {
        let ops = &self.model.ops;
        let width = rows.iter().map(|row| row.2.len()).max().unwrap_or(0).max(1);
        let (mut ids, mut positions) = (vec![0; self.rows], vec![-1; self.rows]);
        let mut table = vec![0_u64; self.rows * width];
        for (at, &(token, position, blocks)) in rows.iter().enumerate() {
            ids[at] = token as i32;
            positions[at] = position as i32;
            table[at * width..][..blocks.len()].copy_from_slice(blocks);
        }
        Ok(Step {
            ids: ops.upload_ints(&ids)?,
            positions: ops.upload_ints(&positions)?,
            table: ops.upload_longs(&table)?,
            table_width: width,
            longest: rows.iter().map(|row| row.1 + 1).max().unwrap_or(0),
        })
    }

    fn forward(&self, rows: &[(u32, usize, &[u64])]) -> Result<Buffer, LmError> {
        let model = &self.model;
        let (ops, config) = (&model.ops, &model.config);
        let step = self.lay_out(rows)?;
        let (n, h) = (self.rows, config.hidden_size);
        let inner = config.intermediate_size;
        let embedding = model.slot(&model.layout.embedding);
        let x = ops.gather(embedding, &step.ids, n, h)?;
        for (layer, slots) in model.layout.layers.iter().enumerate() {
            let weight = model.slot(&slots.input_norm);
            let (normed, _) = ops.rms_norm(&x, weight, model.epsilon(), n, h)?;
            let attended = self.attend(layer, normed, &step)?;
            let query = config.query_size();
            let stream = Matrix::new(x.address(), n, h);
            ops.matmul(
                stream,
                ops.precision,
                true,
                Matrix::new(attended.address(), n, query),
                Matrix::new(model.slot(&slots.output), h, query).t(),
            )?;
            let weight = model.slot(&slots.inner_norm);
            let (normed, _) = ops.rms_norm(&x, weight, model.epsilon(), n, h)?;
            let gate_up = model.project(&normed, n, h, &slots.gate_up, 2 * inner)?;
            let inside = ops.swiglu(&gate_up, n, inner)?;
            ops.matmul(
                stream,
                ops.precision,
                true,
                Matrix::new(inside.address(), n, inner),
                Matrix::new(model.slot(&slots.down), h, inner).t(),
            )?;
        }
        let weight = model.slot(&model.layout.final_norm);
        Ok(ops.rms_norm(&x, weight, model.epsilon(), n, h)?.0)
    }

    /// Projections of a layer, its keys and values into the cache, and the attention of every row to its past.
    fn attend(&self, layer: usize, normed: Buffer, step: &Step) -> Result<Buffer, LmError> {
        let model = &self.model;
        let (ops, config) = (&model.ops, &model.config);
        let n = self.rows;
        let projected = model.project_heads(layer, normed, n, &step.positions, step.longest)?;
        let values = config.query_size() + config.key_size();
        let table = [
            Arg::Address(step.table.address()),
            super::ops::int(step.table_width),
        ];
        ops.cache_write(
            &projected.k,
            (&projected.qkv, config.projected_size(), values),
            &step.positions,
            table,
            layer,
            n,
            model.heads(),
        )?;
        let splits = step.longest.div_ceil(SPLIT);
        ops.cached_attention(
            &projected.q,
            &step.positions,
            table,
            layer,
            n,
            splits,
            model.heads(),
        )
    }
}
