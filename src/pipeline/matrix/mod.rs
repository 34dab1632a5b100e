//! `[matrix]`: one pipeline, many points.
//!
//! | part                  | says                                                                       |
//! |-----------------------|----------------------------------------------------------------------------|
//! | `axes.STAGE.PARAM`    | a list of values of a parameter; `axes.vars.NAME` of a variable             |
//! | `arms.NAME`           | a named variant: whatever it changes, as `STAGE.PARAM = value`              |
//! | `seeds`               | a list of values of `${seed}`                                              |
//! | `zip`                 | lists of axes that advance together instead of being multiplied            |
//! | `exclude`             | points that are left out                                                   |
//!
//! A point takes one value of every axis. A stage is made once for each *different* thing that the points
//! make of it (see the private module `expand`), so a value enters only the stages that mention it and what
//! depends on them.

mod axes;
pub(super) mod expand;
pub(super) mod layers;
mod made;
mod names;
mod points;
mod select;
mod settle;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Mistake, Span, settings};

const TABLES: &[&str] = &["axes", "arms", "seeds", "zip", "exclude"];
/// Points at most: what has more was not meant.
const MOST_POINTS: usize = 10_000;

/// The axes of a pipeline and the points that they span.
#[derive(Debug, Default)]
pub(super) struct Matrix<'t> {
    axes: Vec<Axis<'t>>,
    /// For each point the number of its value on each axis.
    points: Vec<Vec<usize>>,
}

/// Something that differs between points.
#[derive(Debug)]
struct Axis<'t> {
    /// What points call it: `arm`, `seed`, `tail`.
    name: String,
    /// What it changes: `vars.seed`, `ckd.tail`; of arms the name again.
    path: Vec<String>,
    /// Where it is written.
    span: Span,
    values: Vec<Setting<'t>>,
}

/// A value of an axis.
#[derive(Debug)]
struct Setting<'t> {
    /// What points call it.
    label: String,
    /// The value itself, to be found by `exclude` and to be told from others.
    text: String,
    /// What it changes: `vars` and tables of stages.
    changes: DeTable<'t>,
}

impl Axis<'_> {
    fn full_name(&self) -> String {
        super::tables::dotted(self.path.iter().map(String::as_str))
    }

    /// Whether the values are arms, which name themselves.
    fn is_arms(&self) -> bool {
        self.path == ["arm"]
    }

    /// `seed=1`, or the name of an arm.
    fn label(&self, value: usize) -> String {
        if self.is_arms() {
            self.values[value].label.clone()
        } else {
            format!("{}={}", self.name, self.values[value].label)
        }
    }
}

impl<'t> Matrix<'t> {
    /// Whether there is anything to multiply.
    pub(super) fn is_empty(&self) -> bool {
        self.axes.is_empty()
    }

    /// How many points there are.
    pub(super) fn points(&self) -> usize {
        self.points.len()
    }

    /// What each value of each axis changes, tables by stage.
    pub(super) fn layers(&mut self) -> impl Iterator<Item = &mut DeTable<'t>> {
        let values = self.axes.iter_mut().flat_map(|axis| &mut axis.values);
        values.map(|value| &mut value.changes)
    }

    /// The variables that axes give values to.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, Span)> {
        self.axes
            .iter()
            .filter(|a| a.path.len() == 2 && a.path[0] == "vars")
            .map(|a| (a.path[1].as_str(), a.span.clone()))
    }

    /// What a value of an axis changes in `stage`, or in the variables.
    fn changes(&self, axis: usize, value: usize, table: &str) -> Option<&DeTable<'t>> {
        self.axes[axis].values[value]
            .changes
            .get(table)?
            .get_ref()
            .as_table()
    }
}

/// Reads `[matrix]`; `sets` are the tables of `--set`, which pin the axes that they name.
pub(super) fn read<'t>(
    mut table: DeTable<'t>,
    sets: &DeTable<'t>,
    stages: &DeTable<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Matrix<'t> {
    let before = mistakes.len();
    let (zip, exclude) = (table.remove("zip"), table.remove("exclude"));
    let mut axes = Vec::new();
    axes.extend(axes::arms(table.remove("arms"), stages, mistakes));
    axes.extend(axes::axes(table.remove("axes"), stages, mistakes));
    axes.extend(axes::seeds(table.remove("seeds"), mistakes));
    for (key, _) in &table {
        mistakes.push(Mistake::UnknownKey {
            what: "part of the matrix",
            name: key.get_ref().to_string(),
            known: TABLES,
            span: key.span(),
        });
    }
    axes::check(&mut axes, mistakes);
    let pinned = axes::pin(&mut axes, sets);
    let points = points::points(&axes, &pinned, zip, exclude, mistakes);
    if mistakes.len() > before {
        // What a wrong matrix would make of the stages is not worth telling.
        return Matrix::default();
    }
    Matrix { axes, points }
}

fn wrong(message: impl Into<String>, help: Option<String>, span: Span) -> Mistake {
    Mistake::Matrix {
        message: message.into(),
        help,
        span,
    }
}

fn not(place: &str, name: &str, expected: &str, value: &Spanned<DeValue<'_>>) -> Mistake {
    Mistake::BadSetting {
        place: place.to_owned(),
        name: format!("`{name}`"),
        expected: expected.to_owned(),
        found: settings::article(value.get_ref().type_str()),
        span: value.span(),
    }
}
