//! `--set stage.param=value`: values from the command line, put into the document before it is checked.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{Mistake, Span};
use crate::suggest::nearest;

/// Reads one `--set` and puts it into the table `stages`; `base` is the number of the text's first byte.
pub(super) fn apply<'t>(
    stages: &mut DeTable<'t>,
    text: &'t str,
    base: usize,
    mistakes: &mut Vec<Mistake>,
) {
    let whole = base..base + text.len();
    let entries = match parse(text) {
        Ok(entries) => entries,
        Err((message, span)) => {
            let span = span.map_or(whole, |s| s.start + base..s.end + base);
            mistakes.push(Mistake::SetSyntax { message, span });
            return;
        }
    };
    for (stage, value) in shifted_table(entries, base) {
        let DeValue::Table(new) = value.into_inner() else {
            mistakes.push(Mistake::SetSyntax {
                message: String::new(),
                span: whole.clone(),
            });
            continue;
        };
        if !stages.contains_key(stage.get_ref().as_ref()) {
            let names = stages.keys().map(|k| k.get_ref().as_ref());
            mistakes.push(Mistake::SetUnknownStage {
                near: nearest(stage.get_ref(), names).map(str::to_owned),
                stage: stage.get_ref().to_string(),
                span: stage.span(),
            });
            continue;
        }
        if let Some(DeValue::Table(old)) = stages
            .get_mut(stage.get_ref().as_ref())
            .map(Spanned::get_mut)
        {
            merge(old, new);
        }
    }
}

/// `a.b=value` as TOML; a value that is not TOML but a plain word is taken for a string.
fn parse(text: &str) -> Result<DeTable<'_>, (String, Option<Span>)> {
    let equals = text.find('=').filter(|_| !text.contains('\n'));
    let Some(equals) = equals else {
        return Err((String::new(), None));
    };
    let error = match DeTable::parse(text) {
        Ok(table) => return Ok(table.into_inner()),
        Err(error) => error,
    };
    let value = text[equals + 1..].trim();
    let plain = |c: char| c.is_alphanumeric() || "-_./+:".contains(c);
    if value.is_empty() || !value.chars().all(plain) {
        return Err((error.message().to_owned(), error.span()));
    }
    let start = text.len() - text[equals + 1..].trim_start().len();
    let word = Spanned::new(
        start..start + value.len(),
        DeValue::String(value.to_owned().into()),
    );
    let key = format!("{}=0", &text[..equals]);
    let path = DeTable::parse(&key).map_err(|e| (e.message().to_owned(), e.span()))?;
    Ok(with_leaf(path.get_ref(), &word))
}

/// The path that `table` is, ending in `leaf` instead of its own value.
fn with_leaf<'t>(table: &DeTable<'_>, leaf: &Spanned<DeValue<'t>>) -> DeTable<'t> {
    table
        .iter()
        .map(|(key, value)| {
            let name = Spanned::new(key.span(), key.get_ref().to_string().into());
            let value = match value.get_ref() {
                DeValue::Table(inner) => {
                    Spanned::new(value.span(), DeValue::Table(with_leaf(inner, leaf)))
                }
                _ => leaf.clone(),
            };
            (name, value)
        })
        .collect()
}

/// Puts `new` into `old`: tables join, everything else is replaced.
fn merge<'t>(old: &mut DeTable<'t>, new: DeTable<'t>) {
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

fn shifted_table(table: DeTable<'_>, base: usize) -> DeTable<'_> {
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
        DeValue::Array(list) => {
            let mut moved = DeArray::new();
            for item in list {
                moved.push(shifted(item, base));
            }
            DeValue::Array(moved)
        }
        other => other,
    };
    Spanned::new(span, value)
}

fn shift(span: &Span, base: usize) -> Span {
    span.start + base..span.end + base
}
