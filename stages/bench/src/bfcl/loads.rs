//! JSON as Python reads it.

use std::borrow::Cow;

use starling_text::json::{self, ParseErrorKind, Value};

/// `json.loads`, where half a surrogate pair is replaced by a character that no text has.
pub(super) fn loads(text: &str) -> Option<Value> {
    match json::parse(text) {
        Ok(value) => Some(value),
        Err(error) if error.kind == ParseErrorKind::LoneSurrogate => {
            json::parse(&without_lone_surrogates(text)).ok()
        }
        Err(_) => None,
    }
}

/// Replaces escaped surrogates without a partner by U+FFFF, which Python keeps as they are.
fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    let unit = |at: usize| {
        let hex = text.get(at..at + 6)?.strip_prefix("\\u")?;
        hex.bytes().all(|b| b.is_ascii_hexdigit()).then_some(())?;
        u16::from_str_radix(hex, 16).ok()
    };
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &text.as_bytes()[at..]) {
        out.push_str(&text[at..at + found]);
        at += found;
        let taken = match (unit(at), unit(at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                out.push_str("\\uffff");
                at += 6;
                continue;
            }
            (Some(_), _) => 6,
            // Any other escape is two characters.
            _ => 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&text[at..at + taken]);
        at += taken;
    }
    out.push_str(&text[at..]);
    Cow::Owned(out)
}
