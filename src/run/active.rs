//! A running stage, as the loop sees it: one worker, or several that share its chunks.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use starling_cache::{ActionKey, Digest, Lease};
use starling_contract::{Event, Shard};

use crate::plan::ResolvedAction;
use crate::run::hand::{Hand, LAST_WORDS};
use crate::run::judge::Observed;
use crate::run::launch::WorkerId;

/// A running stage.
pub(crate) struct Active {
    pub(crate) errand: Errand,
    pub(crate) began: Instant,
    pub(crate) snapshot: Option<u64>,
    pub(crate) figure: String,
    /// Units done and in all, and what a unit is, as last told by each worker.
    progress: Vec<(WorkerId, u64, u64, String)>,
    members: Vec<Member>,
    /// Shares of the chunks that wait for a worker.
    pub(crate) shards: VecDeque<Shard>,
    asked: Option<Instant>,
    over: bool,
}

/// What a stage runs for, besides its processes.
pub(crate) struct Errand {
    pub(crate) key: ActionKey,
    pub(crate) action: Box<ResolvedAction>,
    pub(crate) spec: Digest,
    pub(crate) lease: Lease,
    pub(crate) threads: usize,
    /// Those of each worker.
    pub(crate) each: usize,
    /// Bytes that it declared, at most what all stages share.
    pub(crate) memory: u64,
    pub(crate) cuda: bool,
    pub(crate) started_unix: f64,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) grace: Duration,
}

/// A worker at an attempt.
pub(crate) struct Member {
    pub(crate) hand: Hand,
    pub(crate) attempt: u32,
    pub(crate) shard: Option<Shard>,
    /// The card that it alone computes on.
    pub(crate) card: Option<usize>,
    /// The line that runs it by hand.
    pub(crate) rerun: String,
    /// What a worker that takes one action after another answered.
    pub(crate) answer: Option<u8>,
}

impl Member {
    fn status(&self) -> Option<ExitStatus> {
        match self.answer {
            Some(code) => Some(ExitStatus::from_raw(i32::from(code) << 8)),
            None => self.hand.end(),
        }
    }
}

impl Active {
    pub(crate) fn new(errand: Errand) -> Self {
        Self {
            errand,
            began: Instant::now(),
            snapshot: None,
            figure: String::new(),
            progress: Vec::new(),
            members: Vec::new(),
            shards: VecDeque::new(),
            asked: None,
            over: false,
        }
    }

    pub(crate) fn join(&mut self, member: Member) {
        self.members.push(member);
    }

    pub(crate) fn members(&self) -> usize {
        self.members.len()
    }

    /// The threads that it holds: where each worker has a card, those of the workers there are.
    pub(crate) fn threads(&self) -> usize {
        if self.members.iter().any(|m| m.card.is_some()) {
            self.errand.each.saturating_mul(self.members.len())
        } else {
            self.errand.threads
        }
    }

    /// The cards that its workers have.
    pub(crate) fn cards(&self) -> impl Iterator<Item = usize> {
        self.members.iter().filter_map(|m| m.card)
    }

    pub(crate) fn member(&mut self, id: WorkerId) -> Option<&mut Member> {
        self.members.iter_mut().find(|m| m.hand.id == id)
    }

    pub(crate) fn hear(&mut self, id: WorkerId, event: &Event) {
        match event {
            Event::Progress {
                done,
                total,
                unit,
                figure,
            } => {
                self.progress.retain(|(other, ..)| *other != id);
                self.progress.push((id, *done, *total, unit.clone()));
                self.figure.clone_from(figure);
            }
            Event::Snapshot { progress } | Event::Resumed { progress } => {
                self.snapshot = Some(*progress);
            }
            Event::Message { .. } | Event::Scalars { .. } => {}
        }
    }

    /// Units done, in all, and what a unit is, of all workers together.
    pub(crate) fn progress(&self) -> Option<(u64, u64, &str)> {
        let (.., unit) = self.progress.last()?;
        let sum = |part: fn(&(WorkerId, u64, u64, String)) -> u64| self.progress.iter().map(part);
        Some((sum(|p| p.1).sum(), sum(|p| p.2).sum(), unit))
    }

    pub(crate) fn reached(&self) -> Option<String> {
        let (done, total, unit) = self.progress()?;
        Some(format!("{done} of {total} {unit}"))
    }

    pub(crate) fn was_asked_to_stop(&self) -> bool {
        self.asked.is_some()
    }

    /// Asks the workers to save what they have and stop.
    pub(crate) fn ask_to_stop(&mut self) {
        self.shards.clear();
        if self.asked.is_none() {
            self.asked = Some(Instant::now());
            self.members.iter().for_each(|m| m.hand.ask_to_stop());
        }
    }

    /// Ends the workers and all that they started.
    pub(crate) fn kill(&mut self) {
        self.shards.clear();
        self.asked.get_or_insert_with(Instant::now);
        self.members.iter().for_each(|m| m.hand.kill());
    }

    /// Takes out a worker that is done, with what became of it.
    pub(crate) fn take_ended(&mut self) -> Option<(Member, Observed)> {
        let at = self.members.iter().position(|m| m.status().is_some())?;
        let member = self.members.remove(at);
        let observed = Observed {
            status: member.status()?,
            asked: self.asked.is_some(),
            over: self.over.then_some(self.errand.time_limit).flatten(),
            started_unix: self.errand.started_unix,
            seconds: self.began.elapsed().as_secs_f64(),
            peak: member.hand.peak(),
        };
        Some((member, observed))
    }

    /// Every process, when the run cannot go on.
    pub(crate) fn hands(&mut self) -> impl Iterator<Item = &mut Hand> {
        self.members.iter_mut().map(|m| &mut m.hand)
    }

    /// Looks at memory and deadlines.
    pub(crate) fn tick(&mut self) {
        self.members.iter_mut().for_each(|m| m.hand.look());
        // A worker watches its time limit itself; this is for one that cannot, and comes a grace later.
        let grace = self.errand.grace;
        let limit = self.errand.time_limit;
        let limit = limit.map(|limit| limit.saturating_add(grace * 2) + LAST_WORDS);
        if limit.is_some_and(|limit| self.began.elapsed() > limit) {
            self.over = true;
            self.members.iter().for_each(|m| m.hand.kill());
        }
        if self.asked.is_some_and(|asked| asked.elapsed() > grace) {
            self.members.iter().for_each(|m| m.hand.kill());
        }
    }
}
