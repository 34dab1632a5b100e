use clap::Args;
use starling::exit;
use starling_cache::verify;

use super::output::{self, Failure};
use super::session::Session;
use super::show::size;

/// Read every byte of the store and report what is damaged; exits 7 when something is
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Set damaged things aside, so that the next run makes them again
    #[arg(long)]
    repair: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let store = session.existing_store()?;
        let found = verify(&store, self.repair)?;
        for damaged in &found.damaged {
            let (digest, bytes) = (damaged.digest, size(damaged.bytes));
            output::data(&format!("damaged file    {digest}  {bytes}\n"));
        }
        for broken in &found.broken {
            let mut line = format!("broken result   {}  of stage {}", broken.key, broken.stage);
            if let Some(damage) = &broken.damage {
                line.push_str(&format!(": {damage}"));
            }
            for (port, lost) in &broken.lost {
                line.push_str(&format!("; {} files of output {port} are lost", lost.len()));
            }
            output::data(&format!("{line}\n"));
        }
        for stranger in &found.strangers {
            output::data(&format!("unknown entry   {stranger}\n"));
        }
        output::story(&format!(
            "read {} files ({}) and {} results: {}",
            found.blobs,
            size(found.bytes),
            found.records,
            match (found.is_sound(), self.repair) {
                (true, _) => "all as they should be",
                (false, true) => "what was damaged is set aside; the next run makes it again",
                (false, false) =>
                    "damaged; `starling verify --repair` sets it aside to be made again",
            }
        ));
        Ok(if found.is_sound() {
            exit::DONE
        } else {
            exit::DIFFERS
        })
    }
}
