//! Distillation from a teacher's likeliest tokens, and the masks of its samples.

use starling_lm::kernels::Real;
use starling_lm::loss::logprob::{self, Slopes};
use starling_lm::loss::topk::{self, Divergence, Teacher, TopKRoom, TopKSettings};
use starling_lm::policy::KlEstimator;
use starling_lm::train::sample::{Assembly, MaskKind, assemble};

use crate::files::{Case, EXACT, SHORT, cases, compare, count, rows};

pub(crate) fn estimator(name: &str) -> KlEstimator {
    match name {
        "k1" => KlEstimator::K1,
        "k2" => KlEstimator::K2,
        "k3" => KlEstimator::K3,
        other => panic!("no estimator is called {other}"),
    }
}

fn settings(case: &Case) -> TopKSettings {
    // the alternative implementation is forward divergence alone
    let alternative = case.flag("kd_alter_impl");
    let divergence = match case.text("kd_kl_type") {
        _ if alternative => Divergence::Forward,
        "fkl" => Divergence::Forward,
        "rkl" => Divergence::Reverse,
        "akl" => Divergence::Adaptive,
        other => panic!("no divergence is called {other}"),
    };
    TopKSettings {
        divergence,
        tail_coefficient: if alternative {
            0.0
        } else {
            case.number("kd_kl_l1_coef")
        },
        student_top: case.number("kd_student_topm") as usize,
        ratio: case.number("kd_ratio"),
    }
}

/// Losses of all positions and the gradient on the logits.
fn run<T: Real>(case: &Case) -> (Vec<f64>, Vec<f64>) {
    let cast = |values: &[f64]| values.iter().map(|&x| T::from_f64(x)).collect::<Vec<T>>();
    let settings = settings(case);
    let (student, teacher) = (case.tensor("student_logits"), case.tensor("teacher_logits"));
    let (ids, logprobs) = (
        case.tensor("teacher_topk_ids"),
        case.tensor("teacher_topk_logp"),
    );
    let (mask, labels) = (case.tensor("mask").values, case.tensor("labels").values);
    let total: f64 = mask.iter().sum();
    let (mut losses, mut gradient) = (Vec::new(), Vec::new());
    let (mut room, mut values) = (TopKRoom::new(), Vec::new());
    let teachers = ids.rows().zip(logprobs.rows()).zip(teacher.rows());
    for (at, (logits, ((ids, logprobs), teacher))) in student.rows().zip(teachers).enumerate() {
        let mut logits = cast(logits);
        let (target, scale) = (labels[at] as usize, mask[at] / total);
        let loss = if case.flag("token_level_kl") {
            let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
            let listed = Teacher {
                ids: &ids,
                logprobs: &cast(logprobs),
            };
            let scale = T::from_f64(scale);
            topk::row(&settings, listed, target, scale, &mut logits, &mut room).to_f64()
        } else {
            let mut teacher = cast(teacher);
            let of_teacher = logprob::row(&mut teacher, target, &mut values, |_| Slopes::default());
            let mut loss = 0.0;
            logprob::row(&mut logits, target, &mut values, |stats| {
                let (lp, reference) = (stats.logprob.to_f64(), of_teacher.logprob.to_f64());
                let kl = estimator(case.text("kl_estimator")).estimate(lp, reference);
                let rest = 1.0 - settings.ratio;
                loss = settings.ratio * kl.0 - rest * lp;
                let slope = T::from_f64(scale * (settings.ratio * kl.1 - rest));
                Slopes {
                    logprob: slope,
                    entropy: T::ZERO,
                }
            });
            loss
        };
        // a position that does not count is listed as 0
        losses.push(if mask[at] > 0.0 { loss } else { 0.0 });
        gradient.extend(logits.iter().map(|z| z.to_f64()));
    }
    (losses, gradient)
}

#[test]
fn golden_star_ckd() {
    let cases = cases("star/ckd", "");
    for case in &cases {
        let (mask, expected) = (case.tensor("mask").values, case.tensor("per_token").values);
        let total: f64 = mask.iter().sum();
        for (found, tolerance) in [(run::<f64>(case), EXACT), (run::<f32>(case), SHORT)] {
            let (losses, gradient) = found;
            let name = |what: &str| format!("{} {what} ({tolerance})", case.name);
            compare(&name("per token"), &losses, &expected, tolerance);
            let loss: f64 = losses
                .iter()
                .zip(&mask)
                .map(|(loss, w)| loss * w / total)
                .sum();
            // the loss may be smaller than its parts
            let parts = expected.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
            let expected = case.tensor("loss").values[0];
            let distance = (loss - expected).abs();
            assert!(
                distance <= tolerance * parts.max(expected.abs()),
                "{}",
                name("loss")
            );
            compare(
                &name("gradient"),
                &gradient,
                &case.tensor("grad").values,
                tolerance,
            );
        }
    }
    count("ckd", cases.len());
}

#[test]
fn golden_star_ref_masks() {
    let rows = rows("star/ckd", "ref_masks");
    for row in &rows {
        let name = &row["id"];
        let number = |field: &str| row[field].as_u64().unwrap() as usize;
        let ids = |field: &str| serde_json::from_value::<Vec<u32>>(row[field].clone()).unwrap();
        let mask = match row["mask_type"].as_str().unwrap() {
            "all" => MaskKind::All,
            "think" => MaskKind::Think,
            "answer" => MaskKind::Answer,
            "alter" => MaskKind::Alter,
            other => panic!("no mask is called {other}"),
        };
        let assembly = Assembly {
            prompt_limit: number("prompt_max_len"),
            target_limit: number("generate_max_len"),
            end: number("eos") as u32,
            think_end: number("think_end_id") as u32,
            mask,
        };
        let found = assemble(
            &assembly,
            &ids("prompt_ids"),
            &ids("ref_ids"),
            number("index"),
        );
        if row.get("error").is_some_and(|error| !error.is_null()) {
            assert!(found.is_err(), "{name}");
            continue;
        }
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.ids, ids("sequence"), "{name}");
        let mask: Vec<u32> = found.mask.iter().map(|&counts| u32::from(counts)).collect();
        assert_eq!(mask, ids("action_mask"), "{name}");
    }
    count("ref_masks", rows.len());
}
