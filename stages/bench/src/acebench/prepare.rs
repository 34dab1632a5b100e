//! What happens to an output before it is parsed.

use std::borrow::Cow;

use super::{Category, Profile};

/// A text that is parsed as a call list.
pub(super) struct Prepared<'a> {
    pub(super) text: Cow<'a, str>,
    /// It has no line end.
    pub(super) one_line: bool,
}

/// The text that is parsed; `None` when there is nothing to parse.
pub(super) fn prepare(profile: Profile, category: Category, output: &str) -> Option<Prepared<'_>> {
    if profile == Profile::R2510 && !category.is_multi_turn() {
        let text = first_bracketed(output)?;
        return Some(Prepared {
            text: Cow::Borrowed(text),
            one_line: memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_none(),
        });
    }
    Some(Prepared {
        text: without_space(output),
        one_line: true,
    })
}

/// Deletes every character that Python counts as white space, inside texts too.
pub(super) fn without_space(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    if text.is_ascii() {
        return Cow::Owned(without_ascii_space(bytes));
    }
    if !bytes.iter().fold(false, |any, &byte| any | is_rare(byte)) {
        return Cow::Owned(without_common_space(text));
    }
    let mut out = String::with_capacity(text.len());
    // What is kept is copied in runs; `kept` is where the present run began.
    let (mut kept, mut at) = (0, 0);
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

/// The same for ASCII, which has a blank every few bytes: eight bytes are looked at at once, and written as often as
/// there are blanks among them, each time over the last one.
fn without_ascii_space(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len() + 8);
    out.extend(bytes);
    out.extend([0; 8]);
    let mut length = 0;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        let mut eight = u64::from_le_bytes(*chunk);
        let low = low(eight);
        let mut blanks = if low == 0 { 0 } else { blanks(eight) };
        if blanks != low {
            delete_space(&mut out, &mut length, chunk);
            continue;
        }
        let mut left = 8;
        while blanks != 0 {
            out[length..length + 8].copy_from_slice(&eight.to_le_bytes());
            let before = blanks.trailing_zeros() & !7;
            length += before as usize / 8;
            left -= before as usize / 8 + 1;
            eight = (eight >> before) >> 8;
            blanks = (blanks >> before) >> 8;
        }
        out[length..length + 8].copy_from_slice(&eight.to_le_bytes());
        length += left;
    }
    delete_space(&mut out, &mut length, rest);
    out.truncate(length);
    // ASCII stays text.
    String::from_utf8(out).unwrap_or_default()
}

/// Byte by byte: every one is written, and space is written over.
fn delete_space(out: &mut [u8], length: &mut usize, bytes: &[u8]) {
    for &byte in bytes {
        out[*length] = byte;
        *length += usize::from(!MAYBE_SPACE[usize::from(byte)]);
    }
}

/// The high bit of each of eight bytes.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bits of those of eight ASCII bytes that are blanks or control characters: taking 0x21 borrows them.
fn low(eight: u64) -> u64 {
    !((eight | HIGH) - 0x2121_2121_2121_2121) & HIGH
}

/// The high bits of those of eight ASCII bytes that are blanks.
fn blanks(eight: u64) -> u64 {
    !(((eight ^ 0x2020_2020_2020_2020) | HIGH) - 0x0101_0101_0101_0101) & HIGH
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
        for plain in ["", "a", "abcdefg", "abcdefgh", "[f(a='b')]\0\u{1}xyz\u{7f}"] {
            assert_eq!(without_space(plain), plain);
        }
        for at in 0..20 {
            for space in [" ", "  ", "\n", " \t ", "\u{1f}\u{1b}", "          "] {
                let text = format!("{}{space}0123456789abcdefghijklmno p", "x".repeat(at));
                let plain: String = text
                    .chars()
                    .filter(|c| !" \n\t\u{1f}".contains(*c))
                    .collect();
                assert_eq!(without_space(&text), plain);
            }
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
