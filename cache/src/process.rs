//! Which process owns something, and whether it still lives.
//!
//! A process is named by host, boot, process-id namespace, number and start time, so that a reused number is not
//! mistaken for its predecessor. Where the system does not tell (no `/proc`), nothing is ever called dead here, and
//! a stale beat decides.

use std::fs;

use serde::{Deserialize, Serialize};

/// A process that holds something in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The host's name.
    pub host: String,
    /// Identity of the boot, or empty where unknown.
    pub boot: String,
    /// The process-id namespace, or empty where unknown.
    pub namespace: String,
    /// The process number within the namespace.
    pub pid: u32,
    /// When the process started, in the system's ticks since boot, or 0 where unknown.
    pub start: u64,
}

/// Whether a process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Liveness {
    /// It runs on this host.
    Alive,
    /// It ended, or its host was started anew.
    Dead,
    /// It belongs to another host or container; only its beat can tell.
    Unknown,
}

impl Owner {
    /// This process.
    #[must_use]
    pub fn current() -> Self {
        let pid = std::process::id();
        Self {
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .map(|id| id.trim().to_owned())
                .unwrap_or_default(),
            namespace: fs::read_link("/proc/self/ns/pid")
                .map(|link| link.to_string_lossy().into_owned())
                .unwrap_or_default(),
            pid,
            start: start_of(pid).unwrap_or(0),
        }
    }

    /// Another process of this host and namespace, if it runs.
    #[must_use]
    pub fn of_process(pid: u32) -> Option<Self> {
        let start = start_of(pid)?;
        Some(Self {
            pid,
            start,
            ..Self::current()
        })
    }

    /// Whether the process still lives, as far as `observer` (usually [`Owner::current`]) can see.
    #[must_use]
    pub fn liveness(&self, observer: &Self) -> Liveness {
        let unknown = self.boot.is_empty() || self.start == 0 || observer.start == 0;
        if unknown {
            Liveness::Unknown
        } else if self.boot != observer.boot {
            // The same host after a new start: whatever ran before is gone.
            if self.host == observer.host {
                Liveness::Dead
            } else {
                Liveness::Unknown
            }
        } else if self.namespace != observer.namespace {
            Liveness::Unknown
        } else if start_of(self.pid) == Some(self.start) {
            Liveness::Alive
        } else {
            Liveness::Dead
        }
    }
}

/// Start time of a process that runs, in ticks since boot; a zombie has ended.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold anything, spaces and parentheses included.
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after_name..])
        .ok()?
        .split_ascii_whitespace();
    let state = fields.next()?;
    // Field 22 of the whole line; the state is field 3.
    let start = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X" | "x")).then_some(start)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn this_process_lives() {
        let me = Owner::current();
        assert_ne!(me.start, 0);
        assert_eq!(me.liveness(&me), Liveness::Alive);
        assert_eq!(Owner::of_process(me.pid), Some(me));
    }

    #[test]
    fn an_ended_process_is_dead_even_before_it_was_waited_for() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let owner = Owner::of_process(child.id()).unwrap();
        let me = Owner::current();
        assert_eq!(owner.liveness(&me), Liveness::Alive);
        child.kill().unwrap();
        while owner.liveness(&me) == Liveness::Alive {
            std::thread::yield_now();
        }
        assert_eq!(owner.liveness(&me), Liveness::Dead);
        child.wait().unwrap();
        assert_eq!(owner.liveness(&me), Liveness::Dead);
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let me = Owner::current();
        let before = Owner {
            start: me.start + 1,
            ..me.clone()
        };
        assert_eq!(before.liveness(&me), Liveness::Dead);
    }

    #[test]
    fn other_hosts_and_containers_are_unknown_and_other_boots_dead() {
        let me = Owner::current();
        let elsewhere = Owner {
            host: "other".into(),
            boot: "b".into(),
            ..me.clone()
        };
        assert_eq!(elsewhere.liveness(&me), Liveness::Unknown);
        let container = Owner {
            namespace: "pid:[1]".into(),
            ..me.clone()
        };
        assert_eq!(container.liveness(&me), Liveness::Unknown);
        let last_boot = Owner {
            boot: "b".into(),
            ..me.clone()
        };
        assert_eq!(last_boot.liveness(&me), Liveness::Dead);
    }
}
