//! From the stages as written to the stages that the points of the matrix make of them.
//!
//! At each point a stage has a table (what is written, with the profile, the values of the point and `--set`
//! put in, variables replaced) and reads certain stages at certain points. Two points that give it equal
//! tables and equal inputs are one stage. So a stage that no axis reaches exists once, and arms that begin
//! alike share their beginning. Names are made afterwards and decide nothing.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::select::{self, Choice, Reference};
use super::{Matrix, wrong};
use crate::pipeline::profiles::Profile;
use crate::pipeline::vars::{Origins, Scope};
use crate::pipeline::{Mistake, Span, order, tables, vars};

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

/// Everything that is put into the stages.
pub(in crate::pipeline) struct Layers<'a, 't> {
    pub(in crate::pipeline) vars: &'a DeTable<'t>,
    pub(in crate::pipeline) profile: &'a Profile<'t>,
    pub(in crate::pipeline) matrix: &'a Matrix<'t>,
    /// By stage; variables under `vars`.
    pub(in crate::pipeline) sets: &'a DeTable<'t>,
    /// Whether the pipeline has a `[matrix]`, right or wrong.
    pub(in crate::pipeline) has_matrix: bool,
}

impl<'a, 't> Layers<'a, 't> {
    fn sets_of(&self, stage: &str) -> Option<&'a DeTable<'t>> {
        self.sets.get(stage)?.get_ref().as_table()
    }

    /// The variables at a point; without one, as written.
    pub(in crate::pipeline) fn scope(&self, point: Option<usize>) -> Scope<'a, 't> {
        let values = point.map_or(&[][..], |p| &self.matrix.points[p][..]);
        let of_point = values
            .iter()
            .enumerate()
            .filter_map(|(axis, &value)| self.matrix.changes(axis, value, "vars"));
        Scope::new(self.vars, of_point.chain(self.sets_of("vars")))
    }

    /// The table of a stage at a point: the stage's, then profile, point and `--set` over it.
    fn put_together(&self, stage: &str, table: &mut DeTable<'t>, point: Option<usize>) {
        let values = point.map_or(&[][..], |p| &self.matrix.points[p][..]);
        let changes: Vec<&DeTable<'t>> = values
            .iter()
            .enumerate()
            .filter_map(|(axis, &value)| self.matrix.changes(axis, value, stage))
            .chain(self.sets_of(stage))
            .collect();
        if !self.profile.kinds.is_empty() {
            // The kind may come from an arm, and what an arm says wins over the profile.
            let kind = changes.iter().rev().find_map(|c| c.get("kind"));
            let kind = kind.or_else(|| table.get("kind"));
            let kind = kind.and_then(|k| k.get_ref().as_str()).map(str::to_owned);
            let of_kind = kind.and_then(|k| self.profile.kinds.get(k.as_str()));
            if let Some(of_kind) = of_kind.and_then(|k| k.get_ref().as_table()) {
                tables::merge(table, of_kind.clone());
            }
        }
        let of_stage = self.profile.stages.get(stage);
        if let Some(of_stage) = of_stage.and_then(|s| s.get_ref().as_table()) {
            tables::merge(table, of_stage.clone());
        }
        for change in changes {
            tables::merge(table, change.clone());
        }
    }

    /// The variables that a stage mentions whatever the point, itself or by other variables.
    pub(in crate::pipeline) fn mentioned(
        &self,
        stage: &str,
        table: &DeValue<'t>,
    ) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let add = |table: Option<&DeTable<'t>>, names: &mut BTreeSet<String>| {
            for value in table.into_iter().flat_map(DeTable::values) {
                vars::mentioned(value.get_ref(), names);
            }
        };
        vars::mentioned(table, &mut names);
        add(self.sets_of(stage), &mut names);
        for of_profile in [&self.profile.stages, &self.profile.kinds] {
            add(Some(of_profile), &mut names);
        }
        for axis in &self.matrix.axes {
            for value in &axis.values {
                let changes = value
                    .changes
                    .get(stage)
                    .and_then(|c| c.get_ref().as_table());
                add(changes, &mut names);
            }
        }
        let mut open: Vec<String> = names.iter().cloned().collect();
        while let Some(name) = open.pop() {
            let mut inner = BTreeSet::new();
            let axes = self.matrix.axes.iter().flat_map(|a| &a.values);
            let changed = axes.filter_map(|v| v.changes.get("vars")?.get_ref().as_table());
            for table in std::iter::once(self.vars)
                .chain(changed)
                .chain(self.sets_of("vars"))
            {
                if let Some(value) = table.get(name.as_str()) {
                    vars::mentioned(value.get_ref(), &mut inner);
                }
            }
            open.extend(inner.into_iter().filter(|n| names.insert(n.clone())));
        }
        names
    }
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
struct Node<'t> {
    base: Spanned<String>,
    span: Span,
    /// The different tables.
    variants: Vec<Variant<'t>>,
    /// For each point its table; empty when all points have the first.
    variant_at: Vec<usize>,
    /// The different stages, once settled.
    instances: Vec<Instance>,
    /// For each point its stage; empty when all points have the first.
    instance_at: Vec<usize>,
    /// The axes that can make a difference to it.
    axes: BTreeSet<usize>,
}

struct Variant<'t> {
    value: DeValue<'t>,
    origins: Origins,
    edges: Vec<Edge>,
}

/// An input that reads a stage of the pipeline.
struct Edge {
    port: String,
    name: Option<String>,
    stage: usize,
    output: String,
    choices: Vec<Choice>,
    span: Span,
}

struct Instance {
    variant: usize,
    /// The first point that makes it.
    point: usize,
    label: String,
    /// For each edge the stages that it reads.
    reads: Vec<Vec<usize>>,
}

impl Node<'_> {
    fn variant(&self, point: usize) -> usize {
        self.variant_at.get(point).copied().unwrap_or(0)
    }

    fn instance(&self, point: usize) -> usize {
        self.instance_at.get(point).copied().unwrap_or(0)
    }
}

struct Expansion<'a, 't> {
    matrix: &'a Matrix<'t>,
    nodes: Vec<Node<'t>>,
    made: usize,
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
    fn count(&mut self, mistakes: &mut Vec<Mistake>) -> Option<()> {
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

    /// Finds the different stages that the points make of one, after all that it reads.
    fn settle(&mut self, number: usize, mistakes: &mut Vec<Mistake>) -> Option<()> {
        let node = &self.nodes[number];
        let once = node.variants.len() == 1
            && node.variants[0]
                .edges
                .iter()
                .all(|e| self.nodes[e.stage].instances.len() == 1);
        let mut axes = node.axes.clone();
        for edge in node.variants.iter().flat_map(|v| &v.edges) {
            let reach = self.nodes[edge.stage].axes.iter();
            axes.extend(reach.filter(|&&a| edge.choices[a] == Choice::Same));
        }
        let points = if once { 1 } else { self.matrix.points() };
        let mut pools: Vec<Vec<Pool>> = node
            .variants
            .iter()
            .map(|v| v.edges.iter().map(|e| self.pool(e)).collect())
            .collect();
        let mut seen: BTreeMap<(usize, Vec<usize>), usize> = BTreeMap::new();
        let mut instances: Vec<Instance> = Vec::new();
        let mut instance_at = Vec::with_capacity(points);
        for point in 0..points {
            let variant = node.variant(point);
            let edges = node.variants[variant].edges.iter();
            let lists: Vec<usize> = edges
                .zip(&mut pools[variant])
                .map(|(edge, pool)| pool.list(self, edge, point))
                .collect();
            let next = instances.len();
            let instance = *seen.entry((variant, lists.clone())).or_insert(next);
            if instance == next {
                let reads = lists
                    .iter()
                    .zip(&pools[variant])
                    .map(|(&l, pool)| pool.lists[l].clone());
                instances.push(Instance {
                    variant,
                    point,
                    label: String::new(),
                    reads: reads.collect(),
                });
            }
            instance_at.push(instance);
        }
        for instance in &instances {
            let node = &self.nodes[number];
            let edges = &node.variants[instance.variant].edges;
            for (edge, reads) in edges.iter().zip(&instance.reads) {
                if reads.is_empty() {
                    mistakes.push(Mistake::Selection {
                        stage: node.base.get_ref().clone(),
                        reference: self.nodes[edge.stage].base.get_ref().clone(),
                        message: "`exclude` leaves no point that fits".to_owned(),
                        help: Some("`exclude` the points that read it too".to_owned()),
                        span: edge.span.clone(),
                    });
                }
            }
        }
        for _ in &instances {
            self.count(mistakes)?;
        }
        if instances.len() == 1 {
            instance_at.clear();
        }
        self.label(&mut instances, &instance_at, &axes);
        let node = &mut self.nodes[number];
        node.axes = axes;
        node.instances = instances;
        node.instance_at = instance_at;
        Some(())
    }

    /// What an edge can read; axes that make no difference to the stage it reads do not choose.
    fn pool(&self, edge: &Edge) -> Pool {
        let axes = &self.nodes[edge.stage].axes;
        let same: Vec<usize> = axes
            .iter()
            .copied()
            .filter(|&a| edge.choices[a] == Choice::Same)
            .collect();
        let simple = same.len() == axes.len();
        let mut by_same: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        if !simple {
            for (point, values) in self.matrix.points.iter().enumerate() {
                let fits = axes.iter().all(|&axis| match edge.choices[axis] {
                    Choice::One(one) => values[axis] == one,
                    Choice::Same | Choice::All => true,
                });
                if fits {
                    let key = same.iter().map(|&a| values[a]).collect();
                    by_same.entry(key).or_default().push(point);
                }
            }
        }
        Pool {
            simple,
            same,
            by_same,
            known: BTreeMap::new(),
            numbers: BTreeMap::new(),
            lists: Vec::new(),
        }
    }

    /// Names what tells the stages apart: the values of the axes that not all points of a stage share.
    fn label(&self, instances: &mut [Instance], instance_at: &[usize], relevant: &BTreeSet<usize>) {
        if instances.len() < 2 {
            return;
        }
        let axes = &self.matrix.axes;
        let mut present: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); axes.len()];
        let mut used: Vec<Vec<BTreeSet<usize>>> = vec![present.clone(); instances.len()];
        for (values, &instance) in self.matrix.points.iter().zip(instance_at) {
            for (axis, &value) in values.iter().enumerate() {
                present[axis].insert(value);
                used[instance][axis].insert(value);
            }
        }
        let mut names = BTreeSet::new();
        for (number, instance) in instances.iter_mut().enumerate() {
            let parts = used[number]
                .iter()
                .enumerate()
                .filter_map(|(axis, values)| {
                    let tells = relevant.contains(&axis) && *values != present[axis];
                    tells.then(|| self.part(axis, values))
                });
            let mut label = parts.collect::<Vec<_>>().join(",");
            if !names.insert(label.clone()) {
                label = format!("{label},{}", number + 1);
                names.insert(label.clone());
            }
            instance.label = label;
        }
    }

    /// `seed=1`, or `seed=1+2` for a stage that is the same at several values.
    fn part(&self, axis: usize, values: &BTreeSet<usize>) -> String {
        let axis = &self.matrix.axes[axis];
        let mut labels = values.iter().map(|&v| axis.values[v].label.as_str());
        let shown: Vec<&str> = labels.by_ref().take(3).collect();
        let mut text = shown.join("+");
        let more = labels.count();
        if more > 0 {
            text.push_str(&format!("+{more}-more"));
        }
        if axis.is_arms() {
            text
        } else {
            format!("{}={text}", axis.name)
        }
    }

    /// The name of a stage, and the label that tells it from its siblings.
    fn name(&self, node: usize, instance: usize) -> String {
        let base = self.nodes[node].base.get_ref();
        match &self.nodes[node].instances[instance].label[..] {
            "" => base.clone(),
            label => format!("{base}@{label}"),
        }
    }

    /// What a row is called that an edge gathers.
    fn row(&self, edge: &Edge, instance: usize) -> String {
        let writer = &self.nodes[edge.stage];
        let label = &writer.instances[instance].label;
        let all = |axis: usize| edge.choices[axis] != Choice::Same;
        if label.is_empty() {
            return writer.base.get_ref().clone();
        }
        if (0..edge.choices.len()).all(all) {
            return label.clone();
        }
        // Of the values that every row shares with the reader nothing needs to be said.
        let point = &self.matrix.points[writer.instances[instance].point];
        let parts: Vec<String> = (0..edge.choices.len())
            .filter(|&axis| edge.choices[axis] == Choice::All)
            .map(|axis| self.matrix.axes[axis].label(point[axis]))
            .filter(|part| label.split(',').any(|l| l == part))
            .collect();
        if parts.is_empty() {
            label.clone()
        } else {
            parts.join(",")
        }
    }

    /// The stages, with references to the stages that they read in place of those to the ones as written.
    fn made(mut self, mistakes: &mut Vec<Mistake>) -> Vec<Made<'t>> {
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

/// The lists of stages that an edge reads, by the point of the reader.
struct Pool {
    /// Whether it only ever reads what its own point made.
    simple: bool,
    /// The axes whose values reader and read share.
    same: Vec<usize>,
    /// The points that fit, by the values on those axes.
    by_same: BTreeMap<Vec<usize>, Vec<usize>>,
    /// The list for the values on those axes.
    known: BTreeMap<Vec<usize>, usize>,
    numbers: BTreeMap<Vec<usize>, usize>,
    lists: Vec<Vec<usize>>,
}

impl Pool {
    fn list(&mut self, all: &Expansion<'_, '_>, edge: &Edge, point: usize) -> usize {
        let writer = &all.nodes[edge.stage];
        if self.simple {
            return self.number(vec![writer.instance(point)]);
        }
        let values = &all.matrix.points[point];
        let key: Vec<usize> = self.same.iter().map(|&a| values[a]).collect();
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        let mut list: Vec<usize> = Vec::new();
        let mut seen = BTreeSet::new();
        for &q in self.by_same.get(&key).into_iter().flatten() {
            let instance = writer.instance(q);
            if seen.insert(instance) {
                list.push(instance);
            }
        }
        let number = self.number(list);
        self.known.insert(key, number);
        number
    }

    fn number(&mut self, list: Vec<usize>) -> usize {
        let next = self.lists.len();
        let number = *self.numbers.entry(list.clone()).or_insert(next);
        if number == next {
            self.lists.push(list);
        }
        number
    }
}
