use std::path::PathBuf;

use clap::Args;
use starling::report::{Bars, JsonLines, Palette, Plain, Reporter};
use starling::run::{PASSED_ON, RunError, RunOptions};
use starling::{exit, run};

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
    /// Start no further stage after one has failed
    #[arg(long)]
    fail_fast: bool,
    /// Print events as JSON lines on stdout instead of the story and the results
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let changes = self.changes.all();
        let pipeline = session.pipeline(self.pipeline.as_deref(), &changes)?;
        let store = session.store()?;
        let mut memo = store.memo();
        let program = std::env::current_exe()
            .map_err(|e| Failure::new(exit::BUG, format!("cannot find this program: {e}")))?;
        let mut options = RunOptions::new(program);
        options.environment = PASSED_ON
            .iter()
            .filter_map(|name| Some(((*name).into(), output::variable(name)?)))
            .collect();
        options.threads = self.threads.map(usize::from);
        options.keep_going = !self.fail_fast;
        options.overrides = changes;
        let names = pipeline.stages.iter().map(|s| s.name.len());
        let mut reporter = reporter(self.json, names.max().unwrap_or(0));
        let outcome = run::run(
            &pipeline,
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
        Ok(outcome.code)
    }
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
