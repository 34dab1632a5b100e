//! The passes from text to [`Pipeline`].

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::draft::{self, Draft};
use super::mistake::Mistakes;
use super::{
    Mistake, Pipeline, PipelineInput, PipelineStage, RunSettings, Sources, edges, order, overrides,
    settings,
};
use crate::Registry;

const TABLES: &[&str] = &["stage", "run"];
const RUN_SETTINGS: &[&str] = &["threads"];

/// A pipeline file could not become a pipeline.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the pipeline {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not text.
    #[error("the pipeline {} is not UTF-8 text: byte {at} belongs to no character", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first wrong byte.
        at: usize,
    },
    /// It has mistakes.
    #[error(transparent)]
    Mistakes(#[from] Box<Mistakes>),
}

/// Reads the pipeline in `file`, with the `--set` arguments put in.
///
/// # Errors
/// [`LoadError`]; all mistakes are in it at once.
pub fn load(file: &Path, sets: &[String], registry: &Registry) -> Result<Pipeline, LoadError> {
    let bytes = std::fs::read(file).map_err(|source| LoadError::Io {
        path: file.to_owned(),
        source,
    })?;
    let text = String::from_utf8(bytes).map_err(|e| LoadError::NotText {
        path: file.to_owned(),
        at: e.utf8_error().valid_up_to(),
    })?;
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    let name = file.display().to_string();
    Ok(read(&name, folder, &text, sets, registry).map_err(Box::new)?)
}

/// Reads a pipeline from text; `file` is what messages call it, relative paths start at `folder`.
///
/// # Errors
/// [`Mistakes`] with every mistake that can be found.
pub fn read(
    file: &str,
    folder: &Path,
    text: &str,
    sets: &[String],
    registry: &Registry,
) -> Result<Pipeline, Mistakes> {
    let mut sources = Sources::default();
    sources.add(file, text);
    let bases: Vec<usize> = sets
        .iter()
        .map(|set| sources.add("--set", set.as_str()))
        .collect();
    let mut mistakes = Vec::new();

    let (document, broken) = DeTable::parse_recoverable(text);
    let broken = syntax_mistakes(&broken, text);

    let mut document = document.into_inner();
    let settings = run_settings(document.remove("run"), &mut mistakes);
    let mut stages = stage_table(document.remove("stage"), &mut mistakes);
    for (key, _) in &document {
        mistakes.push(unknown("table", key.get_ref(), TABLES, key.span()));
    }
    for (set, base) in sets.iter().zip(bases) {
        overrides::apply(&mut stages, set, base, &mut mistakes);
    }
    if stages.is_empty() && mistakes.is_empty() {
        let span = 0..text.lines().next().map_or(0, str::len);
        mistakes.push(Mistake::NoStages { span });
    }
    let drafts: Vec<Draft<'_>> = stages
        .into_iter()
        .filter_map(|(name, value)| draft::read(&name, value, registry, folder, &mut mistakes))
        .collect();
    let inputs = edges::follow(&drafts, &mut mistakes);
    let reads: Vec<Vec<usize>> = inputs
        .iter()
        .map(|i| i.iter().map(|i| i.stage).collect())
        .collect();
    let order = order::topological(&reads);
    if order.is_none() {
        mistakes.extend(
            order::cycles(&reads)
                .iter()
                .map(|c| cycle(c, &drafts, &inputs)),
        );
    }
    if !broken.is_empty() {
        mistakes.retain(|m| m.is_local() && is_whole(m, &broken, text));
        mistakes.extend(broken);
    }
    match order {
        Some(order) if mistakes.is_empty() => Ok(Pipeline {
            file: file.to_owned(),
            folder: folder.to_owned(),
            sources,
            stages: finish(drafts, inputs, &order),
            settings,
        }),
        _ => Err(Mistakes::new(sources, mistakes)),
    }
}

/// What the TOML reader complains about, without what follows from an earlier complaint.
fn syntax_mistakes(errors: &[toml::de::Error], text: &str) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut last_line = None;
    let mut twice = None;
    for error in errors {
        let span = error.span().unwrap_or_default();
        let before = text.get(..span.start).unwrap_or(text);
        let line = before.rfind('\n').map_or(0, |n| n + 1);
        let part = section(text, span.start);
        // A second complaint about a line, or about a part whose header was already there, is no news.
        if last_line.replace(line) == Some(line) || twice.as_ref() == Some(&part) {
            continue;
        }
        let mut message = error.message().replace('\n', ", ");
        if message == "duplicate key" {
            message = format!(
                "`{}` is written twice",
                text.get(span.clone()).unwrap_or_default()
            );
            if text[line..].starts_with('[') {
                twice = Some(part);
            }
        }
        mistakes.push(Mistake::Syntax { message, span });
    }
    mistakes
}

/// The part of the text from a header to the next one around `at`.
fn section(text: &str, at: usize) -> super::Span {
    let at = text.floor_char_boundary(at);
    let start = if text[at..].starts_with('[') && (at == 0 || text[..at].ends_with('\n')) {
        at
    } else {
        text[..at].rfind("\n[").map_or(0, |n| n + 1)
    };
    start..text[start..].find("\n[").map_or(text.len(), |n| start + n)
}

fn unknown(
    what: &'static str,
    name: &str,
    known: &'static [&'static str],
    span: super::Span,
) -> Mistake {
    Mistake::UnknownKey {
        what,
        name: name.to_owned(),
        known,
        span,
    }
}

fn run_settings(value: Option<Spanned<DeValue<'_>>>, mistakes: &mut Vec<Mistake>) -> RunSettings {
    let mut table = table_of("run", value, mistakes);
    let threads = table.remove("threads");
    for (key, _) in &table {
        mistakes.push(unknown("setting", key.get_ref(), RUN_SETTINGS, key.span()));
    }
    RunSettings {
        threads: settings::Reader::new("`[run]`".to_owned(), mistakes).threads(threads),
    }
}

fn stage_table<'t>(
    value: Option<Spanned<DeValue<'t>>>,
    mistakes: &mut Vec<Mistake>,
) -> DeTable<'t> {
    table_of("stage", value, mistakes)
}

fn table_of<'t>(
    name: &str,
    value: Option<Spanned<DeValue<'t>>>,
    mistakes: &mut Vec<Mistake>,
) -> DeTable<'t> {
    let Some(value) = value else {
        return DeTable::new();
    };
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => table,
        other => {
            mistakes.push(Mistake::BadSetting {
                place: "the file".to_owned(),
                name: format!("`{name}`"),
                expected: "a table".to_owned(),
                found: settings::article(other.type_str()),
                span,
            });
            DeTable::new()
        }
    }
}

/// Whether the part of the text that a mistake is in could be read whole; what a broken part seems to
/// say is not reported.
fn is_whole(mistake: &Mistake, broken: &[Mistake], text: &str) -> bool {
    let at = mistake.span().start;
    if at >= text.len() {
        return true;
    }
    let part = section(text, at);
    !broken
        .iter()
        .any(|b| (part.start..=part.end).contains(&b.span().start))
}

fn cycle(members: &[usize], drafts: &[Draft<'_>], inputs: &[Vec<PipelineInput>]) -> Mistake {
    let before = members.iter().cycle().skip(members.len() - 1);
    let edge = |(&node, &read): (&usize, &usize)| {
        let edge = inputs[node].iter().find(|i| i.stage == read);
        edge.map_or_else(|| drafts[node].span.clone(), |e| e.span.clone())
    };
    Mistake::Cycle {
        stages: members.iter().map(|&n| drafts[n].name.clone()).collect(),
        spans: members.iter().zip(before).map(edge).collect(),
    }
}

/// Puts checked drafts in order and renumbers what they read.
fn finish(
    drafts: Vec<Draft<'_>>,
    inputs: Vec<Vec<PipelineInput>>,
    order: &[usize],
) -> Vec<PipelineStage> {
    let mut number = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        number[old] = new;
    }
    let mut stages: Vec<(usize, PipelineStage)> = drafts
        .into_iter()
        .zip(inputs)
        .enumerate()
        .map(|(old, (draft, inputs))| {
            let inputs = inputs.into_iter().map(|input| PipelineInput {
                stage: number[input.stage],
                ..input
            });
            let stage = PipelineStage {
                name: draft.name,
                // A draft without kind or parameters has a mistake, and then nothing is finished.
                kind: draft.kind.map(|k| k.name().to_owned()).unwrap_or_default(),
                params: draft.params.unwrap_or_default(),
                inputs: inputs.collect(),
                threads: draft.threads,
                device: draft.device,
                time_limit: draft.time_limit,
                shards: draft.shards,
                keep: draft.keep,
                span: draft.span,
                param_spans: draft.param_spans,
                externals: draft.externals,
            };
            (number[old], stage)
        })
        .collect();
    stages.sort_by_key(|(number, _)| *number);
    stages.into_iter().map(|(_, stage)| stage).collect()
}
