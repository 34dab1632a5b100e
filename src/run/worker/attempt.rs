//! One attempt at an action, from `started.json` to `exit.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use starling_cache::{
    ActionKey, ActionRecord, CacheError, Creation, Digest, Memo, Mode, OutputRef, Owner, Store,
};
use starling_contract::{Event, EventSink as _, Level, Shard};

use super::Words;
use super::end::{End, Ran};
use crate::plan::line;
use crate::report::Cause;
use crate::run::again::put_again;
use crate::run::chunks::ChunkStore;
use crate::run::exit_record::ExitRecord;
use crate::run::host::{WorkerHost, with_sources};
use crate::run::scratch::{Scratch, Started, sweep};
use crate::run::spec::ActionSpec;
use crate::run::{clock, process};
use crate::{Registry, exit};

pub(super) struct Attempt<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) spec: &'a ActionSpec,
    pub(super) spec_digest: Digest,
    pub(super) key: ActionKey,
    pub(super) attempt: u32,
    pub(super) shard: Option<Shard>,
    pub(super) beside: bool,
    pub(super) words: Words,
    pub(super) registry: &'a Registry,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) started_unix: f64,
    pub(super) began: Instant,
    pub(super) numerics: String,
}

impl Attempt<'_> {
    pub(super) fn run(&self) -> u8 {
        match self.store.action(&self.key) {
            Ok(Some(_)) if !self.beside => return exit::DONE,
            Ok(_) => {}
            Err(error) => return self.words.complain(&with_sources(&error), exit::CACHE),
        }
        if let Err(error) = self.begin() {
            return self.words.complain(&with_sources(&error), exit::CACHE);
        }
        let (result, reached) = self.work();
        let code = result.as_ref().err().map_or(exit::DONE, End::code);
        if let Err(error) = self.leave(result.err(), reached, code) {
            return self.words.complain(&with_sources(&error), exit::CACHE);
        }
        code
    }

    /// The parameters that say where the work stops.
    fn stops(&self) -> &'static [&'static str] {
        let kind = self.registry.get(&self.spec.kind);
        kind.map_or(&[], |kind| kind.stops())
    }

    fn begin(&self) -> Result<(), CacheError> {
        sweep(self.store, &self.key)?;
        let started = Started {
            owner: Owner::current(),
            started_unix: self.started_unix,
            numerics: self.numerics.clone(),
        };
        started.write(self.store, &self.key, self.attempt)
    }

    fn work(&self) -> (Result<(), End>, Option<String>) {
        let scratch = match Scratch::make(self.store, &self.key, self.attempt) {
            Ok(scratch) => scratch,
            Err(error) => return (Err(End::of_stage(&error)), None),
        };
        let host = WorkerHost::new(
            self.store,
            self.key,
            line(&self.spec.fields, self.stops()),
            self.numerics.clone(),
            scratch.part("resume"),
            Arc::clone(&self.stop),
            Box::new(std::io::stdout()),
        );
        let host = if self.beside {
            host.without_memory()
        } else {
            host.with_chunks(ChunkStore {
                store: self.store,
                spec: self.spec,
                spec_digest: self.spec_digest,
                numerics: &self.numerics,
                attempt: self.attempt,
                shard: self.shard,
                folder: scratch.part("resume"),
                since: Mutex::new(self.began),
                asked: Mutex::default(),
            })
        };
        let result = match self.run_kind(&host, &scratch) {
            Ok(Ran::All) => self.publish(&host, &scratch),
            Ok(Ran::Shard) => Ok(()),
            Err(end) => Err(end),
        };
        host.flush();
        (result, host.reached())
    }

    /// Places the inputs: those of single ports, and those of ports that take several.
    pub(super) fn inputs(
        &self,
        scratch: &Scratch,
    ) -> Result<(Places, BTreeMap<String, Places>), End> {
        let mut single = Places::new();
        let mut many: BTreeMap<String, Places> = BTreeMap::new();
        for (index, input) in self.spec.inputs.iter().enumerate() {
            // Names come from the pipeline's author, so they do not become file names.
            let path = scratch.part("inputs").join(index.to_string());
            self.store
                .materialize(&input.artifact, &path, Mode::Link)
                .map_err(|e| End::unusable_input(&input.port, &e))?;
            match &input.name {
                Some(name) => {
                    many.entry(input.port.clone())
                        .or_default()
                        .insert(name.clone(), path);
                }
                None => {
                    single.insert(input.port.clone(), path);
                }
            }
        }
        Ok((single, many))
    }

    /// Files outside the store: the store's copy if it has one, else the file itself, read again, since
    /// it may have changed after it was planned.
    pub(super) fn externals(&self, scratch: &Scratch) -> Result<Places, End> {
        let mut places = Places::new();
        for (index, external) in self.spec.externals.iter().enumerate() {
            let artifact = &external.artifact;
            let placed = scratch.part("inputs").join(format!("outside-{index}"));
            let in_store = self
                .store
                .has(&artifact.digest)
                .is_ok_and(|there| there)
                .then(|| self.store.materialize(artifact, &placed, Mode::Link));
            if let Some(Ok(())) = in_store {
                places.insert(external.param.clone(), placed);
                continue;
            }
            let found = Memo::default()
                .digest_path(&external.path, clock::now_unix())
                .map_err(|e| End::of_store(&e))?;
            if found.digest != artifact.digest {
                return Err(End {
                    cause: Cause::Stage,
                    message: format!("{} changed while the run began", external.path.display()),
                    hint: Some("run again; the plan will use its new content".into()),
                });
            }
            places.insert(external.param.clone(), external.path.clone());
        }
        Ok(places)
    }

    /// Stores the outputs and creates the action's record.
    fn publish(&self, host: &WorkerHost<'_>, scratch: &Scratch) -> Result<(), End> {
        let mut outputs = BTreeMap::new();
        for port in &self.spec.outputs {
            outputs.insert(port.clone(), self.publish_output(port, scratch)?);
        }
        let record = ActionRecord {
            key: self.key,
            kind: self.spec.kind.clone(),
            version: self.spec.version,
            stage: self.spec.stage.clone(),
            spec: self.spec_digest,
            fields: self.spec.fields.clone(),
            outputs,
            numerics: self.numerics.clone(),
            attempt: self.attempt,
            started_unix: self.started_unix,
            seconds: self.began.elapsed().as_secs_f64(),
            max_rss_bytes: process::peak_memory(std::process::id()),
            threads: u32::try_from(self.spec.threads).unwrap_or(u32::MAX),
        };
        if self.beside {
            return put_again(self.store, &record).map_err(|e| End::of_store(&e));
        }
        host.write_chunks(&self.key)
            .map_err(|e| End::of_store(&e))?;
        let creation = self
            .store
            .create_action(&self.key, &record)
            .map_err(|e| End::of_store(&e))?;
        if let Creation::Existing(first) = creation {
            let differing = record.differing_outputs(&first);
            if !differing.is_empty() {
                host.emit(Event::Message {
                    level: Level::Warning,
                    text: nondeterminism(&differing, &record, &first),
                });
            }
        }
        // The record is what counts; snapshots that stay behind only cost space.
        drop(host.drop_snapshots(!self.stops().is_empty()));
        for warning in self.store.take_warnings() {
            host.emit(Event::Message {
                level: Level::Warning,
                text: warning.to_string(),
            });
        }
        Ok(())
    }

    fn publish_output(&self, port: &str, scratch: &Scratch) -> Result<OutputRef, End> {
        let path = scratch.part("outputs").join(port);
        if !path.exists() {
            let kind = &self.spec.kind;
            return Err(End::new(
                Cause::Output,
                format!("kind `{kind}` ended without writing its output `{port}`"),
            ));
        }
        self.store.put_tree(&path).map_err(|e| End::of_store(&e))
    }

    /// Writes `exit.json`.
    pub(super) fn leave(
        &self,
        end: Option<End>,
        reached: Option<String>,
        code: u8,
    ) -> Result<(), CacheError> {
        let log = self.store.attempt_log(&self.key, self.attempt);
        if let Some(end) = &end {
            self.words.complain(&end.message, 0);
        }
        let (cause, message, hint) = match end {
            Some(end) => (Some(end.cause), end.message, end.hint),
            None => (None, String::new(), None),
        };
        let record = ExitRecord {
            code: Some(i32::from(code)),
            signal: None,
            cause,
            message,
            hint,
            reached,
            shard: self.shard.map(|s| format!("{}/{}", s.number + 1, s.of)),
            started_unix: self.started_unix,
            seconds: self.began.elapsed().as_secs_f64(),
            max_rss_bytes: process::peak_memory(std::process::id()),
            stderr_tail: log.as_deref().map(process::tail).unwrap_or_default(),
        };
        record.write(self.store, &self.key, self.attempt)
    }
}

/// Paths by port, name or parameter.
pub(super) type Places = BTreeMap<String, PathBuf>;

fn nondeterminism(ports: &[String], mine: &ActionRecord, first: &ActionRecord) -> String {
    let classes = if mine.numerics == first.numerics {
        "the kind is not deterministic".to_owned()
    } else {
        format!(
            "numerics classes `{}` and `{}`",
            first.numerics, mine.numerics
        )
    };
    format!(
        "output {} differs from that of attempt {}, which finished first and stays: {classes}",
        ports.join(", "),
        first.attempt
    )
}
