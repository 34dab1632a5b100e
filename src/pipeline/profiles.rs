//! `[profile.NAME]`: how a pipeline runs on one sort of machine, chosen with `--profile NAME`.
//!
//! `device`, `threads`, `memory` and `cards` change no byte. Under `kind.KIND`, `stage.STAGE` and `vars` a profile may
//! also change parameters (a dtype, a batch), which are in the key as everywhere. What a profile says wins
//! over the stages, and arms of the matrix and `--set` win over it.

use toml::de::{DeTable, DeValue};

use super::{Device, Mistake, Span, settings};
use crate::Registry;
use crate::suggest::nearest;

const SETTINGS: &[&str] = &[
    "device", "threads", "memory", "cards", "vars", "stage", "kind",
];

/// What the chosen profile says; nothing when none was chosen.
#[derive(Default)]
pub(super) struct Profile<'t> {
    /// Where stages compute that do not say so and can.
    pub(super) device: Option<Device>,
    /// Threads that all stages share.
    pub(super) threads: Option<usize>,
    /// Memory that all stages share, in bytes.
    pub(super) memory: Option<u64>,
    /// Devices that all stages share, one for each process.
    pub(super) cards: Option<usize>,
    /// Variables.
    pub(super) vars: DeTable<'t>,
    /// Parameters by stage.
    pub(super) stages: DeTable<'t>,
    /// Parameters by kind.
    pub(super) kinds: DeTable<'t>,
}

/// The profile that was asked for, and its place among the texts.
pub(super) struct Asked<'a> {
    pub(super) name: &'a str,
    pub(super) span: Span,
}

/// Checks all profiles against the pipeline and takes out the one that was asked for.
pub(super) fn read<'t>(
    profiles: DeTable<'t>,
    asked: Option<&Asked<'_>>,
    stages: &DeTable<'_>,
    vars: &DeTable<'_>,
    registry: &Registry,
    mistakes: &mut Vec<Mistake>,
) -> Profile<'t> {
    if let Some(asked) = asked
        && !profiles.contains_key(asked.name)
    {
        let names = || profiles.keys().map(|k| &**k.get_ref());
        let known: Vec<&str> = names().collect();
        mistakes.push(Mistake::Profile {
            message: format!("there is no profile `{}`", asked.name),
            help: Some(match nearest(asked.name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => {
                    format!(
                        "the pipeline has none; `[profile.{}]` would begin it",
                        asked.name
                    )
                }
                None => format!("its profiles: {}", super::mistake::list(known)),
            }),
            span: asked.span.clone(),
        });
    }
    let mut chosen = Profile::default();
    for (name, value) in profiles {
        let span = value.span();
        let place = format!("profile `{}`", name.get_ref());
        let DeValue::Table(table) = value.into_inner() else {
            mistakes.push(not_a_table("`[profile]`", name.get_ref(), span));
            continue;
        };
        let mut profile = one(&place, table, mistakes);
        let known = |names: &DeTable<'_>, at: DeTable<'t>, what: &str, found: &mut Vec<Mistake>| {
            let mut known = DeTable::new();
            for (key, value) in at {
                let name: &str = key.get_ref();
                if names.contains_key(name) {
                    known.insert(key, value);
                } else {
                    let near = nearest(name, names.keys().map(|k| &**k.get_ref()));
                    found.push(unknown(&place, what, name, key.span(), near));
                }
            }
            known
        };
        profile.stages = known(stages, profile.stages, "stage", mistakes);
        profile.vars = known(vars, profile.vars, "variable", mistakes);
        for (key, _) in &profile.kinds {
            if registry.get(key.get_ref()).is_none() {
                let near = nearest(key.get_ref(), registry.names());
                mistakes.push(unknown(&place, "kind", key.get_ref(), key.span(), near));
            }
        }
        if asked.is_some_and(|a| *a.name == **name.get_ref()) {
            chosen = profile;
        }
    }
    chosen
}

fn one<'t>(place: &str, mut table: DeTable<'t>, mistakes: &mut Vec<Mistake>) -> Profile<'t> {
    let (threads, memory) = (table.remove("threads"), table.remove("memory"));
    let (device, cards) = (table.remove("device"), table.remove("cards"));
    let mut inner = |name: &str| match table.remove(name) {
        None => DeTable::new(),
        Some(value) => {
            let span = value.span();
            match value.into_inner() {
                DeValue::Table(table) => table,
                _ => {
                    mistakes.push(not_a_table(place, name, span));
                    DeTable::new()
                }
            }
        }
    };
    let (vars, mut stages, mut kinds) = (inner("vars"), inner("stage"), inner("kind"));
    for tables in [&mut stages, &mut kinds] {
        let mut kept = DeTable::new();
        for (name, value) in std::mem::take(tables) {
            if value.get_ref().is_table() {
                kept.insert(name, value);
            } else {
                mistakes.push(not_a_table(place, name.get_ref(), value.span()));
            }
        }
        *tables = kept;
    }
    for (key, _) in &table {
        mistakes.push(Mistake::UnknownKey {
            what: "setting",
            name: key.get_ref().to_string(),
            known: SETTINGS,
            span: key.span(),
        });
    }
    let mut reader = settings::Reader::new(place.to_owned(), mistakes);
    Profile {
        device: reader.device(device),
        threads: reader.threads(threads),
        memory: reader.memory(memory),
        cards: reader.cards(cards),
        vars,
        stages,
        kinds,
    }
}

fn unknown(place: &str, what: &str, name: &str, span: Span, near: Option<&str>) -> Mistake {
    Mistake::Profile {
        message: format!("{place} names the {what} `{name}`, which does not exist"),
        help: near.map(|near| format!("did you mean `{near}`?")),
        span,
    }
}

fn not_a_table(place: &str, name: &str, span: Span) -> Mistake {
    Mistake::BadSetting {
        place: place.to_owned(),
        name: format!("`{name}`"),
        expected: "a table".to_owned(),
        found: "a single value".to_owned(),
        span,
    }
}
