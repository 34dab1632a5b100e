//! `starling tensorboard`: where curves lie, or writes them.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use starling::exit;
use starling::plan::Status;
use starling_cache::Store as _;

use super::output::{self, Failure};
use super::session::{About, Session};

/// Say where the curves of the newest run are, or write those of finished stages for TensorBoard
///
/// A run writes its curves while it runs: `tensorboard --logdir "$(starling tensorboard)"` follows them. With `--out`
/// the curves of every finished stage of a pipeline are written into a folder, whichever run made them.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    about: About,
    /// Write into this folder, a folder a stage
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Of this run instead of the newest
    #[arg(long, value_name = "RUN", conflicts_with = "out")]
    run: Option<String>,
    /// Print the folders as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        match self.out.clone() {
            Some(out) => self.export(session, out),
            None => self.tell(session),
        }
    }

    fn tell(self, session: &Session) -> Result<u8, Failure> {
        let store = session.existing_store()?;
        let runs = store.runs()?;
        let folder = |run: &String| Some(store.run_folder(run)?.join(starling::board::FOLDER));
        let found = match &self.run {
            Some(run) => folder(run).filter(|folder| folder.exists()),
            None => runs.iter().rev().filter_map(folder).find(|f| f.exists()),
        };
        let Some(found) = found else {
            return Err(Failure::usage(match &self.run {
                Some(run) => format!("run {run} has no curves; `starling runs` lists the runs"),
                None => "no run of this store has curves; `--out FOLDER` writes those of finished stages"
                    .to_owned(),
            }));
        };
        let found = std::path::absolute(&found).unwrap_or(found);
        if self.json {
            output::json(&json!({"folder": found.display().to_string()}));
        } else {
            output::data(&format!("{}\n", found.display()));
        }
        Ok(exit::DONE)
    }

    fn export(self, session: &Session, out: PathBuf) -> Result<u8, Failure> {
        let store = session.readable_store()?;
        let pipeline = session.about(&self.about, &store)?;
        let planned = session.plan(&pipeline, &store)?;
        let mut written = Vec::new();
        for (stage, planned) in pipeline.stages.iter().zip(&planned.stages) {
            let (Status::Cached(record), Some(kind)) =
                (&planned.status, session.registry.get(&stage.kind))
            else {
                continue;
            };
            let folder = out.join(&stage.name);
            let drawn = starling::board::export(&*store, kind, record, &folder);
            let drawn = drawn.map_err(|(path, error)| {
                Failure::new(exit::CACHE, format!("{}: {error}", path.display()))
            })?;
            if drawn {
                written.push((stage.name.clone(), folder.display().to_string()));
            }
        }
        if self.json {
            let stages = written
                .iter()
                .map(|(stage, folder)| json!({"stage": stage, "folder": folder}));
            let folder = out.display().to_string();
            output::json(&json!({"folder": folder, "stages": stages.collect::<Vec<_>>()}));
        } else {
            for (_, folder) in &written {
                output::data(&format!("{folder}\n"));
            }
        }
        output::story(&format!(
            "wrote the curves of {} stages; `tensorboard --logdir {}` shows them",
            written.len(),
            out.display()
        ));
        Ok(exit::DONE)
    }
}
