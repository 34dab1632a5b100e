use clap::Args;
use starling::run::worker;
use starling_cache::Digest;

use super::session::Session;

/// Run one action from its spec in the store; `run` starts this
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct Arguments {
    /// The store
    #[arg(long, value_name = "URL")]
    store: String,
    /// The spec, a blob of the store
    #[arg(long, value_name = "DIGEST")]
    spec: Digest,
    /// Which attempt this is, from 1
    #[arg(long, value_name = "N")]
    attempt: u32,
    /// End when stdin does
    #[arg(long)]
    tether: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> u8 {
        worker::main(
            &self.store,
            &self.spec,
            self.attempt,
            self.tether,
            &session.registry,
        )
    }
}
