//! The decoder composed of candle's differentiable tensor operations.
//!
//! Takes any device and float type and lets candle's autograd do the backward pass. Far slower than
//! [`Decoder`](super::Decoder); it exists to check it, and avoids every fused operation that would
//! drop a gradient in silence.

use candle_core::{DType, Device, Tensor};

use super::PackedBatch;
use crate::config::ModelConfig;
use crate::error::LmError;
use crate::kernels::rope::RopeTable;
use crate::weights::Weights;

/// Normalised final hidden states of all tokens.
///
/// # Shapes
/// returns `[n, h]` for `n` packed tokens.
///
/// # Errors
/// [`LmError::Tensor`] for a missing weight, [`LmError::Shape`] for a batch that the model cannot read,
/// [`LmError::Candle`] for the rest.
pub fn hidden(
    config: &ModelConfig,
    weights: &Weights,
    batch: &PackedBatch,
) -> Result<Tensor, LmError> {
    batch.check(config)?;
    if batch.after.iter().any(Option::is_some) {
        return Err(LmError::Config(
            "shared beginnings are not composed: pack each sequence on its own".into(),
        ));
    }
    let embedding = weights.get("model.embed_tokens.weight")?;
    let (device, dtype) = (embedding.device().clone(), embedding.dtype());
    let table = RopeTable::<f64>::new(config);
    let ids = Tensor::from_slice(&batch.ids, batch.ids.len(), &device)?;
    let x = embedding.index_select(&ids, 0)?;
    let (mut start, mut sequences) = (0, Vec::new());
    for &len in batch.lens.iter().filter(|&&len| len > 0) {
        let model = Composed {
            config,
            weights,
            rope: rope(&table, len, dtype, &device)?,
        };
        let mut x = x.narrow(0, start, len)?;
        for layer in 0..config.num_hidden_layers {
            x = model.layer(layer, &x)?;
        }
        sequences.push(x);
        start += len;
    }
    rms_norm(
        &Tensor::cat(&sequences, 0)?,
        weights.get("model.norm.weight")?,
        config,
    )
}

/// Logits of all tokens.
///
/// # Shapes
/// returns `[n, v]`.
///
/// # Errors
/// As [`hidden`].
pub fn logits(
    config: &ModelConfig,
    weights: &Weights,
    batch: &PackedBatch,
) -> Result<Tensor, LmError> {
    let name = if config.tie_word_embeddings {
        "model.embed_tokens.weight"
    } else {
        "lm_head.weight"
    };
    Ok(hidden(config, weights, batch)?.matmul(&weights.get(name)?.t()?)?)
}

struct Composed<'a> {
    config: &'a ModelConfig,
    weights: &'a Weights,
    rope: (Tensor, Tensor),
}

fn rope(
    table: &RopeTable<f64>,
    len: usize,
    dtype: DType,
    device: &Device,
) -> Result<(Tensor, Tensor), LmError> {
    let (cos, sin): (Vec<_>, Vec<_>) = (0..len).map(|position| table.at(position)).unzip();
    let tensor = |rows: Vec<&[f64]>| -> Result<Tensor, LmError> {
        let rows: Vec<f64> = rows.into_iter().flatten().copied().collect();
        Ok(Tensor::from_vec(rows.clone(), (len, rows.len() / len), device)?.to_dtype(dtype)?)
    };
    Ok((tensor(cos)?, tensor(sin)?))
}

fn rms_norm(x: &Tensor, weight: &Tensor, config: &ModelConfig) -> Result<Tensor, LmError> {
    let mean = x.sqr()?.mean_keepdim(candle_core::D::Minus1)?;
    let root = (mean + config.rms_norm_eps)?.sqrt()?;
    Ok(x.broadcast_div(&root)?.broadcast_mul(weight)?)
}

impl Composed<'_> {
    fn get(&self, layer: usize, rest: &str) -> Result<&Tensor, LmError> {
        self.weights.get(&format!("model.layers.{layer}.{rest}"))
    }

    fn layer(&self, layer: usize, x: &Tensor) -> Result<Tensor, LmError> {
        let normed = rms_norm(x, self.get(layer, "input_layernorm.weight")?, self.config)?;
        let x = (x + self.attention(layer, &normed)?)?;
        let weight = self.get(layer, "post_attention_layernorm.weight")?;
        let normed = rms_norm(&x, weight, self.config)?;
        let project = |x: &Tensor, which: &str| -> Result<Tensor, LmError> {
            Ok(x.matmul(&self.get(layer, &format!("mlp.{which}_proj.weight"))?.t()?)?)
        };
        let inner = (project(&normed, "gate")?.silu()? * project(&normed, "up")?)?;
        Ok((x + project(&inner, "down")?)?)
    }

    fn attention(&self, layer: usize, x: &Tensor) -> Result<Tensor, LmError> {
        let (config, len) = (self.config, x.dim(0)?);
        let group = config.num_attention_heads / config.num_key_value_heads;
        let q = self.heads(layer, x, "q", config.num_attention_heads)?;
        let k = repeat(
            &self.heads(layer, x, "k", config.num_key_value_heads)?,
            group,
        )?;
        let v = repeat(
            &self.heads(layer, x, "v", config.num_key_value_heads)?,
            group,
        )?;
        let scores = (q.matmul(&k.t()?)? / (config.head_dim as f64).sqrt())?;
        let hidden: Vec<f32> = (0..len * len)
            .map(|at| {
                if at % len > at / len {
                    f32::NEG_INFINITY
                } else {
                    0.0
                }
            })
            .collect();
        let mask = Tensor::from_vec(hidden, (len, len), x.device())?.to_dtype(x.dtype())?;
        let p = candle_nn::ops::softmax(&scores.broadcast_add(&mask)?, candle_core::D::Minus1)?;
        let out = p
            .matmul(&v)?
            .transpose(0, 1)?
            .reshape((len, config.query_size()))?;
        Ok(out.matmul(&self.get(layer, "self_attn.o_proj.weight")?.t()?)?)
    }

    /// `[heads, n, d]`, normalised and turned where that applies.
    fn heads(
        &self,
        layer: usize,
        x: &Tensor,
        which: &str,
        heads: usize,
    ) -> Result<Tensor, LmError> {
        let name = |kind: &str| format!("self_attn.{which}_proj.{kind}");
        let mut y = x.matmul(&self.get(layer, &name("weight"))?.t()?)?;
        if self.config.attention_bias {
            y = y.broadcast_add(self.get(layer, &name("bias"))?)?;
        }
        let mut y = y.reshape((x.dim(0)?, heads, self.config.head_dim))?;
        if which == "v" {
            return Ok(y.transpose(0, 1)?.contiguous()?);
        }
        if self.config.architecture.has_qk_norm() {
            let weight = self.get(layer, &format!("self_attn.{which}_norm.weight"))?;
            y = rms_norm(&y, weight, self.config)?;
        }
        let y = y.transpose(0, 1)?.contiguous()?;
        let half = self.config.head_dim / 2;
        let (a, b) = (y.narrow(2, 0, half)?, y.narrow(2, half, half)?);
        let (cos, sin) = &self.rope;
        let low = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
        let high = (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?;
        Ok(Tensor::cat(&[low, high], 2)?)
    }
}

/// Each head `times` times in a row.
fn repeat(heads: &Tensor, times: usize) -> Result<Tensor, LmError> {
    let (count, len, dim) = heads.dims3()?;
    let wide = heads.unsqueeze(1)?.broadcast_as((count, times, len, dim))?;
    Ok(wide.reshape((count * times, len, dim))?)
}
