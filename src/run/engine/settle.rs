//! Settling: a stage whose inputs have outputs gets its key, and what the store has for it.

use std::collections::VecDeque;

use starling_cache::{ActionRecord, Memo};

use super::Engine;
use crate::pipeline::{Keep, Mistake, PipelineInput};
use crate::plan::{self, Resolution, ResolveError};
use crate::report::{Cause, RunEvent, StageTime};
use crate::run::clock;
use crate::run::options::RunError;
use crate::run::state::{Finished, Source, State};

impl Engine<'_> {
    /// Finds out about stages whose inputs are all there, and about those that this makes ready.
    pub(super) fn settle(
        &mut self,
        stages: impl IntoIterator<Item = usize>,
        memo: &mut Memo,
    ) -> Result<(), RunError> {
        let mut queue: VecDeque<usize> = stages.into_iter().collect();
        while let Some(index) = queue.pop_front() {
            if !matches!(self.states[index], State::Waiting) {
                continue;
            }
            let inputs = &self.pipeline.stages[index].inputs;
            if let Some(by) = inputs.iter().find(|i| self.states[i.stage].blocks()) {
                self.block(index, by.stage);
                queue.extend(&self.readers[index]);
                continue;
            }
            let waits = |i: &PipelineInput| self.states[i.stage].record().is_none();
            if inputs.iter().any(waits) {
                continue;
            }
            self.resolve(index, memo)?;
            if matches!(self.states[index], State::Done(_) | State::Failed(_)) {
                queue.extend(&self.readers[index]);
            }
        }
        self.pass_on_warnings();
        Ok(())
    }

    pub(super) fn resolve(&mut self, index: usize, memo: &mut Memo) -> Result<(), RunError> {
        let records = |stage: usize| self.states[stage].record();
        let resolution = plan::resolve(
            self.pipeline,
            index,
            self.registry,
            &records,
            self.store,
            memo,
            clock::now_unix(),
        );
        self.accept(index, resolution, memo)
    }

    /// Takes note of what is known of a stage.
    pub(super) fn accept(
        &mut self,
        index: usize,
        resolution: Result<Resolution, ResolveError>,
        memo: &mut Memo,
    ) -> Result<(), RunError> {
        let wrong = match resolution {
            Ok(Resolution::Waits(_)) => return Ok(()),
            Ok(Resolution::Cached(record)) => {
                self.keys[index] = Some(record.key);
                self.have(index, *record, Source::Cached);
                return Ok(());
            }
            Ok(Resolution::Action(mut action)) => {
                self.keys[index] = Some(action.key);
                self.lines[index] = Some(action.line);
                let mut source = Source::Cached;
                if let Some(record) = &action.cached
                    && self.pipeline.stages[index].keep == Keep::Digest
                    && !self.store.complete(record)?
                {
                    source = Source::Retired;
                    if self.rebuild.contains(&index) {
                        action.cached = None;
                    }
                }
                match action.cached {
                    Some(record) => self.have(index, record, source),
                    None => {
                        self.states[index] = State::Ready(action);
                        self.ready.insert(index);
                    }
                }
                return Ok(());
            }
            Ok(Resolution::Missing(action)) => {
                self.keys[index] = Some(action.key);
                action.mistakes(&self.pipeline.stages[index])
            }
            Err(ResolveError::Mistakes(wrong)) => wrong,
            Err(ResolveError::Store(error)) => return Err(error.into()),
        };
        if self.begun {
            // The files were as they should be when the run began.
            let message = wrong.iter().map(ToString::to_string).collect::<Vec<_>>();
            let mut failure = self.failure(index, 0, Cause::Stage, message.join("; "));
            failure.hint = wrong.first().and_then(Mistake::help);
            return self.fail(index, failure, memo);
        }
        self.wrong.extend(wrong);
        Ok(())
    }

    /// Takes note that the stage's outputs are in the store.
    pub(super) fn have(&mut self, index: usize, record: ActionRecord, source: Source) {
        let stage = self.pipeline.stages[index].name.clone();
        let key = record.key.to_string();
        let event = match &source {
            Source::Ran(seconds) => {
                let figure = self.figures.remove(&index).unwrap_or_default();
                self.ran.push(StageTime {
                    stage: stage.clone(),
                    seconds: *seconds,
                });
                RunEvent::Done {
                    stage,
                    key,
                    seconds: *seconds,
                    figure,
                }
            }
            Source::Cached | Source::Elsewhere | Source::Retired => RunEvent::Cached { stage, key },
        };
        self.reporter.report(&event);
        self.states[index] = State::Done(Box::new(Finished { record, source }));
    }

    pub(super) fn block(&mut self, index: usize, by: usize) {
        self.states[index] = State::Blocked;
        self.reporter.report(&RunEvent::Blocked {
            stage: self.pipeline.stages[index].name.clone(),
            by: self.pipeline.stages[by].name.clone(),
        });
    }

    pub(super) fn pass_on_warnings(&mut self) {
        for warning in self.store.take_warnings() {
            self.reporter.report(&RunEvent::Notice {
                text: warning.to_string(),
            });
        }
    }
}
