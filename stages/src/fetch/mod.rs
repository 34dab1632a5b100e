//! Fetch: brings data in from a Hugging Face hub, from an https address, or from this machine.
//!
//! | port   | way | artifact | holds                                                     |
//! |--------|-----|----------|-----------------------------------------------------------|
//! | `data` | out | raw      | the file, or a folder of the files that were asked for    |
//!
//! A revision such as `main` may stand for something else tomorrow. What it stands for is asked once and
//! written into `starling.lock` beside the pipeline: the commit, and length and SHA-256 of every file. From
//! then on the lock decides the key, and nobody is asked again until `starling fetch --update`, or until its
//! entry is deleted. A hub that changed changes nothing; bytes that are not those of the lock are refused.
//! Addresses and paths need no lock: their SHA-256 is pinned, or their bytes are in the key.
//!
//! Downloads continue where they were cut off, also in another run; they are kept in
//! `XDG_CACHE_HOME/starling/downloads` until the store has them. `HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME` and
//! `HF_HUB_OFFLINE` are honoured; none of them is in the key, and the token is never written anywhere.

mod download;
mod http;
mod hub;
mod settings;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_cache::Digest;
use starling_contract::{
    ArtifactType, Complaint, External, Output, Ports, Stage, StageContext, StageError,
};

use self::download::{Wanted, download};
use self::http::Http;
use self::hub::Repo;
use self::settings::Settings;

/// The kind `fetch`.
pub(crate) struct Fetch;

/// What a repository of the hub holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum RepoType {
    /// A data set.
    #[default]
    Dataset,
    /// A model.
    Model,
}

impl RepoType {
    fn called(self) -> &'static str {
        match self {
            Self::Dataset => "the data set",
            Self::Model => "the model",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Dataset => "datasets",
            Self::Model => "models",
        }
    }

    /// What comes before its name in addresses.
    fn prefix(self) -> &'static str {
        match self {
            Self::Dataset => "datasets/",
            Self::Model => "",
        }
    }
}

/// What a lock holds of a repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Locked {
    /// The commit.
    revision: String,
    /// Its files, those that were asked for.
    files: Vec<LockedFile>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct LockedFile {
    /// Its path in the repository.
    path: String,
    /// Its length.
    bytes: u64,
    /// Its SHA-256, 64 hexadecimal digits.
    #[schemars(with = "String")]
    sha256: Digest,
}

/// What to fetch: one of `repo`, `url` and `path`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// A repository of the hub, `owner/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repo: Option<String>,
    /// What the repository holds.
    #[serde(default)]
    repo_type: RepoType,
    /// Branch, tag or commit.
    #[serde(default = "main")]
    revision: String,
    /// The one file of the repository to fetch; the output is this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Patterns of the files to fetch, for example `["data/*.parquet"]`; the output is a folder. All when
    /// neither `file` nor `files` is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<String>,
    /// An https address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// SHA-256 that the file at `url` or `path` must have, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// A file or folder of this machine, relative to the pipeline file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// Filled in from `starling.lock`; not to be written by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    locked: Option<Locked>,
}

fn main() -> String {
    "main".to_owned()
}

impl Params {
    fn repository<'a>(&'a self, name: &'a str) -> Repo<'a> {
        Repo {
            kind: self.repo_type,
            name,
            revision: &self.revision,
        }
    }

    fn patterns(&self) -> Vec<String> {
        match &self.file {
            // A name, not a pattern.
            Some(file) => vec![globset::escape(file)],
            None if self.files.is_empty() => vec!["**/*".to_owned()],
            None => self.files.clone(),
        }
    }
}

impl Stage for Fetch {
    const KIND: &'static str = "fetch";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "brings data in from a Hugging Face hub, an https address or a path";
    const SECRETS_MAY_LACK: bool = true;
    /// The pinned digest says what comes from an address.
    const NEUTRAL: &'static [&'static str] = &["url"];
    const LOCKS: bool = true;
    type Params = Params;

    fn ports() -> Ports {
        const {
            Ports {
                inputs: &[],
                outputs: &[Output::new(
                    "data",
                    ArtifactType::Raw,
                    "the file, or a folder of the files",
                )],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let given = [p.repo.is_some(), p.url.is_some(), p.path.is_some()];
        if given.iter().filter(|g| **g).count() != 1 {
            let message = "exactly one of `repo`, `url` and `path` says what to fetch";
            complaints.push(Complaint::new("repo", message));
        }
        let word = |part: &str| {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && part.chars().all(good) && !part.starts_with('.')
        };
        if let Some(repo) = &p.repo
            && !(repo.split('/').count() <= 2 && repo.split('/').all(word))
        {
            complaints.push(Complaint::new("repo", "is not `owner/name`"));
        }
        if p.file.is_some() && !p.files.is_empty() {
            complaints.push(Complaint::new("files", "`file` is given already"));
        }
        if p.repo.is_none() && (p.file.is_some() || !p.files.is_empty()) {
            complaints.push(Complaint::new("files", "belongs to `repo`"));
        }
        if let Err(error) = hub::patterns_of(&p.files) {
            complaints.push(Complaint::new("files", error.to_string()));
        }
        if let Some(url) = &p.url {
            let local = ["http://127.0.0.1", "http://localhost"];
            if !url.starts_with("https://") && !local.iter().any(|start| url.starts_with(start)) {
                complaints.push(Complaint::new("url", "must begin with `https://`"));
            }
            if p.sha256.is_none() {
                complaints.push(Complaint {
                    param: "sha256",
                    message: "is needed with `url`".to_owned(),
                    help: Some("what `sha256sum FILE` prints for the right file".to_owned()),
                });
            }
        }
        match &p.sha256 {
            Some(text) if text.parse::<Digest>().is_err() => complaints.push(Complaint {
                param: "sha256",
                message: "not a SHA-256 digest".to_owned(),
                help: Some("64 hexadecimal digits, as `sha256sum FILE` prints them".to_owned()),
            }),
            Some(_) if p.repo.is_some() => {
                complaints.push(Complaint::new(
                    "sha256",
                    "`starling.lock` has it for `repo`",
                ));
            }
            _ => {}
        }
        complaints
    }

    fn externals(p: &Params) -> Vec<External> {
        let external = |path: &PathBuf| External {
            param: "path",
            path: path.clone(),
            pinned: p.sha256.as_ref().and_then(|text| text.parse().ok()),
            fetch: None,
        };
        p.path.iter().map(external).collect()
    }

    fn secrets(p: &Params) -> Vec<String> {
        p.repo.iter().map(|_| "HF_TOKEN".to_owned()).collect()
    }

    fn lock_name(p: &Params) -> Option<String> {
        let repo = p.repo.as_ref()?;
        let files = match (&p.file, p.files.is_empty()) {
            (Some(file), _) => file.clone(),
            (None, true) => "**/*".to_owned(),
            (None, false) => p.files.join(" "),
        };
        Some(format!(
            "hub {}/{repo}@{} {files}",
            p.repo_type.plural(),
            p.revision
        ))
    }

    fn resolve(
        p: &Params,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<serde_json::Value, StageError> {
        let name = p.repo.as_deref().unwrap_or_default();
        let locked = p
            .repository(name)
            .resolve(&Settings::from(variable), &p.patterns())?;
        serde_json::to_value(locked).map_err(|e| StageError::failed(e.to_string()))
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "where to download from; what is downloaded is decided by digests"
        )]
        let settings = Settings::from(&|name| std::env::var_os(name));
        bring(&p, &settings, context)
    }
}

/// Brings what `p` names to the output.
fn bring(p: &Params, settings: &Settings, context: &StageContext<'_>) -> Result<(), StageError> {
    let output = context.output("data");
    if p.path.is_some() {
        return copy(context.external("path")?, &output);
    }
    let http = Http::new(settings);
    if let (Some(url), Some(sha256)) = (&p.url, &p.sha256) {
        let wanted = Wanted {
            name: url.split('?').next().unwrap_or(url),
            url,
            sha256: sha256
                .parse()
                .map_err(|_| StageError::failed("`sha256` is not a SHA-256 digest"))?,
            bytes: None,
        };
        let file = download(
            &http,
            &settings.downloads,
            &wanted,
            &mut told(context, 0, None),
        )
        .map_err(|fault| fault.into_error(wanted.name))?;
        return hand_over(&file, &output);
    }
    let (Some(name), Some(locked)) = (&p.repo, &p.locked) else {
        return Err(StageError::failed_try(
            "`starling.lock` does not say what the repository holds",
            "run `starling fetch` on the pipeline",
        ));
    };
    let repo = p.repository(name);
    let total = locked.files.iter().map(|file| file.bytes).sum();
    let mut done = 0;
    for file in &locked.files {
        let to = match &p.file {
            Some(_) => output.clone(),
            None => output.join(&file.path),
        };
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(StageError::io("create", folder))?;
        }
        if let Some(cached) = repo.in_cache(settings, &locked.revision, file) {
            copy(&cached, &to)?;
        } else {
            let called = format!("`{}` of {name}", file.path);
            let wanted = Wanted {
                name: &called,
                url: &repo.url(&settings.endpoint, &locked.revision, &file.path),
                sha256: file.sha256,
                bytes: Some(file.bytes),
            };
            let found = download(
                &http,
                &settings.downloads,
                &wanted,
                &mut told(context, done, Some(total)),
            );
            let found = found.map_err(|f| repo.refused(f, &called, http.has_token()))?;
            hand_over(&found, &to)?;
        }
        done += file.bytes;
        context.progress(done, total, "bytes", &file.path);
    }
    context.info(format!(
        "{} files of {name} at {}, {total} bytes",
        locked.files.len(),
        locked.revision
    ));
    Ok(())
}

/// Tells how far a download is, and stops it when the engine asks.
fn told<'a>(
    context: &'a StageContext<'_>,
    before: u64,
    total: Option<u64>,
) -> impl FnMut(u64) -> Result<(), StageError> + 'a {
    move |bytes| {
        let done = before + bytes;
        context.progress(done, total.unwrap_or(done), "bytes", "");
        if context.interrupted() {
            return Err(StageError::Interrupted);
        }
        Ok(())
    }
}

/// Moves a download to where the store takes it from.
fn hand_over(file: &Path, to: &Path) -> Result<(), StageError> {
    if std::fs::rename(file, to).is_ok() {
        return Ok(());
    }
    copy(file, to)?;
    std::fs::remove_file(file).map_err(StageError::io("remove", file))
}

/// Copies a file, or a folder with all below it.
fn copy(from: &Path, to: &Path) -> Result<(), StageError> {
    if !from.is_dir() {
        return std::fs::copy(from, to)
            .map(|_| ())
            .map_err(StageError::io("copy", from));
    }
    std::fs::create_dir_all(to).map_err(StageError::io("create", to))?;
    for entry in std::fs::read_dir(from).map_err(StageError::io("list", from))? {
        let entry = entry.map_err(StageError::io("list", from))?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
