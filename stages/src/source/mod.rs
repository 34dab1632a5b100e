//! Source: brings a local file or folder into the store.
//!
//! | port   | way | artifact | holds                     |
//! |--------|-----|----------|---------------------------|
//! | `data` | out | raw      | the bytes, as they came   |
//!
//! The key holds the digest of the bytes, never the path: a moved file is the same source.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, External, Output, Ports, Stage, StageContext, StageError,
};

/// The kind `source`.
pub(crate) struct Source;

/// What to bring in.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// File or folder, relative to the pipeline file.
    path: PathBuf,
    /// SHA-256 that the file must have, 64 hexadecimal digits; with it a pipeline can be planned
    /// before the file is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// How to get the file, shown when it is not there, for example a command to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fetch: Option<String>,
}

impl Stage for Source {
    const KIND: &'static str = "source";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "brings a local file or folder into the store";
    const NEUTRAL: &'static [&'static str] = &["sha256", "fetch"];
    type Params = Params;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[],
                outputs: &[Output::new(
                    "data",
                    ArtifactType::Raw,
                    "the bytes, as they came",
                )],
            }
        }
    }

    fn check(params: &Params) -> Vec<Complaint> {
        match &params.sha256 {
            Some(text) if text.parse::<starling_cache::Digest>().is_err() => vec![Complaint {
                param: "sha256",
                message: "not a SHA-256 digest".to_owned(),
                help: Some("64 hexadecimal digits, as `sha256sum FILE` prints them".to_owned()),
            }],
            _ => Vec::new(),
        }
    }

    fn externals(params: &Params) -> Vec<External> {
        vec![External {
            param: "path",
            path: params.path.clone(),
            pinned: params.sha256.as_ref().and_then(|text| text.parse().ok()),
            fetch: params.fetch.clone(),
        }]
    }

    fn run(_: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let from = context.external("path")?.to_owned();
        copy(&from, &context.output("data"))
    }
}

/// Copies a file, or a folder with all below it.
fn copy(from: &Path, to: &Path) -> Result<(), StageError> {
    if !from.is_dir() {
        return std::fs::copy(from, to)
            .map(|_| ())
            .map_err(StageError::io("copy", from));
    }
    std::fs::create_dir_all(to).map_err(StageError::io("create", to))?;
    for entry in std::fs::read_dir(from).map_err(StageError::io("list", from))? {
        let entry = entry.map_err(StageError::io("list", from))?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
