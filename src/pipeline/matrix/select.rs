//! References with a selection: `eval@*.evaluation`, `student@ckd,seed=1.model`.
//!
//! Without a selection a stage reads, at each point, what that same point made of the other stage. A
//! selection says which points instead: an arm by its name, `AXIS=VALUE`, `AXIS=*` for all values of an
//! axis, `*` for all values of all axes that it does not name. Those that it does not name stay as they are.

use super::Axis;
use super::axes::find;
use crate::pipeline::mistake;
use crate::suggest::nearest;

/// What a reference takes of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// The reader's own value.
    Same,
    /// This value.
    One(usize),
    /// Every value.
    All,
}

/// A reference, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reference<'s> {
    pub(super) stage: &'s str,
    /// What is between `@` and the last dot.
    pub(super) selection: Option<&'s str>,
    pub(super) output: &'s str,
}

/// Takes a reference apart; none for what is none.
pub(super) fn parse(text: &str) -> Option<Reference<'_>> {
    let Some((stage, rest)) = text.split_once('@') else {
        let (stage, output) = text.split_once('.')?;
        return Some(Reference {
            stage,
            selection: None,
            output,
        });
    };
    // Values may hold dots, outputs cannot.
    let (selection, output) = rest.rsplit_once('.')?;
    Some(Reference {
        stage,
        selection: Some(selection),
        output,
    })
}

/// What a selection takes of each axis, or what is wrong with it and what to do.
pub(super) fn choices(
    axes: &[Axis<'_>],
    selection: &str,
) -> Result<Vec<Choice>, (String, Option<String>)> {
    let mut choices = vec![Choice::Same; axes.len()];
    let mut rest = Choice::Same;
    let mut named = vec![false; axes.len()];
    for part in selection.split(',').map(str::trim) {
        if part == "*" {
            rest = Choice::All;
            continue;
        }
        let (axis, choice) = match part.split_once('=') {
            Some((name, value)) => {
                let axis = find(axes, name)
                    .map_err(|help| (format!("there is no axis `{name}`"), help))?;
                (axis, value_of(&axes[axis], value)?)
            }
            None => {
                let Some(axis) = axes.iter().position(Axis::is_arms) else {
                    let help = "write `*` for all points, or `AXIS=VALUE`".to_owned();
                    return Err((format!("the matrix has no arm `{part}`"), Some(help)));
                };
                (axis, value_of(&axes[axis], part)?)
            }
        };
        if std::mem::replace(&mut named[axis], true) {
            return Err((format!("`{}` is named twice", axes[axis].name), None));
        }
        choices[axis] = choice;
    }
    for (choice, named) in choices.iter_mut().zip(named) {
        if !named {
            *choice = rest;
        }
    }
    Ok(choices)
}

fn value_of(axis: &Axis<'_>, label: &str) -> Result<Choice, (String, Option<String>)> {
    if label == "*" {
        return Ok(Choice::All);
    }
    if let Some(value) = axis.values.iter().position(|v| v.label == label) {
        return Ok(Choice::One(value));
    }
    let labels = || axis.values.iter().map(|v| v.label.as_str());
    let message = if axis.is_arms() {
        format!("the matrix has no arm `{label}`")
    } else {
        format!("`{}` has no value `{label}`", axis.name)
    };
    Err((
        message,
        Some(match nearest(label, labels()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known: {}", mistake::list(labels())),
        }),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_fall_apart() {
        let parts = |text| parse(text).map(|r| (r.stage, r.selection, r.output));
        assert_eq!(parts("a.rows"), Some(("a", None, "rows")));
        assert_eq!(parts("a@*.rows"), Some(("a", Some("*"), "rows")));
        assert_eq!(
            parts("a@lr=0.5,x.rows"),
            Some(("a", Some("lr=0.5,x"), "rows"))
        );
        assert_eq!(parts("a"), None);
        assert_eq!(parts("a@x"), None);
    }
}
