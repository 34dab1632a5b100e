//! Python literals and call expressions, read as Python's `ast.parse(text, mode="eval")` reads them.
//!
//! Models answer with call lists such as `[f(a=1, b='x')]`, and both benchmarks hand such text to Python's own
//! parser. This module knows the part of the expression grammar that can occur there: literals of every
//! spelling, names, attributes, calls, subscripts and operators. It evaluates nothing. Lambdas, comprehensions,
//! conditional and assignment expressions and formatted strings are reported as
//! [`SyntaxErrorKind::Unsupported`], never misread.

mod lexer;
mod parser;

use num_bigint::BigInt;
use thiserror::Error;

use crate::json::{Map, Value};

/// Deepest nesting of brackets, operators and attributes; CPython stops at 200 brackets as well.
pub const MAX_DEPTH: usize = 200;

/// Why a text is not an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{kind} at byte {offset}")]
pub struct SyntaxError {
    /// Byte offset into the text at which reading stopped.
    pub offset: usize,
    /// What was wrong there.
    pub kind: SyntaxErrorKind,
}

/// The ways in which a text fails to be an expression; the texts are Python's own where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SyntaxErrorKind {
    /// There is no token at all.
    #[error("invalid syntax")]
    Empty,
    /// A token that cannot stand here.
    #[error("invalid syntax")]
    Invalid,
    /// The text ends inside this bracket.
    #[error("'{0}' was never closed")]
    NeverClosed(char),
    /// This closing bracket has no opening one.
    #[error("unmatched '{0}'")]
    Unmatched(char),
    /// A closing bracket of another kind than the opening one.
    #[error("closing parenthesis '{close}' does not match opening parenthesis '{open}'")]
    Mismatched {
        /// The bracket found.
        close: char,
        /// The bracket it should have closed.
        open: char,
    },
    /// The text or the line ends inside a string.
    #[error("unterminated string literal")]
    UnterminatedString,
    /// A backslash escape that cannot be read.
    #[error("invalid escape in a string literal")]
    InvalidEscape,
    /// A number that cannot be read, such as `012` or `1_`.
    #[error("invalid number literal")]
    InvalidNumber,
    /// A character no token starts with.
    #[error("invalid character {0:?}")]
    InvalidCharacter(char),
    /// An integer of more digits than Python converts.
    #[error("Exceeds the limit ({limit} digits) for integer string conversion", limit = crate::json::MAX_DIGITS)]
    TooManyDigits,
    /// Nesting beyond [`MAX_DEPTH`].
    #[error("too many nested parentheses")]
    TooDeep,
    /// `f(a=1, 2)`.
    #[error("positional argument follows keyword argument")]
    PositionalAfterKeyword,
    /// `f(a=1, a=2)`.
    #[error("keyword argument repeated: {0}")]
    RepeatedKeyword(String),
    /// Valid Python that this module does not read.
    #[error("unsupported expression")]
    Unsupported,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// `None`
    None,
    /// `...`
    Ellipsis,
    /// `True` or `False`
    Bool(bool),
    /// An integer that fits in 64 bits.
    Int(i64),
    /// Any other integer.
    BigInt(Box<BigInt>),
    /// A float.
    Float(f64),
    /// An imaginary number, by its imaginary part.
    Imaginary(f64),
    /// A string, escapes resolved and neighbours joined.
    Str(String),
    /// A byte string.
    Bytes(Vec<u8>),
    /// An identifier.
    Name(String),
    /// `value.name`
    Attribute(Box<Self>, String),
    /// `value[index]`
    Subscript(Box<Self>, Box<Self>),
    /// A call.
    Call(Box<Call>),
    /// `[a, b]`
    List(Vec<Self>),
    /// `(a, b)` or `a, b`
    Tuple(Vec<Self>),
    /// `{a, b}`
    Set(Vec<Self>),
    /// `{k: v}`; a missing key is `**v`.
    Dict(Vec<(Option<Self>, Self)>),
    /// `*a` inside a call, list, tuple or set.
    Starred(Box<Self>),
    /// `-a` and the like.
    Unary(UnaryOperator, Box<Self>),
    /// `a + b` and the like, comparisons and `and`/`or` included (one operator a node).
    Binary(BinaryOperator, Box<Self>, Box<Self>),
}

/// A call expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What is called.
    pub function: Expr,
    /// Positional arguments in order; [`Expr::Starred`] for `*a`.
    pub args: Vec<Expr>,
    /// Keyword arguments in order; without a name for `**a`. No name occurs twice.
    pub keywords: Vec<(Option<String>, Expr)>,
}

/// Operators with one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named like Python's ast nodes")]
pub enum UnaryOperator {
    Negative,
    Positive,
    Invert,
    Not,
}

/// Operators with two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named like Python's ast nodes")]
pub enum BinaryOperator {
    Add,
    Subtract,
    Multiply,
    MatrixMultiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
    LeftShift,
    RightShift,
    BitOr,
    BitXor,
    BitAnd,
    And,
    Or,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Is,
    IsNot,
    In,
    NotIn,
}

/// Reads one expression; surrounding white space is allowed, anything else behind it is not.
///
/// # Errors
/// [`SyntaxError`] with the place. Every text is answered in time linear in its length.
pub fn parse(text: &str) -> Result<Expr, SyntaxError> {
    parser::Parser::new(text).expression_only()
}

/// Reads one call, or a list or tuple of calls: `f(a=1)`, `[f(a=1), g()]`, `f(), g()`.
///
/// # Errors
/// [`SyntaxError`]; an expression of another kind is [`SyntaxErrorKind::Invalid`] at its start.
pub fn parse_calls(text: &str) -> Result<Vec<Call>, SyntaxError> {
    let call = |expr| match expr {
        Expr::Call(call) => Ok(*call),
        _ => Err(SyntaxError {
            offset: 0,
            kind: SyntaxErrorKind::Invalid,
        }),
    };
    match parse(text)? {
        Expr::List(items) | Expr::Tuple(items) => items.into_iter().map(call).collect(),
        expr => Ok(vec![call(expr)?]),
    }
}

impl Expr {
    /// A dotted name such as `a.b.c`.
    pub fn dotted_name(&self) -> Option<String> {
        match self {
            Self::Name(name) => Some(name.clone()),
            Self::Attribute(value, name) => Some(format!("{}.{name}", value.dotted_name()?)),
            _ => None,
        }
    }

    /// The value of a literal that JSON can hold, as `ast.literal_eval` would give it: signs are applied, tuples
    /// become lists, keys must be strings.
    pub fn to_value(&self) -> Option<Value> {
        Some(match self {
            Self::None => Value::Null,
            Self::Bool(bool) => Value::Bool(*bool),
            Self::Int(int) => Value::Int(*int),
            Self::BigInt(int) => Value::BigInt(int.clone()),
            Self::Float(float) => Value::Float(*float),
            Self::Str(text) => Value::Str(text.clone()),
            Self::List(items) | Self::Tuple(items) => {
                Value::List(items.iter().map(Self::to_value).collect::<Option<_>>()?)
            }
            Self::Dict(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for (key, value) in entries {
                    let Some(Self::Str(key)) = key else {
                        return None;
                    };
                    map.insert(key.clone(), value.to_value()?);
                }
                Value::Dict(map)
            }
            Self::Unary(UnaryOperator::Negative, operand) => match operand.to_value()? {
                Value::Int(int) => int
                    .checked_neg()
                    .map_or_else(|| Value::BigInt(Box::new(-BigInt::from(int))), Value::Int),
                Value::BigInt(int) => match i64::try_from(-*int.clone()) {
                    Ok(int) => Value::Int(int),
                    Err(_) => Value::BigInt(Box::new(-*int)),
                },
                Value::Float(float) => Value::Float(-float),
                _ => return None,
            },
            Self::Unary(UnaryOperator::Positive, operand) => match operand.to_value()? {
                number @ (Value::Int(_) | Value::BigInt(_) | Value::Float(_)) => number,
                _ => return None,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
