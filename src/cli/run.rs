//! `starling run`: runs a pipeline.

use std::path::PathBuf;

use clap::Args;
use starling::pipeline::{Pipeline, parse_size};
use starling::report::{Bars, JsonLines, Palette, Plain, Reporter};
use starling::run::{PASSED_ON, RunError, RunOptions, Secrets};
use starling::{exit, run};
use starling_cache::LocalStore;

use super::output::{self, Failure, chain};
use super::session::{Changes, Session};

/// Run a pipeline: what the store already holds is not run again
///
/// The results of stages that nothing reads are printed on stdout, cached or not. Ctrl-C lets stages
/// save a snapshot and exits 130; the same command continues from there.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The pipeline [default: the built-in quickstart]
    pipeline: Option<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    /// CPU threads that all running stages share [default: the pipeline's, else all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// Memory that all running stages share, as far as they declare any [default: the pipeline's, else the machine's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// NVIDIA devices that all running stages share, each process with one of its own [default: the pipeline's, else one
    /// stage at a time on what `CUDA_VISIBLE_DEVICES` shows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    cards: Option<u16>,
    /// Start no further stage after one has failed
    #[arg(long, conflicts_with = "keep_going")]
    fail_fast: bool,
    /// Run whatever does not depend on a failed stage; this is the default
    #[arg(long)]
    keep_going: bool,
    /// How often a stage that failed for a passing reason (a busy server, a lost network) is tried again
    #[arg(long, value_name = "N", default_value_t = 3)]
    retries: u32,
    /// Put results of different numerics classes (device, instruction set) side by side in tables
    #[arg(long)]
    mixed: bool,
    /// Digest every file outside the store again, whatever is remembered of it
    #[arg(long)]
    paranoid: bool,
    /// Print events as JSON lines on stdout instead of the story and the results
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        // Looked at while the pipeline is read; a wrong pipeline makes no store.
        let ahead = session.existing_store().ok();
        if let Some(store) = &ahead {
            store.look_ahead();
        }
        let changes = self.changes.all();
        let (pipeline, _) = session.locked(self.pipeline.as_deref(), &changes)?;
        Execution {
            threads: self.threads,
            memory: self.memory,
            cards: self.cards,
            keep_going: self.keep_going || !self.fail_fast,
            retries: self.retries,
            paranoid: self.paranoid,
            mixed: self.mixed,
            json: self.json,
            overrides: changes,
            ahead,
        }
        .run(session, &pipeline)
        // The process ends now, which frees the pipeline faster.
        .inspect(|_| std::mem::forget(pipeline))
    }
}

/// A run of a checked pipeline, wherever it came from.
pub(crate) struct Execution {
    /// CPU threads that all running stages share.
    pub(crate) threads: Option<u16>,
    /// Memory that all running stages share, in bytes.
    pub(crate) memory: Option<u64>,
    /// NVIDIA devices that all running stages share.
    pub(crate) cards: Option<u16>,
    /// Let other stages go on after one has failed.
    pub(crate) keep_going: bool,
    /// How often a passing failure is tried again.
    pub(crate) retries: u32,
    /// Hash files again that look unchanged.
    pub(crate) paranoid: bool,
    /// Put results of different numerics classes side by side.
    pub(crate) mixed: bool,
    /// Print events as JSON lines.
    pub(crate) json: bool,
    /// The changes to the pipeline, for the manifest.
    pub(crate) overrides: Vec<String>,
    /// The store, where somebody has opened it already.
    pub(crate) ahead: Option<LocalStore>,
}

impl Execution {
    /// Runs it and prints what its last stages show.
    pub(crate) fn run(self, session: &Session, pipeline: &Pipeline) -> Result<u8, Failure> {
        // What the engine itself writes may wait; workers make results durable.
        let store = match self.ahead {
            Some(store) => store.cleaned()?,
            None => session.store()?,
        };
        let store = store.without_sync();
        let mut memo = store.memo();
        memo.set_paranoid(self.paranoid);
        let program = std::env::current_exe()
            .map_err(|e| Failure::new(exit::BUG, format!("cannot find this program: {e}")))?;
        let mut options = RunOptions::new(program);
        options.environment = PASSED_ON
            .iter()
            .filter_map(|name| Some(((*name).into(), output::variable(name)?)))
            .collect();
        options.threads = self.threads.map(usize::from);
        options.memory = self.memory;
        options.cards = self.cards.map(usize::from);
        options.keep_going = self.keep_going;
        options.mixed = self.mixed;
        options.retries = self.retries;
        options.secrets = secrets(pipeline, session);
        options.overrides = self.overrides;
        let names = pipeline.stages.iter().map(|s| s.name.len());
        let mut reporter = reporter(self.json, names.max().unwrap_or(0));
        let outcome = run::run(
            pipeline,
            &session.registry,
            &store,
            &mut memo,
            &options,
            reporter.as_mut(),
        );
        drop(reporter);
        let outcome = outcome.map_err(|error| match error {
            RunError::Pipeline(mistakes) => mistakes.into(),
            RunError::Store(error) => error.into(),
            other => Failure::new(exit::BUG, chain(&other)),
        })?;
        // Without its memory the next run only hashes files again.
        drop(store.save_memo(&mut memo));
        if !self.json {
            for shown in &outcome.display {
                output::data(&shown.text);
            }
        }
        // The process ends now, which frees it faster.
        std::mem::forget((memo, store));
        Ok(outcome.code)
    }
}

fn size(text: &str) -> Result<u64, &'static str> {
    parse_size(text).ok_or("expected a size such as 900MB or 16GB")
}

/// The values of the variables that stages ask for by name, as far as they are set.
fn secrets(pipeline: &Pipeline, session: &Session) -> Secrets {
    let stages = pipeline.stages.iter();
    let names = stages.filter_map(|s| Some(session.registry.get(&s.kind)?.secrets(&s.params)));
    let values = names
        .flatten()
        .filter_map(|name| output::variable(&name).map(|value| (name, value)));
    Secrets::new(values.collect())
}

fn reporter(json: bool, width: usize) -> Box<dyn Reporter> {
    let palette = if output::color() {
        Palette::Colour
    } else {
        Palette::Plain
    };
    if json {
        Box::new(JsonLines::new(std::io::stdout()))
    } else if output::is_terminal() {
        Box::new(Bars::new(palette, width))
    } else {
        Box::new(Plain::new(std::io::stderr(), palette, width))
    }
}
