//! Rows in, rows out: `-` stands for standard input and output, formats are told by content and name.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use starling::exit;
use starling_contract::StageError;
use starling_stages::rows::{FileFormat, FileWriter, Place, RowReader};

use crate::cli::output::{self, Failure};

/// Bad rows that are told one by one; the rest is counted.
const TOLD: usize = 20;

/// A file that cannot be read or written, as a failure of the command.
pub(crate) fn failure(error: &StageError) -> Failure {
    Failure::new(exit::PIPELINE, output::chain(error))
}

/// Opens the rows of a file, or of standard input.
pub(crate) fn open(path: &Path) -> Result<RowReader, Failure> {
    if path != Path::new("-") && !path.exists() {
        return Err(Failure::new(
            exit::PIPELINE,
            format!(
                "there is no {}; name a file of rows, a folder of them, or - for standard input",
                path.display()
            ),
        ));
    }
    let reader = if path == Path::new("-") {
        RowReader::stream(std::io::stdin(), Path::new("stdin"))
    } else {
        RowReader::open(path)
    };
    reader.map_err(|e| failure(&e))
}

/// Where rows go: a file that appears when all are written, or standard output.
pub(crate) struct Out {
    writer: FileWriter<BufWriter<Box<dyn Write + Send>>>,
    /// The file while it is written, and what it is called in the end.
    place: Option<(PathBuf, PathBuf)>,
}

impl Out {
    /// Starts the output.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let (out, place): (Box<dyn Write + Send>, _) = if path == Path::new("-") {
            (Box::new(std::io::stdout()), None)
        } else {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(".part");
            let part = path.with_file_name(name);
            let file = File::create(&part).map_err(|e| {
                Failure::new(
                    exit::PIPELINE,
                    format!("cannot create {}: {e}", part.display()),
                )
            })?;
            (Box::new(file), Some((part, path.to_owned())))
        };
        let out = BufWriter::with_capacity(1 << 18, out);
        let writer = FileWriter::new(out, FileFormat::of(path), path).map_err(|e| failure(&e))?;
        Ok(Self { writer, place })
    }

    /// Appends a row.
    pub(crate) fn write(&mut self, row: &starling_text::json::Value) -> Result<(), Failure> {
        self.writer.write(row).map_err(|e| failure(&e))
    }

    /// Ends the output and gives it its name.
    pub(crate) fn finish(self) -> Result<usize, Failure> {
        let count = self.writer.finish().map_err(|e| failure(&e))?;
        if let Some((part, path)) = self.place {
            std::fs::rename(&part, &path).map_err(|e| {
                Failure::new(
                    exit::PIPELINE,
                    format!(
                        "cannot rename {} to {}: {e}",
                        part.display(),
                        path.display()
                    ),
                )
            })?;
        }
        Ok(count)
    }
}

/// Rows that could not be used: told with their places, and counted.
#[derive(Default)]
pub(crate) struct Bad {
    count: usize,
}

impl Bad {
    /// Tells of a row of `file`.
    pub(crate) fn tell(&mut self, file: &Path, place: &Place, why: &str) {
        self.count += 1;
        if self.count <= TOLD {
            let mut path = file.to_owned();
            if !place.file.is_empty() {
                path.push(&place.file);
            }
            output::story(&format!("{}:{}: {why}", path.display(), place.line));
        }
    }

    /// The exit code: 4 when a row could not be used.
    pub(crate) fn code(&self, of: usize) -> u8 {
        if self.count == 0 {
            return exit::DONE;
        }
        if self.count > TOLD {
            output::story(&format!("… and {} more", self.count - TOLD));
        }
        output::story(&format!(
            "error: {} of {of} rows could not be used; the others were written",
            self.count
        ));
        exit::STAGE
    }
}
