//! Kinds for tests of the engine: each is real and quick, and together they have every sort of port.
//!
//! Included by path where they are needed, so that no release contains them.

use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_cache::Digest;
use starling_contract::{
    ArtifactType, Complaint, External, Input, Kind, Need, Output, Ports, Stage, StageContext,
    StageError, erase,
};

/// All of them.
pub(crate) fn kinds() -> Vec<Box<dyn Kind>> {
    vec![
        erase::<Letters>(),
        erase::<File>(),
        erase::<Upper>(),
        erase::<Train>(),
        erase::<Score>(),
        erase::<Table>(),
    ]
}

const fn input(name: &'static str, artifact: ArtifactType, need: Need) -> Input {
    Input {
        name,
        artifact,
        need,
        about: "What the test reads.",
    }
}

const fn output(name: &'static str, artifact: ArtifactType) -> Output {
    Output {
        name,
        artifact,
        about: "What the test writes.",
        display: None,
    }
}

fn read(path: &Path) -> Result<String, StageError> {
    fs::read_to_string(path).map_err(StageError::io("read", path))
}

fn write(path: &Path, text: &str) -> Result<(), StageError> {
    fs::write(path, text).map_err(StageError::io("write", path))
}

/// Writes letters.
struct Letters;

/// Parameters of `letters`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct LettersParams {
    /// What to write.
    text: String,
    /// How often; at least 1.
    #[serde(default = "one")]
    count: u32,
    /// The end.
    #[serde(default)]
    tail: Tail,
    /// Lines between two messages; changes no byte.
    #[serde(default = "one")]
    log_every: u32,
}

/// The end of the letters.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Tail {
    /// Its weight.
    #[serde(default)]
    coefficient: f64,
    /// Its names.
    #[serde(default)]
    names: Vec<String>,
}

fn one() -> u32 {
    1
}

impl Stage for Letters {
    const KIND: &'static str = "letters";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Writes letters.";
    const NEUTRAL: &'static [&'static str] = &["log-every"];
    type Params = LettersParams;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[],
                outputs: &[
                    output("rows", ArtifactType::Rows),
                    output("report", ArtifactType::Report),
                ],
            }
        }
    }

    fn check(params: &LettersParams) -> Vec<Complaint> {
        if params.count == 0 {
            vec![Complaint::new("count", "must be at least 1")]
        } else {
            Vec::new()
        }
    }

    fn run(params: LettersParams, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut text = String::new();
        for n in 0..params.count {
            text.push_str(&params.text);
            text.push('\n');
            if n % params.log_every.max(1) == 0 {
                context.progress(u64::from(n + 1), u64::from(params.count), "lines", "");
            }
        }
        text.push_str(&format!(
            "{:?} {:?}\n",
            params.tail.coefficient, params.tail.names
        ));
        write(&context.output("rows"), &text)?;
        write(
            &context.output("report"),
            &format!("{{\"lines\":{}}}\n", params.count),
        )
    }
}

/// Takes a file from outside the store.
struct File;

/// Parameters of `file`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileParams {
    /// The file.
    path: PathBuf,
    /// Its digest.
    #[serde(default)]
    sha256: Option<String>,
}

impl Stage for File {
    const KIND: &'static str = "file";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Takes a file from outside the store.";
    type Params = FileParams;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[],
                outputs: &[output("rows", ArtifactType::Rows)],
            }
        }
    }

    fn check(params: &FileParams) -> Vec<Complaint> {
        match params.sha256.as_deref().map(str::parse::<Digest>) {
            Some(Err(error)) => vec![Complaint::new("sha256", error.to_string())],
            _ => Vec::new(),
        }
    }

    fn externals(params: &FileParams) -> Vec<External> {
        vec![External {
            param: "path",
            path: params.path.clone(),
            pinned: params.sha256.as_ref().and_then(|s| s.parse().ok()),
            fetch: Some("write it by hand".to_owned()),
        }]
    }

    fn run(_: FileParams, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let text = read(context.external("path")?)?;
        write(&context.output("rows"), &text)
    }
}

/// Makes letters large.
struct Upper;

/// Parameters of `upper`: none.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoParams {}

impl Stage for Upper {
    const KIND: &'static str = "upper";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Makes letters large.";
    type Params = NoParams;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[
                    input("rows", ArtifactType::Rows, Need::Required),
                    input("extra", ArtifactType::Rows, Need::Optional),
                ],
                outputs: &[output("rows", ArtifactType::Rows)],
            }
        }
    }

    fn run(_: NoParams, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut text = read(context.input("rows")?)?;
        if let Some(extra) = context.optional("extra") {
            text.push_str(&read(extra)?);
        }
        write(&context.output("rows"), &text.to_uppercase())
    }
}

/// Pretends to train: counts the bytes of its rows.
struct Train;

/// Parameters of `train`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct TrainParams {
    /// Updates.
    #[serde(default = "one")]
    updates: u32,
    /// Learning rate.
    #[serde(default)]
    lr: f64,
}

impl Stage for Train {
    const KIND: &'static str = "train";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Counts the bytes of its rows.";
    type Params = TrainParams;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[
                    input("rows", ArtifactType::Rows, Need::Required),
                    input("student", ArtifactType::Checkpoint, Need::Optional),
                ],
                outputs: &[
                    output("student", ArtifactType::Checkpoint),
                    output("curve", ArtifactType::Curve),
                ],
            }
        }
    }

    fn run(params: TrainParams, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let bytes = read(context.input("rows")?)?.len();
        let folder = context.output("student");
        fs::create_dir(&folder).map_err(StageError::io("create", &folder))?;
        write(
            &folder.join("weights"),
            &format!("{bytes} {} {}\n", params.updates, params.lr),
        )?;
        write(&context.output("curve"), "{\"loss\":0}\n")
    }
}

/// Scores a student.
struct Score;

impl Stage for Score {
    const KIND: &'static str = "score";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Scores a student.";
    type Params = NoParams;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[
                    input("student", ArtifactType::Checkpoint, Need::Required),
                    input("rows", ArtifactType::Rows, Need::Required),
                ],
                outputs: &[output("evaluation", ArtifactType::Evaluation)],
            }
        }
    }

    fn run(_: NoParams, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let student = read(&context.input("student")?.join("weights"))?;
        let rows = read(context.input("rows")?)?.len();
        write(&context.output("evaluation"), &format!("{student}{rows}\n"))
    }
}

/// Puts scores side by side.
struct Table;

impl Stage for Table {
    const KIND: &'static str = "table";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Puts scores side by side.";
    type Params = NoParams;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[input("arms", ArtifactType::Evaluation, Need::Many)],
                outputs: &[Output {
                    name: "table",
                    artifact: ArtifactType::Table,
                    about: "The table.",
                    display: Some("table.md"),
                }],
            }
        }
    }

    fn run(_: NoParams, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut text = String::new();
        for (name, path) in context.many("arms") {
            text.push_str(&format!("{name}: {}", read(path)?.replace('\n', " ")));
            text.push('\n');
        }
        let folder = context.output("table");
        fs::create_dir(&folder).map_err(StageError::io("create", &folder))?;
        write(&folder.join("table.md"), &text)
    }
}
