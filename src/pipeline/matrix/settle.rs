//! Which stages the points make of one as written: those that differ in their tables or in what they read.

use std::collections::{BTreeMap, BTreeSet};

use super::expand::{Edge, Expansion, Instance};
use super::select::Choice;
use crate::pipeline::Mistake;

impl Expansion<'_, '_> {
    /// Finds the different stages that the points make of one, after all that it reads.
    pub(super) fn settle(&mut self, number: usize, mistakes: &mut Vec<Mistake>) -> Option<()> {
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
