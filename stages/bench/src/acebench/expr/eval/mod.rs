//! What Python's `eval` gives for an expression.
//!
//! There are no names here but those that the expression itself binds, and `__debug__`; calls and attributes have no
//! value at all. Python would find its builtins (`type`, `print`, `len('a')`, `'a'.upper()`, `(1).real`) and the
//! evaluator's own variables, which is the one known difference. What could take forever or fill the memory is refused
//! as well (integers beyond 2^18 bits, widths beyond 2^16, texts and lists beyond the budget), and so are loops of a
//! comprehension that assign to an item. A function or generator has a value of which only the kind is known; a set
//! of texts is walked in the order in which it was written, which in Python differs from process to process.

pub(super) mod budget;
pub(super) mod compile;
pub(super) mod format;
pub(super) mod format_spec;
pub(super) mod fstring;
pub(super) mod loops;
pub(super) mod ops;
pub(super) mod scope;

use super::value::index::{bound, item, slice};
use super::value::order::holds;
use super::value::set::{build_set, walking_order};
use super::value::{Dict, Value, build_dict, truthy};
use super::{Expr, Lambda, Other, Reject, UnaryOp, parse, unparse};
use budget::Budget;
use scope::Scope;

/// Trees higher than this have no value: Python prints the tree before it evaluates it, and gives up.
const MAX_HEIGHT: u32 = 320;

/// What the budget pays for a step of a loop, which takes the time of some bytes.
pub(super) const STEP: u64 = 64;

pub(super) type Evaluated<'a> = Result<Value<'a>, Reject>;

/// Evaluates; anything without a value (an unknown name, a call, a type error, a division by zero) is an error.
pub(crate) fn eval<'a>(expr: &Expr<'a>, budget: &mut Budget) -> Evaluated<'a> {
    if !compile::check(expr)?.has_format {
        return Evaluator::new(budget).value(expr);
    }
    // The evaluator prints the tree and evaluates the text; an f-string may not survive that.
    let text = unparse(expr)?;
    let again = parse(&text)?;
    compile::check(&again)?;
    let value = Evaluator::new(budget).value(&again)?;
    Ok(value.into_owned())
}

pub(super) struct Evaluator<'b, 'a> {
    pub(super) budget: &'b mut Budget,
    pub(super) scope: Scope<'a>,
    height: u32,
}

impl<'b, 'a> Evaluator<'b, 'a> {
    fn new(budget: &'b mut Budget) -> Self {
        Self {
            budget,
            scope: Scope::default(),
            height: 0,
        }
    }

    pub(super) fn value(&mut self, expr: &Expr<'a>) -> Evaluated<'a> {
        if self.height > MAX_HEIGHT {
            return Err(Reject);
        }
        self.height += 1;
        let value = self.value_here(expr)?;
        self.height -= 1;
        if self.scope.repeats() {
            // What is written once may be built any number of times.
            self.budget.spend(STEP + ops::size(&value))?;
        }
        Ok(value)
    }

    fn value_here(&mut self, expr: &Expr<'a>) -> Evaluated<'a> {
        match expr {
            Expr::Const(value) => Ok(value.clone()),
            Expr::Name(name) => self.name(name),
            Expr::List(items) => Ok(Value::List(self.items(items)?)),
            Expr::Tuple(items) => Ok(Value::Tuple(self.items(items)?)),
            Expr::Set(items) => self.set(items),
            Expr::Dict(entries) => self.dict(entries),
            Expr::Unary(op, operand) => ops::unary(*op, &self.value(operand)?),
            Expr::Binary(op, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                ops::binary(*op, &left, &right, self.budget)
            }
            Expr::Bool(and, operands) => {
                let mut last = Value::None;
                for operand in operands {
                    last = self.value(operand)?;
                    if truthy(&last) != *and {
                        break;
                    }
                }
                Ok(last)
            }
            Expr::If(parts) => {
                let [condition, yes, no] = &**parts;
                // Python compiles the other branch; it would fail only by running.
                match truthy(&self.value(condition)?) {
                    true => self.value(yes),
                    false => self.value(no),
                }
            }
            Expr::Compare(first, rest) => {
                let mut left = self.value(first)?;
                for (op, right) in rest {
                    let right = self.value(right)?;
                    if !holds(*op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::Subscript(parts) => self.subscript(&parts[0], &parts[1]),
            Expr::Other(other) => self.other(other),
            Expr::Call(_) | Expr::Attribute(..) | Expr::Slice(_) | Expr::Starred(_) => Err(Reject),
        }
    }

    fn other(&mut self, other: &Other<'a>) -> Evaluated<'a> {
        match other {
            Other::Marked(text) => Ok(Value::Str(text.clone())),
            Other::Format(pieces) => self.format(pieces),
            Other::Lambda(lambda) => self.lambda(lambda),
            Other::Comprehension(comprehension) => self.comprehension(comprehension),
            Other::Walrus(name, value) => {
                let value = self.value(value)?;
                self.scope.assign(name.clone(), value.clone());
                Ok(value)
            }
            Other::Await(_) | Other::Yield(_) | Other::YieldFrom(_) => Err(Reject),
        }
    }

    fn name(&mut self, name: &str) -> Evaluated<'a> {
        match self.scope.get(name) {
            Some(value) => {
                self.budget.spend(ops::size(value))?;
                Ok(value.clone())
            }
            // A constant of the compiler.
            None if name == "__debug__" => Ok(Value::Bool(true)),
            None => Err(Reject),
        }
    }

    /// Only a lambda's defaults are evaluated before it is called.
    fn lambda(&mut self, lambda: &Lambda<'a>) -> Evaluated<'a> {
        for (_, default) in lambda.positional.iter().chain(&lambda.keyword_only) {
            if let Some(default) = default {
                self.value(default)?;
            }
        }
        Ok(Value::Opaque("<function <lambda> at 0x7f0000000000>"))
    }

    fn items(&mut self, items: &[Expr<'a>]) -> Result<Vec<Value<'a>>, Reject> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Expr::Starred(inner) => {
                    let inner = self.value(inner)?;
                    values.append(&mut self.iterated(inner)?);
                }
                item => values.push(self.value(item)?),
            }
        }
        Ok(values)
    }

    /// What walking a value gives.
    pub(super) fn iterated(&mut self, value: Value<'a>) -> Result<Vec<Value<'a>>, Reject> {
        self.budget.spend(2 * ops::size(&value))?;
        Ok(match value {
            Value::List(items) | Value::Tuple(items) => items,
            Value::Set(items) => walking_order(&items).into_iter().cloned().collect(),
            Value::Dict(entries) => entries.into_iter().map(|(key, _)| key).collect(),
            Value::Bytes(bytes) => bytes
                .into_iter()
                .map(|b| Value::Int(i64::from(b)))
                .collect(),
            Value::Str(text) => {
                self.budget.spend(STEP * text.len() as u64)?;
                let chars = text.chars().map(|c| Value::Str(c.to_string().into()));
                chars.collect()
            }
            _ => return Err(Reject),
        })
    }

    fn set(&mut self, items: &[Expr<'a>]) -> Evaluated<'a> {
        let values = self.items(items)?;
        let constant = |item: &Expr<'_>| match item {
            Expr::Unary(_, operand) => operand.as_const().is_some(),
            item => item.as_const().is_some(),
        };
        if items.len() >= 3 && items.iter().all(constant) {
            // The compiler makes a frozen set first, which is then walked.
            let frozen = walking_order(&values);
            return build_set(frozen.into_iter().cloned());
        }
        build_set(values.into_iter())
    }

    fn dict(&mut self, entries: &[(Option<Expr<'a>>, Expr<'a>)]) -> Evaluated<'a> {
        let mut built: Dict<'a> = Vec::new();
        for (key, value) in entries {
            match key {
                Some(key) => {
                    let key = self.value(key)?;
                    built.push((key, self.value(value)?));
                }
                None => match self.value(value)? {
                    Value::Dict(inner) => built.extend(inner),
                    _ => return Err(Reject),
                },
            }
        }
        build_dict(built.into_iter()).map(Value::Dict).ok_or(Reject)
    }

    fn subscript(&mut self, value: &Expr<'a>, index: &Expr<'a>) -> Evaluated<'a> {
        let value = self.value(value)?;
        let Expr::Slice(bounds) = index else {
            return item(&value, &self.value(index)?);
        };
        let mut indices = [None, None, None];
        for (slot, expr) in indices.iter_mut().zip(&**bounds) {
            if let Some(expr) = expr {
                *slot = bound(&self.value(expr)?)?;
            }
        }
        slice(&value, indices)
    }
}

/// The negative of a number or boolean literal, which is what every unary operator gives in a call's
/// arguments.
pub(crate) fn negate<'a>(operand: &Value<'a>) -> Evaluated<'a> {
    ops::unary(UnaryOp::Minus, operand)
}
