//! Whether two results of one action agree as far as their kind promises.

use std::collections::{BTreeMap, BTreeSet};

use starling_cache::{ActionRecord, CacheError, Digest, OutputRef, Store};
use starling_contract::Determinism;

/// What a comparison found.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Whether they agree as far as the kind promises.
    pub agrees: bool,
    /// Whether every byte is the same.
    pub same_bytes: bool,
    /// What was found, a line each, for people.
    pub lines: Vec<String>,
}

/// What a kind promises, in words.
#[must_use]
pub fn promise(determinism: Determinism) -> String {
    match determinism {
        Determinism::Everywhere => "the same bytes on every machine".to_owned(),
        Determinism::WithinClass { tolerance } => format!(
            "the same bytes within a numerics class, numbers within {tolerance:e} between classes"
        ),
        Determinism::None => "nothing: it depends on something outside".to_owned(),
    }
}

/// Compares two results of one action.
///
/// # Errors
/// [`CacheError`] when bytes that both results name cannot be read.
pub fn compare(
    store: &dyn Store,
    first: &ActionRecord,
    second: &ActionRecord,
    determinism: Determinism,
) -> Result<Comparison, CacheError> {
    let differing = first.differing_outputs(second);
    if differing.is_empty() {
        return Ok(Comparison {
            agrees: true,
            same_bytes: true,
            lines: vec!["every byte is the same".to_owned()],
        });
    }
    let tolerance = match determinism {
        Determinism::WithinClass { tolerance } if first.numerics != second.numerics => tolerance,
        Determinism::Everywhere | Determinism::WithinClass { .. } | Determinism::None => 0.0,
    };
    let mut agrees = true;
    let mut lines = Vec::new();
    if first.numerics != second.numerics {
        let (a, b) = (&first.numerics, &second.numerics);
        lines.push(format!("numerics classes `{a}` and `{b}`"));
    }
    for port in differing {
        let (Some(a), Some(b)) = (first.outputs.get(&port), second.outputs.get(&port)) else {
            agrees = false;
            lines.push(format!("output {port}: only one of them has it"));
            continue;
        };
        let (a, b) = (files(store, a)?, files(store, b)?);
        let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for name in names {
            let place = format!(
                "output {port}{}{name}",
                if name.is_empty() { "" } else { "/" }
            );
            match (a.get(name), b.get(name)) {
                (Some(x), Some(y)) if x == y => {}
                (Some(x), Some(y)) => {
                    let found = numbers_apart(&store.read(x)?, &store.read(y)?);
                    let (good, what) = judge(found, tolerance);
                    agrees &= good;
                    lines.push(format!("{place}: {what}"));
                }
                _ => {
                    agrees = false;
                    lines.push(format!("{place}: only one of them has it"));
                }
            }
        }
    }
    Ok(Comparison {
        agrees: agrees || determinism == Determinism::None,
        same_bytes: false,
        lines,
    })
}

fn files(store: &dyn Store, output: &OutputRef) -> Result<BTreeMap<String, Digest>, CacheError> {
    if !output.tree {
        return Ok(BTreeMap::from([(String::new(), output.digest)]));
    }
    let manifest = store.manifest(&output.digest)?;
    Ok(manifest
        .files()
        .map(|(path, digest, _)| (path.to_owned(), digest))
        .collect())
}

/// How two files differ.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Apart {
    /// Texts with the same words and numbers that differ by at most this, relative to 1 or more.
    Numbers(f64),
    /// Texts with other words.
    Words,
    /// No texts.
    Bytes,
}

fn judge(apart: Apart, tolerance: f64) -> (bool, String) {
    match apart {
        Apart::Numbers(most) if most <= tolerance => (
            true,
            format!("numbers differ by at most {most:.1e}, within {tolerance:.0e}"),
        ),
        Apart::Numbers(most) => (false, format!("numbers differ by up to {most:.1e}")),
        Apart::Words => (false, "other words".to_owned()),
        Apart::Bytes if tolerance > 0.0 => (true, "other bytes, and no text to compare".to_owned()),
        Apart::Bytes => (false, "other bytes".to_owned()),
    }
}

fn numbers_apart(a: &[u8], b: &[u8]) -> Apart {
    let (Ok(a), Ok(b)) = (std::str::from_utf8(a), std::str::from_utf8(b)) else {
        return Apart::Bytes;
    };
    let (mut a, mut b) = (pieces(a), pieces(b));
    let mut most = 0.0_f64;
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Apart::Numbers(most),
            (Some(x), Some(y)) if x == y => {}
            (Some(x), Some(y)) => {
                let (Ok(x), Ok(y)) = (x.parse::<f64>(), y.parse::<f64>()) else {
                    return Apart::Words;
                };
                let apart = (x - y).abs() / x.abs().max(y.abs()).max(1.0);
                most = most.max(if apart.is_nan() { f64::INFINITY } else { apart });
            }
            _ => return Apart::Words,
        }
    }
}

/// Numbers and what is between them.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let in_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+');
        let starts = |c: char| c.is_ascii_digit() || c == '-';
        let end = if starts(first) {
            rest.find(|c: char| !in_number(c))
        } else {
            rest.find(starts)
        };
        let (piece, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_and_words_must_agree() {
        let apart = |a: &str, b: &str| numbers_apart(a.as_bytes(), b.as_bytes());
        assert_eq!(apart("{\"a\": 1.5}", "{\"a\": 1.5}"), Apart::Numbers(0.0));
        let Apart::Numbers(most) = apart("x 100 y -2e-3", "x 101 y -3e-3") else {
            panic!("the words agree")
        };
        assert!((most - 1.0 / 101.0).abs() < 1e-9, "{most}");
        assert_eq!(apart("a 1", "b 1"), Apart::Words);
        assert_eq!(apart("1 2", "1"), Apart::Words);
        assert_eq!(numbers_apart(b"\xff", b"\xfe"), Apart::Bytes);
        assert_eq!(apart("a-b 1", "a-c 1"), Apart::Words);
    }

    #[test]
    fn tolerance_holds_between_classes_only() {
        assert!(judge(Apart::Numbers(1e-4), 1e-3).0);
        assert!(!judge(Apart::Numbers(1e-2), 1e-3).0);
        assert!(!judge(Apart::Numbers(1e-9), 0.0).0);
        assert!(!judge(Apart::Words, 1e-3).0);
    }
}
