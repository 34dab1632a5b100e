//! Export of rows: writes rows as a file for other programs.
//!
//! | port         | way | artifact   | holds                                         |
//! |--------------|-----|------------|-----------------------------------------------|
//! | `rows`       | in  | rows       | conversations, or else                        |
//! | `train-rows` | in  | train-rows | training rows; exactly one of the two         |
//! | `file`       | out | raw        | the same rows, in their order                 |
//!
//! In Parquet every key of the first row is a column of text; what is not text is in it as JSON, and a later
//! row with another key is refused. The same rows give the same bytes.

use std::fs::File;
use std::io::BufWriter;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{ArtifactType, Input, Output, Ports, Stage, StageContext, StageError};

use crate::flow::flow_rows;
use crate::rows::{Chunk, FileFormat, FileWriter, RowReader};

/// The kind `export-rows`.
pub(crate) struct ExportRows;

/// A format that other programs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Format {
    /// JSON lines.
    Jsonl,
    /// JSON lines, gzip-compressed.
    JsonlGz,
    /// JSON lines, compressed by Zstandard.
    JsonlZst,
    /// One JSON list.
    Json,
    /// Parquet.
    Parquet,
}

/// How to write.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// The file's format.
    format: Format,
}

impl Stage for ExportRows {
    const KIND: &'static str = "export-rows";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "writes rows as JSON lines, JSON or Parquet for other programs";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Raw, Rows, TrainRows};
        const {
            Ports {
                inputs: &[
                    Input::optional("rows", Rows, "conversations"),
                    Input::optional("train-rows", TrainRows, "training rows"),
                ],
                outputs: &[Output::new("file", Raw, "the same rows, in their order")],
            }
        }
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let given = (context.optional("rows"), context.optional("train-rows"));
        let ((Some(from), None) | (None, Some(from))) = given else {
            return Err(StageError::failed_try(
                "`export-rows` needs either `rows` or `train-rows`, not both and not neither",
                "give `inputs.rows` or `inputs.train-rows`",
            ));
        };
        let format = match p.format {
            Format::Jsonl => FileFormat::Lines,
            Format::JsonlGz => FileFormat::Gzip,
            Format::JsonlZst => FileFormat::Zstandard,
            Format::Json => FileFormat::List,
            Format::Parquet => FileFormat::Parquet,
        };
        let to = context.output("file");
        let file = File::create(&to).map_err(StageError::io("create", &to))?;
        let mut writer = FileWriter::new(BufWriter::new(file), format, &to)?;
        let work = |_, chunk: Chunk| chunk.values().collect::<Result<Vec<_>, _>>();
        flow_rows(context, RowReader::open(from)?, work, |rows| {
            rows.iter().try_for_each(|(_, row)| writer.write(row))
        })?;
        let rows = writer.finish()?;
        context.info(format!("{rows} rows"));
        Ok(())
    }
}
