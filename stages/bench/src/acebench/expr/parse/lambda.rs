//! Lambdas.

use super::super::{Expr, Lambda, Other, Reject};
use super::{Parsed, Parser};

impl<'a> Parser<'a> {
    /// `lambda a, b=1, /, *c, d, **e: body`. The order of parameters is checked as far as defaults and
    /// stars go.
    pub(in super::super) fn lambda(&mut self) -> Parsed<'a> {
        self.take_keyword("lambda");
        let mut lambda = Lambda {
            positional: Vec::new(),
            before_slash: 0,
            rest: None,
            keyword_only: Vec::new(),
            keywords: None,
            body: Expr::List(Vec::new()),
        };
        let (mut defaults, mut starred, mut height) = (false, false, 0);
        while !self.at(b':') {
            if self.take("**") {
                lambda.keywords = Some(self.name()?);
                self.take(",");
                break;
            } else if self.take("*") {
                if std::mem::replace(&mut starred, true) {
                    return Err(Reject);
                }
                if self.take(",") {
                    // A bare star needs a name after it.
                    if self.at(b':') || self.at(b'*') {
                        return Err(Reject);
                    }
                    continue;
                }
                lambda.rest = Some(self.name()?);
            } else if self.take("/") {
                if lambda.positional.is_empty() || starred || lambda.before_slash > 0 {
                    return Err(Reject);
                }
                lambda.before_slash = lambda.positional.len();
            } else {
                let name = self.name()?;
                let mut default = None;
                if self.take("=") {
                    default = Some(self.expression()?);
                    height = height.max(self.height);
                    defaults = true;
                } else if defaults && !starred {
                    return Err(Reject);
                }
                let group = match starred {
                    true => &mut lambda.keyword_only,
                    false => &mut lambda.positional,
                };
                group.push((name, default));
            }
            if !self.take(",") {
                break;
            }
        }
        self.expect(":")?;
        lambda.body = self.expression()?;
        self.raise(height)?;
        Ok(Expr::other(Other::Lambda(lambda)))
    }
}
