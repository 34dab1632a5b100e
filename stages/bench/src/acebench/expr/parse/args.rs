//! What may follow a primary expression: attributes, calls, subscripts.

use super::super::{Call, Expr, Reject, Shape};
use super::{Parsed, Parser};

impl<'a> Parser<'a> {
    pub(in super::super) fn primary(&mut self) -> Parsed<'a> {
        let mut expr = self.atom()?;
        loop {
            self.skip();
            let below = self.height;
            expr = match self.byte(0) {
                Some(b'.') => {
                    self.pos += 1;
                    Expr::Attribute(Box::new(expr), self.name()?)
                }
                Some(b'(') => self.call(expr)?,
                Some(b'[') => self.subscript(expr)?,
                _ => return Ok(expr),
            };
            self.raise(below)?;
        }
    }

    /// Arguments: first positional and `*starred` ones, then keywords mixed with `*starred`, and after
    /// the first `**` only keywords and `**`.
    fn call(&mut self, callee: Expr<'a>) -> Parsed<'a> {
        let mut call = Call {
            callee,
            positional: Vec::new(),
            keywords: Vec::new(),
        };
        let mut height = self.height;
        let mut doubled = false;
        self.open()?;
        while !self.at(b')') {
            if self.take("**") {
                doubled = true;
                call.keywords.push((None, self.expression()?));
            } else if self.take("*") {
                if doubled {
                    return Err(Reject);
                }
                call.positional
                    .push(Expr::Starred(Box::new(self.expression()?)));
            } else if let Some(name) = self.keyword_name() {
                call.keywords.push((Some(name), self.expression()?));
            } else {
                if !call.keywords.is_empty() {
                    return Err(Reject);
                }
                let bare = self.bare_argument(call.positional.is_empty())?;
                call.positional.push(bare);
            }
            height = height.max(self.height);
            if !self.take(",") {
                break;
            }
        }
        self.close(b')')?;
        self.height = height;
        Ok(Expr::Call(Box::new(call)))
    }

    /// Takes `name =` when it comes next.
    fn keyword_name(&mut self) -> Option<std::borrow::Cow<'a, str>> {
        self.skip();
        let start = self.pos;
        if let Ok(name) = self.name() {
            self.skip();
            if self.byte(0) == Some(b'=') && self.byte(1) != Some(b'=') {
                self.pos += 1;
                return Some(name);
            }
        }
        self.pos = start;
        None
    }

    /// A positional argument; a lone one may be a comprehension without parentheses of its own.
    fn bare_argument(&mut self, first: bool) -> Parsed<'a> {
        let value = self.named_expression()?;
        if !first || !self.at_comprehension() {
            return Ok(value);
        }
        let generator = self.comprehension(Shape::Generator, value, None)?;
        if self.at(b')') {
            Ok(generator)
        } else {
            Err(Reject)
        }
    }

    fn subscript(&mut self, value: Expr<'a>) -> Parsed<'a> {
        let mut height = self.height;
        self.open()?;
        let mut items = Vec::new();
        let mut comma = false;
        while !self.at(b']') {
            items.push(self.slice()?);
            height = height.max(self.height);
            comma = self.take(",");
            if !comma {
                break;
            }
        }
        self.close(b']')?;
        self.height = height;
        let lone = items.len() == 1 && !comma && !matches!(items[0], Expr::Starred(_));
        let index = match items.pop() {
            None => return Err(Reject),
            Some(item) if lone => item,
            Some(item) => {
                items.push(item);
                Expr::Tuple(items)
            }
        };
        Ok(Expr::Subscript(Box::new([value, index])))
    }

    fn slice(&mut self) -> Parsed<'a> {
        if self.take("*") {
            return Ok(Expr::Starred(Box::new(self.expression()?)));
        }
        let mut parts = [None, None, None];
        let mut height = 0;
        if !self.at(b':') {
            let first = self.named_expression()?;
            if !self.at(b':') {
                return Ok(first);
            }
            height = self.height;
            parts[0] = Some(first);
        }
        for part in &mut parts[1..] {
            if !self.take(":") {
                break;
            }
            self.skip();
            if !matches!(self.byte(0), Some(b':' | b',' | b']')) {
                *part = Some(self.expression()?);
                height = height.max(self.height);
            }
        }
        self.height = height;
        Ok(Expr::Slice(Box::new(parts)))
    }
}
