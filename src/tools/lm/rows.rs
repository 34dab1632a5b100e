//! JSON rows in, JSON rows out: a row that is wrong becomes a row that says so, and the others go on.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use starling::exit;
use starling_lm::load::Checkpoint;
use starling_lm::tokenizer::Tokenizer;
use starling_text::json::{self, Value};

use crate::cli::output::{Failure, story};

/// Where rows come from and go to.
#[derive(Debug, clap::Args)]
pub(super) struct Files {
    /// JSON rows; `-` for stdin
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// Where rows go; `-` for stdout
    #[arg(long = "out", value_name = "FILE")]
    output: PathBuf,
}

/// A row, or what is wrong with it.
pub(super) struct Row {
    /// `id`, or the number of the line.
    pub(super) id: Value,
    /// `FILE:LINE`, for messages.
    pub(super) place: String,
    /// The object.
    pub(super) body: Result<Value, String>,
}

impl Row {
    /// The `id` as a name that random numbers depend on.
    pub(super) fn name(&self) -> String {
        self.id
            .as_str()
            .map_or_else(|| json::dumps(&self.id), str::to_owned)
    }
}

/// The open files.
pub(super) struct Stream {
    input: Box<dyn BufRead>,
    name: String,
    line: usize,
    output: Box<dyn Write>,
    output_path: PathBuf,
    /// Rows written that say what is wrong.
    wrong: usize,
    rows: usize,
}

impl Files {
    pub(super) fn open(&self) -> Result<Stream, Failure> {
        let fail = |path: &Path, error: std::io::Error| {
            Failure::new(exit::PIPELINE, format!("{}: {error}", path.display()))
        };
        let input: Box<dyn BufRead> = if self.input.as_os_str() == "-" {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let file = File::open(&self.input).map_err(|e| fail(&self.input, e))?;
            Box::new(BufReader::new(file))
        };
        let output: Box<dyn Write> = if self.output.as_os_str() == "-" {
            Box::new(std::io::stdout().lock())
        } else {
            let file = File::create(&self.output).map_err(|e| fail(&self.output, e))?;
            Box::new(BufWriter::new(file))
        };
        Ok(Stream {
            input,
            name: self.input.display().to_string(),
            line: 0,
            output,
            output_path: self.output.clone(),
            wrong: 0,
            rows: 0,
        })
    }
}

impl Stream {
    /// Up to `most` further rows; none at the end. Blank lines are no rows.
    pub(super) fn read(&mut self, most: usize) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        let mut bytes = Vec::new();
        while rows.len() < most {
            bytes.clear();
            self.line += 1;
            let read = self.input.read_until(b'\n', &mut bytes).map_err(|error| {
                Failure::new(
                    exit::PIPELINE,
                    format!("{}:{}: {error}", self.name, self.line),
                )
            })?;
            if read == 0 {
                break;
            }
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            rows.push(self.row(&bytes));
        }
        Ok(rows)
    }

    fn row(&self, bytes: &[u8]) -> Row {
        let parsed = std::str::from_utf8(bytes)
            .map_err(|error| format!("not UTF-8: {error}"))
            .and_then(|text| json::parse(text).map_err(|error| format!("not JSON: {error}")))
            .and_then(|value| match value {
                Value::Dict(_) => Ok(value),
                _ => Err("not an object".to_owned()),
            });
        let id = parsed.as_ref().ok().and_then(|row| row.get("id")).cloned();
        Row {
            id: id.unwrap_or_else(|| Value::from(self.line as i64)),
            place: format!("{}:{}", self.name, self.line),
            body: parsed,
        }
    }

    /// Writes a row: its id, then these fields, which are JSON already.
    pub(super) fn write(&mut self, row: &Row, fields: &[(&str, String)]) -> Result<(), Failure> {
        let mut text = format!("{{\"id\": {}", json::dumps(&row.id));
        for (name, value) in fields {
            text.push_str(&format!(", \"{name}\": {value}"));
        }
        text.push_str("}\n");
        self.rows += 1;
        self.output
            .write_all(text.as_bytes())
            .map_err(|error| self.unwritable(&error))
    }

    /// Writes a row that says what is wrong with its origin.
    pub(super) fn write_wrong(&mut self, row: &Row, reason: &str) -> Result<(), Failure> {
        let message = format!("{}: {reason}", row.place);
        story(&format!("error: {message}"));
        self.wrong += 1;
        self.write(row, &[("error", json::dumps(&Value::Str(message)))])
    }

    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.output.flush().map_err(|error| self.unwritable(&error))
    }

    fn unwritable(&self, error: &std::io::Error) -> Failure {
        Failure::new(
            exit::PIPELINE,
            format!("{}: {error}", self.output_path.display()),
        )
    }

    /// Ends the output; the exit code tells whether every row was done.
    pub(super) fn finish(mut self) -> Result<u8, Failure> {
        self.flush()?;
        if self.wrong == 0 {
            return Ok(exit::DONE);
        }
        story(&format!(
            "{} of {} rows could not be done; they say why under `error`",
            self.wrong, self.rows
        ));
        Ok(exit::STAGE)
    }
}

/// The tokenizer of a model, asked for when the first row needs it.
pub(super) struct Texts {
    tokenizer: Result<Tokenizer, String>,
}

impl Texts {
    pub(super) fn new(checkpoint: &Checkpoint) -> Self {
        let tokenizer = checkpoint.tokenizer().map_err(|error| error.to_string());
        if let Ok(tokenizer) = &tokenizer
            && tokenizer.vocab_size() > checkpoint.config.vocab_size
        {
            story(&format!(
                "warning: the tokenizer has {} tokens, the model's embedding {}; texts with the others cannot be read",
                tokenizer.vocab_size(),
                checkpoint.config.vocab_size
            ));
        }
        Self { tokenizer }
    }

    pub(super) fn tokenizer(&self) -> Result<&Tokenizer, String> {
        self.tokenizer.as_ref().map_err(|reason| {
            format!("a text needs a tokenizer ({reason}); give token ids as `ids` instead")
        })
    }

    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        self.tokenizer()?
            .encode(text)
            .map_err(|error| error.to_string())
    }
}

/// The token ids of a field.
pub(super) fn ids(value: &Value) -> Result<Vec<u32>, String> {
    let list = value.as_list().ok_or("`ids` is not a list")?;
    let id = |(at, value): (usize, &Value)| {
        let id = value.as_i64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| format!("`ids[{at}]` is {}, not a token id", json::dumps(value)))
    };
    list.iter().enumerate().map(id).collect()
}

/// A field as JSON.
pub(super) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
