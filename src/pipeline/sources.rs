//! The texts behind a pipeline (its file, each `--set`, each file that it extends or includes), numbered
//! as one run of bytes.
//!
//! A span alone then tells which text it points into, and a value of a `--set` that replaced one of the
//! file keeps its own place through every later pass.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Span;

/// One text.
#[derive(Debug, Clone)]
pub struct Source {
    /// What messages call it.
    pub name: String,
    /// The text.
    pub text: Arc<str>,
    /// The number of its first byte.
    pub base: usize,
    /// The folder that relative paths in it start from.
    pub folder: PathBuf,
}

/// All texts of a pipeline, in the order of their numbers.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    list: Vec<Source>,
}

/// A place in a text, counted from one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What messages call the text.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Sources {
    /// Adds a text, whose relative paths start from `folder`; returns the number of its first byte.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        text: impl Into<Arc<str>>,
        folder: &Path,
    ) -> usize {
        // One number is left between two texts, so that the end of one is not the start of the next.
        let base = self.list.last().map_or(0, |s| s.base + s.text.len() + 1);
        self.list.push(Source {
            name: name.into(),
            text: text.into(),
            base,
            folder: folder.to_owned(),
        });
        base
    }

    /// The folder that a relative path written at `span` starts from.
    #[must_use]
    pub fn folder(&self, span: &Span) -> &Path {
        &self.find(span).0.folder
    }

    /// The text that `span` points into, and the span within it, cut to fit.
    ///
    /// # Panics
    /// When no text was added.
    #[must_use]
    pub fn find(&self, span: &Span) -> (&Source, Span) {
        let index = self.list.partition_point(|s| s.base <= span.start);
        let source = &self.list[index.saturating_sub(1)];
        let within = |n: usize| {
            let n = n.saturating_sub(source.base);
            source.text.floor_char_boundary(n)
        };
        let start = within(span.start);
        (source, start..within(span.end).max(start))
    }

    /// The place where `span` starts.
    #[must_use]
    pub fn place(&self, span: &Span) -> Place {
        let (source, within) = self.find(span);
        let before = &source.text[..within.start];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        Place {
            file: source.name.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_finds_its_text() {
        let mut sources = Sources::default();
        assert_eq!(sources.add("a.toml", "x = 1\nä = 2\n", Path::new("in")), 0);
        let base = sources.add("--set", "t.x=3", Path::new(""));
        assert_eq!(sources.place(&(0..1)).to_string(), "a.toml:1:1");
        assert_eq!(sources.place(&(11..12)).to_string(), "a.toml:2:5");
        assert_eq!(
            sources.place(&(base + 4..base + 5)).to_string(),
            "--set:1:5"
        );
        assert_eq!(sources.folder(&(3..4)), Path::new("in"));
        let (source, within) = sources.find(&(base..base + 99));
        assert_eq!((source.name.as_str(), within), ("--set", 0..5));
    }
}
