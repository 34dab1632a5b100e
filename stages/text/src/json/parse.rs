//! `json.loads`: a recursive-descent reader with Python's exact idea of what is well formed.

use std::borrow::Cow;

use num_bigint::BigInt;
use thiserror::Error;

use super::{Map, Value};

/// Deepest nesting of lists and objects that is read; Python gives up at about the same depth.
pub const MAX_DEPTH: usize = 990;

/// Most digits an integer may have: the default of CPython's `sys.get_int_max_str_digits`.
///
/// It also bounds the time that reading and printing an integer can take.
pub const MAX_DIGITS: usize = 4300;

/// Why a text is not JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{kind} at byte {offset}")]
pub struct ParseError {
    /// Byte offset into the text at which reading stopped.
    pub offset: usize,
    /// What was wrong there.
    pub kind: ParseErrorKind,
}

/// The ways in which a text fails to be JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParseErrorKind {
    /// No value starts here.
    #[error("expected a value")]
    ExpectedValue,
    /// A list element is followed by neither `,` nor `]`, or a member by neither `,` nor `}`.
    #[error("expected `,` or the closing bracket")]
    ExpectedComma,
    /// A member's name has no `:` behind it.
    #[error("expected `:`")]
    ExpectedColon,
    /// A member does not start with a double-quoted name.
    #[error("expected a name in double quotes")]
    ExpectedName,
    /// The text ends inside a string.
    #[error("unterminated string")]
    UnterminatedString,
    /// A character below U+0020 stands unescaped in a string.
    #[error("unescaped control character in a string")]
    ControlCharacter,
    /// A backslash is followed by something that is no escape.
    #[error("invalid escape")]
    InvalidEscape,
    /// An escaped surrogate without its partner, which Python would keep and UTF-8 cannot.
    #[error("escaped surrogate without its partner")]
    LoneSurrogate,
    /// Something other than white space follows the value.
    #[error("text after the value")]
    ExtraData,
    /// Lists and objects are nested deeper than [`MAX_DEPTH`].
    #[error("nested too deeply")]
    TooDeep,
    /// An integer has more than [`MAX_DIGITS`] digits.
    #[error("integer with more than {MAX_DIGITS} digits")]
    TooManyDigits,
}

/// Reads one JSON text as `json.loads` does.
///
/// `NaN`, `Infinity` and `-Infinity` are numbers; `1e400` is infinite; of duplicate names the last value
/// wins, at the first one's place. A byte-order mark, a trailing comma, `01`, `+1` and `.5` are errors.
///
/// # Errors
/// [`ParseError`] with the place; Python's messages are not reproduced.
pub fn parse(text: &str) -> Result<Value, ParseError> {
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        at: 0,
    };
    reader.skip_space();
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.at < reader.bytes.len() {
        return Err(reader.error(ParseErrorKind::ExtraData));
    }
    Ok(value)
}

/// Reads one JSON text and hands out the members of its object one after the other, without building the
/// object; a name that occurs twice is handed out twice. Whether the text is an object comes back: for other
/// values nothing is handed out.
///
/// # Errors
/// As [`parse`], also after members were handed out.
pub fn parse_members(text: &str, mut each: impl FnMut(&str, Value)) -> Result<bool, ParseError> {
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        at: 0,
    };
    reader.skip_space();
    let is_object = reader.peek() == Some(b'{');
    if is_object {
        reader.members(0, |name, value| match name {
            Name::Plain(name) => each(name, value),
            Name::Escaped(name) => each(&name, value),
        })?;
    } else {
        let _other = reader.value(0)?;
    }
    reader.skip_space();
    if reader.at < reader.bytes.len() {
        return Err(reader.error(ParseErrorKind::ExtraData));
    }
    Ok(is_object)
}

/// What [`parse_parts`] hands out of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Part<'a> {
    /// A member of the object.
    Member(Cow<'a, str>, Value),
    /// An object begins under the name whose members are handed out singly.
    Opened,
    /// A member of that object.
    Inner(Cow<'a, str>, Value),
}

/// Reads the JSON value that a text begins with and, where it is an object, hands out its members one after the
/// other; an object under the name `inner` is handed out by its own members. Nothing is built that is not handed
/// out, and a name that occurs twice is handed out twice. White space may stand before the value.
///
/// Answers whether the value is an object, and the offset behind it.
///
/// # Errors
/// As [`parse`], also after members were handed out; text behind the value is none.
pub fn parse_parts<'a>(
    text: &'a str,
    inner: &str,
    mut each: impl FnMut(Part<'a>),
) -> Result<(bool, usize), ParseError> {
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        at: 0,
    };
    reader.skip_space();
    let is_object = reader.peek() == Some(b'{');
    if is_object {
        reader.parts(inner, &mut each)?;
    } else {
        let _other = reader.value(0)?;
    }
    Ok((is_object, reader.at))
}

/// The name of a member: a part of the text, or what its escapes stand for.
enum Name<'a> {
    Plain(&'a str),
    Escaped(String),
}

/// How many bytes stand before the first quote, backslash or control character.
///
/// # Source
/// H. S. Warren, "Hacker's Delight", 2nd edition, 6-1: eight bytes at once in one register. A subtraction may
/// mark bytes above one that it rightly marks, never below, so the lowest mark is right.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word;
    let (blocks, rest) = bytes.as_chunks::<8>();
    let mut at = 0;
    for block in blocks {
        let word = u64::from_le_bytes(*block);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let marks = (quote | backslash | below(word, 0x20)) & TOPS;
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let end = |&byte: &u8| byte == b'"' || byte == b'\\' || byte < 0x20;
    at + rest.iter().position(end).unwrap_or(rest.len())
}

impl<'a> Name<'a> {
    fn into_cow(self) -> Cow<'a, str> {
        match self {
            Self::Plain(name) => Cow::Borrowed(name),
            Self::Escaped(name) => Cow::Owned(name),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, kind: ParseErrorKind) -> ParseError {
        ParseError {
            offset: self.at,
            kind,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.bytes[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, ParseError> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string().map(Value::Str)
            }
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'n') if self.eat_word("null") => Ok(Value::Null),
            Some(b't') if self.eat_word("true") => Ok(Value::Bool(true)),
            Some(b'f') if self.eat_word("false") => Ok(Value::Bool(false)),
            Some(b'N') if self.eat_word("NaN") => Ok(Value::Float(f64::NAN)),
            Some(b'I') if self.eat_word("Infinity") => Ok(Value::Float(f64::INFINITY)),
            Some(b'-') if self.eat_word("-Infinity") => Ok(Value::Float(f64::NEG_INFINITY)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.error(ParseErrorKind::ExpectedValue)),
        }
    }

    fn enter(&mut self, depth: usize) -> Result<(), ParseError> {
        if depth >= MAX_DEPTH {
            return Err(self.error(ParseErrorKind::TooDeep));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Value, ParseError> {
        self.enter(depth)?;
        let mut items = Vec::new();
        if self.eat(b']') {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.eat(b']') {
                return Ok(Value::List(items));
            }
            if !self.eat(b',') {
                return Err(self.error(ParseErrorKind::ExpectedComma));
            }
            self.skip_space();
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, ParseError> {
        let mut map = Map::new();
        self.members(depth, |name, value| {
            let name = match name {
                Name::Plain(name) => name.to_owned(),
                Name::Escaped(name) => name,
            };
            map.insert(name, value);
        })?;
        Ok(Value::Dict(map))
    }

    fn parts(&mut self, inner: &str, each: &mut impl FnMut(Part<'a>)) -> Result<(), ParseError> {
        self.enter(0)?;
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            let name = self.member_name()?.into_cow();
            if name == inner && self.peek() == Some(b'{') {
                each(Part::Opened);
                self.members(1, |name, value| each(Part::Inner(name.into_cow(), value)))?;
            } else {
                each(Part::Member(name, self.value(1)?));
            }
            self.skip_space();
            if self.eat(b'}') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.error(ParseErrorKind::ExpectedComma));
            }
            self.skip_space();
        }
    }

    /// Reads a name and what stands between it and its value.
    fn member_name(&mut self) -> Result<Name<'a>, ParseError> {
        if !self.eat(b'"') {
            return Err(self.error(ParseErrorKind::ExpectedName));
        }
        let name = self.name()?;
        self.skip_space();
        if !self.eat(b':') {
            return Err(self.error(ParseErrorKind::ExpectedColon));
        }
        self.skip_space();
        Ok(name)
    }

    fn members(
        &mut self,
        depth: usize,
        mut each: impl FnMut(Name<'a>, Value),
    ) -> Result<(), ParseError> {
        self.enter(depth)?;
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            let name = self.member_name()?;
            let value = self.value(depth + 1)?;
            each(name, value);
            self.skip_space();
            if self.eat(b'}') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.error(ParseErrorKind::ExpectedComma));
            }
            self.skip_space();
        }
    }

    /// Reads a name whose opening quote has been eaten; most have no escapes.
    fn name(&mut self) -> Result<Name<'a>, ParseError> {
        let end = self.at + plain(&self.bytes[self.at..]);
        if self.bytes.get(end) == Some(&b'"') {
            let name = &self.text[self.at..end];
            self.at = end + 1;
            return Ok(Name::Plain(name));
        }
        self.string().map(Name::Escaped)
    }

    /// Reads a string whose opening quote has been eaten.
    fn string(&mut self) -> Result<String, ParseError> {
        let mut out = String::new();
        loop {
            let end = self.at + plain(&self.bytes[self.at..]);
            // Both ends lie next to ASCII bytes or the text's end, so they are char boundaries.
            let run = &self.text[self.at..end];
            self.at = end;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    if out.is_empty() {
                        return Ok(run.to_owned());
                    }
                    out.push_str(run);
                    return Ok(out);
                }
                Some(b'\\') => {
                    if out.is_empty() {
                        // A text with one escape has more, so a third of room is added at once.
                        out.reserve(run.len() + run.len() / 3 + 8);
                    }
                    out.push_str(run);
                    let c = self.escape()?;
                    out.push(c);
                }
                Some(_) => return Err(self.error(ParseErrorKind::ControlCharacter)),
                None => return Err(self.error(ParseErrorKind::UnterminatedString)),
            }
        }
    }

    fn escape(&mut self) -> Result<char, ParseError> {
        let start = self.at;
        self.at += 1;
        let Some(byte) = self.peek() else {
            return Err(self.error(ParseErrorKind::UnterminatedString));
        };
        let simple = match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(start),
            _ => {
                return Err(ParseError {
                    offset: start,
                    kind: ParseErrorKind::InvalidEscape,
                });
            }
        };
        self.at += 1;
        Ok(simple)
    }

    fn unicode_escape(&mut self, start: usize) -> Result<char, ParseError> {
        let fail = |kind| ParseError {
            offset: start,
            kind,
        };
        let lone = || fail(ParseErrorKind::LoneSurrogate);
        self.at += 1;
        let first = self
            .hex4()
            .ok_or_else(|| fail(ParseErrorKind::InvalidEscape))?;
        if !(0xD800..0xE000).contains(&first) {
            return char::from_u32(first).ok_or_else(lone);
        }
        if first >= 0xDC00 || !self.eat_word("\\u") {
            return Err(lone());
        }
        let second = self
            .hex4()
            .ok_or_else(|| fail(ParseErrorKind::InvalidEscape))?;
        if !(0xDC00..0xE000).contains(&second) {
            return Err(lone());
        }
        char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)).ok_or_else(lone)
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        let mut code = 0;
        for &digit in digits {
            code = code << 4 | char::from(digit).to_digit(16)?;
        }
        self.at += 4;
        Some(code)
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Value, ParseError> {
        let start = self.at;
        let digits_start = start + usize::from(self.eat(b'-'));
        if !self.eat(b'0') && self.digits() == 0 {
            self.at = start;
            return Err(self.error(ParseErrorKind::ExpectedValue));
        }
        let int_end = self.at;
        let mut end = int_end;
        if self.eat(b'.') && self.digits() > 0 {
            end = self.at;
        }
        self.at = end;
        if self.eat(b'e') || self.eat(b'E') {
            let _signed = self.eat(b'+') || self.eat(b'-');
            if self.digits() > 0 {
                end = self.at;
            }
        }
        self.at = end;
        let text = &self.text[start..end];
        if end > int_end {
            // The grammar above is a subset of Rust's; the fallback is never reached.
            return Ok(Value::Float(text.parse().unwrap_or(f64::NAN)));
        }
        if let Ok(int) = text.parse::<i64>() {
            return Ok(Value::Int(int));
        }
        if int_end - digits_start > MAX_DIGITS {
            return Err(ParseError {
                offset: start,
                kind: ParseErrorKind::TooManyDigits,
            });
        }
        let big = BigInt::parse_bytes(text.as_bytes(), 10);
        big.map(Value::from).ok_or(ParseError {
            offset: start,
            kind: ParseErrorKind::ExpectedValue,
        })
    }
}
