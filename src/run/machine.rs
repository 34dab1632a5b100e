//! The machine as far as a run depends on it: cores, memory, system.

use std::fs;

use serde::{Deserialize, Serialize};
use starling_cache::Owner;

/// The machine of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Machine {
    /// Its name.
    pub host: String,
    /// The operating system and its version.
    pub system: String,
    /// The family of its instruction set.
    pub architecture: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory that this process may use, in bytes; 0 where the system does not tell.
    pub memory: u64,
}

impl Machine {
    pub(crate) fn of(owner: &Owner) -> Self {
        let system = rustix::system::uname();
        Self {
            host: owner.host.clone(),
            system: format!(
                "{} {}",
                system.sysname().to_string_lossy(),
                system.release().to_string_lossy()
            ),
            architecture: std::env::consts::ARCH.to_owned(),
            cores: cores(),
            memory: memory().unwrap_or(0),
        }
    }
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Memory that this process may use, in bytes: the machine's, or less where its control group is limited; none where
/// the system does not tell.
#[must_use]
pub fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let machine = meminfo(&text, "MemTotal:")?;
    let limits = ["memory.max", "memory/memory.limit_in_bytes"];
    let limits = limits.iter().filter_map(|name| {
        let text = fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?;
        // A group without a limit says `max`.
        text.trim().parse::<u64>().ok()
    });
    limits.chain([machine]).min()
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_meminfo_is_bytes() {
        let text = "MemTotal:       24000 kB\nMemFree:        1 kB\n";
        assert_eq!(meminfo(text, "MemTotal:"), Some(24_576_000));
        assert_eq!(meminfo(text, "MemFree:"), Some(1024));
        assert_eq!(meminfo(text, "Swap:"), None);
        assert_eq!(meminfo("MemTotal: many kB", "MemTotal:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_tells() {
        let machine = Machine::of(&Owner::current());
        assert!(machine.memory > 100 << 20, "{machine:?}");
        assert!(machine.cores > 0 && machine.system.contains("Linux"));
    }
}
