//! Programs of the author's: their world, their ends, their secrets.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use starling::report::{Cause, RunEvent};
use starling_cache::Store as _;

use crate::space::{Space, send, wait_until_dead, workers};

const PIPELINE: &str = r#"
[stage.text]
kind = "toy-write"
text = "one\ntwo\n"

[stage.mine]
kind = "command"
argv = ["sh", "{script}", "{in.words}", "{out.raw}"]
script = "mine.sh"
inputs.in.words = "text.rows"
outputs = ["raw", "report"]
env.GREETING = "hello"

[stage.after]
kind = "toy-copy"
text = "after"
inputs.rows = "mine.raw"
"#;

const SCRIPT: &str = r#"
set -eu
test -z "${HOME_OF_USER:-}"
test "$1" = "$STARLING_INPUT_WORDS"
{ echo "$GREETING"; cat "$1"; } > "$2"
pwd > /dev/null; ls -A | wc -l | tr -d ' ' > "$STARLING_OUTPUT_REPORT"
env | cut -d= -f1 | sort >> "$STARLING_OUTPUT_REPORT"
"#;

fn space(pipeline: &str, script: &str) -> Space {
    let mut space = Space::new(pipeline);
    fs::write(space.store_path("mine.sh"), script).unwrap();
    space
        .env
        .push(("HOME_OF_USER", "must not be seen".to_owned()));
    space
}

/// The text of an output.
fn output(space: &Space, stage: &str, port: &str) -> String {
    let store = space.store("s");
    let keys = store.actions().unwrap();
    let mut records: Vec<_> = keys
        .iter()
        .filter_map(|key| store.action(key).unwrap())
        .collect();
    records.retain(|r| r.stage == stage);
    records.sort_by(|a, b| a.started_unix.total_cmp(&b.started_unix));
    let newest = records.last().expect("it ran");
    String::from_utf8(store.read(&newest.outputs[port].digest).unwrap()).unwrap()
}

#[test]
fn a_program_sees_what_is_declared_and_nothing_else() {
    let space = space(PIPELINE, SCRIPT);
    space.complete("s");
    assert_eq!(output(&space, "mine", "raw"), "hello\none\ntwo\n");
    assert_eq!(output(&space, "after", "rows"), "hello\none\ntwo\nafter\n");
    let report = output(&space, "mine", "report");
    assert!(
        report.starts_with("0\n"),
        "the working folder is empty: {report}"
    );
    for name in [
        "STARLING_THREADS",
        "STARLING_SNAPSHOTS",
        "GREETING",
        "PATH",
        "TMPDIR",
    ] {
        assert!(report.lines().any(|line| line == name), "{name}: {report}");
    }
    for name in [
        "HOME_OF_USER",
        "USER",
        "RUST_BACKTRACE",
        "RAYON_NUM_THREADS",
    ] {
        assert!(!report.lines().any(|line| line == name), "{name}: {report}");
    }
}

#[test]
fn script_words_and_values_are_in_the_key_and_names_of_secrets_are_not() {
    let mut space = space(PIPELINE, SCRIPT);
    space.env.push(("SECRET_TOKEN", "correct horse".to_owned()));
    assert_eq!(space.complete("s").started(), ["text", "mine", "after"]);
    space.write(&PIPELINE.replace("outputs =", "secret-env = [\"SECRET_TOKEN\"]\noutputs ="));
    assert_eq!(space.complete("s").started(), [""; 0]);
    space.write(&PIPELINE.replace("\"hello\"", "\"good day\""));
    assert_eq!(space.complete("s").started(), ["mine", "after"]);
    fs::write(
        space.store_path("mine.sh"),
        SCRIPT.replace("set -eu", "set -eu # same bytes"),
    )
    .unwrap();
    assert_eq!(
        space.complete("s").started(),
        ["mine"],
        "its output is the same"
    );
}

/// Whether any file of a folder holds some bytes.
fn holds(folder: &Path, bytes: &[u8]) -> Option<String> {
    fs::read_dir(folder).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, bytes);
        }
        let there = fs::read(&path)
            .unwrap()
            .windows(bytes.len())
            .any(|w| w == bytes);
        there.then(|| path.display().to_string())
    })
}

#[test]
fn a_secret_is_seen_by_the_program_and_by_nobody_else() {
    const SECRET: &str = "correct horse battery";
    // Cut in two with a pause between, so that it comes in two reads.
    let script = r#"
        test "${SECRET_TOKEN}" = "correct horse""$(printf ' battery')" || exit 9
        echo "token is $SECRET_TOKEN" >&2
        printf 'correct ho'; sleep 0.2; printf 'rse battery\n'
        echo fine > "$STARLING_OUTPUT_RAW"
        exit $CODE
    "#;
    for code in [0, 3] {
        let pipeline = format!(
            "[stage.mine]\nkind = \"command\"\nargv = [\"sh\", \"{{script}}\"]\nscript = \"mine.sh\"\noutputs = [\"raw\"]\n\
             secret-env = [\"SECRET_TOKEN\"]\nenv.CODE = \"{code}\"\n"
        );
        let mut space = space(&pipeline, script);
        space.env.push(("SECRET_TOKEN", SECRET.to_owned()));
        let ran = space.run("s", &[]);
        assert_eq!(ran.code, if code == 0 { 0 } else { 4 }, "{:#?}", ran.events);
        assert!(!format!("{:?}", ran.events).contains(SECRET));
        assert_eq!(holds(&space.store_path("s"), SECRET.as_bytes()), None);
        // It was said, and what stands in its place is in the log.
        assert!(holds(&space.store_path("s"), b"token is [secret]").is_some());
        if code != 0 {
            assert!(ran.failure("mine").message.contains("token is [secret]"));
        }
    }
}

#[test]
fn an_output_with_a_secret_is_refused_and_a_missing_secret_told() {
    let pipeline = "[stage.mine]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"echo $SECRET_TOKEN > $STARLING_OUTPUT_RAW\"]\n\
                    outputs = [\"raw\"]\nsecret-env = [\"SECRET_TOKEN\"]\n";
    let mut space = Space::new(pipeline);
    let ran = space.run("s", &[]);
    assert_eq!(ran.code, 4);
    let words = &ran.failure("mine").message;
    assert!(words.contains("no variable `SECRET_TOKEN`"), "{words}");
    space.env.push(("SECRET_TOKEN", "correct horse".to_owned()));
    let ran = space.run("s", &[]);
    assert_eq!(ran.code, 4);
    let words = &ran.failure("mine").message;
    assert!(
        words.contains("output `raw` holds the value of `SECRET_TOKEN`"),
        "{words}"
    );
    assert_eq!(holds(&space.store_path("s"), b"correct horse"), None);
}

#[test]
fn each_bad_end_has_its_words() {
    let run = |argv: &str| {
        let space = Space::new(&format!(
            "[stage.mine]\nkind = \"command\"\nargv = {argv}\noutputs = [\"raw\"]\n"
        ));
        let ran = space.run("s", &[]);
        assert_eq!(ran.code, 4, "{:#?}", ran.events);
        let failure = ran.failure("mine").clone();
        (failure.cause, failure.message)
    };
    let (cause, words) = run(r#"["sh", "-c", "echo first >&2; echo why >&2; exit 3"]"#);
    assert_eq!(cause, Cause::Stage);
    assert_eq!(words, "`sh` ended with code 3; its last words:\nfirst\nwhy");
    let (cause, words) = run(r#"["sh", "-c", "exit 75"]"#);
    assert_eq!(
        (cause, words.as_str()),
        (Cause::Transient { after: None }, "`sh` ended with code 75")
    );
    assert_eq!(
        run(r#"["sh", "-c", "kill -11 $$"]"#).1,
        "`sh` was ended by signal 11"
    );
    assert!(
        run(r#"["no-such-program-here"]"#)
            .1
            .contains("cannot run `no-such-program-here`")
    );
    assert_eq!(run(r#"["true"]"#).0, Cause::Output);
    assert!(
        run(r#"["echo", "{in.nothing}"]"#)
            .1
            .contains("names input `nothing`")
    );
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    for (settings, words) in [
        ("argv = []\noutputs = [\"raw\"]", "must name a program"),
        ("argv = [\"x\"]\noutputs = [\"row\"]", "no such output"),
        (
            "argv = [\"x\", \"{out.rows}\"]\noutputs = [\"raw\"]",
            "names output `rows`",
        ),
        ("argv = [\"./x\"]\noutputs = [\"raw\"]", "must be absolute"),
        (
            "argv = [\"x\"]\noutputs = [\"raw\"]\nsecret-env = [\"A=B\"]",
            "no name of a variable",
        ),
    ] {
        let space = Space::new(&format!("[stage.mine]\nkind = \"command\"\n{settings}\n"));
        let output = std::process::Command::new(crate::space::toy())
            .args(["run", "p.toml"])
            .current_dir(space.store_path(""))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

/// Counts to 30 in steps of a tenth of a second at most, and goes on from its snapshot.
const COUNTING: &str = r#"
set -eu
n=0; state=start
if [ -n "${STARLING_RESUME:-}" ]; then n=$(cat "$STARLING_RESUME/n"); state=$(cat "$STARLING_RESUME/state"); fi
while [ "$n" -lt 30 ]; do
  n=$((n + 1))
  state=$(echo "$state $n" | cksum | cut -d' ' -f1)
  sleep 0.03
  mkdir "$STARLING_SNAPSHOTS/part"
  echo "$n" > "$STARLING_SNAPSHOTS/part/n"; echo "$state" > "$STARLING_SNAPSHOTS/part/state"
  mv "$STARLING_SNAPSHOTS/part" "$STARLING_SNAPSHOTS/$n"
done
echo "$state" > "$STARLING_OUTPUT_RAW"
"#;

const COUNTER: &str = "[stage.mine]\nkind = \"command\"\nargv = [\"sh\", \"{script}\"]\nscript = \"mine.sh\"\noutputs = [\"raw\"]\n";

#[test]
fn a_killed_program_goes_on_from_its_snapshot() {
    let space = space(COUNTER, COUNTING);
    space.complete("unbroken");
    let mut resumes = 0;
    for engine in [true, false] {
        let mut run = space.start("s", &[]);
        let at = |e: &RunEvent| {
            matches!(
                e,
                RunEvent::Stage {
                    what: starling_contract::Event::Snapshot { .. },
                    ..
                }
            )
        };
        run.until(at);
        let pids = workers(&run.events);
        let events = if engine {
            run.kill()
        } else {
            send(pids[0], Signal::KILL);
            run.finish().events
        };
        resumes += crate::space::resumed(&events);
        wait_until_dead(pids[0]);
    }
    let last = space.complete("s");
    assert!(resumes + last.resumed() > 0);
    assert_eq!(space.digests("s"), space.digests("unbroken"));
}

#[test]
fn an_interrupt_reaches_the_program_and_no_program_outlives_its_engine() {
    let space = space(
        COUNTER,
        "echo $$ > \"$STARLING_SNAPSHOTS/pid\"; trap 'exit 5' TERM; while true; do sleep 0.05; done",
    );
    for kill in [false, true] {
        let mut run = space.start("s", &[]);
        run.until_started("mine");
        let pid = loop {
            let folders = space.scratch_folders("s");
            let read = folders.iter().find_map(|folder| {
                fs::read_to_string(folder.join("work/snapshots/pid"))
                    .ok()?
                    .trim()
                    .parse::<u32>()
                    .ok()
            });
            if let Some(pid) = read {
                break pid;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        if kill {
            run.kill();
        } else {
            run.signal(Signal::INT);
            assert_eq!(run.finish().code, 130);
        }
        wait_until_dead(pid);
    }
}
