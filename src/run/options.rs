//! What a run is asked for and what it comes to.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use starling_cache::CacheError;

use crate::pipeline::Mistakes;
use crate::report::Summary;
use crate::run::display::Display;

/// Names of environment variables that every worker may see; the command reads them, and besides only those that
/// parameters name. None of them may change a byte of an output.
pub const PASSED_ON: &[&str] = &[
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_TOKEN_PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "RUST_BACKTRACE",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
];

/// Values that nobody but the stages that ask for them may see.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, OsString>);

impl Secrets {
    /// Takes values by name.
    #[must_use]
    pub fn new(values: BTreeMap<String, OsString>) -> Self {
        Self(values)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&OsString> {
        self.0.get(name)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Names only: what is printed for debugging ends in logs.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// How to run a pipeline; none of it changes a byte of any output.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The program that workers are; it must know `run-stage` and the same kinds.
    pub program: PathBuf,
    /// The environment of workers, see [`PASSED_ON`].
    pub environment: Vec<(OsString, OsString)>,
    /// CPU threads that all running stages share; overrides the pipeline's `threads`.
    pub threads: Option<usize>,
    /// Memory that all running stages share, in bytes; overrides the pipeline's `memory`.
    pub memory: Option<u64>,
    /// NVIDIA devices that all running stages share, each process with one of its own; overrides the pipeline's `cards`.
    pub cards: Option<usize>,
    /// Whether stages that do not depend on a failed one still start.
    pub keep_going: bool,
    /// How long a stage has to stop once it was asked to.
    pub grace: Duration,
    /// Values of environment variables that stages ask for by name, see `Stage::secrets`.
    pub secrets: Secrets,
    /// Whether results of different numerics classes may be put side by side.
    pub mixed: bool,
    /// How often an action that failed for a passing reason is tried again.
    pub retries: u32,
    /// How long to wait before the first such try; it doubles with each.
    pub retry_pause: Duration,
    /// The changes to the pipeline (`stage.param=value`), for the manifest.
    pub overrides: Vec<String>,
}

impl RunOptions {
    /// The defaults, with workers of `program`.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            environment: Vec::new(),
            threads: None,
            memory: None,
            cards: None,
            keep_going: true,
            grace: Duration::from_secs(30),
            secrets: Secrets::default(),
            mixed: false,
            retries: 3,
            retry_pause: Duration::from_secs(1),
            overrides: Vec::new(),
        }
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct RunOutcome {
    /// The exit code, one of [`crate::exit`].
    pub code: u8,
    /// The run's name in the store; empty when nothing could start.
    pub run: String,
    /// What to show on stdout: results of the stages that nothing reads.
    pub display: Vec<Display>,
    /// The figures of the run, which the reporter has shown.
    pub summary: Summary,
}

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Files that the pipeline names are wrong or missing; nothing was run.
    #[error(transparent)]
    Pipeline(Box<Mistakes>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] CacheError),
    /// The system refused something that the engine itself needs.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}
