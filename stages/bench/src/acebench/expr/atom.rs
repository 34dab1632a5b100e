//! Atoms: names, constants, bracketed displays and comprehensions.

use super::parse::{Parsed, Parser, is_keyword};
use super::value::Value;
use super::{Expr, Reject};

impl<'a> Parser<'a> {
    pub(super) fn atom(&mut self) -> Parsed<'a> {
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
            _ => return Ok(Expr::Name(self.name()?)),
        };
        self.pos += word.len();
        Ok(Expr::Const(constant))
    }

    /// `()`, `(a)`, `(a,)`, `(a, b)`, `(yield a)` or a generator.
    fn parenthesised(&mut self) -> Parsed<'a> {
        let start = self.pos;
        self.open()?;
        if self.at_keyword("yield") {
            self.yielded()?;
            self.close(b')')?;
            return Ok(Expr::Other(&self.text[start..self.pos]));
        }
        let (items, comma) = self.items(b')')?;
        if self.at_comprehension() {
            return self.finish_comprehension(start, items.len() == 1 && !comma, b')');
        }
        self.close(b')')?;
        match <[Expr<'a>; 1]>::try_from(items) {
            Ok([Expr::Starred(_)]) if !comma => Err(Reject),
            Ok([item]) if !comma => Ok(item),
            Ok([item]) => self.display(Expr::Tuple(vec![item])),
            Err(items) => self.display(Expr::Tuple(items)),
        }
    }

    fn list(&mut self) -> Parsed<'a> {
        let start = self.pos;
        self.open()?;
        let (items, comma) = self.items(b']')?;
        if self.at_comprehension() {
            let plain = items.len() == 1 && !comma && !matches!(items[0], Expr::Starred(_));
            return self.finish_comprehension(start, plain, b']');
        }
        self.close(b']')?;
        self.display(Expr::List(items))
    }

    fn display(&mut self, expr: Expr<'a>) -> Parsed<'a> {
        self.raise(0)?;
        Ok(expr)
    }

    /// Comma-separated items up to `end` (not taken) and whether a comma follows the last.
    fn items(&mut self, end: u8) -> Result<(Vec<Expr<'a>>, bool), Reject> {
        let mut items = Vec::new();
        let mut comma = false;
        let mut height = 0;
        while !self.at(end) {
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
        let start = self.pos;
        self.open()?;
        if self.at(b'}') {
            self.close(b'}')?;
            return Ok(Expr::Dict(Vec::new()));
        }
        if !self.take("**") {
            let first = self.star_or_named()?;
            if !self.at(b':') {
                return self.set(start, first);
            }
            return self.dict(start, Some(first));
        }
        self.dict(start, None)
    }

    fn set(&mut self, start: usize, first: Expr<'a>) -> Parsed<'a> {
        if self.at_comprehension() {
            let plain = !matches!(first, Expr::Starred(_));
            return self.finish_comprehension(start, plain, b'}');
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
    fn dict(&mut self, start: usize, mut key: Option<Expr<'a>>) -> Parsed<'a> {
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
                        return self.finish_comprehension(start, true, b'}');
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

    // Comprehensions have no value here; only their syntax is checked.

    pub(super) fn at_comprehension(&mut self) -> bool {
        self.skip();
        matches!(self.byte(0), Some(b'f' | b'a')) && matches!(self.word(), "for" | "async")
    }

    fn finish_comprehension(&mut self, start: usize, allowed: bool, end: u8) -> Parsed<'a> {
        if !allowed {
            return Err(Reject);
        }
        self.comprehension()?;
        self.close(end)?;
        Ok(Expr::Other(&self.text[start..self.pos]))
    }

    /// `for targets in value if condition ...`, once or more.
    pub(super) fn comprehension(&mut self) -> Result<(), Reject> {
        while self.at_comprehension() {
            self.take_keyword("async");
            if !self.take_keyword("for") {
                return Err(Reject);
            }
            self.targets()?;
            self.disjunction()?;
            while self.take_keyword("if") {
                self.disjunction()?;
            }
        }
        Ok(())
    }

    /// What a loop may assign to, up to and with the `in`.
    fn targets(&mut self) -> Result<(), Reject> {
        loop {
            self.take("*");
            let target = self.primary()?;
            if !is_target(&target) {
                return Err(Reject);
            }
            let comma = self.take(",");
            if self.take_keyword("in") {
                return Ok(());
            }
            if !comma {
                return Err(Reject);
            }
        }
    }

    fn yielded(&mut self) -> Result<(), Reject> {
        self.take_keyword("yield");
        if self.take_keyword("from") {
            self.expression()?;
            return Ok(());
        }
        self.items(b')')?;
        Ok(())
    }
}

fn is_target(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::Name(_) | Expr::Attribute(..) | Expr::Subscript(_) => true,
        Expr::Starred(inner) => is_target(inner),
        Expr::Tuple(items) | Expr::List(items) => items.iter().all(is_target),
        _ => false,
    }
}
