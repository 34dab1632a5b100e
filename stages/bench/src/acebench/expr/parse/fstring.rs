//! The inside of f-strings, by the rules of Python 3.11: an expression holds no backslash and no comment, and ends
//! where a `!`, `:`, `=` or `}` outside of its brackets and texts says so.

use std::borrow::Cow;

use super::super::{Field, Piece, Reject, Shape};
use super::escape::{lines, unescape};
use super::{Parsed, Parser};

/// Brackets inside each other in one field.
const MAX_BRACKETS: usize = 200;
/// Fields inside the specifications of fields.
const MAX_DEPTH: u32 = 2;

/// What ended a run of literal text.
enum Stop {
    /// A doubled brace, of which the first belongs to the text.
    Doubled,
    Field,
    End,
}

impl<'a> Parser<'a> {
    /// Reads a whole f-string body; the tree's height is raised to that of its fields.
    pub(in super::super) fn format(
        &mut self,
        body: &'a str,
        raw: bool,
        pieces: &mut Vec<Piece<'a>>,
    ) -> Result<(), Reject> {
        match self.pieces(body, raw, 0, pieces)? {
            "" => Ok(()),
            _ => Err(Reject),
        }
    }

    /// Reads text and fields up to the end, or inside a specification up to its brace; gives what is left.
    fn pieces(
        &mut self,
        mut rest: &'a str,
        raw: bool,
        depth: u32,
        pieces: &mut Vec<Piece<'a>>,
    ) -> Result<&'a str, Reject> {
        loop {
            let (length, stop) = literal(rest, raw, depth)?;
            pieces.push(Piece::Text(decoded(&rest[..length], raw)?));
            rest = &rest[length..];
            match stop {
                Stop::Doubled => rest = &rest[1..],
                Stop::Field => rest = self.field(&rest[1..], raw, depth, pieces)?,
                Stop::End => return Ok(rest),
            }
        }
    }

    /// Reads one field after its opening brace, and gives what follows its closing one.
    fn field(
        &mut self,
        text: &'a str,
        raw: bool,
        depth: u32,
        pieces: &mut Vec<Piece<'a>>,
    ) -> Result<&'a str, Reject> {
        if depth >= MAX_DEPTH {
            return Err(Reject);
        }
        let end = expression_end(text)?;
        let value = self.field_value(&text[..end])?;
        let mut rest = &text[end..];
        let mut conversion = None;
        let mut spelt_out = false;
        if let Some(after) = rest.strip_prefix('=') {
            spelt_out = true;
            rest = after.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
            let written = &text[..text.len() - rest.len()];
            pieces.push(Piece::Text(lines(written)));
        }
        if let Some(after) = rest.strip_prefix('!') {
            let letter = after.chars().next().filter(|c| "sra".contains(*c));
            conversion = Some(letter.ok_or(Reject)?);
            rest = &after[1..];
        }
        let mut spec = None;
        if let Some(after) = rest.strip_prefix(':') {
            rest = self.pieces(after, raw, depth + 1, spec.insert(Vec::new()))?;
        }
        if spelt_out && spec.is_none() {
            conversion = conversion.or(Some('r'));
        }
        pieces.push(Piece::Field(Field {
            value,
            conversion,
            spec,
        }));
        rest.strip_prefix('}').ok_or(Reject)
    }

    /// A field's expression, which Python reads as if in parentheses.
    fn field_value(&mut self, text: &'a str) -> Parsed<'a> {
        let mut inner = self.inside(text);
        inner.skip();
        if inner.pos == text.len() {
            return Err(Reject);
        }
        let value = if inner.at_keyword("yield") {
            inner.yielded()?
        } else {
            let (items, comma) = inner.items(b')')?;
            if inner.at_comprehension() {
                let element = super::atom::lone(items, comma)?;
                inner.comprehension(Shape::Generator, element, None)?
            } else {
                inner.group(items, comma)?
            }
        };
        inner.skip();
        if inner.pos < text.len() {
            return Err(Reject);
        }
        self.height = self.height.max(inner.height);
        Ok(value)
    }
}

/// The length of the literal text that comes first, and what ends it.
fn literal(text: &str, raw: bool, depth: u32) -> Result<(usize, Stop), Reject> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' if !raw => {
                at += 1;
                // The braces of `\N{name}` are no field's; those after any other backslash may be.
                if bytes[at..].starts_with(b"N{") {
                    let name = text[at..].find('}').map_or(text.len(), |end| at + end + 1);
                    at = name;
                } else if !matches!(bytes.get(at), Some(b'{' | b'}') | None) {
                    at += 1;
                }
            }
            b'{' | b'}' if depth == 0 && bytes.get(at + 1) == Some(&byte) => {
                return Ok((at + 1, Stop::Doubled));
            }
            b'{' => return Ok((at, Stop::Field)),
            b'}' if depth > 0 => return Ok((at, Stop::End)),
            b'}' => return Err(Reject),
            _ => at += 1,
        }
    }
    // Inside a specification, the field looks for its brace and finds none.
    Ok((at, Stop::End))
}

fn decoded(text: &str, raw: bool) -> Result<Cow<'_, str>, Reject> {
    if raw {
        return Ok(lines(text));
    }
    let backslashes = text.len() - text.trim_end_matches('\\').len();
    match text.strip_suffix('\\') {
        // The brace after it begins a field, so it escapes nothing.
        Some(before) if backslashes % 2 == 1 => Ok(unescape(before)? + "\\"),
        _ => unescape(text),
    }
}

/// Where a field's expression ends.
fn expression_end(text: &str) -> Result<usize, Reject> {
    let bytes = text.as_bytes();
    let mut open: Vec<u8> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let doubled = bytes.get(at + 1) == Some(&b'=');
        match byte {
            b'\\' | b'#' => return Err(Reject),
            b'\'' | b'"' => {
                at = text_end(text, at)?;
                continue;
            }
            b'(' | b'[' | b'{' => {
                if open.len() >= MAX_BRACKETS {
                    return Err(Reject);
                }
                open.push(byte);
            }
            b'!' | b'=' | b'<' | b'>' if open.is_empty() && doubled => at += 1,
            b'!' | b'=' | b':' | b'}' if open.is_empty() => return Ok(at),
            b')' | b']' | b'}' => {
                let pair = [open.pop().ok_or(Reject)?, byte];
                if !matches!(&pair, b"()" | b"[]" | b"{}") {
                    return Err(Reject);
                }
            }
            _ => {}
        }
        at += 1;
    }
    Err(Reject)
}

/// Where the text that opens at `start` ends.
fn text_end(text: &str, start: usize) -> Result<usize, Reject> {
    let quote = &text[start..=start];
    let triple = quote.repeat(3);
    let quote = match text[start..].starts_with(&triple) {
        true => &triple,
        false => quote,
    };
    let inside = &text[start + quote.len()..];
    let length = inside.find(quote).ok_or(Reject)?;
    if inside[..length].contains('\\') {
        return Err(Reject);
    }
    Ok(start + 2 * quote.len() + length)
}
