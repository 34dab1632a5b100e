//! What is put into the stages as written: profile, values of a point, `--set`, variables.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::Matrix;
use crate::pipeline::profiles::Profile;
use crate::pipeline::vars::Scope;
use crate::pipeline::{tables, vars};

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
    pub(super) fn put_together(&self, stage: &str, table: &mut DeTable<'t>, point: Option<usize>) {
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
