//! The passes from text to [`Pipeline`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use toml::de::DeTable;

use super::Mistakes;
use super::draft::{self, Draft};
use super::files::{self, Document, Texts};
use super::matrix::expand;
use super::matrix::layers::Layers;
use super::profiles::{self, Asked, Profile};
use super::{
    Device, Mistake, Pipeline, PipelineInput, PipelineStage, RunSettings, Sources, Span, edges,
    like, matrix, order, overrides, settings, tables, vars,
};
use crate::Registry;

const RUN_SETTINGS: &[&str] = &["threads", "memory", "cards"];
/// What chooses a profile among the changes.
const PROFILE: &str = "profile=";

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

/// Reads the pipeline in `file`, with changes put in: `stage.param=value` and `vars.name=value` as of
/// `--set`, and `profile=name`.
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

/// Reads a pipeline from text; `file` is what messages call it, relative paths start at `folder`, changes
/// are as of [`load`].
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
    let mut mistakes = Vec::new();
    sources.add(file, text, folder);
    let (changes, asked) = changes(sets, &mut sources, folder);
    let texts = Texts::default();
    let mut document = files::read(
        Path::new(file),
        folder,
        text,
        &texts,
        &mut sources,
        &mut mistakes,
    );
    let mut settings = run_settings(document.take("run"), &mut mistakes);

    let made = make(
        &mut document,
        &changes,
        asked.as_ref(),
        registry,
        text.len(),
        &mut mistakes,
    );
    if made.stages.is_empty() && mistakes.is_empty() && document.broken.is_empty() {
        let span = 0..text.lines().next().map_or(0, str::len);
        mistakes.push(Mistake::NoStages { span });
    }
    settings.threads = made.profile.threads.or(settings.threads);
    settings.memory = made.profile.memory.or(settings.memory);
    settings.cards = made.profile.cards.or(settings.cards);
    settings.device = made.profile.device;
    let drafts = drafts(made.stages, registry, &sources, &mut mistakes);
    // What is wrong with the kind of such a stage is wrong where it is written.
    mistakes.retain(|mistake| match mistake {
        Mistake::MissingKind { stage, .. } => {
            let base = stage.split('@').next().unwrap_or(stage);
            !made.alike.contains(base)
        }
        _ => true,
    });
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
    if let Some(given) = &made.broken_matrix {
        mistakes.retain(|m| stands_alone(m, given));
    }
    let broken = document.broken;
    if !broken.is_empty() {
        mistakes.retain(|m| m.is_local() && files::is_whole(m, &broken, &sources));
        mistakes.extend(broken);
    }
    match order {
        Some(order) if mistakes.is_empty() => Ok(Pipeline {
            file: file.to_owned(),
            folder: folder.to_owned(),
            sources,
            stages: finish(drafts, inputs, &order, made.profile.device),
            settings,
            points: made.points,
        }),
        _ => Err(Mistakes::new(sources, mistakes)),
    }
}

/// Pipelines with fewer stages are read faster on one core.
const MANY: usize = 128;

/// Reads the stages, on all cores where there are many; mistakes come in the order of the stages.
fn drafts<'r>(
    made: Vec<expand::Made<'_>>,
    registry: &'r Registry,
    sources: &Sources,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Draft<'r>> {
    if made.len() < MANY {
        let read = |made| draft::read(made, registry, sources, mistakes);
        return made.into_iter().filter_map(read).collect();
    }
    let read = |made| {
        let mut mistakes = Vec::new();
        let draft = draft::read(made, registry, sources, &mut mistakes);
        (draft, mistakes)
    };
    let read: Vec<_> = made.into_par_iter().map(read).collect();
    let mut drafts = Vec::with_capacity(read.len());
    for (draft, wrong) in read {
        drafts.extend(draft);
        mistakes.extend(wrong);
    }
    drafts
}

/// The changes as texts with the numbers of their first bytes, and the profile that is asked for.
fn changes<'s>(
    sets: &'s [String],
    sources: &mut Sources,
    folder: &Path,
) -> (Vec<(&'s str, usize)>, Option<Asked<'s>>) {
    let mut changes = Vec::new();
    let mut asked = None;
    for set in sets {
        if let Some(name) = set.strip_prefix(PROFILE) {
            let base = sources.add("--profile", name, folder);
            let span = base..base + name.len();
            asked = Some(Asked { name, span });
        } else {
            changes.push((set.as_str(), sources.add("--set", set.as_str(), folder)));
        }
    }
    (changes, asked)
}

/// What the document's tables come to.
struct Stages<'t> {
    stages: Vec<expand::Made<'t>>,
    profile: Profile<'t>,
    points: usize,
    /// The variables of a matrix that is wrong.
    broken_matrix: Option<Vec<String>>,
    /// The stages that say what they are like.
    alike: BTreeSet<String>,
}

/// Puts profile, matrix, changes and variables into the stages.
fn make<'t>(
    document: &mut Document<'t>,
    changes: &[(&'t str, usize)],
    asked: Option<&Asked<'_>>,
    registry: &Registry,
    own: usize,
    mistakes: &mut Vec<Mistake>,
) -> Stages<'t> {
    let mut stages = document.take("stage");
    for (name, _) in stages.iter().filter(|(n, _)| !draft::is_name(n.get_ref())) {
        mistakes.push(Mistake::BadStageName {
            name: name.get_ref().to_string(),
            span: name.span(),
        });
    }
    let mut variables = document.take("vars");
    let has_matrix = document.tables.contains_key("matrix");
    let table = document.take("matrix");
    let given = given(&table);
    vars::check_names(&variables, mistakes);
    let mut sets = DeTable::new();
    let known: Vec<String> = variables
        .keys()
        .map(|k| k.get_ref().to_string())
        .chain(given.iter().cloned())
        .collect();
    for (text, base) in changes {
        overrides::read(&mut sets, text, *base, &stages, &known, mistakes);
    }
    let profiles = document.take("profile");
    let mut profile = profiles::read(profiles, asked, &stages, &variables, registry, mistakes);
    tables::merge(&mut variables, profile.vars.clone());
    let before = mistakes.len();
    let mut matrix = matrix::read(table, &sets, &stages, mistakes);
    let broken_matrix = mistakes.len() > before;
    let over = matrix.layers();
    let over = over.chain([&mut profile.stages, &mut sets]).collect();
    let alike = like::fill(&mut stages, over, mistakes);
    let layers = Layers {
        vars: &variables,
        profile: &profile,
        matrix: &matrix,
        sets: &sets,
        has_matrix,
    };
    layers
        .scope((!matrix.is_empty()).then_some(0))
        .check(mistakes);
    unused(&stages, &layers, own, mistakes);
    let points = matrix.points();
    Stages {
        stages: expand::expand(stages, &layers, mistakes),
        profile,
        points,
        broken_matrix: broken_matrix.then_some(given),
        alike,
    }
}

/// The variables that a `[matrix]` gives values to, right or wrong.
fn given(matrix: &DeTable<'_>) -> Vec<String> {
    fn inner<'v, 't>(table: &'v DeTable<'t>, name: &str) -> Option<&'v DeTable<'t>> {
        table.get(name)?.get_ref().as_table()
    }
    let arms = inner(matrix, "arms").into_iter().flat_map(DeTable::values);
    let arms = arms.filter_map(|arm| arm.get_ref().as_table());
    let changed = arms
        .chain(inner(matrix, "axes"))
        .filter_map(|t| inner(t, "vars"));
    let names = changed
        .flat_map(DeTable::keys)
        .map(|k| k.get_ref().to_string());
    let seed = matrix.contains_key("seeds").then(|| "seed".to_owned());
    names.chain(seed).collect()
}

/// Whether a mistake of a stage is one whatever the matrix would have put into it.
fn stands_alone(mistake: &Mistake, given: &[String]) -> bool {
    match mistake {
        Mistake::UnknownVariable { name, .. } => !given.contains(name),
        Mistake::Parameter { message, .. } => !message.contains("missing parameter"),
        Mistake::InputShape { .. }
        | Mistake::MissingKind { .. }
        | Mistake::MissingInput { .. }
        | Mistake::UnknownInput { .. }
        | Mistake::WrongArtifact { .. }
        | Mistake::Cycle { .. }
        | Mistake::UnusedVariable { .. } => false,
        _ => true,
    }
}

/// Reports variables of the pipeline's own file and axes over variables that no stage mentions.
///
/// Those of other files may be there for other pipelines.
fn unused(stages: &DeTable<'_>, layers: &Layers<'_, '_>, own: usize, mistakes: &mut Vec<Mistake>) {
    let own = layers.vars.keys().filter(|k| k.span().start < own);
    let own = own.map(|k| (k.get_ref().as_ref(), k.span()));
    let declared: Vec<(&str, Span)> = own.chain(layers.matrix.variables()).collect();
    if declared.is_empty() {
        return;
    }
    let mentioned: BTreeSet<String> = stages
        .iter()
        .flat_map(|(name, value)| layers.mentioned(name.get_ref(), value.get_ref()))
        .collect();
    for (name, span) in declared {
        if vars::is_name(name) && !mentioned.contains(name) {
            mistakes.push(Mistake::UnusedVariable {
                name: name.to_owned(),
                span,
            });
        }
    }
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

fn run_settings(mut table: DeTable<'_>, mistakes: &mut Vec<Mistake>) -> RunSettings {
    let (threads, memory) = (table.remove("threads"), table.remove("memory"));
    let cards = table.remove("cards");
    for (key, _) in &table {
        mistakes.push(unknown("setting", key.get_ref(), RUN_SETTINGS, key.span()));
    }
    let mut reader = settings::Reader::new("`[run]`".to_owned(), mistakes);
    RunSettings {
        threads: reader.threads(threads),
        memory: reader.memory(memory),
        cards: reader.cards(cards),
        device: None,
    }
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
    device: Option<Device>,
) -> Vec<PipelineStage> {
    let mut number = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        number[old] = new;
    }
    let mut drafts: Vec<_> = drafts.into_iter().zip(inputs).map(Some).collect();
    let in_order = order.iter().filter_map(|&old| drafts[old].take());
    in_order
        .map(|(draft, inputs)| {
            let inputs = inputs.into_iter().map(|input| PipelineInput {
                stage: number[input.stage],
                ..input
            });
            let can = |d: &Device| draft.kind.is_some_and(|k| k.devices().contains(&d.name()));
            let device = draft.device.or(device.filter(can)).unwrap_or_default();
            let origins = draft.origins;
            let mut param_spans = draft.param_spans;
            for span in param_spans.values_mut() {
                if let Some(origin) = origins.get(&span.start) {
                    *span = origin.span.clone();
                }
            }
            PipelineStage {
                name: draft.name,
                base: draft.base,
                point: draft.point,
                // A draft without kind or parameters has a mistake, and then nothing is finished.
                kind: draft.kind.map(|k| k.name().to_owned()).unwrap_or_default(),
                params: draft.params.unwrap_or_default(),
                inputs: inputs.collect(),
                threads: draft.threads,
                memory: draft.memory,
                device,
                time_limit: draft.time_limit,
                shards: draft.shards,
                keep: draft.keep,
                span: draft.span,
                param_spans,
                externals: draft.externals,
                writes: draft.writes.unwrap_or_default(),
            }
        })
        .collect()
}
