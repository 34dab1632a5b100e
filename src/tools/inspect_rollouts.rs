//! `starling inspect rollouts`: the answers that a training kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use starling::exit;
use starling_cache::Store as _;
use starling_text::json::{self, Value};

use super::files;
use crate::cli::output::{self, Failure};
use crate::cli::session::{About, Session, output_of};

/// The file that lists the others.
const INDEX: &str = "samples.json";
/// Characters of an answer that stand in a line.
const SHOWN: usize = 60;

/// Show what a policy answered in training, and what it earned
///
/// Reads the output `samples` of a stage of kind `rl`: every answer, also of groups that were left out. What fits all
/// that is asked for is shown, a line each; the sums over it are told behind.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A folder of answers, or STAGE.PORT of the pipeline; the port may be left out
    artifact: String,
    /// Only this update, from 1
    #[arg(long, value_name = "N")]
    update: Option<i64>,
    /// Only answers to this row
    #[arg(long, value_name = "ROW")]
    id: Option<String>,
    /// Only rewards of at least this
    #[arg(long, value_name = "REWARD", allow_negative_numbers = true)]
    min_reward: Option<f64>,
    /// Only rewards of at most this
    #[arg(long, value_name = "REWARD", allow_negative_numbers = true)]
    max_reward: Option<f64>,
    /// Only answers that this rule cost everything, for example `unknown-tool`; `any` for all of these
    #[arg(long, value_name = "RULE")]
    failed: Option<String>,
    /// Only answers that were learned from
    #[arg(long, conflicts_with = "filtered")]
    accepted: bool,
    /// Only answers of groups that were left out
    #[arg(long)]
    filtered: bool,
    /// Show at most so many; the sums are over all that fit
    #[arg(long, value_name = "N", default_value_t = 50, conflicts_with = "json")]
    limit: usize,
    /// Print all rows that fit, whole, as JSON lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    about: About,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let shards = self.shards(session)?;
        let limit = if self.json { usize::MAX } else { self.limit };
        let mut sums = Sums::default();
        for shard in shards {
            if self.update.is_some_and(|update| !shard.holds(update)) {
                continue;
            }
            let mut reader = files::open(&shard.path)?;
            while let Some((_, row)) = reader.next_row().map_err(|e| files::failure(&e))? {
                if !self.fits(&row) {
                    continue;
                }
                sums.add(&row);
                if sums.count > limit {
                    continue;
                }
                output::data(&match self.json {
                    true => format!("{}\n", json::dumps(&row)),
                    false => line(&row),
                });
            }
        }
        output::story(&sums.text(limit));
        Ok(exit::DONE)
    }

    fn fits(&self, row: &Value) -> bool {
        let whole = |name: &str| row.get(name).and_then(Value::as_i64);
        let text = |name: &str| row.get(name).and_then(Value::as_str);
        let reward = row.get("reward").and_then(Value::as_f64);
        let reward = reward.unwrap_or(f64::NAN);
        let is_rule =
            |rule: &String| text("failed").is_some_and(|found| rule == "any" || rule == found);
        self.update
            .is_none_or(|update| whole("update") == Some(update))
            && self.id.as_ref().is_none_or(|id| text("id") == Some(id))
            && self.min_reward.is_none_or(|least| reward >= least)
            && self.max_reward.is_none_or(|most| reward <= most)
            && self.failed.as_ref().is_none_or(is_rule)
            && (!self.accepted || is_accepted(row))
            && (!self.filtered || text("filtered").is_some())
    }

    fn shards(&self, session: &Session) -> Result<Vec<Shard>, Failure> {
        let path = Path::new(&self.artifact);
        if path.join(INDEX).exists() {
            return self.listed(&|name: &str| Some(path.join(name)));
        }
        let absent = || {
            Failure::usage(format!(
                "`{}` is neither a folder with {INDEX} nor STAGE.PORT of the pipeline",
                self.artifact
            ))
        };
        let store = session.readable_store()?;
        let pipeline = session.about(&self.about, &store)?;
        let (stage, port) = match pipeline.find(&self.artifact) {
            Some(_) => (self.artifact.as_str(), "samples"),
            None => self.artifact.rsplit_once('.').ok_or_else(absent)?,
        };
        let number = pipeline.find(stage).ok_or_else(absent)?;
        let plan = session.plan(&pipeline, &store)?;
        let artifact = output_of(&pipeline, &plan, number, port)?;
        if !artifact.tree {
            return Err(absent());
        }
        let manifest = store.manifest(&artifact.digest)?;
        let files = manifest.files();
        let blobs: BTreeMap<&str, _> = files.map(|(name, digest, _)| (name, digest)).collect();
        self.listed(&|name: &str| store.blob_path(blobs.get(name)?))
    }

    /// The files that the index lists; `place` knows where a file is.
    fn listed(&self, place: &dyn Fn(&str) -> Option<PathBuf>) -> Result<Vec<Shard>, Failure> {
        let wrong =
            |what: String| Failure::new(exit::PIPELINE, format!("{}: {what}", self.artifact));
        let index = place(INDEX).ok_or_else(|| wrong(format!("holds no {INDEX}")))?;
        let text = std::fs::read_to_string(&index).map_err(|e| wrong(format!("{INDEX}: {e}")))?;
        let index = json::parse(&text).map_err(|e| wrong(format!("{INDEX}: {e}")))?;
        let shards = index.get("shards").and_then(Value::as_list);
        let shards = shards.ok_or_else(|| wrong(format!("{INDEX} lists no shards")))?;
        let shard = |shard: &Value| {
            let number = |name: &str| shard.get(name).and_then(Value::as_i64);
            Some(Shard {
                path: place(shard.get("file")?.as_str()?)?,
                first: number("first-update")?,
                last: number("last-update")?,
            })
        };
        let all: Option<Vec<Shard>> = shards.iter().map(shard).collect();
        all.ok_or_else(|| wrong(format!("{INDEX} lists what is not there")))
    }
}

/// A file of answers and the updates that it covers.
struct Shard {
    path: PathBuf,
    first: i64,
    last: i64,
}

impl Shard {
    fn holds(&self, update: i64) -> bool {
        (self.first..=self.last).contains(&update)
    }
}

fn is_accepted(row: &Value) -> bool {
    matches!(row.get("accepted"), Some(Value::Bool(true)))
}

/// An answer as a line.
fn line(row: &Value) -> String {
    let whole = |name: &str| row.get(name).and_then(Value::as_i64).unwrap_or(0);
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    let number = |name: &str| row.get(name).and_then(Value::as_f64);
    let advantage = number("advantage").map_or("      -".to_owned(), |a| format!("{a:>+7.3}"));
    let state = text("failed").or_else(|| text("filtered")).unwrap_or("");
    let answer = text("answer").unwrap_or_default().replace('\n', "↵");
    let mut shown: String = answer.chars().take(SHOWN).collect();
    if shown.len() < answer.len() {
        shown.push('…');
    }
    format!(
        "{:>5} {:>3}/{:<2} {:>7.3} {advantage}  {state:<16} {:<14} {shown}\n",
        whole("update"),
        whole("group"),
        whole("sample"),
        number("reward").unwrap_or(f64::NAN),
        text("id").unwrap_or_default(),
    )
}

/// Sums over what fits.
#[derive(Default)]
struct Sums {
    count: usize,
    accepted: usize,
    reward: f64,
    rules: BTreeMap<String, usize>,
}

impl Sums {
    fn add(&mut self, row: &Value) {
        self.count += 1;
        self.accepted += usize::from(is_accepted(row));
        self.reward += row.get("reward").and_then(Value::as_f64).unwrap_or(0.0);
        if let Some(rule) = row.get("failed").and_then(Value::as_str) {
            *self.rules.entry(rule.to_owned()).or_default() += 1;
        }
    }

    fn text(&self, limit: usize) -> String {
        let mut text = match self.count {
            0 => return "no answer fits".to_owned(),
            1 => "1 answer".to_owned(),
            n => format!("{n} answers"),
        };
        if self.count > limit {
            let _ = write!(text, ", the first {limit} are shown");
        }
        let mean = self.reward / self.count as f64;
        let _ = write!(
            text,
            "; {} learned from, mean reward {mean:.3}",
            self.accepted
        );
        let mut rules: Vec<(&String, &usize)> = self.rules.iter().collect();
        rules.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (at, (rule, count)) in rules.into_iter().enumerate() {
            let before = if at == 0 { "; failed: " } else { ", " };
            let _ = write!(text, "{before}{rule} {count}");
        }
        text
    }
}
