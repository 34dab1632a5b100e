//! JSON as Python's `json` module reads and writes it: any-size integers, `NaN`, insertion order.

mod dump;
mod map;
mod parse;

use num_bigint::BigInt;
use num_traits::ToPrimitive;

pub(crate) use dump::push as dump_fmt;
pub use dump::{Dumps, dump, dumps, dumps_with, write_float};
pub use map::{Iter, IterMut, Map};
pub use parse::{
    MAX_DEPTH, MAX_DIGITS, ParseError, ParseErrorKind, Part, parse, parse_members, parse_parts,
};

/// A value as `json.loads` would build it.
///
/// `==` compares structure (`Int(1) != Float(1.0)`); Python's `==` is [`crate::python::eq`].
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// `None`
    #[default]
    Null,
    /// `True` or `False`
    Bool(bool),
    /// An integer that fits in 64 bits.
    Int(i64),
    /// Any other integer; never one that fits in an `i64`.
    BigInt(Box<BigInt>),
    /// A float; `NaN` and the infinities are allowed.
    Float(f64),
    /// A string. Lone surrogates cannot be held: the parser reports them.
    Str(String),
    /// A list.
    List(Vec<Self>),
    /// An object.
    Dict(Map),
}

impl Value {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list.
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of an object.
    pub fn as_dict(&self) -> Option<&Map> {
        match self {
            Self::Dict(map) => Some(map),
            _ => None,
        }
    }

    /// A small integer; booleans and floats are not integers here.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// Any number (not a boolean) as the nearest float.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(int) => Some(*int as f64),
            Self::BigInt(int) => int.to_f64(),
            Self::Float(float) => Some(*float),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(bool) => Some(*bool),
            _ => None,
        }
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The value under `key`; `None` when it is absent or this is no object.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_dict()?.get(key)
    }
}

impl From<bool> for Value {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}

impl From<BigInt> for Value {
    fn from(int: BigInt) -> Self {
        int.to_i64()
            .map_or_else(|| Self::BigInt(Box::new(int)), Self::Int)
    }
}

impl From<f64> for Value {
    fn from(float: f64) -> Self {
        Self::Float(float)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text)
    }
}

impl From<Vec<Self>> for Value {
    fn from(items: Vec<Self>) -> Self {
        Self::List(items)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Dict(map)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any value that JSON can carry, shallow and small.
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<[i64; 4]>().prop_map(|limbs| {
                let base = BigInt::from(i64::MAX);
                Value::from(
                    limbs
                        .into_iter()
                        .fold(BigInt::ZERO, |sum, limb| sum * &base + limb),
                )
            }),
            any::<f64>()
                .prop_filter("finite", |f| f.is_finite())
                .prop_map(Value::Float),
            any::<String>().prop_map(Value::Str),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::vec((any::<String>(), inner), 0..4)
                    .prop_map(|entries| Value::Dict(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in any_value(), ascii: bool, indent in prop::option::of(0..3_usize)) {
            let options = Dumps { ensure_ascii: ascii, indent, ..Dumps::default() };
            let text = dumps_with(&value, &options);
            prop_assert_eq!(text.is_ascii() || !ascii, true);
            prop_assert_eq!(parse(&text), Ok(value));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            drop(parse(&text));
        }

        #[test]
        fn almost_json_never_panics(text in r#"[\[\]{}",:0-9eE+\-. \\untrfalsNIiy\n]{0,40}"#) {
            drop(parse(&text));
        }

        /// Where the other reader accepts a text, this one does too and sees the same numbers.
        #[test]
        fn agrees_with_another_reader(text in r#"(-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?|[-+.eE0-9]{1,6})"#) {
            if let Ok(theirs) = serde_json::from_str::<f64>(&text) {
                let ours = parse(&text).expect("accepted elsewhere");
                prop_assert_eq!(ours.as_f64(), Some(theirs));
            } else if let Ok(ours) = parse(&text) {
                // Only what overflows to infinity is accepted here alone.
                prop_assert_eq!(ours.as_f64().map(f64::is_infinite), Some(true));
            }
        }
    }

    #[test]
    fn reads_what_python_reads() {
        for (text, dumped) in [
            (" [1, 2.0,-0, -0.0 ] ", "[1, 2.0, 0, -0.0]"),
            ("NaN", "NaN"),
            (
                "[-Infinity,Infinity,1e400,-1e400]",
                "[-Infinity, Infinity, Infinity, -Infinity]",
            ),
            (r#"{"b":1,"a":2,"b":3}"#, r#"{"b": 3, "a": 2}"#),
            (
                r#""\u00e9\ud83d\ude00\/\u2028\b\f""#,
                "\"é😀/\u{2028}\\b\\f\"",
            ),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            ("1e5", "100000.0"),
            ("1E22", "1e+22"),
            (
                "[1e16, 9999999999999998.0, 1e15, 0.0001, 0.00001, 1e-7, 5e-324, 1.5e300, 12345678901234567890.0]",
                "[1e+16, 9999999999999998.0, 1000000000000000.0, 0.0001, 1e-05, 1e-07, 5e-324, 1.5e+300, 1.2345678901234567e+19]",
            ),
            // Exactly between two texts of the same length: the even one.
            (
                "[2139455556902997.25, -2139455556902997.75, 2139455556902998.25]",
                "[2139455556902997.2, -2139455556902997.8, 2139455556902998.2]",
            ),
            ("\"\u{7f}\u{2029}<&>\"", "\"\u{7f}\u{2029}<&>\""),
        ] {
            assert_eq!(dumps(&parse(text).expect(text)), dumped);
        }
    }

    #[test]
    fn refuses_what_python_refuses() {
        use ParseErrorKind as Kind;
        for (text, offset, kind) in [
            ("", 0, Kind::ExpectedValue),
            ("\u{feff}1", 0, Kind::ExpectedValue),
            ("[1,]", 3, Kind::ExpectedValue),
            ("{\"a\":1,}", 7, Kind::ExpectedName),
            ("{'a':1}", 1, Kind::ExpectedName),
            ("{\"a\" 1}", 5, Kind::ExpectedColon),
            ("01", 1, Kind::ExtraData),
            ("+1", 0, Kind::ExpectedValue),
            (".5", 0, Kind::ExpectedValue),
            ("1.", 1, Kind::ExtraData),
            ("-", 0, Kind::ExpectedValue),
            ("[1 2]", 3, Kind::ExpectedComma),
            ("\"a", 2, Kind::UnterminatedString),
            ("\"a\nb\"", 2, Kind::ControlCharacter),
            ("\"a\u{1}b\"", 2, Kind::ControlCharacter),
            (r#""\x""#, 1, Kind::InvalidEscape),
            (r#""\u12g4""#, 1, Kind::InvalidEscape),
            (r#""\ud800""#, 1, Kind::LoneSurrogate),
            (r#""\udc00\ud800""#, 1, Kind::LoneSurrogate),
            ("True", 0, Kind::ExpectedValue),
            ("\u{a0}1", 0, Kind::ExpectedValue),
        ] {
            assert_eq!(parse(text), Err(ParseError { offset, kind }), "{text:?}");
        }
        let kind = |text: &str| parse(text).map_err(|error| error.kind);
        assert_eq!(kind(&"[".repeat(1_000_000)), Err(Kind::TooDeep));
        assert_eq!(kind(&"{\"a\":".repeat(100_000)), Err(Kind::TooDeep));
        assert_eq!(kind(&"1".repeat(MAX_DIGITS + 1)), Err(Kind::TooManyDigits));
        assert!(kind(&"1".repeat(MAX_DIGITS)).is_ok());
        assert!(kind(&("[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH))).is_ok());
    }

    #[test]
    fn options_follow_python() {
        let value = parse(r#"{"b": [1, {"c": []}], "a": "é😀\u007f"}"#).expect("well formed");
        let options = Dumps {
            ensure_ascii: true,
            sort_keys: true,
            indent: Some(2),
            ..Dumps::default()
        };
        let text = "{\n  \"a\": \"\\u00e9\\ud83d\\ude00\\u007f\",\n  \"b\": [\n    1,\n    {\n      \"c\": []\n    }\n  ]\n}";
        assert_eq!(dumps_with(&value, &options), text);
        let compact = Dumps {
            separators: Some((",".into(), ":".into())),
            ..Dumps::default()
        };
        assert_eq!(
            dumps_with(&value, &compact),
            "{\"b\":[1,{\"c\":[]}],\"a\":\"é😀\u{7f}\"}"
        );
    }

    #[test]
    fn parts_are_what_parsing_builds() {
        for text in [
            r#"{"name": "f", "arguments": {"a": 1, "b\u0041": [{}], "a": null}} tail"#,
            r#" {"arguments": [1], "arguments": {}, "x": {"arguments": {}}}"#,
            "{}",
            "[1, 2]  ,",
            "7",
        ] {
            let (mut outer, mut inner) = (Map::new(), None);
            let each = |part: Part<'_>| match part {
                Part::Member(name, value) => {
                    if name == "arguments" {
                        inner = None;
                    }
                    outer.insert(name.into_owned(), value);
                }
                Part::Opened => inner = Some(Map::new()),
                Part::Inner(name, value) => {
                    let inner = inner.as_mut().expect("opened before");
                    inner.insert(name.into_owned(), value);
                }
            };
            let (is_object, end) = parse_parts(text, "arguments", each).expect("JSON");
            if let Some(inner) = inner {
                outer.insert("arguments".to_owned(), Value::Dict(inner));
            }
            let whole = parse(&text[..end]).expect("JSON");
            assert_eq!(is_object, whole.as_dict().is_some(), "{text}");
            if let Value::Dict(whole) = whole {
                assert_eq!(outer, whole, "{text}");
            }
        }
        for text in [
            "",
            "{",
            "{\"arguments\": {",
            "{\"a\" 1}",
            "{\"arguments\": {\"a\": 1}",
            "nul",
        ] {
            assert!(parse_parts(text, "arguments", |_| ()).is_err(), "{text}");
        }
    }
}
