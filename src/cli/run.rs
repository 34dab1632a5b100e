use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use starling::pipeline::Pipeline;
use starling::report::{Bars, JsonLines, Palette, Plain, Reporter};
use starling::run::{PASSED_ON, RunError, RunOptions};
use starling::{exit, run};

use super::output::{self, Failure, chain};
use super::session::Session;

/// Run a pipeline: what the store already holds is not run again
///
/// The results of stages that nothing reads are printed on stdout, cached or not. Ctrl-C lets stages
/// save a snapshot and exits 130; the same command continues from there.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The pipeline [default: the built-in quickstart]
    pipeline: Option<PathBuf>,
    /// Change a value of the pipeline, for example `distill.lr=1e-4`
    #[arg(long, value_name = "STAGE.PARAM=VALUE")]
    set: Vec<String>,
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
        let pipeline = session.pipeline(self.pipeline.as_deref(), &self.set)?;
        Execution {
            threads: self.threads,
            fail_fast: self.fail_fast,
            json: self.json,
            overrides: self.set,
        }
        .run(session, &pipeline)
    }
}

/// A run of a checked pipeline, wherever it came from.
pub(crate) struct Execution {
    /// CPU threads that all running stages share.
    pub(crate) threads: Option<u16>,
    /// Start no further stage after one has failed.
    pub(crate) fail_fast: bool,
    /// Print events as JSON lines.
    pub(crate) json: bool,
    /// The changes to the pipeline, for the manifest.
    pub(crate) overrides: Vec<String>,
}

impl Execution {
    /// Runs it and prints what its last stages show.
    pub(crate) fn run(self, session: &Session, pipeline: &Pipeline) -> Result<u8, Failure> {
        let store = session.store()?;
        let mut memo = store.memo();
        let program = std::env::current_exe()
            .map_err(|e| Failure::new(exit::BUG, format!("cannot find this program: {e}")))?;
        let mut options = RunOptions::new(program);
        options.environment = environment(pipeline);
        options.threads = self.threads.map(usize::from);
        options.keep_going = !self.fail_fast;
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
        Ok(outcome.code)
    }
}

/// What workers see of the environment: the variables that all may see, and those that parameters called
/// `key-variable` name, which hold the keys of servers.
fn environment(pipeline: &Pipeline) -> Vec<(OsString, OsString)> {
    let mut names: Vec<String> = PASSED_ON.iter().map(|name| (*name).to_owned()).collect();
    for stage in &pipeline.stages {
        key_variables(&stage.params, &mut names);
    }
    names.sort_unstable();
    names.dedup();
    let value = |name: String| Some((OsString::from(&name), output::variable(&name)?));
    names.into_iter().filter_map(value).collect()
}

fn key_variables(params: &serde_json::Value, names: &mut Vec<String>) {
    let serde_json::Value::Object(fields) = params else {
        return;
    };
    for (name, value) in fields {
        match value.as_str() {
            Some(variable) if name == "key-variable" => names.push(variable.to_owned()),
            _ => key_variables(value, names),
        }
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
