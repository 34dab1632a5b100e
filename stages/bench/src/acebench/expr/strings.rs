//! Text, bytes and f-string literals.

use std::borrow::Cow;

use super::parse::{Parsed, Parser};
use super::value::{Value, surrogate};
use super::{Expr, Reject};

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
    pub(super) fn strings(&mut self) -> Parsed<'a> {
        let start = self.pos;
        let mut text: Option<Cow<'a, str>> = None;
        let mut bytes: Option<Vec<u8>> = None;
        let mut formatted = false;
        loop {
            let (prefix, body) = self.literal()?;
            if prefix.bytes {
                let part = unescape_bytes(body, prefix.raw)?;
                bytes.get_or_insert_default().extend(part);
            } else if prefix.format {
                self.check_format(body, prefix.raw, 0)?;
                formatted = true;
            } else {
                let part = if prefix.raw {
                    lines(body)
                } else {
                    unescape(body)?
                };
                text = Some(match text {
                    Some(before) => before + part,
                    None => part,
                });
            }
            let end = self.pos;
            self.skip();
            if !self.at_literal() {
                self.pos = end;
                break;
            }
        }
        match (text, bytes) {
            (Some(_), Some(_)) => Err(Reject),
            (None, Some(_)) if formatted => Err(Reject),
            _ if formatted => Ok(Expr::Other(&self.text[start..self.pos])),
            (Some(text), None) => Ok(Expr::Const(Value::Str(text))),
            (None, Some(bytes)) => Ok(Expr::Const(Value::Bytes(bytes))),
            (None, None) => Err(Reject),
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

    /// Checks an f-string's body: doubled or paired braces, an expression in each pair.
    fn check_format(&self, body: &'a str, raw: bool, depth: u32) -> Result<(), Reject> {
        if !raw {
            unescape(body)?;
        }
        let mut rest = body;
        while let Some(at) = rest.find(['{', '}']) {
            let doubled = rest.as_bytes().get(at + 1) == rest.as_bytes().get(at);
            if doubled && depth == 0 {
                rest = &rest[at + 2..];
                continue;
            }
            if rest.as_bytes()[at] == b'}' || depth > 1 {
                return Err(Reject);
            }
            rest = self.check_field(&rest[at + 1..], raw, depth)?;
        }
        Ok(())
    }

    /// Checks one replacement field and gives what follows its closing brace.
    fn check_field(&self, text: &'a str, raw: bool, depth: u32) -> Result<&'a str, Reject> {
        let mut inner = self.inside(text);
        if inner.at_keyword("yield") {
            return Err(Reject);
        }
        inner.expression()?;
        if text[..inner.pos].contains(['\\', '#']) {
            return Err(Reject);
        }
        inner.take("=");
        if inner.take("!")
            && !["r", "s", "a"]
                .iter()
                .any(|conversion| inner.take(conversion))
        {
            return Err(Reject);
        }
        if inner.take(":") {
            let spec = &text[inner.pos..];
            let end = matching_brace(spec).ok_or(Reject)?;
            self.check_format(&spec[..end], raw, depth + 1)?;
            return Ok(&spec[end + 1..]);
        }
        inner.expect("}")?;
        Ok(&text[inner.pos..])
    }
}

/// Where the brace that closes the field ends its format specification.
fn matching_brace(spec: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (i, byte) in spec.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' if open == 0 => return Some(i),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

/// Line ends become `\n`, as everywhere in Python source.
fn lines(body: &str) -> Cow<'_, str> {
    if body.contains('\r') {
        Cow::Owned(body.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(body)
    }
}

fn unescape(body: &str) -> Result<Cow<'_, str>, Reject> {
    if !body.contains(['\\', '\r']) {
        return Ok(Cow::Borrowed(body));
    }
    let body = lines(body);
    let mut out = String::with_capacity(body.len());
    let mut rest = &*body;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(letter) = rest.chars().next() else {
            return Err(Reject);
        };
        let length = letter.len_utf8();
        rest = match letter {
            'x' => hex(&mut out, rest, 2)?,
            'u' => hex(&mut out, rest, 4)?,
            'U' => hex(&mut out, rest, 8)?,
            'N' => named(&mut out, rest)?,
            '0'..='7' => {
                let (code, rest) = octal(rest);
                push_code(&mut out, code)?;
                rest
            }
            _ => {
                match simple_escape(letter) {
                    Some(Some(c)) => out.push(c),
                    Some(None) => {}
                    None => {
                        out.push('\\');
                        out.push(letter);
                    }
                }
                &rest[length..]
            }
        };
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// One-letter escapes; an escaped line end is nothing.
fn simple_escape(letter: char) -> Option<Option<char>> {
    Some(Some(match letter {
        '\n' => return Some(None),
        '\\' | '\'' | '"' => letter,
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        _ => return None,
    }))
}

fn push_code(out: &mut String, code: u32) -> Result<(), Reject> {
    out.push(match char::from_u32(code) {
        Some(c) => c,
        None if (0xd800..0xe000).contains(&code) => surrogate(code),
        None => return Err(Reject),
    });
    Ok(())
}

/// Exactly `count` hexadecimal digits after the letter.
fn hex<'t>(out: &mut String, rest: &'t str, count: usize) -> Result<&'t str, Reject> {
    let digits = rest.get(1..=count).ok_or(Reject)?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Reject);
    }
    push_code(out, u32::from_str_radix(digits, 16).map_err(|_| Reject)?)?;
    Ok(&rest[count + 1..])
}

/// One to three octal digits.
fn octal(rest: &str) -> (u32, &str) {
    let count = rest
        .bytes()
        .take(3)
        .take_while(|byte| (b'0'..=b'7').contains(byte))
        .count();
    let code = rest[..count]
        .bytes()
        .fold(0, |code, byte| code * 8 + u32::from(byte - b'0'));
    (code, &rest[count..])
}

/// `\N{name of a character}`.
fn named<'t>(out: &mut String, rest: &'t str) -> Result<&'t str, Reject> {
    let name = rest[1..].strip_prefix('{').ok_or(Reject)?;
    let (name, rest) = name.split_once('}').ok_or(Reject)?;
    out.push(character(name).ok_or(Reject)?);
    Ok(rest)
}

/// The character of a Unicode name, which Python compares without regard to case but to every space and
/// hyphen.
fn character(name: &str) -> Option<char> {
    let c = unicode_names2::character(name)?;
    let own = unicode_names2::name(c)?;
    own.to_string().eq_ignore_ascii_case(name).then_some(c)
}

fn unescape_bytes(body: &str, raw: bool) -> Result<Vec<u8>, Reject> {
    if !body.is_ascii() {
        return Err(Reject);
    }
    let body = lines(body);
    if raw {
        return Ok(body.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(body.len());
    let mut rest = &*body;
    while let Some(at) = rest.find('\\') {
        out.extend(rest[..at].bytes());
        rest = &rest[at + 1..];
        let letter = rest.chars().next().ok_or(Reject)?;
        rest = match letter {
            'x' => {
                let mut text = String::new();
                let rest = hex(&mut text, rest, 2)?;
                out.extend(text.chars().map(|c| c as u8));
                rest
            }
            '0'..='7' => {
                let (code, rest) = octal(rest);
                out.push((code & 0xff) as u8);
                rest
            }
            _ => {
                match simple_escape(letter) {
                    Some(Some(c)) => out.push(c as u8),
                    Some(None) => {}
                    None => out.extend([b'\\', letter as u8]),
                }
                &rest[1..]
            }
        };
    }
    out.extend(rest.bytes());
    Ok(out)
}
