//! How an attempt ends: with what part of its work, or with a cause, what to say, and an exit code.

use starling_cache::CacheError;
use starling_contract::StageError;

use crate::exit;
use crate::report::Cause;
use crate::run::host::with_sources;

/// What a stage did that ended well.
pub(super) enum Ran {
    /// All of its work.
    All,
    /// Its share of the chunks.
    Shard,
}

/// Why an attempt has no outputs.
pub(super) struct End {
    pub(super) cause: Cause,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl End {
    pub(super) fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn of_store(error: &CacheError) -> Self {
        Self::new(Cause::Store, with_sources(error))
    }

    pub(super) fn of_stage(error: &StageError) -> Self {
        let cause = match error {
            StageError::Interrupted => Cause::Interrupted,
            StageError::Device(_) => Cause::Device,
            StageError::Transient { after, .. } => Cause::Transient {
                after: after.map(|seconds| seconds.clamp(0.0, 1e6).ceil() as u64),
            },
            _ => Cause::Stage,
        };
        Self {
            cause,
            message: error.to_string(),
            hint: error.hint().map(str::to_owned),
        }
    }

    /// An input that could not be placed.
    pub(super) fn unusable_input(port: &str, error: &CacheError) -> Self {
        let message = format!("input `{port}`: {}", with_sources(error));
        if !error.is_lost_blob() {
            return Self::new(Cause::Store, message);
        }
        Self {
            cause: Cause::LostInput,
            message,
            hint: Some("run again: the stage that made these bytes runs first".to_owned()),
        }
    }

    pub(super) fn code(&self) -> u8 {
        match self.cause {
            Cause::Interrupted => exit::INTERRUPTED,
            Cause::Device => exit::DEVICE,
            Cause::Store | Cause::LostInput => exit::CACHE,
            _ => exit::STAGE,
        }
    }
}
