//! Comprehensions and generator expressions.

use super::super::{Comprehension, Expr, Loop, Other, Reject, Shape};
use super::{Parsed, Parser};

impl<'a> Parser<'a> {
    pub(in super::super) fn at_comprehension(&mut self) -> bool {
        self.skip();
        matches!(self.byte(0), Some(b'f' | b'a')) && matches!(self.word(), "for" | "async")
    }

    /// The loops after an element, and the closing bracket.
    pub(in super::super) fn finish_comprehension(
        &mut self,
        shape: Shape,
        element: Expr<'a>,
        value: Option<Expr<'a>>,
        end: u8,
    ) -> Parsed<'a> {
        let comprehension = self.comprehension(shape, element, value)?;
        self.close(end)?;
        Ok(comprehension)
    }

    /// `for targets in value if condition ...`, once or more, after an element.
    pub(in super::super) fn comprehension(
        &mut self,
        shape: Shape,
        element: Expr<'a>,
        value: Option<Expr<'a>>,
    ) -> Parsed<'a> {
        let mut height = self.height;
        let mut loops = Vec::new();
        while self.at_comprehension() {
            let is_async = self.take_keyword("async");
            if !self.take_keyword("for") {
                return Err(Reject);
            }
            let target = self.targets()?;
            height = height.max(self.height);
            let iterable = self.disjunction()?;
            height = height.max(self.height);
            let mut conditions = Vec::new();
            while self.take_keyword("if") {
                conditions.push(self.disjunction()?);
                height = height.max(self.height);
            }
            loops.push(Loop {
                is_async,
                target,
                iterable,
                conditions,
            });
        }
        self.raise(height)?;
        Ok(Expr::other(Other::Comprehension(Comprehension {
            shape,
            element,
            value,
            loops,
        })))
    }

    /// What a loop assigns to, up to and with the `in`.
    fn targets(&mut self) -> Parsed<'a> {
        let mut targets = Vec::new();
        let mut height = 0;
        loop {
            let starred = self.take("*");
            let target = self.primary()?;
            if !is_target(&target) {
                return Err(Reject);
            }
            height = height.max(self.height + u32::from(starred));
            targets.push(match starred {
                true => Expr::Starred(Box::new(target)),
                false => target,
            });
            let comma = self.take(",");
            if !self.take_keyword("in") {
                match comma {
                    true => continue,
                    false => return Err(Reject),
                }
            }
            self.height = height;
            return match <[Expr<'a>; 1]>::try_from(targets) {
                // `*a` alone is syntax, though nothing can run it.
                Ok([target]) if !comma => Ok(target),
                Ok([target]) => Ok(Expr::Tuple(vec![target])),
                Err(targets) => Ok(Expr::Tuple(targets)),
            };
        }
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
