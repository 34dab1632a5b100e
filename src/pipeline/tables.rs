//! Tables of TOML with places: joined, moved, walked, written out.
//!
//! One rule joins tables everywhere (`extends`, profiles, arms, `--set`): tables join key by key, every
//! other value is replaced. A value keeps the place where it was written through all of it.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::Span;

/// Puts `new` into `old`: tables join, everything else is replaced.
pub(super) fn merge<'t>(old: &mut DeTable<'t>, new: DeTable<'t>) {
    for (key, value) in new {
        let both_tables = value.get_ref().is_table()
            && old
                .get(key.get_ref().as_ref())
                .is_some_and(|v| v.get_ref().is_table());
        if !both_tables {
            // Removed first, for the key must carry the place of the new text.
            old.remove(key.get_ref().as_ref());
            old.insert(key, value);
        } else if let (Some(DeValue::Table(old)), DeValue::Table(new)) = (
            old.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut),
            value.into_inner(),
        ) {
            merge(old, new);
        }
    }
}

/// The same table with every place moved by `base`.
pub(super) fn shifted_table(table: DeTable<'_>, base: usize) -> DeTable<'_> {
    table
        .into_iter()
        .map(|(key, value)| {
            let span = shift(&key.span(), base);
            (Spanned::new(span, key.into_inner()), shifted(value, base))
        })
        .collect()
}

fn shifted(value: Spanned<DeValue<'_>>, base: usize) -> Spanned<DeValue<'_>> {
    let span = shift(&value.span(), base);
    let value = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(shifted_table(table, base)),
        DeValue::Array(list) => DeValue::Array(
            list.into_iter()
                .map(|item| shifted(item, base))
                .collect::<DeArray<'_>>(),
        ),
        other => other,
    };
    Spanned::new(span, value)
}

fn shift(span: &Span, base: usize) -> Span {
    span.start + base..span.end + base
}

/// The value at a dotted path.
pub(super) fn at<'v, 't>(
    table: &'v DeTable<'t>,
    path: &[String],
) -> Option<&'v Spanned<DeValue<'t>>> {
    let (last, tables) = path.split_last()?;
    let mut table = table;
    for segment in tables {
        table = table.get(segment.as_str())?.get_ref().as_table()?;
    }
    table.get(last.as_str())
}

/// A table that holds one value at a path; `keys` are the path's segments with their places.
pub(super) fn nested<'t>(keys: &[Spanned<String>], value: Spanned<DeValue<'t>>) -> DeTable<'t> {
    let mut keys = keys.iter().rev();
    let mut table = DeTable::new();
    let key = |k: &Spanned<String>| Spanned::new(k.span(), k.get_ref().clone().into());
    if let Some(last) = keys.next() {
        table.insert(key(last), value);
    }
    for outer in keys {
        let span = outer.span();
        let mut around = DeTable::new();
        around.insert(key(outer), Spanned::new(span, DeValue::Table(table)));
        table = around;
    }
    table
}

/// Takes a path and the value at its end.
pub(super) type Each<'a, 'v, 't> = dyn FnMut(&[Spanned<String>], &'v Spanned<DeValue<'t>>) + 'a;

/// Every value of a table that is no table itself, with the segments of its path.
pub(super) fn leaves<'v, 't>(
    table: &'v DeTable<'t>,
    path: &mut Vec<Spanned<String>>,
    each: &mut Each<'_, 'v, 't>,
) {
    for (key, value) in table {
        path.push(Spanned::new(key.span(), key.get_ref().to_string()));
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => leaves(inner, path, each),
            _ => each(path, value),
        }
        path.pop();
    }
}

/// Segments as in TOML, with dots between.
pub(super) fn dotted<'a>(segments: impl IntoIterator<Item = &'a str>) -> String {
    let mut path = String::new();
    for segment in segments {
        super::push_segment(&mut path, segment);
    }
    path
}

/// A value written out without places: equal for two values exactly when they are equal.
pub(super) fn text(value: &DeValue<'_>, into: &mut String) {
    match value {
        DeValue::String(s) => into.push_str(&serde_json::Value::from(&**s).to_string()),
        DeValue::Integer(n) => into.push_str(&n.to_string()),
        // As written: `0.10` and `0.1` look different and are told apart, which costs nothing but a name.
        DeValue::Float(n) => {
            into.push('f');
            into.push_str(n.as_str());
        }
        DeValue::Boolean(b) => into.push_str(if *b { "true" } else { "false" }),
        DeValue::Datetime(d) => into.push_str(&format!("@{d}")),
        DeValue::Array(list) => {
            into.push('[');
            for item in list {
                text(item.get_ref(), into);
                into.push(',');
            }
            into.push(']');
        }
        DeValue::Table(table) => table_text(table, into),
    }
}

/// As [`text`], keys in order of their names.
pub(super) fn table_text(table: &DeTable<'_>, into: &mut String) {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_unstable_by(|a, b| a.0.get_ref().cmp(b.0.get_ref()));
    into.push('{');
    for (key, value) in entries {
        into.push_str(&serde_json::Value::from(&**key.get_ref()).to_string());
        into.push(':');
        text(value.get_ref(), into);
        into.push(',');
    }
    into.push('}');
}
