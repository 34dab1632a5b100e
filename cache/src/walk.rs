//! Listing a folder with all below it.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{CacheError, error::reading};

/// What a folder holds: the path of each file or empty folder below it, and whether it is a file.
pub(crate) type Listing = Vec<(String, PathBuf, bool)>;

/// Lists a folder with all below it, following links.
pub(crate) fn list_tree(root: &Path) -> Result<Listing, CacheError> {
    let mut listing = Vec::new();
    descend(root, "", &mut Vec::new(), &mut listing)?;
    Ok(listing)
}

fn descend(
    folder: &Path,
    prefix: &str,
    above: &mut Vec<(u64, u64)>,
    listing: &mut Listing,
) -> Result<(), CacheError> {
    let meta = fs::metadata(folder).map_err(reading("read", folder))?;
    let identity = (meta.dev(), meta.ino());
    if above.contains(&identity) {
        let why = "it is a link to a folder that it lies in";
        return Err(CacheError::Unsupported {
            path: folder.to_owned(),
            why,
        });
    }
    above.push(identity);
    let before = listing.len();
    for entry in fs::read_dir(folder).map_err(reading("list", folder))? {
        let entry = entry.map_err(reading("list", folder))?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            return Err(CacheError::Unsupported {
                path,
                why: "its name is not UTF-8",
            });
        };
        let relative = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}/{name}")
        };
        let mut kind = entry.file_type().map_err(reading("read", &path))?;
        if kind.is_symlink() {
            kind = fs::metadata(&path)
                .map_err(reading("follow", &path))?
                .file_type();
        }
        if kind.is_dir() {
            descend(&path, &relative, above, listing)?;
        } else if kind.is_file() {
            listing.push((relative, path, true));
        } else {
            let why = "it is neither a file nor a folder";
            return Err(CacheError::Unsupported { path, why });
        }
    }
    if listing.len() == before && !prefix.is_empty() {
        listing.push((prefix.to_owned(), folder.to_owned(), false));
    }
    above.pop();
    Ok(())
}
