use std::collections::BTreeSet;

use clap::Args;
use starling::exit;
use starling::run::{Manifest, clock};
use starling_cache::{CollectOptions, CollectedItem, Keep, LocalStore, Store as _, collect};

use super::output::{self, Failure};
use super::session::Session;
use super::show::size;

/// Delete what nothing needs any more from the store
///
/// Results of stages are kept unless `--keep-runs` says otherwise; snapshots of finished stages,
/// unfinished leftovers and unnamed files go. Pinned results always stay.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Delete nothing; list what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Keep only the results that the newest N runs used
    #[arg(long, value_name = "N")]
    keep_runs: Option<usize>,
    /// Leave unnamed files younger than this alone; they may be about to be named
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    grace: u32,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let store = session.existing_store()?;
        let keep = match self.keep_runs {
            None => Keep::All,
            Some(n) => Keep::Actions(used(&store, n)?),
        };
        let options = CollectOptions {
            keep,
            dry_run: self.dry_run,
            now_unix: clock::now_unix(),
            grace_seconds: f64::from(self.grace),
        };
        let collected = collect(&store, &options)?;
        for (item, bytes) in &collected.items {
            let what = match item {
                CollectedItem::Action { key, stage } => {
                    format!("result    {}  of stage {stage}", key.short())
                }
                CollectedItem::Blob(digest) => format!("file      {}", digest.short()),
                CollectedItem::Snapshots(key) => format!("snapshots {}", key.short()),
                CollectedItem::File(path) => format!("leftover  {}", path.display()),
            };
            output::data(&format!("{:>10}  {what}\n", size(*bytes)));
        }
        output::story(&format!(
            "{} {}, {} {}",
            if self.dry_run { "would free" } else { "freed" },
            size(collected.freed),
            if self.dry_run { "would keep" } else { "kept" },
            size(collected.kept)
        ));
        Ok(exit::DONE)
    }
}

/// The actions of the newest `n` runs.
fn used(store: &LocalStore, n: usize) -> Result<BTreeSet<starling_cache::ActionKey>, Failure> {
    let mut used = BTreeSet::new();
    for run in store.runs()?.iter().rev().take(n) {
        let manifest = Manifest::read(store, run)?.ok_or_else(|| {
            let text = format!("the manifest of run {run} cannot be read, so nothing was deleted");
            Failure::new(exit::CACHE, text)
        })?;
        let keys = manifest.stages.iter().filter_map(|s| s.key.as_ref());
        used.extend(keys.filter_map(|key| key.parse::<starling_cache::ActionKey>().ok()));
    }
    Ok(used)
}
