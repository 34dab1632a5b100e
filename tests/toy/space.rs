//! A folder to run pipelines in, and runs whose events can be followed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal};
use starling::report::RunEvent;
use starling_cache::{ActionKey, Digest, LocalStore, Store as _};
use tempfile::TempDir;

/// Longer than anything here takes on a loaded machine; only a hang reaches it.
const HANG: Duration = Duration::from_secs(120);

/// A folder with a pipeline and stores.
pub(crate) struct Space {
    folder: TempDir,
    /// Variables that the engine sees besides its own.
    pub(crate) env: Vec<(&'static str, String)>,
}

/// A finished run.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) events: Vec<RunEvent>,
}

/// A run under way.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    pub(crate) events: Vec<RunEvent>,
}

impl Space {
    pub(crate) fn new(pipeline: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("starling tëst ")
            .tempdir()
            .unwrap();
        let space = Self {
            folder,
            env: Vec::new(),
        };
        space.write(pipeline);
        space
    }

    pub(crate) fn write(&self, pipeline: &str) {
        std::fs::write(self.folder.path().join("p.toml"), pipeline).unwrap();
    }

    pub(crate) fn store_path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn store(&self, name: &str) -> LocalStore {
        LocalStore::open(&self.store_path(name)).unwrap()
    }

    pub(crate) fn start(&self, store: &str, more: &[&str]) -> Running {
        let mut child = Command::new(toy())
            .args(["run", "p.toml", "--json", "--store", store])
            .args(more)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                if sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        Running {
            child,
            lines,
            events: Vec::new(),
        }
    }

    pub(crate) fn run(&self, store: &str, more: &[&str]) -> Ran {
        self.start(store, more).finish()
    }

    /// Runs to the end, which must be good.
    pub(crate) fn complete(&self, store: &str) -> Ran {
        let ran = self.run(store, &[]);
        assert_eq!(ran.code, 0, "{:#?}", ran.events);
        ran
    }

    /// Every output in a store by action and port.
    pub(crate) fn digests(&self, store: &str) -> BTreeMap<(ActionKey, String), Digest> {
        let store = self.store(store);
        let keys = store.actions().unwrap();
        let records = keys.into_iter().map(|key| store.action(&key).unwrap());
        records
            .flat_map(|record| {
                let record = record.expect("the record and its blobs are whole");
                let key = record.key;
                record
                    .outputs
                    .into_iter()
                    .map(move |(port, output)| ((key, port), output.digest))
            })
            .collect()
    }

    /// How many attempts each action of a store took.
    pub(crate) fn attempts(&self, store: &str) -> Vec<usize> {
        let store = self.store(store);
        let keys = store.actions().unwrap();
        keys.iter()
            .map(|key| store.attempts(key).unwrap().len())
            .collect()
    }

    /// Folders that only running attempts may have.
    pub(crate) fn scratch_folders(&self, store: &str) -> Vec<PathBuf> {
        let attempts = self.store_path(store).join("attempts");
        let keys = std::fs::read_dir(attempts).unwrap();
        let folders = keys.flat_map(|key| std::fs::read_dir(key.unwrap().path()).unwrap());
        folders
            .map(|attempt| attempt.unwrap().path().join("scratch"))
            .filter(|folder| folder.exists())
            .collect()
    }

    /// Scratch folders that neither a further attempt removed nor `gc` would: whoever is killed between its record
    /// and its tidying leaves one to `gc`, since there is no further attempt.
    pub(crate) fn scratch_that_stays(&self, store: &str) -> Vec<PathBuf> {
        let abandoned = starling::run::abandoned(&self.store(store)).unwrap();
        let done = self.store(store).actions().unwrap();
        let mut folders = self.scratch_folders(store);
        folders.retain(|folder| {
            let key = folder
                .ancestors()
                .nth(2)
                .and_then(|f| f.file_name()?.to_str());
            let of_done = key.is_some_and(|key| done.iter().any(|d| d.to_string() == key));
            !(of_done && abandoned.contains(folder))
        });
        folders
    }
}

impl Running {
    /// Follows the run until an event for which `wanted` is true, or to its end.
    pub(crate) fn until(&mut self, mut wanted: impl FnMut(&RunEvent) -> bool) -> bool {
        loop {
            match self.lines.recv_timeout(HANG) {
                Ok(line) => {
                    let event: RunEvent =
                        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
                    let found = wanted(&event);
                    self.events.push(event);
                    if found {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {
                    self.child.kill().unwrap();
                    panic!("the run hangs: {:#?}", self.events.last());
                }
            }
        }
    }

    /// Follows the run until the stage's worker starts; its process.
    pub(crate) fn until_started(&mut self, name: &str) -> u32 {
        let found = self.until_started_or_over(name);
        assert_ne!(found, None, "{name} did not start: {:#?}", self.events);
        found.unwrap_or_default()
    }

    /// The same; none when the run ended without it.
    pub(crate) fn until_started_or_over(&mut self, name: &str) -> Option<u32> {
        let mut found = None;
        self.until(|event| match event {
            RunEvent::Started { stage, pid, .. } if stage == name => {
                found = Some(*pid);
                true
            }
            _ => false,
        });
        found
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Kills the engine outright; what it had told.
    pub(crate) fn kill(mut self) -> Vec<RunEvent> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        while let Ok(line) = self.lines.recv_timeout(HANG) {
            // The last line may be cut.
            self.events.extend(serde_json::from_str(&line).ok());
        }
        self.events
    }

    pub(crate) fn finish(mut self) -> Ran {
        self.until(|_| false);
        let mut stdout = String::new();
        let pipe = self.child.stdout.as_mut().unwrap();
        pipe.read_to_string(&mut stdout).unwrap();
        let status = self.child.wait().unwrap();
        Ran {
            code: status.code().expect("the engine was not killed"),
            stdout,
            events: self.events,
        }
    }
}

impl Ran {
    /// How often a stage went on from a snapshot.
    pub(crate) fn resumed(&self) -> usize {
        resumed(&self.events)
    }

    /// The stages that a worker was started for.
    pub(crate) fn started(&self) -> Vec<&str> {
        let names = self.events.iter().filter_map(|event| match event {
            RunEvent::Started { stage, .. } => Some(stage.as_str()),
            _ => None,
        });
        names.collect()
    }

    /// What was said about the failure of a stage.
    pub(crate) fn failure(&self, name: &str) -> &starling::report::Failure {
        let failure = self.events.iter().find_map(|event| match event {
            RunEvent::Failed(failure) if failure.stage == name => Some(failure),
            _ => None,
        });
        failure.unwrap_or_else(|| panic!("{name} did not fail: {:#?}", self.events))
    }
}

pub(crate) fn resumed(events: &[RunEvent]) -> usize {
    let what = |event: &&RunEvent| {
        matches!(
            event,
            RunEvent::Stage {
                what: starling_contract::Event::Resumed { .. },
                ..
            }
        )
    };
    events.iter().filter(what).count()
}

/// The processes of the workers of a run.
pub(crate) fn workers(events: &[RunEvent]) -> Vec<u32> {
    let pids = events.iter().filter_map(|event| match event {
        RunEvent::Started { pid, .. } => Some(*pid),
        _ => None,
    });
    pids.collect()
}

pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    match rustix::process::kill_process(pid, signal) {
        // It may have ended by itself meanwhile.
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Waits until a process has ended, though perhaps nobody has reaped it.
pub(crate) fn wait_until_dead(pid: u32) {
    let began = Instant::now();
    while is_alive(pid) {
        assert!(began.elapsed() < HANG, "process {pid} outlives its engine");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    !matches!(state, Some("Z" | "X"))
}

/// A number below `end` from a seed that the tests print, so that a failure can be had again.
pub(crate) fn random(seed: &mut u64, end: u64) -> u64 {
    *seed = seed.wrapping_add(1);
    let bytes = Digest::of(&seed.to_le_bytes()).to_string();
    u64::from_str_radix(&bytes[..12], 16).unwrap() % end
}

/// Another seed for every test process.
pub(crate) fn seed() -> u64 {
    u64::from(std::process::id()) << 20
}

/// The engine with toy kinds, an example that `cargo test` builds beside the tests.
///
/// `cargo test --test toy` alone does not, and then an old one would be tested.
pub(crate) fn toy() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let folder = me.parent().and_then(Path::parent).unwrap();
    let toy = folder.join("examples").join("toy");
    let built = std::fs::metadata(&toy)
        .and_then(|meta| meta.modified())
        .ok();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for sources in [
        "src/run",
        "src/report",
        "src/plan",
        "src/pipeline",
        "examples/toy",
        "stages/contract/src",
        "stages/src/command",
        "cache/src",
    ] {
        let newest = newest(&root.join(sources));
        assert!(
            built >= newest,
            "{sources} is newer than {}: `cargo build --example toy`",
            toy.display()
        );
    }
    toy
}

/// When the newest file of a folder was written.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap());
    let times = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => newest(&entry.path()),
        false => entry.metadata().unwrap().modified().ok(),
    });
    times.max().flatten()
}
