//! Giving account: what a run came to, what it shows, what it leaves behind.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use starling_cache::{CacheError, Memo, OutputRef};
use starling_contract::Determinism;

use super::{Engine, Stop};
use crate::board;
use crate::exit;
use crate::pipeline::{Device, Keep, PipelineInput, PipelineStage};
use crate::plan;
use crate::report::{Cause, RunEvent, Summary};
use crate::run::active::Active;
use crate::run::display::{self, Display};
use crate::run::machine::Machine;
use crate::run::manifest::{Manifest, ManifestInput, ManifestStage, Resources, StageStatus};
use crate::run::options::{RunError, RunOutcome};
use crate::run::state::{Source, State};
use crate::run::status::{RunningStage, Status};
use crate::run::{cards, chunks, clock, numerics};

/// How often the run says what it is at.
const STATUS: Duration = Duration::from_secs(1);

impl Engine<'_> {
    pub(super) fn end(&mut self, display: Vec<Display>) -> Result<RunOutcome, RunError> {
        let summary = self.summary();
        let code = self.code(&summary);
        match self.manifest(Some(code)).write(self.store) {
            // Whoever may only read a store can still see what it has.
            Err(error @ CacheError::ReadOnly { .. }) if self.ran.is_empty() => {
                self.reporter.report(&RunEvent::Notice {
                    text: format!("{error}; this run leaves no manifest"),
                });
            }
            written => written?,
        }
        self.finish_boards();
        self.retire()?;
        self.remember();
        self.pass_on_warnings();
        self.reporter.report(&RunEvent::Ended(summary.clone()));
        self.reporter.flush();
        Ok(RunOutcome {
            code,
            run: self.run.clone(),
            display,
            summary,
        })
    }

    /// Puts the curves of stages that were there already beside those that came in this run.
    ///
    /// A run in which no curve came leaves none: looking at what is cached should cost nothing.
    fn finish_boards(&mut self) {
        let root = self.boards.root().map(Path::to_owned);
        if let Some(root) = root.filter(|_| !self.boards.is_empty()) {
            for (index, stage) in self.pipeline.stages.iter().enumerate() {
                let kind = self.registry.get(&stage.kind);
                let (Some(kind), Some(record)) = (kind, self.states[index].record()) else {
                    continue;
                };
                if self.boards.has(&stage.name) {
                    continue;
                }
                if let Err((path, error)) =
                    board::export(self.store, kind, record, &root.join(&stage.name))
                {
                    self.reporter.report(&RunEvent::Notice {
                        text: format!(
                            "the curve of `{}` cannot be drawn: {}: {error}",
                            stage.name,
                            path.display()
                        ),
                    });
                }
            }
        }
        if let Some(text) = self.boards.take_warning() {
            self.reporter.report(&RunEvent::Notice { text });
        }
    }

    /// Lets go of the bytes of stages that keep digests only, once all that reads them is done, and of the chunks that
    /// they were gathered from, unless nobody could make them again.
    fn retire(&self) -> Result<(), RunError> {
        for (index, stage) in self.pipeline.stages.iter().enumerate() {
            let readers = &self.readers[index];
            let done = |&reader: &usize| self.states[reader].record().is_some();
            if stage.keep == Keep::Digest
                && !readers.is_empty()
                && readers.iter().all(done)
                && !self.states[index].is_retired()
                && let Some(record) = self.states[index].record()
            {
                match self.store.retire_action(&record.key) {
                    Err(CacheError::ReadOnly { .. }) => continue,
                    retired => retired?,
                }
                let kind = self.registry.get(&stage.kind);
                let again = kind.map(|kind| kind.determinism(&stage.params));
                if again.is_some_and(|again| again != Determinism::None) {
                    chunks::retire(self.store, record)?;
                }
            }
        }
        Ok(())
    }

    /// Lets the store remember what the next run will ask for.
    fn remember(&self) {
        let mut records = self.states.iter().filter_map(State::record);
        // Without it the next run is only slower.
        drop(self.store.remember(&mut records, clock::now_unix()));
    }

    /// Says now and then what runs and how far it is, for `starling status`.
    pub(super) fn tell_status(&mut self) {
        if self.running.is_empty() || self.last_status.elapsed() < STATUS {
            return;
        }
        self.last_status = Instant::now();
        let running = self
            .running
            .iter()
            .filter_map(|&index| match &self.states[index] {
                State::Running(active) => Some(RunningStage {
                    stage: self.pipeline.stages[index].name.clone(),
                    kind: self.pipeline.stages[index].kind.clone(),
                    key: active.errand.key,
                    started_unix: active.errand.started_unix,
                    threads: active.threads(),
                    cards: self.card_names(active),
                    done: active.progress().map(|(done, ..)| done),
                    total: active.progress().map(|(_, total, _)| total),
                    unit: active.progress().map(|(.., unit)| unit.to_owned()),
                    figure: active.figure.clone(),
                }),
                _ => None,
            });
        let count = |wanted: fn(&State) -> bool| self.states.iter().filter(|&s| wanted(s)).count();
        let status = Status {
            run: self.run.clone(),
            owner: self.owner.clone(),
            pipeline: self.pipeline.file.clone(),
            started_unix: self.started_unix,
            told_unix: clock::now_unix(),
            stages: self.states.len(),
            done: count(|s| s.record().is_some()),
            failed: count(State::blocks),
            running: running.collect(),
        };
        // Nothing depends on it; the next one comes soon.
        drop(status.write(self.store));
    }

    /// Says what is not as somebody wanted it: nothing computes on cards, or the environment hides some.
    pub(super) fn tell_of_cards(&mut self) {
        if let Some(text) = plan::unheeded(self.pipeline) {
            self.reporter.report(&RunEvent::Notice { text });
        }
        let asked = self.options.cards.or(self.pipeline.settings.cards);
        let all = self.cards.all().len();
        let on_cards = |s: &PipelineStage| s.device == Device::Cuda;
        let Some(asked) = asked.filter(|&asked| asked > all) else {
            return;
        };
        if self.pipeline.stages.iter().any(on_cards) {
            let text = format!(
                "{asked} cards are asked for and {} shows {all}",
                cards::VARIABLE
            );
            self.reporter.report(&RunEvent::Notice { text });
        }
    }

    /// The cards that workers of a running stage have.
    fn card_names(&self, active: &Active) -> Vec<String> {
        let names = active.cards().filter_map(|card| self.cards.name(card));
        names.map(str::to_owned).collect()
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

    pub(super) fn manifest(&self, code: Option<u8>) -> Manifest<'_> {
        Manifest {
            format: Manifest::FORMAT,
            run: self.run.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pipeline: self.pipeline.file.clone(),
            folder: absolute(&self.pipeline.folder),
            overrides: self.options.overrides.clone(),
            owner: self.owner.clone(),
            numerics: numerics::class(Device::Cpu.name()),
            machine: Machine::of(&self.owner),
            threads: self.budget,
            memory: self.memory.unwrap_or(0),
            cards: self.cards.all().to_vec(),
            started_unix: self.started_unix,
            seconds: code.map(|_| self.began.elapsed().as_secs_f64()),
            code,
            stages: (0..self.states.len())
                .map(|index| self.manifest_stage(index))
                .collect(),
        }
    }

    fn manifest_stage(&self, index: usize) -> ManifestStage<'_> {
        const NONE: &BTreeMap<String, OutputRef> = &BTreeMap::new();
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
                Source::Retired => (StageStatus::Cached, None, None),
            },
            State::Failed(failure) => (StageStatus::Failed, None, Some(Cow::Borrowed(&**failure))),
            State::Blocked => (StageStatus::Blocked, None, None),
            State::Stopped => (StageStatus::Stopped, None, None),
        };
        let kind = self.registry.get(&stage.kind);
        ManifestStage {
            name: Cow::Borrowed(&stage.name),
            kind: Cow::Borrowed(&stage.kind),
            version: kind.map_or(0, starling_contract::Kind::version),
            params: Cow::Borrowed(&stage.params),
            inputs: stage
                .inputs
                .iter()
                .map(|i| self.manifest_input(i))
                .collect(),
            resources: Resources {
                device: Cow::Borrowed(stage.device.name()),
                threads: self.threads_of(index),
                memory: stage.memory,
                shards: stage.shards,
                cards: self
                    .takes_cards(index)
                    .then(|| self.shards_of(index).min(self.cards.all().len())),
                time_limit: stage.time_limit.map(|limit| limit.as_secs_f64()),
                keeps_digest_only: stage.keep == Keep::Digest,
            },
            key: self.keys[index],
            status,
            attempt: record.map(|record| record.attempt),
            attempts: self.attempts.get(&index).cloned().unwrap_or_default(),
            seconds,
            outputs: Cow::Borrowed(record.map_or(NONE, |record| &record.outputs)),
            failure,
        }
    }

    fn manifest_input<'p>(&self, input: &'p PipelineInput) -> ManifestInput<'p>
    where
        Self: 'p,
    {
        ManifestInput {
            port: Cow::Borrowed(&input.port),
            name: input.name.as_deref().map(Cow::Borrowed),
            stage: Cow::Borrowed(&self.pipeline.stages[input.stage].name),
            output: Cow::Borrowed(&input.output),
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
