//! From a syntax tree to calls with argument values.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::expr::{
    Budget, Call, Expr, Reject, UnaryOp, Value, build_dict, eval, negate, parse, unparse,
};

/// Up to this many keyword arguments, repeated names are looked for one by one.
const FEW: usize = 32;

/// A call as the checker sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CallValue<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) arguments: Arguments<'a>,
}

/// Keyword arguments in order of first mention, no name twice; a missing name stands for `**value`.
pub(crate) type Arguments<'a> = Vec<(Option<Cow<'a, str>>, Value<'a>)>;

/// What a call among the values becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NestedCalls {
    /// A one-entry map from its name to its arguments.
    Map,
    /// The same, but its source text when it has no keyword arguments.
    MapOrText,
}

/// Reads a prepared text as a list, tuple or set of calls, by way of a syntax tree.
pub(crate) fn parse_calls(text: &str) -> Result<Vec<CallValue<'_>>, Reject> {
    let (Expr::List(items) | Expr::Tuple(items) | Expr::Set(items)) = parse(text)? else {
        return Err(Reject);
    };
    let mut resolver = Resolver::new(NestedCalls::Map);
    items.into_iter().map(|item| resolver.call(item)).collect()
}

/// Turns trees into values, within one budget.
pub(crate) struct Resolver {
    nested: NestedCalls,
    pub(crate) budget: Budget,
}

impl Resolver {
    pub(crate) fn new(nested: NestedCalls) -> Self {
        Self {
            nested,
            budget: Budget::default(),
        }
    }

    pub(crate) fn call<'a>(&mut self, expr: Expr<'a>) -> Result<CallValue<'a>, Reject> {
        let Expr::Call(call) = expr else {
            return Err(Reject);
        };
        let Call {
            callee, keywords, ..
        } = *call;
        Ok(CallValue {
            name: callee.dotted_name(),
            arguments: self.arguments(keywords)?,
        })
    }

    fn arguments<'a>(
        &mut self,
        keywords: Vec<(Option<Cow<'a, str>>, Expr<'a>)>,
    ) -> Result<Arguments<'a>, Reject> {
        let mut arguments: Arguments<'a> = Vec::with_capacity(keywords.len());
        if keywords.len() <= FEW {
            for (name, expr) in keywords {
                let value = self.value(expr)?;
                match arguments.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, known)) => *known = value,
                    None => arguments.push((name, value)),
                }
            }
            return Ok(arguments);
        }
        let mut places: BTreeMap<Option<Cow<'a, str>>, usize> = BTreeMap::new();
        for (name, expr) in keywords {
            let value = self.value(expr)?;
            match places.get(&name) {
                Some(&place) => arguments[place].1 = value,
                None => {
                    places.insert(name.clone(), arguments.len());
                    arguments.push((name, value));
                }
            }
        }
        Ok(arguments)
    }

    fn values<'a>(&mut self, exprs: Vec<Expr<'a>>) -> Result<Vec<Value<'a>>, Reject> {
        exprs.into_iter().map(|expr| self.value(expr)).collect()
    }

    pub(crate) fn value<'a>(&mut self, expr: Expr<'a>) -> Result<Value<'a>, Reject> {
        Ok(match expr {
            Expr::Const(Value::Ellipsis) => Value::text("..."),
            Expr::Const(value) => value,
            Expr::Name(name) => Value::Str(name),
            Expr::List(items) => Value::List(self.values(items)?),
            Expr::Tuple(items) => Value::Tuple(self.values(items)?),
            Expr::Dict(entries) => self.dict(entries)?,
            // Whatever the operator, the evaluator negates.
            Expr::Unary(
                UnaryOp::Plus | UnaryOp::Minus | UnaryOp::Invert | UnaryOp::Not,
                operand,
            ) => negate(operand.as_const().ok_or(Reject)?)?,
            Expr::Binary(..) => eval(&expr, &mut self.budget)?,
            Expr::Call(call) => self.nested_call(*call)?,
            Expr::Subscript(parts) => {
                // Each part is printed by itself: a tuple has its brackets here, but not within a larger text.
                let text = format!("{}[{}]", unparse(&parts[0])?, unparse(&parts[1])?);
                Value::Str(Cow::Owned(text))
            }
            Expr::Other(other) => Value::Str(other.into_text()?),
            Expr::Set(_)
            | Expr::Bool(..)
            | Expr::Compare(..)
            | Expr::If(_)
            | Expr::Attribute(..)
            | Expr::Slice(_)
            | Expr::Starred(_) => return Err(Reject),
        })
    }

    fn dict<'a>(
        &mut self,
        entries: Vec<(Option<Expr<'a>>, Expr<'a>)>,
    ) -> Result<Value<'a>, Reject> {
        let mut pairs = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            pairs.push((self.value(key.ok_or(Reject)?)?, self.value(value)?));
        }
        build_dict(pairs.into_iter()).map(Value::Dict).ok_or(Reject)
    }

    fn nested_call<'a>(&mut self, call: Call<'a>) -> Result<Value<'a>, Reject> {
        if self.nested == NestedCalls::MapOrText && call.keywords.is_empty() {
            return Ok(Value::Str(Cow::Owned(unparse(&Expr::Call(Box::new(
                call,
            )))?)));
        }
        let call = self.call(Expr::Call(Box::new(call)))?;
        let arguments = call.arguments.into_iter();
        let arguments =
            arguments.map(|(name, value)| (name.map_or(Value::None, Value::Str), value));
        let arguments = Value::Dict(arguments.collect());
        Ok(Value::Dict(vec![(Value::Str(call.name), arguments)]))
    }
}
