//! What Python's compiler refuses although its parser does not, wherever in the expression it stands.

use std::borrow::Cow;

use super::super::value::Value;
use super::super::value::print::MAX_DIGITS;
use super::super::{Call, Comprehension, Expr, Lambda, Other, Piece, Reject};

type Checked = Result<(), Reject>;

/// What a checked expression holds.
#[derive(Default)]
pub(in super::super) struct Compiled {
    pub(in super::super) has_format: bool,
}

/// Checks a whole tree.
pub(in super::super) fn check(expr: &Expr<'_>) -> Result<Compiled, Reject> {
    let mut checker = Checker::default();
    checker.check(expr)?;
    Ok(checker.compiled)
}

#[derive(Default)]
struct Checker<'e> {
    compiled: Compiled,
    /// Inside a lambda's body, but in no comprehension of it.
    may_yield: bool,
    /// Names that the comprehensions around loop over.
    targets: Vec<&'e str>,
    /// Inside what a comprehension loops over.
    in_iterable: bool,
    /// Inside an item or attribute that a comprehension assigns to: its names count as looped over.
    in_target: bool,
}

impl<'e> Checker<'e> {
    fn check(&mut self, expr: &'e Expr<'_>) -> Checked {
        match expr {
            Expr::Const(Value::BigInt(int)) => {
                // Printing the tree prints the number.
                let long = int.bits() > MAX_DIGITS * 3 && int.to_string().len() as u64 > MAX_DIGITS;
                (!long).then_some(()).ok_or(Reject)
            }
            Expr::Name(name) => {
                if self.in_target {
                    self.targets.push(name);
                }
                Ok(())
            }
            Expr::Const(_) => Ok(()),
            Expr::List(items) | Expr::Tuple(items) | Expr::Set(items) | Expr::Bool(_, items) => {
                items.iter().try_for_each(|item| self.check(item))
            }
            Expr::Dict(entries) => entries.iter().try_for_each(|(key, value)| {
                key.iter().try_for_each(|key| self.check(key))?;
                self.check(value)
            }),
            Expr::Unary(_, inner) | Expr::Attribute(inner, _) | Expr::Starred(inner) => {
                self.check(inner)
            }
            Expr::Binary(_, left, right) => {
                self.check(left)?;
                self.check(right)
            }
            Expr::Compare(first, rest) => {
                self.check(first)?;
                rest.iter().try_for_each(|(_, operand)| self.check(operand))
            }
            Expr::If(parts) => parts.iter().try_for_each(|part| self.check(part)),
            Expr::Subscript(parts) => parts.iter().try_for_each(|part| self.check(part)),
            Expr::Slice(bounds) => bounds
                .iter()
                .flatten()
                .try_for_each(|part| self.check(part)),
            Expr::Call(call) => self.call(call),
            Expr::Other(other) => self.other(other),
        }
    }

    fn call(&mut self, call: &'e Call<'_>) -> Checked {
        self.check(&call.callee)?;
        call.positional
            .iter()
            .try_for_each(|item| self.check(item))?;
        let names = call.keywords.iter().filter_map(|(name, _)| name.as_ref());
        distinct(names)?;
        call.keywords
            .iter()
            .try_for_each(|(_, value)| self.check(value))
    }

    fn other(&mut self, other: &'e Other<'_>) -> Checked {
        match other {
            Other::Marked(_) => Ok(()),
            Other::Format(pieces) => {
                self.compiled.has_format = true;
                self.pieces(pieces)
            }
            Other::Lambda(lambda) => self.lambda(lambda),
            Other::Comprehension(comprehension) => self.comprehension(comprehension),
            Other::Walrus(name, value) => {
                if self.in_iterable || self.targets.contains(&&**name) {
                    return Err(Reject);
                }
                assignable(name)?;
                self.check(value)
            }
            Other::Yield(Some(Expr::Starred(_))) => Err(Reject),
            Other::Yield(_) | Other::YieldFrom(_) if !self.may_yield => Err(Reject),
            Other::Yield(None) => Ok(()),
            Other::Yield(Some(value)) | Other::YieldFrom(value) => self.check(value),
            // Only in functions that no expression can define.
            Other::Await(_) => Err(Reject),
        }
    }

    fn pieces(&mut self, pieces: &'e [Piece<'_>]) -> Checked {
        pieces.iter().try_for_each(|piece| match piece {
            Piece::Text(_) => Ok(()),
            Piece::Field(field) => {
                self.check(&field.value)?;
                self.pieces(field.spec.as_deref().unwrap_or_default())
            }
        })
    }

    fn lambda(&mut self, lambda: &'e Lambda<'_>) -> Checked {
        let parameters = || lambda.positional.iter().chain(&lambda.keyword_only);
        let names = parameters().map(|(name, _)| name);
        distinct(names.chain(&lambda.rest).chain(&lambda.keywords))?;
        for (_, default) in parameters() {
            default.iter().try_for_each(|default| self.check(default))?;
        }
        let outside = std::mem::take(&mut self.targets);
        let could = std::mem::replace(&mut self.may_yield, true);
        self.check(&lambda.body)?;
        self.may_yield = could;
        self.targets = outside;
        Ok(())
    }

    fn comprehension(&mut self, comprehension: &'e Comprehension<'_>) -> Checked {
        let is_async = comprehension.loops.iter().any(|each| each.is_async);
        if is_async && comprehension.shape != super::super::Shape::Generator {
            return Err(Reject);
        }
        let (own, could) = (self.targets.len(), self.may_yield);
        for (i, each) in comprehension.loops.iter().enumerate() {
            // The first is evaluated outside of the comprehension.
            let outside = std::mem::replace(&mut self.in_iterable, true);
            self.check(&each.iterable)?;
            self.in_iterable = outside;
            if i == 0 {
                self.may_yield = false;
            }
            if matches!(each.target, Expr::Starred(_)) {
                return Err(Reject);
            }
            self.target(&each.target)?;
        }
        let conditions = comprehension.loops.iter().flat_map(|each| &each.conditions);
        for part in conditions
            .chain([&comprehension.element])
            .chain(&comprehension.value)
        {
            self.check(part)?;
        }
        self.targets.truncate(own);
        self.may_yield = could;
        Ok(())
    }

    fn target(&mut self, target: &'e Expr<'_>) -> Checked {
        match target {
            Expr::Name(name) => {
                assignable(name)?;
                self.targets.push(name);
                Ok(())
            }
            Expr::Tuple(items) | Expr::List(items) => {
                let starred = items.iter().filter(|item| matches!(item, Expr::Starred(_)));
                if starred.count() > 1 {
                    return Err(Reject);
                }
                items.iter().try_for_each(|item| self.target(item))
            }
            Expr::Starred(inner) => self.target(inner),
            other => {
                let outside = std::mem::replace(&mut self.in_target, true);
                self.check(other)?;
                self.in_target = outside;
                Ok(())
            }
        }
    }
}

fn assignable(name: &str) -> Checked {
    (name != "__debug__").then_some(()).ok_or(Reject)
}

/// Names that may be given a value, none of them twice.
fn distinct<'n>(names: impl Iterator<Item = &'n Cow<'n, str>>) -> Checked {
    let mut known: Vec<&str> = names.map(AsRef::as_ref).collect();
    known.iter().try_for_each(|name| assignable(name))?;
    known.sort_unstable();
    let twice = known.windows(2).any(|pair| pair[0] == pair[1]);
    (!twice).then_some(()).ok_or(Reject)
}
