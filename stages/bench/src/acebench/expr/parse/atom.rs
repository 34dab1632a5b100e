//! Atoms: names, constants and bracketed displays.

use super::super::value::Value;
use super::super::{Expr, Other, Reject, Shape};
use super::{Parsed, Parser, is_keyword};

impl<'a> Parser<'a> {
    pub(in super::super) fn atom(&mut self) -> Parsed<'a> {
        self.skip();
        self.height = 0;
        match self.byte(0).ok_or(Reject)? {
            b'(' => self.parenthesised(),
            b'[' => self.list(),
            b'{' => self.braced(),
            b'\'' | b'"' => self.strings(),
            b'0'..=b'9' => self.number(),
            b'.' if self.byte(1).is_some_and(|byte| byte.is_ascii_digit()) => self.number(),
            b'.' => {
                self.expect("...")?;
                Ok(Expr::Const(Value::Ellipsis))
            }
            _ => self.word_atom(),
        }
    }

    fn word_atom(&mut self) -> Parsed<'a> {
        let word = self.word();
        if matches!(self.byte(word.len()), Some(b'\'' | b'"'))
            && !word.is_empty()
            && !is_keyword(word)
        {
            return self.strings();
        }
        let constant = match word {
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            "None" => Value::None,
            _ => return Ok(Expr::Name(self.name_of(word)?)),
        };
        self.pos += word.len();
        Ok(Expr::Const(constant))
    }

    /// `()`, `(a)`, `(a,)`, `(a, b)`, `(yield a)` or a generator.
    fn parenthesised(&mut self) -> Parsed<'a> {
        self.open()?;
        if self.at_keyword("yield") {
            let yielded = self.yielded()?;
            self.close(b')')?;
            return Ok(yielded);
        }
        let (items, comma) = self.items(b')')?;
        if self.at_comprehension() {
            let element = lone(items, comma)?;
            return self.finish_comprehension(Shape::Generator, element, None, b')');
        }
        self.close(b')')?;
        self.group(items, comma)
    }

    /// What parentheses around these items make.
    pub(in super::super) fn group(&mut self, items: Vec<Expr<'a>>, comma: bool) -> Parsed<'a> {
        match <[Expr<'a>; 1]>::try_from(items) {
            Ok([Expr::Starred(_)]) if !comma => Err(Reject),
            Ok([item]) if !comma => Ok(item),
            Ok([item]) => self.display(Expr::Tuple(vec![item])),
            Err(items) => self.display(Expr::Tuple(items)),
        }
    }

    fn list(&mut self) -> Parsed<'a> {
        self.open()?;
        let (items, comma) = self.items(b']')?;
        if self.at_comprehension() {
            let element = lone(items, comma)?;
            return self.finish_comprehension(Shape::List, element, None, b']');
        }
        self.close(b']')?;
        self.display(Expr::List(items))
    }

    fn display(&mut self, expr: Expr<'a>) -> Parsed<'a> {
        self.raise(0)?;
        Ok(expr)
    }

    /// Comma-separated items up to `end` (not taken) or the end of the text, and whether a comma follows the last.
    pub(in super::super) fn items(&mut self, end: u8) -> Result<(Vec<Expr<'a>>, bool), Reject> {
        let mut items = Vec::new();
        let mut comma = false;
        let mut height = 0;
        while !self.at(end) && self.pos < self.text.len() {
            items.push(self.star_or_named()?);
            height = height.max(self.height);
            comma = self.take(",");
            if !comma {
                break;
            }
        }
        self.height = height;
        Ok((items, comma))
    }

    fn star_or_named(&mut self) -> Parsed<'a> {
        if self.at(b'*') && self.byte(1) != Some(b'*') {
            self.pos += 1;
            return Ok(Expr::Starred(Box::new(self.binary(0)?)));
        }
        self.named_expression()
    }

    /// A dict, a set or a comprehension of either.
    fn braced(&mut self) -> Parsed<'a> {
        self.open()?;
        if self.at(b'}') {
            self.close(b'}')?;
            return Ok(Expr::Dict(Vec::new()));
        }
        if !self.take("**") {
            let first = self.star_or_named()?;
            if !self.at(b':') {
                return self.set(first);
            }
            return self.dict(Some(first));
        }
        self.dict(None)
    }

    fn set(&mut self, first: Expr<'a>) -> Parsed<'a> {
        if self.at_comprehension() {
            let element = lone(vec![first], false)?;
            return self.finish_comprehension(Shape::Set, element, None, b'}');
        }
        let height = self.height;
        let mut items = vec![first];
        if self.take(",") {
            items.append(&mut self.items(b'}')?.0);
        }
        self.close(b'}')?;
        self.raise(height)?;
        Ok(Expr::Set(items))
    }

    /// The rest of a dict after its first key, or after a leading `**`.
    fn dict(&mut self, mut key: Option<Expr<'a>>) -> Parsed<'a> {
        let mut entries = Vec::new();
        let mut height = self.height;
        loop {
            match key.take() {
                Some(Expr::Starred(_)) => return Err(Reject),
                Some(key) => {
                    self.expect(":")?;
                    let value = self.expression()?;
                    height = height.max(self.height);
                    if entries.is_empty() && self.at_comprehension() {
                        self.height = height;
                        return self.finish_comprehension(Shape::Dict, key, Some(value), b'}');
                    }
                    entries.push((Some(key), value));
                }
                None => {
                    entries.push((None, self.binary(0)?));
                    height = height.max(self.height);
                }
            }
            if !self.take(",") || self.at(b'}') {
                break;
            }
            if !self.take("**") {
                key = Some(self.expression()?);
                height = height.max(self.height);
            }
        }
        self.close(b'}')?;
        self.height = height;
        self.display(Expr::Dict(entries))
    }

    /// `yield`, `yield a, b` or `yield from a`.
    pub(in super::super) fn yielded(&mut self) -> Parsed<'a> {
        self.take_keyword("yield");
        if self.take_keyword("from") {
            let value = self.expression()?;
            self.raise(0)?;
            return Ok(Expr::other(Other::YieldFrom(value)));
        }
        let (mut items, mut comma, mut height) = (Vec::new(), false, 0);
        while !self.at(b')') && self.pos < self.text.len() {
            items.push(match self.take("*") {
                true => Expr::Starred(Box::new(self.binary(0)?)),
                false => self.expression()?,
            });
            height = height.max(self.height);
            comma = self.take(",");
            if !comma {
                break;
            }
        }
        self.height = height;
        let value = match items.len() {
            0 => None,
            1 if !comma => items.pop(),
            _ => Some(self.display(Expr::Tuple(items))?),
        };
        self.raise(0)?;
        Ok(Expr::other(Other::Yield(value)))
    }
}

/// The element of a comprehension: one expression, without a star or a comma.
pub(in super::super) fn lone<'a>(items: Vec<Expr<'a>>, comma: bool) -> Parsed<'a> {
    match <[Expr<'a>; 1]>::try_from(items) {
        Ok([Expr::Starred(_)]) | Err(_) => Err(Reject),
        Ok([item]) if !comma => Ok(item),
        Ok(_) => Err(Reject),
    }
}
