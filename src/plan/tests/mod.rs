//! Plans over a store in a folder, with stages that run in this process.

mod causes;
mod points;
mod properties;
mod statuses;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use starling_cache::{ActionRecord, LocalStore, Mode, Store};
use starling_contract::{Event, EventSink, Host, Snapshot, StageContext, StageError};

use super::{PlanError, Resolution, counts, plan, resolve, table};
use crate::pipeline::{Pipeline, read};
use crate::testing::registry;
use crate::{Registry, pipeline};

/// A host for stages that need none.
struct NoHost;

impl EventSink for NoHost {
    fn emit(&self, _: Event) {}
}

impl Host for NoHost {
    fn save_snapshot(&self, _: u64, _: &Path, _: bool) -> Result<(), StageError> {
        Ok(())
    }
    fn newest_snapshot(&self, _: u64) -> Result<Option<Snapshot>, StageError> {
        Ok(None)
    }
    fn interrupted(&self) -> bool {
        false
    }
    fn elapsed_seconds(&self) -> f64 {
        0.0
    }
}

/// A folder with a store, and a clock that moves on by itself.
struct Space {
    folder: tempfile::TempDir,
    store: LocalStore,
    registry: Registry,
    clock: RefCell<f64>,
}

impl Space {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = LocalStore::open_or_create(&folder.path().join(".starling")).expect("a store");
        Self {
            folder,
            store,
            registry: registry(),
            clock: RefCell::new(1e9),
        }
    }

    fn now(&self) -> f64 {
        *self.clock.borrow_mut() += 1.0;
        *self.clock.borrow()
    }

    fn pipeline(&self, text: &str) -> Pipeline {
        match read("p.toml", self.folder.path(), text, &[], &self.registry) {
            Ok(pipeline) => pipeline,
            Err(mistakes) => panic!("{}", mistakes.render(false)),
        }
    }

    fn try_plan(&self, pipeline: &Pipeline) -> Result<super::Plan, PlanError> {
        let mut memo = self.store.memo();
        plan(pipeline, &self.registry, &self.store, &mut memo, self.now())
    }

    /// Paths of the temporary folder cut off.
    fn redact(&self, text: &str) -> String {
        text.replace(&self.folder.path().display().to_string(), "[folder]")
    }

    fn table(&self, text: &str) -> String {
        let pipeline = self.pipeline(text);
        let plan = self.try_plan(&pipeline).expect("a plan");
        self.redact(&format!(
            "{}{}\n",
            table(&pipeline, &plan),
            counts(&pipeline, &plan)
        ))
    }

    /// Runs every stage in this process; returns the names of those that were not cached.
    fn run(&self, text: &str) -> Vec<String> {
        let pipeline = self.pipeline(text);
        let mut records: Vec<Option<ActionRecord>> = vec![None; pipeline.stages.len()];
        let mut ran = Vec::new();
        let mut memo = self.store.memo();
        for stage in 0..pipeline.stages.len() {
            let (registry, store, now) = (&self.registry, &self.store, self.now());
            let known = |n: usize| records[n].as_ref();
            let resolved = resolve(&pipeline, stage, registry, &known, store, &mut memo, now);
            records[stage] = Some(match resolved.expect("resolvable") {
                Resolution::Cached(record) => *record,
                Resolution::Action(action) => {
                    ran.push(pipeline.stages[stage].name.clone());
                    self.run_one(&pipeline.stages[stage], &action)
                }
                other => panic!("stage {stage} is not ready: {other:?}"),
            });
        }
        ran
    }

    fn run_one(
        &self,
        stage: &pipeline::PipelineStage,
        action: &super::ResolvedAction,
    ) -> ActionRecord {
        let kind = self.registry.get(&stage.kind).expect("known");
        let work = tempfile::tempdir().expect("a folder");
        let outputs = work.path().join("outputs");
        let scratch = work.path().join("scratch");
        fs::create_dir_all(&outputs).expect("created");
        fs::create_dir_all(&scratch).expect("created");
        let mut inputs = BTreeMap::new();
        let mut many: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
        for (n, input) in action.inputs.iter().enumerate() {
            let path = work.path().join(format!("input{n}"));
            self.store
                .materialize(&input.artifact, &path, Mode::Link)
                .expect("placed");
            match &input.name {
                Some(name) => {
                    many.entry(input.port.clone())
                        .or_default()
                        .insert(name.clone(), path);
                }
                None => {
                    inputs.insert(input.port.clone(), path);
                }
            }
        }
        let externals = action
            .externals
            .iter()
            .map(|e| (e.param.clone(), e.path.clone()));
        let externals = externals.collect();
        let mut context = StageContext::new(
            &NoHost,
            inputs,
            many,
            externals,
            outputs.clone(),
            scratch,
            1,
            "cpu".into(),
        );
        kind.run(stage.params.clone(), &mut context).expect("runs");
        let outputs = kind.ports().outputs.iter().map(|o| {
            let stored = self.store.put_tree(&outputs.join(o.name)).expect("stored");
            (o.name.to_owned(), stored)
        });
        let record = ActionRecord {
            key: action.key,
            kind: action.fields.kind.clone(),
            version: action.fields.version,
            stage: stage.name.clone(),
            spec: self.store.put_bytes(b"spec").expect("stored"),
            fields: action.fields.clone(),
            outputs: outputs.collect(),
            numerics: "cpu test 1".into(),
            attempt: 1,
            started_unix: self.now(),
            seconds: 0.5,
            max_rss_bytes: 1,
            threads: 1,
        };
        self.store
            .create_action(&action.key, &record)
            .expect("created");
        record
    }
}

const CHAIN: &str = "\
[stage.letters]
kind = 'letters'
text = 'abc'
count = 2

[stage.train]
kind = 'train'
inputs.rows = 'letters.rows'
updates = 10

[stage.score]
kind = 'score'
inputs.student = 'train.student'
inputs.rows = 'letters.rows'

[stage.table]
kind = 'table'
inputs.arms.one = 'score.evaluation'
";
