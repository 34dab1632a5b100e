//! The stages of a matrix written out: tables whose references name the stages that are read.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expand::{Expansion, Instance, Made};
use super::select::Choice;
use crate::pipeline::Mistake;

impl<'t> Expansion<'_, 't> {
    /// The stages, with references to the stages that they read in place of those to the ones as written.
    pub(super) fn made(mut self, mistakes: &mut Vec<Mistake>) -> Vec<Made<'t>> {
        let mut made = Vec::with_capacity(self.made);
        for number in 0..self.nodes.len() {
            for instance in 0..self.nodes[number].instances.len() {
                let inputs = self.inputs(number, instance, mistakes);
                let name = self.name(number, instance);
                let node = &mut self.nodes[number];
                let Instance { variant, label, .. } = &node.instances[instance];
                let last = node.instances[instance + 1..]
                    .iter()
                    .all(|later| later.variant != *variant);
                let variant = &mut node.variants[*variant];
                // The last that needs a table takes it.
                let mut value = if last {
                    std::mem::replace(&mut variant.value, DeValue::Boolean(false))
                } else {
                    variant.value.clone()
                };
                if let DeValue::Table(table) = &mut value
                    && let Some(DeValue::Table(old)) = table.get_mut("inputs").map(Spanned::get_mut)
                {
                    for (port, new) in inputs {
                        if let Some(value) = old.get_mut(port.as_str()) {
                            *value.get_mut() = new;
                        }
                    }
                }
                made.push(Made {
                    name,
                    base: node.base.clone(),
                    point: label.clone(),
                    value: Spanned::new(node.span.clone(), value),
                    origins: variant.origins.clone(),
                });
            }
        }
        made
    }

    /// The new values of the ports of a stage that read stages of the pipeline.
    fn inputs(
        &self,
        number: usize,
        instance: usize,
        mistakes: &mut Vec<Mistake>,
    ) -> BTreeMap<String, DeValue<'t>> {
        let node = &self.nodes[number];
        let Instance { variant, reads, .. } = &node.instances[instance];
        let variant = &node.variants[*variant];
        let mut ports: BTreeMap<String, DeValue<'t>> = BTreeMap::new();
        for (edge, reads) in variant.edges.iter().zip(reads) {
            let reference = |read: usize| -> Spanned<DeValue<'t>> {
                let text = format!("{}.{}", self.name(edge.stage, read), edge.output);
                Spanned::new(edge.span.clone(), DeValue::String(text.into()))
            };
            let gathers = edge.choices.contains(&Choice::All);
            if edge.name.is_none() && !gathers {
                if let Some(&read) = reads.first() {
                    ports.insert(edge.port.clone(), reference(read).into_inner());
                }
                continue;
            }
            // Names under the port that are no edges to stages of the pipeline stay, to be reported.
            let port = ports.entry(edge.port.clone()).or_insert_with(|| {
                let old = variant.value.as_table().and_then(|t| t.get("inputs"));
                let old = old.and_then(|i| i.get_ref().as_table()?.get(edge.port.as_str()));
                match old.map(Spanned::get_ref) {
                    Some(DeValue::Table(table)) => DeValue::Table(table.clone()),
                    _ => DeValue::Table(DeTable::new()),
                }
            });
            let DeValue::Table(rows) = port else { continue };
            let prefix = edge.name.as_deref();
            if let Some(name) = prefix {
                rows.remove(name);
            }
            for &read in reads {
                let row = match (prefix, gathers) {
                    (None | Some("*"), true) => self.row(edge, read),
                    (Some(name), true) => match &self.nodes[edge.stage].instances[read].label[..] {
                        "" => name.to_owned(),
                        _ => format!("{name},{}", self.row(edge, read)),
                    },
                    (name, false) => name.unwrap_or_default().to_owned(),
                };
                let key = Spanned::new(edge.span.clone(), row.clone().into());
                if rows.insert(key, reference(read)).is_some() {
                    mistakes.push(Mistake::Selection {
                        stage: node.base.get_ref().clone(),
                        reference: self.nodes[edge.stage].base.get_ref().clone(),
                        message: format!("two of the things that it gathers are called `{row}`"),
                        help: Some(format!(
                            "gather one of them under a name, as in `inputs.{}.NAME`",
                            edge.port
                        )),
                        span: edge.span.clone(),
                    });
                }
            }
        }
        ports
    }
}
