//! From the stages as written to the stages that the points of the matrix make of them.
//!
//! At each point a stage has a table (what is written, with the profile, the values of the point and `--set`
//! put in, variables replaced) and reads certain stages at certain points. Two points that give it equal
//! tables and equal inputs are one stage. So a stage that no axis reaches exists once, and arms that begin
//! alike share their beginning. Names are made afterwards and decide nothing.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::layers::Layers;
use super::select::{self, Choice, Reference};
use super::{Matrix, wrong};
use crate::pipeline::vars::Origins;
use crate::pipeline::{Mistake, Span, order, tables};

/// Stages at most that a matrix may make: what makes more was not meant.
const MOST_STAGES: usize = 50_000;

/// A stage, ready to be read.
pub(in crate::pipeline) struct Made<'t> {
    /// Its name, with `@` and what tells it from its siblings.
    pub(in crate::pipeline) name: String,
    /// Its name as written.
    pub(in crate::pipeline) base: Spanned<String>,
    /// What follows `@`; empty where no point makes a difference.
    pub(in crate::pipeline) point: String,
    pub(in crate::pipeline) value: Spanned<DeValue<'t>>,
    pub(in crate::pipeline) origins: Origins,
}

/// Makes the stages; order as written, points in their own order.
pub(in crate::pipeline) fn expand<'t>(
    stages: DeTable<'t>,
    layers: &Layers<'_, 't>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Made<'t>> {
    if layers.matrix.is_empty() {
        return plain(stages, layers, mistakes);
    }
    Expansion::new(stages, layers, mistakes)
        .and_then(|mut expansion| {
            expansion.read_edges(mistakes);
            let order = expansion.order(mistakes)?;
            order
                .into_iter()
                .try_for_each(|n| expansion.settle(n, mistakes))?;
            Some(expansion.made(mistakes))
        })
        .unwrap_or_default()
}

/// The stages of a pipeline without a matrix.
fn plain<'t>(
    stages: DeTable<'t>,
    layers: &Layers<'_, 't>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Made<'t>> {
    let mut scope = layers.scope(None);
    let mut made = Vec::with_capacity(stages.len());
    for (key, value) in stages {
        let base = Spanned::new(key.span(), key.into_inner().into_owned());
        let span = value.span();
        let mut value = value.into_inner();
        let mut origins = Origins::new();
        if let DeValue::Table(table) = &mut value {
            layers.put_together(base.get_ref(), table, None);
            let place = format!("stage `{}`", base.get_ref());
            scope.substitute(&place, table, &mut origins, mistakes);
            if !layers.has_matrix {
                no_selection(base.get_ref(), table, mistakes);
            }
        }
        made.push(Made {
            name: base.get_ref().clone(),
            base,
            point: String::new(),
            value: Spanned::new(span, value),
            origins,
        });
    }
    made
}

/// Reports selections where nothing can be selected.
fn no_selection(stage: &str, table: &DeTable<'_>, mistakes: &mut Vec<Mistake>) {
    each_reference(table, &mut |_, _, text, span| {
        if let Some(Reference {
            stage: read,
            selection: Some(_),
            output,
        }) = select::parse(text)
        {
            mistakes.push(Mistake::Selection {
                stage: stage.to_owned(),
                reference: text.to_owned(),
                message: "the pipeline has no `[matrix]`, so there is nothing to choose from"
                    .to_owned(),
                help: Some(format!("write `{read}.{output}`")),
                span: span.clone(),
            });
        }
    });
}

/// Calls `each` with port, name under it, reference and place of everything that looks like an edge.
fn each_reference<'v>(
    table: &'v DeTable<'_>,
    each: &mut dyn FnMut(&'v str, Option<&'v str>, &'v str, Span),
) {
    let inputs = table.get("inputs").and_then(|i| i.get_ref().as_table());
    for (port, value) in inputs.into_iter().flatten() {
        match value.get_ref() {
            DeValue::String(text) => each(port.get_ref(), None, text, value.span()),
            DeValue::Table(names) => {
                for (name, value) in names {
                    if let Some(text) = value.get_ref().as_str() {
                        each(port.get_ref(), Some(name.get_ref()), text, value.span());
                    }
                }
            }
            _ => {}
        }
    }
}

/// A stage as written, and what points make of it.
pub(super) struct Node<'t> {
    pub(super) base: Spanned<String>,
    pub(super) span: Span,
    /// The different tables.
    pub(super) variants: Vec<Variant<'t>>,
    /// For each point its table; empty when all points have the first.
    pub(super) variant_at: Vec<usize>,
    /// The different stages, once settled.
    pub(super) instances: Vec<Instance>,
    /// For each point its stage; empty when all points have the first.
    pub(super) instance_at: Vec<usize>,
    /// The axes that can make a difference to it.
    pub(super) axes: BTreeSet<usize>,
}

pub(super) struct Variant<'t> {
    pub(super) value: DeValue<'t>,
    pub(super) origins: Origins,
    pub(super) edges: Vec<Edge>,
}

/// An input that reads a stage of the pipeline.
pub(super) struct Edge {
    pub(super) port: String,
    pub(super) name: Option<String>,
    pub(super) stage: usize,
    pub(super) output: String,
    pub(super) choices: Vec<Choice>,
    pub(super) span: Span,
}

pub(super) struct Instance {
    pub(super) variant: usize,
    /// The first point that makes it.
    pub(super) point: usize,
    pub(super) label: String,
    /// For each edge the stages that it reads.
    pub(super) reads: Vec<Vec<usize>>,
}

impl Node<'_> {
    pub(super) fn variant(&self, point: usize) -> usize {
        self.variant_at.get(point).copied().unwrap_or(0)
    }

    pub(super) fn instance(&self, point: usize) -> usize {
        self.instance_at.get(point).copied().unwrap_or(0)
    }
}

pub(super) struct Expansion<'a, 't> {
    pub(super) matrix: &'a Matrix<'t>,
    pub(super) nodes: Vec<Node<'t>>,
    pub(super) made: usize,
}

impl<'a, 't> Expansion<'a, 't> {
    /// Builds every table that any point makes of any stage.
    fn new(
        stages: DeTable<'t>,
        layers: &'a Layers<'_, 't>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Self> {
        let mut all = Self {
            matrix: layers.matrix,
            nodes: Vec::with_capacity(stages.len()),
            made: 0,
        };
        for (key, value) in stages {
            let base = Spanned::new(key.span(), key.into_inner().into_owned());
            let span = value.span();
            let mut node = Node {
                base,
                span,
                variants: Vec::new(),
                variant_at: Vec::new(),
                instances: Vec::new(),
                instance_at: Vec::new(),
                axes: BTreeSet::new(),
            };
            all.variants(&mut node, &value.into_inner(), layers, mistakes)?;
            all.nodes.push(node);
        }
        all.made = 0;
        Some(all)
    }

    fn variants(
        &mut self,
        node: &mut Node<'t>,
        value: &DeValue<'t>,
        layers: &Layers<'_, 't>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<()> {
        let stage = node.base.get_ref().clone();
        let classes = self.classes(&stage, &layers.mentioned(&stage, value));
        let mut by_classes: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let mut by_text: BTreeMap<String, usize> = BTreeMap::new();
        let mut variant_at = Vec::with_capacity(self.matrix.points());
        for (point, values) in self.matrix.points.iter().enumerate() {
            let of_point: Vec<usize> = classes.iter().map(|(a, c)| c[values[*a]]).collect();
            if let Some(&known) = by_classes.get(&of_point) {
                variant_at.push(known);
                if classes.is_empty() {
                    break;
                }
                continue;
            }
            self.count(mistakes)?;
            let mut value = value.clone();
            let mut origins = Origins::new();
            if let DeValue::Table(table) = &mut value {
                layers.put_together(&stage, table, Some(point));
                let place = format!("stage `{stage}`");
                layers
                    .scope(Some(point))
                    .substitute(&place, table, &mut origins, mistakes);
            }
            let mut text = String::new();
            tables::text(&value, &mut text);
            let variants = &mut node.variants;
            let number = *by_text.entry(text).or_insert_with(|| {
                variants.push(Variant {
                    value,
                    origins,
                    edges: Vec::new(),
                });
                variants.len() - 1
            });
            by_classes.insert(of_point, number);
            variant_at.push(number);
        }
        if node.variants.len() > 1 {
            node.axes = classes.iter().map(|(axis, _)| *axis).collect();
            node.variant_at = variant_at;
        }
        Some(())
    }

    /// The axes that a stage mentions, each with the class of every value: those of one class say the same.
    fn classes(&self, stage: &str, mentioned: &BTreeSet<String>) -> Vec<(usize, Vec<usize>)> {
        let mut all = Vec::new();
        for (number, axis) in self.matrix.axes.iter().enumerate() {
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            let mut classes = Vec::with_capacity(axis.values.len());
            for value in 0..axis.values.len() {
                let mut text = String::new();
                if let Some(table) = self.matrix.changes(number, value, stage) {
                    tables::table_text(table, &mut text);
                }
                if let Some(vars) = self.matrix.changes(number, value, "vars") {
                    for name in mentioned {
                        if let Some(value) = vars.get(name.as_str()) {
                            text.push_str(&format!("${name}="));
                            tables::text(value.get_ref(), &mut text);
                        }
                    }
                }
                let next = seen.len();
                classes.push(*seen.entry(text).or_insert(next));
            }
            if seen.len() > 1 {
                all.push((number, classes));
            }
        }
        all
    }

    /// Counts a stage or a table; none when there are too many, which is said once.
    pub(super) fn count(&mut self, mistakes: &mut Vec<Mistake>) -> Option<()> {
        self.made += 1;
        if self.made <= MOST_STAGES {
            return Some(());
        }
        mistakes.push(wrong(
            format!("the matrix makes more than {MOST_STAGES} stages of this pipeline"),
            Some("take values away, or let fewer stages mention them".to_owned()),
            self.matrix.axes[0].span.clone(),
        ));
        None
    }

    fn read_edges(&mut self, mistakes: &mut Vec<Mistake>) {
        let names: BTreeMap<String, usize> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(n, node)| (node.base.get_ref().clone(), n))
            .collect();
        for node in &mut self.nodes {
            for variant in &mut node.variants {
                let DeValue::Table(table) = &variant.value else {
                    continue;
                };
                let edges = &mut variant.edges;
                each_reference(table, &mut |port, name, text, span| {
                    let Some(reference) = select::parse(text) else {
                        return;
                    };
                    let Some(&stage) = names.get(reference.stage) else {
                        return;
                    };
                    let selection = reference.selection;
                    let choices = match selection.map(|s| select::choices(&self.matrix.axes, s)) {
                        None => vec![Choice::Same; self.matrix.axes.len()],
                        Some(Ok(choices)) => choices,
                        Some(Err((message, help))) => {
                            mistakes.push(Mistake::Selection {
                                stage: node.base.get_ref().clone(),
                                reference: text.to_owned(),
                                message,
                                help,
                                span: span.clone(),
                            });
                            vec![Choice::Same; self.matrix.axes.len()]
                        }
                    };
                    edges.push(Edge {
                        port: port.to_owned(),
                        name: name.map(str::to_owned),
                        stage,
                        output: reference.output.to_owned(),
                        choices,
                        span,
                    });
                });
            }
        }
    }

    /// An order in which every stage comes after those that it reads at any point.
    fn order(&self, mistakes: &mut Vec<Mistake>) -> Option<Vec<usize>> {
        let edges = |n: usize| self.nodes[n].variants.iter().flat_map(|v| &v.edges);
        let reads: Vec<Vec<usize>> = (0..self.nodes.len())
            .map(|n| edges(n).map(|e| e.stage).collect())
            .collect();
        let order = order::topological(&reads);
        if order.is_none() {
            for cycle in order::cycles(&reads) {
                let before = cycle.iter().cycle().skip(cycle.len() - 1);
                let spans = cycle.iter().zip(before).map(|(&node, &read)| {
                    let edge = edges(node).find(|e| e.stage == read);
                    edge.map_or_else(|| self.nodes[node].span.clone(), |e| e.span.clone())
                });
                mistakes.push(Mistake::Cycle {
                    spans: spans.collect(),
                    stages: cycle
                        .iter()
                        .map(|&n| self.nodes[n].base.get_ref().clone())
                        .collect(),
                });
            }
        }
        order
    }
}
