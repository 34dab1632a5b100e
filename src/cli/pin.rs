//! `starling pin`: protects results from collection.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};
use starling::{exit, plan::Status};
use starling_cache::Pin;

use super::output::{self, Failure};
use super::session::{About, Session, stage};

/// Protect results from `gc`: the named stages as they are now, under a name of your choice
///
/// Without stages the pins are listed.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The pin's name; a pin of that name is replaced
    name: Option<String>,
    /// The stages whose results stay, with all that they were made of
    stages: Vec<String>,
    /// Remove the pin
    #[arg(long, requires = "name", conflicts_with = "stages")]
    remove: bool,
    /// Why, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    about: About,
    /// Print the pins as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let store = session.existing_store()?;
        if let (Some(name), true) = (&self.name, self.remove) {
            if !store.remove_pin(name)? {
                return Err(Failure::usage(format!(
                    "there is no pin `{name}`; `starling pin` lists them"
                )));
            }
            if self.json {
                output::json(&json!({"removed": name}));
            }
            return Ok(exit::DONE);
        }
        if let (Some(name), false) = (&self.name, self.stages.is_empty()) {
            let pin = Pin {
                actions: self.actions(session)?,
                blobs: BTreeSet::new(),
                reason: self.reason,
            };
            let count = pin.actions.len();
            store.put_pin(name, &pin)?;
            if self.json {
                output::json(&json!({"name": name, "pin": pin}));
            }
            output::story(&format!("{count} results stay under `{name}`"));
            return Ok(exit::DONE);
        }
        let pins = store.pins()?;
        if self.json {
            let values = pins
                .iter()
                .map(|(name, pin)| json!({"name": name, "pin": pin}));
            output::json(&Value::from_iter(values));
            return Ok(exit::DONE);
        }
        for (name, pin) in pins {
            let count = pin.actions.len() + pin.blobs.len();
            output::data(format!("{name}  {count} results  {}", pin.reason).trim_end());
            output::data("\n");
        }
        Ok(exit::DONE)
    }

    /// The actions of the stages and of everything that they read.
    fn actions(&self, session: &Session) -> Result<BTreeSet<starling_cache::ActionKey>, Failure> {
        let readable = session.readable_store()?;
        let pipeline = session.about(&self.about, &readable)?;
        let planned = session.plan(&pipeline, &readable)?;
        let mut wanted = Vec::new();
        for name in &self.stages {
            wanted.push(stage(&pipeline, name)?);
        }
        let (mut seen, mut actions) = (BTreeSet::new(), BTreeSet::new());
        while let Some(number) = wanted.pop() {
            if !seen.insert(number) {
                continue;
            }
            let Status::Cached(record) = &planned.stages[number].status else {
                let name = &pipeline.stages[number].name;
                return Err(Failure::usage(format!(
                    "stage `{name}` has no result to pin"
                )));
            };
            actions.insert(record.key);
            wanted.extend(
                pipeline.stages[number]
                    .inputs
                    .iter()
                    .map(|input| input.stage),
            );
        }
        Ok(actions)
    }
}
