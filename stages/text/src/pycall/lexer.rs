//! Tokens of an expression, one at a time.

use num_bigint::BigInt;
use num_traits::Num as _;

use super::{SyntaxError, SyntaxErrorKind as Kind};
use crate::json::MAX_DIGITS;

/// A token. Operators are their own text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Int(i64),
    BigInt(Box<BigInt>),
    Float(f64),
    Imaginary(f64),
    Str(String),
    Bytes(Vec<u8>),
    Operator(&'static str),
    End,
}

/// Longest first, so that a prefix never wins.
const OPERATORS: [&str; 45] = [
    "**=", "//=", ">>=", "<<=", "...", "!=", "==", "<=", ">=", "<<", ">>", "**", "//", "->", "+=",
    "-=", "*=", "/=", "%=", "@=", "&=", "|=", "^=", ":=", "(", ")", "[", "]", "{", "}", ",", ":",
    ".", ";", "@", "=", "+", "-", "*", "/", "%", "&", "|", "^", "~",
];

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Where the last token starts.
    pub(super) start: usize,
    /// Brackets that are open: inside them a line end is white space.
    open: Vec<char>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            start: 0,
            open: Vec::new(),
        }
    }

    fn error(&self, kind: Kind) -> SyntaxError {
        SyntaxError {
            offset: self.at,
            kind,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The next token, behind white space and comments.
    pub(super) fn next(&mut self) -> Result<Token, SyntaxError> {
        self.skip_space()?;
        self.start = self.at;
        let Some(byte) = self.peek() else {
            return match self.open.last() {
                Some(&bracket) => Err(self.error(Kind::NeverClosed(bracket))),
                None => Ok(Token::End),
            };
        };
        match byte {
            b'0'..=b'9' => self.number(),
            b'.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            b'\'' | b'"' => self.string("", byte),
            b'(' | b'[' | b'{' => self.open_bracket(byte),
            b')' | b']' | b'}' => self.close_bracket(byte),
            b'<' | b'>' => Ok(self.comparison(byte)),
            _ => self.operator_or_name(),
        }
    }

    fn comparison(&mut self, byte: u8) -> Token {
        for operator in ["<<=", ">>=", "<=", ">=", "<<", ">>"] {
            if self.rest().starts_with(operator) {
                self.at += operator.len();
                return Token::Operator(operator);
            }
        }
        self.at += 1;
        Token::Operator(if byte == b'<' { "<" } else { ">" })
    }

    fn operator_or_name(&mut self) -> Result<Token, SyntaxError> {
        let rest = self.rest();
        let c = rest.chars().next().unwrap_or('\0');
        if !(c == '_' || c.is_alphabetic()) {
            let operator = OPERATORS.into_iter().find(|op| rest.starts_with(op));
            let operator = operator.ok_or_else(|| self.error(Kind::InvalidCharacter(c)))?;
            self.at += operator.len();
            return Ok(Token::Operator(operator));
        }
        let end = rest
            .find(|c: char| !(c == '_' || c.is_alphanumeric()))
            .unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        match behind.bytes().next() {
            Some(quote @ (b'"' | b'\'')) if is_prefix(name) => {
                self.at += end;
                self.string(name, quote)
            }
            _ => {
                self.at += end;
                Ok(Token::Name(name.to_owned()))
            }
        }
    }

    fn open_bracket(&mut self, byte: u8) -> Result<Token, SyntaxError> {
        if self.open.len() >= super::MAX_DEPTH {
            return Err(self.error(Kind::TooDeep));
        }
        self.open.push(char::from(byte));
        self.at += 1;
        Ok(Token::Operator(match byte {
            b'(' => "(",
            b'[' => "[",
            _ => "{",
        }))
    }

    fn close_bracket(&mut self, byte: u8) -> Result<Token, SyntaxError> {
        let (open, operator) = match byte {
            b')' => ('(', ")"),
            b']' => ('[', "]"),
            _ => ('{', "}"),
        };
        match self.open.pop() {
            Some(found) if found == open => {
                self.at += 1;
                Ok(Token::Operator(operator))
            }
            Some(found) => Err(self.error(Kind::Mismatched {
                close: char::from(byte),
                open: found,
            })),
            None => Err(self.error(Kind::Unmatched(char::from(byte)))),
        }
    }

    fn skip_space(&mut self) -> Result<(), SyntaxError> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\x0c') => self.at += 1,
                Some(b'\n' | b'\r') if !self.open.is_empty() => self.at += 1,
                Some(b'\n' | b'\r') => return self.only_space_behind(),
                Some(b'#') => self.skip_comment(),
                Some(b'\\') if self.rest().starts_with("\\\n") => self.at += 2,
                Some(b'\\') if self.rest().starts_with("\\\r\n") => self.at += 3,
                _ => return Ok(()),
            }
        }
    }

    fn skip_comment(&mut self) {
        self.at += self.rest().find(['\n', '\r']).unwrap_or(self.rest().len());
    }

    /// Behind a line end outside brackets only empty lines may follow.
    fn only_space_behind(&mut self) -> Result<(), SyntaxError> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\x0c' | b'\n' | b'\r') => self.at += 1,
                Some(b'#') => self.skip_comment(),
                None => return Ok(()),
                Some(_) => return Err(self.error(Kind::Invalid)),
            }
        }
    }

    fn number(&mut self) -> Result<Token, SyntaxError> {
        let rest = self.rest();
        let lower = rest.get(..2).map(str::to_ascii_lowercase);
        let radix = match lower.as_deref() {
            Some("0x") => 16,
            Some("0o") => 8,
            Some("0b") => 2,
            _ => 10,
        };
        let token = if radix == 10 {
            self.decimal()?
        } else {
            self.at += 2;
            self.radix(radix)?
        };
        // `1abc` is an error; `1if x else y` is one for us as well.
        match self.rest().chars().next() {
            Some(c) if c == '_' || c.is_alphanumeric() => {
                let word = self.rest();
                let keyword = ["and", "or", "in", "is", "if", "else", "not", "for"];
                match keyword.iter().any(|k| word.starts_with(k)) {
                    true => Ok(token),
                    false => Err(self.error(Kind::InvalidNumber)),
                }
            }
            _ => Ok(token),
        }
    }

    fn radix(&mut self, radix: u32) -> Result<Token, SyntaxError> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c == '_' || c.is_digit(radix)))
            .unwrap_or(rest.len());
        let digits = &rest[..end];
        // One underscore may precede the first digit (`0x_1`).
        let digits = self.ungroup(digits.strip_prefix('_').unwrap_or(digits))?;
        self.at += end;
        let value =
            BigInt::from_str_radix(&digits, radix).map_err(|_| self.error(Kind::InvalidNumber))?;
        Ok(integer(value))
    }

    /// Takes the underscores out of a digit group; they may only stand between digits.
    fn ungroup(&self, digits: &str) -> Result<String, SyntaxError> {
        let misplaced = digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
        if digits.is_empty() || misplaced {
            return Err(self.error(Kind::InvalidNumber));
        }
        Ok(digits.replace('_', ""))
    }

    fn decimal_digits(&mut self) -> Result<String, SyntaxError> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c == '_' || c.is_ascii_digit()))
            .unwrap_or(rest.len());
        let digits = self.ungroup(&rest[..end])?;
        self.at += end;
        Ok(digits)
    }

    fn decimal(&mut self) -> Result<Token, SyntaxError> {
        let mut text = String::new();
        let mut float = false;
        if self.peek() != Some(b'.') {
            text = self.decimal_digits()?;
        }
        let whole = text.len();
        if self.peek() == Some(b'.') {
            float = true;
            self.at += 1;
            text.push('.');
            if self.peek().is_some_and(|b| b.is_ascii_digit()) {
                text += &self.decimal_digits()?;
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) && self.exponent_follows() {
            float = true;
            self.at += 1;
            text.push('e');
            if let Some(sign @ (b'+' | b'-')) = self.peek() {
                text.push(char::from(sign));
                self.at += 1;
            }
            text += &self.decimal_digits()?;
        }
        let imaginary = matches!(self.peek(), Some(b'j' | b'J'));
        if float || imaginary {
            self.at += usize::from(imaginary);
            let value: f64 = text.parse().map_err(|_| self.error(Kind::InvalidNumber))?;
            return Ok(match imaginary {
                true => Token::Imaginary(value),
                false => Token::Float(value),
            });
        }
        if whole > 1 && text.starts_with('0') && text.bytes().any(|b| b != b'0') {
            return Err(self.error(Kind::InvalidNumber));
        }
        if whole > MAX_DIGITS {
            return Err(self.error(Kind::TooManyDigits));
        }
        match text.parse() {
            Ok(int) => Ok(Token::Int(int)),
            Err(_) => BigInt::from_str_radix(&text, 10)
                .map(integer)
                .map_err(|_| self.error(Kind::InvalidNumber)),
        }
    }

    fn exponent_follows(&self) -> bool {
        let behind = &self.rest().as_bytes()[1..];
        match behind.first() {
            Some(b'+' | b'-') => behind.get(1).is_some_and(u8::is_ascii_digit),
            Some(byte) => byte.is_ascii_digit(),
            None => false,
        }
    }

    /// A string whose opening quote is the current byte.
    fn string(&mut self, prefix: &str, quote: u8) -> Result<Token, SyntaxError> {
        let has = |c: char| prefix.contains(c) || prefix.contains(c.to_ascii_uppercase());
        if has('f') {
            return Err(self.error(Kind::Unsupported));
        }
        let (raw, bytes) = (has('r'), has('b'));
        let quote = char::from(quote);
        let triple = self
            .rest()
            .starts_with([quote; 3].iter().collect::<String>().as_str());
        self.at += if triple { 3 } else { 1 };
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let plain = rest
                .find([quote, '\\', '\n', '\r'])
                .ok_or_else(|| self.error(Kind::UnterminatedString))?;
            out.push_str(&rest[..plain]);
            self.at += plain;
            let rest = self.rest();
            match rest.as_bytes()[0] {
                b'\\' if raw => {
                    let skipped = rest[1..].chars().next().map_or(0, char::len_utf8);
                    out.push_str(&rest[..=skipped]);
                    self.at += 1 + skipped;
                }
                b'\\' => self.escape(&mut out, bytes)?,
                // A carriage return inside a string is read as the line end that Python makes of it.
                b'\n' | b'\r' if triple => {
                    out.push('\n');
                    self.at += if rest.starts_with("\r\n") { 2 } else { 1 };
                }
                b'\n' | b'\r' => return Err(self.error(Kind::UnterminatedString)),
                _ if !triple => break self.at += 1,
                _ if rest.as_bytes().get(..3) == Some(&[quote as u8; 3]) => break self.at += 3,
                _ => {
                    out.push(quote);
                    self.at += 1;
                }
            }
        }
        if !bytes {
            return Ok(Token::Str(out));
        }
        // Escapes above 0x7f were written as characters of the same number.
        let bytes: Option<Vec<u8>> = out
            .chars()
            .map(|c| u8::try_from(u32::from(c)).ok())
            .collect();
        bytes
            .map(Token::Bytes)
            .ok_or_else(|| self.error(Kind::Invalid))
    }

    /// The escape at the current backslash.
    fn escape(&mut self, out: &mut String, bytes: bool) -> Result<(), SyntaxError> {
        let rest = self.rest();
        let Some(c) = rest[1..].chars().next() else {
            return Err(self.error(Kind::UnterminatedString));
        };
        let simple = match c {
            '\\' | '\'' | '"' => Some(c),
            'a' => Some('\x07'),
            'b' => Some('\x08'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            _ => None,
        };
        if let Some(simple) = simple {
            out.push(simple);
            self.at += 2;
            return Ok(());
        }
        match c {
            '\n' => self.at += 2,
            '\r' => self.at += if rest[1..].starts_with("\r\n") { 3 } else { 2 },
            '0'..='7' => {
                let digits = rest[1..]
                    .bytes()
                    .take(3)
                    .take_while(|b| (b'0'..=b'7').contains(b));
                let digits = digits.count();
                let code = u32::from_str_radix(&rest[1..=digits], 8).unwrap_or(0);
                // As in Python, bytes keep the low eight bits.
                let code = if bytes { code & 0xff } else { code };
                out.extend(char::from_u32(code));
                self.at += 1 + digits;
            }
            'x' => self.hex(out, 2)?,
            'u' if !bytes => self.hex(out, 4)?,
            'U' if !bytes => self.hex(out, 8)?,
            'N' if !bytes => return Err(self.error(Kind::Unsupported)),
            // An unknown escape keeps its backslash.
            _ => {
                out.push('\\');
                out.push(c);
                self.at += 1 + c.len_utf8();
            }
        }
        Ok(())
    }

    fn hex(&mut self, out: &mut String, digits: usize) -> Result<(), SyntaxError> {
        let code = |text: &str, at: usize| {
            text.get(at..at + digits)
                .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|hex| u32::from_str_radix(hex, 16).ok())
        };
        let rest = self.rest();
        let Some(first) = code(rest, 2) else {
            return Err(self.error(Kind::InvalidEscape));
        };
        let Some(c) = char::from_u32(first) else {
            // Half of a surrogate pair: Python keeps it, UTF-8 cannot.
            return Err(self.error(if first > 0x0010_ffff {
                Kind::InvalidEscape
            } else {
                Kind::Unsupported
            }));
        };
        out.push(c);
        self.at += 2 + digits;
        Ok(())
    }
}

fn is_prefix(name: &str) -> bool {
    matches!(
        name.to_ascii_lowercase().as_str(),
        "r" | "u" | "b" | "f" | "br" | "rb" | "fr" | "rf"
    )
}

fn integer(value: BigInt) -> Token {
    match i64::try_from(&value) {
        Ok(int) => Token::Int(int),
        Err(_) => Token::BigInt(Box::new(value)),
    }
}
