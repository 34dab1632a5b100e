//! Parses one Python expression, as `ast.parse(text, mode="eval")` would.
//!
//! Scanning and parsing are one pass over the bytes. Three limits keep hostile text from exhausting the
//! stack: brackets open at once (Python's own limit), nested prefix operators, and the height of the tree.

pub(super) mod aliases;
pub(super) mod args;
pub(super) mod atom;
pub(super) mod comprehension;
pub(super) mod escape;
pub(super) mod fstring;
pub(super) mod lambda;
pub(super) mod number;
pub(super) mod scan;
pub(super) mod strings;

use memchr::memchr;

use scan::begins_name;
pub(crate) use scan::is_keyword;

use super::{BinaryOp, CompareOp, Expr, Other, Reject, UnaryOp};

/// Prefix operators, powers, conditionals and lambdas inside each other.
const MAX_NESTING: u32 = 400;
/// Python's parser cannot build a much higher tree (`1+1+1+...`, `a.b.c...`).
const MAX_HEIGHT: u32 = 2_500;

pub(crate) type Parsed<'a> = Result<Expr<'a>, Reject>;

/// Parses a whole text as one expression; a bare `a, b` is a tuple.
pub(crate) fn parse(text: &str) -> Parsed<'_> {
    if memchr(0, text.as_bytes()).is_some() {
        return Err(Reject);
    }
    let mut parser = Parser::new(text);
    parser.skip_blank_lines()?;
    let expr = parser.expressions()?;
    parser.end()?;
    Ok(expr)
}

/// Whether an operand begins here, and neither a prefix operator nor `not` or `await`.
fn begins_operand(byte: u8) -> bool {
    matches!(byte, b'\'' | b'"' | b'[' | b'{' | b'(' | b'0'..=b'9' | b'_')
        || (byte.is_ascii_alphabetic() && byte != b'n' && byte != b'a')
}

pub(crate) struct Parser<'a> {
    pub(super) text: &'a str,
    pub(crate) pos: usize,
    brackets: u32,
    nesting: u32,
    /// Height of the tree that was parsed last.
    pub(crate) height: u32,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            pos: 0,
            brackets: 0,
            nesting: 0,
            height: 0,
        }
    }

    /// A parser that begins at a place of the text where so many brackets are open.
    pub(crate) fn within(text: &'a str, pos: usize, brackets: u32) -> Self {
        Self {
            pos,
            brackets,
            ..Self::new(text)
        }
    }

    /// A parser for the expression between an f-string's braces, where line ends do not count.
    pub(super) fn inside(&self, text: &'a str) -> Self {
        Self {
            brackets: self.brackets + 1,
            nesting: self.nesting,
            ..Self::new(text)
        }
    }

    // Depth.

    pub(super) fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, Reject>,
    ) -> Result<T, Reject> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(Reject);
        }
        let result = parse(self);
        self.nesting -= 1;
        result
    }

    /// Notes that a node now stands above trees of heights `below` and the last parsed one.
    pub(super) fn raise(&mut self, below: u32) -> Result<(), Reject> {
        self.height = self.height.max(below) + 1;
        if self.height > MAX_HEIGHT {
            Err(Reject)
        } else {
            Ok(())
        }
    }

    // Expressions, loosest binding first.

    /// `a` or `a, b` or `a,`.
    fn expressions(&mut self) -> Parsed<'a> {
        let first = self.expression()?;
        if !self.at(b',') {
            return Ok(first);
        }
        let mut items = vec![first];
        let mut height = self.height;
        while self.take(",") {
            self.skip();
            if self.line_end(0).is_some() || self.pos == self.text.len() {
                break;
            }
            items.push(self.expression()?);
            height = height.max(self.height);
        }
        self.raise(height)?;
        Ok(Expr::Tuple(items))
    }

    pub(crate) fn expression(&mut self) -> Parsed<'a> {
        if self.at_keyword("lambda") {
            return self.nested(Self::lambda);
        }
        let value = self.disjunction()?;
        if !self.take_keyword("if") {
            return Ok(value);
        }
        let below = self.height;
        let condition = self.disjunction()?;
        let below = below.max(self.height);
        if !self.take_keyword("else") {
            return Err(Reject);
        }
        let otherwise = self.nested(Self::expression)?;
        self.raise(below)?;
        Ok(Expr::If(Box::new([condition, value, otherwise])))
    }

    /// An expression or `name := expression`.
    pub(super) fn named_expression(&mut self) -> Parsed<'a> {
        self.skip();
        let start = self.pos;
        if self.byte(0).is_some_and(begins_name)
            && let Ok(name) = self.name()
            && self.take(":=")
        {
            let value = self.nested(Self::expression)?;
            self.raise(0)?;
            return Ok(Expr::other(Other::Walrus(name, value)));
        }
        self.pos = start;
        self.expression()
    }

    pub(super) fn disjunction(&mut self) -> Parsed<'a> {
        self.skip();
        // What no operator can begin is read first: mostly nothing follows it, and no level needs to look.
        let first = if self.byte(0).is_some_and(begins_operand) {
            let operand = self.primary()?;
            self.skip();
            if matches!(self.byte(0), Some(b',' | b')' | b']' | b'}' | b':')) {
                return Ok(operand);
            }
            let operand = self.raised(operand)?;
            let operand = self.combined(operand, 0)?;
            self.compared(operand)?
        } else {
            self.inversion()?
        };
        let first = self.joined(first, "and", Self::inversion)?;
        self.joined(first, "or", Self::conjunction)
    }

    fn conjunction(&mut self) -> Parsed<'a> {
        let first = self.inversion()?;
        self.joined(first, "and", Self::inversion)
    }

    /// `first`, or the operands that the keyword joins to it.
    fn joined(
        &mut self,
        first: Expr<'a>,
        keyword: &str,
        operand: impl Fn(&mut Self) -> Parsed<'a>,
    ) -> Parsed<'a> {
        if !self.at_keyword(keyword) {
            return Ok(first);
        }
        let mut operands = vec![first];
        let mut height = self.height;
        while self.take_keyword(keyword) {
            operands.push(operand(self)?);
            height = height.max(self.height);
        }
        self.raise(height)?;
        Ok(Expr::Bool(keyword == "and", operands))
    }

    fn inversion(&mut self) -> Parsed<'a> {
        if !self.take_keyword("not") {
            return self.comparison();
        }
        let operand = self.nested(Self::inversion)?;
        self.raise(0)?;
        Ok(Expr::Unary(UnaryOp::Not, Box::new(operand)))
    }

    fn comparison(&mut self) -> Parsed<'a> {
        let first = self.binary(0)?;
        self.compared(first)
    }

    /// `first`, or what it is compared with.
    fn compared(&mut self, first: Expr<'a>) -> Parsed<'a> {
        let mut rest = Vec::new();
        let mut height = self.height;
        while let Some(op) = self.compare_op() {
            rest.push((op, self.binary(0)?));
            height = height.max(self.height);
        }
        if rest.is_empty() {
            return Ok(first);
        }
        self.raise(height)?;
        Ok(Expr::Compare(Box::new(first), rest))
    }

    fn compare_op(&mut self) -> Option<CompareOp> {
        const SYMBOLS: [(&str, CompareOp); 6] = [
            ("==", CompareOp::Equal),
            ("!=", CompareOp::NotEqual),
            ("<=", CompareOp::LessEqual),
            (">=", CompareOp::GreaterEqual),
            ("<", CompareOp::Less),
            (">", CompareOp::Greater),
        ];
        self.skip();
        // What begins none of the operators is seen at its first byte.
        if !matches!(self.byte(0)?, b'=' | b'!' | b'<' | b'>' | b'i' | b'n') {
            return None;
        }
        let word = self.word();
        if word.is_empty() {
            let found = SYMBOLS
                .iter()
                .find(|(symbol, _)| self.text[self.pos..].starts_with(symbol))?;
            self.pos += found.0.len();
            return Some(found.1);
        }
        let start = self.pos;
        if self.take_keyword("in") {
            return Some(CompareOp::In);
        }
        if self.take_keyword("is") {
            let not = self.take_keyword("not");
            return Some(if not { CompareOp::IsNot } else { CompareOp::Is });
        }
        if self.take_keyword("not") && self.take_keyword("in") {
            return Some(CompareOp::NotIn);
        }
        self.pos = start;
        None
    }

    /// Left-associative operators that bind at least as tightly as `level`.
    pub(super) fn binary(&mut self, level: u8) -> Parsed<'a> {
        let left = self.factor()?;
        self.combined(left, level)
    }

    /// `left` with the operators behind it.
    fn combined(&mut self, mut left: Expr<'a>, level: u8) -> Parsed<'a> {
        while let Some((op, length, own)) = self.binary_op().filter(|&(_, _, own)| own >= level) {
            let below = self.height;
            self.pos += length;
            let right = self.nested(|parser| parser.binary(own + 1))?;
            self.raise(below)?;
            left = Expr::Binary(op, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    /// The operator that comes next, its length and how tightly it binds.
    fn binary_op(&mut self) -> Option<(BinaryOp, usize, u8)> {
        self.skip();
        Some(match (self.byte(0)?, self.byte(1)) {
            (b'|', _) => (BinaryOp::Or, 1, 0),
            (b'^', _) => (BinaryOp::Xor, 1, 1),
            (b'&', _) => (BinaryOp::And, 1, 2),
            (b'<', Some(b'<')) => (BinaryOp::ShiftLeft, 2, 3),
            (b'>', Some(b'>')) => (BinaryOp::ShiftRight, 2, 3),
            (b'+', _) => (BinaryOp::Add, 1, 4),
            (b'-', _) => (BinaryOp::Sub, 1, 4),
            (b'/', Some(b'/')) => (BinaryOp::FloorDiv, 2, 5),
            (b'/', _) => (BinaryOp::Div, 1, 5),
            (b'*', _) => (BinaryOp::Mul, 1, 5),
            (b'%', _) => (BinaryOp::Mod, 1, 5),
            (b'@', _) => (BinaryOp::MatMul, 1, 5),
            _ => return None,
        })
    }

    fn factor(&mut self) -> Parsed<'a> {
        self.skip();
        let op = match self.byte(0) {
            Some(b'+') => UnaryOp::Plus,
            Some(b'-') => UnaryOp::Minus,
            Some(b'~') => UnaryOp::Invert,
            _ => return self.power(),
        };
        self.pos += 1;
        let operand = self.nested(Self::factor)?;
        self.raise(0)?;
        Ok(Expr::Unary(op, Box::new(operand)))
    }

    fn power(&mut self) -> Parsed<'a> {
        let base = if self.take_keyword("await") {
            let value = self.primary()?;
            self.raise(0)?;
            Expr::other(Other::Await(value))
        } else {
            self.primary()?
        };
        self.raised(base)
    }

    /// `base`, or its power.
    fn raised(&mut self, base: Expr<'a>) -> Parsed<'a> {
        if !self.take("**") {
            return Ok(base);
        }
        let below = self.height;
        let exponent = self.nested(Self::factor)?;
        self.raise(below)?;
        Ok(Expr::Binary(
            BinaryOp::Pow,
            Box::new(base),
            Box::new(exponent),
        ))
    }
}
