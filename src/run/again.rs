//! Running an action once more from its spec: to make lost bytes again, or beside a result that is there.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use starling_cache::{ActionRecord, CacheError, Digest, Store};

use crate::Registry;
use crate::run::exit_record::ExitRecord;
use crate::run::options::{RunError, RunOptions};
use crate::run::spec::{ActionSpec, SpecError};

/// Where an attempt beside a result leaves its record.
const NAME: &str = "again.json";

/// What became of it.
#[derive(Debug)]
pub enum Again {
    /// It has outputs; the record is that of this attempt, or of the action when it made lost bytes again.
    Done(Box<ActionRecord>),
    /// It has none.
    Failed {
        /// What happened.
        message: String,
        /// Whether bytes that it reads are lost too, so that what made them must run first.
        lost_input: bool,
    },
}

/// Leaves the record of an attempt beside a result.
pub(crate) fn put_again(store: &dyn Store, record: &ActionRecord) -> Result<(), CacheError> {
    let bytes = serde_json::to_vec(record).unwrap_or_default();
    store.put_attempt(&record.key, record.attempt, NAME, &bytes)
}

/// Runs the action of a spec: `beside` its result, or because the result is lost.
///
/// # Errors
/// [`RunError`] when the store or the system refuses what this needs itself.
pub fn again(
    store: &dyn Store,
    registry: &Registry,
    options: &RunOptions,
    spec: &Digest,
    beside: bool,
) -> Result<Again, RunError> {
    let failed = |message: String| Again::Failed {
        message,
        lost_input: false,
    };
    let action = match ActionSpec::read(store, spec) {
        Ok(action) => action,
        Err(SpecError::Store(error)) if error.is_lost_blob() => {
            return Ok(failed(format!("its spec is lost: {error}")));
        }
        Err(SpecError::Store(error)) => return Err(error.into()),
        Err(error) => return Ok(failed(error.to_string())),
    };
    let key = action.key();
    let attempt = store.next_attempt(&key)?;
    let system = |action| move |source| RunError::System { action, source };
    let log = match store.attempt_log(&key, attempt) {
        Some(log) => Stdio::from(
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(log)
                .map_err(system("open a log"))?,
        ),
        None => Stdio::null(),
    };
    let names = registry
        .get(&action.kind)
        .map(|kind| kind.secrets(&action.params));
    let secrets = names.unwrap_or_default().into_iter();
    let secrets = secrets.filter_map(|name| Some((options.secrets.get(&name)?.clone(), name)));
    let mut command = Command::new(&options.program);
    command
        .args([
            "run-stage",
            "--store",
            &store.url(),
            "--spec",
            &spec.to_string(),
        ])
        .args(["--attempt", &attempt.to_string(), "--tether"])
        .args(beside.then_some("--beside"))
        .env_clear()
        .envs(options.environment.iter().map(|(k, v)| (k, v)))
        .envs(secrets.map(|(value, name)| (name, value)))
        .env("RAYON_NUM_THREADS", "1")
        // Held open until the worker ended: it dies with this process.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log);
    let mut child = command.spawn().map_err(system("start a worker"))?;
    let tether = child.stdin.take();
    let status = child.wait().map_err(system("wait for a worker"))?;
    drop(tether);
    let record = if beside {
        let bytes = store.attempt(&key, attempt, NAME)?;
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok())
    } else {
        store.action(&key)?
    };
    if let Some(record) = record {
        return Ok(Again::Done(Box::new(record)));
    }
    let left = ExitRecord::read(store, &key, attempt)?;
    Ok(match left {
        Some(left) => Again::Failed {
            lost_input: left.cause == Some(crate::report::Cause::LostInput),
            message: left.message,
        },
        None => failed(format!("its worker ended with {status}")),
    })
}
