//! What reinforcement learning is guarded by, besides what every training is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::training::{Bound, RollBack, Rule, Rules, Streak, Test, Then};

/// When to stop, or to go back, before harm is done; a bound that is unset is not watched.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Guards {
    /// What follows a loss, gradient or logit that is infinite or no number; the update that had it is not done.
    non_finite: Then,
    /// Least mean entropy of sampled tokens, nats: below it the policy has collapsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    entropy: Option<Bound>,
    /// Greatest mean divergence from the starting policy, nats a token; needs `kl` above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    kl: Option<Bound>,
    /// Least mean reward.
    #[serde(skip_serializing_if = "Option::is_none")]
    reward: Option<Bound>,
    /// Greatest gradient norm, before the clip.
    #[serde(skip_serializing_if = "Option::is_none")]
    grad_norm: Option<Bound>,
    /// Updates in a row without any group that is accepted: rewards were equal, or `filter` took none.
    no_groups: Streak,
    /// Updates in a row in which the rewards of every group are equal, so that all advantages are 0.
    no_advantages: Streak,
    /// How training is rolled back.
    roll_back: RollBack,
}

impl Guards {
    /// Whether the divergence from the starting policy is watched.
    pub(super) fn watches_kl(&self) -> bool {
        self.kl.is_some()
    }

    /// What to watch.
    pub(super) fn rules(&self) -> Rules {
        let mut list: Vec<Rule> = Vec::new();
        if let Some(bound) = &self.entropy {
            let advice = "raise `entropy-bonus` or `kl`, or lower `optimizer.lr`";
            let test = Test::Below(bound.limit());
            list.push(bound.rule("entropy", "entropy", test, advice));
        }
        if let Some(bound) = &self.kl {
            let test = Test::Above(bound.limit());
            list.push(bound.rule(
                "kl",
                "kl_reference",
                test,
                "raise `kl` or lower `optimizer.lr`",
            ));
        }
        if let Some(bound) = &self.reward {
            let advice = "lower `optimizer.lr`, or start from a model that succeeds more often";
            list.push(bound.rule("reward", "reward", Test::Below(bound.limit()), advice));
        }
        if let Some(bound) = &self.grad_norm {
            let advice = "lower `optimizer.lr` or `optimizer.clip`";
            let test = Test::Above(bound.limit());
            let rule = bound.rule("grad-norm", "grad_norm", test, advice);
            list.push(rule.after_the_update());
        }
        list.push(self.no_groups.rule(
            "no-groups",
            "groups_kept",
            Test::Zero,
            "start from a model that sometimes succeeds, raise `samples` or `temperature`, or raise `filter.rounds`",
        ));
        list.push(self.no_advantages.rule(
            "no-advantages",
            "groups_equal",
            Test::All("groups"),
            "start from a model that sometimes succeeds, or raise `samples` or `temperature`",
        ));
        Rules {
            list,
            non_finite: self.non_finite,
            roll_back: self.roll_back.clone(),
        }
    }
}
