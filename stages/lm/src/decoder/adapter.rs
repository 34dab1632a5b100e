//! Low-rank adaptation (LoRA): chosen matrices move by a product of two narrow ones, all else stays as it is.
//!
//! The decoder's own parameters always hold base + (α / r)·B·A, so that every other program (scoring, generation,
//! the forward pass) runs as without an adapter, at no cost. Gradients exist for A and B alone.
//!
//! # Source
//! Hu et al., 2021, section 4.1; fresh A and B as in the authors' code: A uniform within 1/√inputs, B zero.

use std::ops::Range;
use std::sync::Arc;

use super::layout::{Entry, Layout};
use crate::error::LmError;
use crate::kernels::Real;
use crate::kernels::gemm::{Mat, MatMut, Precision, Write, matmul};
use crate::loss::scale_by;
use crate::rng::SplitMix64;

/// A kind of matrix that an adapter can move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in Hugging Face's models.
    pub name: &'static str,
    part: &'static str,
    bit: u8,
}

/// Every kind there is, in the order of a layer.
pub const TARGETS: [Target; 7] = [
    target("q_proj", "self_attn", 0),
    target("k_proj", "self_attn", 1),
    target("v_proj", "self_attn", 2),
    target("o_proj", "self_attn", 3),
    target("gate_proj", "mlp", 4),
    target("up_proj", "mlp", 5),
    target("down_proj", "mlp", 6),
];

const fn target(name: &'static str, part: &'static str, bit: u8) -> Target {
    Target { name, part, bit }
}

/// A set of [`TARGETS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets(u8);

impl Targets {
    /// All of them.
    pub const ALL: Self = Self(0x7f);

    /// Those of these names.
    ///
    /// # Errors
    /// [`LmError::Config`] for a name that is none, or no name.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, LmError> {
        let mut set = Self(0);
        for name in names {
            let known = TARGETS.iter().find(|target| target.name == name);
            let Some(known) = known else {
                let names = TARGETS.map(|target| target.name).join(", ");
                return Err(LmError::Config(format!(
                    "`{name}` is no matrix that an adapter can move; there are {names}"
                )));
            };
            set.0 |= 1 << known.bit;
        }
        if set.0 == 0 {
            return Err(LmError::Config(
                "an adapter moves at least one matrix".into(),
            ));
        }
        Ok(set)
    }

    /// Its members.
    pub fn iter(self) -> impl Iterator<Item = Target> {
        TARGETS
            .into_iter()
            .filter(move |target| self.0 & (1 << target.bit) != 0)
    }
}

/// What an adapter is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraConfig {
    /// r: the width of the narrow matrices.
    pub rank: usize,
    /// α: the product counts α / r times.
    pub alpha: f64,
    /// Which matrices it moves, in every layer.
    pub targets: Targets,
    /// Seeds A.
    pub seed: u64,
}

/// One adapted matrix.
#[derive(Clone, Debug)]
pub(crate) struct Adapted {
    /// Its place among the decoder's parameters.
    pub(crate) place: Range<usize>,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    /// Of A, `[rank, inputs]`, among the adapter's.
    pub(crate) a: Range<usize>,
    /// Of B, `[outputs, rank]`.
    pub(crate) b: Range<usize>,
    /// Of its first values among [`Adapter::base`].
    base: Range<usize>,
}

/// The narrow matrices, and what the matrices were that they move.
#[derive(Clone, Debug)]
pub(crate) struct Adapter<T> {
    config: LoraConfig,
    layout: Arc<Layout>,
    pub(crate) params: Vec<T>,
    matrices: Vec<Adapted>,
    base: Vec<T>,
}

impl<T: Real> Adapter<T> {
    /// A fresh adapter of a decoder's parameters: it moves nothing yet.
    ///
    /// # Errors
    /// [`LmError::Config`] for a rank of 0 or a factor that is no number.
    pub(crate) fn new(config: LoraConfig, layout: &Layout, params: &[T]) -> Result<Self, LmError> {
        if config.rank == 0 || !config.alpha.is_finite() || config.alpha <= 0.0 {
            return Err(LmError::Config(format!(
                "an adapter of rank {} and alpha {}: both must be above 0",
                config.rank, config.alpha
            )));
        }
        let (mut entries, mut matrices) = (Vec::new(), Vec::new());
        let (mut end, mut base_end) = (0, 0);
        for entry in layout.entries() {
            let adapted = |target: Target| {
                entry.name.starts_with("model.layers.")
                    && entry
                        .name
                        .ends_with(&format!(".{}.{}.weight", target.part, target.name))
            };
            if !config.targets.iter().any(adapted) {
                continue;
            }
            let (outputs, inputs) = (entry.shape[0], entry.shape[1]);
            let mut place = |which: &str, shape: [usize; 2]| {
                let range = end..end + shape[0] * shape[1];
                end = range.end;
                let stem = entry.name.trim_end_matches(".weight");
                entries.push(Entry {
                    name: format!("{stem}.{which}.weight"),
                    shape: shape.to_vec(),
                    range: range.clone(),
                });
                range
            };
            matrices.push(Adapted {
                place: entry.range.clone(),
                outputs,
                inputs,
                a: place("lora_A", [config.rank, inputs]),
                b: place("lora_B", [outputs, config.rank]),
                base: base_end..base_end + entry.range.len(),
            });
            base_end += entry.range.len();
        }
        let mut values = vec![T::ZERO; end];
        let mut rng = SplitMix64::new(config.seed);
        let mut base = Vec::with_capacity(base_end);
        for one in &matrices {
            let bound = 1.0 / (one.inputs as f64).sqrt();
            for value in &mut values[one.a.clone()] {
                *value = T::from_f64(f64::from(((rng.uniform() * 2.0 - 1.0) * bound) as f32));
            }
            base.extend_from_slice(&params[one.place.clone()]);
        }
        Ok(Self {
            config,
            layout: Arc::new(Layout::of_entries(entries)),
            params: values,
            matrices,
            base,
        })
    }

    pub(crate) fn config(&self) -> &LoraConfig {
        &self.config
    }

    pub(crate) fn rank(&self) -> usize {
        self.config.rank
    }

    /// Where each tensor lies in [`Self::params`].
    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The adapted matrices of a group that lies in one piece.
    pub(crate) fn inside(&self, slot: &Range<usize>) -> &[Adapted] {
        let first = self
            .matrices
            .partition_point(|one| one.place.start < slot.start);
        let end = self
            .matrices
            .partition_point(|one| one.place.start < slot.end);
        &self.matrices[first..end]
    }

    /// Multiplies by α / r.
    pub(crate) fn scale_by(&self, values: &mut [T]) {
        scale_by(
            values,
            T::from_f64(self.config.alpha / self.config.rank as f64),
        );
    }

    /// Sets the decoder's matrices to base + (α / r)·B·A. A function of these alone, so that an adapter that is read
    /// back gives the same bytes.
    pub(crate) fn merge(&self, params: &mut [T], threads: usize) {
        let (mut rest, mut done, mut parts) = (params, 0, Vec::new());
        for one in &self.matrices {
            let (_, after) = rest.split_at_mut(one.place.start - done);
            let (matrix, after) = after.split_at_mut(one.place.len());
            (rest, done) = (after, one.place.end);
            parts.push((one, matrix));
        }
        let rank = self.rank();
        crate::kernels::in_parallel(parts, threads, |(one, matrix)| {
            matrix.copy_from_slice(&self.base[one.base.clone()]);
            let mut b = self.params[one.b.clone()].to_vec();
            self.scale_by(&mut b);
            let b = Mat::new(&b, one.outputs, rank);
            let a = Mat::new(&self.params[one.a.clone()], rank, one.inputs);
            let matrix = MatMut::new(matrix, one.outputs, one.inputs);
            matmul(Precision::F32, matrix, Write::Add, b, a);
        });
    }
}
