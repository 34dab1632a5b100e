//! Source text of a tree, as `ast.unparse` of Python 3.11 writes it.

pub(super) mod fstring;

use super::value::Value;
use super::value::print::{push, write_repr};
use super::{BinaryOp, Call, CompareOp, Comprehension, Expr, Lambda, Other, Parameter, Shape};
use super::{Reject, UnaryOp};

/// Binding strength, loosest first; an operand that binds less tightly than its place asks gets parentheses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Walrus,
    Tuple,
    Yield,
    Test,
    Or,
    And,
    Not,
    Compare,
    BitOr,
    BitXor,
    BitAnd,
    Shift,
    Sum,
    Term,
    Factor,
    Power,
    Await,
    Atom,
}

impl Level {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Walrus => Self::Tuple,
            Self::Tuple => Self::Yield,
            Self::Yield => Self::Test,
            Self::Test => Self::Or,
            Self::Or => Self::And,
            Self::And => Self::Not,
            Self::Not => Self::Compare,
            Self::Compare => Self::BitOr,
            Self::BitOr => Self::BitXor,
            Self::BitXor => Self::BitAnd,
            Self::BitAnd => Self::Shift,
            Self::Shift => Self::Sum,
            Self::Sum => Self::Term,
            Self::Term => Self::Factor,
            Self::Factor => Self::Power,
            Self::Power => Self::Await,
            Self::Await | Self::Atom => Self::Atom,
        }
    }
}

/// The text of an expression.
///
/// # Errors
/// Where Python gives up: an f-string's field that needs a backslash, an integer of too many digits.
pub(crate) fn unparse(expr: &Expr<'_>) -> Result<String, Reject> {
    let mut writer = Writer {
        out: String::new(),
        avoid_backslashes: false,
    };
    writer.write(expr, Level::Test)?;
    Ok(writer.out)
}

type Written = Result<(), Reject>;

pub(super) struct Writer {
    pub(super) out: String,
    /// Inside an f-string's field texts are quoted so that they need no backslash, where that can be.
    pub(super) avoid_backslashes: bool,
}

impl Writer {
    pub(super) fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    pub(super) fn write(&mut self, expr: &Expr<'_>, place: Level) -> Written {
        let wrap = level(expr) < place;
        self.put(if wrap { "(" } else { "" });
        self.bare(expr)?;
        self.put(if wrap { ")" } else { "" });
        Ok(())
    }

    /// The expression without the parentheses that its place may ask for.
    fn bare(&mut self, expr: &Expr<'_>) -> Written {
        let own = level(expr);
        match expr {
            Expr::Const(value) => self.constant(value),
            Expr::Name(name) => {
                self.put(name);
                Ok(())
            }
            Expr::List(items) => self.enclosed("[", items, "]"),
            Expr::Set(items) => self.enclosed("{", items, "}"),
            Expr::Tuple(items) if items.is_empty() => {
                self.put("()");
                Ok(())
            }
            Expr::Tuple(items) => self.enclosed("", items, if items.len() == 1 { "," } else { "" }),
            Expr::Dict(entries) => self.dict(entries),
            Expr::Unary(op, operand) => {
                self.put(match op {
                    UnaryOp::Plus => "+",
                    UnaryOp::Minus => "-",
                    UnaryOp::Invert => "~",
                    UnaryOp::Not => "not ",
                });
                self.write(operand, own)
            }
            Expr::Binary(op, left, right) => {
                // `**` groups to the right, all else to the left.
                let (before, after) = match op {
                    BinaryOp::Pow => (own.next(), own),
                    _ => (own, own.next()),
                };
                self.write(left, before)?;
                push(&mut self.out, format_args!(" {} ", symbol(*op)));
                self.write(right, after)
            }
            Expr::Bool(and, operands) => {
                // Every operand stands as if it had to bind tighter than the one before it.
                let mut place = own;
                for (i, operand) in operands.iter().enumerate() {
                    self.put(match (i, and) {
                        (0, _) => "",
                        (_, true) => " and ",
                        (_, false) => " or ",
                    });
                    place = place.next();
                    self.write(operand, place)?;
                }
                Ok(())
            }
            Expr::Compare(first, rest) => {
                self.write(first, own.next())?;
                for (op, operand) in rest {
                    push(&mut self.out, format_args!(" {} ", compare_symbol(*op)));
                    self.write(operand, own.next())?;
                }
                Ok(())
            }
            Expr::If(parts) => {
                let [condition, yes, no] = &**parts;
                self.write(yes, own.next())?;
                self.put(" if ");
                self.write(condition, own.next())?;
                self.put(" else ");
                self.write(no, own)
            }
            Expr::Call(call) => self.call(call),
            Expr::Attribute(base, name) => {
                self.write(base, Level::Atom)?;
                // `5.real` would be a float; booleans count as integers.
                let int = Value::Int(0);
                let whole = |value: &Value<'_>| {
                    value.kind() == int.kind() || matches!(value, Value::Bool(_))
                };
                let spaced = base.as_const().is_some_and(whole);
                self.put(if spaced { " ." } else { "." });
                self.put(name);
                Ok(())
            }
            Expr::Subscript(parts) => {
                self.write(&parts[0], Level::Atom)?;
                self.put("[");
                // A tuple needs no parentheses here.
                self.write(
                    &parts[1],
                    match &parts[1] {
                        Expr::Tuple(_) => Level::Tuple,
                        _ => Level::Test,
                    },
                )?;
                self.put("]");
                Ok(())
            }
            Expr::Slice(bounds) => self.slice(bounds),
            Expr::Starred(inner) => {
                self.put("*");
                self.write(inner, Level::BitOr)
            }
            Expr::Other(other) => self.other(other),
        }
    }

    fn other(&mut self, other: &Other<'_>) -> Written {
        match other {
            Other::Marked(text) => {
                self.put("u");
                self.text(text);
                Ok(())
            }
            Other::Format(pieces) => self.format(pieces),
            Other::Lambda(lambda) => self.lambda(lambda),
            Other::Comprehension(comprehension) => self.comprehension(comprehension),
            Other::Walrus(name, value) => {
                push(&mut self.out, format_args!("{name} := "));
                self.write(value, Level::Atom)
            }
            Other::Await(value) => self.prefixed("await ", value),
            Other::Yield(None) => {
                self.put("yield");
                Ok(())
            }
            Other::Yield(Some(value)) => self.prefixed("yield ", value),
            Other::YieldFrom(value) => self.prefixed("yield from ", value),
        }
    }

    fn prefixed(&mut self, prefix: &str, value: &Expr<'_>) -> Written {
        self.put(prefix);
        self.write(value, Level::Atom)
    }

    fn constant(&mut self, value: &Value<'_>) -> Written {
        match value {
            Value::Ellipsis => self.put("..."),
            Value::Str(text) => self.text(text),
            // There is no literal for infinity but one that overflows.
            Value::Float(_) | Value::Complex(..) => {
                let mut printed = String::new();
                write_repr(&mut printed, value).map_err(|_| Reject)?;
                self.put(&printed.replace("inf", "1e309"));
            }
            _ => write_repr(&mut self.out, value).map_err(|_| Reject)?,
        }
        Ok(())
    }

    fn list(&mut self, items: &[Expr<'_>]) -> Written {
        for (i, item) in items.iter().enumerate() {
            self.put(if i > 0 { ", " } else { "" });
            self.write(item, Level::Test)?;
        }
        Ok(())
    }

    fn enclosed(&mut self, open: &str, items: &[Expr<'_>], close: &str) -> Written {
        self.put(open);
        self.list(items)?;
        self.put(close);
        Ok(())
    }

    fn dict(&mut self, entries: &[(Option<Expr<'_>>, Expr<'_>)]) -> Written {
        self.put("{");
        for (i, (key, value)) in entries.iter().enumerate() {
            self.put(if i > 0 { ", " } else { "" });
            match key {
                Some(key) => {
                    self.write(key, Level::Test)?;
                    self.put(": ");
                    self.write(value, Level::Test)?;
                }
                None => {
                    self.put("**");
                    self.write(value, Level::BitOr)?;
                }
            }
        }
        self.put("}");
        Ok(())
    }

    fn call(&mut self, call: &Call<'_>) -> Written {
        self.write(&call.callee, Level::Atom)?;
        self.enclosed("(", &call.positional, "")?;
        for (i, (name, value)) in call.keywords.iter().enumerate() {
            let first = i == 0 && call.positional.is_empty();
            self.put(if first { "" } else { ", " });
            match name {
                Some(name) => push(&mut self.out, format_args!("{name}=")),
                None => self.put("**"),
            }
            self.write(value, Level::Test)?;
        }
        self.put(")");
        Ok(())
    }

    fn slice(&mut self, bounds: &[Option<Expr<'_>>; 3]) -> Written {
        let [lower, upper, step] = bounds;
        self.bound(lower.as_ref())?;
        self.put(":");
        self.bound(upper.as_ref())?;
        self.put(if step.is_some() { ":" } else { "" });
        self.bound(step.as_ref())
    }

    fn bound(&mut self, bound: Option<&Expr<'_>>) -> Written {
        bound.map_or(Ok(()), |bound| self.write(bound, Level::Test))
    }

    fn lambda(&mut self, lambda: &Lambda<'_>) -> Written {
        self.put("lambda");
        let mut separator = " ";
        for (i, parameter) in lambda.positional.iter().enumerate() {
            self.parameter(separator, parameter)?;
            separator = ", ";
            self.put(if i + 1 == lambda.before_slash {
                ", /"
            } else {
                ""
            });
        }
        if lambda.rest.is_some() || !lambda.keyword_only.is_empty() {
            let name = lambda.rest.as_deref().unwrap_or_default();
            push(&mut self.out, format_args!("{separator}*{name}"));
            separator = ", ";
        }
        for parameter in &lambda.keyword_only {
            self.parameter(separator, parameter)?;
        }
        if let Some(name) = &lambda.keywords {
            push(&mut self.out, format_args!("{separator}**{name}"));
        }
        self.put(": ");
        self.write(&lambda.body, Level::Test)
    }

    fn parameter(&mut self, separator: &str, (name, default): &Parameter<'_>) -> Written {
        push(&mut self.out, format_args!("{separator}{name}"));
        if let Some(default) = default {
            self.put("=");
            self.write(default, Level::Test)?;
        }
        Ok(())
    }

    fn comprehension(&mut self, comprehension: &Comprehension<'_>) -> Written {
        let (open, close) = match comprehension.shape {
            Shape::List => ("[", "]"),
            Shape::Set | Shape::Dict => ("{", "}"),
            Shape::Generator => ("(", ")"),
        };
        self.put(open);
        self.write(&comprehension.element, Level::Test)?;
        if let Some(value) = &comprehension.value {
            self.put(": ");
            self.write(value, Level::Test)?;
        }
        for each in &comprehension.loops {
            self.put(if each.is_async {
                " async for "
            } else {
                " for "
            });
            self.write(&each.target, Level::Tuple)?;
            self.put(" in ");
            self.write(&each.iterable, Level::Or)?;
            for condition in &each.conditions {
                self.put(" if ");
                self.write(condition, Level::Or)?;
            }
        }
        self.put(close);
        Ok(())
    }
}

fn level(expr: &Expr<'_>) -> Level {
    match expr {
        Expr::If(_) => Level::Test,
        Expr::Bool(false, _) => Level::Or,
        Expr::Bool(true, _) => Level::And,
        Expr::Unary(UnaryOp::Not, _) => Level::Not,
        Expr::Unary(..) => Level::Factor,
        Expr::Compare(..) => Level::Compare,
        Expr::Tuple(items) if !items.is_empty() => Level::Tuple,
        Expr::Binary(op, ..) => match op {
            BinaryOp::Or => Level::BitOr,
            BinaryOp::Xor => Level::BitXor,
            BinaryOp::And => Level::BitAnd,
            BinaryOp::ShiftLeft | BinaryOp::ShiftRight => Level::Shift,
            BinaryOp::Add | BinaryOp::Sub => Level::Sum,
            BinaryOp::Pow => Level::Power,
            _ => Level::Term,
        },
        Expr::Other(other) => match **other {
            Other::Lambda(_) => Level::Test,
            Other::Walrus(..) => Level::Walrus,
            Other::Await(_) => Level::Await,
            Other::Yield(_) | Other::YieldFrom(_) => Level::Yield,
            Other::Marked(_) | Other::Format(_) | Other::Comprehension(_) => Level::Atom,
        },
        _ => Level::Atom,
    }
}

fn symbol(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Or => "|",
        BinaryOp::Xor => "^",
        BinaryOp::And => "&",
        BinaryOp::ShiftLeft => "<<",
        BinaryOp::ShiftRight => ">>",
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::FloorDiv => "//",
        BinaryOp::Mod => "%",
        BinaryOp::MatMul => "@",
        BinaryOp::Pow => "**",
    }
}

fn compare_symbol(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Equal => "==",
        CompareOp::NotEqual => "!=",
        CompareOp::Less => "<",
        CompareOp::LessEqual => "<=",
        CompareOp::Greater => ">",
        CompareOp::GreaterEqual => ">=",
        CompareOp::In => "in",
        CompareOp::NotIn => "not in",
        CompareOp::Is => "is",
        CompareOp::IsNot => "is not",
    }
}
