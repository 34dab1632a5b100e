//! The points that the axes of a matrix span: their product, those zipped together, those left out.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::DeValue;

use super::axes::find;
use super::{Axis, MOST_POINTS, not, wrong};
use crate::pipeline::{Mistake, mistake, tables};

/// The points, the last axis changing fastest.
pub(super) fn points(
    axes: &[Axis<'_>],
    pinned: &[bool],
    zip: Option<Spanned<DeValue<'_>>>,
    exclude: Option<Spanned<DeValue<'_>>>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Vec<usize>> {
    if axes.is_empty() {
        for value in zip.iter().chain(&exclude) {
            mistakes.push(wrong(
                "the matrix has no axes",
                Some("give it `axes`, `arms` or `seeds`".to_owned()),
                value.span(),
            ));
        }
        return Vec::new();
    }
    let before = mistakes.len();
    let groups = groups(axes, pinned, zip, mistakes);
    if mistakes.len() > before {
        return Vec::new();
    }
    let sizes: Vec<usize> = groups.iter().map(|g| axes[g[0]].values.len()).collect();
    let product = sizes.iter().try_fold(1_usize, |all, &n| all.checked_mul(n));
    let Some(count) = product.filter(|&n| n <= MOST_POINTS) else {
        let factors: Vec<String> = groups
            .iter()
            .map(|g| format!("{} of `{}`", axes[g[0]].values.len(), axes[g[0]].name))
            .collect();
        let count = product.map_or("more than can be counted".to_owned(), |n| n.to_string());
        mistakes.push(wrong(
            format!(
                "the matrix has {count} points ({}); {MOST_POINTS} are allowed",
                factors.join(" × ")
            ),
            Some("take values away, `zip` axes that belong together, or use `arms`".to_owned()),
            axes[0].span.clone(),
        ));
        return Vec::new();
    };
    let mut points = Vec::with_capacity(count);
    for number in 0..count {
        let mut point = vec![0; axes.len()];
        let mut rest = number;
        for (group, size) in groups.iter().zip(&sizes).rev() {
            for &axis in group {
                point[axis] = rest % size;
            }
            rest /= size;
        }
        points.push(point);
    }
    leave_out(axes, pinned, exclude, &mut points, mistakes);
    points
}

/// Axes that advance together, in the order of the first of each.
fn groups(
    axes: &[Axis<'_>],
    pinned: &[bool],
    zip: Option<Spanned<DeValue<'_>>>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut taken = BTreeSet::new();
    let expected = "a list of lists of axes, as in `zip = [[\"ckd.lr\", \"ckd.updates\"]]`";
    let mut lists = Vec::new();
    if let Some(zip) = &zip {
        match zip.get_ref().as_array() {
            Some(list) => lists.extend(list.iter()),
            None => mistakes.push(not("the matrix", "zip", expected, zip)),
        }
    }
    for list in lists {
        let Some(names) = list.get_ref().as_array() else {
            mistakes.push(not("the matrix", "zip", expected, list));
            continue;
        };
        let mut group: Vec<usize> = Vec::new();
        for name in names {
            let Some(text) = name.get_ref().as_str() else {
                mistakes.push(not("the matrix", "zip", expected, name));
                continue;
            };
            let number = match find(axes, text) {
                Ok(number) => number,
                Err(help) => {
                    mistakes.push(wrong(
                        format!("there is no axis `{text}` to zip"),
                        help,
                        name.span(),
                    ));
                    continue;
                }
            };
            if !taken.insert(number) {
                let message = format!("axis `{text}` is zipped twice");
                mistakes.push(wrong(message, None, name.span()));
                continue;
            }
            // An axis that a `--set` pinned has one value, which goes with all of the others.
            if pinned[number] {
                groups.push(vec![number]);
                continue;
            }
            if let Some(&first) = group.first()
                && axes[first].values.len() != axes[number].values.len()
            {
                mistakes.push(wrong(
                    format!(
                        "`{}` has {} values and `{text}` has {}, so they cannot be zipped",
                        axes[first].name,
                        axes[first].values.len(),
                        axes[number].values.len()
                    ),
                    Some("zipped axes advance together and need equally many values".to_owned()),
                    name.span(),
                ));
            }
            group.push(number);
        }
        if !group.is_empty() {
            groups.push(group);
        }
    }
    let single = (0..axes.len()).filter(|n| !taken.contains(n));
    groups.extend(single.map(|n| vec![n]));
    groups.sort_by_key(|g| g.first().copied());
    groups
}

/// Takes out the points that `exclude` describes.
fn leave_out(
    axes: &[Axis<'_>],
    pinned: &[bool],
    exclude: Option<Spanned<DeValue<'_>>>,
    points: &mut Vec<Vec<usize>>,
    mistakes: &mut Vec<Mistake>,
) {
    let Some(exclude) = exclude else { return };
    let expected = "a list of tables, as in `exclude = [{ arm = \"sft\", seed = 3 }]`";
    let Some(list) = exclude.get_ref().as_array() else {
        mistakes.push(not("the matrix", "exclude", expected, &exclude));
        return;
    };
    let before = mistakes.len();
    let mut kept = vec![true; points.len()];
    for item in list {
        let Some(table) = item.get_ref().as_table() else {
            mistakes.push(not("the matrix", "exclude", expected, item));
            continue;
        };
        if table.is_empty() {
            let help = "name an axis and its value, or remove the entry".to_owned();
            mistakes.push(wrong(
                "an entry of `exclude` says nothing",
                Some(help),
                item.span(),
            ));
            continue;
        }
        let mut conditions: Vec<(usize, BTreeSet<usize>)> = Vec::new();
        let mut unpinned = true;
        tables::leaves(table, &mut Vec::new(), &mut |path, value| {
            let name = tables::dotted(path.iter().map(|s| s.get_ref().as_str()));
            match find(axes, &name) {
                Ok(axis) => {
                    unpinned &= !pinned[axis];
                    conditions.extend(condition(axes, axis, value, pinned[axis], mistakes));
                }
                Err(help) => mistakes.push(wrong(
                    format!("`exclude` names the axis `{name}`, which does not exist"),
                    help,
                    path.last().map_or_else(|| item.span(), Spanned::span),
                )),
            }
        });
        let mut matched = false;
        for (point, kept) in points.iter().zip(&mut kept) {
            if conditions
                .iter()
                .all(|(axis, values)| values.contains(&point[*axis]))
            {
                matched = true;
                *kept = false;
            }
        }
        if !matched && unpinned && mistakes.len() == before {
            let message = "`exclude` leaves out a point that is not there";
            mistakes.push(wrong(message, None, item.span()));
        }
    }
    if mistakes.len() > before {
        return;
    }
    if kept.iter().all(|k| !k) {
        let message = "`exclude` leaves out every point";
        mistakes.push(wrong(message, None, exclude.span()));
    }
    let mut kept = kept.into_iter();
    points.retain(|_| kept.next().unwrap_or(true));
}

/// The values of an axis that an entry of `exclude` names: one, or any of a list.
fn condition(
    axes: &[Axis<'_>],
    axis: usize,
    value: &Spanned<DeValue<'_>>,
    pinned: bool,
    mistakes: &mut Vec<Mistake>,
) -> Option<(usize, BTreeSet<usize>)> {
    let is = |v: &Spanned<DeValue<'_>>| {
        let mut text = String::new();
        tables::text(v.get_ref(), &mut text);
        let label = v.get_ref().as_str().filter(|_| axes[axis].is_arms());
        axes[axis]
            .values
            .iter()
            .position(|s| label.map_or(s.text == text, |l| s.text == l))
    };
    let mut values = BTreeSet::new();
    // A value of the axis may itself be a list.
    let items: Vec<&Spanned<DeValue<'_>>> = match (is(value), value.get_ref().as_array()) {
        (None, Some(list)) => list.iter().collect(),
        _ => vec![value],
    };
    for item in items {
        match is(item) {
            Some(number) => {
                values.insert(number);
            }
            None if pinned => {}
            None => {
                let labels = axes[axis].values.iter().map(|v| v.label.as_str());
                mistakes.push(wrong(
                    format!(
                        "`exclude` names a value that `{}` does not have",
                        axes[axis].name
                    ),
                    Some(format!("its values: {}", mistake::list(labels))),
                    item.span(),
                ));
                return None;
            }
        }
    }
    Some((axis, values))
}
