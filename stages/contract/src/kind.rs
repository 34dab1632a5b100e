//! The typed stage that authors write and the erased kind that the engine holds.

use std::ffi::OsString;
use std::marker::PhantomData;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::DeTable;

use crate::chunk::Chunks;
use crate::context::StageContext;
use crate::error::StageError;
use crate::params::{self, Complaint, Facts, Parsed};
use crate::ports::{External, Ports};

/// How far two runs of the same action agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Determinism {
    /// The same bytes on every machine.
    Everywhere,
    /// The same bytes within a numerics class. Between classes numbers in text files agree within this relative
    /// tolerance, and all else is not compared.
    WithinClass {
        /// The largest relative difference, of numbers of size 1 and more; below that it is absolute.
        tolerance: f64,
    },
    /// Nothing is promised: the work depends on something outside.
    None,
}

/// A sort of work, typed.
///
/// The same parameters and inputs must always give the same bytes on one numerics class, whatever the
/// threads, and a resumed run must equal an unbroken one.
pub trait Stage: Send + Sync + 'static {
    /// Its name in `kind = "…"`.
    const KIND: &'static str;
    /// Rises whenever the same parameters and inputs would give other bytes.
    const VERSION: u32;
    /// One sentence for `starling stages`.
    const ABOUT: &'static str;
    /// Parameters that never change a byte and so stay out of the key, for example `snapshot-every`.
    const NEUTRAL: &'static [&'static str] = &[];
    /// Parameters that only say where the work stops: two stages that differ in nothing else go the same way as far as
    /// both go. They are in the key, for other bytes come out, and not in that by which snapshots are found, so that the
    /// one goes on from the snapshots of the other. The first is a number, and orders such stages.
    const STOPS: &'static [&'static str] = &[];
    /// Numeric parameters that the time is about proportional to, for estimates: updates, samples. The first of
    /// [`Stage::STOPS`] bounds the first of these.
    const WORK: &'static [&'static str] = &[];
    /// Devices that it can compute on; asked for another, it fails instead of using one of these quietly.
    const DEVICES: &'static [&'static str] = &["cpu"];
    /// Whether it costs less than starting a process and than making its outputs durable. A worker then runs several
    /// such stages one after another, and it is left to the system when their outputs reach the disk: a power cut
    /// before that costs running them again.
    const LIGHT: bool = false;
    /// How far two runs agree.
    const DETERMINISM: Determinism = Determinism::Everywhere;
    /// How it maps over its rows, if it does; its `run` calls [`StageContext::map_chunks`] with this.
    const CHUNKS: Option<Chunks> = None;
    /// Whether a stage also runs when one of its [`Stage::secrets`] is not set: a public download needs no token.
    const SECRETS_MAY_LACK: bool = false;
    /// Whether it puts its inputs side by side, so that they should be of one numerics class.
    const COMPARES: bool = false;
    /// The parameters: serde names in kebab-case, unknown ones denied, each documented.
    type Params: Serialize + DeserializeOwned + JsonSchema;

    /// Inputs and outputs.
    fn ports() -> Ports;

    /// Complaints about values that serde cannot see.
    fn check(params: &Self::Params) -> Vec<Complaint> {
        let _ = params;
        Vec::new()
    }

    /// Files outside the store that the stage reads.
    fn externals(params: &Self::Params) -> Vec<External> {
        let _ = params;
        Vec::new()
    }

    /// Whether [`Stage::lock_name`] is to be asked.
    const LOCKS: bool = false;

    /// What it reads that can change under the same name, such as a branch of a repository: that name, under
    /// which `starling.lock` says what it stands for.
    fn lock_name(params: &Self::Params) -> Option<String> {
        let _ = params;
        None
    }

    /// Asks what [`Stage::lock_name`] stands for now. The answer goes into the lock, and from there into the
    /// parameter `locked`, which the kind must have; `variable` gives a variable of the environment.
    ///
    /// # Errors
    /// [`StageError`] with what happened and what to do.
    fn resolve(
        params: &Self::Params,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<serde_json::Value, StageError> {
        let _ = (params, variable);
        Err(StageError::failed("nothing to ask for"))
    }

    /// The outputs that a stage with these parameters writes; all of them unless the kind says otherwise.
    fn writes(params: &Self::Params) -> Vec<&'static str> {
        let _ = params;
        Self::ports().outputs.iter().map(|o| o.name).collect()
    }

    /// The most bytes that its outputs take with these parameters, where that can be so much that a plan should say it
    /// before anything of the kind has run.
    fn most_bytes(params: &Self::Params) -> Option<u64> {
        let _ = params;
        None
    }

    /// Environment variables whose values the stage is to see and nobody else: they are in no key, spec, manifest or
    /// log.
    fn secrets(params: &Self::Params) -> Vec<String> {
        let _ = params;
        Vec::new()
    }

    /// How far two runs with these parameters agree, where that depends on them: asking a server promises nothing.
    fn determinism(params: &Self::Params) -> Determinism {
        let _ = params;
        Self::DETERMINISM
    }

    /// Does the work.
    ///
    /// # Errors
    /// [`StageError`] with what happened and what to do.
    fn run(params: Self::Params, context: &mut StageContext<'_>) -> Result<(), StageError>;
}

/// A sort of work with its types erased.
pub trait Kind: Send + Sync {
    /// Its name in `kind = "…"`.
    fn name(&self) -> &'static str;
    /// See [`Stage::VERSION`].
    fn version(&self) -> u32;
    /// See [`Stage::ABOUT`].
    fn about(&self) -> &'static str;
    /// See [`Stage::NEUTRAL`].
    fn neutral(&self) -> &'static [&'static str];
    /// See [`Stage::STOPS`].
    fn stops(&self) -> &'static [&'static str];
    /// See [`Stage::LIGHT`].
    fn light(&self) -> bool;
    /// See [`Stage::determinism`]; that of the kind when `params` are not this kind's.
    fn determinism(&self, params: &serde_json::Value) -> Determinism;
    /// See [`Stage::CHUNKS`].
    fn chunks(&self) -> Option<Chunks>;
    /// See [`Stage::COMPARES`].
    fn compares(&self) -> bool;
    /// See [`Stage::WORK`].
    fn work(&self) -> &'static [&'static str];
    /// See [`Stage::DEVICES`].
    fn devices(&self) -> &'static [&'static str];
    /// Inputs and outputs.
    fn ports(&self) -> Ports;
    /// See [`Stage::writes`]; all outputs when `params` are not this kind's.
    fn writes(&self, params: &serde_json::Value) -> Vec<&'static str>;
    /// See [`Stage::most_bytes`]; none when `params` are not this kind's.
    fn most_bytes(&self, params: &serde_json::Value) -> Option<u64>;
    /// See [`Stage::secrets`]; none when `params` are not this kind's.
    fn secrets(&self, params: &serde_json::Value) -> Vec<String>;
    /// See [`Stage::SECRETS_MAY_LACK`].
    fn secrets_may_lack(&self) -> bool;
    /// JSON schema of the parameters.
    fn schema(&self) -> serde_json::Value;
    /// Reads parameters; every mistake is reported.
    fn parse(&self, table: Spanned<DeTable<'_>>) -> Parsed;
    /// See [`Stage::externals`]; `params` are resolved ones.
    ///
    /// # Errors
    /// [`StageError::Failed`] when `params` are not this kind's.
    fn externals(&self, params: &serde_json::Value) -> Result<Vec<External>, StageError>;
    /// See [`Stage::lock_name`]; `params` are resolved ones.
    ///
    /// # Errors
    /// [`StageError::Failed`] when `params` are not this kind's.
    fn lock_name(&self, params: &serde_json::Value) -> Result<Option<String>, StageError>;
    /// See [`Stage::resolve`]; `params` are resolved ones.
    ///
    /// # Errors
    /// As [`Stage::resolve`], and [`StageError::Failed`] when `params` are not this kind's.
    fn resolve(
        &self,
        params: &serde_json::Value,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<serde_json::Value, StageError>;
    /// See [`Stage::run`]; `params` are resolved ones.
    ///
    /// # Errors
    /// As [`Stage::run`], and [`StageError::Failed`] when `params` are not this kind's.
    fn run(
        &self,
        params: serde_json::Value,
        context: &mut StageContext<'_>,
    ) -> Result<(), StageError>;
}

/// Erases a stage's types.
#[must_use]
pub fn erase<S: Stage>() -> Box<dyn Kind> {
    Box::new(Erased::<S> {
        names: OnceLock::new(),
        stage: PhantomData,
    })
}

struct Erased<S> {
    /// The names of the parameters: making a schema is slow, and a pipeline may have thousands of stages.
    names: OnceLock<Vec<String>>,
    stage: PhantomData<fn() -> S>,
}

fn typed<S: Stage>(params: serde_json::Value) -> Result<S::Params, StageError> {
    serde_json::from_value(params)
        .map_err(|e| StageError::failed(format!("parameters of kind `{}`: {e}", S::KIND)))
}

impl<S: Stage> Kind for Erased<S> {
    fn name(&self) -> &'static str {
        S::KIND
    }
    fn version(&self) -> u32 {
        S::VERSION
    }
    fn about(&self) -> &'static str {
        S::ABOUT
    }
    fn neutral(&self) -> &'static [&'static str] {
        S::NEUTRAL
    }
    fn stops(&self) -> &'static [&'static str] {
        S::STOPS
    }
    fn light(&self) -> bool {
        S::LIGHT
    }
    fn determinism(&self, params: &serde_json::Value) -> Determinism {
        typed::<S>(params.clone()).map_or(S::DETERMINISM, |params| S::determinism(&params))
    }
    fn chunks(&self) -> Option<Chunks> {
        S::CHUNKS
    }
    fn compares(&self) -> bool {
        S::COMPARES
    }
    fn work(&self) -> &'static [&'static str] {
        S::WORK
    }
    fn devices(&self) -> &'static [&'static str] {
        S::DEVICES
    }
    fn ports(&self) -> Ports {
        S::ports()
    }
    fn writes(&self, params: &serde_json::Value) -> Vec<&'static str> {
        let all = || S::ports().outputs.iter().map(|o| o.name).collect();
        typed::<S>(params.clone()).map_or_else(|_| all(), |params| S::writes(&params))
    }
    fn most_bytes(&self, params: &serde_json::Value) -> Option<u64> {
        S::most_bytes(&typed::<S>(params.clone()).ok()?)
    }
    fn secrets_may_lack(&self) -> bool {
        S::SECRETS_MAY_LACK
    }
    fn secrets(&self, params: &serde_json::Value) -> Vec<String> {
        typed::<S>(params.clone()).map_or_else(|_| Vec::new(), |params| S::secrets(&params))
    }
    fn schema(&self) -> serde_json::Value {
        params::schema::<S::Params>()
    }
    fn parse(&self, table: Spanned<DeTable<'_>>) -> Parsed {
        let names = self.names.get_or_init(params::names_of::<S::Params>);
        let facts = |params: &S::Params| Facts {
            externals: S::externals(params),
            writes: S::writes(params),
        };
        params::read(table, names, S::check, facts)
    }
    fn externals(&self, params: &serde_json::Value) -> Result<Vec<External>, StageError> {
        Ok(S::externals(&typed::<S>(params.clone())?))
    }
    fn lock_name(&self, params: &serde_json::Value) -> Result<Option<String>, StageError> {
        if !S::LOCKS {
            return Ok(None);
        }
        Ok(S::lock_name(&typed::<S>(params.clone())?))
    }
    fn resolve(
        &self,
        params: &serde_json::Value,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<serde_json::Value, StageError> {
        S::resolve(&typed::<S>(params.clone())?, variable)
    }
    fn run(
        &self,
        params: serde_json::Value,
        context: &mut StageContext<'_>,
    ) -> Result<(), StageError> {
        let device = context.device();
        if !S::DEVICES.contains(&device) {
            return Err(StageError::Device(format!(
                "kind `{}` computes on {} only, and `device` is `{device}`",
                S::KIND,
                S::DEVICES.join(", ")
            )));
        }
        S::run(typed::<S>(params)?, context)
    }
}
