//! Number literals.

use std::borrow::Cow;

use num_bigint::BigInt;

use super::super::value::Value;
use super::super::value::print::MAX_DIGITS;
use super::super::{Expr, Reject};
use super::{Parsed, Parser};

impl<'a> Parser<'a> {
    pub(in super::super) fn number(&mut self) -> Parsed<'a> {
        let radix = match (self.byte(0), self.byte(1)) {
            (Some(b'0'), Some(b'x' | b'X')) => 16,
            (Some(b'0'), Some(b'o' | b'O')) => 8,
            (Some(b'0'), Some(b'b' | b'B')) => 2,
            _ => 10,
        };
        let value = if radix == 10 {
            self.decimal()?
        } else {
            self.radix(radix)?
        };
        self.number_ends()?;
        Ok(Expr::Const(value))
    }

    fn radix(&mut self, radix: u32) -> Result<Value<'a>, Reject> {
        self.pos += 2;
        let start = self.pos;
        // One underscore may follow the prefix.
        self.pos += usize::from(self.byte(0) == Some(b'_'));
        self.digits(radix)?;
        let digits = plain(&self.text[start..self.pos]);
        match i64::from_str_radix(&digits, radix) {
            Ok(int) => Ok(Value::Int(int)),
            Err(_) => BigInt::parse_bytes(digits.as_bytes(), radix)
                .map(Value::big)
                .ok_or(Reject),
        }
    }

    /// At least one digit, single underscores between digits.
    fn digits(&mut self, radix: u32) -> Result<(), Reject> {
        loop {
            let start = self.pos;
            while self
                .byte(0)
                .is_some_and(|byte| char::from(byte).is_digit(radix))
            {
                self.pos += 1;
            }
            if start == self.pos {
                return Err(Reject);
            }
            if self.byte(0) != Some(b'_') {
                return Ok(());
            }
            self.pos += 1;
        }
    }

    fn decimal(&mut self) -> Result<Value<'a>, Reject> {
        let start = self.pos;
        let digit = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_digit());
        if self.byte(0) != Some(b'.') {
            self.digits(10)?;
        }
        let whole = self.pos;
        if self.byte(0) == Some(b'.') {
            self.pos += 1;
            if digit(self.byte(0)) {
                self.digits(10)?;
            }
        }
        if matches!(self.byte(0), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.byte(1), Some(b'+' | b'-')));
            if digit(self.byte(1 + sign)) {
                self.pos += 1 + sign;
                self.digits(10)?;
            } else if sign == 1 {
                return Err(Reject);
            }
        }
        let digits = plain(&self.text[start..self.pos]);
        let imaginary = matches!(self.byte(0), Some(b'j' | b'J'));
        if imaginary || self.pos > whole {
            self.pos += usize::from(imaginary);
            let float = digits.parse().map_err(|_| Reject)?;
            return Ok(if imaginary {
                Value::Complex(0.0, float)
            } else {
                Value::Float(float)
            });
        }
        whole_number(&digits)
    }

    /// A number may run into a keyword that can follow it (`1or x`), not into any other letter.
    fn number_ends(&self) -> Result<(), Reject> {
        const MAY_FOLLOW: [&str; 8] = ["and", "else", "for", "if", "in", "is", "or", "not"];
        let rest = &self.text[self.pos..];
        let next = rest.as_bytes().first().copied().unwrap_or(b' ');
        let letter = next.is_ascii_alphanumeric() || next == b'_' || next >= 0x80;
        if letter && !MAY_FOLLOW.iter().any(|keyword| rest.starts_with(keyword)) {
            return Err(Reject);
        }
        Ok(())
    }
}

fn whole_number(digits: &str) -> Result<Value<'static>, Reject> {
    // `00` is zero, `01` is nothing.
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().any(|byte| byte != b'0') {
        return Err(Reject);
    }
    if let Ok(int) = digits.parse() {
        return Ok(Value::Int(int));
    }
    if digits.len() as u64 > MAX_DIGITS {
        return Err(Reject);
    }
    BigInt::parse_bytes(digits.as_bytes(), 10)
        .map(Value::big)
        .ok_or(Reject)
}

fn plain(digits: &str) -> Cow<'_, str> {
    if digits.contains('_') {
        Cow::Owned(digits.replace('_', ""))
    } else {
        Cow::Borrowed(digits)
    }
}
