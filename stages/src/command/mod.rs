//! Command: runs a program of the author's with declared inputs, outputs and environment.
//!
//! | port          | way | artifact     | holds                                                      |
//! |---------------|-----|--------------|------------------------------------------------------------|
//! | `in.NAME`     | in  | any          | whatever the program reads, each under a name              |
//! | a type's name | out | of that type | what the program writes: `rows`, `report`, `checkpoint`, … |
//!
//! Nothing else in a pipeline can run a program. It is started without a shell, in an empty working folder, with an
//! environment of its own: what `env` says, the values that `secret-env` names, `PATH`, `LD_LIBRARY_PATH`,
//! `CUDA_VISIBLE_DEVICES`, `CUDA_DEVICE_ORDER`, `LANG=C.UTF-8`, `HOME` and `TMPDIR` in the working folder, and
//!
//! | variable                  | holds                                                                    |
//! |---------------------------|--------------------------------------------------------------------------|
//! | `STARLING_INPUT_<NAME>`   | path of an input; the name in capitals, `_` for all but letters and digits |
//! | `STARLING_OUTPUT_<PORT>`  | path that an output must be written to, as a file or a folder            |
//! | `STARLING_SCRIPT`         | path of the script                                                       |
//! | `STARLING_THREADS`        | threads it may use; must not change a byte                               |
//! | `STARLING_SNAPSHOTS`      | a folder for snapshots                                                   |
//! | `STARLING_RESUME`         | the newest snapshot, a read-only folder; unset when there is none        |
//!
//! To save a snapshot the program makes a folder in `STARLING_SNAPSHOTS` under any name, and when it is whole renames
//! it to a number that grows with the work done. When it is asked to stop it gets SIGTERM.
//!
//! Key: the words, the script's digest, the values of `env`, the inputs. Not in the key: the program itself and what
//! it imports (put a version into `env` to make a change of it count), and names and values of secrets.
//!
//! Secrets: a value never reaches a key, spec, manifest, log, message or artifact. What the program prints goes
//! through a filter; an output or snapshot that holds a value is refused. Encoded forms (compressed, base64) are not
//! seen.

mod program;
mod redact;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Determinism, External, Input, Need, Output, Ports, Stage,
    StageContext, StageError,
};

/// The kind `command`.
pub(crate) struct CommandKind;

/// What to run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// The program and its arguments, a string each; there is no shell unless you name one. `{in.NAME}`,
    /// `{out.PORT}`, `{script}` and `{threads}` stand for paths and the number; `{{` and `}}` for braces.
    argv: Vec<String>,
    /// The outputs that it writes, by their types: `["rows", "report"]`.
    outputs: Vec<String>,
    /// A file or folder of yours that it runs, relative to the pipeline file; its digest is in the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    script: Option<PathBuf>,
    /// Environment variables with their values; they are in the key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    /// Names of environment variables that are passed on as they are and kept out of everything that is stored or
    /// shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    secret_env: Vec<String>,
    /// Exit codes that mean: try again later. 75 is that of `sysexits.h`.
    #[serde(default = "try_again")]
    transient_codes: Vec<u8>,
}

fn try_again() -> Vec<u8> {
    vec![75]
}

/// The outputs that a program may write: one a type, under the type's name.
const OUTPUTS: &[Output] = {
    use ArtifactType::*;
    &[
        Output::new("raw", Raw, "bytes or a folder of any format"),
        Output::new("rows", Rows, "conversation rows"),
        Output::new("train-rows", TrainRows, "training rows"),
        Output::new("tokenizer", Tokenizer, "a tokenizer folder"),
        Output::new("checkpoint", Checkpoint, "a model folder"),
        Output::new("rollouts", Rollouts, "sampled conversations"),
        Output::new("samples", Samples, "every answer of a policy in training"),
        Output::new("evaluation", Evaluation, "rows of an evaluation and totals"),
        Output::new("curve", Curve, "a row an update"),
        Output::new("report", Report, "counted reasons"),
        Output::new("table", Table, "a table").displayed("table.md"),
    ]
};

impl Stage for CommandKind {
    const KIND: &'static str = "command";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "runs a program of yours";
    const NEUTRAL: &'static [&'static str] = &["secret-env", "transient-codes"];
    const DEVICES: &'static [&'static str] = &["cpu", "cuda"];
    const DETERMINISM: Determinism = Determinism::None;
    type Params = Params;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[Input {
                    name: "in",
                    artifact: ArtifactType::Any,
                    need: Need::AnyNumber,
                    about: "whatever the program reads, each under a name",
                }],
                outputs: OUTPUTS,
            }
        }
    }

    fn check(params: &Params) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut complain = |param: &'static str, message: String| {
            complaints.push(Complaint::new(param, message));
        };
        match params.argv.first() {
            None => complain("argv", "must name a program".to_owned()),
            Some(program) if program.contains('/') && !program.starts_with(['/', '{']) => complain(
                "argv",
                "a program with a path must be absolute; name a file of yours as `script` and run `{script}`"
                    .to_owned(),
            ),
            Some(_) => {}
        }
        for (number, word) in params.argv.iter().enumerate() {
            for mistake in words::mistakes(word, params.script.is_some(), &params.outputs) {
                complain("argv", format!("word {} {mistake}", number + 1));
            }
        }
        if params.outputs.is_empty() {
            complain("outputs", "must name at least one output".to_owned());
        }
        for (number, output) in params.outputs.iter().enumerate() {
            if !OUTPUTS.iter().any(|o| o.name == output) {
                let known: Vec<&str> = OUTPUTS.iter().map(|o| o.name).collect();
                complain(
                    "outputs",
                    format!("no such output: `{output}`; known are {}", known.join(", ")),
                );
            } else if params.outputs[..number].contains(output) {
                complain("outputs", format!("names `{output}` twice"));
            }
        }
        for name in params.env.keys() {
            if let Some(wrong) = wrong_name(name) {
                complain("env", format!("`{name}` {wrong}"));
            }
        }
        for name in &params.secret_env {
            let twice = params.env.contains_key(name).then_some("is in `env` too");
            if let Some(wrong) = wrong_name(name).or(twice) {
                complain("secret-env", format!("`{name}` {wrong}"));
            }
        }
        if params.transient_codes.contains(&0) {
            complain("transient-codes", "0 means success".to_owned());
        }
        complaints
    }

    fn externals(params: &Params) -> Vec<External> {
        let script = params.script.iter().map(|path| External {
            param: "script",
            path: path.clone(),
            pinned: None,
            fetch: None,
        });
        script.collect()
    }

    fn writes(params: &Params) -> Vec<&'static str> {
        let names = OUTPUTS.iter().map(|o| o.name);
        names
            .filter(|name| params.outputs.iter().any(|o| o == name))
            .collect()
    }

    fn secrets(params: &Params) -> Vec<String> {
        params.secret_env.clone()
    }

    fn run(params: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        program::run(&params, context)
    }
}

/// What is wrong with the name of an environment variable.
fn wrong_name(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.contains(['=', '\0']) {
        Some("is no name of a variable")
    } else if name.starts_with("STARLING_") {
        Some("is a name that starling uses itself")
    } else {
        None
    }
}
