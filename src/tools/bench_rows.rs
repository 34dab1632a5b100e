//! Rows of benchmark outputs: whole files read at once and parsed on all threads, bad rows told with their places.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rayon::prelude::*;
use starling::exit;
use starling_bench::Judged;
use starling_text::json::{self, Value};

use crate::cli::output::{self, Failure, story};

/// Bad rows and differences that are told one by one; the rest is counted.
const TOLD: usize = 20;

/// A row and where it stands.
pub(crate) struct Row {
    file: usize,
    line: usize,
    value: Result<Value, String>,
}

/// All rows of the input.
pub(crate) struct Rows {
    files: Vec<PathBuf>,
    pub(crate) rows: Vec<Row>,
}

impl Row {
    /// The row, or why it is none.
    pub(crate) fn value(&self) -> Result<&Value, String> {
        self.value.as_ref().map_err(Clone::clone)
    }
}

impl Rows {
    /// Reads a file of JSON lines, or the files of a folder that `wanted` names, in any depth; gzip is told by
    /// content, and `-` is standard input.
    pub(crate) fn read(path: &Path, wanted: fn(&str) -> bool) -> Result<Self, Failure> {
        let mut files = Vec::new();
        if path.is_dir() {
            collect(path, wanted, &mut files)?;
            if files.is_empty() {
                return Err(Failure::new(
                    exit::PIPELINE,
                    format!(
                        "{} holds no result files of this benchmark; name a file of JSON lines, or the folder that \
                         its program wrote",
                        path.display()
                    ),
                ));
            }
        } else {
            files.push(path.to_owned());
        }
        let texts: Vec<String> = files
            .iter()
            .map(|file| text(file))
            .collect::<Result<_, _>>()?;
        let lines: Vec<(usize, usize, &str)> = texts
            .iter()
            .enumerate()
            .flat_map(|(file, text)| {
                let lines = text.split('\n').enumerate();
                lines.map(move |(line, text)| (file, line + 1, text))
            })
            .filter(|(_, _, text)| !text.trim().is_empty())
            .collect();
        let row = |&(file, line, text): &(usize, usize, &str)| Row {
            file,
            line,
            value: json::parse(text.trim_end_matches('\r')).map_err(|e| format!("not JSON: {e}")),
        };
        if lines.is_empty() {
            return Err(Failure::new(
                exit::PIPELINE,
                format!(
                    "{} holds no rows; a row is a JSON object with an `id`, on a line of its own",
                    path.display()
                ),
            ));
        }
        Ok(Self {
            rows: lines.par_iter().map(row).collect(),
            files,
        })
    }

    /// What is wrong with the first row that is no JSON, and where it stands.
    pub(crate) fn first_bad(&self) -> Option<String> {
        let bad = |row: &Row| Some(format!("{}: {}", self.place(row), row.value().err()?));
        self.rows.iter().find_map(bad)
    }

    /// Where a row stands, as `file:line`.
    pub(crate) fn place(&self, row: &Row) -> String {
        format!("{}:{}", self.files[row.file].display(), row.line)
    }
}

/// The files below a folder, in the order of their names.
fn collect(
    folder: &Path,
    wanted: fn(&str) -> bool,
    files: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    let entries = std::fs::read_dir(folder)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .map_err(|e| unreadable(folder, &e))?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, wanted, files)?;
        } else if path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(wanted)
        {
            files.push(path);
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        exit::PIPELINE,
        format!(
            "cannot read {}: {error}; name a file of JSON lines, a folder of them, or - for standard input",
            path.display()
        ),
    )
}

/// The text of a file; bytes that are no UTF-8 become U+FFFD, so that a bad row spoils no other.
fn text(path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|e| unreadable(path, &e))?;
    } else {
        bytes = std::fs::read(path).map_err(|e| unreadable(path, &e))?;
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::with_capacity(4 * bytes.len());
        MultiGzDecoder::new(&bytes[..])
            .read_to_end(&mut plain)
            .map_err(|e| unreadable(path, &e))?;
        bytes = plain;
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// What became of all rows.
#[derive(Default)]
pub(crate) struct Outcome {
    shapes: BTreeMap<&'static str, usize>,
    bad: usize,
    compared: usize,
    differing: usize,
}

impl Outcome {
    /// Takes a row in: tells what is wrong with it, or that it is not as expected.
    pub(crate) fn add(&mut self, place: impl Fn() -> String, judged: &Result<Judged, String>) {
        match judged {
            Err(why) => {
                self.bad += 1;
                if self.bad <= TOLD {
                    story(&format!("{}: {why}", place()));
                }
            }
            Ok(judged) => {
                *self.shapes.entry(judged.shape).or_default() += 1;
                self.compared += usize::from(judged.agrees.is_some());
                if judged.agrees == Some(false) {
                    self.differing += 1;
                    if self.differing <= TOLD {
                        let error = judged.error.as_deref().unwrap_or("none");
                        story(&format!(
                            "{}: `{}` is not as the row expects (error: {error})",
                            place(),
                            judged.id
                        ));
                    }
                }
            }
        }
    }

    /// Says what the rows were taken for, and gives the exit code.
    pub(crate) fn finish(&self, check: bool) -> u8 {
        let shapes: Vec<String> = self
            .shapes
            .iter()
            .map(|(shape, count)| format!("{count} {shape}"))
            .collect();
        let shapes = if shapes.is_empty() {
            "none".to_owned()
        } else {
            shapes.join(", ")
        };
        story(&format!("rows: {shapes}"));
        if self.compared > 0 {
            story(&format!(
                "expected results: {} of {} rows agree",
                self.compared - self.differing,
                self.compared
            ));
        }
        if self.bad > 0 {
            if self.bad > TOLD {
                story(&format!("… and {} more", self.bad - TOLD));
            }
            story(&format!(
                "error: {} rows could not be used; the others were judged",
                self.bad
            ));
            return exit::STAGE;
        }
        if check && self.differing > 0 {
            return exit::DIFFERS;
        }
        exit::DONE
    }
}

/// Writes the judged rows, a line each, in order; `-` is standard output.
pub(crate) fn write(path: &Path, judged: &[Result<Judged, String>]) -> Result<(), Failure> {
    let lines: Vec<String> = judged
        .par_iter()
        .filter_map(|judged| judged.as_ref().ok())
        .map(|judged| json::dumps(&judged.to_value()))
        .collect();
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    if path == Path::new("-") {
        output::data(&text);
        return Ok(());
    }
    let failed = |e: std::io::Error| {
        Failure::new(
            exit::PIPELINE,
            format!("cannot write {}: {e}", path.display()),
        )
    };
    let mut file = std::fs::File::create(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// Prints a summary: on standard output, unless rows went there.
pub(crate) fn show(out: Option<&Path>, text: &str) {
    match out {
        Some(path) if path == Path::new("-") => story(text.trim_end()),
        _ => output::data(text),
    }
}

/// Writes a JSON file for programs.
pub(crate) fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), Failure> {
    std::fs::write(path, format!("{value:#}\n")).map_err(|e| {
        Failure::new(
            exit::PIPELINE,
            format!("cannot write {}: {e}", path.display()),
        )
    })
}
