//! What the system tells about processes: signals, memory, logs.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use rustix::process::{Pid, Signal};

use crate::run::exit_record::TAIL_BYTES;

/// The most memory that a living process has held, in bytes; 0 where the system does not tell.
pub(crate) fn peak_memory(pid: u32) -> u64 {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return 0;
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib.saturating_mul(1024))
}

/// The end of a log, whole lines where it can be.
pub(crate) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    // A log that cannot be read leaves the record without its tail, nothing worse.
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// Signals one process; one that is gone is fine.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = to_pid(pid) {
        // Gone already is what was wanted.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Kills a process group, and so whatever a worker started.
pub(crate) fn kill_group(leader: u32) {
    if let Some(pid) = to_pid(leader) {
        // Gone already is what was wanted.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

/// Kills this process and, when it leads a group, all of the group.
pub(crate) fn kill_self() -> ! {
    let me = rustix::process::getpid();
    if rustix::process::getpgrp() == me {
        // Gone already is what was wanted.
        let _ = rustix::process::kill_current_process_group(Signal::KILL);
    }
    let _ = rustix::process::kill_process(me, Signal::KILL);
    std::process::abort()
}

pub(crate) fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// A signal's name for a person.
pub(crate) fn signal_name(number: i32) -> &'static str {
    match number {
        1 => "hang-up",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        6 => "abort",
        7 => "bus error",
        8 => "arithmetic error",
        9 => "kill",
        11 => "segmentation fault",
        13 => "broken pipe",
        15 => "terminate",
        24 => "processor time limit",
        25 => "file size limit",
        31 => "forbidden system call",
        _ => "signal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_memory() {
        assert!(peak_memory(std::process::id()) > 100_000);
        assert_eq!(peak_memory(u32::MAX), 0);
    }

    #[test]
    fn the_tail_is_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "a".repeat(100_000) + "end").unwrap();
        let tail = tail(&log);
        assert_eq!(tail.len() as u64, TAIL_BYTES);
        assert!(tail.ends_with("aend"));
    }

    #[test]
    fn no_log_has_no_tail() {
        assert_eq!(tail(Path::new("/nowhere/log")), "");
    }
}
