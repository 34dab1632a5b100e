//! The axes of a matrix, as written.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{Axis, Setting, not, wrong};
use crate::pipeline::{Mistake, mistake, tables};
use crate::suggest::nearest;

/// `[matrix.arms]`: one axis, whose values are tables of changes.
pub(super) fn arms<'t>(
    value: Option<Spanned<DeValue<'t>>>,
    stages: &DeTable<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Axis<'t>> {
    let value = value?;
    let span = value.span();
    let table = match value.into_inner() {
        DeValue::Table(table) => table,
        other => {
            let value = Spanned::new(span, other);
            mistakes.push(not("the matrix", "arms", "a table of arms", &value));
            return None;
        }
    };
    if table.is_empty() {
        let help = "begin one with `[matrix.arms.NAME]`, or remove it".to_owned();
        mistakes.push(wrong("the matrix has no arms", Some(help), span));
        return None;
    }
    let mut axis = Axis {
        name: "arm".to_owned(),
        path: vec!["arm".to_owned()],
        span,
        values: Vec::new(),
    };
    for (name, value) in table {
        let label = name.get_ref().to_string();
        if axis.values.is_empty() {
            axis.span = name.span();
        }
        if !is_label(&label) {
            mistakes.push(wrong(
                format!("`{label}` cannot be the name of an arm"),
                Some("use 1 to 32 letters, digits, `-`, `_`, `.` and `+`".to_owned()),
                name.span(),
            ));
        }
        let value_span = value.span();
        let changes = match value.into_inner() {
            DeValue::Table(changes) => changes,
            other => {
                let value = Spanned::new(value_span, other);
                let expected = "a table, as in `STAGE.PARAM = value`";
                mistakes.push(not(
                    "the matrix",
                    &format!("arms.{label}"),
                    expected,
                    &value,
                ));
                continue;
            }
        };
        for (stage, value) in &changes {
            if check_stage(stage, stages, mistakes) && !value.get_ref().is_table() {
                let expected = "a table, as in `STAGE.PARAM = value`";
                let name = format!("arms.{label}.{}", stage.get_ref());
                mistakes.push(not("the matrix", &name, expected, value));
            }
        }
        axis.values.push(Setting {
            text: label.clone(),
            label,
            changes,
        });
    }
    Some(axis)
}

/// `[matrix.axes]`: each list in it is an axis.
pub(super) fn axes<'t>(
    value: Option<Spanned<DeValue<'t>>>,
    stages: &DeTable<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Axis<'t>> {
    let Some(value) = value else {
        return Vec::new();
    };
    let Some(table) = value.get_ref().as_table() else {
        mistakes.push(not(
            "the matrix",
            "axes",
            "a table, as in `axes.STAGE.PARAM = [1, 2]`",
            &value,
        ));
        return Vec::new();
    };
    let mut axes = Vec::new();
    for (first, inner) in table {
        if !check_stage(first, stages, mistakes) {
            continue;
        }
        let root = Spanned::new(first.span(), first.get_ref().to_string());
        let Some(inner) = inner.get_ref().as_table() else {
            mistakes.push(not(
                "the matrix",
                &format!("axes.{}", root.get_ref()),
                "a table, as in `axes.STAGE.PARAM = [1, 2]`",
                inner,
            ));
            continue;
        };
        tables::leaves(inner, &mut vec![root], &mut |path, value| {
            axes.extend(axis(path, value, mistakes));
        });
    }
    axes
}

/// `seeds`: an axis over the variable `seed`.
pub(super) fn seeds<'t>(
    value: Option<Spanned<DeValue<'t>>>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Axis<'t>> {
    let value = value?;
    let key = |name: &str| Spanned::new(value.span(), name.to_owned());
    axis(&[key("vars"), key("seed")], &value, mistakes)
}

fn axis<'t>(
    path: &[Spanned<String>],
    value: &Spanned<DeValue<'t>>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Axis<'t>> {
    let segments: Vec<String> = path.iter().map(|s| s.get_ref().clone()).collect();
    let full = tables::dotted(segments.iter().map(String::as_str));
    let Some(list) = value.get_ref().as_array() else {
        let expected = "a list of values";
        mistakes.push(not("the matrix", &full, expected, value));
        return None;
    };
    if segments[0] == "vars" && segments.len() != 2 {
        let message = format!("`{full}`: a variable has no parts");
        mistakes.push(wrong(message, None, value.span()));
        return None;
    }
    if list.is_empty() {
        let help = Some("list at least one value, or remove the axis".to_owned());
        mistakes.push(wrong(
            format!("axis `{full}` has no values"),
            help,
            value.span(),
        ));
        return None;
    }
    Some(Axis {
        name: segments.last().cloned().unwrap_or_default(),
        span: path.last().map_or_else(|| value.span(), Spanned::span),
        values: settings(path, &full, list, mistakes),
        path: segments,
    })
}

fn settings<'t>(
    path: &[Spanned<String>],
    full: &str,
    list: &DeArray<'t>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Setting<'t>> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut values: Vec<Setting<'t>> = Vec::with_capacity(list.len());
    for (n, item) in list.iter().enumerate() {
        let mut text = String::new();
        tables::text(item.get_ref(), &mut text);
        if let Some(first) = seen.insert(text.clone(), n) {
            let message = format!("axis `{full}` has value {} twice", first + 1);
            let help = Some("remove one of them".to_owned());
            mistakes.push(wrong(message, help, item.span()));
        }
        let label = label(item.get_ref()).unwrap_or_else(|| format!("#{}", n + 1));
        values.push(Setting {
            label,
            text,
            changes: tables::nested(path, item.clone()),
        });
    }
    // `1` and `"1"` look the same.
    for n in 0..values.len() {
        if values.iter().filter(|v| v.label == values[n].label).count() > 1 {
            values[n].label = format!("#{}", n + 1);
        }
    }
    values
}

/// A value's text where it can stand in the name of a stage.
fn label(value: &DeValue<'_>) -> Option<String> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(n) => n.to_string(),
        DeValue::Float(n) => n.as_str().to_owned(),
        DeValue::Boolean(b) => b.to_string(),
        _ => return None,
    };
    is_label(&text).then_some(text)
}

fn is_label(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
}

/// Whether a name is that of a stage or `vars`.
fn check_stage(
    name: &Spanned<impl AsRef<str>>,
    stages: &DeTable<'_>,
    mistakes: &mut Vec<Mistake>,
) -> bool {
    let text = name.get_ref().as_ref();
    if text == "vars" || stages.contains_key(text) {
        return true;
    }
    let near = nearest(text, stages.keys().map(|k| k.get_ref().as_ref()));
    let help = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("begin it with `[stage.{text}]` and what all its arms have in common"),
    };
    let message = format!("the matrix names the stage `{text}`, which does not exist");
    mistakes.push(wrong(message, Some(help), name.span()));
    false
}

/// Gives axes of one short name their long ones, and reports what two axes change.
pub(super) fn check(axes: &mut [Axis<'_>], mistakes: &mut Vec<Mistake>) {
    let names: Vec<String> = axes.iter().map(|a| a.name.clone()).collect();
    for (n, axis) in axes.iter_mut().enumerate() {
        let twice = names
            .iter()
            .enumerate()
            .any(|(m, name)| m != n && *name == axis.name);
        if twice && !axis.is_arms() {
            axis.name = axis.full_name();
        }
    }
    let arms = axes.iter().find(|a| a.is_arms());
    for (n, axis) in axes.iter().enumerate().filter(|(_, a)| !a.is_arms()) {
        if axes[..n].iter().any(|a| a.path == axis.path) {
            mistakes.push(wrong(
                format!("`{}` is an axis twice", axis.full_name()),
                Some("`seeds` is the axis `vars.seed`".to_owned()),
                axis.span.clone(),
            ));
        }
        let also = arms.iter().flat_map(|a| &a.values);
        for arm in also.filter(|v| tables::at(&v.changes, &axis.path).is_some()) {
            mistakes.push(wrong(
                format!(
                    "axis `{}` is also changed by the arm `{}`",
                    axis.full_name(),
                    arm.label
                ),
                Some("one of them must go; an arm may stand for both".to_owned()),
                axis.span.clone(),
            ));
        }
    }
}

/// Leaves of each axis that a `--set` names only the value that it sets; returns which ones those are.
pub(super) fn pin<'t>(axes: &mut [Axis<'t>], sets: &DeTable<'t>) -> Vec<bool> {
    let mut pinned = Vec::with_capacity(axes.len());
    for axis in axes {
        let value = tables::at(sets, &axis.path).filter(|_| !axis.is_arms());
        pinned.push(value.is_some());
        let Some(value) = value else { continue };
        let keys: Vec<Spanned<String>> = axis
            .path
            .iter()
            .map(|s| Spanned::new(value.span(), s.clone()))
            .collect();
        let list: DeArray<'t> = std::iter::once(value.clone()).collect();
        axis.values = settings(&keys, &axis.name, &list, &mut Vec::new());
    }
    pinned
}

/// The axis that a name stands for.
pub(super) fn find<'a, 't>(axes: &'a [Axis<'t>], name: &str) -> Result<usize, Option<String>> {
    let position = axes
        .iter()
        .position(|a| a.name == name || a.full_name() == name);
    position.ok_or_else(|| {
        let names: Vec<&'a str> = axes.iter().map(|a| a.name.as_str()).collect();
        Some(match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => return None,
            None => format!("the axes are {}", mistake::list(names)),
        })
    })
}
