//! Whatever a model writes, there is a verdict, and soon.

use proptest::prelude::*;
use starling_bench::bfcl::{
    Bfcl, Category, Class, Item, Language, Mode, convert, decode_calls, read,
};
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
fn absurd_answers_in_prompting_mode_get_a_verdict() {
    let bfcl = bfcl().in_mode(Mode::Prompting);
    let long = "x".repeat(1 << 20);
    let nested = |open: &str, close: &str| {
        let (open, close) = (open.repeat(10_000), close.repeat(10_000));
        format!("[f(a={open}1{close})]")
    };
    for text in [
        String::new(),
        long.clone(),
        format!("[f(a='{long}')]"),
        format!("[f(a={})]", "9".repeat(1 << 20)),
        format!("[f(a={}1)]", "-".repeat(1 << 20)),
        format!("[f({})]", "a=1,".repeat(1 << 18)),
        "[f(a=1e999,b=NaN,c=-Infinity,d=9**9**9**9,e='x'*10**12)]".to_owned(),
        nested("[", "]"),
        nested("(", ")"),
        nested("{'a':", "}"),
        nested("f(a=", ")"),
        nested("new ArrayList<>(Arrays.asList(", "))"),
        "[".repeat(1 << 20),
        "]".repeat(1 << 20),
        "```".repeat(1 << 18),
        "[f(a='\u{0}\u{feff}\\ud800')]".to_owned(),
    ] {
        check_everywhere(&bfcl, &text);
    }
}

#[test]
fn half_a_surrogate_pair_is_a_text() {
    let text = call("{\"a\": \"\\ud800x\", \"b\": \"\\\\ud800\"}");
    let calls = decode_calls(&text).expect("a call");
    let argument = |name| calls[0].arguments.get(name).and_then(Value::as_str);
    assert_eq!(argument("a"), Some("\u{ffff}x"));
    assert_eq!(argument("b"), Some("\\ud800"));
}

#[test]
fn absurd_arguments_are_answered() {
    let bfcl = bfcl();
    let mut math = bfcl
        .sandbox(Class::Math, &Value::Null, false)
        .expect("an instance");
    for call in [
        "power(base=10,exponent=100000000000000000000)",
        "power(base=-1,exponent=100000000000000000001)",
        "power(base=2.5,exponent=1e308)",
        "power(base=99999999,exponent=99999999)",
        "logarithm(value=2,base=3,precision=100000000000000000000)",
        "logarithm(value=2,base=3,precision=1000000000)",
        "logarithm(value=2,base=3,precision=100000)",
        "logarithm(value=1e-320,base=-1e308,precision=-100000000000000000000)",
        "logarithm(value='1e99999',base='-1e-99999',precision=50)",
        "logarithm(value='1e9223372036854775807',base=2,precision=50)",
        "square_root(number=2,precision=999999999999999999)",
        "square_root(number=1e308,precision=100000)",
        "round_number(number=12345678901234567890,decimal_places=-100000000000000000000)",
        "round_number(number=1.5,decimal_places=100000000000000000000)",
        "multiply(a=1e308,b=1e308)",
        "sum_values(numbers=[1e308, 1e308, -1e308])",
        "standard_deviation(numbers=[1e308, -1e308, 1j])",
        "add(a='x',b='y')",
        "1",
        "'a' * 1000000000000",
        "[[0] * 1000000] * 1000000",
        "9**9**9**9",
        "((((((((((1))))))))))",
    ] {
        assert!(!math.execute(call).is_empty(), "{call}");
    }
    assert_eq!(
        math.execute("power(base=-1,exponent=99999999999999999999)"),
        "{\"result\": -1}"
    );
}

#[test]
fn precise_results_run_out() {
    const REFUSED: &str = "{\"error\": \"argument beyond the limits of this simulation\"}";
    let bfcl = bfcl();
    let mut math = bfcl
        .sandbox(Class::Math, &Value::Null, false)
        .expect("an instance");
    let call = "logarithm(value=2,base=3,precision=12000)";
    assert!(math.execute(call).len() > 12_000);
    let answers: Vec<String> = (0..200).map(|_| math.execute(call)).collect();
    assert_eq!(answers.last().map(String::as_str), Some(REFUSED));
    // Ordinary precision goes on.
    let answer = math.execute("logarithm(value=2,base=2,precision=10)");
    assert_eq!(answer, "{'result': mpf('1.0')}");
}

#[test]
fn trees_that_double_are_bounded() {
    let bfcl = bfcl();
    let mut files = bfcl
        .sandbox(Class::FileSystem, &Value::Null, false)
        .expect("an instance");
    files.execute("mkdir('a')");
    for round in 0..40 {
        files.execute(&format!("cp('a','b{round}')"));
        files.execute(&format!("mv('b{round}','a')"));
    }
    // 2^40 directories by now, each within reach of both walks.
    for _ in 0..1_000 {
        for call in ["du()", "find()", "find('a', 'b')"] {
            let answer = files.execute(call);
            assert!(
                answer.starts_with("Error during execution"),
                "{call}: {answer:.80}"
            );
        }
    }
    assert_eq!(files.state_digest().len(), 64);
}

#[test]
fn loops_of_directories_are_bounded() {
    let bfcl = bfcl();
    let mut files = bfcl
        .sandbox(Class::FileSystem, &Value::Null, false)
        .expect("an instance");
    for call in [
        "mkdir('a')",
        "cp('a','a')",
        "mkdir('b')",
        "cp('b','a')",
        "cp('a','b')",
        "cp('a','a')",
    ] {
        files.execute(call);
    }
    for call in [
        "du()",
        "find()",
        "cd('a')",
        "du(True)",
        "find('.', 'a')",
        "pwd()",
        "ls(True)",
    ] {
        assert!(!files.execute(call).is_empty());
    }
    assert_eq!(files.state_digest().len(), 64);
}

/// A megabyte of calls that grow a state and look through it.
#[test]
fn a_megabyte_of_calls_gets_a_verdict() {
    let bfcl = bfcl();
    for (wanted, calls) in [
        (
            Class::Twitter,
            vec![
                (
                    "authenticate_twitter",
                    "{\"username\": \"a\", \"password\": \"b\"}",
                ),
                ("post_tweet", "{\"content\": \"aaaaaaaaaa\"}"),
                ("search_tweets", "{\"keyword\": \"b\"}"),
                ("get_user_tweets", "{\"username\": \"a\"}"),
            ],
        ),
        (
            Class::FileSystem,
            vec![
                ("touch", "{\"file_name\": \"f\"}"),
                ("echo", "{\"content\": \"x\\ny\\nz\", \"file_name\": \"f\"}"),
                ("sort", "{\"file_name\": \"f\"}"),
                ("find", "{}"),
                ("du", "{}"),
            ],
        ),
        (
            Class::Math,
            vec![
                (
                    "logarithm",
                    "{\"value\": 2, \"base\": 3, \"precision\": 19999}",
                ),
                ("square_root", "{\"number\": 2, \"precision\": 19999}"),
                (
                    "power",
                    "{\"base\": 12345678901234567890, \"exponent\": 1000}",
                ),
            ],
        ),
    ] {
        let items = bfcl.items(Category::MultiTurnLongContext).expect("data");
        let item = items
            .iter()
            .find(|item| item.scenario().is_some_and(|s| s.classes.contains(&wanted)));
        // No long dialogue uses mathematics alone; any that has the class will do.
        let item = item.expect("a dialogue with this class");
        let mut text = String::new();
        while text.len() < 1 << 20 {
            for (name, arguments) in &calls {
                text.push_str(&format!(
                    "<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>\n"
                ));
            }
        }
        let turns = vec![vec![text]; item.answers().len()];
        let verdict = bfcl.check_turns(item, &turns);
        assert!(!verdict.is_valid(), "{wanted:?}");
    }
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
