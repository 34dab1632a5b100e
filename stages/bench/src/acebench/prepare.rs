//! What happens to an output before it is parsed.

use std::borrow::Cow;

use super::{Category, Profile};

/// The text that is parsed as a call list; `None` when there is nothing to parse.
pub(super) fn prepare(profile: Profile, category: Category, output: &str) -> Option<Cow<'_, str>> {
    if profile == Profile::R2510 && !category.is_multi_turn() {
        return first_bracketed(output).map(Cow::Borrowed);
    }
    Some(without_space(output))
}

/// Deletes every character that Python counts as white space, inside texts too.
pub(super) fn without_space(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let Some(first) = bytes
        .iter()
        .position(|&byte| MAYBE_SPACE[usize::from(byte)])
    else {
        return Cow::Borrowed(text);
    };
    if text.is_ascii() {
        return Cow::Owned(without_ascii_space(bytes, first));
    }
    if !bytes.iter().fold(false, |any, &byte| any | is_rare(byte)) {
        return Cow::Owned(without_common_space(text));
    }
    let mut out = String::with_capacity(text.len());
    // What is kept is copied in runs; `kept` is where the present run began.
    let (mut kept, mut at) = (0, first);
    while let Some(&byte) = bytes.get(at) {
        if !MAYBE_SPACE[usize::from(byte)] {
            at += 1;
            continue;
        }
        let c = text[at..].chars().next().unwrap_or(' ');
        if starling_text::python::is_space(c) {
            out.push_str(&text[kept..at]);
            kept = at + c.len_utf8();
        }
        at += c.len_utf8();
    }
    out.push_str(&text[kept..]);
    Cow::Owned(out)
}

/// The same for ASCII, which has space every few bytes: every byte is written, and space is written over.
fn without_ascii_space(bytes: &[u8], first: usize) -> String {
    let mut out = bytes.to_vec();
    let mut length = first;
    for &byte in &bytes[first..] {
        out[length] = byte;
        length += usize::from(!MAYBE_SPACE[usize::from(byte)]);
    }
    out.truncate(length);
    // ASCII stays text.
    String::from_utf8(out).unwrap_or_default()
}

/// First bytes of white space other than blanks, line ends and U+3000; written so that many are looked at at once.
fn is_rare(byte: u8) -> bool {
    (byte.wrapping_sub(0x09) < 5) & (byte != b'\n')
        | (byte.wrapping_sub(0x1c) < 4)
        | (byte == 0xc2)
        | (byte.wrapping_sub(0xe1) < 2)
}

/// A text whose white space is blanks, line ends and U+3000.
fn without_common_space(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut kept = 0;
    for at in memchr::memchr3_iter(b' ', b'\n', 0xe3, text.as_bytes()) {
        let width = match text.as_bytes()[at] {
            0xe3 if !text[at..].starts_with('\u{3000}') => continue,
            0xe3 => 3,
            _ => 1,
        };
        out.push_str(&text[kept..at]);
        kept = at + width;
    }
    out.push_str(&text[kept..]);
    out
}

/// First bytes of the white space characters (and of others beside them).
const MAYBE_SPACE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte, 0x09..=0x0d | 0x1c..=0x20 | 0xc2 | 0xe1 | 0xe2 | 0xe3);
        byte += 1;
    }
    table
};

/// The first outermost `[...]`, counted without regard to quotes. A `]` too many before it makes the
/// count negative, and then no `[` is outermost until the count has come back to zero.
pub(super) fn first_bracketed(text: &str) -> Option<&str> {
    let mut open = 0_i64;
    let mut start = None;
    for at in memchr::memchr2_iter(b'[', b']', text.as_bytes()) {
        if text.as_bytes()[at] == b'[' {
            if open == 0 {
                start = Some(at);
            }
            open += 1;
        } else {
            open -= 1;
            if let Some(start) = start.filter(|_| open == 0) {
                return Some(&text[start..=at]);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_pythons() {
        let deleted = "\t\n\u{b}\u{c}\r\u{1c}\u{1d}\u{1e}\u{1f} \u{85}\u{a0}\u{1680}\u{2000}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";
        assert_eq!(without_space(&format!("a{deleted}b")), "ab");
        for common in [
            "中 文\n、\u{3000}。\u{3000}",
            "中\u{3001} \u{3000} ",
            "\u{3000}",
        ] {
            let plain: String = common
                .chars()
                .filter(|c| !" \n\u{3000}".contains(*c))
                .collect();
            assert_eq!(without_space(common), plain);
        }
        let kept = "\u{200b}\u{feff}\u{180e}é中";
        assert_eq!(without_space(kept), kept);
    }

    #[test]
    fn brackets_are_counted_blindly() {
        assert_eq!(first_bracketed("x [a[b]c] [d]"), Some("[a[b]c]"));
        assert_eq!(first_bracketed("x ] [a]"), None);
        assert_eq!(first_bracketed("] [ [a]"), Some("[a]"));
        assert_eq!(first_bracketed("[a"), None);
    }
}
