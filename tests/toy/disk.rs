//! Disks that are full or cannot be written: a clear error, and afterwards the result of an unbroken run.
//!
//! The store lies on a small filesystem in memory, in a mount namespace of its own, which a user may make on most
//! systems. Where that is forbidden, a limit on the size of files stands in for the full disk, and rights on files for
//! the read-only mount.

use std::process::Command;

use crate::space::{Space, toy};

/// An output of some 1.5 MB.
const PIPELINE: &str = r#"
[stage.large]
kind = "toy-slow"
count = 20000
snapshot-every = 1000000

[stage.table]
kind = "toy-concat"
inputs.parts.a = "large.rows"
"#;

/// Runs a shell script beside the pipeline; what it printed, and whether it could do all it wanted.
fn shell(space: &Space, namespace: bool, script: &str) -> (i32, String) {
    let mut command = if namespace {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    let output = command
        .args(["-c", script])
        .env("TOY", toy())
        .current_dir(space.store_path(""))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), said)
}

/// Whether this user may mount in a namespace of their own.
fn can_mount(space: &Space) -> bool {
    let (code, _) = shell(space, true, "mkdir -p probe && mount -t tmpfs none probe");
    code == 0
}

#[test]
fn a_full_disk_is_told_and_more_space_is_all_it_takes() {
    let space = Space::new(PIPELINE);
    space.complete("unbroken");
    let script = if can_mount(&space) {
        println!("a filesystem of 1 MB");
        r#"
        mkdir disk && mount -t tmpfs -o size=1m none disk || exit 99
        "$TOY" run p.toml --store disk/s; echo "code $?"
        mount -o remount,size=100m disk || exit 99
        "$TOY" run p.toml --store disk/s >/dev/null; echo "code $?"
        cp -r disk/s s
        "#
    } else {
        println!("no namespaces here: a limit of 512 kB a file");
        r#"
        trap '' XFSZ
        (ulimit -f 1024; "$TOY" run p.toml --store s; echo "code $?")
        "$TOY" run p.toml --store s >/dev/null; echo "code $?"
        "#
    };
    let (code, said) = shell(&space, script.contains("mount"), script);
    assert_eq!(code, 0, "{said}");
    let codes: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("code "))
        .collect();
    assert!(["4", "5"].contains(&codes[0]), "{said}");
    assert_eq!(codes[1], "0", "{said}");
    assert!(
        ["no space left", "No space left", "File too large"]
            .iter()
            .any(|words| said.contains(words)),
        "{said}"
    );
    assert_eq!(space.digests("s"), space.digests("unbroken"));
}

#[test]
fn a_read_only_store_still_shows_what_it_has() {
    let space = Space::new(PIPELINE);
    let whole = space.complete("s");
    let script = if can_mount(&space) {
        println!("a read-only mount");
        r#"
        mount --bind s s && mount -o remount,bind,ro s || exit 99
        "$TOY" run p.toml --store s; echo "code $?"
        "$TOY" run p.toml --store s --set large.count=3; echo "code $?"
        "#
    } else {
        println!("no namespaces here: a store that its reader has no right to write");
        r#"
        as=
        [ "$(id -u)" != 0 ] || as="setpriv --reuid=65534 --regid=65534 --clear-groups"
        cp "$TOY" toy && chmod a+rx . toy && chmod -R a-w s || exit 99
        $as ./toy run p.toml --store s; echo "code $?"
        $as ./toy run p.toml --store s --set large.count=3; echo "code $?"
        chmod -R u+w s
        "#
    };
    let (code, said) = shell(&space, script.contains("mount"), script);
    assert_eq!(code, 0, "{said}");
    let codes: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("code "))
        .collect();
    assert_eq!(codes, ["0", "5"], "{said}");
    assert!(said.contains(whole.stdout.trim()), "{said}");
    assert!(said.contains("cannot be written"), "{said}");
}
