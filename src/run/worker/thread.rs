//! The kind on a thread of its own: its stack, its time limit, its panics.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use starling_contract::{StageContext, StageError};

use super::attempt::Attempt;
use super::end::{End, Ran};
use crate::report::{Cause, duration};
use crate::run::host::WorkerHost;
use crate::run::scratch::Scratch;

/// The stage's stack; deep recursion over nested data must not end the worker.
const STACK_BYTES: usize = 256 << 20;

impl Attempt<'_> {
    /// Runs the kind on a thread of its own, under the spec's time limit.
    pub(super) fn run_kind(&self, host: &WorkerHost<'_>, scratch: &Scratch) -> Result<Ran, End> {
        let kind = self
            .registry
            .get(&self.spec.kind)
            .filter(|kind| kind.version() == self.spec.version)
            .ok_or_else(|| {
                let (kind, version) = (&self.spec.kind, self.spec.version);
                End::new(
                    Cause::Store,
                    format!("this program has no kind `{kind}` of version {version}"),
                )
            })?;
        let (single, many) = self.inputs(scratch)?;
        let externals = self.externals(scratch)?;
        note_panics();
        let (done, outcome) = mpsc::channel();
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name(self.spec.kind.clone())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, move || {
                    let run = || {
                        let mut context = StageContext::new(
                            host,
                            single,
                            many,
                            externals,
                            scratch.part("outputs"),
                            scratch.part("work"),
                            self.spec.threads,
                            self.spec.device.clone(),
                        );
                        kind.run(self.spec.params.clone(), &mut context)
                    };
                    // The receiver waits in this scope for as long as the thread lives.
                    drop(done.send(panic::catch_unwind(AssertUnwindSafe(run))));
                })
                .map_err(|e| End::new(Cause::Launch, format!("cannot start a thread: {e}")))?;
            match self.wait(&outcome, host) {
                (Ok(Ok(())), _) if self.shard.is_some() => Err(End::new(
                    Cause::Output,
                    format!("kind `{}` does not work in shards", self.spec.kind),
                )),
                (Ok(Ok(())), _) => Ok(Ran::All),
                (Ok(Err(StageError::ShardDone)), _) if self.shard.is_some() => Ok(Ran::Shard),
                (Ok(Err(StageError::Interrupted)), Over::Yes) => Err(self.over_limit()),
                (Ok(Err(error)), _) => Err(End::of_stage(&error)),
                (Err(payload), _) => Err(End::new(Cause::Panic, panic_message(payload.as_ref()))),
            }
        })
    }

    /// Waits for the stage; asks it to stop at its time limit and ends the process after the grace.
    fn wait(&self, outcome: &Receiver<Outcome>, host: &WorkerHost<'_>) -> (Outcome, Over) {
        let lost = || -> Outcome { Err(Box::new("the stage's thread vanished")) };
        let Some(limit) = self.spec.time_limit.map(seconds) else {
            return (outcome.recv().unwrap_or_else(|_| lost()), Over::No);
        };
        match outcome.recv_timeout(limit.saturating_sub(self.began.elapsed())) {
            Ok(outcome) => return (outcome, Over::No),
            Err(RecvTimeoutError::Disconnected) => return (lost(), Over::No),
            Err(RecvTimeoutError::Timeout) => self.stop.store(true, Ordering::Relaxed),
        }
        match outcome.recv_timeout(seconds(self.spec.grace)) {
            Ok(outcome) => (outcome, Over::Yes),
            Err(RecvTimeoutError::Disconnected) => (lost(), Over::Yes),
            Err(RecvTimeoutError::Timeout) => {
                let end = self.over_limit();
                let code = end.code();
                host.flush();
                drop(self.leave(Some(end), host.reached(), code));
                leave_process(code)
            }
        }
    }

    fn over_limit(&self) -> End {
        let limit = duration(self.spec.time_limit.unwrap_or_default());
        End {
            cause: Cause::TimeLimit,
            message: format!("ran past its time limit of {limit}"),
            hint: Some("raise `time-limit`, or run again to go on from its last snapshot".into()),
        }
    }
}

/// What a stage's thread ended with: its result, or a panic's payload.
type Outcome = Result<Result<(), StageError>, Box<dyn Any + Send>>;

/// Whether a stage was asked to stop for its time limit.
enum Over {
    Yes,
    No,
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// Ends the process although the stage's thread still runs, since it does not listen.
#[expect(
    clippy::exit,
    reason = "a thread that ignores the wish to stop can only be ended with its process"
)]
fn leave_process(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

/// Where the first panic of the present action was, which its payload does not hold.
static PANICKED_AT: Mutex<Option<String>> = Mutex::new(None);

fn panicked_at() -> MutexGuard<'static, Option<String>> {
    PANICKED_AT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the panic hook note places, from now on for this action. A process has one action at a time, and one hook
/// however many follow each other.
fn note_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location();
            let place = place.map(|l| format!("{}:{}", l.file(), l.line()));
            // The first panic is the cause; others may follow from it.
            let mut kept = panicked_at();
            *kept = kept.take().or(place);
            drop(kept);
            before(info);
        }));
    });
    *panicked_at() = None;
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    let place = panicked_at().take();
    let place = place.map(|p| format!(" at {p}")).unwrap_or_default();
    format!("panicked{place}: {text}")
}
