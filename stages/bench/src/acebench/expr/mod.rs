//! One Python expression: its syntax, its constants and what Python would compute from them.
//!
//! Model outputs are call lists written as Python. The official evaluator hands them to Python's parser
//! and, for arithmetic, to Python's `eval`; this module does the same without being able to run anything:
//! names and calls have no value here, powers and repetitions are bounded, nesting is bounded.

mod eval;
mod parse;
#[cfg(test)]
mod python_values;
mod unparse;
mod value;

use std::borrow::Cow;

pub(crate) use eval::budget::Budget;
pub(crate) use eval::ops::binary as arithmetic;
pub(crate) use eval::{eval, negate};
pub(crate) use parse::{Parser, is_keyword, parse};
pub(crate) use unparse::unparse;
pub(crate) use value::print::{write_repr, write_str};
pub(crate) use value::{Kind, Value, build_dict, compare, equal, join_surrogates, lookup, truthy};

/// The text is not a Python expression, or has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reject;

/// A syntax tree, as far as the evaluator looks at it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr<'a> {
    Const(Value<'a>),
    Name(Cow<'a, str>),
    List(Vec<Self>),
    Tuple(Vec<Self>),
    Set(Vec<Self>),
    /// Entries; a missing key is `**value`.
    Dict(Vec<(Option<Self>, Self)>),
    Unary(UnaryOp, Box<Self>),
    Binary(BinaryOp, Box<Self>, Box<Self>),
    /// `and` (true) or `or` over two or more operands.
    Bool(bool, Vec<Self>),
    Compare(Box<Self>, Vec<(CompareOp, Self)>),
    /// Condition, value when true, value when false.
    If(Box<[Self; 3]>),
    Call(Box<Call<'a>>),
    Attribute(Box<Self>, Cow<'a, str>),
    Subscript(Box<[Self; 2]>),
    /// Lower, upper, step; only inside a subscript.
    Slice(Box<[Option<Self>; 3]>),
    Starred(Box<Self>),
    /// What has a value only inside an operator, or none.
    Other(Box<Other<'a>>),
}

/// The rarer forms of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Other<'a> {
    /// A text literal with the prefix `u`, which printed source keeps.
    Marked(Cow<'a, str>),
    Format(Vec<Piece<'a>>),
    Lambda(Lambda<'a>),
    Comprehension(Comprehension<'a>),
    /// `name := value`.
    Walrus(Cow<'a, str>, Expr<'a>),
    Await(Expr<'a>),
    Yield(Option<Expr<'a>>),
    YieldFrom(Expr<'a>),
}

/// A part of an f-string.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece<'a> {
    /// Escapes resolved, doubled braces halved.
    Text(Cow<'a, str>),
    Field(Field<'a>),
}

/// `{value!conversion:spec}`; the text of `{value=}` is a piece before it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field<'a> {
    pub(crate) value: Expr<'a>,
    /// `r`, `s` or `a`.
    pub(crate) conversion: Option<char>,
    pub(crate) spec: Option<Vec<Piece<'a>>>,
}

/// Parameters in groups, a missing default where there is none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lambda<'a> {
    pub(crate) positional: Vec<Parameter<'a>>,
    /// How many of the positional ones stand before a `/`.
    pub(crate) before_slash: usize,
    /// `*name`.
    pub(crate) rest: Option<Cow<'a, str>>,
    pub(crate) keyword_only: Vec<Parameter<'a>>,
    /// `**name`.
    pub(crate) keywords: Option<Cow<'a, str>>,
    pub(crate) body: Expr<'a>,
}

pub(crate) type Parameter<'a> = (Cow<'a, str>, Option<Expr<'a>>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comprehension<'a> {
    pub(crate) shape: Shape,
    /// The element, or the key of a dict.
    pub(crate) element: Expr<'a>,
    /// The value of a dict's entry.
    pub(crate) value: Option<Expr<'a>>,
    pub(crate) loops: Vec<Loop<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    List,
    Set,
    Dict,
    Generator,
}

/// `for target in iterable if condition ...`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loop<'a> {
    pub(crate) is_async: bool,
    pub(crate) target: Expr<'a>,
    pub(crate) iterable: Expr<'a>,
    pub(crate) conditions: Vec<Expr<'a>>,
}

/// A call and its arguments in written order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call<'a> {
    pub(crate) callee: Expr<'a>,
    /// Positional and starred arguments.
    pub(crate) positional: Vec<Expr<'a>>,
    /// Keyword arguments; a missing name is `**value`.
    pub(crate) keywords: Vec<(Option<Cow<'a, str>>, Expr<'a>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnaryOp {
    Plus,
    Minus,
    Invert,
    Not,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Or,
    Xor,
    And,
    ShiftLeft,
    ShiftRight,
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    MatMul,
    Pow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
    Is,
    IsNot,
}

impl<'a> Other<'a> {
    /// The text of a literal that is nothing but that.
    pub(crate) fn into_text(self) -> Result<Cow<'a, str>, Reject> {
        match self {
            Self::Marked(text) => Ok(text),
            _ => Err(Reject),
        }
    }
}

impl<'a> Expr<'a> {
    pub(crate) fn other(other: Other<'a>) -> Self {
        Self::Other(Box::new(other))
    }

    /// Whether the expression is a plain name, number, text or other constant.
    pub(crate) fn as_const(&self) -> Option<&Value<'a>> {
        match self {
            Self::Const(value) => Some(value),
            _ => None,
        }
    }

    /// The dotted name of a callee. A chain that does not start at a plain name loses its base, so
    /// `f().run` is `run` and `x[0]` is empty.
    pub(crate) fn dotted_name(&self) -> Cow<'a, str> {
        if let Self::Name(name) = self {
            return name.clone();
        }
        let mut parts: Vec<&str> = Vec::new();
        let mut here = self;
        while let Self::Attribute(base, name) = here {
            parts.push(name);
            here = base;
        }
        if let Self::Name(name) = here {
            parts.push(name);
        }
        parts.reverse();
        Cow::Owned(parts.join("."))
    }
}
