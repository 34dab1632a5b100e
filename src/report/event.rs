//! The events of a run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use starling_contract::Event;

/// Something that happened in a run.
///
/// `key` is the action key in hexadecimal, in full; reporters shorten it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "event",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum RunEvent {
    /// The run begins.
    Begun {
        /// The run's name in the store.
        run: String,
        /// The pipeline file as the user named it.
        pipeline: String,
        /// How many stages it has.
        stages: usize,
    },
    /// The store already holds the stage's outputs.
    Cached {
        /// Stage name.
        stage: String,
        /// Action key.
        key: String,
    },
    /// A worker starts on the stage.
    Started {
        /// Stage name.
        stage: String,
        /// Action key.
        key: String,
        /// Which try at this action it is, from 1.
        attempt: u32,
        /// Threads that the stage may use.
        threads: usize,
        /// The worker's process.
        pid: u32,
        /// The NVIDIA device that it has for itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        card: Option<String>,
    },
    /// The running stage tells something.
    Stage {
        /// Stage name.
        stage: String,
        /// What it tells.
        what: Event,
    },
    /// Another run is working on the same action; this one takes its result.
    Elsewhere {
        /// Stage name.
        stage: String,
        /// Action key.
        key: String,
    },
    /// The stage's outputs are in the store.
    Done {
        /// Stage name.
        stage: String,
        /// Action key.
        key: String,
        /// Wall time of this attempt.
        seconds: f64,
        /// The last figure that the stage told, or empty.
        figure: String,
    },
    /// The stage ended without its outputs.
    Failed(Failure),
    /// The stage failed for a reason that may pass; it is tried again.
    Retrying {
        /// Stage name.
        stage: String,
        /// Action key.
        key: String,
        /// The attempt that failed.
        attempt: u32,
        /// How long it waits first.
        seconds: f64,
        /// What happened.
        message: String,
    },
    /// The stage cannot run because one that it reads did not succeed.
    Blocked {
        /// Stage name.
        stage: String,
        /// The stage it waits for.
        by: String,
    },
    /// Somebody asked to stop; workers save their snapshots.
    Stopping {
        /// Whether it is the second request, after which nothing is waited for.
        at_once: bool,
    },
    /// The stage stopped because it was asked to.
    Interrupted {
        /// Stage name.
        stage: String,
        /// Action key.
        key: String,
        /// Units of work in its newest snapshot.
        snapshot: Option<u64>,
    },
    /// Something to know about the run as a whole.
    Notice {
        /// The text.
        text: String,
    },
    /// The run is over.
    Ended(Summary),
}

/// Why an attempt ended without outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Cause {
    /// The stage said so.
    Stage,
    /// The stage panicked.
    Panic,
    /// The stage did not write an output that it declares.
    Output,
    /// The store, a spec or an input could not be used.
    Store,
    /// The bytes of an input are damaged or gone, and set aside; the stage that made them must run again.
    LostInput,
    /// The device is not there.
    Device,
    /// Something outside failed that may work later, and did so too often.
    Transient {
        /// Seconds to wait, where the other side said so.
        after: Option<u64>,
    },
    /// It ran past its time limit.
    TimeLimit,
    /// A signal ended the worker.
    Signal {
        /// Its number.
        number: i32,
    },
    /// The worker left without saying why.
    Exit {
        /// Its exit code.
        code: i32,
    },
    /// The worker could not be started.
    Launch,
    /// It was asked to stop.
    Interrupted,
}

/// A stage that ended without its outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failure {
    /// Stage name.
    pub stage: String,
    /// Action key, or empty when it could not be computed.
    pub key: String,
    /// Which try it was; 0 when none was started.
    pub attempt: u32,
    /// What sort of end.
    pub cause: Cause,
    /// What happened.
    pub message: String,
    /// What to try, if anybody knows.
    pub hint: Option<String>,
    /// `file:line:col` of the stage.
    pub place: String,
    /// Work done when it stopped, for example `update 812 of 4000`.
    pub reached: Option<String>,
    /// Units of work in its newest snapshot.
    pub snapshot: Option<u64>,
    /// Everything the worker wrote on stderr.
    pub log: Option<PathBuf>,
    /// The line that runs this action alone.
    pub rerun: Option<String>,
}

/// How long a stage took in this run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StageTime {
    /// Stage name.
    pub stage: String,
    /// Wall time of its attempt.
    pub seconds: f64,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// Stages whose outputs were in the store already.
    pub cached: usize,
    /// Stages that ran and succeeded, in order of their end.
    pub ran: Vec<StageTime>,
    /// Stages that failed.
    pub failures: Vec<Failure>,
    /// Stages that could not run because of those.
    pub blocked: usize,
    /// Stages that were stopped or never started because somebody asked to stop.
    pub stopped: usize,
    /// Wall time of the run.
    pub seconds: f64,
}
