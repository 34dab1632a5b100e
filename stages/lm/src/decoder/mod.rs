//! The decoder for training and scoring: whole sequences, packed without padding.
//!
//! Forward and backward are written by hand over slices (see [`crate::kernels`]), because candle's graph keeps every
//! intermediate and its fused operations drop gradients. The same arithmetic composed of candle tensors is in
//! [`composed`]: slower, on any device, and what the tests compare with. Generation with a cache is
//! elsewhere.

pub(crate) mod adapter;
mod backward;
pub mod composed;
mod forward;
mod layout;
mod packing;
mod scratch;
pub(crate) mod sums;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::config::ModelConfig;
use crate::error::LmError;
use crate::kernels::rope::RopeTable;
use crate::kernels::{Precision, Real};
use crate::weights::Weights;

pub use adapter::{LoraConfig, TARGETS, Target, Targets};
pub use forward::Keep;
pub use layout::{Entry, Layout};
pub(crate) use packing::groups;
pub use packing::{PackedBatch, Packing};
pub use scratch::Scratch;

/// A decoder's configuration and parameters, in `f32` or, for tests, `f64`.
#[derive(Clone, Debug)]
pub struct Decoder<T = f32> {
    config: ModelConfig,
    layout: Arc<Layout>,
    rope: Arc<RopeTable<T>>,
    params: Vec<T>,
    precision: Precision,
}

impl<T: Real> Decoder<T> {
    /// A decoder with these weights, which are copied.
    ///
    /// # Errors
    /// [`LmError::Config`] for sizes that do not fit; [`LmError::Tensor`] for a tensor that is missing or of
    /// another shape.
    pub fn new(config: &ModelConfig, weights: &Weights) -> Result<Self, LmError> {
        let layout = Layout::new(config)?;
        let values = layout.flatten(config, weights)?;
        Ok(Self {
            rope: Arc::new(RopeTable::new(config)),
            params: values
                .into_iter()
                .map(|value| T::from_f64(f64::from(value)))
                .collect(),
            layout: Arc::new(layout),
            config: config.clone(),
            precision: Precision::default(),
        })
    }

    /// The same, computing in another precision.
    #[must_use]
    pub fn computing_in(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// What its products are computed in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Its configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where each tensor lies in [`Self::params`].
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// All parameters.
    pub fn params(&self) -> &[T] {
        &self.params
    }

    /// All parameters, for the optimizer.
    pub fn params_mut(&mut self) -> &mut [T] {
        &mut self.params
    }

    /// The parameters as tensors under their names.
    ///
    /// # Errors
    /// [`LmError::Candle`] if a tensor cannot be made.
    pub fn weights(&self) -> Result<Weights, LmError> {
        tensors(&self.layout, &self.params)
    }

    /// The values of a tensor by its Hugging Face name, where they lie.
    ///
    /// # Errors
    /// [`LmError::Tensor`] when there is none of this name.
    pub(crate) fn values(&self, name: &str) -> Result<&[T], LmError> {
        let mut entries = self.layout.entries().iter();
        entries
            .find(|entry| entry.name == name)
            .map(|entry| self.slot(&entry.range))
            .ok_or_else(|| LmError::tensor(name, "is missing"))
    }

    fn slot(&self, range: &Range<usize>) -> &[T] {
        &self.params[range.clone()]
    }

    /// The output head, `[v, h]`.
    pub(crate) fn head(&self) -> &[T] {
        self.slot(&self.layout.head)
    }
}

/// Slices of a layout as `f32` tensors.
pub(crate) fn tensors<T: Real>(layout: &Layout, values: &[T]) -> Result<Weights, LmError> {
    let mut tensors = BTreeMap::new();
    for entry in layout.entries() {
        let values: Vec<f32> = values[entry.range.clone()]
            .iter()
            .map(|value| value.to_f64() as f32)
            .collect();
        let tensor = Tensor::from_vec(values, entry.shape.as_slice(), &Device::Cpu)?;
        tensors.insert(entry.name.clone(), tensor);
    }
    Ok(Weights(tensors))
}

/// A gradient for every parameter, in the decoder's layout.
#[derive(Clone, Debug)]
pub struct Gradients<T = f32> {
    layout: Arc<Layout>,
    pub(crate) values: Vec<T>,
}

impl<T: Real> Gradients<T> {
    /// Zeros.
    pub fn zeros(layout: &Arc<Layout>) -> Self {
        Self {
            values: vec![T::ZERO; layout.len()],
            layout: Arc::clone(layout),
        }
    }

    /// The gradient of a tensor, row-major.
    pub fn get(&self, name: &str) -> Option<&[T]> {
        let entry = self
            .layout
            .entries()
            .iter()
            .find(|entry| entry.name == name)?;
        self.values.get(entry.range.clone())
    }

    /// All values, in the order of the layout.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The layout.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The gradients as tensors under their parameters' names.
    ///
    /// # Errors
    /// [`LmError::Candle`] if a tensor cannot be made.
    pub fn tensors(&self) -> Result<Weights, LmError> {
        tensors(&self.layout, &self.values)
    }
}
