//! Names of the stages that points make. They are made afterwards and decide nothing.

use std::collections::BTreeSet;

use super::expand::{Edge, Expansion, Instance};
use super::select::Choice;

impl Expansion<'_, '_> {
    /// Names what tells the stages apart: the values of the axes that not all points of a stage share.
    pub(super) fn label(
        &self,
        instances: &mut [Instance],
        instance_at: &[usize],
        relevant: &BTreeSet<usize>,
    ) {
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
    pub(super) fn name(&self, node: usize, instance: usize) -> String {
        let base = self.nodes[node].base.get_ref();
        match &self.nodes[node].instances[instance].label[..] {
            "" => base.clone(),
            label => format!("{base}@{label}"),
        }
    }

    /// What a row is called that an edge gathers.
    pub(super) fn row(&self, edge: &Edge, instance: usize) -> String {
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
}
