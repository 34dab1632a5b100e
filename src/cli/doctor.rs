//! `starling doctor`: whether this machine and a store are fit for work, and how fast.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};
use starling::exit;
use starling::report::size;
use starling::run::{clock, numerics};
use starling_cache::{Liveness, LocalStore, Owner, Store as _};

use super::output::{self, Failure};
use super::session::Session;
use crate::tools::speed;

/// Look whether this machine and the store are fit for work; exits 5 when the store is not
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// Measure instead how fast this machine computes what language models need, and what share that is of the most it
    /// was measured to do; takes some ten seconds
    #[arg(long)]
    bench: bool,
}

/// Less free space than this is worth a word.
const LITTLE: u64 = 5_000_000_000;

/// What was looked at.
struct Finding {
    what: &'static str,
    figure: String,
    /// What is wrong and what to do about it.
    trouble: Option<String>,
}

impl Finding {
    fn good(what: &'static str, figure: impl Into<String>) -> Self {
        Self {
            what,
            figure: figure.into(),
            trouble: None,
        }
    }

    fn or(self, trouble: Option<String>) -> Self {
        Self { trouble, ..self }
    }
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        if self.bench {
            return speed::print(self.json);
        }
        let mut found = machine();
        let store = session.store();
        let usable = match &store {
            Ok(store) => {
                found.push(Finding::good("store", store.root().display().to_string()));
                found.extend(of_store(store)?);
                found
                    .iter()
                    .all(|f| f.what != "writing" || f.trouble.is_none())
            }
            Err(failure) => {
                let trouble = Some(failure.text().to_owned());
                found.push(Finding::good("store", "cannot be used").or(trouble));
                false
            }
        };
        if self.json {
            let findings = found
                .iter()
                .map(|f| json!({"what": f.what, "figure": f.figure, "trouble": f.trouble}));
            output::json(&Value::from_iter(findings));
        } else {
            for f in &found {
                output::data(&format!("{:>12}  {}\n", f.what, f.figure));
                if let Some(trouble) = &f.trouble {
                    output::data(&format!("{:>12}  {trouble}\n", "!"));
                }
            }
        }
        Ok(if usable { exit::DONE } else { exit::CACHE })
    }
}

fn machine() -> Vec<Finding> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("MemAvailable:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
    let memory = memory.map_or("not told".to_owned(), |kib| {
        format!("{} free", size(kib * 1024))
    });
    let gpus = std::fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, Iterator::count);
    vec![
        Finding::good("starling", env!("CARGO_PKG_VERSION")),
        Finding::good("cores", cores.to_string()),
        Finding::good("memory", memory),
        Finding::good("GPUs", gpus.to_string()),
        Finding::good("numerics", numerics::class("cpu")),
    ]
}

fn of_store(store: &LocalStore) -> Result<Vec<Finding>, Failure> {
    let free = store.free_space()?;
    let little = (free < LITTLE)
        .then(|| "little is left; `starling gc --dry-run` shows what could go".to_owned());
    let mut found = vec![
        writing(store),
        Finding::good("disk", format!("{} free", size(free))).or(little),
        Finding::good("placing", store.placing()?.to_owned()),
    ];
    found.push(Finding::good("results", store.actions()?.len().to_string()));
    let me = Owner::current();
    let mut live = 0;
    for run in store.runs()? {
        let status = starling::run::Status::read(store, &run)?;
        live += usize::from(status.is_some_and(|s| s.owner.liveness(&me) == Liveness::Alive));
    }
    found.push(Finding::good("runs now", live.to_string()));
    found.push(clocks(store.root()));
    Ok(found)
}

fn writing(store: &LocalStore) -> Finding {
    match store.put_bytes(b"starling doctor\n") {
        Ok(_) => Finding::good("writing", "works"),
        Err(error) => Finding::good("writing", "fails").or(Some(output::chain(&error))),
    }
}

/// Whether the filesystem's clock is this machine's: one that is far off makes every remembered digest useless.
fn clocks(root: &Path) -> Finding {
    let probe = tempfile::NamedTempFile::new_in(root.join("tmp"));
    let modified = probe.and_then(|file| file.as_file().metadata()?.modified());
    let Ok(modified) = modified else {
        return Finding::good("clocks", "cannot be compared");
    };
    let there = modified
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64());
    let apart = (clock::now_unix() - there).abs();
    let trouble = (apart > 1.0).then(|| {
        "the clock of the store's filesystem differs; files are digested again more often than need be".to_owned()
    });
    Finding::good("clocks", format!("{apart:.2} s apart")).or(trouble)
}
