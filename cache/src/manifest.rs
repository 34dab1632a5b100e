//! Manifests: a folder as a list of its files.
//!
//! A tree's digest is the digest of its manifest, a blob of this form, so the rules are fixed:
//!
//! ```text
//! starling tree 1
//! d logs
//! f 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 4 model/weights.bin
//! ```
//!
//! A line is a file (digest, size in bytes, path) or an empty folder (path). Paths are relative, with `/` between
//! names; `\` is written `\\` and a line feed `\n`. Lines are in the order of the paths' bytes. Folders that hold
//! something need no line. Permissions, times and owners are not content.

use std::str::FromStr;

use crate::{Digest, OutputRef};

const HEADER: &str = "starling tree 1";

/// An entry of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Path relative to the tree, with `/` between names.
    pub path: String,
    /// What is there.
    pub node: TreeNode,
}

/// What is at a path of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeNode {
    /// A file.
    File {
        /// Digest of its bytes.
        digest: Digest,
        /// Its size.
        bytes: u64,
    },
    /// A folder with nothing in it.
    EmptyFolder,
}

/// The files of a tree in order of their paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    entries: Vec<TreeEntry>,
}

/// A text that is no manifest: the line that is wrong, from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not of a tree manifest")]
pub struct ParseManifestError(pub usize);

impl Manifest {
    /// Puts entries in order.
    #[must_use]
    pub fn new(mut entries: Vec<TreeEntry>) -> Self {
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Self { entries }
    }

    /// The entries in order of their paths.
    #[must_use]
    pub fn entries(&self) -> &[TreeEntry] {
        &self.entries
    }

    /// The files: path, digest, size.
    pub fn files(&self) -> impl Iterator<Item = (&str, Digest, u64)> {
        self.entries.iter().filter_map(|entry| match entry.node {
            TreeNode::File { digest, bytes } => Some((entry.path.as_str(), digest, bytes)),
            TreeNode::EmptyFolder => None,
        })
    }

    /// The manifest's text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for TreeEntry { path, node } in &self.entries {
            match node {
                TreeNode::File { digest, bytes } => text.push_str(&format!("f {digest} {bytes} ")),
                TreeNode::EmptyFolder => text.push_str("d "),
            }
            for character in path.chars() {
                match character {
                    '\\' => text.push_str("\\\\"),
                    '\n' => text.push_str("\\n"),
                    other => text.push(other),
                }
            }
            text.push('\n');
        }
        text
    }

    /// How the tree is named.
    #[must_use]
    pub fn output_ref(&self) -> OutputRef {
        OutputRef {
            digest: Digest::of(self.encode().as_bytes()),
            tree: true,
            bytes: self.files().map(|(_, _, bytes)| bytes).sum(),
        }
    }
}

impl FromStr for Manifest {
    type Err = ParseManifestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let body = text
            .strip_prefix(HEADER)
            .and_then(|rest| rest.strip_prefix('\n'))
            .ok_or(ParseManifestError(1))?;
        let mut entries: Vec<TreeEntry> = Vec::new();
        for (index, line) in body.split_terminator('\n').enumerate() {
            let wrong = ParseManifestError(index + 2);
            let entry = parse_line(line).ok_or_else(|| wrong.clone())?;
            if entries.last().is_some_and(|last| last.path >= entry.path) {
                return Err(wrong);
            }
            entries.push(entry);
        }
        if body.is_empty() || body.ends_with('\n') {
            Ok(Self { entries })
        } else {
            Err(ParseManifestError(entries.len() + 1))
        }
    }
}

fn parse_line(line: &str) -> Option<TreeEntry> {
    let (node, path) = if let Some(rest) = line.strip_prefix("f ") {
        let (digest, rest) = rest.split_once(' ')?;
        let (bytes, path) = rest.split_once(' ')?;
        let node = TreeNode::File {
            digest: digest.parse().ok()?,
            bytes: bytes.parse().ok()?,
        };
        (node, path)
    } else {
        (TreeNode::EmptyFolder, line.strip_prefix("d ")?)
    };
    let path = unescape(path)?;
    is_inside(&path).then_some(TreeEntry { path, node })
}

fn unescape(text: &str) -> Option<String> {
    let mut path = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        path.push(match character {
            '\\' => match characters.next()? {
                '\\' => '\\',
                'n' => '\n',
                _ => return None,
            },
            other => other,
        });
    }
    Some(path)
}

/// Whether a path stays inside its tree: a manifest from elsewhere must not write over other files.
fn is_inside(path: &str) -> bool {
    path.split('/')
        .all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, content: &str) -> TreeEntry {
        let node = TreeNode::File {
            digest: Digest::of(content.as_bytes()),
            bytes: content.len() as u64,
        };
        TreeEntry {
            path: path.into(),
            node,
        }
    }

    /// The literal was made by `sha256sum` of the text in the module's header.
    #[test]
    fn a_literal_digest_is_pinned() {
        let logs = TreeEntry {
            path: "logs".into(),
            node: TreeNode::EmptyFolder,
        };
        let manifest = Manifest::new(vec![file("model/weights.bin", "test"), logs]);
        assert_eq!(
            manifest.encode(),
            "starling tree 1\nd logs\nf \
             9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 4 model/weights.bin\n"
        );
        assert_eq!(manifest.output_ref().digest.to_string(), PINNED);
        assert_eq!(manifest.output_ref().bytes, 4);
    }
    const PINNED: &str = "4cf705cb94831e9517f62eb4aa208c2b0e25d0caf2dc6e19aa55eb772f976f69";

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for path in [
            "",
            "/etc/passwd",
            "..",
            "a/../../b",
            "a//b",
            "./a",
            "a/",
            "a\\x",
            "a\\",
        ] {
            assert!(
                format!("{HEADER}\nd {path}\n").parse::<Manifest>().is_err(),
                "{path}"
            );
        }
    }

    #[test]
    fn disorder_and_cuts_are_refused() {
        let manifest = Manifest::new(vec![file("a", "1"), file("b", "22")]);
        let text = manifest.encode();
        assert_eq!(text.parse(), Ok(manifest));
        for end in 0..text.len() {
            let whole_lines = text[..end].ends_with('\n');
            assert!(
                whole_lines || text[..end].parse::<Manifest>().is_err(),
                "{end}"
            );
        }
        let twice = text.clone() + text.lines().last().unwrap() + "\n";
        assert_eq!(twice.parse::<Manifest>(), Err(ParseManifestError(4)));
    }

    proptest! {
        #[test]
        fn text_goes_both_ways(names in prop::collection::btree_set("[a\\\\\n ü]{1,4}(/[b\n]{1,2})?", 0..6)) {
            let entries = names.iter().map(|name| file(name, name)).collect();
            let manifest = Manifest::new(entries);
            prop_assert_eq!(manifest.encode().parse(), Ok(manifest));
        }

        #[test]
        fn any_text_is_only_an_error(text in "(starling tree 1\n)?([fd] ?)*\\PC{0,100}\n?") {
            let _parsed = text.parse::<Manifest>();
        }
    }
}
