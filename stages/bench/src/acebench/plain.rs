//! The calls of a plain list, read without a syntax tree: names, texts, numbers, lists and maps of texts.
//!
//! Nearly every output is such a list. A value that is not (an escape, an operator, a nested call) is left to the
//! parser, from where it begins; whatever else is not (a positional argument, a name beyond ASCII), the whole text. Where
//! this reader answers, it answers what the parser would.

use std::borrow::Cow;

use super::calls::{Arguments, CallValue, NestedCalls, Resolver};
use super::expr::{Parser, Reject, Value, is_keyword};

/// Brackets inside each other beyond which the parser decides.
const MAX_DEPTH: u32 = 40;
/// Arguments, or entries of a map, beyond which the parser decides: repeated names are looked for one by one.
const MAX_NAMES: usize = 32;
/// Arguments, or entries of a map, for which there is room at once.
const SOME_NAMES: usize = 6;
/// Height of a tree beyond which the parser decides: with what stands around it, it may be too high.
const MAX_HEIGHT: u32 = 1_000;
/// Digits that fit into 64 bits whatever they are.
const MAX_DIGITS: usize = 18;

/// What a map holds.
type Entries<'a> = Vec<(Value<'a>, Value<'a>)>;

/// Reads a whole text; `None` leaves it to the parser. `one_line` says that the text has no line end.
pub(super) fn decode(text: &str, one_line: bool) -> Option<Result<Vec<CallValue<'_>>, Reject>> {
    // No Python source has a NUL.
    if !text.starts_with('[') || memchr::memchr(0, text.as_bytes()).is_some() {
        return None;
    }
    let mut reader = Reader {
        text,
        pos: 1,
        one_line,
        resolver: Resolver::new(NestedCalls::Map),
        rejected: false,
    };
    match reader.calls() {
        Some(calls) if reader.pos == text.len() => Some(Ok(calls)),
        _ if reader.rejected => Some(Err(Reject)),
        _ => None,
    }
}

struct Reader<'a> {
    text: &'a str,
    pos: usize,
    /// The whole text is one line.
    one_line: bool,
    resolver: Resolver,
    /// The parser found no value where only a value can stand.
    rejected: bool,
}

impl<'a> Reader<'a> {
    fn calls(&mut self) -> Option<Vec<CallValue<'a>>> {
        let mut calls = Vec::new();
        loop {
            self.skip();
            if self.take(b']') {
                return Some(calls);
            }
            calls.push(self.call()?);
            self.skip();
            if !self.take(b',') {
                self.expect(b']')?;
                return Some(calls);
            }
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    fn skip(&mut self) {
        while self.byte() == Some(b' ') {
            self.pos += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.byte() == Some(byte);
        self.pos += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }

    /// An ASCII name that is no keyword.
    fn name(&mut self) -> Option<&'a str> {
        let rest = self.text.as_bytes().get(self.pos..)?;
        let end = rest.iter().position(|byte| !NAME[usize::from(*byte)])?;
        let first = rest[0];
        // A letter beyond ASCII would be part of the name.
        if end == 0 || first.is_ascii_digit() || rest[end] >= 0x80 {
            return None;
        }
        let word = &self.text[self.pos..self.pos + end];
        self.pos += end;
        // Keywords are short, and only three begin with a capital.
        let may_be =
            word.len() <= 8 && (first.is_ascii_lowercase() || matches!(first, b'T' | b'F' | b'N'));
        (!may_be || !is_keyword(word)).then_some(word)
    }

    fn call(&mut self) -> Option<CallValue<'a>> {
        let start = self.pos;
        self.name()?;
        while self.take(b'.') {
            self.name()?;
        }
        let name = &self.text[start..self.pos];
        self.skip();
        self.expect(b'(')?;
        let mut arguments: Arguments<'a> = Vec::with_capacity(SOME_NAMES);
        loop {
            self.skip();
            if self.take(b')') {
                break;
            }
            let name = self.name()?;
            self.skip();
            self.expect(b'=')?;
            self.skip();
            let value = self.value(0)?;
            let known = |(known, _): &(Option<Cow<'_, str>>, _)| {
                known.as_deref().is_some_and(|known| same(known, name))
            };
            match arguments.iter().position(known) {
                // The last value of a name counts, at the place of the first.
                Some(place) => arguments[place].1 = value,
                None if arguments.len() >= MAX_NAMES => return None,
                None => arguments.push((Some(Cow::Borrowed(name)), value)),
            }
            self.skip();
            if !self.take(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Some(CallValue {
            name: Cow::Borrowed(name),
            arguments,
        })
    }

    /// A value that a comma, a colon or a closing bracket follows.
    fn value(&mut self, depth: u32) -> Option<Value<'a>> {
        let (start, budget) = (self.pos, self.resolver.budget.clone());
        match self.plain_value(depth) {
            Some(value) => Some(value),
            None if self.rejected => None,
            None => {
                (self.pos, self.resolver.budget) = (start, budget);
                self.any_value(depth)
            }
        }
    }

    /// Any expression, by way of the parser.
    fn any_value(&mut self, depth: u32) -> Option<Value<'a>> {
        // `a==b` is no keyword argument.
        let must_be = depth == 0 && self.byte() != Some(b'=');
        // The brackets of the list and of the call are open.
        let mut parser = Parser::within(self.text, self.pos, depth + 2);
        let Ok(expr) = parser.expression() else {
            self.rejected |= must_be;
            return None;
        };
        if parser.height > MAX_HEIGHT {
            return None;
        }
        parser.skip();
        self.pos = parser.pos;
        let value = self.resolver.value(expr);
        self.rejected |= must_be && value.is_err();
        value.ok()
    }

    /// A value is made where it is handed over, once it is known to be one: moving it about costs more than reading.
    fn plain_value(&mut self, depth: u32) -> Option<Value<'a>> {
        match self.byte()? {
            b'\'' | b'"' => {
                let text = self.string()?;
                self.ends()?;
                Some(Value::Str(Cow::Borrowed(text)))
            }
            b'0'..=b'9' | b'-' => {
                let number = self.number()?;
                self.ends()?;
                Some(number)
            }
            b'[' => {
                let items = self.list(depth)?;
                self.ends()?;
                Some(Value::List(items))
            }
            b'{' => {
                let entries = self.map(depth)?;
                self.ends()?;
                Some(Value::Dict(entries))
            }
            _ => {
                let word = self.word()?;
                self.ends()?;
                Some(word)
            }
        }
    }

    /// What may follow a value follows.
    fn ends(&mut self) -> Option<()> {
        self.skip();
        matches!(self.byte()?, b',' | b')' | b']' | b'}' | b':').then_some(())
    }

    /// A text on one line without escapes.
    fn string(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        let quote = bytes[self.pos];
        let start = self.pos + 1;
        let rest = bytes.get(start..)?;
        let length = memchr::memchr2(quote, b'\\', rest)?;
        let breaks = || memchr::memchr2(b'\n', b'\r', &rest[..length]).is_some();
        if rest[length] != quote || (!self.one_line && breaks()) {
            return None;
        }
        // Two quotes and a third one: a text over several lines.
        if length == 0 && rest.get(1) == Some(&quote) {
            return None;
        }
        self.pos = start + length + 1;
        Some(&self.text[start..start + length])
    }

    fn number(&mut self) -> Option<Value<'a>> {
        let bytes = self.text.as_bytes();
        let start = self.pos;
        let negative = self.take(b'-');
        let digits = |from: usize| {
            let tail = &bytes[from..];
            tail.iter().take_while(|byte| byte.is_ascii_digit()).count()
        };
        let from = self.pos;
        let whole = digits(from);
        // A leading zero is an error, but alone.
        if whole == 0 || whole > MAX_DIGITS || (whole > 1 && bytes[from] == b'0') {
            return None;
        }
        self.pos += whole;
        if self.byte() != Some(b'.') {
            let int: i64 = self.text[from..self.pos].parse().ok()?;
            return Some(Value::Int(if negative { -int } else { int }));
        }
        let fraction = digits(self.pos + 1);
        if fraction == 0 {
            return None;
        }
        self.pos += 1 + fraction;
        Some(Value::Float(self.text[start..self.pos].parse().ok()?))
    }

    fn list(&mut self, depth: u32) -> Option<Vec<Value<'a>>> {
        if depth >= MAX_DEPTH {
            return None;
        }
        self.pos += 1;
        let mut items = Vec::new();
        loop {
            self.skip();
            if self.take(b']') {
                break;
            }
            items.push(self.value(depth + 1)?);
            if !self.take(b',') {
                self.expect(b']')?;
                break;
            }
        }
        Some(items)
    }

    fn map(&mut self, depth: u32) -> Option<Entries<'a>> {
        if depth >= MAX_DEPTH {
            return None;
        }
        self.pos += 1;
        let mut entries: Entries<'a> = Vec::with_capacity(SOME_NAMES);
        loop {
            self.skip();
            if self.take(b'}') {
                break;
            }
            if !matches!(self.byte()?, b'\'' | b'"') {
                return None;
            }
            let key = self.string()?;
            self.skip();
            self.expect(b':')?;
            self.skip();
            let value = self.value(depth + 1)?;
            let known =
                |(known, _): &(Value<'_>, _)| known.as_str().is_some_and(|known| same(known, key));
            match entries.iter().position(known) {
                Some(place) => entries[place].1 = value,
                None if entries.len() >= MAX_NAMES => return None,
                None => entries.push((Value::Str(Cow::Borrowed(key)), value)),
            }
            if !self.take(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        Some(entries)
    }

    /// A constant, or a name, which is a text.
    fn word(&mut self) -> Option<Value<'a>> {
        let rest = &self.text[self.pos..];
        for (word, value) in [
            ("True", Value::Bool(true)),
            ("False", Value::Bool(false)),
            ("None", Value::None),
        ] {
            let ends = rest
                .as_bytes()
                .get(word.len())
                .is_none_or(|byte| !NAME[usize::from(*byte)]);
            if rest.starts_with(word) && ends {
                self.pos += word.len();
                return Some(value);
            }
        }
        self.name().map(|name| Value::Str(Cow::Borrowed(name)))
    }
}

/// Whether two names are the same; most differ in their lengths or first bytes already.
#[inline]
pub(super) fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.as_bytes().first() == b.as_bytes().first() && a == b
}

/// The bytes of ASCII names.
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'_';
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::super::calls;
    use super::decode;

    #[test]
    fn plain_lists_are_read_as_the_parser_reads_them() {
        for text in [
            "[]",
            "[f()]",
            "[a.b_1(x=1,y=-2,z=0)]",
            "[f(a='x y',b=\"it's\",c='')]",
            "[ f ( a = [1, 2.50, 'x', ], b = {'k': {'l': []}} , ) , g() , ]",
            "[f(a=True,b=False,c=None,d=true,e=Paris)]",
            "[f(a='中文',b=['é'])]",
            "[f(a=-0.0,b=-0,c=123456789012345678)]",
            "[f(a=1,b=2,a=3)]",
            "[f(a={'a':1,'b':2,'a':3})]",
        ] {
            let plain = decode(text, !text.contains(['\n', '\r']))
                .unwrap_or_else(|| panic!("{text} is plain"));
            assert_eq!(plain.ok(), calls::parse_calls(text).ok(), "{text}");
            assert!(calls::parse_calls(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn the_rest_is_left_to_the_parser() {
        for text in [
            "",
            "f()",
            "[f(1)]",
            "[f(a='\\n')]",
            "[f(a='''x''')]",
            "[f(a='x''y')]",
            "[f(a=1+1)]",
            "[f(a=+1)]",
            "[f(a=01)]",
            "[f(a=1e3)]",
            "[f(a=1_0)]",
            "[f(a=1.)]",
            "[f(a=1234567890123456789)]",
            "[f(a=g(b=1))]",
            "[f(from=1)]",
            "[f(a=lambda)]",
            "[f(a={1:2})]",
            "[f(é=1)]",
            "[f()] ",
            "[f()]#",
            "[f(a=b'x')]",
            "[f(a='\0')]",
            "[f(a=b.c)]",
            "[f(a=[1:2])]",
            "[f(a==1)]",
            "[f(a=[1]+[2],b=[[1]+[2],3])]",
            "[f(a=[x for x in y])]",
            "[f(a=[x for x in y][0])]",
            "[f(a=x for x in y)]",
            "[f(a=b:=c)]",
            "[f(a=(b:=c))]",
            "[f(a=[*b])]",
            "[f(a={**b})]",
            "[f(a={1,2})]",
            "[f(a={'k':g(b=1)})]",
            "[f(a={'k':1 if x else 2})]",
            "[f(a=lambda: 1,b=2)]",
            "[f(a=1 # x\n ,b=2)]",
            "[f(a='x'\n,b=2)]",
            "[f(a='\\u00e9',b=f'x',c=1)]",
            "[f(a=x[0],b='\\x4')]",
            "[f(a=not 1,b=-x)]",
            "[f(a=2**100,b=1/0)]",
            "[f(a=1_0,b=1 2)]",
            "[f(a=]",
            "[f(a=)]",
            "[f(a=[)]",
            "[f(a=1)(b=2)]",
        ] {
            assert!(
                decode(text, !text.contains(['\n', '\r']))
                    .is_none_or(|plain| plain.ok() == calls::parse_calls(text).ok()),
                "{text}"
            );
        }
    }
}
