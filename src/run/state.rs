//! The states of a stage during a run.

use std::time::Instant;

use starling_cache::ActionRecord;

use crate::plan::ResolvedAction;
use crate::report::Failure;
use crate::run::active::Active;

/// Where a stage is. It moves down this list only, but for `Elsewhere`, which may become `Running`.
pub(crate) enum State {
    /// A stage that it reads has no outputs yet.
    Waiting,
    /// Its action is known and the store does not have it.
    Ready(Box<ResolvedAction>),
    /// Somebody else works on its action; looked at again when the time comes.
    Elsewhere(Box<ResolvedAction>, Instant),
    /// A worker of ours works on it.
    Running(Box<Active>),
    /// Its outputs are in the store.
    Done(Box<Finished>),
    /// It has no outputs and gets none in this run.
    Failed(Box<Failure>),
    /// A stage that it reads failed.
    Blocked,
    /// The run was stopped while it ran or before its turn.
    Stopped,
}

/// A stage with outputs.
pub(crate) struct Finished {
    pub(crate) record: ActionRecord,
    pub(crate) source: Source,
}

/// Where outputs came from.
pub(crate) enum Source {
    /// They were in the store when the stage's turn came.
    Cached,
    /// A worker of this run took so many seconds.
    Ran(f64),
    /// Another run made them meanwhile.
    Elsewhere,
    /// Their digests are known; the bytes may be gone, and are made again when something needs them.
    Retired,
}

impl State {
    pub(crate) fn record(&self) -> Option<&ActionRecord> {
        match self {
            Self::Done(finished) => Some(&finished.record),
            _ => None,
        }
    }

    /// Whether its bytes may be gone.
    pub(crate) fn is_retired(&self) -> bool {
        matches!(self, Self::Done(finished) if matches!(finished.source, Source::Retired))
    }

    /// Whether a stage that reads this one can never run.
    pub(crate) fn blocks(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Blocked)
    }
}
