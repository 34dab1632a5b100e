//! What holds for every pipeline.

use proptest::prelude::*;

use super::Space;
use crate::plan::Status;

/// A random graph of `upper` stages over one `letters`, written in a random order.
fn any_pipeline() -> impl Strategy<Value = String> {
    (1_usize..9)
        .prop_flat_map(|n| {
            let reads = (1..=n)
                .map(|i| (0..i, prop::option::of(0..i)))
                .collect::<Vec<_>>();
            (
                reads,
                prop::sample::subsequence((0..=n).collect::<Vec<_>>(), n + 1).prop_shuffle(),
            )
        })
        .prop_map(|(reads, order)| {
            let mut text = String::new();
            for i in order {
                text.push_str(&format!("[stage.s{i}]\n"));
                if i == 0 {
                    text.push_str("kind = 'letters'\ntext = 'a'\n");
                    continue;
                }
                let (rows, extra) = reads[i - 1];
                text.push_str(&format!("kind = 'upper'\ninputs.rows = 's{rows}.rows'\n"));
                if let Some(extra) = extra {
                    text.push_str(&format!("inputs.extra = 's{extra}.rows'\n"));
                }
            }
            text
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Every stage comes after what it reads, runs once, and is cached from then on.
    #[test]
    fn plans_are_topological(text in any_pipeline()) {
        let space = Space::new();
        let pipeline = space.pipeline(&text);
        for (n, stage) in pipeline.stages.iter().enumerate() {
            prop_assert!(stage.inputs.iter().all(|i| i.stage < n));
        }
        let plan = space.try_plan(&pipeline).expect("a plan");
        for (stage, planned) in pipeline.stages.iter().zip(&plan.stages) {
            let ready = matches!(planned.status, Status::Ready(_));
            prop_assert_eq!(ready, stage.inputs.is_empty());
        }
        space.run(&text);
        prop_assert!(space.run(&text).is_empty());
    }

    /// A parameter in the key changes it, and a neutral one does not.
    #[test]
    fn only_what_counts_changes_a_key(count in 1_u32..5, every in 1_u32..5, other in 1_u32..5) {
        let space = Space::new();
        let key = |count: u32, every: u32| {
            let text = format!("[stage.a]\nkind='letters'\ntext='a'\ncount={count}\nlog-every={every}\n");
            let pipeline = space.pipeline(&text);
            space.try_plan(&pipeline).expect("a plan").stages[0].key.expect("known")
        };
        prop_assert_eq!(key(count, every), key(count, other));
        prop_assert_eq!(key(count, every) == key(other, every), count == other);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Each field that changes bytes changes the key, each that does not leaves it, whatever the others are.
    #[test]
    fn keys_follow_what_changes_bytes(
        text in "[a-z]{1,8}", count in 1u32..9, weight in 0.0f64..9.0, flip in 0usize..4, neutral in 0usize..5,
    ) {
        let space = Space::new();
        let stage = |text: &str, count: u32, weight: f64, names: &str, rest: &str, name: &str| {
            format!(
                "[stage.{name}]\nkind = 'letters'\ntext = '{text}'\ncount = {count}\n\
                 tail.coefficient = {weight:?}\ntail.names = [{names}]\n{rest}\n"
            )
        };
        let key = |text: String| {
            let pipeline = space.pipeline(&text);
            space.try_plan(&pipeline).expect("a plan").stages[0].key
        };
        let base = key(stage(&text, count, weight, "", "", "a"));
        let other = match flip {
            0 => stage(&format!("{text}x"), count, weight, "", "", "a"),
            1 => stage(&text, count + 1, weight, "", "", "a"),
            2 => stage(&text, count, weight + 0.25, "", "", "a"),
            _ => stage(&text, count, weight, "'n'", "", "a"),
        };
        prop_assert_ne!(key(other), base);
        let same = match neutral {
            0 => stage(&text, count, weight, "", "log-every = 5", "a"),
            1 => stage(&text, count, weight, "", "threads = 3\nmemory = '1GB'", "a"),
            2 => stage(&text, count, weight, "", "device = 'cuda'\ntime-limit = '3m'", "a"),
            3 => stage(&text, count, weight, "", "", "other-name"),
            _ => stage("${t}", count, weight, "", &format!("[vars]\nt = '{text}'"), "a"),
        };
        prop_assert_eq!(key(same), base);
    }
}
