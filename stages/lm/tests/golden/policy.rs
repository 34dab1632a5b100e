//! Advantages, policy losses and the filter of groups.

use starling_lm::kernels::Real;
use starling_lm::loss::logprob::{self, Slopes};
use starling_lm::policy::advantage::{Advantages, advantages, overlong_penalty};
use starling_lm::policy::loss::{Parts, Shares, Tokens, rollout};
use starling_lm::policy::{AdvantageSettings, Estimator, PolicySettings, Ratio, keep_group};

use crate::ckd::estimator;
use crate::files::{Case, EXACT, Golden, SHORT, cases, compare, count, rows};

fn masks(case: &Case) -> Vec<Vec<bool>> {
    case.tensor("mask")
        .rows()
        .map(|row| row.iter().map(|&x| x > 0.0).collect())
        .collect()
}

fn find_advantages(case: &Case) -> Advantages {
    let masks = masks(case);
    let clip: Vec<f64> = serde_json::from_value(case.config["reward_clip_range"].clone()).unwrap();
    let settings = AdvantageSettings {
        estimator: match case.text("advantage_estimator") {
            "group_norm" => Estimator::GroupNorm,
            "dr_grpo" => Estimator::DrGrpo,
            "rloo" => Estimator::Rloo,
            "reinforce_baseline" => Estimator::ReinforceBaseline,
            "reinforce" => Estimator::Reinforce,
            other => panic!("no estimator is called {other}"),
        },
        group: case.number("n_samples_per_prompt") as usize,
        clip: (clip[0], clip[1]),
        discount: case.number("gamma"),
        divide_by_deviation: !case.flag("no_advantage_std_norm"),
    };
    let mut rewards = case.tensor("rewards").values;
    if let Some(buffer) = case.config["overlong_buffer_len"].as_u64() {
        let limit = case.number("generate_max_len") as usize;
        let factor = case.number("overlong_penalty_factor");
        for (reward, mask) in rewards.iter_mut().zip(&masks) {
            let len = mask.iter().filter(|&&counts| counts).count();
            *reward = overlong_penalty(*reward, len, limit, buffer as usize, factor);
        }
    }
    let penalties = (!case.flag("use_kl_loss")).then(|| {
        let (old, reference) = (case.tensor("old_logp"), case.tensor("ref_logp"));
        let (kind, coefficient) = (
            estimator(case.text("kl_estimator")),
            case.number("init_kl_coef"),
        );
        let rows = old.rows().zip(reference.rows());
        rows.map(|(old, reference)| {
            let pairs = old.iter().zip(reference);
            pairs
                .map(|(&old, &reference)| coefficient * kind.estimate(old, reference).0)
                .collect()
        })
        .collect::<Vec<Vec<f64>>>()
    });
    advantages(&rewards, &masks, penalties.as_deref(), &settings).unwrap()
}

fn policy_settings(case: &Case) -> PolicySettings {
    assert!(
        case.flag("token_level_loss"),
        "{}: the mean is over tokens",
        case.name
    );
    PolicySettings {
        ratio: match case.text("policy_loss_type") {
            "ppo" => Ratio::Token,
            "gspo" => Ratio::Sequence,
            other => panic!("no loss is called {other}"),
        },
        clip_low: case.number("eps_clip_low"),
        clip_high: case.number("eps_clip_high"),
        dual_clip: case.config["dual_clip"].as_f64(),
        policy_coefficient: case.number("ppo_coef"),
        kl_estimator: estimator(case.text("kl_estimator")),
        kl_coefficient: if case.flag("use_kl_loss") {
            case.number("init_kl_coef")
        } else {
            0.0
        },
        entropy_coefficient: case.config["entropy_loss_coef"].as_f64().unwrap_or(0.0),
    }
}

/// Log-probability and entropy of each place of a case, from its logits when it has any.
fn logprobs<T: Real>(case: &Case) -> (Golden, Vec<f64>) {
    let Some(logits) = case.find("logits") else {
        let logp = case.tensor("logp");
        let zeros = vec![0.0; logp.values.len()];
        return (logp, zeros);
    };
    let labels = case.tensor("labels");
    let mut room = Vec::new();
    let stats = logits.rows().zip(&labels.values).map(|(row, &label)| {
        let mut row: Vec<T> = row.iter().map(|&z| T::from_f64(z)).collect();
        let stats = logprob::row(&mut row, label as usize, &mut room, |_| Slopes::default());
        (stats.logprob.to_f64(), stats.entropy.to_f64())
    });
    let (values, entropies) = stats.unzip();
    (
        Golden {
            shape: labels.shape.clone(),
            values,
        },
        entropies,
    )
}

/// Parts of the loss and its slope on each log-probability; entropy included.
fn find_loss<T: Real>(case: &Case, settings: &PolicySettings) -> (Parts, Vec<f64>) {
    let (logp, entropies) = logprobs::<T>(case);
    let (old, reference) = (case.tensor("old_logp"), case.tensor("ref_logp"));
    let (given, masks) = (case.tensor("advantages"), masks(case));
    let counted: usize = masks.iter().flatten().filter(|&&counts| counts).count();
    let shares = Shares {
        token: 1.0 / counted as f64,
        rollout: 1.0 / masks.len() as f64,
    };
    let (mut parts, mut slopes) = (Parts::default(), Vec::new());
    for (at, mask) in masks.iter().enumerate() {
        let width = mask.len();
        let pick = |tensor: &Golden| -> Vec<f64> {
            let row = &tensor.values[at * width..(at + 1) * width];
            row.iter()
                .zip(mask)
                .filter(|(_, counts)| **counts)
                .map(|(x, _)| *x)
                .collect()
        };
        let (logprobs, old, reference) = (pick(&logp), pick(&old), pick(&reference));
        let advantages = pick(&given);
        let tokens = Tokens {
            logprobs: &logprobs,
            old: &old,
            reference: Some(&reference),
            advantages: &advantages,
        };
        let (found, on_logprobs) = rollout(settings, tokens, shares);
        parts += found;
        let mut on_logprobs = on_logprobs.into_iter();
        for (place, &counts) in mask.iter().enumerate() {
            slopes.push(if counts {
                on_logprobs.next().unwrap()
            } else {
                0.0
            });
            if counts {
                parts.entropy += entropies[at * width + place] * shares.token;
            }
        }
    }
    (parts, slopes)
}

/// The gradient that the case asks for: on its logits, or on its log-probabilities.
fn gradient<T: Real>(case: &Case, settings: &PolicySettings, slopes: &[f64]) -> Vec<f64> {
    let Some(logits) = case.find("logits") else {
        return slopes.to_vec();
    };
    let (labels, mask) = (case.tensor("labels").values, case.tensor("mask").values);
    let total: f64 = mask.iter().sum();
    let (mut room, mut gradient) = (Vec::new(), Vec::new());
    for (at, row) in logits.rows().enumerate() {
        let mut row: Vec<T> = row.iter().map(|&z| T::from_f64(z)).collect();
        let entropy = T::from_f64(-settings.entropy_coefficient * mask[at] / total);
        let slopes = Slopes {
            logprob: T::from_f64(slopes[at]),
            entropy,
        };
        logprob::row(&mut row, labels[at] as usize, &mut room, |_| slopes);
        gradient.extend(row.iter().map(|z| z.to_f64()));
    }
    gradient
}

fn check_loss<T: Real>(case: &Case, tolerance: f64) {
    let settings = policy_settings(case);
    let (mut parts, mut slopes) = find_loss::<T>(case, &settings);
    let mut total = parts.total(&settings);
    // one reference serves both divergences in the published code
    let extra = case.number("op_kl_coef");
    if extra > 0.0 {
        let alone = PolicySettings {
            policy_coefficient: 0.0,
            kl_coefficient: extra,
            entropy_coefficient: 0.0,
            ..settings
        };
        let (found, more) = find_loss::<T>(case, &alone);
        total += extra * found.kl;
        slopes
            .iter_mut()
            .zip(more)
            .for_each(|(slope, more)| *slope += more);
    }
    if settings.kl_coefficient.abs() < f64::MIN_POSITIVE {
        parts.kl = 0.0;
    }
    let check = |what: &str, found: f64| {
        let name = &case.name;
        let expected = case.expected[what].as_f64();
        let expected = expected.unwrap_or_else(|| panic!("no manifest has the {what} of {name}"));
        let size = expected.abs().max(1e-3);
        assert!(
            (found - expected).abs() <= tolerance * size,
            "{name} {what}: {found} {expected}"
        );
    };
    check("policy_loss", parts.policy);
    check("kl_loss", parts.kl);
    check("total_loss", total);
    check("clip_ratio", parts.clipped);
    check("ppo_kl", parts.moved);
    if settings.entropy_coefficient > 0.0 {
        check("entropy", parts.entropy);
    }
    let found = gradient::<T>(case, &settings, &slopes);
    let name = format!("{} gradient ({tolerance})", case.name);
    compare(&name, &found, &case.tensor("grad").values, tolerance);
}

#[test]
fn golden_star_policy() {
    let cases = cases("star/policy", "");
    for case in &cases {
        let found = find_advantages(case);
        let expected = case.tensor("advantages");
        let name = |what: &str| format!("{} {what}", case.name);
        compare(
            &name("advantages"),
            &found.advantages.concat(),
            &expected.values,
            EXACT,
        );
        compare(
            &name("returns"),
            &found.returns,
            &case.tensor("returns").values,
            EXACT,
        );
        check_loss::<f64>(case, EXACT);
        check_loss::<f32>(case, SHORT);
    }
    count("policy", cases.len());
}

#[test]
fn golden_star_dynamic_filter() {
    let rows = rows("star/policy", "dynamic_filter");
    for row in &rows {
        let numbers = |field: &str| serde_json::from_value::<Vec<f64>>(row[field].clone()).unwrap();
        let bounds = numbers("range");
        let least = row["min_diff"].as_f64().unwrap();
        let kept = keep_group(&numbers("scores"), (bounds[0], bounds[1]), least);
        assert_eq!(kept, row["keep"].as_bool().unwrap(), "{}", row["id"]);
    }
    count("dynamic_filter", rows.len());
}
