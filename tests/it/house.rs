//! The house rules of this folder.

use std::fs;
use std::path::Path;

/// A file that no `mod` line names would be a test that never runs.
#[test]
fn every_file_is_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let main = fs::read_to_string(folder.join("main.rs")).expect("main.rs");
    for entry in fs::read_dir(&folder).expect("the folder") {
        let path = entry.expect("readable").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        let listed = main.lines().any(|l| l == format!("mod {name};"));
        assert!(
            name == "main" || listed,
            "{} is not listed in main.rs",
            path.display()
        );
    }
}
