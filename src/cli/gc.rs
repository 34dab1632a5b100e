//! `starling gc`: deletes what nothing needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};
use starling::exit;
use starling::report::{duration, size};
use starling::run::{CHUNK_KIND, Manifest, abandoned, clock};
use starling_cache::{
    ActionKey, CollectOptions, CollectedItem, Keep, LocalStore, Store as _, collect,
};

use super::output::{self, Failure};
use super::session::Session;

/// Delete what nothing needs any more from the store
///
/// Results of stages are kept unless `--keep-runs` or `--max-size` says otherwise; unfinished leftovers and unnamed
/// files go. Snapshots stay as long as a stage may go on from them: those of unfinished stages, and of finished ones
/// those that they left for others. Pinned results always stay.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Delete nothing; list what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Keep only the results that the newest N runs used
    #[arg(long, value_name = "N")]
    keep_runs: Option<usize>,
    /// Keep results up to this size in all, those of the newest runs first; for example `50GB`
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "keep_runs")]
    max_size: Option<u64>,
    /// Delete the snapshots of finished stages, too; to go on from where such a stage stopped takes its time again
    #[arg(long)]
    drop_snapshots: bool,
    /// Leave unnamed files younger than this alone; they may be about to be named
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    grace: u32,
    /// Print what was deleted as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let store = session.existing_store()?;
        let used = last_use(&store)?;
        let keep = match (self.keep_runs, self.max_size) {
            (Some(n), _) => Keep::Actions(of_newest(&store, &used, n)?),
            (None, Some(most)) => Keep::Actions(that_fit(&store, &used, most)?),
            (None, None) => Keep::All,
        };
        let options = CollectOptions {
            keep,
            // What can be made again from a result goes before the results.
            keep_snapshots: !self.drop_snapshots && self.max_size.is_none(),
            dry_run: self.dry_run,
            now_unix: clock::now_unix(),
            grace_seconds: f64::from(self.grace),
        };
        let mut collected = collect(&store, &options)?;
        for folder in abandoned(&store)? {
            let bytes = bytes_in(&folder);
            if !self.dry_run {
                fs::remove_dir_all(&folder).map_err(|error| {
                    let text = format!("cannot remove {}: {error}", folder.display());
                    Failure::new(exit::CACHE, text)
                })?;
            }
            collected.freed += bytes;
            collected.items.push((CollectedItem::File(folder), bytes));
        }
        let items = collected.items.iter();
        if self.json {
            let items: Vec<Value> = items
                .map(|(item, bytes)| value(item, *bytes, &used))
                .collect();
            output::json(&json!({
                "dry-run": self.dry_run,
                "items": items,
                "freed": collected.freed,
                "kept": collected.kept,
            }));
            return Ok(exit::DONE);
        }
        for (item, bytes) in items {
            output::data(&format!("{:>10}  {}\n", size(*bytes), words(item, &used)));
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

/// What the files below a folder take; what is linked into it from the store takes nothing.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
        Ok(meta) if meta.nlink() == 1 => meta.len(),
        _ => 0,
    };
    entries.map(size).sum()
}

/// Bytes as a person writes them: `800MB`, `50 GB`, `1000000`.
fn parse_size(text: &str) -> Result<u64, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err("expected a size such as `800MB` or `50GB`".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a size such as `50GB`".to_owned())?;
    number
        .checked_mul(factor)
        .ok_or_else(|| "too large".to_owned())
}

/// The newest run that used each action, with the run's place among all.
fn last_use(store: &LocalStore) -> Result<BTreeMap<ActionKey, (usize, String)>, Failure> {
    let mut used = BTreeMap::new();
    for (place, run) in store.runs()?.into_iter().enumerate() {
        let manifest = Manifest::read(store, &run)?.ok_or_else(|| {
            let text = format!("the manifest of run {run} cannot be read, so nothing was deleted");
            Failure::new(exit::CACHE, text)
        })?;
        for stage in &manifest.stages {
            used.extend(stage.key.map(|key| (key, (place, run.clone()))));
        }
    }
    Ok(used)
}

type Used = BTreeMap<ActionKey, (usize, String)>;

/// The actions that the newest `n` runs used, and chunks that were made since the oldest of these began: a stage
/// that is not finished goes on from them.
fn of_newest(store: &LocalStore, used: &Used, n: usize) -> Result<BTreeSet<ActionKey>, Failure> {
    let runs = store.runs()?;
    let first = runs.len().saturating_sub(n);
    let since = match runs.get(first) {
        Some(run) => Manifest::read(store, run)?.map_or(0.0, |manifest| manifest.started_unix),
        None => f64::INFINITY,
    };
    let newest = used.iter().filter(|(_, (place, _))| *place >= first);
    let mut keep: BTreeSet<ActionKey> = newest.map(|(key, _)| *key).collect();
    for key in store.actions()? {
        if let Some(record) = store.action(&key)?
            && record.kind.ends_with(CHUNK_KIND)
            && record.started_unix >= since
        {
            keep.insert(key);
        }
    }
    Ok(keep)
}

/// The actions that fit into so many bytes: those of the newest runs first, chunks of finished stages last.
fn that_fit(store: &LocalStore, used: &Used, most: u64) -> Result<BTreeSet<ActionKey>, Failure> {
    let mut records = Vec::new();
    for key in store.actions()? {
        records.extend(store.action(&key)?);
    }
    records.sort_by(|a, b| {
        let place = |key: &ActionKey| used.get(key).map(|(place, _)| *place);
        place(&b.key)
            .cmp(&place(&a.key))
            .then(b.started_unix.total_cmp(&a.started_unix))
    });
    let (mut seen, mut total, mut keep) = (BTreeSet::new(), 0_u64, BTreeSet::new());
    for record in records {
        let new = record
            .outputs
            .values()
            .filter(|output| !seen.contains(&output.digest));
        let bytes: u64 = new.map(|output| output.bytes).sum();
        if total.saturating_add(bytes) > most {
            continue;
        }
        total += bytes;
        seen.extend(record.outputs.values().map(|output| output.digest));
        keep.insert(record.key);
    }
    Ok(keep)
}

fn words(item: &CollectedItem, used: &Used) -> String {
    match item {
        CollectedItem::Action {
            key,
            stage,
            seconds,
            artifacts,
        } => {
            let run = used.get(key).map_or("no run", |(_, run)| run);
            format!(
                "result    {}  of stage {stage}, {} of artifacts, {} to make again, last used by {run}",
                key.short(),
                size(*artifacts),
                duration(*seconds)
            )
        }
        CollectedItem::Blob(digest) => format!("file      {}", digest.short()),
        CollectedItem::Snapshots(key) => format!("snapshots {}", key.short()),
        CollectedItem::File(path) => format!("leftover  {}", path.display()),
    }
}

fn value(item: &CollectedItem, bytes: u64, used: &Used) -> Value {
    match item {
        CollectedItem::Action {
            key,
            stage,
            seconds,
            artifacts,
        } => json!({
            "result": key, "stage": stage, "bytes": bytes, "artifact-bytes": artifacts,
            "rebuild-seconds": seconds, "run": used.get(key).map(|(_, run)| run),
        }),
        CollectedItem::Blob(digest) => json!({"file": digest, "bytes": bytes}),
        CollectedItem::Snapshots(key) => json!({"snapshots": key, "bytes": bytes}),
        CollectedItem::File(path) => json!({"leftover": path, "bytes": bytes}),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("50GB"), Ok(50_000_000_000));
        assert_eq!(parse_size("1 mb"), Ok(1_000_000));
        assert_eq!(parse_size("7"), Ok(7));
        for wrong in ["", "GB", "5 apples", "99999999999999TB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
