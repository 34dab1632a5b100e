//! `starling new`: writes a pipeline to start from.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use starling::exit;

use super::output::{Failure, story};

const TEMPLATE: &str = include_str!("new.toml");

/// Write a commented pipeline to start from: two methods, three seeds, a table
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The file to write; one that exists is left alone
    #[arg(default_value = "pipeline.toml")]
    file: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let file = self.file.display();
        let cannot = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::usage(format!("{file} exists; name another file"))
            }
            _ => Failure::usage(format!("cannot write {file}: {e}")),
        };
        let mut new = std::fs::File::create_new(&self.file).map_err(cannot)?;
        new.write_all(TEMPLATE.as_bytes()).map_err(cannot)?;
        story(&format!(
            "wrote {file}; `starling plan {file}` says what it would run"
        ));
        Ok(exit::DONE)
    }
}
