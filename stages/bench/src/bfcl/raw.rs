//! Parts of JSON texts, found without building values: scoring needs a fraction of what the data hold.
//!
//! The walk trusts that brackets and quotes pair up, and answers nothing where they do not; whether a part is JSON
//! is told when it is parsed.

use std::ops::{Deref, Range};
use std::sync::Arc;

/// A part of a file's text, which it keeps alive.
#[derive(Debug, Clone)]
pub(super) struct Text {
    file: Arc<str>,
    part: Range<usize>,
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.file[self.part.clone()]
    }
}

/// The lines of a file that are not empty, with their numbers counted from 1.
pub(super) fn lines(file: &Arc<str>) -> Vec<(usize, Text)> {
    let mut lines = Vec::new();
    let mut start = 0;
    for (index, line) in file.split('\n').enumerate() {
        let part = start..start + line.len();
        start = part.end + 1;
        if !line.trim().is_empty() {
            let file = Arc::clone(file);
            lines.push((index + 1, Text { file, part }));
        }
    }
    lines
}

/// The text of a member's value in the object that `text` is; of a repeated name the last one counts.
pub(super) fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    members(text).filter(|(found, _)| *found == name).last()?.1
}

/// The first member of this name, which is faster where the object is known to have it once.
pub(super) fn first_member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    members(text).find(|(found, _)| *found == name)?.1
}

/// Names, as they are written, and values of the object that `text` is. Broken text ends the walk with no value.
fn members(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut walk = Walk::new(text, b'{');
    std::iter::from_fn(move || {
        let name = walk.next()?;
        let name = name.strip_prefix('"')?.strip_suffix('"')?;
        walk.colon()?;
        let value = walk.value();
        walk.comma();
        Some((name, value))
    })
}

/// The elements of the list that `text` is.
pub(super) fn elements(text: &str) -> impl Iterator<Item = &str> {
    let mut walk = Walk::new(text, b'[');
    std::iter::from_fn(move || {
        let element = walk.next()?;
        walk.comma();
        Some(element)
    })
}

struct Walk<'a> {
    text: &'a str,
    at: usize,
    more: bool,
}

impl<'a> Walk<'a> {
    fn new(text: &'a str, open: u8) -> Self {
        let mut walk = Self {
            text,
            at: 0,
            more: false,
        };
        walk.skip_space();
        if walk.byte() == Some(open) {
            walk.at += 1;
            walk.more = true;
        }
        walk
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
    }

    /// The next value, unless the list or object ends here.
    fn next(&mut self) -> Option<&'a str> {
        if !self.more {
            return None;
        }
        self.skip_space();
        self.value()
    }

    fn colon(&mut self) -> Option<()> {
        self.skip_space();
        (self.byte() == Some(b':')).then_some(())?;
        self.at += 1;
        self.skip_space();
        Some(())
    }

    /// Whether a comma follows, behind which there is more.
    fn comma(&mut self) {
        self.skip_space();
        self.more = self.byte() == Some(b',');
        self.at += 1;
    }

    fn value(&mut self) -> Option<&'a str> {
        let start = self.at;
        let end = value_end(self.text.as_bytes(), start)?;
        self.at = end;
        self.text.get(start..end)
    }
}

/// Where the value that starts at `at` ends.
fn value_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string_end(bytes, at),
        b'{' | b'[' => {
            let mut depth = 0_usize;
            loop {
                match bytes.get(at)? {
                    b'"' => {
                        at = string_end(bytes, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        b',' | b':' | b'}' | b']' => None,
        _ => {
            let ends =
                |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
            Some(
                at + bytes[at..]
                    .iter()
                    .position(ends)
                    .unwrap_or(bytes.len() - at),
            )
        }
    }
}

/// Where the string whose opening quote is at `at` ends.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_as_they_are_written() {
        let text = r#" {"a": [1, {"b": "}]\"\\"}], "c" : -1.5e3 , "d":"x","e":{},"a": null}"#;
        let found: Vec<_> = members(text).collect();
        let expected = [
            ("a", Some(r#"[1, {"b": "}]\"\\"}]"#)),
            ("c", Some("-1.5e3")),
            ("d", Some("\"x\"")),
            ("e", Some("{}")),
            ("a", Some("null")),
        ];
        assert_eq!(found, expected);
        assert_eq!(member(text, "a"), Some("null"));
        assert_eq!(member(text, "z"), None);
        assert_eq!(
            elements("[1,\"a,b\" , [2, 3],{}]").collect::<Vec<_>>(),
            ["1", "\"a,b\"", "[2, 3]", "{}"]
        );
        assert_eq!(
            elements("[]").count() + elements("").count() + elements("{}").count(),
            0
        );
    }

    #[test]
    fn broken_text_ends_the_walk() {
        for text in [
            "{",
            "{\"a",
            "{\"a\"",
            "{\"a\":",
            "{\"a\": [",
            "{\"a\": \"\\",
            "[",
            "[1",
            "[\"",
            "[[]",
            "{]",
            "[}",
            "{,}",
            "[,]",
            "{1:2}",
        ] {
            let _counted = members(text).count() + elements(text).count();
            assert_eq!(member(text, "b"), None, "{text}");
        }
    }

    #[test]
    fn lines_keep_their_numbers() {
        let file: Arc<str> = "a\n\n b\r\nc".into();
        let lines = lines(&file);
        let lines: Vec<_> = lines
            .iter()
            .map(|(number, line)| (*number, &**line))
            .collect();
        assert_eq!(lines, [(1, "a"), (3, " b\r"), (4, "c")]);
    }
}
