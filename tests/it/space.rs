//! A folder of its own for each test, and the command run in it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder with the command at hand.
pub(crate) struct Space {
    folder: tempfile::TempDir,
}

/// What the command said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Space {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, making its folders.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("in the folder")).expect("folders");
        fs::write(path, text).expect("written");
    }

    /// Runs the command with arguments divided by spaces, in the folder.
    pub(crate) fn starling(&self, arguments: &str) -> Said {
        self.starling_with(&[], arguments)
    }

    /// The same with these variables in the environment.
    pub(crate) fn starling_with(&self, variables: &[(String, String)], arguments: &str) -> Said {
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new(env!("CARGO_BIN_EXE_starling"))
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .env_remove("NO_COLOR")
            .envs(variables.iter().cloned())
            .output()
            .expect("the command starts");
        Said {
            code: status.code().expect("not killed"),
            stdout: String::from_utf8(stdout).expect("text"),
            stderr: String::from_utf8(stderr).expect("text"),
        }
    }
}

impl Said {
    /// Both streams, for a look at a failure.
    pub(crate) fn all(&self) -> String {
        format!("exit {}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}
