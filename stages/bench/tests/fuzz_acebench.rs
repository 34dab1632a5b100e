//! Whatever a model writes, the ACEBench checkers say something, and soon.

use proptest::prelude::*;
use starling_bench::acebench::{
    Category, Dataset, Family, Item, Lang, MultiStep, MultiTurn, Profile, Turn, strip_thinking,
    text_from_tool_calls,
};

fn data(lang: Lang, profile: Profile) -> Dataset {
    Dataset::embedded(lang, profile).expect("embedded data")
}

/// An entry of every category.
fn items(data: &Dataset) -> Vec<&Item> {
    let first = |category| data.category(category).next();
    Category::ALL.into_iter().filter_map(first).collect()
}

/// Checks a text against an entry of every category, and plays agents with it.
fn check_everywhere(data: &Dataset, text: &str) {
    let rewritten = text_from_tool_calls(text);
    for item in items(data) {
        match item.category.family() {
            Family::Normal | Family::Special => {
                for text in [
                    text,
                    strip_thinking(text),
                    rewritten.as_deref().unwrap_or(""),
                ] {
                    let verdict = data.check(item, text);
                    assert_eq!(verdict.valid(), verdict.error_name().is_empty());
                }
            }
            Family::Agent => play(data, item, text),
        }
    }
}

/// How many messages are played: all of them, or a few where they are long.
fn longest(text: &str) -> usize {
    if text.len() > 10_000 { 3 } else { 100 }
}

/// Plays a conversation in which the model says the same again and again.
fn play(data: &Dataset, item: &Item, text: &str) {
    let score = match item.category {
        Category::AgentMultiStep => {
            let mut step = MultiStep::new(data, item).expect("an agent's entry");
            let mut messages = 0;
            while step.prompt().is_some() && messages < longest(text) {
                step.respond(text);
                messages += 1;
                assert!(messages <= 40, "an endless conversation");
            }
            step.score()
        }
        _ => {
            let mut turn = MultiTurn::new(data, item).expect("an agent's entry");
            let mut messages = 0;
            while let Some(next) = turn.next().filter(|_| messages < longest(text)) {
                let said = match next {
                    Turn::Agent(_) => text,
                    Turn::User(_) => "go on",
                };
                turn.respond(said);
                messages += 1;
                assert!(messages <= 80, "an endless conversation");
            }
            turn.score()
        }
    };
    assert!((0.0..=1.0).contains(&score.process));
}

/// Texts that have hurt evaluators: arithmetic, nesting, sizes.
fn hostile() -> Vec<String> {
    let long = "x".repeat(1 << 20);
    let nested = |open: &str, n: usize, close: &str| {
        format!("[f(a={}1{})]", open.repeat(n), close.repeat(n))
    };
    let mut texts: Vec<String> = [
        "",
        "\0",
        "[f(a=9**9**9)]",
        "[f(a=-9**9**9)]",
        "[f(a=1<<9**9)]",
        "[f(a=(10**1000)**(10**1000))]",
        "[f(a='x'*9999999999)]",
        "[f(a=['x']*9999999999)]",
        "[f(a=[[0]*9999]*9999)]",
        "[f(a=((('x'*9999)*9999)*9999)*9999)]",
        "[f(a='%9999999999d'%1)]",
        "[f(a='%65536d'*65536%tuple)]",
        "[f(a=1e999,b=-1e999,c=nan)]",
        "[f(a=1/0)]",
        "[f(a=1%0)]",
        "[f(a=1.0//0)]",
        "[f(a=0**-1)]",
        "[f(a=0x",
        "[f(a='\\N{LATIN SMALL LETTER A}\\x')]",
        "[f(**{'a':1})]",
        "[f(a=1,a=2)]",
        "[f(a=f(a=f(a=f(a=1))))]",
        "[f(a=(lambda:0)())]",
        "[f(a=[i for i in range(9**9)])]",
        "[f(a={**{}})]",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.extend([
        long.clone(),
        format!("[f(a='{long}')]"),
        format!("[f({long}=1)]"),
        format!("[f(a={})]", "9".repeat(1 << 20)),
        format!("[f(a={})]", "9".repeat(4_300)),
        format!("[f(a=1{})]", "+1".repeat(1 << 19)),
        format!("[f(a={}1)]", "-".repeat(1 << 20)),
        format!("[f(a={}True)]", "not ".repeat(1 << 18)),
        format!("[f(a=1{})]", "**2".repeat(1 << 18)),
        format!("[f(a=a{})]", ".b".repeat(1 << 19)),
        format!("[f(a=a{})]", "[0]".repeat(1 << 18)),
        format!("[f(a=1{})]", "if 1 else 1".repeat(1 << 16)),
        format!("[f(a={})]", "'a'".repeat(1 << 18)),
        format!("[{}]", "f(a=1),".repeat(1 << 17)),
        format!(
            "[f({})]",
            (0..1 << 16).map(|i| format!("a{i}=1,")).collect::<String>()
        ),
        format!(
            "[f(a={{{}}})]",
            (0..1 << 16)
                .map(|i| format!("'k{i}':1,"))
                .collect::<String>()
        ),
        format!(
            "[f(a={{{}}})]",
            (0..1 << 16)
                .map(|i| format!("{i}.5:1,"))
                .collect::<String>()
        ),
        nested("[", 10_000, "]"),
        nested("(", 10_000, ")"),
        nested("{'a':", 10_000, "}"),
        nested("f(a=", 10_000, ")"),
        nested("[", 199, "]"),
        nested("f(a=", 99, ")"),
        "[".repeat(1 << 20),
        "]".repeat(1 << 20),
        "[]".repeat(1 << 19),
        "<tool_call>".repeat(1 << 16),
        format!(
            "<tool_call>{{\"name\":\"f\",\"arguments\":{}1{}}}</tool_call>",
            "[".repeat(10_000),
            "]".repeat(10_000)
        ),
        "<think>".repeat(1 << 16) + &"</think>".repeat(1 << 16),
        "\u{1d7d8}\u{feff}[f(\u{ff41}=１)]".to_owned(),
        format!("[f(a={}{})]", "('x'*99999+".repeat(150), ")".repeat(150)),
    ]);
    texts
}

#[test]
fn hostile_outputs_get_a_verdict() {
    for (lang, profile) in [(Lang::En, Profile::R2508), (Lang::Zh, Profile::R2510)] {
        let data = data(lang, profile);
        for text in hostile() {
            check_everywhere(&data, &text);
        }
    }
}

/// The same texts as values of the arguments that an entry expects, where they come deeper.
#[test]
fn hostile_values_get_a_verdict() {
    let data = data(Lang::En, Profile::R2508);
    for item in items(&data) {
        let Some(name) = item
            .functions
            .first()
            .and_then(|f| f.get("name")?.as_str().map(str::to_owned))
        else {
            continue;
        };
        for text in hostile() {
            let _ = data.check(item, &text.replacen("[f(", &format!("[{name}("), 1));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_get_a_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        thread_local!(static DATA: Dataset = data(Lang::En, Profile::R2508));
        DATA.with(|data| check_everywhere(data, &String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn arbitrary_call_lists_get_a_verdict(
        text in r#"\[(f|turn_on_wifi|view_reminder_by_title|[a-z]{1,3})\(([a-z]=[\[\](){}'",:a-z0-9 .+*/%<>-]{0,20},?){0,3}\)\]?"#,
    ) {
        thread_local!(static DATA: Dataset = data(Lang::En, Profile::R2510));
        DATA.with(|data| check_everywhere(data, &text));
    }
}
