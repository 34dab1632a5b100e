//! Call strings of the plainest kind, bound without a syntax tree: a method, names, literals.
//!
//! Nearly every call is one. Whatever is not (an escape, a positional argument that is too many, a second opening
//! bracket, a name that means nothing) is left to the evaluation of the whole text; where this reader answers, it
//! answers what that would.

use super::backend::{Parameter, default_of};
use super::py::{Dict, Py};

/// Lists and objects inside each other beyond which the evaluation decides.
const MAX_DEPTH: u32 = 20;
/// Digits that fit into 64 bits whatever they are.
const MAX_DIGITS: usize = 18;

/// The name before the only opening bracket of the text, and what stands behind it.
pub(super) fn split(call: &str) -> Option<(&str, &str)> {
    let open = memchr::memchr(b'(', call.as_bytes())?;
    let (name, rest) = (&call[..open], &call[open + 1..]);
    let is_name = name
        .bytes()
        .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
    (is_name && memchr::memchr(b'(', rest.as_bytes()).is_none()).then_some((name, rest))
}

/// Reads the arguments behind the opening bracket, a value for every parameter.
pub(super) fn bind(arguments: &str, parameters: &[Parameter]) -> Option<Vec<Py>> {
    let mut reader = Reader {
        text: arguments,
        at: 0,
    };
    let mut bound: Vec<Option<Py>> = vec![None; parameters.len()];
    let mut positional = Some(0);
    loop {
        reader.skip();
        if reader.take(b')') {
            break;
        }
        let place = match (reader.keyword(), positional) {
            (Some(name), _) => {
                positional = None;
                parameters
                    .iter()
                    .position(|parameter| parameter.name == name)?
            }
            (None, Some(place)) => {
                positional = Some(place + 1);
                place
            }
            (None, None) => return None,
        };
        let cell = bound.get_mut(place).filter(|cell| cell.is_none())?;
        *cell = Some(reader.value(0)?);
        if !reader.take(b',') {
            if !reader.take(b')') {
                return None;
            }
            break;
        }
    }
    if reader.at < arguments.len() {
        return None;
    }
    let value =
        |(value, parameter): (Option<Py>, &Parameter)| value.or_else(|| default_of(parameter));
    bound.into_iter().zip(parameters).map(value).collect()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self) {
        while self.byte() == Some(b' ') {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.byte() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// `name=`, when that comes next.
    fn keyword(&mut self) -> Option<&'a str> {
        let rest = &self.text.as_bytes()[self.at..];
        let is_part = |byte: &u8| *byte == b'_' || byte.is_ascii_alphanumeric();
        let length = rest.iter().take_while(|byte| is_part(byte)).count();
        let gap = rest[length..]
            .iter()
            .take_while(|byte| **byte == b' ')
            .count();
        let sign = length + gap;
        let assigns = rest.get(sign) == Some(&b'=') && rest.get(sign + 1) != Some(&b'=');
        if length == 0 || !assigns {
            return None;
        }
        let name = &self.text[self.at..self.at + length];
        self.at += sign + 1;
        self.skip();
        Some(name)
    }

    /// A literal that a comma, a colon or a closing bracket follows.
    fn value(&mut self, depth: u32) -> Option<Py> {
        let value = match self.byte()? {
            b'\'' | b'"' => Py::from(self.string()?.to_owned()),
            b'0'..=b'9' | b'-' => self.number()?,
            b'[' => self.list(depth)?,
            b'{' => self.dict(depth)?,
            b'T' => self.constant("True", Py::Bool(true))?,
            b'F' => self.constant("False", Py::Bool(false))?,
            b'N' => self.constant("None", Py::None)?,
            _ => return None,
        };
        self.skip();
        matches!(self.byte()?, b',' | b')' | b']' | b'}' | b':').then_some(value)
    }

    fn constant(&mut self, word: &str, value: Py) -> Option<Py> {
        self.text[self.at..].starts_with(word).then_some(())?;
        self.at += word.len();
        Some(value)
    }

    /// A text without escapes and control characters. Two texts side by side fail at what must follow a value.
    fn string(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let rest = bytes.get(start..)?;
        let length = memchr::memchr2(bytes[self.at], b'\\', rest)?;
        let plain = rest[length] != b'\\' && rest[..length].iter().all(|byte| *byte >= b' ');
        plain.then_some(())?;
        self.at = start + length + 1;
        Some(&self.text[start..start + length])
    }

    fn number(&mut self) -> Option<Py> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        self.take(b'-');
        let digits = |from: usize| {
            let tail = bytes.get(from..).unwrap_or_default();
            tail.iter().take_while(|byte| byte.is_ascii_digit()).count()
        };
        let from = self.at;
        let whole = digits(from);
        // A leading zero is an error, but alone.
        if whole == 0 || whole > MAX_DIGITS || (whole > 1 && bytes[from] == b'0') {
            return None;
        }
        self.at += whole;
        if self.byte() != Some(b'.') {
            return Some(Py::Int(self.text[start..self.at].parse().ok()?));
        }
        let fraction = digits(self.at + 1);
        if fraction == 0 {
            return None;
        }
        self.at += 1 + fraction;
        Some(Py::Float(self.text[start..self.at].parse().ok()?))
    }

    fn list(&mut self, depth: u32) -> Option<Py> {
        (depth < MAX_DEPTH).then_some(())?;
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip();
            if self.take(b']') {
                return Some(items.into());
            }
            items.push(self.value(depth + 1)?);
            if !self.take(b',') {
                return self.take(b']').then(|| items.into());
            }
        }
    }

    fn dict(&mut self, depth: u32) -> Option<Py> {
        (depth < MAX_DEPTH).then_some(())?;
        self.at += 1;
        let mut dict = Dict::default();
        loop {
            self.skip();
            if self.take(b'}') {
                return Some(dict.into());
            }
            matches!(self.byte()?, b'\'' | b'"').then_some(())?;
            let key = Py::from(self.string()?.to_owned());
            self.skip();
            self.take(b':').then_some(())?;
            self.skip();
            dict.insert(key, self.value(depth + 1)?).ok()?;
            if !self.take(b',') {
                return self.take(b'}').then(|| dict.into());
            }
        }
    }
}
