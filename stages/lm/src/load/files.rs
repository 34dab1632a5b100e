//! Reading and writing small files of a model folder, with their paths in the errors.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use crate::error::LmError;

/// The files beside configuration and weights that travel with a model, when they are there.
pub const COMPANIONS: [&str; 8] = [
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

/// The companions of a folder, by name.
pub(super) fn companions(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, LmError> {
    let mut files = BTreeMap::new();
    for name in COMPANIONS {
        let path = folder.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => {
                files.insert(name.to_owned(), bytes);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(LmError::io(&path)(error)),
        }
    }
    Ok(files)
}

pub(super) fn read_text(path: &Path) -> Result<String, LmError> {
    std::fs::read_to_string(path).map_err(LmError::io(path))
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), LmError> {
    std::fs::write(path, bytes).map_err(LmError::io(path))
}

/// A file name that stays in its folder.
pub(super) fn plain_name(name: &str) -> Result<&str, LmError> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Ok(name),
        _ => Err(LmError::Config(format!("`{name}` is no plain file name"))),
    }
}
