//! Where each tensor lies in one long slice of parameters.
//!
//! Query, key and value matrices follow each other, and so do gate and up, so that each group is one matrix
//! product. Gradients and optimizer moments use the same layout.

use std::ops::Range;

use crate::config::ModelConfig;
use crate::error::LmError;
use crate::weights::{Weights, expected_shapes};

/// One named tensor of the slice.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its Hugging Face name.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// Its place.
    pub range: Range<usize>,
}

/// The places of one layer's tensors; groups are joined.
#[derive(Clone, Debug)]
pub(crate) struct LayerSlots {
    pub(crate) input_norm: Range<usize>,
    /// `[q + 2·k, h]`.
    pub(crate) qkv: Range<usize>,
    /// `[q + 2·k]`.
    pub(crate) qkv_bias: Option<Range<usize>>,
    /// Of query and of key.
    pub(crate) head_norms: Option<(Range<usize>, Range<usize>)>,
    /// `[h, q]`.
    pub(crate) output: Range<usize>,
    pub(crate) inner_norm: Range<usize>,
    /// `[2·i, h]`.
    pub(crate) gate_up: Range<usize>,
    /// `[h, i]`.
    pub(crate) down: Range<usize>,
}

/// Places of all tensors of a configuration.
#[derive(Clone, Debug)]
pub struct Layout {
    entries: Vec<Entry>,
    pub(crate) embedding: Range<usize>,
    pub(crate) layers: Vec<LayerSlots>,
    pub(crate) final_norm: Range<usize>,
    /// The same as `embedding` when they are tied.
    pub(crate) head: Range<usize>,
}

impl Layout {
    /// The layout of a configuration.
    ///
    /// # Errors
    /// [`LmError::Config`] for sizes that do not fit.
    pub fn new(config: &ModelConfig) -> Result<Self, LmError> {
        config.check()?;
        let mut builder = Builder {
            shapes: expected_shapes(config).into_iter().collect(),
            entries: Vec::new(),
        };
        let embedding = builder.place("model.embed_tokens.weight");
        let layers = (0..config.num_hidden_layers)
            .map(|layer| builder.layer(config, layer))
            .collect();
        let final_norm = builder.place("model.norm.weight");
        let head = if config.tie_word_embeddings {
            embedding.clone()
        } else {
            builder.place("lm_head.weight")
        };
        Ok(Self {
            entries: builder.entries,
            embedding,
            layers,
            final_norm,
            head,
        })
    }

    /// A layout of tensors that are no decoder's: it has places, and nothing else.
    pub(crate) fn of_entries(entries: Vec<Entry>) -> Self {
        Self {
            entries,
            embedding: 0..0,
            layers: Vec::new(),
            final_norm: 0..0,
            head: 0..0,
        }
    }

    /// What has a gradient of its own: joined groups, and tensors that belong to none; in their order, without gaps.
    pub(crate) fn groups(&self) -> Vec<Range<usize>> {
        if self.layers.is_empty() {
            return self
                .entries
                .iter()
                .map(|entry| entry.range.clone())
                .collect();
        }
        let mut groups = vec![self.embedding.clone()];
        for layer in &self.layers {
            groups.extend([layer.input_norm.clone(), layer.qkv.clone()]);
            groups.extend(layer.qkv_bias.clone());
            if let Some((query, key)) = &layer.head_norms {
                groups.extend([query.clone(), key.clone()]);
            }
            groups.extend([
                layer.output.clone(),
                layer.inner_norm.clone(),
                layer.gate_up.clone(),
                layer.down.clone(),
            ]);
        }
        groups.push(self.final_norm.clone());
        if self.head != self.embedding {
            groups.push(self.head.clone());
        }
        groups
    }

    /// Every tensor, in the order of their places.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Values of all tensors together.
    pub fn len(&self) -> usize {
        self.entries.last().map_or(0, |entry| entry.range.end)
    }

    /// Whether there is no tensor at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Copies weights into one slice.
    ///
    /// # Errors
    /// [`LmError::Tensor`] for a tensor that is missing or of another shape.
    pub fn flatten(&self, config: &ModelConfig, weights: &Weights) -> Result<Vec<f32>, LmError> {
        weights.check(config)?;
        let mut values = Vec::with_capacity(self.len());
        for entry in &self.entries {
            values.extend(weights.values(&entry.name)?);
        }
        Ok(values)
    }
}

struct Builder {
    shapes: Vec<(String, Vec<usize>)>,
    entries: Vec<Entry>,
}

impl Builder {
    fn place(&mut self, name: &str) -> Range<usize> {
        let found = self
            .shapes
            .binary_search_by(|(known, _)| known.as_str().cmp(name));
        let (_, shape) = &self.shapes[found.expect("the layout names only expected tensors")];
        let start = self.entries.last().map_or(0, |entry| entry.range.end);
        let range = start..start + shape.iter().product::<usize>();
        self.entries.push(Entry {
            name: name.to_owned(),
            shape: shape.clone(),
            range: range.clone(),
        });
        range
    }

    fn group(&mut self, names: &[String]) -> Range<usize> {
        let ranges: Vec<_> = names.iter().map(|name| self.place(name)).collect();
        ranges[0].start..ranges[ranges.len() - 1].end
    }

    fn layer(&mut self, config: &ModelConfig, layer: usize) -> LayerSlots {
        let name = |rest: &str| format!("model.layers.{layer}.{rest}");
        let projections = |kind: &str| {
            ["q", "k", "v"].map(|which| name(&format!("self_attn.{which}_proj.{kind}")))
        };
        LayerSlots {
            input_norm: self.place(&name("input_layernorm.weight")),
            qkv: self.group(&projections("weight")),
            qkv_bias: config
                .attention_bias
                .then(|| self.group(&projections("bias"))),
            head_norms: config.architecture.has_qk_norm().then(|| {
                let query = self.place(&name("self_attn.q_norm.weight"));
                (query, self.place(&name("self_attn.k_norm.weight")))
            }),
            output: self.place(&name("self_attn.o_proj.weight")),
            inner_norm: self.place(&name("post_attention_layernorm.weight")),
            gate_up: self.group(&[name("mlp.gate_proj.weight"), name("mlp.up_proj.weight")]),
            down: self.place(&name("mlp.down_proj.weight")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Architecture;
    use crate::weights::tests::tiny;

    #[test]
    fn places_every_tensor_once_and_without_gaps() {
        for architecture in [
            Architecture::Qwen3,
            Architecture::Qwen2,
            Architecture::Llama,
        ] {
            let config = tiny(architecture);
            let layout = Layout::new(&config).unwrap();
            let mut names: Vec<_> = layout.entries().iter().map(|entry| &entry.name).collect();
            names.sort();
            assert!(names.into_iter().eq(expected_shapes(&config).keys()));
            let mut end = 0;
            for entry in layout.entries() {
                assert_eq!(entry.range.start, end);
                end = entry.range.end;
            }
            assert_eq!(layout.len(), end);
            let groups = layout.groups();
            let borders = groups.windows(2).all(|pair| pair[0].end == pair[1].start);
            assert!(borders && groups[0].start == 0 && groups[groups.len() - 1].end == end);
        }
    }
}
