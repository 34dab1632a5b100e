//! Giving account: what a run came to, what it shows, what it leaves behind.

use std::path::{Path, PathBuf};

use starling_cache::Memo;

use super::{Engine, Stop};
use crate::exit;
use crate::pipeline::Device;
use crate::report::{Cause, RunEvent, Summary};
use crate::run::display::{self, Display};
use crate::run::manifest::{Manifest, ManifestStage, StageStatus};
use crate::run::numerics;
use crate::run::options::{RunError, RunOutcome};
use crate::run::state::{Source, State};

impl Engine<'_> {
    pub(super) fn end(&mut self, display: Vec<Display>) -> Result<RunOutcome, RunError> {
        let summary = self.summary();
        let code = self.code(&summary);
        self.manifest(Some(code)).write(self.store)?;
        self.pass_on_warnings();
        self.reporter.report(&RunEvent::Ended(summary.clone()));
        Ok(RunOutcome {
            code,
            run: self.run.clone(),
            display,
            summary,
        })
    }

    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary {
            cached: 0,
            ran: self.ran.clone(),
            failures: Vec::new(),
            blocked: 0,
            stopped: 0,
            seconds: self.began.elapsed().as_secs_f64(),
        };
        for state in &self.states {
            match state {
                State::Done(finished) => {
                    summary.cached += usize::from(!matches!(finished.source, Source::Ran(_)));
                }
                State::Failed(failure) => summary.failures.push((**failure).clone()),
                State::Blocked => summary.blocked += 1,
                State::Waiting
                | State::Ready(_)
                | State::Elsewhere(..)
                | State::Running(..)
                | State::Stopped => summary.stopped += 1,
            }
        }
        summary
    }

    pub(super) fn code(&self, summary: &Summary) -> u8 {
        let causes = || summary.failures.iter().map(|failure| &failure.cause);
        if self.stop != Stop::No {
            exit::INTERRUPTED
        } else if summary.failures.is_empty() {
            exit::DONE
        } else if causes().all(|cause| *cause == Cause::Device) {
            exit::DEVICE
        } else if causes().all(|cause| matches!(cause, Cause::Store | Cause::LostInput)) {
            exit::CACHE
        } else {
            exit::STAGE
        }
    }

    /// What to show at the end; none when bytes of it are lost and the stage runs again.
    pub(super) fn show(&mut self, memo: &mut Memo) -> Result<Option<Vec<Display>>, RunError> {
        let mut shown = Vec::new();
        for (index, stage) in self.pipeline.stages.iter().enumerate() {
            let kind = self.registry.get(&stage.kind);
            let (Some(kind), Some(record)) = (kind, self.states[index].record()) else {
                continue;
            };
            if !self.readers[index].is_empty() {
                continue;
            }
            match display::of_stage(self.store, &stage.name, kind, record) {
                Ok(display) => shown.extend(display),
                Err(error)
                    if error.is_lost_blob()
                        && self.stop == Stop::No
                        && self.healed.insert(index) =>
                {
                    self.run_again(vec![index], &error.to_string(), memo)?;
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(shown))
    }

    pub(super) fn manifest(&self, code: Option<u8>) -> Manifest {
        Manifest {
            format: Manifest::FORMAT,
            run: self.run.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pipeline: self.pipeline.file.clone(),
            folder: absolute(&self.pipeline.folder),
            overrides: self.options.overrides.clone(),
            owner: self.owner.clone(),
            numerics: numerics::class(Device::Cpu.name()),
            threads: self.budget,
            started_unix: self.started_unix,
            seconds: code.map(|_| self.began.elapsed().as_secs_f64()),
            code,
            stages: (0..self.states.len())
                .map(|index| self.manifest_stage(index))
                .collect(),
        }
    }

    pub(super) fn manifest_stage(&self, index: usize) -> ManifestStage {
        let stage = &self.pipeline.stages[index];
        let state = &self.states[index];
        let record = state.record();
        let (status, seconds, failure) = match state {
            State::Waiting | State::Ready(_) | State::Elsewhere(..) | State::Running(..) => {
                (StageStatus::Waiting, None, None)
            }
            State::Done(finished) => match finished.source {
                Source::Cached => (StageStatus::Cached, None, None),
                Source::Ran(seconds) => (StageStatus::Done, Some(seconds), None),
                Source::Elsewhere => (StageStatus::Done, None, None),
            },
            State::Failed(failure) => (StageStatus::Failed, None, Some((**failure).clone())),
            State::Blocked => (StageStatus::Blocked, None, None),
            State::Stopped => (StageStatus::Stopped, None, None),
        };
        ManifestStage {
            name: stage.name.clone(),
            kind: stage.kind.clone(),
            version: self
                .registry
                .get(&stage.kind)
                .map_or(0, starling_contract::Kind::version),
            key: self.keys[index].map(|key| key.to_string()),
            status,
            attempt: record.map(|record| record.attempt),
            seconds,
            outputs: record
                .map(|record| record.outputs.clone())
                .unwrap_or_default(),
            failure,
        }
    }
}

/// A folder as it is called from anywhere.
fn absolute(folder: &Path) -> PathBuf {
    let named = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    std::path::absolute(named).unwrap_or_else(|_| named.to_owned())
}
