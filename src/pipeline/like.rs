//! `like = "STAGE"`: a stage that is another one in all but what it says itself.
//!
//! What the profile, the matrix and `--set` change in the other one they change in this one too, except where this one
//! says something itself. So `like = "train"` with `stop-after = 300` stays the beginning of `train`, whatever is tried.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Mistake, Span, tables};
use crate::suggest::nearest;

/// Fills the tables of stages that are like others, and says which these are; `layers` are what is put over the
/// stages, tables by stage.
pub(super) fn fill<'t>(
    stages: &mut DeTable<'t>,
    mut layers: Vec<&mut DeTable<'t>>,
    mistakes: &mut Vec<Mistake>,
) -> BTreeSet<String> {
    let mut alike = BTreeSet::new();
    let likes = likes(stages, &mut alike, mistakes);
    for stage in order(&likes, mistakes) {
        let Some(other) = likes.get(&stage).map(|like| like.other.as_str()) else {
            continue;
        };
        let (Some(whole), Some(own)) = (table(stages, other), table(stages, &stage)) else {
            continue;
        };
        let (mut whole, own) = (whole.clone(), own.clone());
        for layer in &mut layers {
            let Some(changes) = table(layer, other) else {
                continue;
            };
            let mut changes = changes.clone();
            take_out(&mut changes, &own);
            let Some((key, value)) = layer.get_key_value(other) else {
                continue;
            };
            let key = Spanned::new(key.span(), stage.clone().into());
            let mut inherited = DeTable::new();
            inherited.insert(key, Spanned::new(value.span(), DeValue::Table(changes)));
            tables::merge(&mut inherited, std::mem::take(*layer));
            **layer = inherited;
        }
        tables::merge(&mut whole, own);
        if let Some(place) = stages.get_mut(stage.as_str()) {
            *place.get_mut() = DeValue::Table(whole);
        }
    }
    alike
}

struct Like {
    other: String,
    span: Span,
}

fn table<'v, 't>(tables: &'v DeTable<'t>, name: &str) -> Option<&'v DeTable<'t>> {
    tables.get(name)?.get_ref().as_table()
}

/// Takes every `like` out of its stage.
fn likes(
    stages: &mut DeTable<'_>,
    alike: &mut BTreeSet<String>,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<String, Like> {
    let names: Vec<String> = stages.keys().map(|k| k.get_ref().to_string()).collect();
    let mut likes = BTreeMap::new();
    for (key, value) in stages.iter_mut() {
        let DeValue::Table(table) = value.get_mut() else {
            continue;
        };
        let Some(like) = table.remove("like") else {
            continue;
        };
        let (stage, span) = (key.get_ref().to_string(), like.span());
        alike.insert(stage.clone());
        let mut wrong = |message: String, help: Option<String>| {
            mistakes.push(Mistake::Like {
                stage: stage.clone(),
                message,
                help,
                span: span.clone(),
            });
        };
        match like.get_ref().as_str() {
            None => wrong(
                "`like` must be the name of a stage".to_owned(),
                Some("write `like = \"STAGE\"`".to_owned()),
            ),
            Some(other) if !names.iter().any(|name| name == other) => wrong(
                format!("`like` names `{other}`, which is no stage"),
                nearest(other, names.iter().map(String::as_str))
                    .map(|near| format!("did you mean `{near}`?")),
            ),
            Some(other) => {
                let other = other.to_owned();
                likes.insert(stage.clone(), Like { other, span });
            }
        }
    }
    likes
}

/// The stages so that each comes after the one that it is like; those that lead back to themselves are reported.
fn order(likes: &BTreeMap<String, Like>, mistakes: &mut Vec<Mistake>) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    for start in likes.keys() {
        let mut chain: Vec<&String> = Vec::new();
        let mut at = start;
        while let Some(like) = likes.get(at) {
            if order.contains(at) {
                break;
            }
            if chain.contains(&at) {
                // Each circle once, at its first member by name.
                if at == start && chain.iter().all(|member| *member >= start) {
                    mistakes.push(Mistake::Like {
                        stage: start.clone(),
                        message: "it is like itself, by way of others".to_owned(),
                        help: Some("let one of them say its own kind".to_owned()),
                        span: like.span.clone(),
                    });
                }
                chain.clear();
                break;
            }
            chain.push(at);
            at = &like.other;
        }
        order.extend(chain.into_iter().rev().cloned());
    }
    order
}

/// Removes what `own` says, value by value.
fn take_out(changes: &mut DeTable<'_>, own: &DeTable<'_>) {
    for (key, value) in own {
        let name: &str = key.get_ref();
        let both = changes.get_mut(name).map(Spanned::get_mut);
        match (both, value.get_ref()) {
            (Some(DeValue::Table(changes)), DeValue::Table(own)) => take_out(changes, own),
            (Some(_), _) => {
                changes.remove(name);
            }
            (None, _) => {}
        }
    }
}
