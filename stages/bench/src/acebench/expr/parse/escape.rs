//! What stands between a literal's quotes, with its escapes resolved.

use std::borrow::Cow;

use super::super::Reject;
use super::super::value::surrogate;
use super::aliases::character;

/// Line ends become `\n`, as everywhere in Python source.
pub(in super::super) fn lines(body: &str) -> Cow<'_, str> {
    if body.contains('\r') {
        Cow::Owned(body.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(body)
    }
}

pub(in super::super) fn unescape(body: &str) -> Result<Cow<'_, str>, Reject> {
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

pub(in super::super) fn unescape_bytes(body: &str, raw: bool) -> Result<Vec<u8>, Reject> {
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
