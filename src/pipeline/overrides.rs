//! `--set stage.param=value` and `--set vars.name=value`: values from the command line, over all others.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Mistake, Span, tables};
use crate::suggest::nearest;

/// Reads one `--set` and puts it into `sets`, tables by stage and `vars`; `base` is the number of the
/// text's first byte.
pub(super) fn read<'t>(
    sets: &mut DeTable<'t>,
    text: &'t str,
    base: usize,
    stages: &DeTable<'_>,
    variables: &[String],
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
    for (stage, value) in tables::shifted_table(entries, base) {
        let name: &str = stage.get_ref();
        let Some(inner) = value.get_ref().as_table() else {
            mistakes.push(Mistake::SetSyntax {
                message: String::new(),
                span: whole.clone(),
            });
            continue;
        };
        if name == "vars" {
            for (variable, _) in inner {
                let name: &str = variable.get_ref();
                if !variables.iter().any(|v| v == name) {
                    mistakes.push(Mistake::UnknownVariable {
                        place: "`--set`".to_owned(),
                        name: name.to_owned(),
                        near: nearest(name, variables.iter().map(String::as_str))
                            .map(str::to_owned),
                        span: variable.span(),
                    });
                }
            }
        } else if !stages.contains_key(name) {
            let names = stages.keys().map(|k| k.get_ref().as_ref());
            mistakes.push(Mistake::SetUnknownStage {
                near: nearest(name, names.chain(["vars"])).map(str::to_owned),
                stage: name.to_owned(),
                span: stage.span(),
            });
            continue;
        }
        let mut one = DeTable::new();
        one.insert(stage, value);
        tables::merge(sets, one);
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
