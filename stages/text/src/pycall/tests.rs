//! Calls as Python expressions: what is read, and what is refused.

use proptest::prelude::*;

use super::*;
use crate::json;

fn value(text: &str) -> Option<Value> {
    parse(text).ok()?.to_value()
}

fn kind(text: &str) -> SyntaxErrorKind {
    parse(text).expect_err(text).kind
}

#[test]
fn literals_are_read_as_python_reads_them() {
    for (python, json) in [
        (
            "[1, -2, 1_000, 0x_ff, 0b1, 0o17, 00]",
            "[1, -2, 1000, 255, 1, 15, 0]",
        ),
        (
            "(1.5, .5, 5., 1e3, -1E-7, 1_0.0_1)",
            "[1.5, 0.5, 5.0, 1000.0, -1e-07, 10.01]",
        ),
        ("-9223372036854775808", "-9223372036854775808"),
        (
            "123456789012345678901234567890",
            "123456789012345678901234567890",
        ),
        (
            "{'a': None, \"b\": [True, False],}",
            r#"{"a": null, "b": [true, false]}"#,
        ),
        (
            r"'it\'s \x41\u00e9\U0001f600\101\n\q'",
            r#""it's Aé😀A\n\\q""#,
        ),
        ("r'\\n' 'a' \"\"\"b\n'c'\"\"\"", r#""\\nab\n'c'""#),
        ("  [ # note\n 1,\n 2 ]  \n# end", "[1, 2]"),
        ("()", "[]"),
        ("1, 2", "[1, 2]"),
    ] {
        assert_eq!(
            value(python),
            Some(json::parse(json).expect(json)),
            "{python}"
        );
    }
}

#[test]
fn calls_keep_their_order() {
    let calls = parse_calls("[a.b.c(1, *x, k=-2, **m), g()]").expect("calls");
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].function.dotted_name().as_deref(), Some("a.b.c"));
    assert_eq!(calls[0].args.len(), 2);
    assert_eq!(calls[0].keywords[0].0.as_deref(), Some("k"));
    assert_eq!(calls[0].keywords[1].0, None);
    assert_eq!(parse_calls("f(x=1)").expect("call").len(), 1);
    assert!(parse_calls("[f(), 1]").is_err());
}

#[test]
fn operators_bind_as_in_python() {
    use BinaryOperator::{Add, Multiply, Power};
    let int = |i| Box::new(Expr::Int(i));
    let expr = parse("-2 ** 2 + 3 * 4").expect("expression");
    let power = Expr::Binary(Power, int(2), int(2));
    let left = Expr::Unary(UnaryOperator::Negative, Box::new(power));
    let right = Expr::Binary(Multiply, int(3), int(4));
    assert_eq!(expr, Expr::Binary(Add, Box::new(left), Box::new(right)));
    assert!(parse("a is not b").is_ok());
    assert!(parse("not a and b not in c").is_ok());
    assert_eq!(kind("a < b < c"), SyntaxErrorKind::Unsupported);
}

#[test]
fn mistakes_are_named() {
    use SyntaxErrorKind as Kind;
    for (text, expected) in [
        ("", Kind::Empty),
        ("f(", Kind::NeverClosed('(')),
        ("f)", Kind::Unmatched(')')),
        (
            "f(]",
            Kind::Mismatched {
                close: ']',
                open: '(',
            },
        ),
        ("'a", Kind::UnterminatedString),
        ("012", Kind::InvalidNumber),
        ("1__0", Kind::InvalidNumber),
        ("f(a=1, 2)", Kind::PositionalAfterKeyword),
        ("f(a=1, a=2)", Kind::RepeatedKeyword("a".to_owned())),
        ("f(x for x in y)", Kind::Unsupported),
        ("f'{x}'", Kind::Unsupported),
        ("lambda: 1", Kind::Unsupported),
        ("a b", Kind::Invalid),
        ("1\n2", Kind::Invalid),
        ("$", Kind::InvalidCharacter('$')),
        (&"[".repeat(10_000), Kind::TooDeep),
        (&"-".repeat(10_000), Kind::TooDeep),
        (&"9".repeat(5_000), Kind::TooManyDigits),
    ] {
        assert_eq!(kind(text), expected, "{}", &text[..text.len().min(40)]);
    }
    assert!(parse(&("a".to_owned() + &"()".repeat(10_000))).is_err());
    assert!(parse(&("1".to_owned() + &"+1".repeat(500))).is_ok());
    assert_eq!(kind(&("1".to_owned() + &"+1".repeat(1_000))), Kind::TooDeep);
    let chain = |inner: String| format!("({inner}){}", "+1".repeat(100));
    let nested = (0..100).fold("1".to_owned(), |inner, _| chain(inner));
    assert_eq!(kind(&nested), Kind::TooDeep);
    assert!(parse(&format!("[{}]", "f(a=[-1, {'b': 2}]), ".repeat(5_000))).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_text_is_answered(text in any::<String>()) {
        prop_assert!(matches!(parse(&text), Ok(_) | Err(_)));
    }

    #[test]
    fn python_like_text_is_answered(text in r#"[\[\](){}a1'",=:.\-*\\ nxu#\n]{0,60}"#) {
        prop_assert!(matches!(parse(&text), Ok(_) | Err(_)));
    }

    #[test]
    fn repr_is_read_back(json in json::tests::any_value()) {
        let text = crate::python::repr(&json);
        prop_assume!(!text.contains("nan") && !text.contains("inf"));
        prop_assert_eq!(value(&text), Some(json));
    }
}
