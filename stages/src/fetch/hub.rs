//! A Hugging Face hub: what a repository's revision stands for, and where its files are.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;
use starling_cache::Digest;
use starling_contract::StageError;

use super::download::lasting;
use super::http::{Fault, Http, escaped, text};
use super::settings::Settings;
use super::{Locked, LockedFile, RepoType};

/// A repository at a revision.
pub(super) struct Repo<'a> {
    pub(super) kind: RepoType,
    pub(super) name: &'a str,
    pub(super) revision: &'a str,
}

/// What the hub tells of a revision; everything else is passed over.
#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(default, alias = "oid")]
    sha256: Option<String>,
    #[serde(default)]
    size: Option<u64>,
}

impl Repo<'_> {
    /// Its name in messages.
    fn called(&self) -> String {
        format!("{} `{}`", self.kind.called(), self.name)
    }

    /// Where a person asks for access.
    fn page(&self) -> String {
        format!("https://huggingface.co/{}{}", self.kind.prefix(), self.name)
    }

    /// The address of a file.
    pub(super) fn url(&self, endpoint: &str, sha: &str, file: &str) -> String {
        format!(
            "{endpoint}/{}{}/resolve/{}/{}",
            self.kind.prefix(),
            self.name,
            escaped(sha).replace('/', "%2F"),
            escaped(file)
        )
    }

    /// Its folder in the hub's cache.
    fn cached(&self, settings: &Settings) -> Option<PathBuf> {
        let name = format!("{}--{}", self.kind.plural(), self.name.replace('/', "--"));
        Some(settings.hub_cache.as_ref()?.join(name))
    }

    /// A file of the hub's cache, if it is there with these bytes.
    pub(super) fn in_cache(
        &self,
        settings: &Settings,
        sha: &str,
        file: &LockedFile,
    ) -> Option<PathBuf> {
        let path = self
            .cached(settings)?
            .join("snapshots")
            .join(sha)
            .join(&file.path);
        let (found, bytes) = Digest::of_file(&path).ok()?;
        (bytes == file.bytes && found == file.sha256).then_some(path)
    }

    /// Finds out which files a revision stands for now.
    pub(super) fn resolve(
        &self,
        settings: &Settings,
        patterns: &[String],
    ) -> Result<Locked, StageError> {
        let wanted = patterns_of(patterns)?;
        if settings.offline {
            return self.resolve_cached(settings, &wanted);
        }
        let http = Http::new(settings);
        let api = format!(
            "{}/api/{}/{}/revision/{}?blobs=true",
            settings.endpoint,
            self.kind.plural(),
            self.name,
            escaped(self.revision).replace('/', "%2F")
        );
        let what = format!("the revision `{}` of {}", self.revision, self.called());
        let asked = http.patiently(&what, |_| {
            let mut response = http.ask(false, &api, None)?;
            let body = response
                .body_mut()
                .with_config()
                .limit(256 << 20)
                .read_to_vec();
            body.map_err(|e| Fault::Passing(format!("the connection broke: {e}"), None))
        });
        let body = asked.map_err(|fault| self.refused(fault, &what, http.has_token()))?;
        let info: Info = serde_json::from_slice(&body).map_err(|e| {
            StageError::failed(format!("{what}: the server's answer makes no sense: {e}"))
        })?;
        if !info.sha.bytes().all(|b| b.is_ascii_alphanumeric()) || info.sha.is_empty() {
            return Err(StageError::failed(format!(
                "{what}: the server names no commit"
            )));
        }
        let all = info.siblings.len();
        let mut chosen: Vec<Sibling> = info
            .siblings
            .into_iter()
            .filter(|s| wanted.is_match(&s.rfilename))
            .collect();
        chosen.sort_by(|a, b| a.rfilename.cmp(&b.rfilename));
        if chosen.is_empty() {
            return Err(StageError::failed_try(
                format!(
                    "none of the {all} files of {} matches `{}`",
                    self.called(),
                    patterns.join("`, `")
                ),
                format!("see {}/tree/{}", self.page(), info.sha),
            ));
        }
        let mut files = Vec::new();
        for sibling in chosen {
            files.push(self.describe(settings, &http, &info.sha, sibling)?);
        }
        Ok(Locked {
            revision: info.sha,
            files,
        })
    }

    /// Length and digest of a file. For large files the hub knows them; small ones are brought at once.
    fn describe(
        &self,
        settings: &Settings,
        http: &Http,
        sha: &str,
        sibling: Sibling,
    ) -> Result<LockedFile, StageError> {
        let path = sibling.rfilename;
        safe(&path)?;
        let what = format!("`{path}` of {}", self.called());
        let known = |digest: Option<String>, bytes: Option<u64>| {
            let sha256 = digest?.trim_matches('"').parse().ok()?;
            Some((sha256, bytes?))
        };
        let mut size = sibling.size;
        if let Some(lfs) = sibling.lfs
            && let Some((sha256, bytes)) = known(lfs.sha256, lfs.size.or(size))
        {
            return Ok(LockedFile {
                path,
                bytes,
                sha256,
            });
        }
        let url = self.url(&settings.endpoint, sha, &path);
        let headers = http
            .patiently(&what, |_| Ok(http.ask(true, &url, None)?.headers().clone()))
            .map_err(|fault| self.refused(fault, &what, http.has_token()))?;
        let number = |name: &str| text(&headers, name).and_then(|n| n.parse().ok());
        size = number("x-linked-size").or(size);
        if let Some((sha256, bytes)) = known(text(&headers, "x-linked-etag"), size) {
            return Ok(LockedFile {
                path,
                bytes,
                sha256,
            });
        }
        let (sha256, bytes) = http
            .patiently(&what, |_| small(http, &url, &settings.downloads))
            .map_err(|fault| self.refused(fault, &what, http.has_token()))?;
        Ok(LockedFile {
            path,
            bytes,
            sha256,
        })
    }

    /// The same without asking anybody.
    fn resolve_cached(&self, settings: &Settings, wanted: &GlobSet) -> Result<Locked, StageError> {
        let absent = || {
            StageError::failed_try(
                format!(
                    "the revision `{}` of {} is not in the hub's cache, and HF_HUB_OFFLINE forbids to ask for it",
                    self.revision,
                    self.called()
                ),
                "unset HF_HUB_OFFLINE, or point HF_HOME at a cache that has it",
            )
        };
        let folder = self.cached(settings).ok_or_else(absent)?;
        let named = std::fs::read_to_string(folder.join("refs").join(self.revision));
        let revision = named.map_or_else(|_| self.revision.to_owned(), |sha| sha.trim().to_owned());
        let snapshot = folder.join("snapshots").join(&revision);
        let mut names = Vec::new();
        below(&snapshot, "", &mut names);
        names.retain(|name| wanted.is_match(name));
        names.sort();
        if names.is_empty() {
            return Err(absent());
        }
        let files = names.into_iter().map(|path| {
            let (sha256, bytes) = Digest::of_file(&snapshot.join(&path))
                .map_err(|e| StageError::failed(e.to_string()))?;
            Ok(LockedFile {
                path,
                bytes,
                sha256,
            })
        });
        Ok(Locked {
            files: files.collect::<Result<_, StageError>>()?,
            revision,
        })
    }

    /// The server's no, in the words of whoever has to do something about it.
    pub(super) fn refused(&self, fault: Fault, what: &str, has_token: bool) -> StageError {
        match fault {
            Fault::Status(401 | 403, _) if has_token => StageError::failed_try(
                format!(
                    "the account of your token has no access to {}",
                    self.called()
                ),
                format!("ask for access at {}, or use another HF_TOKEN", self.page()),
            ),
            Fault::Status(401 | 403, _) => StageError::failed_try(
                format!(
                    "{} is restricted, private, or does not exist",
                    self.called()
                ),
                format!(
                    "ask for access at {}, then set HF_TOKEN to a token of that account",
                    self.page()
                ),
            ),
            Fault::Status(404, _) => StageError::failed_try(
                format!("{what} does not exist"),
                format!("see {}", self.page()),
            ),
            other => other.into_error(what),
        }
    }
}

/// Brings a file whose digest nobody has told yet, and keeps it under its digest.
fn small(http: &Http, url: &str, downloads: &Path) -> Result<(Digest, u64), Fault> {
    let mut response = http.ask(false, url, None)?;
    let promised: Option<u64> =
        text(response.headers(), "content-length").and_then(|n| n.parse().ok());
    let bytes = response
        .body_mut()
        .with_config()
        .limit(1 << 30)
        .read_to_vec();
    let bytes = bytes.map_err(|e| Fault::Passing(format!("the connection broke: {e}"), None))?;
    if promised.is_some_and(|n| n != bytes.len() as u64) {
        return Err(Fault::Passing(
            "the connection ended early".to_owned(),
            None,
        ));
    }
    let sha256 = Digest::of(&bytes);
    std::fs::create_dir_all(downloads).map_err(lasting(StageError::io("create", downloads)))?;
    let path = downloads.join(sha256.to_string());
    let part = downloads.join(format!("{sha256}.new"));
    std::fs::write(&part, &bytes).map_err(lasting(StageError::io("write", &part)))?;
    std::fs::rename(&part, &path).map_err(lasting(StageError::io("rename", &part)))?;
    Ok((sha256, bytes.len() as u64))
}

/// Compiles file patterns; `*` stays within a folder, `**` does not.
pub(super) fn patterns_of(patterns: &[String]) -> Result<GlobSet, StageError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern)
            .literal_separator(true)
            .build()
            .map_err(|e| StageError::failed(format!("`{pattern}` is no file pattern: {e}")))?;
        set.add(glob);
    }
    set.build()
        .map_err(|e| StageError::failed(format!("the file patterns cannot be used: {e}")))
}

/// Refuses a name that would leave the folder it is put into.
fn safe(path: &str) -> Result<(), StageError> {
    let good = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\\');
    if path.split('/').all(good) && !path.contains('\0') {
        return Ok(());
    }
    Err(StageError::failed(format!(
        "the hub names a file `{path}`, which no folder can hold"
    )))
}

/// The names of all files below a folder.
fn below(folder: &Path, under: &str, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{under}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            below(&entry.path(), &format!("{name}/"), names);
        } else {
            names.push(name);
        }
    }
}
