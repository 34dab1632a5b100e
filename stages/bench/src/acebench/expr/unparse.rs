//! Source text of a tree, as `ast.unparse` writes it.

use super::print::{push, write_repr};
use super::value::Value;
use super::{BinaryOp, Call, CompareOp, Expr, UnaryOp};

/// Binding strength, loosest first; an operand that binds less tightly than its place asks gets parentheses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
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
    Atom,
}

impl Level {
    fn next(self) -> Self {
        const ALL: [Level; 14] = [
            Level::Test,
            Level::Or,
            Level::And,
            Level::Not,
            Level::Compare,
            Level::BitOr,
            Level::BitXor,
            Level::BitAnd,
            Level::Shift,
            Level::Sum,
            Level::Term,
            Level::Factor,
            Level::Power,
            Level::Atom,
        ];
        ALL[(self as usize + 1).min(ALL.len() - 1)]
    }
}

/// The text of an expression.
pub(crate) fn unparse(expr: &Expr<'_>) -> String {
    let mut out = String::new();
    write(&mut out, expr, Level::Test);
    out
}

/// A subscript's index: a tuple stands without its parentheses.
fn unparse_index(expr: &Expr<'_>) -> String {
    let mut out = String::new();
    match expr {
        Expr::Tuple(items) if !items.is_empty() => {
            list(&mut out, items);
            out.push_str(if items.len() == 1 { "," } else { "" });
        }
        _ => write(&mut out, expr, Level::Test),
    }
    out
}

fn write(out: &mut String, expr: &Expr<'_>, place: Level) {
    let own = level(expr);
    let wrap = own < place;
    out.push_str(if wrap { "(" } else { "" });
    match expr {
        Expr::Const(value) => constant(out, value),
        Expr::Name(name) => out.push_str(name),
        Expr::Other(text) => out.push_str(text),
        Expr::List(items) => enclosed(out, '[', items, "]"),
        Expr::Set(items) => enclosed(out, '{', items, "}"),
        Expr::Tuple(items) => enclosed(out, '(', items, if items.len() == 1 { ",)" } else { ")" }),
        Expr::Dict(entries) => dict(out, entries),
        Expr::Unary(op, operand) => {
            out.push_str(match op {
                UnaryOp::Plus => "+",
                UnaryOp::Minus => "-",
                UnaryOp::Invert => "~",
                UnaryOp::Not => "not ",
            });
            write(out, operand, own);
        }
        Expr::Binary(op, left, right) => {
            // `**` groups to the right, all else to the left.
            let right_first = *op == BinaryOp::Pow;
            write(out, left, if right_first { own.next() } else { own });
            push(out, format_args!(" {} ", symbol(*op)));
            write(
                out,
                right,
                if right_first {
                    Level::Factor
                } else {
                    own.next()
                },
            );
        }
        Expr::Bool(and, operands) => {
            for (i, operand) in operands.iter().enumerate() {
                out.push_str(match (i, and) {
                    (0, _) => "",
                    (_, true) => " and ",
                    (_, false) => " or ",
                });
                write(out, operand, own.next());
            }
        }
        Expr::Compare(first, rest) => {
            write(out, first, own.next());
            for (op, operand) in rest {
                push(out, format_args!(" {} ", compare_symbol(*op)));
                write(out, operand, own.next());
            }
        }
        Expr::If(parts) => {
            write(out, &parts[1], own.next());
            out.push_str(" if ");
            write(out, &parts[0], own.next());
            out.push_str(" else ");
            write(out, &parts[2], own);
        }
        Expr::Call(inner) => call(out, inner),
        Expr::Attribute(base, name) => {
            write(out, base, Level::Atom);
            // `5.real` would be a float.
            out.push_str(if matches!(**base, Expr::Const(Value::Int(_))) {
                " ."
            } else {
                "."
            });
            out.push_str(name);
        }
        Expr::Subscript(parts) => {
            write(out, &parts[0], Level::Atom);
            push(out, format_args!("[{}]", unparse_index(&parts[1])));
        }
        Expr::Slice(bounds) => slice(out, bounds),
        Expr::Starred(inner) => {
            out.push('*');
            write(out, inner, Level::BitOr);
        }
    }
    out.push_str(if wrap { ")" } else { "" });
}

fn level(expr: &Expr<'_>) -> Level {
    match expr {
        Expr::If(_) => Level::Test,
        Expr::Bool(false, _) => Level::Or,
        Expr::Bool(true, _) => Level::And,
        Expr::Unary(UnaryOp::Not, _) => Level::Not,
        Expr::Unary(..) => Level::Factor,
        Expr::Compare(..) => Level::Compare,
        Expr::Binary(op, ..) => match op {
            BinaryOp::Or => Level::BitOr,
            BinaryOp::Xor => Level::BitXor,
            BinaryOp::And => Level::BitAnd,
            BinaryOp::ShiftLeft | BinaryOp::ShiftRight => Level::Shift,
            BinaryOp::Add | BinaryOp::Sub => Level::Sum,
            BinaryOp::Pow => Level::Power,
            _ => Level::Term,
        },
        _ => Level::Atom,
    }
}

fn constant(out: &mut String, value: &Value<'_>) {
    match value {
        Value::Ellipsis => out.push_str("..."),
        // There is no literal for infinity but one that overflows.
        Value::Float(float) if float.is_infinite() => out.push_str("1e309"),
        _ => {
            // A literal of too many digits was refused when it was read.
            if write_repr(out, value).is_err() {
                out.push('0');
            }
        }
    }
}

fn list(out: &mut String, items: &[Expr<'_>]) {
    for (i, item) in items.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        write(out, item, Level::Test);
    }
}

fn enclosed(out: &mut String, open: char, items: &[Expr<'_>], close: &str) {
    out.push(open);
    list(out, items);
    out.push_str(close);
}

fn dict(out: &mut String, entries: &[(Option<Expr<'_>>, Expr<'_>)]) {
    out.push('{');
    for (i, (key, value)) in entries.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        match key {
            Some(key) => {
                write(out, key, Level::Test);
                out.push_str(": ");
                write(out, value, Level::Test);
            }
            None => {
                out.push_str("**");
                write(out, value, Level::BitOr);
            }
        }
    }
    out.push('}');
}

fn call(out: &mut String, call: &Call<'_>) {
    write(out, &call.callee, Level::Atom);
    out.push('(');
    list(out, &call.positional);
    for (i, (name, value)) in call.keywords.iter().enumerate() {
        out.push_str(if i > 0 || !call.positional.is_empty() {
            ", "
        } else {
            ""
        });
        match name {
            Some(name) => push(out, format_args!("{name}=")),
            None => out.push_str("**"),
        }
        write(out, value, Level::Test);
    }
    out.push(')');
}

fn slice(out: &mut String, bounds: &[Option<Expr<'_>>; 3]) {
    let [lower, upper, step] = bounds;
    if let Some(lower) = lower {
        write(out, lower, Level::Test);
    }
    out.push(':');
    if let Some(upper) = upper {
        write(out, upper, Level::Test);
    }
    if let Some(step) = step {
        out.push(':');
        write(out, step, Level::Test);
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
