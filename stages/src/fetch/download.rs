//! One file by its digest: resumed where it was cut off, verified before anyone sees it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use starling_cache::Digest;
use starling_contract::StageError;

use super::http::{Fault, Http, Tries, text};

/// How often wrong bytes are thrown away before the file is given up.
const WRONG: u32 = 2;

/// What is wanted.
pub(super) struct Wanted<'a> {
    /// What messages call it.
    pub(super) name: &'a str,
    /// Where it is.
    pub(super) url: &'a str,
    /// What it must be.
    pub(super) sha256: Digest,
    /// How long it is, where that is known.
    pub(super) bytes: Option<u64>,
}

/// Downloads into `folder`, unless it is there already; the path of the verified file. `told` hears how many
/// bytes are there, and stops the download by an error.
pub(super) fn download(
    http: &Http,
    folder: &Path,
    wanted: &Wanted<'_>,
    told: &mut dyn FnMut(u64) -> Result<(), StageError>,
) -> Result<PathBuf, Fault> {
    std::fs::create_dir_all(folder).map_err(lasting(StageError::io("create", folder)))?;
    let whole = folder.join(wanted.sha256.to_string());
    let part = folder.join(format!("{}.part", wanted.sha256));
    // Two downloads of one file take turns; the second finds what the first brought.
    let guard = folder.join(format!("{}.lock", wanted.sha256));
    let lock = File::create(&guard).map_err(lasting(StageError::io("create", &guard)))?;
    lock.lock()
        .map_err(lasting(StageError::io("lock", &guard)))?;
    if whole.exists() {
        if digest(&whole)? == wanted.sha256 {
            return Ok(whole);
        }
        std::fs::remove_file(&whole).map_err(lasting(StageError::io("remove", &whole)))?;
    }
    let mut wrong = 0;
    http.patiently(wanted.name, |tries| {
        bring(http, &part, wanted, tries, told)?;
        let found = digest(&part)?;
        if found == wanted.sha256 {
            return Ok(());
        }
        std::fs::remove_file(&part).map_err(lasting(StageError::io("remove", &part)))?;
        wrong += 1;
        let why = format!("its SHA-256 is {found}, and {} was expected", wanted.sha256);
        if wrong < WRONG {
            return Err(Fault::Passing(why, None));
        }
        Err(Fault::Lasting(StageError::failed_try(
            format!("{}: {why}", wanted.name),
            "the server sends other bytes than it promised; ask its operator, or pin another version",
        )))
    })?;
    std::fs::rename(&part, &whole).map_err(lasting(StageError::io("rename", &part)))?;
    // Who waits for the lock has the file open; a new one makes its own.
    drop(std::fs::remove_file(&guard));
    Ok(whole)
}

/// Fills the partial file up.
fn bring(
    http: &Http,
    part: &Path,
    wanted: &Wanted<'_>,
    tries: &mut Tries,
    told: &mut dyn FnMut(u64) -> Result<(), StageError>,
) -> Result<(), Fault> {
    let mut have = std::fs::metadata(part).map_or(0, |m| m.len());
    if wanted.bytes == Some(have) && have > 0 {
        return Ok(());
    }
    if wanted.bytes.is_some_and(|bytes| have > bytes) {
        have = 0;
    }
    let response = http.ask(false, wanted.url, (have > 0).then_some(have));
    let mut response = match response {
        // The server has nothing from there on: what is here is not the beginning of it.
        Err(Fault::Status(416, _)) => {
            drop(std::fs::remove_file(part));
            return Err(Fault::Passing(
                "the server has no such part".to_owned(),
                None,
            ));
        }
        other => other?,
    };
    let resumed = response.status().as_u16() == 206
        && text(response.headers(), "content-range")
            .is_some_and(|range| range.starts_with(&format!("bytes {have}-")));
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .append(resumed)
        .truncate(!resumed)
        .open(part)
        .map_err(lasting(StageError::io("open", part)))?;
    if !resumed {
        have = 0;
    }
    let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = body
            .read(&mut buffer)
            .map_err(|e| Fault::Passing(format!("the connection broke: {e}"), None))?;
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read])
            .map_err(lasting(StageError::io("write", part)))?;
        have += read as u64;
        tries.progressed(have);
        if wanted.bytes.is_some_and(|bytes| have > bytes) {
            break;
        }
        told(have).map_err(Fault::Lasting)?;
    }
    match wanted.bytes {
        Some(bytes) if have < bytes => Err(Fault::Passing(
            format!("the connection ended after {have} of {bytes} bytes"),
            None,
        )),
        _ => Ok(()),
    }
}

fn digest(path: &Path) -> Result<Digest, Fault> {
    let found = Digest::of_file(path).map_err(|e| StageError::failed(e.to_string()));
    found.map(|(digest, _)| digest).map_err(Fault::Lasting)
}

/// Turns a system error into one that no second try mends.
pub(super) fn lasting(
    wrap: impl FnOnce(std::io::Error) -> StageError,
) -> impl FnOnce(std::io::Error) -> Fault {
    |error| Fault::Lasting(wrap(error))
}
