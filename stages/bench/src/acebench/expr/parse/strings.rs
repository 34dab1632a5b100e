//! Text and bytes literals, and how f-strings join them.

use std::borrow::Cow;

use super::super::value::Value;
use super::super::{Expr, Other, Piece, Reject};
use super::escape::{lines, unescape, unescape_bytes};
use super::{Parsed, Parser};

/// A literal's prefix, decoded.
#[derive(Clone, Copy, Default)]
struct Prefix {
    raw: bool,
    bytes: bool,
    format: bool,
}

impl Prefix {
    fn read(prefix: &str) -> Option<Self> {
        let mut letters = [0; 2];
        if prefix.len() > 2 {
            return None;
        }
        for (slot, byte) in letters.iter_mut().zip(prefix.bytes()) {
            *slot = byte.to_ascii_lowercase();
        }
        let (raw, bytes, format) = match letters {
            [0, 0] | [b'u', 0] => (false, false, false),
            [b'r', 0] => (true, false, false),
            [b'b', 0] => (false, true, false),
            [b'f', 0] => (false, false, true),
            [b'r', b'b'] | [b'b', b'r'] => (true, true, false),
            [b'r', b'f'] | [b'f', b'r'] => (true, false, true),
            _ => return None,
        };
        Some(Self { raw, bytes, format })
    }
}

impl<'a> Parser<'a> {
    /// One literal or several side by side, which join; bytes and text do not mix.
    pub(in super::super) fn strings(&mut self) -> Parsed<'a> {
        let marked = self.word() == "u";
        let mut text: Option<Cow<'a, str>> = None;
        let mut bytes: Option<Vec<u8>> = None;
        let mut pieces: Option<Vec<Piece<'a>>> = None;
        let mut height = 0;
        loop {
            let (prefix, body) = self.literal()?;
            if prefix.bytes {
                let part = unescape_bytes(body, prefix.raw)?;
                bytes.get_or_insert_default().extend(part);
            } else if prefix.format {
                let pieces = pieces.get_or_insert_default();
                pieces.extend(text.take().map(Piece::Text));
                self.height = 0;
                self.format(body, prefix.raw, pieces)?;
                height = height.max(self.height);
            } else {
                let part = if prefix.raw {
                    lines(body)
                } else {
                    unescape(body)?
                };
                match (&mut pieces, &mut text) {
                    (Some(pieces), _) => pieces.push(Piece::Text(part)),
                    (None, Some(before)) => *before += part,
                    (None, None) => text = Some(part),
                }
            }
            let end = self.pos;
            self.skip();
            if !self.at_literal() {
                self.pos = end;
                break;
            }
        }
        self.height = height;
        if let Some(pieces) = pieces {
            self.raise(0)?;
            let joined = bytes.is_none().then(|| join(pieces)).ok_or(Reject)?;
            return Ok(Expr::other(Other::Format(joined)));
        }
        match (text, bytes) {
            (Some(text), None) if marked => Ok(Expr::other(Other::Marked(text))),
            (Some(text), None) => Ok(Expr::Const(Value::Str(text))),
            (None, Some(bytes)) => Ok(Expr::Const(Value::Bytes(bytes))),
            _ => Err(Reject),
        }
    }

    fn at_literal(&mut self) -> bool {
        if !matches!(self.byte(0), Some(b'\'' | b'"' | b'A'..=b'z')) {
            return false;
        }
        let word = self.word();
        matches!(self.byte(word.len()), Some(b'\'' | b'"')) && Prefix::read(word).is_some()
    }

    /// One literal: its prefix and what stands between its quotes.
    fn literal(&mut self) -> Result<(Prefix, &'a str), Reject> {
        let word = self.word();
        let prefix = Prefix::read(word).ok_or(Reject)?;
        self.pos += word.len();
        let quote = self.byte(0).ok_or(Reject)?;
        let triple = self.byte(1) == Some(quote) && self.byte(2) == Some(quote);
        let width = if triple { 3 } else { 1 };
        self.pos += width;
        let start = self.pos;
        loop {
            match self.byte(0).ok_or(Reject)? {
                // Whatever follows a backslash does not end the literal, in raw ones either.
                b'\\' => self.pos += 1 + self.line_end(1).unwrap_or(1),
                b'\n' | b'\r' if !triple => return Err(Reject),
                byte if byte == quote => {
                    let closes =
                        !triple || (self.byte(1) == Some(quote) && self.byte(2) == Some(quote));
                    if closes {
                        let body = &self.text[start..self.pos];
                        self.pos += width;
                        return Ok((prefix, body));
                    }
                    self.pos += 1;
                }
                _ => self.pos += 1,
            }
        }
    }
}

/// Neighbouring texts become one, empty ones none.
fn join<'a>(pieces: Vec<Piece<'a>>) -> Vec<Piece<'a>> {
    let mut joined: Vec<Piece<'a>> = Vec::new();
    for piece in pieces {
        match (piece, joined.last_mut()) {
            (Piece::Text(text), _) if text.is_empty() => {}
            (Piece::Text(text), Some(Piece::Text(before))) => *before += text,
            (Piece::Text(text), _) => joined.push(Piece::Text(text)),
            (Piece::Field(mut field), _) => {
                field.spec = field.spec.map(join);
                joined.push(Piece::Field(field));
            }
        }
    }
    joined
}
