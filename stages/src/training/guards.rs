//! Guards: when training stops, or goes back, before it does harm.
//!
//! A guard watches a figure of the curve. When it trips, the stage stops, or rolls back to the last good state: the
//! newest of those kept every `roll-back.every` updates that was followed by as many without a guard being crossed. From there training goes another
//! way (other random numbers, a lower rate), at most `roll-back.most` times. All of it depends on the updates alone,
//! never on time or threads, so a resumed run rolls back where an unbroken one does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::Complaint;

/// What follows when a guard trips.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Then {
    /// The stage fails, with the numbers.
    #[default]
    Stop,
    /// Training goes back to the last good state and on another way from there.
    RollBack,
}

/// A bound on a figure of the curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Bound {
    /// What the figure must not cross.
    limit: f64,
    /// Updates in a row that it must be crossed for.
    #[serde(default = "five")]
    patience: u64,
    /// What follows.
    #[serde(default)]
    then: Then,
}

/// Updates in a row that are too many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Streak {
    /// So many updates in a row.
    patience: u64,
    /// What follows.
    then: Then,
}

fn five() -> u64 {
    5
}

impl Default for Streak {
    fn default() -> Self {
        Self {
            patience: 50,
            then: Then::Stop,
        }
    }
}

/// How training is rolled back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct RollBack {
    /// Updates between the states that can be gone back to. One counts as good once as many updates have followed
    /// without a guard being crossed.
    every: u64,
    /// How often at most; then the stage stops.
    most: u64,
    /// What the learning rate is multiplied by each time, above 0; 1 leaves it and only draws other numbers.
    rate: f64,
}

impl Default for RollBack {
    fn default() -> Self {
        Self {
            every: 25,
            most: 3,
            rate: 0.5,
        }
    }
}

impl RollBack {
    /// What the schedule's rate is multiplied by after so many.
    pub(super) fn scale(&self, attempt: u64) -> f64 {
        self.rate.powi(i32::try_from(attempt).unwrap_or(i32::MAX))
    }

    pub(super) fn every(&self) -> u64 {
        self.every
    }

    pub(super) fn most(&self) -> u64 {
        self.most
    }

    pub(super) fn is_over(&self, attempt: u64) -> bool {
        attempt >= self.most
    }
}

/// When to stop, or to go back, before harm is done; what is unset is not watched.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Guards {
    /// What follows a loss or gradient that is infinite or no number; the update that had it is not done.
    non_finite: Then,
    /// Greatest loss, nats a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<Bound>,
    /// Greatest gradient norm, before the clip.
    #[serde(skip_serializing_if = "Option::is_none")]
    grad_norm: Option<Bound>,
    /// How training is rolled back.
    roll_back: RollBack,
}

impl Guards {
    /// Whether nothing is said: then nothing is in the key either.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What to watch.
    pub(crate) fn rules(&self) -> Rules {
        let advice = "lower `optimizer.lr` or `optimizer.clip`";
        let bounds = [
            ("loss", "loss", &self.loss),
            ("grad-norm", "grad_norm", &self.grad_norm),
        ];
        let rules = bounds.into_iter().filter_map(|(name, figure, bound)| {
            let bound = bound.as_ref()?;
            Some(bound.rule(name, figure, Test::Above(bound.limit), advice))
        });
        Rules {
            list: rules.map(Rule::after_the_update).collect(),
            non_finite: self.non_finite,
            roll_back: self.roll_back.clone(),
        }
    }
}

impl Bound {
    /// The rule that this is.
    pub(crate) fn rule(
        &self,
        name: &'static str,
        figure: &'static str,
        test: Test,
        advice: &'static str,
    ) -> Rule {
        Rule {
            name,
            figure,
            test,
            patience: self.patience,
            then: self.then,
            advice,
            after: false,
        }
    }

    pub(crate) fn limit(&self) -> f64 {
        self.limit
    }
}

impl Streak {
    /// The rule that a figure must not be this for so long.
    pub(crate) fn rule(
        &self,
        name: &'static str,
        figure: &'static str,
        test: Test,
        advice: &'static str,
    ) -> Rule {
        Rule {
            name,
            figure,
            test,
            patience: self.patience,
            then: self.then,
            advice,
            after: false,
        }
    }
}

/// When a figure is out of bounds; one that is no number always is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Test {
    /// Above this.
    Above(f64),
    /// Below this.
    Below(f64),
    /// 0.
    Zero,
    /// As much as this other figure.
    All(&'static str),
}

impl Test {
    fn crossed(self, value: f64, figure: &dyn Fn(&str) -> Option<f64>) -> bool {
        value.is_nan()
            || match self {
                Self::Above(limit) => value > limit,
                Self::Below(limit) => value < limit,
                Self::Zero => value.abs() <= 0.0,
                Self::All(whole) => figure(whole).is_some_and(|whole| value >= whole),
            }
    }

    fn words(self) -> String {
        match self {
            Self::Above(limit) => format!("above {limit}"),
            Self::Below(limit) => format!("below {limit}"),
            Self::Zero => "nothing".to_owned(),
            Self::All(whole) => format!("all of `{whole}`"),
        }
    }
}

/// A guard, ready to watch.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// As the parameter is called, under `guards`.
    name: &'static str,
    /// The column of the curve.
    figure: &'static str,
    test: Test,
    patience: u64,
    then: Then,
    advice: &'static str,
    /// Whether the figure is known only when the update is done.
    after: bool,
}

impl Rule {
    /// The figure is one that only the update gives.
    pub(crate) fn after_the_update(self) -> Self {
        Self {
            after: true,
            ..self
        }
    }
}

/// All guards of a stage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// The figures that are watched.
    pub(crate) list: Vec<Rule>,
    /// What follows what is not finite.
    pub(crate) non_finite: Then,
    /// How training is rolled back.
    pub(crate) roll_back: RollBack,
}

/// A guard that tripped.
#[derive(Debug)]
pub(super) struct Trip {
    pub(super) then: Then,
    /// Guard, figure, limit, for how long.
    pub(super) message: String,
    pub(super) advice: String,
}

/// Figures shown with a guard that trips, where an update has them.
const SHOWN: &[&str] = &[
    "loss",
    "grad_norm",
    "reward",
    "entropy",
    "kl_reference",
    "groups",
    "groups_equal",
    "groups_kept",
];

impl Rules {
    /// Complaints under the parameter name `guards`.
    pub(crate) fn check(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut want = |good: bool, what: &str| {
            if !good {
                complaints.push(Complaint::new("guards", what));
            }
        };
        want(
            self.list.iter().all(|rule| rule.patience > 0),
            "`patience` must be at least 1",
        );
        let finite = |rule: &Rule| match rule.test {
            Test::Above(limit) | Test::Below(limit) => limit.is_finite(),
            Test::Zero | Test::All(_) => true,
        };
        want(self.list.iter().all(finite), "`limit` must be finite");
        let RollBack { every, most, rate } = self.roll_back;
        want(
            every > 0 && most > 0,
            "`every` and `most` of `roll-back` must be at least 1",
        );
        want(
            rate > 0.0 && rate.is_finite(),
            "`rate` of `roll-back` must be above 0",
        );
        complaints
    }

    /// Whether training is ever rolled back.
    pub(super) fn roll_back(&self) -> bool {
        let then = self.list.iter().map(|rule| rule.then);
        then.chain([self.non_finite]).any(|t| t == Then::RollBack)
    }

    /// Looks at figures before an update is done (`after` is false) or afterwards; counts in `streaks`.
    pub(super) fn see(
        &self,
        streaks: &mut Vec<u64>,
        update: u64,
        after: bool,
        figure: &dyn Fn(&str) -> Option<f64>,
    ) -> Option<Trip> {
        streaks.resize(self.list.len(), 0);
        let mut tripped = None;
        for (rule, streak) in self.list.iter().zip(streaks) {
            // What an update has not got says nothing, neither way.
            let Some(value) = figure(rule.figure).filter(|_| rule.after == after) else {
                continue;
            };
            *streak = if rule.test.crossed(value, figure) {
                *streak + 1
            } else {
                0
            };
            if *streak >= rule.patience && tripped.is_none() {
                tripped = Some(Trip {
                    then: rule.then,
                    message: format!(
                        "guard `{}`: `{}` was {} for {streak} update{} in a row, {value:.4} at update {}{}",
                        rule.name,
                        rule.figure,
                        rule.test.words(),
                        if *streak == 1 { "" } else { "s" },
                        update + 1,
                        others(rule.figure, figure)
                    ),
                    advice: rule.advice.to_owned(),
                });
            }
        }
        tripped
    }

    /// What is not finite.
    pub(super) fn not_finite(&self, update: u64, what: &str, lr: f64) -> Trip {
        Trip {
            then: self.non_finite,
            message: format!("guard `non-finite`: {what} at update {}", update + 1),
            advice: format!("lower `optimizer.lr` (now {lr}) or `optimizer.clip`"),
        }
    }
}

fn others(but: &str, figure: &dyn Fn(&str) -> Option<f64>) -> String {
    let shown = SHOWN.iter().filter(|name| **name != but);
    let words: Vec<String> = shown
        .filter_map(|name| figure(name).map(|value| format!("{name} {value:.4}")))
        .collect();
    if words.is_empty() {
        String::new()
    } else {
        format!(" ({})", words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(limit: f64, patience: u64) -> Bound {
        Bound {
            limit,
            patience,
            then: Then::Stop,
        }
    }

    #[test]
    fn a_bound_must_be_crossed_for_a_while() {
        let low = bound(0.1, 3);
        let rules = Rules {
            list: vec![low.rule("entropy", "entropy", Test::Below(0.1), "raise it")],
            ..Rules::default()
        };
        let mut streaks = Vec::new();
        let mut see = |update, entropy: f64| {
            let figure = |name: &str| (name == "entropy").then_some(entropy);
            rules.see(&mut streaks, update, false, &figure)
        };
        for (update, entropy) in [(0, 0.05), (1, 0.05), (2, 0.2), (3, 0.05), (4, 0.05)] {
            assert!(see(update, entropy).is_none());
        }
        let trip = see(5, 0.01).expect("three in a row");
        assert_eq!(
            trip.message,
            "guard `entropy`: `entropy` was below 0.1 for 3 updates in a row, 0.0100 at update 6"
        );
    }

    #[test]
    fn what_may_not_be_all_of_another_figure_may_be_part_of_it() {
        let streak = Streak {
            patience: 2,
            then: Then::Stop,
        };
        let test = Test::All("groups");
        let rules = Rules {
            list: vec![streak.rule("no-advantages", "groups_equal", test, "")],
            ..Rules::default()
        };
        let mut streaks = Vec::new();
        let mut see = |equal: f64| {
            let figure = |name: &str| match name {
                "groups_equal" => Some(equal),
                "groups" => Some(8.0),
                _ => None,
            };
            rules.see(&mut streaks, 0, false, &figure)
        };
        assert!(see(8.0).is_none() && see(7.0).is_none() && see(8.0).is_none());
        let trip = see(8.0).expect("two in a row");
        assert_eq!(
            trip.message,
            "guard `no-advantages`: `groups_equal` was all of `groups` for 2 updates in a row, 8.0000 at update 1 \
             (groups 8.0000)"
        );
    }

    #[test]
    fn what_is_no_number_is_out_of_bounds_and_what_is_absent_says_nothing() {
        let rules = Rules {
            list: vec![bound(0.5, 2).rule("kl", "kl_reference", Test::Above(0.5), "")],
            ..Rules::default()
        };
        let mut streaks = Vec::new();
        let mut see = |kl: Option<f64>| {
            let figure = |name: &str| kl.filter(|_| name == "kl_reference");
            rules.see(&mut streaks, 0, false, &figure).is_some()
        };
        assert!(!see(Some(f64::NAN)));
        assert!(!see(None));
        assert!(see(Some(0.6)));
    }

    #[test]
    fn figures_of_an_update_are_seen_when_it_is_done() {
        let guards = Guards {
            loss: Some(bound(2.0, 1)),
            ..Guards::default()
        };
        let rules = guards.rules();
        let mut streaks = Vec::new();
        let figure = |name: &str| (name == "loss").then_some(3.0);
        assert!(rules.see(&mut streaks, 0, false, &figure).is_none());
        assert!(rules.see(&mut streaks, 0, true, &figure).is_some());
    }

    #[test]
    fn the_rate_falls_with_every_roll_back() {
        let roll_back = RollBack::default();
        assert!((roll_back.scale(0) - 1.0).abs() < 1e-15);
        assert!((roll_back.scale(2) - 0.25).abs() < 1e-15);
        assert!(!roll_back.is_over(2) && roll_back.is_over(3));
    }
}
