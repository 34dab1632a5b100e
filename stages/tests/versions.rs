//! A kind's `VERSION` rises when its bytes would change: nobody may change its sources without deciding that.
//!
//! `stages/versions.lock` holds a digest of the sources of each kind (its folder) and of each shared part (a module of
//! this crate, a crate below it), and beside each the last decision. Comments, blank lines and tests at the end of a
//! file do not count. When a digest differs, decide: raise `VERSION` of every kind whose bytes change, then run
//!
//! ```text
//! STARLING_BLESS="why the bytes of the others stay the same" cargo test -p starling-stages --test versions
//! ```
//!
//! which writes the lock anew. The reason stays in the lock beside what it was given for.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of test functions"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use starling_cache::{Digest, Digester};

const HEADER: &str = "# What the sources of each kind were when somebody last decided whether their bytes change.\n\
                      # Written by `STARLING_BLESS=\"reason\" cargo test -p starling-stages --test versions`.\n";

/// A line of the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// The kind's version; 0 for a shared part.
    version: u32,
    digest: Digest,
    decision: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The Rust files at or below a path, in order.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut found = Vec::new();
    let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What of a file can change bytes.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text
        .split("\n#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let lines = text.lines().map(str::trim);
    let counts = |line: &&str| !line.is_empty() && !line.starts_with("//");
    lines.filter(counts).collect::<Vec<_>>().join("\n")
}

fn digest(path: &Path) -> Digest {
    let mut digester = Digester::new();
    for file in sources(path) {
        let name = file
            .strip_prefix(path)
            .unwrap_or(&file)
            .to_string_lossy()
            .into_owned();
        for part in [name, code(&file)] {
            digester.update(&(part.len() as u64).to_be_bytes());
            digester.update(part.as_bytes());
        }
    }
    digester.digest()
}

/// The names after `prefix` in some sources: modules after `crate::`, crates after `starling_`.
fn names(path: &Path, prefix: &str) -> BTreeSet<String> {
    let word = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        rest[..end.unwrap_or(rest.len())].to_owned()
    };
    let mut found = BTreeSet::new();
    for file in sources(path) {
        let code = code(&file);
        found.extend(
            code.match_indices(prefix)
                .map(|(at, _)| word(&code[at + prefix.len()..])),
        );
        // `use crate::{a, b::c};`
        let braced = format!("{prefix}{{");
        for (at, _) in code.match_indices(&braced) {
            let list = code[at + braced.len()..]
                .split('}')
                .next()
                .unwrap_or_default();
            found.extend(list.split(',').map(|name| word(name.trim())));
        }
    }
    found
}

/// The shared module of this crate called `name`, if there is one.
fn module(name: &str) -> Option<PathBuf> {
    let source = root().join("src");
    [source.join(format!("{name}.rs")), source.join(name)]
        .into_iter()
        .find(|path| path.exists())
}

/// The kinds: name, version, folder.
fn kinds() -> BTreeMap<String, (u32, PathBuf)> {
    let mut folders = BTreeMap::new();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(text) = fs::read_to_string(folder.join("mod.rs")) else {
            continue;
        };
        for line in text.lines() {
            if let Some(rest) = line.trim().strip_prefix("const KIND: &'static str = \"") {
                folders.insert(rest.trim_end_matches("\";").to_owned(), folder.clone());
            }
        }
    }
    let kinds = starling_stages::kinds();
    let kinds = kinds.iter().map(|kind| {
        let folder = folders.get(kind.name());
        let folder =
            folder.unwrap_or_else(|| panic!("kind `{}` has no folder of its own", kind.name()));
        (kind.name().to_owned(), (kind.version(), folder.clone()))
    });
    kinds.collect()
}

/// What is shared, with the kinds that use it.
fn shared(
    kinds: &BTreeMap<String, (u32, PathBuf)>,
) -> BTreeMap<String, (PathBuf, BTreeSet<String>)> {
    let mut shared: BTreeMap<String, (PathBuf, BTreeSet<String>)> = BTreeMap::new();
    for (kind, (_, folder)) in kinds {
        let mut to_see = vec![folder.clone()];
        let mut seen = BTreeSet::new();
        while let Some(path) = to_see.pop() {
            for name in names(&path, "crate::") {
                let Some(path) = module(&name).filter(|p| kinds.values().all(|(_, k)| k != p))
                else {
                    continue;
                };
                if seen.insert(name.clone()) {
                    let entry = shared.entry(format!("stages/{name}"));
                    entry
                        .or_insert_with(|| (path.clone(), BTreeSet::new()))
                        .1
                        .insert(kind.clone());
                    to_see.push(path);
                }
            }
            for name in names(&path, "starling_") {
                let path = root().join(&name).join("src");
                if name != "contract" && path.is_dir() {
                    let entry = shared.entry(format!("starling-{name}"));
                    entry
                        .or_insert_with(|| (path.clone(), BTreeSet::new()))
                        .1
                        .insert(kind.clone());
                }
            }
        }
    }
    shared
}

fn read_lock(text: &str) -> BTreeMap<String, Entry> {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let entry = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let mut word = || {
            words
                .next()
                .unwrap_or_else(|| panic!("a line of the lock: {line}"))
        };
        let name = word().to_owned();
        let version = word().parse().unwrap_or(0);
        let digest = word().parse().unwrap_or_else(|e| panic!("{name}: {e}"));
        let decision = words.next().unwrap_or_default().to_owned();
        (
            name,
            Entry {
                version,
                digest,
                decision,
            },
        )
    };
    lines.map(entry).collect()
}

fn write_lock(entries: &BTreeMap<String, Entry>) -> String {
    let lines = entries.iter().map(|(name, entry)| {
        let version = match entry.version {
            0 => "-".to_owned(),
            version => version.to_string(),
        };
        format!("{name} {version} {} {}\n", entry.digest, entry.decision)
    });
    HEADER.to_owned() + &lines.collect::<String>()
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the person who decides says why in the environment"
)]
fn whoever_changes_a_kind_decides_about_its_version() {
    let kinds = kinds();
    let shared = shared(&kinds);
    let mut now = BTreeMap::new();
    for (kind, (version, folder)) in &kinds {
        now.insert(
            kind.clone(),
            (*version, digest(folder), BTreeSet::from([kind.clone()])),
        );
    }
    for (name, (path, users)) in shared {
        now.insert(name, (0, digest(&path), users));
    }
    let path = root().join("versions.lock");
    let lock = read_lock(&fs::read_to_string(&path).unwrap_or_default());
    let reason = std::env::var("STARLING_BLESS").ok();
    let mut entries = BTreeMap::new();
    let mut undecided = Vec::new();
    for (name, (version, digest, users)) in now {
        let known = lock.get(&name);
        let mut decision = known.map_or_else(String::new, |entry| entry.decision.clone());
        match known {
            Some(entry) if entry.digest == digest && entry.version == version => {}
            Some(entry) if entry.version < version => decision = format!("version {version}"),
            None if version > 0 => decision = format!("version {version}"),
            _ => {
                decision = reason.clone().unwrap_or_default();
                let users: Vec<String> = users.into_iter().collect();
                undecided.push(format!("{name} (kinds: {})", users.join(", ")));
            }
        }
        entries.insert(
            name,
            Entry {
                version,
                digest,
                decision,
            },
        );
    }
    if let Some(reason) = reason {
        assert!(reason.trim().len() > 8, "STARLING_BLESS must say why");
        fs::write(&path, write_lock(&entries)).unwrap();
        return;
    }
    assert!(
        undecided.is_empty(),
        "these sources changed and nobody decided whether bytes change:\n  {}\nraise `VERSION` of each kind whose \
         bytes change, then run: STARLING_BLESS=\"why the others stay the same\" cargo test -p starling-stages \
         --test versions",
        undecided.join("\n  ")
    );
}

#[test]
fn comments_and_tests_do_not_count_and_code_does() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mod.rs");
    let of = |text: &str| {
        fs::write(&file, text).unwrap();
        digest(dir.path())
    };
    let before = of("//! A.\nfn f() -> u8 { 1 }\n");
    assert_eq!(
        of("//! B.\n\nfn f() -> u8 { 1 }\n\n#[cfg(test)]\nmod tests {\n}\n"),
        before
    );
    assert_ne!(of("//! A.\nfn f() -> u8 { 2 }\n"), before);
}

#[test]
fn the_lock_goes_both_ways() {
    let entry = Entry {
        version: 3,
        digest: Digest::of(b"a"),
        decision: "version 3".to_owned(),
    };
    let shared = Entry {
        version: 0,
        decision: "only words moved".to_owned(),
        ..entry.clone()
    };
    let entries = BTreeMap::from([
        ("sft".to_owned(), entry),
        ("stages/rows".to_owned(), shared),
    ]);
    assert_eq!(read_lock(&write_lock(&entries)), entries);
}
