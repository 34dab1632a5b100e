//! Toy kinds: small enough to read at a glance, and each shows one thing that a stage can do or suffer.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_cache::Digest;
use starling_contract::{
    ArtifactType, Chunks, Complaint, Input, Kind, Need, Output, Ports, Stage, StageContext,
    StageError, erase,
};

/// The list of kinds: the one place that names them all.
pub(crate) fn kinds() -> Vec<Box<dyn Kind>> {
    vec![
        erase::<Write>(),
        erase::<Copy>(),
        erase::<Concat>(),
        erase::<Slow>(),
        erase::<Fail>(),
        erase::<Panic>(),
        erase::<Abort>(),
        erase::<Forget>(),
        erase::<EatTime>(),
        erase::<Map>(),
        erase::<Flaky>(),
        erase::<crate::command::CommandKind>(),
    ]
}

const ROWS: Output = Output {
    name: "rows",
    artifact: ArtifactType::Raw,
    about: "Some text.",
    display: None,
};

const OPTIONAL_ROWS: Input = Input {
    name: "rows",
    artifact: ArtifactType::Raw,
    need: Need::Optional,
    about: "Some text.",
};

/// The ports of kinds that may follow another stage and write text.
const fn ports() -> Ports {
    Ports {
        inputs: &[OPTIONAL_ROWS],
        outputs: &[ROWS],
    }
}

fn read(path: &Path) -> Result<String, StageError> {
    fs::read_to_string(path).map_err(StageError::io("read", path))
}

fn write(path: &Path, text: &str) -> Result<(), StageError> {
    fs::write(path, text).map_err(StageError::io("write", path))
}

/// No parameters.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Writes a text.
struct Write;

/// Parameters of `toy-write`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct WriteParams {
    /// The text.
    text: String,
}

impl Stage for Write {
    const KIND: &'static str = "toy-write";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Writes a text.";
    const LIGHT: bool = true;
    type Params = WriteParams;

    fn ports() -> Ports {
        const { ports() }
    }

    fn run(params: WriteParams, context: &mut StageContext<'_>) -> Result<(), StageError> {
        write(&context.output("rows"), &params.text)
    }
}

/// Copies a text, with a line of its own after it.
struct Copy;

impl Stage for Copy {
    const KIND: &'static str = "toy-copy";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Copies a text, with a line of its own after it.";
    const LIGHT: bool = true;
    type Params = WriteParams;

    fn ports() -> Ports {
        const { ports() }
    }

    fn run(params: WriteParams, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let before = context.optional("rows").map_or(Ok(String::new()), read)?;
        write(
            &context.output("rows"),
            &format!("{before}{}\n", params.text),
        )
    }
}

/// Joins texts, each after its name.
struct Concat;

impl Stage for Concat {
    const KIND: &'static str = "toy-concat";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Joins texts, each after its name.";
    const COMPARES: bool = true;
    const LIGHT: bool = true;
    type Params = Nothing;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[Input {
                    name: "parts",
                    artifact: ArtifactType::Raw,
                    need: Need::Many,
                    about: "The texts.",
                }],
                outputs: &[Output {
                    name: "joined",
                    artifact: ArtifactType::Table,
                    about: "All of them.",
                    display: Some("joined.md"),
                }],
            }
        }
    }

    fn run(_: Nothing, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut text = String::new();
        for (name, path) in context.many("parts") {
            text.push_str(&format!("{name}: {}\n", read(path)?.trim_end()));
        }
        let folder = context.output("joined");
        fs::create_dir(&folder).map_err(StageError::io("create", &folder))?;
        write(&folder.join("joined.md"), &text)
    }
}

/// Counts, and folds every number into a state: a stand-in for training.
///
/// The state after `count` is the same however often the stage was interrupted, or a resumed run
/// would show in its output's digest.
struct Slow;

/// Parameters of `toy-slow`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SlowParams {
    /// How far to count.
    count: u64,
    /// Where the state begins.
    #[serde(default)]
    seed: u64,
    /// Where to stop; at the end when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop_after: Option<u64>,
    /// Steps between two snapshots; changes no byte.
    #[serde(default = "ten")]
    snapshot_every: u64,
    /// Whether these stay when the stage is finished; changes no byte.
    #[serde(default)]
    snapshots_last: bool,
    /// Milliseconds for a step; changes no byte.
    #[serde(default)]
    pause: u64,
}

fn ten() -> u64 {
    10
}

impl SlowParams {
    /// Where it stops.
    fn end(&self) -> u64 {
        self.stop_after.map_or(self.count, |n| n.min(self.count))
    }
}

/// What a snapshot of `toy-slow` holds: the state and a line a step.
struct Count {
    done: u64,
    state: Digest,
    curve: String,
}

impl Count {
    fn begin(params: &SlowParams, context: &StageContext<'_>) -> Result<Self, StageError> {
        if let Some(snapshot) = context.resume_up_to(params.end())? {
            let curve = read(&snapshot.folder.join("curve"))?;
            let state = read(&snapshot.folder.join("state"))?;
            return Ok(Self {
                done: snapshot.progress,
                state: state
                    .parse()
                    .map_err(|e| StageError::failed(format!("the snapshot's state: {e}")))?,
                curve,
            });
        }
        let before = context.optional("rows").map_or(Ok(String::new()), read)?;
        Ok(Self {
            done: 0,
            state: Digest::of(format!("{} {before}", params.seed).as_bytes()),
            curve: String::new(),
        })
    }

    fn step(&mut self) {
        self.done += 1;
        self.state = Digest::of(format!("{} {}", self.state, self.done).as_bytes());
        self.curve
            .push_str(&format!("{} {}\n", self.done, self.state));
    }

    fn save(&self, context: &StageContext<'_>, lasts: bool) -> Result<(), StageError> {
        let files = |folder: &Path| {
            write(&folder.join("state"), &self.state.to_string())?;
            write(&folder.join("curve"), &self.curve)
        };
        if lasts {
            context.save_lasting_snapshot(self.done, files)
        } else {
            context.save_snapshot(self.done, files)
        }
    }
}

impl Stage for Slow {
    const KIND: &'static str = "toy-slow";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Counts, and folds every number into a state.";
    const NEUTRAL: &'static [&'static str] = &["pause", "snapshot-every", "snapshots-last"];
    const STOPS: &'static [&'static str] = &["stop-after"];
    type Params = SlowParams;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[OPTIONAL_ROWS],
                outputs: &[
                    ROWS,
                    Output {
                        name: "curve",
                        artifact: ArtifactType::Curve,
                        about: "A line a step.",
                        display: None,
                    },
                ],
            }
        }
    }

    fn check(params: &SlowParams) -> Vec<Complaint> {
        if params.snapshot_every == 0 {
            vec![Complaint::new("snapshot-every", "must be at least 1")]
        } else {
            Vec::new()
        }
    }

    fn run(params: SlowParams, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut count = Count::begin(&params, context)?;
        while count.done < params.end() {
            if context.interrupted() {
                count.save(context, false)?;
                return Err(StageError::Interrupted);
            }
            count.step();
            std::thread::sleep(Duration::from_millis(params.pause));
            if count.done.is_multiple_of(params.snapshot_every) {
                count.save(context, params.snapshots_last)?;
            }
            let state = &count.state.to_string()[..6];
            context.progress(count.done, params.count, "steps", format!("state {state}"));
        }
        if params.stop_after.is_some() {
            count.save(context, true)?;
        }
        write(&context.output("rows"), &format!("{}\n", count.state))?;
        write(&context.output("curve"), &count.curve)
    }
}

/// Fails after a while.
struct Fail;

/// Parameters of `toy-fail`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FailParams {
    /// What it says.
    message: String,
}

impl Stage for Fail {
    const KIND: &'static str = "toy-fail";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Fails.";
    type Params = FailParams;

    fn ports() -> Ports {
        const { ports() }
    }

    fn run(params: FailParams, context: &mut StageContext<'_>) -> Result<(), StageError> {
        context.progress(3, 7, "updates", "");
        Err(StageError::failed_try(params.message, "lower `lr`"))
    }
}

/// Panics.
struct Panic;

impl Stage for Panic {
    const KIND: &'static str = "toy-panic";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Panics.";
    type Params = Nothing;

    fn ports() -> Ports {
        const { ports() }
    }

    fn run(_: Nothing, _: &mut StageContext<'_>) -> Result<(), StageError> {
        panic!("an invariant of the toy does not hold")
    }
}

/// Aborts its process, as a failed kernel or an exhausted stack does.
struct Abort;

impl Stage for Abort {
    const KIND: &'static str = "toy-abort";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Aborts its process.";
    type Params = Nothing;

    fn ports() -> Ports {
        const { ports() }
    }

    fn run(_: Nothing, _: &mut StageContext<'_>) -> Result<(), StageError> {
        let said = writeln!(std::io::stderr(), "the toy's kernel gives up");
        said.map_err(StageError::io("write", Path::new("stderr")))?;
        std::process::abort()
    }
}

/// Ends without writing its output.
struct Forget;

impl Stage for Forget {
    const KIND: &'static str = "toy-forget";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Ends without writing its output.";
    type Params = Nothing;

    fn ports() -> Ports {
        const { ports() }
    }

    fn run(_: Nothing, _: &mut StageContext<'_>) -> Result<(), StageError> {
        Ok(())
    }
}

/// Sleeps, and may be deaf to the wish that it stop.
struct EatTime;

/// Parameters of `toy-eat-time`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct EatTimeParams {
    /// How long, in seconds.
    seconds: f64,
    /// Whether it goes on when it is asked to stop.
    #[serde(default)]
    deaf: bool,
}

impl Stage for EatTime {
    const KIND: &'static str = "toy-eat-time";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Sleeps.";
    type Params = EatTimeParams;

    fn ports() -> Ports {
        const { ports() }
    }

    fn run(params: EatTimeParams, context: &mut StageContext<'_>) -> Result<(), StageError> {
        context.progress(0, 1, "naps", "");
        while context.elapsed_seconds() < params.seconds {
            if context.interrupted() && !params.deaf {
                return Err(StageError::Interrupted);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        write(&context.output("rows"), "slept\n")
    }
}

/// Digests each line, in chunks: a stand-in for a rollout.
struct Map;

/// Parameters of `toy-map`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct MapParams {
    /// What is put before each line.
    #[serde(default)]
    salt: String,
    /// Use the first so many lines.
    #[serde(default)]
    lines: Option<usize>,
    /// Milliseconds for a line; changes no byte.
    #[serde(default)]
    pause: u64,
    /// A file that tells which card each chunk had, from when to when; changes no byte.
    #[serde(default)]
    diary: Option<std::path::PathBuf>,
}

/// Adds a line about this process to a diary.
#[expect(
    clippy::disallowed_methods,
    reason = "which device a process sees is what the diary is about; no output holds it"
)]
fn note(diary: Option<&Path>, what: &str) -> Result<(), StageError> {
    let Some(path) = diary else { return Ok(()) };
    let card = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_else(|_| "none".to_owned());
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    let line = format!("{what} {card} {}\n", std::process::id());
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(StageError::io("write", path))
}

impl Stage for Map {
    const KIND: &'static str = "toy-map";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Digests each line.";
    const NEUTRAL: &'static [&'static str] = &["pause", "diary"];
    const DEVICES: &'static [&'static str] = &["cpu", "cuda"];
    const CHUNKS: Option<Chunks> = Some(CHUNKS);
    type Params = MapParams;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[Input::required("rows", ArtifactType::Raw, "Lines.")],
                outputs: &[ROWS],
            }
        }
    }

    fn run(params: MapParams, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let diary = params.diary.as_deref();
        let text = read(context.input("rows")?)?;
        let lines: Vec<&str> = text
            .lines()
            .take(params.lines.unwrap_or(usize::MAX))
            .collect();
        let chunks = context.map_chunks(
            &CHUNKS,
            &lines,
            |line| line.as_bytes().to_vec(),
            |lines, folder| {
                let mut out = String::new();
                note(diary, "begin")?;
                for line in lines {
                    std::thread::sleep(Duration::from_millis(params.pause));
                    let digest = Digest::of(format!("{}{line}", params.salt).as_bytes());
                    out.push_str(&format!("{digest}\n"));
                }
                note(diary, "end")?;
                write(&folder.join("digests"), &out)
            },
        )?;
        let parts = chunks.iter().map(|folder| read(&folder.join("digests")));
        let all = parts.collect::<Result<String, _>>()?;
        write(&context.output("rows"), &all)
    }
}

/// How `toy-map` maps.
const CHUNKS: Chunks = Chunks {
    port: "rows",
    rows: 4,
    unit: "lines",
    neutral: &["lines"],
};

/// Fails for a passing reason until a file is there that says how often it has.
struct Flaky;

/// Parameters of `toy-flaky`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FlakyParams {
    /// A file that counts the attempts.
    counter: std::path::PathBuf,
    /// How often it fails.
    failures: u64,
}

impl Stage for Flaky {
    const KIND: &'static str = "toy-flaky";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Fails a few times, then does not.";
    const NEUTRAL: &'static [&'static str] = &["counter"];
    type Params = FlakyParams;

    fn ports() -> Ports {
        const { ports() }
    }

    fn run(params: FlakyParams, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let before = fs::read_to_string(&params.counter).unwrap_or_default();
        write(&params.counter, &format!("{before}x"))?;
        if (before.len() as u64) < params.failures {
            return Err(StageError::transient("the server is busy"));
        }
        write(&context.output("rows"), "served\n")
    }
}
