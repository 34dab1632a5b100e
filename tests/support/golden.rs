//! Golden data, for the tests of every crate that has some: where it is, and the texts of its files.
//!
//! Included by `#[path]` into tests of the crates in `stages/`, from whose folders the workspace is found.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// An area of the golden data: in the folder that `STARLING_GOLDEN` names (a relative name counts from the workspace's
/// root), else in `tests/golden`.
pub(crate) fn folder(area: &str) -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests are pointed at other data by the environment"
    )]
    let named = std::env::var_os("STARLING_GOLDEN");
    let named = named.map_or_else(|| PathBuf::from("tests/golden"), PathBuf::from);
    workspace().join(named).join(area)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of an area: the workspace's own where the folder that is named has none.
pub(crate) fn file(area: &str, name: &str) -> PathBuf {
    let path = folder(area).join(name);
    if path.exists() {
        return path;
    }
    workspace().join("tests/golden").join(area).join(name)
}

/// The files of an area whose names are wanted, sorted.
pub(crate) fn files(area: &str, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let folder = folder(area);
    match fs::read_dir(&folder) {
        Ok(entries) => wanted_of(entries, wanted),
        Err(error) => panic!("{}: {error}", folder.display()),
    }
}

/// The same of a set that the project has made itself: the workspace's own files where the folder that is named has
/// none of the set.
pub(crate) fn own_files(area: &str, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let own = workspace().join("tests/golden").join(area);
    let found = [folder(area), own].map(|folder| match fs::read_dir(folder) {
        Ok(entries) => wanted_of(entries, &wanted),
        Err(_) => Vec::new(),
    });
    found
        .into_iter()
        .find(|files| !files.is_empty())
        .unwrap_or_default()
}

fn wanted_of(entries: fs::ReadDir, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(&wanted)
        })
        .collect();
    files.sort();
    files
}

/// The lines of every `SET_*.jsonl.gz` of an area, in the order of the files.
pub(crate) fn lines(area: &str, set: &str) -> Vec<String> {
    let prefix = format!("{set}_");
    let files = files(area, |name| {
        name.starts_with(&prefix) && name.ends_with(".jsonl.gz")
    });
    let lines = |file: &PathBuf| text(file).lines().map(str::to_owned).collect::<Vec<_>>();
    files.iter().flat_map(lines).collect()
}

/// The text of a file, unpacked where its name ends in `.gz`.
pub(crate) fn text(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_none_or(|ending| ending != "gz") {
        return String::from_utf8(bytes).expect("UTF-8");
    }
    let mut text = String::new();
    MultiGzDecoder::new(bytes.as_slice())
        .read_to_string(&mut text)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text
}
