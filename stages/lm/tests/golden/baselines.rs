//! Losses of the methods that STAR is compared with.

use starling_lm::kernels::Real;
use starling_lm::loss::gkd;
use starling_lm::policy::luffy::{self, LuffySettings, LuffyTokens};
use starling_lm::policy::preference::{self, Pair, Preference};

use crate::files::{Case, EXACT, SHORT, cases, compare, count};

fn run_gkd<T: Real>(case: &Case, tolerance: f64) {
    let (student, teacher) = (case.tensor("student_logits"), case.tensor("teacher_logits"));
    let mask = case.tensor("mask").values;
    let total: f64 = mask.iter().sum();
    let (mut loss, mut gradient) = (0.0, Vec::new());
    for ((student, teacher), weight) in student.rows().zip(teacher.rows()).zip(&mask) {
        let cast = |row: &[f64]| row.iter().map(|&z| T::from_f64(z)).collect::<Vec<T>>();
        let (mut student, teacher) = (cast(student), cast(teacher));
        let (beta, temperature) = (case.number("beta"), case.number("temperature"));
        let scale = weight / total;
        let row = gkd::row(
            &mut student,
            &teacher,
            beta,
            temperature,
            T::from_f64(scale),
        );
        loss += row.to_f64() * scale;
        gradient.extend(student.iter().map(|z| z.to_f64()));
    }
    let name = format!("{} ({tolerance})", case.name);
    compare(&name, &[loss], &case.tensor("loss").values, tolerance);
    compare(&name, &gradient, &case.tensor("grad").values, tolerance);
}

#[test]
fn golden_star_gkd() {
    let cases = cases("star/baselines", "gkd");
    for case in &cases {
        run_gkd::<f64>(case, EXACT);
        run_gkd::<f32>(case, SHORT);
    }
    count("gkd", cases.len());
}

#[test]
fn golden_star_luffy() {
    let cases = cases("star/baselines", "luffy");
    for case in &cases {
        let settings = LuffySettings {
            gamma: case.number("gamma"),
            clip: (!case.flag("remove_clip")).then(|| case.number("clip")),
            length: case
                .flag("remove_token_mean")
                .then(|| case.tensor("mask").shape[1]),
        };
        let bools = |name: &str| {
            case.tensor(name)
                .values
                .iter()
                .map(|&x| x > 0.0)
                .collect::<Vec<bool>>()
        };
        let tokens = LuffyTokens {
            logprobs: &case.tensor("logp").values,
            old: &case.tensor("old_logp").values,
            advantages: &case.tensor("advantages").values,
            mask: &bools("mask"),
            foreign: &bools("off_policy"),
        };
        let (loss, slopes) = luffy::loss(&settings, tokens);
        compare(&case.name, &[loss], &case.tensor("loss").values, EXACT);
        compare(&case.name, &slopes, &case.tensor("grad").values, EXACT);
    }
    count("luffy", cases.len());
}

#[test]
fn golden_star_dpo() {
    let cases = cases("star/baselines", "dpo");
    for case in &cases {
        let logps = case.tensor("logps");
        let pairs = logps.shape[1];
        let at = |row: usize, pair: usize| logps.values[row * pairs + pair];
        let kind = if case.flag("ipo") {
            Preference::Squared
        } else {
            Preference::Sigmoid {
                smoothing: case.number("label_smoothing"),
            }
        };
        let (mut loss, mut gradient) = (0.0, vec![0.0; 4 * pairs]);
        for pair in 0..pairs {
            let given = Pair {
                chosen: at(0, pair),
                rejected: at(1, pair),
                reference_chosen: at(2, pair),
                reference_rejected: at(3, pair),
            };
            let (value, slope) = preference::loss(kind, case.number("beta"), given);
            loss += value / pairs as f64;
            // the margin falls by what the reference prefers
            for (row, sign) in [1.0, -1.0, -1.0, 1.0].into_iter().enumerate() {
                gradient[row * pairs + pair] = sign * slope / pairs as f64;
            }
        }
        compare(&case.name, &[loss], &case.tensor("loss").values, EXACT);
        compare(&case.name, &gradient, &case.tensor("grad").values, EXACT);
    }
    count("dpo", cases.len());
}
