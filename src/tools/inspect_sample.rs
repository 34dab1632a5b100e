//! `starling inspect sample`: a training row with its tokens.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use starling::exit;
use starling_cache::{LocalStore, OutputRef, Store as _};
use starling_lm::tokenizer::Tokenizer;
use starling_reward::{Answer, CallFormat, split_thought};
use starling_text::json::{self, Value};
use tempfile::TempDir;

use super::files;
use crate::cli::output::{self, Failure};
use crate::cli::session::{About, Session, output_of};

/// What opens the assistant's turn; what follows it in a prompt is the beginning of the answer.
const ASSISTANT: &str = "<|im_start|>assistant\n";
/// The file of texts in a folder of rollouts.
const TEXTS: &str = "rollouts.jsonl";

/// Show a training row: what is only read, and what is trained on
///
/// The prompt is masked: the model reads it and no loss is taken from it; it is dim. Every token of the
/// answer is trained on: it stands in brackets, and in colour on a terminal. Below is told whether the tokens
/// give the text back, and how the answer reads.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A file of training rows, a folder of rollouts, or STAGE.PORT of the pipeline
    artifact: String,
    /// Which row, from 0
    #[arg(default_value_t = 0)]
    row: usize,
    /// A folder with a tokenizer [default: the one that the stage was given; without, no tokens are told apart]
    #[arg(long, value_name = "FOLDER")]
    tokenizer: Option<PathBuf>,
    /// Print the row as JSON: its texts, its tokens, and whether they give the texts back
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    about: About,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let path = Path::new(&self.artifact);
        let found = if path.exists() {
            Found {
                file: if path.is_dir() {
                    path.join(TEXTS)
                } else {
                    path.to_owned()
                },
                tokenizer: None,
            }
        } else {
            self.of_stage(session)?
        };
        let row = nth(&found.file, self.row, &self.artifact)?;
        let folder = match (&self.tokenizer, &found.tokenizer) {
            (Some(folder), _) => Some(folder.clone()),
            (None, Some(folder)) => Some(folder.path().to_owned()),
            (None, None) => None,
        };
        let tokenizer = folder.map(|folder| {
            Tokenizer::from_folder(&folder)
                .map_err(|e| Failure::new(exit::PIPELINE, format!("{}: {e}", folder.display())))
        });
        let tokenizer = tokenizer.transpose()?;
        let sample = Sample::new(&row, self.row, tokenizer.as_ref())
            .map_err(|why| Failure::new(exit::PIPELINE, format!("{}: {why}", self.artifact)))?;
        if self.json {
            output::json(&sample.json());
        } else {
            let colour = std::io::stdout().is_terminal() && output::color();
            output::data(&sample.page(colour));
        }
        Ok(exit::DONE)
    }

    /// The artifact `STAGE.PORT`, and the tokenizer that its stage was given.
    fn of_stage(&self, session: &Session) -> Result<Found, Failure> {
        let absent = || {
            Failure::usage(format!(
                "`{}` is neither a file nor STAGE.PORT of the pipeline, such as `train.rows`; `starling plan` lists its stages",
                self.artifact
            ))
        };
        let (stage, port) = self.artifact.rsplit_once('.').ok_or_else(absent)?;
        let store = session.readable_store()?;
        let pipeline = session.about(&self.about, &store)?;
        let number = pipeline.find(stage).ok_or_else(absent)?;
        let plan = session.plan(&pipeline, &store)?;
        let artifact = output_of(&pipeline, &plan, number, port)?;
        let file = if artifact.tree {
            blob(&store, &artifact, TEXTS)?
        } else {
            store.blob_path(&artifact.digest)
        };
        let file = file
            .ok_or_else(|| Failure::usage(format!("`{}` holds no training rows", self.artifact)))?;
        let given = pipeline.stages[number]
            .inputs
            .iter()
            .find(|input| matches!(input.port.as_str(), "tokenizer" | "model" | "student"));
        let tokenizer = match given {
            None => None,
            Some(input) => {
                let artifact = output_of(&pipeline, &plan, input.stage, &input.output)?;
                Some(folder_of(&store, &artifact)?)
            }
        };
        Ok(Found { file, tokenizer })
    }
}

struct Found {
    file: PathBuf,
    tokenizer: Option<TempDir>,
}

/// A file of a folder artifact.
fn blob(store: &LocalStore, artifact: &OutputRef, file: &str) -> Result<Option<PathBuf>, Failure> {
    let manifest = store.manifest(&artifact.digest)?;
    let mut files = manifest.files();
    let found = files.find(|(name, _, _)| *name == file);
    Ok(found.and_then(|(_, digest, _)| store.blob_path(&digest)))
}

/// The tokenizer's files of a folder artifact, in a folder of their own.
fn folder_of(store: &LocalStore, artifact: &OutputRef) -> Result<TempDir, Failure> {
    let failed =
        |e: std::io::Error| Failure::new(exit::CACHE, format!("cannot copy the tokenizer: {e}"));
    let folder = TempDir::new().map_err(failed)?;
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ] {
        if let Some(path) = blob(store, artifact, name)? {
            std::fs::copy(path, folder.path().join(name)).map_err(failed)?;
        }
    }
    Ok(folder)
}

/// A row of a file, from 0.
fn nth(file: &Path, row: usize, name: &str) -> Result<Value, Failure> {
    let mut reader = files::open(file)?;
    let mut count = 0;
    while let Some((_, value)) = reader.next_row().map_err(|e| files::failure(&e))? {
        if count == row {
            return Ok(value);
        }
        count += 1;
    }
    Err(Failure::usage(format!(
        "`{name}` has {count} rows; the first is 0"
    )))
}

const DIM: &str = "\u{1b}[2m";
const TRAINED: &str = "\u{1b}[1;32m";
const END: &str = "\u{1b}[0m";

/// What is to be said of a row.
struct Sample<'a> {
    number: usize,
    id: String,
    format: &'a str,
    inputs: &'a str,
    targets: &'a str,
    tokens: Option<Tokens<'a>>,
}

/// The tokens of a row: masked ones, trained ones.
struct Tokens<'a> {
    tokenizer: &'a Tokenizer,
    masked: Vec<u32>,
    trained: Vec<u32>,
    /// Whether they give the texts back.
    round_trip: bool,
}

impl<'a> Sample<'a> {
    fn new(
        row: &'a Value,
        number: usize,
        tokenizer: Option<&'a Tokenizer>,
    ) -> Result<Self, String> {
        let text = |key: &str| {
            let text = row.get(key).and_then(Value::as_str);
            text.ok_or_else(|| {
                format!("row {number} has no text `{key}`, so it is no training row")
            })
        };
        let (inputs, targets) = (text("inputs")?, text("targets")?);
        let tokens = tokenizer.map(|tokenizer| {
            let encode = |text: &str| tokenizer.encode(text).map_err(|e| e.to_string());
            let (masked, trained) = (encode(inputs)?, encode(targets)?);
            let round_trip = tokenizer.decode(&masked, false) == inputs
                && tokenizer.decode(&trained, false) == targets;
            Ok::<_, String>(Tokens {
                tokenizer,
                masked,
                trained,
                round_trip,
            })
        });
        Ok(Self {
            number,
            id: row.get("id").map(json::dumps).unwrap_or_default(),
            format: row
                .get("call_format")
                .and_then(Value::as_str)
                .unwrap_or("hermes"),
            inputs,
            targets,
            tokens: tokens.transpose()?,
        })
    }

    /// How the answer reads, behind what the prompt has begun of it.
    fn reading(&self) -> String {
        let begun = self.inputs.rsplit_once(ASSISTANT);
        let begun = begun.map_or("", |(_, begun)| begun);
        reading(&format!("{begun}{}", self.targets), self.format)
    }

    fn page(&self, colour: bool) -> String {
        let Self {
            number, id, format, ..
        } = self;
        let mut page = format!("row {number}, id {id}, calls as {format}\n");
        let (dim, trained, end) = if colour {
            (DIM, TRAINED, END)
        } else {
            ("", "", "")
        };
        let answer = match &self.tokens {
            None => format!("{trained}[{}]{end}", self.targets),
            Some(tokens) => {
                let (masked, answer) = (tokens.masked.len(), tokens.trained.len());
                let share = 100.0 * answer as f64 / (masked + answer).max(1) as f64;
                let _ = writeln!(
                    page,
                    "{} tokens: {masked} masked, {answer} trained ({share:.1} %)",
                    masked + answer
                );
                bracketed(tokens.tokenizer, &tokens.trained, trained, end)
            }
        };
        let _ = writeln!(page, "\n{dim}{}{end}{answer}\n", self.inputs);
        page.push_str(match &self.tokens {
            Some(tokens) if tokens.round_trip => "tokens   give the text back\n",
            Some(_) => "tokens   DO NOT give the text back\n",
            None => "tokens   not told apart; give --tokenizer\n",
        });
        let _ = writeln!(page, "answer   {}", self.reading());
        page
    }

    fn json(&self) -> serde_json::Value {
        let tokens = self.tokens.as_ref().map(|tokens| {
            serde_json::json!({
                "masked": tokens.masked,
                "trained": tokens.trained,
                "round_trip": tokens.round_trip,
            })
        });
        serde_json::json!({
            "row": self.number,
            "id": serde_json::from_str::<serde_json::Value>(&self.id).unwrap_or_default(),
            "call_format": self.format,
            "inputs": self.inputs,
            "targets": self.targets,
            "tokens": tokens,
            "answer": self.reading(),
        })
    }
}

/// The tokens of an answer, each in brackets; bytes of a character that is spread over several tokens stand
/// together in theirs.
fn bracketed(tokenizer: &Tokenizer, ids: &[u32], trained: &str, end: &str) -> String {
    let mut page = String::new();
    let mut held = Vec::new();
    for id in ids {
        held.push(*id);
        let piece = tokenizer.decode(&held, false);
        if piece.ends_with('\u{fffd}') && held.len() < 4 {
            continue;
        }
        held.clear();
        // A bracket that closes behind a line break would stand on the next line.
        let line_ends = piece.len() - piece.trim_end_matches('\n').len();
        let (text, breaks) = piece.split_at(piece.len() - line_ends);
        let _ = write!(
            page,
            "{trained}[{text}{}]{end}{breaks}",
            "↵".repeat(line_ends)
        );
    }
    page
}

/// How a turn reads: its calls, its reply, or why it does not.
fn reading(turn: &str, format: &str) -> String {
    let format = match format {
        "json" => CallFormat::Json,
        "pythonic" => CallFormat::Pythonic,
        _ => CallFormat::Hermes,
    };
    let (thought, answer) = match split_thought(turn) {
        Ok(parts) => parts,
        Err(spans) => return format!("holds {spans} thoughts instead of one"),
    };
    let answer = answer.trim_end();
    let answer = answer.strip_suffix("<|im_end|>").unwrap_or(answer);
    let thought = match thought.trim() {
        "" => "no thought",
        _ => "a thought",
    };
    match format.parse(answer) {
        Ok(Answer::Calls { calls, .. }) => {
            let names: Vec<String> = calls
                .iter()
                .map(|c| {
                    c.name
                        .as_str()
                        .map_or_else(|| json::dumps(&c.name), str::to_owned)
                })
                .collect();
            format!(
                "{thought}, then {} calls: {}",
                calls.len(),
                names.join(", ")
            )
        }
        Ok(Answer::Reply(text)) => {
            format!(
                "{thought}, then a reply of {} characters",
                text.chars().count()
            )
        }
        Ok(Answer::Unclosed) => format!("{thought}, then a call that is not closed"),
        Err(why) => format!("does not read: {why}"),
    }
}
