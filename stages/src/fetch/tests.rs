//! The kind against a hub that drops connections, sends wrong bytes and refuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::testing;
use hub_server::{Fault, Hub};

#[path = "../../../tests/support/hub.rs"]
#[expect(
    unreachable_pub,
    dead_code,
    reason = "shared with the tests of the command"
)]
mod hub_server;

const REPO: &str = "datasets/owner/rows";

struct Case {
    folder: tempfile::TempDir,
    hub: Hub,
    settings: Settings,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let hub = Hub::start();
        hub.put(REPO, "README.md", b"small", false);
        hub.put(REPO, "data/a b.jsonl", &large(), true);
        let mut settings = Settings::from(&|name| match name {
            "HF_ENDPOINT" => Some(hub.address.clone().into()),
            "HF_HOME" => Some(folder.path().join("hf").into()),
            "XDG_CACHE_HOME" => Some(folder.path().join("cache").into()),
            _ => None,
        });
        settings.pause = Duration::from_millis(1);
        Self {
            folder,
            hub,
            settings,
        }
    }

    fn params(&self, files: &str) -> Params {
        let text = format!("{{\"repo\": \"owner/rows\", {files}}}");
        let mut params: Params = serde_json::from_str(&text).expect("parameters");
        assert_eq!(Fetch::check(&params), []);
        params.locked = None;
        params
    }

    fn resolve(&self, params: &Params) -> Result<Locked, StageError> {
        params
            .repository("owner/rows")
            .resolve(&self.settings, &params.patterns())
    }

    /// Brings what `params` name, as the stage does.
    fn bring(&self, params: &Params) -> Result<PathBuf, StageError> {
        let out = self.folder.path().join("out");
        let data = out.join("data");
        if data.is_dir() {
            fs::remove_dir_all(&data).expect("removed");
        }
        let host = testing::TestHost {
            snapshots: self.folder.path().join("snapshots"),
            stop_after: None,
            events: Default::default(),
        };
        fs::create_dir_all(&out).expect("a folder");
        let context = StageContext::new(
            &host,
            Default::default(),
            Default::default(),
            Default::default(),
            out,
            self.folder.path().join("scratch"),
            1,
            "cpu".to_owned(),
        );
        bring(params, &self.settings, &context).map(|()| data)
    }

    fn locked(&self, files: &str) -> Params {
        let mut params = self.params(files);
        params.locked = Some(self.resolve(&params).expect("resolved"));
        params
    }

    fn paths(&self) -> Vec<String> {
        self.hub
            .requests()
            .into_iter()
            .map(|(line, _)| line)
            .collect()
    }
}

fn large() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn hint(error: &StageError) -> String {
    error.hint().unwrap_or_default().to_owned()
}

#[test]
fn a_folder_of_files_comes_with_commit_and_digests() {
    let case = Case::new();
    let params = case.locked("\"files\": [\"**/*\"]");
    let locked = params.locked.clone().expect("locked");
    assert_eq!(locked.revision, "1".repeat(40));
    let names: Vec<&str> = locked.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(names, ["README.md", "data/a b.jsonl"]);
    assert_eq!(locked.files[1].sha256, Digest::of(&large()));
    let data = case.bring(&params).expect("brought");
    assert_eq!(fs::read(data.join("README.md")).expect("there"), b"small");
    assert_eq!(
        fs::read(data.join("data/a b.jsonl")).expect("there"),
        large()
    );
    // The small file came with the lock; the large one was asked for by its commit.
    let asked = case.paths();
    assert!(
        asked
            .iter()
            .any(|a| a.contains(&format!("/resolve/{}/data/a%20b.jsonl", "1".repeat(40)))),
        "{asked:?}"
    );
    let only = case.locked("\"files\": [\"*\"]").locked.expect("locked");
    assert_eq!(only.files.len(), 1, "`*` stays within its folder");
}

#[test]
fn one_file_is_the_output() {
    let case = Case::new();
    case.hub.describe_less();
    let params = case.locked("\"file\": \"data/a b.jsonl\"");
    let asked = case.paths();
    assert!(asked[1].starts_with("HEAD "), "{asked:?}");
    let data = case.bring(&params).expect("brought");
    assert_eq!(fs::read(data).expect("a file"), large());
}

#[test]
fn a_dropped_connection_is_continued_where_it_broke() {
    let case = Case::new();
    let params = case.locked("\"file\": \"data/a b.jsonl\"");
    drop(case.paths());
    case.hub.fail(
        "/storage/",
        &[Fault::Drop(500_000), Fault::Drop(0), Fault::Drop(300_000)],
    );
    let data = case.bring(&params).expect("brought");
    assert_eq!(fs::read(data).expect("a file"), large());
    let ranges: Vec<usize> = case
        .paths()
        .iter()
        .filter(|a| a.contains("/storage/"))
        .map(|a| {
            a.split(' ')
                .nth(2)
                .map_or(0, |r| r.trim_end_matches('-').parse().expect("a number"))
        })
        .collect();
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    assert!(ranges.windows(2).all(|w| w[0] <= w[1]), "{ranges:?}");
    assert!(ranges[3] > 500_000, "{ranges:?}");
}

#[test]
fn what_was_downloaded_by_another_run_is_continued() {
    let case = Case::new();
    let params = case.locked("\"file\": \"data/a b.jsonl\"");
    fs::create_dir_all(&case.settings.downloads).expect("a folder");
    let part = case
        .settings
        .downloads
        .join(format!("{}.part", Digest::of(&large())));
    fs::write(&part, &large()[..700_001]).expect("written");
    drop(case.paths());
    let data = case.bring(&params).expect("brought");
    assert_eq!(fs::read(data).expect("a file"), large());
    assert!(case.paths().iter().any(|a| a.ends_with(" 700001-")));
    // A beginning that is not the file's own is thrown away.
    fs::write(&part, vec![7; 1_200_000]).expect("written");
    let data = case.bring(&params).expect("brought");
    assert_eq!(fs::read(data).expect("a file"), large());
}

#[test]
fn wrong_bytes_are_refused() {
    let case = Case::new();
    let params = case.locked("\"file\": \"data/a b.jsonl\"");
    case.hub.fail("/storage/", &[Fault::WrongBytes]);
    let data = case.bring(&params).expect("the second answer is right");
    assert_eq!(fs::read(data).expect("a file"), large());
    case.hub
        .fail("/storage/", &[Fault::WrongBytes, Fault::WrongBytes]);
    let error = case.bring(&params).expect_err("wrong twice");
    assert!(error.to_string().contains("its SHA-256 is"), "{error}");
    assert!(hint(&error).contains("other bytes"), "{error}");
}

#[test]
fn a_busy_server_is_waited_for_and_given_up_in_the_end() {
    let case = Case::new();
    case.hub.fail(
        "/api/",
        &[
            Fault::Status(429, "Retry-After: 0\r\n"),
            Fault::Status(500, ""),
            Fault::Status(503, ""),
        ],
    );
    let params = case.locked("\"file\": \"data/a b.jsonl\"");
    case.hub
        .fail("/datasets/", &vec![Fault::Status(500, ""); 9]);
    let error = case.bring(&params).expect_err("nine faults");
    assert!(
        error
            .to_string()
            .contains("the server answered 500, 6 times in a row"),
        "{error}"
    );
}

#[test]
fn a_server_may_say_how_long_to_wait() {
    let case = Case::new();
    case.hub
        .fail("/api/", &[Fault::Status(429, "Retry-After: 1\r\n")]);
    let start = std::time::Instant::now();
    drop(case.locked("\"file\": \"README.md\""));
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn restricted_data_say_where_to_ask() {
    let mut case = Case::new();
    case.hub.restrict("hf_right");
    let params = case.params("\"file\": \"data/a b.jsonl\"");
    let error = case.resolve(&params).expect_err("no token");
    assert!(error.to_string().contains("restricted"), "{error}");
    assert!(
        hint(&error).contains("https://huggingface.co/datasets/owner/rows"),
        "{error}"
    );
    let token =
        |text: &'static str| Settings::from(&|n| (n == "HF_TOKEN").then(|| text.into())).token;
    case.settings.token = token("hf_wrong");
    let error = case.resolve(&params).expect_err("a wrong token");
    assert!(error.to_string().contains("no access"), "{error}");
    assert!(!format!("{error:?}{}", hint(&error)).contains("hf_wrong"));
    case.settings.token = token("hf_right");
    drop(case.hub.requests());
    let params = case.locked("\"file\": \"data/a b.jsonl\"");
    case.bring(&params).expect("brought");
    assert!(case.hub.requests().iter().any(|(_, token)| *token));
}

#[test]
fn what_does_not_exist_is_said() {
    let case = Case::new();
    let mut params = case.params("\"file\": \"x\"");
    let error = case.resolve(&params).expect_err("no such file");
    assert!(error.to_string().contains("none of the 2 files"), "{error}");
    params.revision = "other".to_owned();
    let error = case.resolve(&params).expect_err("no such revision");
    assert!(
        error.to_string().contains("the revision `other`"),
        "{error}"
    );
}

#[test]
fn a_changed_remote_changes_nothing_that_is_locked() {
    let case = Case::new();
    let params = case.locked("\"file\": \"README.md\"");
    case.hub.put(REPO, "README.md", b"later", false);
    case.hub.commit('2');
    let error = case.bring(&Params {
        locked: None,
        ..case.params("\"file\": \"README.md\"")
    });
    assert!(
        error
            .expect_err("nothing is locked")
            .to_string()
            .contains("starling.lock")
    );
    let data = case.bring(&params).expect("kept since it was locked");
    assert_eq!(fs::read(data).expect("a file"), b"small");
    // Gone from here, only the changed file is left there, and it is refused.
    let error = case.bring(&params).expect_err("other bytes");
    assert!(error.to_string().contains("SHA-256"), "{error}");
    let news = case.resolve(&params).expect("resolved");
    assert_eq!(news.revision, "2".repeat(40));
}

#[test]
fn the_hubs_own_cache_is_read_and_enough_offline() {
    let mut case = Case::new();
    let commit = "3".repeat(40);
    let repo = case.folder.path().join("hf/hub/datasets--owner--rows");
    let write = |path: PathBuf, text: &[u8]| {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    };
    write(repo.join("refs/main"), commit.as_bytes());
    write(
        repo.join("snapshots").join(&commit).join("rows.jsonl"),
        b"{}\n",
    );
    case.settings.offline = true;
    let params = case.locked("\"files\": [\"*.jsonl\"]");
    assert_eq!(
        params.locked.as_ref().map(|l| l.revision.clone()),
        Some(commit)
    );
    let data = case.bring(&params).expect("brought");
    assert_eq!(fs::read(data.join("rows.jsonl")).expect("there"), b"{}\n");
    assert_eq!(case.hub.requests(), []);
    fs::remove_dir_all(&repo).expect("removed");
    let error = case.bring(&params).expect_err("nothing is there");
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    let error = case.resolve(&params).expect_err("nothing is there");
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
}

#[test]
fn an_address_is_pinned() {
    let case = Case::new();
    let url = format!(
        "{}/datasets/owner/rows/resolve/x/README.md",
        case.hub.address
    );
    let params = |sha256: Digest| -> Params {
        let text = format!("{{\"url\": \"{url}\", \"sha256\": \"{sha256}\"}}");
        serde_json::from_str(&text).expect("parameters")
    };
    let right = params(Digest::of(b"small"));
    assert_eq!(Fetch::check(&right), []);
    case.hub.fail("/datasets/", &[Fault::Drop(2)]);
    let data = case.bring(&right).expect("brought");
    assert_eq!(fs::read(data).expect("a file"), b"small");
    let error = case
        .bring(&params(Digest::of(b"other")))
        .expect_err("other bytes");
    assert!(error.to_string().contains("was expected"), "{error}");
    let unpinned: Params = serde_json::from_str("{\"url\": \"ftp://x\"}").expect("parameters");
    let complaints: Vec<&str> = Fetch::check(&unpinned).iter().map(|c| c.param).collect();
    assert_eq!(complaints, ["url", "sha256"]);
}

#[test]
fn a_hostile_hub_cannot_write_elsewhere() {
    let case = Case::new();
    case.hub.put(REPO, "../escape", b"x", false);
    let params = case.params("\"files\": [\"**/*\"]");
    let error = case.resolve(&params).expect_err("a bad name");
    assert!(error.to_string().contains("no folder can hold"), "{error}");
    assert!(!Path::new(&case.folder.path().join("escape")).exists());
}
