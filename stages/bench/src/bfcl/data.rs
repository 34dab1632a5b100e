//! The data files: compiled into the binary, or read from a folder laid out alike.

use std::borrow::Cow;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};
use starling_text::json::{self, ParseError, Value};
use thiserror::Error;

use super::category::Category;

/// What can be wrong with a data folder.
#[derive(Debug, Error)]
pub enum DataError {
    /// A file cannot be read or unpacked.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not UTF-8.
    #[error("{file} is not UTF-8")]
    NotUtf8 {
        /// The file, relative to the data folder.
        file: String,
    },
    /// A line is not JSON.
    #[error("{file}, line {line}: {source}")]
    Json {
        /// The file, relative to the data folder.
        file: String,
        /// Counted from 1.
        line: usize,
        /// Why.
        source: ParseError,
    },
    /// A line has not the form of an item, answer or document.
    #[error("{file}, line {line}: {problem}")]
    Shape {
        /// The file, relative to the data folder.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is missing.
        problem: String,
    },
}

/// Every file of the data, relative to its folder and without `.gz`, in order of their names.
const FILES: [(&str, &[u8]); 41] = [
    (
        "BFCL_v4_irrelevance.json",
        include_bytes!("../../data/bfcl/BFCL_v4_irrelevance.json.gz"),
    ),
    (
        "BFCL_v4_live_irrelevance.json",
        include_bytes!("../../data/bfcl/BFCL_v4_live_irrelevance.json.gz"),
    ),
    (
        "BFCL_v4_live_multiple.json",
        include_bytes!("../../data/bfcl/BFCL_v4_live_multiple.json.gz"),
    ),
    (
        "BFCL_v4_live_parallel.json",
        include_bytes!("../../data/bfcl/BFCL_v4_live_parallel.json.gz"),
    ),
    (
        "BFCL_v4_live_parallel_multiple.json",
        include_bytes!("../../data/bfcl/BFCL_v4_live_parallel_multiple.json.gz"),
    ),
    (
        "BFCL_v4_live_relevance.json",
        include_bytes!("../../data/bfcl/BFCL_v4_live_relevance.json.gz"),
    ),
    (
        "BFCL_v4_live_simple.json",
        include_bytes!("../../data/bfcl/BFCL_v4_live_simple.json.gz"),
    ),
    (
        "BFCL_v4_multi_turn_base.json",
        include_bytes!("../../data/bfcl/BFCL_v4_multi_turn_base.json.gz"),
    ),
    (
        "BFCL_v4_multi_turn_long_context.json",
        include_bytes!("../../data/bfcl/BFCL_v4_multi_turn_long_context.json.gz"),
    ),
    (
        "BFCL_v4_multi_turn_miss_func.json",
        include_bytes!("../../data/bfcl/BFCL_v4_multi_turn_miss_func.json.gz"),
    ),
    (
        "BFCL_v4_multi_turn_miss_param.json",
        include_bytes!("../../data/bfcl/BFCL_v4_multi_turn_miss_param.json.gz"),
    ),
    (
        "BFCL_v4_multiple.json",
        include_bytes!("../../data/bfcl/BFCL_v4_multiple.json.gz"),
    ),
    (
        "BFCL_v4_parallel.json",
        include_bytes!("../../data/bfcl/BFCL_v4_parallel.json.gz"),
    ),
    (
        "BFCL_v4_parallel_multiple.json",
        include_bytes!("../../data/bfcl/BFCL_v4_parallel_multiple.json.gz"),
    ),
    (
        "BFCL_v4_simple_java.json",
        include_bytes!("../../data/bfcl/BFCL_v4_simple_java.json.gz"),
    ),
    (
        "BFCL_v4_simple_javascript.json",
        include_bytes!("../../data/bfcl/BFCL_v4_simple_javascript.json.gz"),
    ),
    (
        "BFCL_v4_simple_python.json",
        include_bytes!("../../data/bfcl/BFCL_v4_simple_python.json.gz"),
    ),
    (
        "backend_tables/backends.json",
        include_bytes!("../../data/bfcl/backend_tables/backends.json.gz"),
    ),
    (
        "backend_tables/long_context.json",
        include_bytes!("../../data/bfcl/backend_tables/long_context.json.gz"),
    ),
    (
        "multi_turn_func_doc/gorilla_file_system.json",
        include_bytes!("../../data/bfcl/multi_turn_func_doc/gorilla_file_system.json.gz"),
    ),
    (
        "multi_turn_func_doc/math_api.json",
        include_bytes!("../../data/bfcl/multi_turn_func_doc/math_api.json.gz"),
    ),
    (
        "multi_turn_func_doc/message_api.json",
        include_bytes!("../../data/bfcl/multi_turn_func_doc/message_api.json.gz"),
    ),
    (
        "multi_turn_func_doc/posting_api.json",
        include_bytes!("../../data/bfcl/multi_turn_func_doc/posting_api.json.gz"),
    ),
    (
        "multi_turn_func_doc/ticket_api.json",
        include_bytes!("../../data/bfcl/multi_turn_func_doc/ticket_api.json.gz"),
    ),
    (
        "multi_turn_func_doc/trading_bot.json",
        include_bytes!("../../data/bfcl/multi_turn_func_doc/trading_bot.json.gz"),
    ),
    (
        "multi_turn_func_doc/travel_booking.json",
        include_bytes!("../../data/bfcl/multi_turn_func_doc/travel_booking.json.gz"),
    ),
    (
        "multi_turn_func_doc/vehicle_control.json",
        include_bytes!("../../data/bfcl/multi_turn_func_doc/vehicle_control.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_live_multiple.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_live_multiple.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_live_parallel.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_live_parallel.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_live_parallel_multiple.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_live_parallel_multiple.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_live_simple.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_live_simple.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_multi_turn_base.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_multi_turn_base.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_multi_turn_long_context.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_multi_turn_long_context.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_multi_turn_miss_func.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_multi_turn_miss_func.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_multi_turn_miss_param.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_multi_turn_miss_param.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_multiple.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_multiple.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_parallel.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_parallel.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_parallel_multiple.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_parallel_multiple.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_simple_java.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_simple_java.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_simple_javascript.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_simple_javascript.json.gz"),
    ),
    (
        "possible_answer/BFCL_v4_simple_python.json",
        include_bytes!("../../data/bfcl/possible_answer/BFCL_v4_simple_python.json.gz"),
    ),
];

/// The digest of these files, for unpacking them all takes a third of the time of scoring a run; a test computes it.
const EMBEDDED_DIGEST: &str = "317be50390c2dada136e78118a3441dee7584c0dcf0730c21c3e5c7f82bdd2a7";

/// Largest unpacked file that is accepted, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// Where the data come from.
#[derive(Debug, Clone, Default)]
pub enum Source {
    /// The files of `bfcl-eval` 2026.3.23 that are part of the binary.
    #[default]
    Embedded,
    /// A folder with the same files, each plain or with `.gz`.
    Folder(PathBuf),
}

impl Source {
    /// Whether these are the files of the binary, which tests have read whole.
    pub(super) fn is_embedded(&self) -> bool {
        matches!(self, Self::Embedded)
    }

    /// The text of one file.
    ///
    /// # Errors
    /// [`DataError::Read`] or [`DataError::NotUtf8`].
    pub(crate) fn text(&self, file: &str) -> Result<String, DataError> {
        let bytes = self.bytes(file)?;
        String::from_utf8(bytes).map_err(|_| DataError::NotUtf8 {
            file: file.to_owned(),
        })
    }

    fn bytes(&self, file: &str) -> Result<Vec<u8>, DataError> {
        let read = |path: PathBuf| move |source| DataError::Read { path, source };
        let packed: Cow<'_, [u8]> = match self {
            Self::Embedded => {
                let found = FILES.iter().find(|(name, _)| *name == file);
                let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
                let found = found
                    .ok_or_else(missing)
                    .map_err(read(PathBuf::from(file)))?;
                Cow::Borrowed(found.1)
            }
            Self::Folder(folder) => {
                let plain = folder.join(file);
                if plain.is_file() {
                    return std::fs::read(&plain).map_err(read(plain));
                }
                let packed = folder.join(format!("{file}.gz"));
                Cow::Owned(std::fs::read(&packed).map_err(read(packed))?)
            }
        };
        let mut bytes = Vec::new();
        GzDecoder::new(packed.as_ref())
            .take(MAX_FILE)
            .read_to_end(&mut bytes)
            .map_err(read(self.path(file)))?;
        Ok(bytes)
    }

    fn path(&self, file: &str) -> PathBuf {
        match self {
            Self::Embedded => Path::new("embedded").join(file),
            Self::Folder(folder) => folder.join(file),
        }
    }

    /// The values of a file of JSON lines.
    ///
    /// # Errors
    /// [`DataError`] with the first line that is not JSON.
    pub(crate) fn lines(&self, file: &str) -> Result<Vec<Value>, DataError> {
        let text = self.text(file)?;
        let parse = |(index, line): (usize, &str)| {
            json::parse(line).map_err(|source| DataError::Json {
                file: file.to_owned(),
                line: index + 1,
                source,
            })
        };
        let lines = text.lines().enumerate();
        lines
            .filter(|(_, line)| !line.trim().is_empty())
            .map(parse)
            .collect()
    }

    /// SHA-256 over the name, length and unpacked bytes of every file, as lower-case hexadecimal digits.
    ///
    /// # Errors
    /// [`DataError::Read`] for a file that is missing.
    pub fn digest(&self) -> Result<String, DataError> {
        match self {
            Self::Embedded => Ok(EMBEDDED_DIGEST.to_owned()),
            Self::Folder(_) => self.computed_digest(),
        }
    }

    fn computed_digest(&self) -> Result<String, DataError> {
        let mut hasher = Sha256::new();
        for (file, _) in FILES {
            let bytes = self.bytes(file)?;
            hasher.update((file.len() as u64).to_le_bytes());
            hasher.update(file);
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(&bytes);
        }
        Ok(hex(&hasher.finalize()))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// File of the questions of a category.
pub(crate) fn questions_file(category: Category) -> String {
    format!("BFCL_v4_{category}.json")
}

/// File of the accepted answers of a category.
pub(crate) fn answers_file(category: Category) -> String {
    format!("possible_answer/BFCL_v4_{category}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_the_binarys_files_is_theirs() {
        let source = Source::Embedded;
        assert_eq!(
            source.computed_digest().expect("files"),
            source.digest().expect("digest")
        );
    }
}
