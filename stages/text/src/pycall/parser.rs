//! Precedence climbing over the tokens.

use super::lexer::{Lexer, Token};
use super::{
    BinaryOperator as Binary, Call, Expr, MAX_DEPTH, SyntaxError, SyntaxErrorKind as Kind,
    UnaryOperator as Unary,
};

/// Words that are no identifiers.
const KEYWORDS: [&str; 32] = [
    "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif",
    "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda",
    "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Binding powers, weakest first.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARISON: u8 = 4;
const BIT_OR: u8 = 5;
const BIT_XOR: u8 = 6;
const BIT_AND: u8 = 7;
const SHIFT: u8 = 8;
const SUM: u8 = 9;
const PRODUCT: u8 = 10;

pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token,
    /// Where `token` starts, for errors.
    start: usize,
    depth: usize,
    /// Height of the tree that the last rule returned. Trees are walked recursively, so it is bounded.
    height: usize,
}

type Parsed<T> = Result<T, SyntaxError>;

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            lexer: Lexer::new(text),
            token: Token::End,
            start: 0,
            depth: 0,
            height: 0,
        }
    }

    /// A whole text: an expression, or a tuple without parentheses.
    pub(super) fn expression_only(mut self) -> Parsed<Expr> {
        self.advance()?;
        if self.token == Token::End {
            return Err(self.error(Kind::Empty));
        }
        let first = self.starred()?;
        let expr = if self.is(",") {
            let mut items = vec![first];
            while self.eat(",")? {
                if self.token == Token::End {
                    break;
                }
                items.push(self.starred()?);
            }
            Expr::Tuple(items)
        } else {
            first
        };
        match (&self.token, expr) {
            (Token::End, Expr::Starred(_)) => Err(self.error(Kind::Invalid)),
            (Token::End, expr) => Ok(expr),
            _ => Err(self.unexpected()),
        }
    }

    fn error(&self, kind: Kind) -> SyntaxError {
        SyntaxError {
            offset: self.start,
            kind,
        }
    }

    /// The current token cannot stand here; some say why.
    fn unexpected(&self) -> SyntaxError {
        self.error(match &self.token {
            Token::Name(name) if matches!(name.as_str(), "if" | "for" | "async" | "lambda") => {
                Kind::Unsupported
            }
            Token::Name(name) if matches!(name.as_str(), "await" | "yield") => Kind::Unsupported,
            Token::Operator(":=") => Kind::Unsupported,
            _ => Kind::Invalid,
        })
    }

    fn advance(&mut self) -> Parsed<()> {
        self.token = self.lexer.next()?;
        self.start = self.lexer.start;
        Ok(())
    }

    fn is(&self, operator: &str) -> bool {
        matches!(self.token, Token::Operator(found) if found == operator)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Name(found) if found == word)
    }

    fn eat(&mut self, operator: &str) -> Parsed<bool> {
        let found = self.is(operator);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, operator: &str) -> Parsed<()> {
        match self.eat(operator)? {
            true => Ok(()),
            false => Err(self.unexpected()),
        }
    }

    /// Another node stands on the last tree and on one of height `other`.
    fn grow(&mut self, other: usize) -> Parsed<()> {
        self.height = self.height.max(other) + 1;
        match self.height > 3 * MAX_DEPTH {
            true => Err(self.error(Kind::TooDeep)),
            false => Ok(()),
        }
    }

    /// Runs a rule for a part of a node whose parts so far are of height `tallest`.
    fn part<T>(
        &mut self,
        tallest: &mut usize,
        rule: impl FnOnce(&mut Self) -> Parsed<T>,
    ) -> Parsed<T> {
        let parsed = rule(self)?;
        *tallest = self.height.max(*tallest);
        self.height = *tallest;
        Ok(parsed)
    }

    /// Runs a rule one level deeper.
    fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        // A bracket takes several levels of rules; the lexer counts brackets themselves.
        if self.depth >= 3 * MAX_DEPTH {
            return Err(self.error(Kind::TooDeep));
        }
        self.depth += 1;
        let parsed = rule(self);
        self.depth -= 1;
        parsed
    }

    fn starred(&mut self) -> Parsed<Expr> {
        match self.eat("*")? {
            true => Ok(Expr::Starred(Box::new(self.binary(BIT_OR)?))),
            false => self.expression(),
        }
    }

    fn expression(&mut self) -> Parsed<Expr> {
        self.binary(OR)
    }

    fn binary(&mut self, weakest: u8) -> Parsed<Expr> {
        let mut left = self.nested(Self::unary)?;
        let mut compared = false;
        while let Some((mut operator, power)) = self.operator() {
            if power < weakest {
                break;
            }
            if power == COMPARISON && std::mem::replace(&mut compared, true) {
                // `a < b < c` is no `(a < b) < c`.
                return Err(self.error(Kind::Unsupported));
            }
            let left_height = self.height;
            self.advance()?;
            match operator {
                Binary::Is if self.is_word("not") => {
                    operator = Binary::IsNot;
                    self.advance()?;
                }
                Binary::NotIn if self.is_word("in") => self.advance()?,
                Binary::NotIn => return Err(self.unexpected()),
                _ => {}
            }
            let right = self.nested(|parser| parser.binary(power + 1))?;
            self.grow(left_height)?;
            left = Expr::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    /// The binary operator at the current token; of a two-word operator the first word is current.
    fn operator(&self) -> Option<(Binary, u8)> {
        Some(match &self.token {
            Token::Operator(operator) => match *operator {
                "+" => (Binary::Add, SUM),
                "-" => (Binary::Subtract, SUM),
                "*" => (Binary::Multiply, PRODUCT),
                "@" => (Binary::MatrixMultiply, PRODUCT),
                "/" => (Binary::Divide, PRODUCT),
                "//" => (Binary::FloorDivide, PRODUCT),
                "%" => (Binary::Modulo, PRODUCT),
                "<<" => (Binary::LeftShift, SHIFT),
                ">>" => (Binary::RightShift, SHIFT),
                "|" => (Binary::BitOr, BIT_OR),
                "^" => (Binary::BitXor, BIT_XOR),
                "&" => (Binary::BitAnd, BIT_AND),
                "==" => (Binary::Equal, COMPARISON),
                "!=" => (Binary::NotEqual, COMPARISON),
                "<" => (Binary::Less, COMPARISON),
                "<=" => (Binary::LessEqual, COMPARISON),
                ">" => (Binary::Greater, COMPARISON),
                ">=" => (Binary::GreaterEqual, COMPARISON),
                _ => return None,
            },
            Token::Name(word) => match word.as_str() {
                "and" => (Binary::And, AND),
                "or" => (Binary::Or, OR),
                "in" => (Binary::In, COMPARISON),
                "is" => (Binary::Is, COMPARISON),
                "not" => (Binary::NotIn, COMPARISON),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn unary(&mut self) -> Parsed<Expr> {
        if self.is_word("not") {
            self.advance()?;
            let operand = self.nested(|parser| parser.binary(NOT + 1))?;
            self.grow(0)?;
            return Ok(Expr::Unary(Unary::Not, Box::new(operand)));
        }
        let operator = match self.token {
            Token::Operator("-") => Unary::Negative,
            Token::Operator("+") => Unary::Positive,
            Token::Operator("~") => Unary::Invert,
            _ => return self.power(),
        };
        self.advance()?;
        let operand = self.nested(Self::unary)?;
        self.grow(0)?;
        Ok(Expr::Unary(operator, Box::new(operand)))
    }

    fn power(&mut self) -> Parsed<Expr> {
        let base = self.primary()?;
        let base_height = self.height;
        if !self.eat("**")? {
            return Ok(base);
        }
        // Right-associative, and binds weaker than a sign on its right.
        let exponent = self.nested(Self::unary)?;
        self.grow(base_height)?;
        Ok(Expr::Binary(
            Binary::Power,
            Box::new(base),
            Box::new(exponent),
        ))
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let mut expr = self.atom()?;
        loop {
            let height = self.height;
            expr = match self.token {
                Token::Operator(".") => {
                    self.advance()?;
                    let Token::Name(name) = &self.token else {
                        return Err(self.unexpected());
                    };
                    let name = name.clone();
                    if KEYWORDS.contains(&name.as_str()) {
                        return Err(self.error(Kind::Invalid));
                    }
                    self.advance()?;
                    self.height = 0;
                    Expr::Attribute(Box::new(expr), name)
                }
                Token::Operator("(") => self.nested(|parser| parser.call(expr))?,
                Token::Operator("[") => {
                    self.advance()?;
                    let index = self.nested(Self::expression)?;
                    if self.is(":") || self.is(",") {
                        return Err(self.error(Kind::Unsupported));
                    }
                    self.expect("]")?;
                    Expr::Subscript(Box::new(expr), Box::new(index))
                }
                _ => return Ok(expr),
            };
            self.grow(height)?;
        }
    }

    fn call(&mut self, function: Expr) -> Parsed<Expr> {
        self.expect("(")?;
        let mut call = Call {
            function,
            args: Vec::new(),
            keywords: Vec::new(),
        };
        let mut tallest = 0;
        let mut unpacked = false;
        while !self.is(")") {
            if self.eat("**")? {
                let value = self.part(&mut tallest, Self::expression)?;
                call.keywords.push((None, value));
                unpacked = true;
            } else {
                let argument = self.part(&mut tallest, Self::starred)?;
                if let (Expr::Name(name), true) = (&argument, self.is("=")) {
                    self.advance()?;
                    let name = name.clone();
                    let value = self.part(&mut tallest, Self::expression)?;
                    call.keywords.push((Some(name), value));
                } else {
                    let positional = !matches!(argument, Expr::Starred(_));
                    if positional && (unpacked || !call.keywords.is_empty()) {
                        return Err(self.error(Kind::PositionalAfterKeyword));
                    }
                    call.args.push(argument);
                }
            }
            if !self.eat(",")? {
                break;
            }
        }
        self.expect(")")?;
        self.height = tallest;
        match repeated(&call.keywords) {
            Some(name) => Err(self.error(Kind::RepeatedKeyword(name))),
            None => Ok(Expr::Call(Box::new(call))),
        }
    }

    fn atom(&mut self) -> Parsed<Expr> {
        let expr = match &self.token {
            Token::Operator("(") => return self.nested(Self::parenthesized),
            Token::Operator("[") => return self.nested(Self::list),
            Token::Operator("{") => return self.nested(Self::braces),
            Token::Str(_) | Token::Bytes(_) => return self.strings(),
            Token::Operator("...") => Expr::Ellipsis,
            Token::Int(int) => Expr::Int(*int),
            Token::BigInt(int) => Expr::BigInt(int.clone()),
            Token::Float(float) => Expr::Float(*float),
            Token::Imaginary(float) => Expr::Imaginary(*float),
            Token::Name(name) => match name.as_str() {
                "None" => Expr::None,
                "True" => Expr::Bool(true),
                "False" => Expr::Bool(false),
                word if KEYWORDS.contains(&word) => return Err(self.unexpected()),
                _ => Expr::Name(name.clone()),
            },
            _ => return Err(self.unexpected()),
        };
        self.height = 1;
        self.advance()?;
        Ok(expr)
    }

    /// Neighbouring strings are one string.
    fn strings(&mut self) -> Parsed<Expr> {
        let mut text: Option<String> = None;
        let mut bytes: Option<Vec<u8>> = None;
        loop {
            match &mut self.token {
                Token::Str(next) => {
                    let next = std::mem::take(next);
                    match &mut text {
                        Some(text) => text.push_str(&next),
                        None => text = Some(next),
                    }
                }
                Token::Bytes(next) => bytes.get_or_insert_default().append(next),
                _ => break,
            }
            self.advance()?;
        }
        self.height = 1;
        match (text, bytes) {
            (Some(text), None) => Ok(Expr::Str(text)),
            (None, Some(bytes)) => Ok(Expr::Bytes(bytes)),
            _ => Err(self.error(Kind::Invalid)),
        }
    }

    fn parenthesized(&mut self) -> Parsed<Expr> {
        self.expect("(")?;
        self.height = 0;
        if self.eat(")")? {
            self.grow(0)?;
            return Ok(Expr::Tuple(Vec::new()));
        }
        let first = self.starred()?;
        if !self.is(",") {
            self.expect(")")?;
            return match first {
                Expr::Starred(_) => Err(self.error(Kind::Invalid)),
                expr => Ok(expr),
            };
        }
        let mut items = vec![first];
        self.items(&mut items, ")")?;
        Ok(Expr::Tuple(items))
    }

    fn list(&mut self) -> Parsed<Expr> {
        self.expect("[")?;
        self.height = 0;
        let mut items = Vec::new();
        if !self.is("]") {
            items.push(self.starred()?);
        }
        self.items(&mut items, "]")?;
        Ok(Expr::List(items))
    }

    /// The rest of a bracketed list, from its first comma to its bracket.
    fn items(&mut self, items: &mut Vec<Expr>, close: &str) -> Parsed<()> {
        let mut tallest = self.height;
        while self.eat(",")? {
            if self.is(close) {
                break;
            }
            items.push(self.part(&mut tallest, Self::starred)?);
        }
        self.expect(close)?;
        self.grow(tallest)
    }

    fn braces(&mut self) -> Parsed<Expr> {
        self.expect("{")?;
        self.height = 0;
        if self.eat("}")? {
            self.grow(0)?;
            return Ok(Expr::Dict(Vec::new()));
        }
        let mut entries = Vec::new();
        if !self.is("**") {
            let first = self.starred()?;
            if !self.is(":") {
                let mut items = vec![first];
                self.items(&mut items, "}")?;
                return Ok(Expr::Set(items));
            }
            let mut tallest = self.height;
            self.advance()?;
            let value = self.part(&mut tallest, Self::expression)?;
            entries.push((Some(first), value));
            if !self.eat(",")? {
                self.expect("}")?;
                self.grow(tallest)?;
                return Ok(Expr::Dict(entries));
            }
        }
        self.entries(entries)
    }

    /// The rest of a dict, from the beginning of an entry.
    fn entries(&mut self, mut entries: Vec<(Option<Expr>, Expr)>) -> Parsed<Expr> {
        let mut tallest = self.height;
        while !self.is("}") {
            let key = match self.eat("**")? {
                true => None,
                false => {
                    let key = self.part(&mut tallest, Self::expression)?;
                    self.expect(":")?;
                    Some(key)
                }
            };
            let value = self.part(&mut tallest, Self::expression)?;
            entries.push((key, value));
            if !self.eat(",")? {
                break;
            }
        }
        self.expect("}")?;
        self.grow(tallest)?;
        Ok(Expr::Dict(entries))
    }
}

/// A keyword that occurs twice.
fn repeated(keywords: &[(Option<String>, Expr)]) -> Option<String> {
    if keywords.len() < 2 {
        return None;
    }
    let mut names: Vec<&str> = keywords.iter().filter_map(|(k, _)| k.as_deref()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1])?;
    Some(twice[0].to_owned())
}
