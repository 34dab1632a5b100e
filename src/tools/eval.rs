//! `starling eval`: a benchmark without a pipeline.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use starling::{exit, pipeline};

use crate::cli::copy;
use crate::cli::output::{self, Failure, story};
use crate::cli::run::Execution;
use crate::cli::session::{MADE_NAME, Session, output_of, stage};

/// Examine a model on a benchmark, without a pipeline of one's own
///
/// Makes a pipeline of its arguments and runs it with the store: what was examined before is not examined again,
/// and Ctrl-C and the same command continue. `--show` prints that pipeline, to keep and to change.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The model: a Hugging Face folder or a GGUF file; or its name, with --endpoint
    #[arg(long, value_name = "PATH")]
    model: String,
    /// The benchmark
    #[arg(long, value_enum)]
    bench: Bench,
    /// Categories or groups of them, for example `live,multi_turn_base` or `normal` [default: the kind's]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    categories: Vec<String>,
    /// At most so many entries of each category, evenly spread over its file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Most tokens of an answer [default: the kind's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: Option<u32>,
    /// Longest prompt that is asked, in tokens [default: the kind's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_prompt_tokens: Option<u32>,
    /// Ask this OpenAI-compatible server, for example http://127.0.0.1:8080/v1
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The environment variable that holds the server's key
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    key_variable: Option<String>,
    /// The chat template to prompt the model with, where it has none of its own: qwen3 or compact
    #[arg(long, value_name = "NAME")]
    chat_template: Option<String>,
    /// Change any parameter of the kind, for example `languages=["en", "zh"]`
    #[arg(long, value_name = "PARAM=VALUE")]
    set: Vec<String>,
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// Copy the evaluation to this folder: items.jsonl (for `inspect case --outputs`), metrics.json
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Print the pipeline instead of running it
    #[arg(long)]
    show: bool,
    /// Print events as JSON lines on stdout instead of the story and the table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bench {
    /// Berkeley Function Calling Leaderboard, version 3
    Bfcl,
    /// ACEBench
    Acebench,
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let text = self.pipeline()?;
        self.look_at_model(&session.store_folder())?;
        if self.show {
            output::data(&text);
            return Ok(exit::DONE);
        }
        let folder = std::env::current_dir()
            .map_err(|e| Failure::usage(format!("cannot find the working folder: {e}")))?;
        let sets: Vec<String> = self.set.iter().map(|set| format!("eval.{set}")).collect();
        let read = pipeline::read(MADE_NAME, &folder, &text, &sets, &session.registry);
        let pipeline = read.map_err(Box::new)?;
        self.out.as_deref().map_or(Ok(()), copy::fits)?;
        story("the pipeline was made of the arguments; `--show` prints it");
        let code = Execution {
            threads: self.threads,
            memory: None,
            cards: None,
            keep_going: true,
            retries: 3,
            paranoid: false,
            mixed: false,
            ahead: None,
            json: self.json,
            overrides: sets,
        }
        .run(session, &pipeline)?;
        if let (exit::DONE, Some(out)) = (code, &self.out) {
            let readable = session.readable_store()?;
            let plan = session.plan(&pipeline, &readable)?;
            let artifact = output_of(&pipeline, &plan, stage(&pipeline, "eval")?, "evaluation")?;
            copy::copy(&session.existing_store()?, &artifact, out)?;
            story(&format!(
                "prompts, outputs and verdicts are in {}",
                out.display()
            ));
        }
        Ok(code)
    }

    /// Refuses what can be no model, before anything is made of it.
    fn look_at_model(&self, store: &Path) -> Result<(), Failure> {
        if self.endpoint.is_some() {
            return Ok(());
        }
        let path = Path::new(&self.model);
        let is_gguf = || {
            let mut start = [0; 4];
            let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
            read.is_ok() && start == *b"GGUF"
        };
        let wrong = if !path.exists() {
            "there is nothing"
        } else if path.is_dir() && !path.join("config.json").is_file() {
            "the folder has no config.json"
        } else if path.is_file() && !is_gguf() {
            "the file does not begin with `GGUF`"
        } else {
            let folder = std::path::absolute(path).and_then(std::fs::canonicalize);
            let parent = std::path::absolute(store).ok();
            let parent = parent.as_deref().and_then(Path::parent);
            let parent = parent.and_then(|parent| std::fs::canonicalize(parent).ok());
            let inside = folder.is_ok_and(|f| parent.is_some_and(|store| store.starts_with(f)));
            if !inside {
                return Ok(());
            }
            return Err(Failure::usage(format!(
                "the store {} lies in the model's folder, whose content would change while it is read; name another \
                 with `--store`, or run from another folder",
                store.display()
            )));
        };
        let text = format!(
            "there is no model at {}: {wrong}; `--model` is a Hugging Face folder or a GGUF file, or a name with \
             `--endpoint`",
            path.display()
        );
        Err(Failure::new(exit::PIPELINE, text))
    }

    /// The pipeline that the arguments stand for.
    fn pipeline(&self) -> Result<String, Failure> {
        let bench = match self.bench {
            Bench::Bfcl => "bfcl",
            Bench::Acebench => "acebench",
        };
        let mut text = String::new();
        if self.endpoint.is_none() {
            let path = std::path::absolute(&self.model)
                .map_err(|e| Failure::usage(format!("{}: {e}", self.model)))?;
            text.push_str(&format!(
                "[stage.weights]\nkind = \"source\"\npath = {}\n\n\
                 [stage.model]\nkind = \"model-init\"\ninputs.from = \"weights.data\"\n",
                quoted(&path.to_string_lossy())
            ));
            if let Some(template) = &self.chat_template {
                text.push_str(&format!("chat-template = {}\n", quoted(template)));
            }
            text.push('\n');
        }
        text.push_str(&format!("[stage.eval]\nkind = \"{bench}\"\n"));
        match &self.endpoint {
            None => text.push_str("inputs.model = \"model.model\"\n"),
            Some(url) => {
                text.push_str(&format!(
                    "endpoint.base-url = {}\nendpoint.model = {}\n",
                    quoted(url),
                    quoted(&self.model)
                ));
                if let Some(variable) = &self.key_variable {
                    text.push_str(&format!("endpoint.key-variable = {}\n", quoted(variable)));
                }
            }
        }
        if !self.categories.is_empty() {
            let names: Vec<String> = self
                .categories
                .iter()
                .map(|name| quoted(name.trim()))
                .collect();
            text.push_str(&format!("categories = [{}]\n", names.join(", ")));
        }
        for (name, value) in [
            ("items-per-category", self.limit),
            ("max-new-tokens", self.max_new_tokens),
            ("max-prompt-tokens", self.max_prompt_tokens),
        ] {
            if let Some(value) = value {
                text.push_str(&format!("{name} = {value}\n"));
            }
        }
        Ok(text)
    }
}
