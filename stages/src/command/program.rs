//! Running the program: its words, its world, its end.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use starling_contract::{StageContext, StageError};

use super::Params;
use super::redact::{Filter, Secrets};
use super::words::{Piece, pieces};

/// How often the program, its snapshots and the wish to stop are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long to wait for the last words of a program that ended, should another process hold its pipes.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How much of the end of its words is kept for a message.
const TAIL: usize = 2000;
/// Variables that decide where a program runs and not what it computes.
const PASSED_ON: [&str; 4] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
];

/// Runs the program to its end.
pub(super) fn run(params: &Params, context: &StageContext<'_>) -> Result<(), StageError> {
    let secrets = Arc::new(secrets(params)?);
    let snapshots = folder(context, "snapshots")?;
    let command = command(params, context, &snapshots)?;
    let mut program = Running::start(command, params, &secrets)?;
    let mut saved = None;
    let status = loop {
        if let Some(status) = program.ended(params)? {
            break status;
        }
        save_newest(context, &snapshots, &secrets, &mut saved)?;
        if context.interrupted() {
            program.ask_to_stop();
        }
        std::thread::sleep(LOOK);
    };
    let tail = program.last_words();
    save_newest(context, &snapshots, &secrets, &mut saved)?;
    if !status.success() && context.interrupted() {
        return Err(StageError::Interrupted);
    }
    succeeded(params, status, &tail)?;
    for port in &params.outputs {
        let path = context.output(port);
        refuse_secret(&secrets, &path, &format!("output `{port}`"))?;
    }
    Ok(())
}

/// A folder in the working folder.
fn folder(context: &StageContext<'_>, name: &str) -> Result<PathBuf, StageError> {
    let folder = context.scratch().join(name);
    std::fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
    Ok(folder)
}

/// A variable of the worker's environment.
#[expect(
    clippy::disallowed_methods,
    reason = "a program's environment is made of the worker's; none of these values reaches a key or an output of ours"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn secrets(params: &Params) -> Result<Secrets, StageError> {
    let value = |name: &String| match variable(name) {
        Some(value) => Ok((name.clone(), value.as_bytes().to_vec())),
        None => Err(StageError::failed_try(
            format!("the environment has no variable `{name}`, which `secret-env` names"),
            format!("set `{name}` and run again"),
        )),
    };
    let values = params.secret_env.iter().map(value);
    Secrets::new(values.collect::<Result<Vec<_>, _>>()?)
}

/// The command with its words, environment and working folder.
fn command(
    params: &Params,
    context: &StageContext<'_>,
    snapshots: &Path,
) -> Result<Command, StageError> {
    let inputs: BTreeMap<&str, &Path> = context.many("in").into_iter().collect();
    let script = params.script.as_ref().map(|_| context.external("script"));
    let script = script.transpose()?;
    let words = params
        .argv
        .iter()
        .map(|word| fill(word, context, &inputs, script));
    let words = words.collect::<Result<Vec<OsString>, _>>()?;
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| StageError::failed("`argv` names no program"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(
            PASSED_ON
                .iter()
                .filter_map(|name| Some((name, variable(name)?))),
        )
        .env("LANG", "C.UTF-8")
        .env("HOME", folder(context, "home")?)
        .env("TMPDIR", folder(context, "tmp")?)
        .envs(&params.env)
        .envs(
            params
                .secret_env
                .iter()
                .filter_map(|name| Some((name, variable(name)?))),
        )
        .env("STARLING_THREADS", context.threads().to_string())
        .env("STARLING_SNAPSHOTS", snapshots)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .current_dir(folder(context, "here")?);
    for (name, path) in &inputs {
        command.env(format!("STARLING_INPUT_{}", capitals(name)), path);
    }
    for port in &params.outputs {
        command.env(
            format!("STARLING_OUTPUT_{}", capitals(port)),
            context.output(port),
        );
    }
    if let Some(script) = script {
        command.env("STARLING_SCRIPT", script);
    }
    if let Some(snapshot) = context.resume()? {
        command.env("STARLING_RESUME", &snapshot.folder);
    }
    Ok(command)
}

/// A name as part of a variable's.
fn capitals(name: &str) -> String {
    let capital = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    name.chars().map(capital).collect()
}

/// A word with its placeholders filled in.
fn fill(
    word: &str,
    context: &StageContext<'_>,
    inputs: &BTreeMap<&str, &Path>,
    script: Option<&Path>,
) -> Result<OsString, StageError> {
    let mut filled = OsString::new();
    for piece in pieces(word).unwrap_or_default() {
        match piece {
            Piece::Text(text) => filled.push(text),
            Piece::Name("threads") => filled.push(context.threads().to_string()),
            Piece::Name("script") => filled.push(script.unwrap_or_else(|| Path::new(""))),
            Piece::Name(name) => match name.split_once('.') {
                Some(("in", input)) => match inputs.get(input) {
                    Some(path) => filled.push(path),
                    None => return Err(no_input(input, inputs)),
                },
                Some(("out", port)) => filled.push(context.output(port)),
                _ => filled.push(name),
            },
        }
    }
    Ok(filled)
}

fn no_input(name: &str, inputs: &BTreeMap<&str, &Path>) -> StageError {
    let given: Vec<&str> = inputs.keys().copied().collect();
    let hint = if given.is_empty() {
        format!("add `inputs.in.{name} = \"stage.output\"`")
    } else {
        format!("given are {}", given.join(", "))
    };
    StageError::failed_try(
        format!("`argv` names input `{name}`, which is not given"),
        hint,
    )
}

/// The program and the threads that read its words.
struct Running {
    child: Child,
    asked: bool,
    /// The end of what it printed on stderr, without secrets.
    tail: Arc<Mutex<Vec<u8>>>,
    /// A word from each reader that is done.
    done: Receiver<()>,
}

impl Running {
    fn start(
        mut command: Command,
        params: &Params,
        secrets: &Arc<Secrets>,
    ) -> Result<Self, StageError> {
        let mut child = command
            .spawn()
            .map_err(|error| cannot_start(params, &error))?;
        let (sender, done) = mpsc::channel();
        let tail = Arc::new(Mutex::new(Vec::new()));
        let out = child
            .stdout
            .take()
            .map(|s| Box::new(s) as Box<dyn Read + Send>);
        let err = child
            .stderr
            .take()
            .map(|s| Box::new(s) as Box<dyn Read + Send>);
        for (stream, tail) in [(out, None), (err, Some(Arc::clone(&tail)))] {
            let (sender, secrets) = (sender.clone(), Arc::clone(secrets));
            std::thread::spawn(move || {
                if let Some(stream) = stream {
                    pass_on(stream, &secrets, tail.as_deref());
                }
                // Nobody listens after a program whose pipes others hold.
                let _closed = sender.send(());
            });
        }
        Ok(Self {
            child,
            asked: false,
            tail,
            done,
        })
    }

    fn ended(&mut self, params: &Params) -> Result<Option<ExitStatus>, StageError> {
        self.child
            .try_wait()
            .map_err(|error| cannot_start(params, &error))
    }

    fn ask_to_stop(&mut self) {
        if !self.asked {
            self.asked = true;
            let pid = i32::try_from(self.child.id()).ok();
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                // Gone already is what was wanted.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
    }

    /// The end of its words, once they are all in.
    fn last_words(&self) -> String {
        for _ in 0..2 {
            if self.done.recv_timeout(LAST_WORDS).is_err() {
                break;
            }
        }
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&tail).trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After an error of ours; a program that ended by itself is not there any more.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn cannot_start(params: &Params, error: &std::io::Error) -> StageError {
    let program = params.argv.first().map_or("", String::as_str);
    let message = format!("cannot run `{program}`: {error}");
    match error.kind() {
        std::io::ErrorKind::NotFound => StageError::failed_try(
            message,
            "install it, or name it with its whole path; it is looked for in `PATH`",
        ),
        _ => StageError::failed(message),
    }
}

/// Passes a stream on to the log, without secrets.
fn pass_on(mut stream: impl Read, secrets: &Secrets, tail: Option<&Mutex<Vec<u8>>>) {
    let (mut filter, mut buffer) = (Filter::new(secrets), vec![0; 1 << 16]);
    loop {
        let mut clean = Vec::new();
        let over = match stream.read(&mut buffer) {
            Ok(0) => true,
            Ok(n) => {
                filter.push(&buffer[..n], &mut clean);
                false
            }
            Err(error) => error.kind() != std::io::ErrorKind::Interrupted,
        };
        if over {
            filter.finish(&mut clean);
        }
        // The log is a convenience; what counts is the exit code and the outputs.
        drop(std::io::stderr().write_all(&clean));
        if let Some(tail) = tail {
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend_from_slice(&clean);
            let extra = tail.len().saturating_sub(TAIL);
            tail.drain(..extra);
        }
        if over {
            return;
        }
    }
}

/// Saves the snapshot with the highest number that was not saved yet, and removes those that were.
fn save_newest(
    context: &StageContext<'_>,
    folder: &Path,
    secrets: &Secrets,
    saved: &mut Option<u64>,
) -> Result<(), StageError> {
    let list = || StageError::io("list", folder);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(list())? {
        let name = entry.map_err(list())?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    let Some(newest) = numbers.iter().copied().max() else {
        return Ok(());
    };
    if saved.is_none_or(|before| newest > before) {
        let path = folder.join(newest.to_string());
        refuse_secret(secrets, &path, "a snapshot")?;
        context.save_snapshot(newest, |into| copy_tree(&path, into))?;
        *saved = Some(newest);
    }
    for number in numbers {
        let path = folder.join(number.to_string());
        std::fs::remove_dir_all(&path).map_err(StageError::io("remove", &path))?;
    }
    Ok(())
}

fn copy_tree(from: &Path, into: &Path) -> Result<(), StageError> {
    for entry in std::fs::read_dir(from).map_err(StageError::io("list", from))? {
        let path = entry.map_err(StageError::io("list", from))?.path();
        let target = into.join(path.file_name().unwrap_or(OsStr::new("")));
        if path.is_dir() {
            std::fs::create_dir_all(&target).map_err(StageError::io("create", &target))?;
            copy_tree(&path, &target)?;
        } else {
            // Both lie in the working folder, and nobody writes to either again.
            let linked = std::fs::hard_link(&path, &target);
            let placed = linked.or_else(|_| std::fs::copy(&path, &target).map(drop));
            placed.map_err(StageError::io("copy", &path))?;
        }
    }
    Ok(())
}

fn refuse_secret(secrets: &Secrets, path: &Path, what: &str) -> Result<(), StageError> {
    if !path.exists() {
        return Ok(());
    }
    match secrets.find_below(path)? {
        None => Ok(()),
        Some((name, _)) => Err(StageError::failed_try(
            format!("{what} holds the value of `{name}`; it was not stored"),
            "have the program leave the value out of what it writes",
        )),
    }
}

/// What the program's end means.
fn succeeded(params: &Params, status: ExitStatus, tail: &str) -> Result<(), StageError> {
    if status.success() {
        return Ok(());
    }
    let program = params.argv.first().map_or("", String::as_str);
    let words = if tail.is_empty() {
        String::new()
    } else {
        format!("; its last words:\n{tail}")
    };
    match (status.code(), status.signal()) {
        (Some(code), _) => {
            let message = format!("`{program}` ended with code {code}{words}");
            let passing = u8::try_from(code).is_ok_and(|c| params.transient_codes.contains(&c));
            if passing {
                Err(StageError::transient(message))
            } else {
                Err(StageError::failed(message))
            }
        }
        (None, signal) => Err(StageError::failed(format!(
            "`{program}` was ended by signal {}{words}",
            signal.unwrap_or_default()
        ))),
    }
}
