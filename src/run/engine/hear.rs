//! Hearing: what workers say, what people ask for, what the clock demands.

use std::time::Instant;

use starling_cache::Memo;

use super::{BEAT, Engine, POLL, Stop};
use crate::report::RunEvent;
use crate::run::clock;
use crate::run::launch::Note;
use crate::run::options::RunError;
use crate::run::state::{Source, State};

impl Engine<'_> {
    pub(super) fn take(&mut self, note: Note, memo: &mut Memo) -> Result<(), RunError> {
        match note {
            Note::Event(index, event) => {
                if let State::Running(active) = &mut self.states[index] {
                    active.hear(&event);
                    self.reporter.report(&RunEvent::Stage {
                        stage: self.pipeline.stages[index].name.clone(),
                        what: event,
                    });
                }
                Ok(())
            }
            Note::Closed(index) => {
                if let State::Running(active) = &mut self.states[index] {
                    active.close();
                }
                self.conclude(index, memo)
            }
            Note::Exited(index) => {
                if let State::Running(active) = &mut self.states[index] {
                    active.reap().map_err(|source| RunError::System {
                        action: "wait for a worker",
                        source,
                    })?;
                }
                self.conclude(index, memo)
            }
            Note::Stop => {
                self.ask_to_stop();
                Ok(())
            }
        }
    }

    pub(super) fn ask_to_stop(&mut self) {
        self.stop = match self.stop {
            Stop::No => Stop::Asked,
            Stop::Asked | Stop::AtOnce => Stop::AtOnce,
        };
        let at_once = self.stop == Stop::AtOnce;
        self.reporter.report(&RunEvent::Stopping { at_once });
        for &index in &self.running {
            if let State::Running(active) = &mut self.states[index] {
                if at_once {
                    active.kill();
                } else {
                    active.ask_to_stop();
                }
            }
        }
    }

    /// Looks at clocks: memory, deadlines, leases, and what other runs make.
    pub(super) fn look(&mut self, memo: &mut Memo) -> Result<(), RunError> {
        let running: Vec<usize> = self.running.iter().copied().collect();
        for index in running {
            if let State::Running(active) = &mut self.states[index] {
                active.tick();
            }
            self.conclude(index, memo)?;
        }
        if self.last_beat.elapsed() > BEAT {
            self.last_beat = Instant::now();
            for &index in &self.running {
                if let State::Running(active) = &self.states[index] {
                    self.store.beat_lease(&active.lease, clock::now_unix())?;
                }
            }
        }
        let elsewhere: Vec<usize> = self.elsewhere.iter().copied().collect();
        for index in elsewhere {
            self.look_elsewhere(index, memo)?;
        }
        Ok(())
    }

    /// Whether the action that somebody else works on is there; if nobody does any more, it is ready.
    pub(super) fn look_elsewhere(&mut self, index: usize, memo: &mut Memo) -> Result<(), RunError> {
        let State::Elsewhere(action, when) = &mut self.states[index] else {
            return Ok(());
        };
        let key = action.key;
        if Instant::now() < *when || self.taken.contains_key(&key) {
            return Ok(());
        }
        *when = Instant::now() + POLL;
        self.elsewhere.remove(&index);
        if let Some(record) = self.store.action(&key)? {
            self.have(index, record, Source::Elsewhere);
            return self.settle(self.readers[index].clone(), memo);
        }
        if let State::Elsewhere(action, _) =
            std::mem::replace(&mut self.states[index], State::Waiting)
        {
            self.states[index] = State::Ready(action);
            self.ready.insert(index);
        }
        Ok(())
    }
}
