//! What most commands begin with: the store, the pipeline, the plan.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use clap::Args;
use starling::lock::{Lock, Unlocked};
use starling::pipeline::{self, Pipeline};
use starling::plan::{self, Plan, Status};
use starling::run::{Manifest, clock};
use starling::{Registry, exit, suggest};
use starling_cache::{CacheError, LocalStore, OutputRef, STORE_FOLDER, Store as _, find_store};
use tempfile::TempDir;

use super::output::{Failure, story};

/// The pipeline that runs when none is named.
const BUILT_IN: &str = include_str!("../../pipelines/quickstart.toml");
/// What messages and manifests call it.
const BUILT_IN_NAME: &str = "quickstart.toml (built in)";

/// What the arguments and the surroundings say.
pub(crate) struct Session {
    store: Option<PathBuf>,
    pub(crate) registry: Registry,
}

/// What a pipeline is called that a command makes of its arguments.
pub(crate) const MADE_NAME: &str = "eval (made of the arguments)";

/// A store to ask.
pub(crate) struct Readable {
    store: LocalStore,
    /// Its folder, when nobody keeps it.
    temporary: Option<TempDir>,
}

impl Deref for Readable {
    type Target = LocalStore;

    fn deref(&self) -> &LocalStore {
        &self.store
    }
}

/// Which pipeline a question is about.
#[derive(Debug, Args)]
pub(crate) struct About {
    /// The pipeline [default: that of the newest run, else the built-in one]
    #[arg(short, long, value_name = "FILE")]
    pipeline: Option<PathBuf>,
    #[command(flatten)]
    changes: Changes,
}

/// What the command line changes in a pipeline.
#[derive(Debug, Args)]
pub(crate) struct Changes {
    /// Change a value of the pipeline, for example `distill.lr=1e-4` or `vars.seed=2`
    #[arg(long, value_name = "STAGE.PARAM=VALUE")]
    set: Vec<String>,
    /// Use a profile of the pipeline, `[profile.NAME]`
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

impl Changes {
    /// All of them as texts, the way a run remembers them.
    pub(crate) fn all(&self) -> Vec<String> {
        let profile = self.profile.iter().map(|name| format!("profile={name}"));
        profile.chain(self.set.iter().cloned()).collect()
    }
}

impl Session {
    pub(crate) fn new(store: Option<PathBuf>, registry: Registry) -> Self {
        Self { store, registry }
    }

    /// Where the store is, or would be made.
    pub(crate) fn store_folder(&self) -> PathBuf {
        // An absolute start: a relative one has no parents to look in.
        let found = || find_store(&std::env::current_dir().ok()?);
        let folder = self.store.clone().or_else(found);
        folder.unwrap_or_else(|| PathBuf::from(STORE_FOLDER))
    }

    /// Opens the store, making it where there is none.
    pub(crate) fn store(&self) -> Result<LocalStore, Failure> {
        Ok(LocalStore::open_or_create(&self.store_folder())?)
    }

    /// Opens the store that is there.
    pub(crate) fn existing_store(&self) -> Result<LocalStore, Failure> {
        Ok(LocalStore::open(&self.store_folder())?)
    }

    /// Opens the store for questions; where there is none, an empty one that nobody keeps, for a question
    /// leaves nothing behind.
    pub(crate) fn readable_store(&self) -> Result<Readable, Failure> {
        match LocalStore::open(&self.store_folder()) {
            Ok(store) => Ok(Readable {
                store,
                temporary: None,
            }),
            Err(CacheError::NoStore { .. }) => {
                let temporary = TempDir::new().map_err(|e| {
                    Failure::new(exit::CACHE, format!("cannot make a temporary folder: {e}"))
                })?;
                Ok(Readable {
                    store: LocalStore::open_or_create(temporary.path())?,
                    temporary: Some(temporary),
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the pipeline in `file`, or the built-in one, with what the lock beside it holds.
    pub(crate) fn pipeline(
        &self,
        file: Option<&Path>,
        sets: &[String],
    ) -> Result<Pipeline, Failure> {
        Ok(self.with_lock(file, sets)?.0)
    }

    /// As [`Session::pipeline`], and names that the lock does not hold are asked for and written into it; these
    /// names come back, too.
    pub(crate) fn locked(
        &self,
        file: Option<&Path>,
        sets: &[String],
    ) -> Result<(Pipeline, Vec<String>), Failure> {
        let (mut pipeline, mut lock, unlocked) = self.with_lock(file, sets)?;
        for one in &unlocked {
            story(&format!("asking for {}", one.name));
            lock.resolve(&pipeline, &self.registry, one, &super::output::variable)?;
            // At once: what the next name answers must not cost what this one did.
            lock.write(&pipeline.folder)?;
        }
        if !unlocked.is_empty() {
            lock.apply(&mut pipeline, &self.registry)?;
        }
        let asked = unlocked.into_iter().map(|one| one.name).collect();
        Ok((pipeline, asked))
    }

    fn with_lock(
        &self,
        file: Option<&Path>,
        sets: &[String],
    ) -> Result<(Pipeline, Lock, Vec<Unlocked>), Failure> {
        let Some(file) = file else {
            let folder = Path::new("");
            let read = pipeline::read(BUILT_IN_NAME, folder, BUILT_IN, sets, &self.registry);
            return Ok((read.map_err(Box::new)?, Lock::emptied(), Vec::new()));
        };
        let mut pipeline = pipeline::load(file, sets, &self.registry)?;
        let lock = Lock::read(&pipeline.folder)?;
        let unlocked = lock.apply(&mut pipeline, &self.registry)?;
        Ok((pipeline, lock, unlocked))
    }

    /// The pipeline that a question is about.
    pub(crate) fn about(&self, about: &About, store: &LocalStore) -> Result<Pipeline, Failure> {
        let changes = about.changes.all();
        if about.pipeline.is_some() {
            return self.pipeline(about.pipeline.as_deref(), &changes);
        }
        let Some(run) = Manifest::newest(store)? else {
            return self.pipeline(None, &changes);
        };
        let sets: Vec<String> = run.overrides.iter().chain(&changes).cloned().collect();
        if run.pipeline == BUILT_IN_NAME {
            return self.pipeline(None, &sets);
        }
        if run.pipeline == MADE_NAME {
            return Err(Failure::usage(
                "the newest run was `starling eval`, which leaves no pipeline file; name one with `--pipeline`, or have \
                 `starling eval … --out FOLDER` copy what it found",
            ));
        }
        // The file was named from another folder, perhaps; the run knows the folder it is in.
        let name = Path::new(&run.pipeline);
        let file = name.file_name().map(|name| run.folder.join(name));
        let file = file.filter(|_| !name.exists());
        self.pipeline(Some(file.as_deref().unwrap_or(name)), &sets)
    }

    /// Plans a pipeline and tells what was damaged in the store.
    pub(crate) fn plan(&self, pipeline: &Pipeline, store: &Readable) -> Result<Plan, Failure> {
        let mut memo = store.memo();
        let now = clock::now_unix();
        let plan = plan::plan(pipeline, &self.registry, &store.store, &mut memo, now)?;
        if store.temporary.is_none() {
            // A plan is good without its memory: a store that cannot be written is no failure here.
            drop(store.save_memo(&mut memo));
        }
        for warning in store.take_warnings() {
            story(&format!("warning: {warning}"));
        }
        Ok(plan)
    }
}

/// The number of the stage called `name`.
pub(crate) fn stage(pipeline: &Pipeline, name: &str) -> Result<usize, Failure> {
    pipeline.find(name).ok_or_else(|| {
        let names = pipeline.stages.iter().map(|s| s.name.as_str());
        let help = match suggest::nearest(name, names) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => "; `starling plan` lists the stages".to_owned(),
        };
        Failure::usage(format!("{} has no stage `{name}`{help}", pipeline.file))
    })
}

/// The output of a stage that has run.
pub(crate) fn output_of(
    pipeline: &Pipeline,
    plan: &Plan,
    number: usize,
    port: &str,
) -> Result<OutputRef, Failure> {
    let name = &pipeline.stages[number].name;
    match &plan.stages[number].status {
        Status::Cached(record) => record.outputs.get(port).copied().ok_or_else(|| {
            let ports: Vec<&str> = record.outputs.keys().map(String::as_str).collect();
            Failure::usage(format!(
                "stage `{name}` has no output `{port}`; it has {}",
                ports.join(", ")
            ))
        }),
        _ => Err(Failure::new(
            exit::PIPELINE,
            format!("stage `{name}` has no result yet; run the pipeline first"),
        )),
    }
}
