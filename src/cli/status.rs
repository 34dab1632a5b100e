//! `starling status`: what runs now.

use clap::Args;
use serde_json::{Value, json};
use starling::exit;
use starling::report::duration;
use starling::run::{RunningStage, Status, clock};
use starling_cache::{Liveness, Owner, Store as _};

use super::output::{self, Failure};
use super::session::Session;

/// Show what runs in the store now: since when, how far, and when it will probably end
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let store = session.existing_store()?;
        let me = Owner::current();
        let mut running = Vec::new();
        for run in store.runs()? {
            let status = Status::read(&store, &run)?;
            running.extend(status.filter(|s| s.owner.liveness(&me) != Liveness::Dead));
        }
        // A run that ended well says so in its manifest; its process may live on for something else.
        let mut live = Vec::new();
        for status in running {
            let manifest = starling::run::Manifest::read(&store, &status.run)?;
            if manifest.is_none_or(|manifest| manifest.code.is_none()) {
                live.push(status);
            }
        }
        if self.json {
            output::json(&Value::from_iter(live.iter().map(|s| json!(s))));
            return Ok(exit::DONE);
        }
        if live.is_empty() {
            output::story("nothing runs; `starling runs` lists what ran");
        }
        for status in &live {
            output::data(&text(status, clock::now_unix()));
        }
        Ok(exit::DONE)
    }
}

fn text(status: &Status, now: f64) -> String {
    let since = duration(now - status.started_unix);
    let mut text = format!(
        "{}  {}: {} of {} stages done, for {since}, process {} on {}\n",
        status.run,
        status.pipeline,
        status.done,
        status.stages,
        status.owner.pid,
        status.owner.host,
    );
    if status.failed > 0 {
        text.push_str(&format!("  {} failed or blocked\n", status.failed));
    }
    let width = status.running.iter().map(|s| s.stage.len()).max();
    for stage in &status.running {
        text.push_str(&format!(
            "  {}\n",
            line(stage, width.unwrap_or(0), status.told_unix, now)
        ));
    }
    if now - status.told_unix > 60.0 {
        let ago = duration(now - status.told_unix);
        text.push_str(&format!("  it last said something {ago} ago\n"));
    }
    text
}

fn line(stage: &RunningStage, width: usize, told: f64, now: f64) -> String {
    let far = match (stage.done, stage.total, &stage.unit) {
        (Some(done), Some(total), Some(unit)) => format!("{done} of {total} {unit}"),
        _ => "has not said how far it is".to_owned(),
    };
    let figure = if stage.figure.is_empty() {
        String::new()
    } else {
        format!(", {}", stage.figure)
    };
    let left = stage
        .seconds_left(told)
        .map(|left| format!(", {} left", duration((left - (now - told)).max(0.0))))
        .unwrap_or_default();
    let cards = match &stage.cards[..] {
        [] => String::new(),
        [one] => format!(", on card {one}"),
        several => format!(", on cards {}", several.join(" ")),
    };
    format!(
        "{:width$}  {}  {far}{figure}{cards}, for {}{left}",
        stage.stage,
        stage.key.short(),
        duration(now - stage.started_unix),
    )
}
