//! Whatever a model writes, there is a verdict, and soon.

use proptest::prelude::*;
use starling_bench::bfcl::{Bfcl, Category, Class, Item, Language, convert, decode_calls, read};
use starling_text::json::Value;

fn bfcl() -> Bfcl {
    Bfcl::embedded().expect("the data of the binary")
}

/// An item of every kind of checker.
fn items(bfcl: &Bfcl) -> Vec<&Item> {
    let first = |category| bfcl.items(category).expect("data").first();
    Category::ALL.into_iter().filter_map(first).collect()
}

fn call(arguments: &str) -> String {
    format!("<tool_call>\n{{\"name\": \"f\", \"arguments\": {arguments}}}\n</tool_call>")
}

/// Checks a text against every kind of item, alone and as every step of a dialogue.
fn check_everywhere(bfcl: &Bfcl, text: &str) {
    let completion = read(text);
    for item in items(bfcl) {
        match bfcl.dialogue(item) {
            None => {
                let verdict = bfcl.check(item, completion.cleaned);
                assert_eq!(verdict.is_valid(), verdict.error.is_none());
            }
            Some(mut dialogue) => {
                let mut answers = 0;
                while dialogue.next_query().is_some() && answers < 30 {
                    dialogue.answer(text);
                    answers += 1;
                }
                // At most 21 steps a turn; a verdict exists at any time.
                let verdict = dialogue.verdict();
                assert_eq!(verdict.is_valid(), verdict.error.is_none());
            }
        }
    }
}

#[test]
fn absurd_answers_get_a_verdict() {
    let bfcl = bfcl();
    let long = "x".repeat(1 << 20);
    for text in [
        String::new(),
        long.clone(),
        call(&format!("{{\"a\": \"{long}\"}}")),
        call(&format!("{{\"a\": {}}}", "9".repeat(5_000))),
        call("{\"a\": 1e999, \"b\": NaN, \"c\": -Infinity}"),
        call(&format!(
            "{{\"a\": {}1{}}}",
            "[".repeat(10_000),
            "]".repeat(10_000)
        )),
        call(&format!(
            "{{\"a\": {}1{}}}",
            "[".repeat(900),
            "]".repeat(900)
        )),
        "<tool_call>\n".repeat(50_000),
        "<think>".repeat(50_000) + &"</think>".repeat(50_000),
        call("{\"a\": \"\\ud800 \\udc00 \\ud83d\\ude00 \\\\ud800\"}"),
        "[".repeat(10_000),
    ] {
        check_everywhere(&bfcl, &text);
    }
}

#[test]
fn half_a_surrogate_pair_is_a_text() {
    let calls = decode_calls(&call("{\"a\": \"\\ud800x\", \"b\": \"\\\\ud800\"}")).expect("a call");
    assert_eq!(calls[0].arguments["a"], Value::Str("\u{ffff}x".to_owned()));
    assert_eq!(calls[0].arguments["b"], Value::Str("\\ud800".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_get_a_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check_everywhere(&bfcl(), &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn arbitrary_calls_get_a_verdict(
        name in r#"[a-z_.(]{0,12}"#,
        arguments in r#"[\[\]{}",:a-z0-9 .\\-]{0,60}"#,
    ) {
        let text = format!(
            "<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {{{arguments}}}}}\n</tool_call>"
        );
        check_everywhere(&bfcl(), &text);
    }

    #[test]
    fn call_strings_are_answered(
        method in 0..128_usize,
        arguments in r#"[\[\](){}'",:=a-z0-9 .\\-]{0,40}"#,
    ) {
        let bfcl = bfcl();
        for class in Class::ALL {
            let mut sandbox = bfcl.sandbox(*class, &Value::Null, method % 2 == 0).expect("an instance");
            for name in ["cd", "mv", "logarithm", "send_message", "mention", "edit_ticket", "place_order"] {
                sandbox.execute(&format!("{name}({arguments})"));
            }
            prop_assert_eq!(sandbox.state_digest().len(), 64);
        }
    }

    #[test]
    fn literals_are_converted(text in r#"[\[\](){}'",:;=<>a-zA-Z0-9 .\n-]{0,60}"#) {
        for language in [Language::Java, Language::JavaScript] {
            for declared in ["integer", "float", "String", "array", "dict", "ArrayList", "HashMap", "Array"] {
                for element in [None, Some("String"), Some("integer"), Some("any")] {
                    let converted = convert(language, &text, declared, element);
                    prop_assert!(matches!(converted, Ok(_) | Err(_)));
                }
            }
        }
    }
}
