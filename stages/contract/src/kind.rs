//! The typed stage that authors write and the erased kind that the engine holds.

use std::marker::PhantomData;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::DeTable;

use crate::context::StageContext;
use crate::error::StageError;
use crate::params::{self, Complaint, Parsed};
use crate::ports::{External, Ports};

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
    /// Numeric parameters that the time is about proportional to, for estimates: updates, samples.
    const WORK: &'static [&'static str] = &[];
    /// Devices that it can compute on; asked for another, it fails instead of using one of these quietly.
    const DEVICES: &'static [&'static str] = &["cpu"];
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
    /// See [`Stage::WORK`].
    fn work(&self) -> &'static [&'static str];
    /// See [`Stage::DEVICES`].
    fn devices(&self) -> &'static [&'static str];
    /// Inputs and outputs.
    fn ports(&self) -> Ports;
    /// JSON schema of the parameters.
    fn schema(&self) -> serde_json::Value;
    /// Reads parameters; every mistake is reported.
    fn parse(&self, table: Spanned<DeTable<'_>>) -> Parsed;
    /// See [`Stage::externals`]; `params` are resolved ones.
    ///
    /// # Errors
    /// [`StageError::Failed`] when `params` are not this kind's.
    fn externals(&self, params: &serde_json::Value) -> Result<Vec<External>, StageError>;
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
    fn work(&self) -> &'static [&'static str] {
        S::WORK
    }
    fn devices(&self) -> &'static [&'static str] {
        S::DEVICES
    }
    fn ports(&self) -> Ports {
        S::ports()
    }
    fn schema(&self) -> serde_json::Value {
        params::schema::<S::Params>()
    }
    fn parse(&self, table: Spanned<DeTable<'_>>) -> Parsed {
        let names = self.names.get_or_init(params::names_of::<S::Params>);
        params::read::<S::Params>(table, names, S::check)
    }
    fn externals(&self, params: &serde_json::Value) -> Result<Vec<External>, StageError> {
        Ok(S::externals(&typed::<S>(params.clone())?))
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
