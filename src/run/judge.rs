//! How an attempt ended: the action record is believed first, then `exit.json`, then the system.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use starling_cache::{ActionKey, ActionRecord, CacheError, Store};

use crate::exit;
use crate::report::{Cause, duration};
use crate::run::exit_record::ExitRecord;
use crate::run::process;

/// The end of an attempt.
pub(crate) enum Ended {
    /// Its outputs are in the store.
    Done(Box<ActionRecord>),
    /// It did its share of the chunks.
    Shard,
    /// It did what it was asked to: it stopped.
    Interrupted,
    /// No outputs.
    Failed(Why),
}

/// Why there are no outputs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Why {
    pub(crate) cause: Cause,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) reached: Option<String>,
}

/// What the engine knows of a worker that ended.
pub(crate) struct Observed {
    pub(crate) status: ExitStatus,
    /// The engine asked it to stop.
    pub(crate) asked: bool,
    /// The engine killed it for this limit.
    pub(crate) over: Option<Duration>,
    pub(crate) started_unix: f64,
    pub(crate) seconds: f64,
    /// The most memory seen, in bytes.
    pub(crate) peak: u64,
}

/// Decides how an attempt ended, and writes its `exit.json` where the worker could not.
pub(crate) fn judge(
    store: &dyn Store,
    key: &ActionKey,
    attempt: u32,
    observed: &Observed,
) -> Result<Ended, CacheError> {
    if let Some(record) = store.action(key)? {
        return Ok(Ended::Done(Box::new(record)));
    }
    if let Some(left) = ExitRecord::read(store, key, attempt)? {
        return Ok(of_record(left, observed));
    }
    let log = store.attempt_log(key, attempt);
    let tail = log.as_deref().map(process::tail).unwrap_or_default();
    let why = of_status(observed, &tail);
    let record = ExitRecord {
        code: observed.status.code(),
        signal: observed.status.signal(),
        cause: Some(why.cause.clone()),
        message: why.message.clone(),
        hint: why.hint.clone(),
        reached: None,
        shard: None,
        started_unix: observed.started_unix,
        seconds: observed.seconds,
        max_rss_bytes: observed.peak,
        stderr_tail: tail,
    };
    record.write(store, key, attempt)?;
    if observed.asked && why.cause != Cause::TimeLimit {
        return Ok(Ended::Interrupted);
    }
    Ok(Ended::Failed(why))
}

fn of_record(left: ExitRecord, observed: &Observed) -> Ended {
    match left.cause {
        Some(Cause::Interrupted) if observed.asked => Ended::Interrupted,
        Some(Cause::Interrupted) => Ended::Failed(Why {
            cause: Cause::Interrupted,
            message: "somebody outside this run stopped its worker".to_owned(),
            hint: None,
            reached: left.reached,
        }),
        Some(cause) => Ended::Failed(Why {
            cause,
            message: left.message,
            hint: left.hint,
            reached: left.reached,
        }),
        None if left.shard.is_some() => Ended::Shard,
        // The worker created a record, and it or a blob of it is gone again.
        None => Ended::Failed(Why {
            cause: Cause::Store,
            message: "its outputs were published, yet the store does not have them".to_owned(),
            hint: Some(
                "`starling verify` shows what is damaged; run again to repair it".to_owned(),
            ),
            reached: left.reached,
        }),
    }
}

fn of_status(observed: &Observed, tail: &str) -> Why {
    let why = |cause, message, hint: Option<&str>| Why {
        cause,
        message,
        hint: hint.map(str::to_owned),
        reached: None,
    };
    if let Some(limit) = observed.over {
        let limit = duration(limit.as_secs_f64());
        return why(
            Cause::TimeLimit,
            format!("ran past its time limit of {limit} and did not stop when asked"),
            Some("raise `time-limit`, or run again to go on from its last snapshot"),
        );
    }
    let megabytes = observed.peak / 1_000_000;
    let last = tail
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(|line| {
            format!(
                "; its last words: {}",
                line.chars().take(200).collect::<String>()
            )
        })
        .unwrap_or_default();
    match (observed.status.signal(), observed.status.code()) {
        (Some(9), _) => why(
            Cause::Signal { number: 9 },
            format!(
                "was killed (signal 9), most likely by the system for memory; peak {megabytes} MB"
            ),
            Some("give it less to hold at once, or run fewer stages together (`--threads`)"),
        ),
        (Some(number), _) => why(
            Cause::Signal { number },
            format!(
                "was ended by signal {number} ({}){last}",
                process::signal_name(number)
            ),
            None,
        ),
        (None, code) => {
            let code = code.unwrap_or(i32::from(exit::BUG));
            why(
                Cause::Exit { code },
                format!("its worker left with code {code}{last}"),
                None,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(raw: i32) -> Observed {
        Observed {
            status: ExitStatus::from_raw(raw),
            asked: false,
            over: None,
            started_unix: 0.0,
            seconds: 1.0,
            peak: 512_000_000,
        }
    }

    #[test]
    fn the_system_is_put_into_words() {
        let kill = of_status(&observed(9), "");
        assert_eq!(
            kill.message,
            "was killed (signal 9), most likely by the system for memory; peak 512 MB"
        );
        let abort = of_status(&observed(6), "one\ntwo \n\n");
        assert_eq!(
            abort.message,
            "was ended by signal 6 (abort); its last words: two"
        );
        let code = of_status(&observed(5 << 8), "no store\n");
        assert_eq!(
            code.message,
            "its worker left with code 5; its last words: no store"
        );
        assert_eq!(code.cause, Cause::Exit { code: 5 });
    }

    #[test]
    fn a_kill_of_ours_is_not_blamed_on_memory() {
        let mut late = observed(9);
        late.over = Some(Duration::from_secs(90));
        let why = of_status(&late, "");
        assert_eq!(why.cause, Cause::TimeLimit);
        assert!(why.message.contains("1 min 30 s"), "{}", why.message);
    }
}
