//! The optimizer and its schedule.

use starling_lm::train::{AdamW, AdamWConfig, PastEnd, Schedule};

use crate::files::{count, rows};

#[test]
fn golden_star_lr_schedule() {
    let rows = rows("star/policy", "lr_schedule");
    for row in &rows {
        let number = |field: &str| row[field].as_f64().unwrap();
        let total = row["total_steps"].as_u64().unwrap();
        let faithful = Schedule {
            minimum_share: number("min_lr") / number("lr"),
            past_end: PastEnd::Rise,
            ..Schedule::cosine(number("lr"), number("warmup_ratio"), total)
        };
        assert_eq!(
            faithful.warmup,
            row["warmup_steps"].as_u64().unwrap(),
            "{}",
            row["id"]
        );
        let held = Schedule {
            past_end: PastEnd::Hold,
            ..faithful
        };
        for point in row["points"].as_array().unwrap() {
            let (update, rate) = (point[0].as_u64().unwrap(), point[1].as_f64().unwrap());
            let distance = |found: f64, expected: f64| (found - expected).abs() / number("lr");
            assert!(
                distance(faithful.rate(update), rate) < 1e-12,
                "{} {update}",
                row["id"]
            );
            let expected = if update <= total {
                rate
            } else {
                number("min_lr")
            };
            assert!(
                distance(held.rate(update), expected) < 1e-12,
                "{} {update}",
                row["id"]
            );
        }
    }
    count("lr_schedule", rows.len());
}

#[test]
fn golden_star_adamw() {
    let rows = rows("star/policy", "adamw");
    for row in &rows {
        let number = |field: &str| row[field].as_f64().unwrap();
        let lists = |value: &serde_json::Value| {
            serde_json::from_value::<Vec<Vec<f64>>>(value.clone()).unwrap()
        };
        let start = lists(&row["init"]);
        let config = AdamWConfig {
            beta1: row["betas"][0].as_f64().unwrap(),
            beta2: row["betas"][1].as_f64().unwrap(),
            epsilon: number("eps"),
            weight_decay: number("weight_decay"),
            max_grad_norm: number("max_grad_norm"),
        };
        let mut end = 0;
        let parts = start.iter().map(|part| {
            let first = end;
            end += part.len();
            (first..end, true)
        });
        let mut optimizer = AdamW::<f64>::with_parts(config, parts.collect());
        let mut params = start.concat();
        for (at, step) in row["steps"].as_array().unwrap().iter().enumerate() {
            let grads = lists(&step["grads"]).concat();
            let norm = optimizer
                .update(&mut params, &grads, number("lr"), 2)
                .unwrap();
            let expected = step["grad_norm"].as_f64().unwrap();
            assert!(
                (norm - expected).abs() < 1e-12 * expected,
                "{} {at}",
                row["id"]
            );
            for (found, expected) in params.iter().zip(lists(&step["params"]).concat()) {
                assert!(
                    (found - expected).abs() < 1e-12,
                    "{} {at}: {found} {expected}",
                    row["id"]
                );
            }
        }
    }
    count("adamw", rows.len());
}
