//! `starling verify`: reads every byte of a store, or runs a stage again beside its result.

use clap::Args;
use serde_json::json;
use starling::report::{duration, size};
use starling::run::{Again, PASSED_ON, RunError, RunOptions, Secrets, again, compare};
use starling::{exit, plan::Status};
use starling_cache::{ActionKey, Digest, LocalStore, Store as _, Verified, verify};

use super::output::{self, Failure, chain};
use super::session::{About, Session, stage};

/// Read every byte of the store and report what is damaged; exits 7 when something is
///
/// With `--repair` what was damaged is set aside and made again from its spec. With `--reexecute` a stage runs once
/// more beside its cached result, and the two are compared as far as the kind promises that they agree.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Set damaged things aside and make them again
    #[arg(long)]
    repair: bool,
    /// Run this stage again beside its cached result, and compare
    #[arg(long, value_name = "STAGE", conflicts_with = "repair")]
    reexecute: Option<String>,
    #[command(flatten)]
    about: About,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        match &self.reexecute {
            Some(name) => self.reexecute(name, session),
            None => self.read_all(session),
        }
    }

    fn read_all(&self, session: &Session) -> Result<u8, Failure> {
        let store = session.existing_store()?;
        // Specs are needed to make results again, and the records that name them are set aside.
        let specs = specs(&store)?;
        let found = verify(&store, self.repair)?;
        if !self.json {
            report(&found);
        }
        let mut made = Vec::new();
        let mut left = Vec::new();
        if self.repair {
            let broken: Vec<ActionKey> = found.broken.iter().map(|b| b.key).collect();
            (made, left) = repair(&store, session, &specs, broken)?;
        }
        if self.json {
            output::json(&json!({
                "files": found.blobs,
                "bytes": found.bytes,
                "results": found.records,
                "damaged": found.damaged.iter().map(|d| d.digest.to_string()).collect::<Vec<_>>(),
                "broken": found.broken.iter().map(|b| json!({
                    "key": b.key, "stage": b.stage, "damage": b.damage, "lost": b.lost,
                })).collect::<Vec<_>>(),
                "broken-snapshots": found.broken_snapshots.iter().map(|s| json!({
                    "line": s.line, "at": s.progress, "lost": s.lost,
                })).collect::<Vec<_>>(),
                "unknown": found.strangers,
                "made-again": made,
                "not-made-again": left,
            }));
        }
        output::story(&format!(
            "read {} files ({}) and {} results: {}",
            found.blobs,
            size(found.bytes),
            found.records,
            match (found.is_sound(), self.repair, left.is_empty()) {
                (true, ..) => "all as they should be",
                (false, true, true) => "what was damaged is set aside and made again",
                (false, true, false) =>
                    "what was damaged is set aside; the next run makes the rest again",
                (false, false, _) => "damaged; `starling verify --repair` makes it again",
            }
        ));
        Ok(if found.is_sound() || (self.repair && left.is_empty()) {
            exit::DONE
        } else {
            exit::DIFFERS
        })
    }

    fn reexecute(&self, name: &str, session: &Session) -> Result<u8, Failure> {
        let readable = session.readable_store()?;
        let pipeline = session.about(&self.about, &readable)?;
        let number = stage(&pipeline, name)?;
        let planned = session.plan(&pipeline, &readable)?;
        let Status::Cached(cached) = &planned.stages[number].status else {
            return Err(Failure::usage(format!(
                "stage `{name}` has no result to compare with; `starling run` makes it"
            )));
        };
        let kind = session.registry.get(&cached.kind);
        let kind =
            kind.ok_or_else(|| Failure::usage(format!("there is no kind `{}`", cached.kind)))?;
        let determinism = kind.determinism(&pipeline.stages[number].params);
        let promise = compare::promise(determinism);
        output::story(&format!(
            "`{name}` took {} before; kind `{}` promises {promise}",
            duration(cached.seconds),
            cached.kind
        ));
        let options = options(session, &cached.spec, &readable)?;
        let fresh = again(&*readable, &session.registry, &options, &cached.spec, true);
        let fresh = match fresh.map_err(failed)? {
            Again::Done(record) => record,
            Again::Failed { message, .. } => {
                return Err(Failure::new(
                    exit::STAGE,
                    format!("`{name}` failed: {message}"),
                ));
            }
        };
        let found = compare::compare(&*readable, cached, &fresh, determinism)?;
        if self.json {
            output::json(&json!({
                "stage": name,
                "key": cached.key,
                "promise": promise,
                "numerics": [cached.numerics, fresh.numerics],
                "agrees": found.agrees,
                "same-bytes": found.same_bytes,
                "found": found.lines,
            }));
        } else {
            for line in &found.lines {
                output::data(&format!("{line}\n"));
            }
        }
        Ok(if found.agrees {
            exit::DONE
        } else {
            exit::DIFFERS
        })
    }
}

fn failed(error: RunError) -> Failure {
    match error {
        RunError::Store(error) => error.into(),
        other => Failure::new(exit::BUG, chain(&other)),
    }
}

/// The spec of every record that can be read.
fn specs(store: &LocalStore) -> Result<Vec<(ActionKey, Digest)>, Failure> {
    let mut specs = Vec::new();
    for key in store.actions()? {
        // Also of records whose artifacts are gone: those above all are to be made again.
        specs.extend(store.spec_of(&key)?.map(|spec| (key, spec)));
    }
    Ok(specs)
}

fn report(found: &Verified) {
    for damaged in &found.damaged {
        let (digest, bytes) = (damaged.digest, size(damaged.bytes));
        output::data(&format!("damaged file    {digest}  {bytes}\n"));
    }
    for broken in &found.broken {
        let mut line = format!("broken result   {}  of stage {}", broken.key, broken.stage);
        if let Some(damage) = &broken.damage {
            line.push_str(&format!(": {damage}"));
        }
        for (port, lost) in &broken.lost {
            line.push_str(&format!("; {} files of output {port} are lost", lost.len()));
        }
        output::data(&format!("{line}\n"));
    }
    for snapshot in &found.broken_snapshots {
        let at = match snapshot.progress {
            Some(progress) => format!("at {progress}"),
            None => "that cannot be read".to_owned(),
        };
        let line = snapshot.line.short();
        output::data(&format!(
            "broken snapshot {line}  {at}; work goes on from an older one\n"
        ));
    }
    for stranger in &found.strangers {
        output::data(&format!("unknown entry   {stranger}\n"));
    }
}

/// Makes broken results again, those first that others read; which were made and which were not.
fn repair(
    store: &LocalStore,
    session: &Session,
    specs: &[(ActionKey, Digest)],
    mut broken: Vec<ActionKey>,
) -> Result<(Vec<ActionKey>, Vec<ActionKey>), Failure> {
    let mut made = Vec::new();
    loop {
        let before = broken.len();
        let mut left = Vec::new();
        for key in broken {
            let spec = specs
                .iter()
                .find(|(known, _)| *known == key)
                .map(|(_, spec)| spec);
            let Some(spec) = spec else {
                output::story(&format!(
                    "{}: its record does not say how it was made",
                    key.short()
                ));
                left.push(key);
                continue;
            };
            let options = options(session, spec, store)?;
            match again(store, &session.registry, &options, spec, false).map_err(failed)? {
                Again::Done(record) => {
                    let took = duration(record.seconds);
                    output::story(&format!(
                        "{}: `{}` made again in {took}",
                        key.short(),
                        record.stage
                    ));
                    made.push(key);
                }
                Again::Failed {
                    message,
                    lost_input,
                } => {
                    if !lost_input {
                        output::story(&format!("{}: {message}", key.short()));
                    }
                    left.push(key);
                }
            }
        }
        // One that reads what another made is tried again after it.
        if left.is_empty() || left.len() == before {
            return Ok((made, left));
        }
        broken = left;
    }
}

/// How workers are started here; the secrets are those that the action asks for.
fn options(session: &Session, spec: &Digest, store: &LocalStore) -> Result<RunOptions, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::new(exit::BUG, format!("cannot find this program: {e}")))?;
    let mut options = RunOptions::new(program);
    options.environment = PASSED_ON
        .iter()
        .filter_map(|name| Some(((*name).into(), output::variable(name)?)))
        .collect();
    if let Ok(action) = starling::run::ActionSpec::read(store, spec) {
        let kind = session.registry.get(&action.kind);
        let names = kind
            .map(|kind| kind.secrets(&action.params))
            .unwrap_or_default();
        let values = names
            .into_iter()
            .filter_map(|name| output::variable(&name).map(|value| (name, value)));
        options.secrets = Secrets::new(values.collect());
    }
    Ok(options)
}
