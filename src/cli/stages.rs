//! `starling stages`: the kinds, and the ports and parameters of one.

use clap::{Args, Subcommand};
use serde_json::json;
use starling::{describe, exit, suggest};

use super::output::{self, Failure};
use super::session::Session;

/// List the kinds of stage, or show one: its ports and parameters
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the ports and parameters of a kind
    Show {
        /// The kind
        kind: String,
    },
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let registry = &session.registry;
        let Some(Command::Show { kind: name }) = self.command else {
            if self.json {
                let kinds: Vec<_> = registry.iter().map(describe::kind_json).collect();
                output::json(&json!(kinds));
            } else {
                output::data(&describe::list(registry));
            }
            return Ok(exit::DONE);
        };
        let kind = registry.get(&name).ok_or_else(|| {
            let help = match suggest::nearest(&name, registry.names()) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => "; `starling stages` lists them".to_owned(),
            };
            Failure::usage(format!("there is no kind `{name}`{help}"))
        })?;
        if self.json {
            output::json(&describe::kind_json(kind));
        } else {
            output::data(&describe::kind(kind));
        }
        Ok(exit::DONE)
    }
}
