//! Hearing: what workers say, what people ask for, what the clock demands.

use std::time::Instant;

use starling_cache::Memo;
use starling_contract::Event;

use super::{BEAT, Engine, POLL, Stop};
use crate::report::RunEvent;
use crate::run::clock;
use crate::run::hand::Hand;
use crate::run::launch::{Note, WorkerId};
use crate::run::options::RunError;
use crate::run::state::{Source, State};

impl Engine<'_> {
    pub(super) fn take(&mut self, note: Note, memo: &mut Memo) -> Result<(), RunError> {
        let id = match &note {
            Note::Stop => {
                self.ask_to_stop();
                return Ok(());
            }
            Note::Event(id, _) | Note::Done(id, _) | Note::Closed(id) | Note::Exited(id) => *id,
        };
        let Some(&index) = self.at.get(&id) else {
            return self.take_idle(id, &note);
        };
        let State::Running(active) = &mut self.states[index] else {
            return Ok(());
        };
        match note {
            Note::Event(_, Event::Scalars { step, values }) => {
                let stage = &self.pipeline.stages[index].name;
                let now = clock::now_unix();
                self.boards.scalars(stage, id, now, step, &values);
                return Ok(());
            }
            Note::Event(_, event) => {
                active.hear(id, &event);
                self.reporter.report(&RunEvent::Stage {
                    stage: self.pipeline.stages[index].name.clone(),
                    what: event,
                });
                return Ok(());
            }
            Note::Done(_, code) => {
                if let Some(member) = active.member(id) {
                    member.answer = Some(code);
                }
            }
            Note::Closed(_) => {
                if let Some(member) = active.member(id) {
                    member.hand.close();
                }
            }
            Note::Exited(_) => {
                if let Some(member) = active.member(id) {
                    reap(&mut member.hand)?;
                }
            }
            Note::Stop => {}
        }
        self.conclude(index, memo)
    }

    /// An idle worker has nothing to say, and may end.
    fn take_idle(&mut self, id: WorkerId, note: &Note) -> Result<(), RunError> {
        if let (Note::Exited(_), Some(at)) = (note, self.idle.iter().position(|h| h.id == id)) {
            return reap(&mut self.idle.swap_remove(at));
        }
        Ok(())
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
                    self.store
                        .beat_lease(&active.errand.lease, clock::now_unix())?;
                }
            }
        }
        self.tell_status();
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

fn reap(hand: &mut Hand) -> Result<(), RunError> {
    hand.reap().map_err(|source| RunError::System {
        action: "wait for a worker",
        source,
    })
}
