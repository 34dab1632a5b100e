//! `starling run-stage`: the worker, which the engine starts.

use clap::Args;
use starling::run::worker;
use starling_cache::Digest;
use starling_contract::Shard;

use super::session::Session;

/// Run one action from its spec in the store; `run` starts this
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct Arguments {
    /// The spec, a blob of the store
    #[arg(long, value_name = "DIGEST", required_unless_present = "serve")]
    spec: Option<Digest>,
    /// Which attempt this is, from 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    attempt: u32,
    /// Do only a share of its chunks
    #[arg(long, value_name = "N/OF", value_parser = worker::parse_shard)]
    shard: Option<Shard>,
    /// Run one light action after another, as told on stdin
    #[arg(long, conflicts_with_all = ["spec", "shard"])]
    serve: bool,
    /// Do all of the work beside a result that is there, and leave the record with the attempt
    #[arg(long, conflicts_with = "shard")]
    beside: bool,
    /// End when stdin does
    #[arg(long)]
    tether: bool,
}

impl Arguments {
    /// `store` is the URL given as `--store`, which every command takes.
    pub(crate) fn run(self, store: &str, session: &Session) -> u8 {
        let request = match self.spec {
            Some(spec) if !self.serve => worker::Request::Action {
                spec,
                attempt: self.attempt,
                shard: self.shard,
                beside: self.beside,
            },
            _ => worker::Request::Serve,
        };
        worker::main(store, &request, self.tether, &session.registry)
    }
}
