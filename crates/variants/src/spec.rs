//! A variant as written, and as valid.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    base::{BaseSpec, BiasSpec},
    combine::CombineSpec,
    delta::DeltaSpec,
    error::SpecProblem,
    gradient::GradientSpec,
    init::{AnyInit, Init},
    rank::{AnyRankPolicy, RankPolicy},
    role::{Role, RoleConfig, TrainConfig},
    scaling::Scaling,
};

/// A point on every axis, as written in YAML. A preset gives one; overrides change single fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantSpec {
    /// Rank of the update; `0` where nothing is adapted.
    pub rank: usize,
    /// `α` of the scale.
    pub alpha: f64,
    /// Probability of dropping an element of the adapter's input.
    pub dropout: f64,
    /// How `ΔW` is formed; `null` where nothing is adapted.
    pub delta: Option<DeltaSpec>,
    /// How `ΔW` meets `W0`.
    pub combine: CombineSpec,
    /// First values of the drawn factors.
    pub init: AnyInit,
    /// The scale as a function of the rank.
    pub scaling: Scaling,
    /// How each role trains.
    pub train: TrainConfig,
    /// Rank over time.
    pub rank_policy: AnyRankPolicy,
    /// What happens to gradients before the optimizer.
    pub gradient: GradientSpec,
    /// Weight of the orthogonality penalty, recorded apart from the task loss.
    pub orthogonality: f64,
    /// Whether the base trains.
    pub base: BaseSpec,
    /// Which biases of the base train.
    pub bias: BiasSpec,
}

fn role_name(role: Role) -> String {
    serde_yaml::to_string(&role).unwrap_or_default().trim().to_owned()
}

/// What two stacks must share for their updates to be batched. The order of keys brings equal ones together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchKey {
    /// Whether the update changes the base's output by more than a sum; such updates are never batched.
    pub is_multiplicative: bool,
    /// Rank-one components of the update.
    pub components: usize,
    /// Bits of the probability of dropout.
    pub dropout: u64,
}

/// A variant that can be built. Made by [`VariantSpec::check`] alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    spec: VariantSpec,
}

impl Variant {
    /// The composition.
    pub fn spec(&self) -> &VariantSpec {
        &self.spec
    }

    /// Whether maps get adapters.
    pub fn adapts(&self) -> bool {
        self.spec.delta.is_some()
    }

    /// What two cells must share to train in one stack: everything but `alpha`, which is per run.
    pub fn stack_key(&self) -> VariantSpec {
        VariantSpec { alpha: 0.0, ..self.spec.clone() }
    }
}

impl VariantSpec {
    /// Consecutive stacks of equal key are computed as one batch on the maps that they both adapt.
    pub fn batch_key(&self) -> BatchKey {
        BatchKey {
            is_multiplicative: !self.combine.is_additive(),
            components: self.delta.as_ref().map_or(0, |delta| self.rank * delta.width()),
            dropout: self.dropout.to_bits(),
        }
    }

    /// Every broken rule, or the variant. `steps` is the length of the run in optimizer steps, where known.
    pub fn check(&self, steps: Option<u64>) -> Result<Variant, Vec<SpecProblem>> {
        self.check_beside(steps, &[])
    }

    /// As [`check`](Self::check), for a stack with tensors of `more` roles beside those of the composition: of slots that train in
    /// full.
    pub fn check_beside(&self, steps: Option<u64>, more: &[Role]) -> Result<Variant, Vec<SpecProblem>> {
        let mut problems = Vec::new();
        let mut report = |field: &str, rule: String| problems.push(SpecProblem::new(field, rule));
        if !(0.0..1.0).contains(&self.dropout) {
            report("dropout", format!("dropout is `{}`, but must lie in [0, 1)", self.dropout));
        }
        if !self.orthogonality.is_finite() || self.orthogonality < 0.0 {
            report(
                "orthogonality",
                format!("orthogonality is `{}`, but must be finite and not negative", self.orthogonality),
            );
        }
        let mut roles = self.roles();
        roles.extend(more);
        for (role, plan) in &self.train.0 {
            let name = serde_yaml::to_string(role).unwrap_or_default();
            if !roles.contains(role) {
                let known: Vec<String> = roles.iter().map(|role| format!("`{}`", role_name(*role))).collect();
                report(
                    &format!("train.{}", name.trim()),
                    format!("this variant has no tensor of role `{}`; it has {}", name.trim(), known.join(", ")),
                );
            }
            if let RoleConfig::Trained { lr_multiplier, learning_rate, weight_decay } = plan {
                if !lr_multiplier.is_finite() || *lr_multiplier <= 0.0 {
                    report(
                        &format!("train.{}.lr_multiplier", name.trim()),
                        format!(
                            "lr_multiplier is `{lr_multiplier}`, but must be positive; to keep a role fixed write `state: frozen`"
                        ),
                    );
                }
                if learning_rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
                    report(
                        &format!("train.{}.learning_rate", name.trim()),
                        format!("learning_rate is `{learning_rate:?}`, but must be positive"),
                    );
                }
                if weight_decay.is_some_and(|decay| !decay.is_finite() || decay < 0.0) {
                    report(
                        &format!("train.{}.weight_decay", name.trim()),
                        format!("weight_decay is `{weight_decay:?}`, but must be finite and not negative"),
                    );
                }
            }
        }
        if !roles.iter().any(|role| self.train.trains(*role)) {
            report("train", "nothing trains: every role is frozen; leave one of them trained".to_owned());
        }
        if let Scaling::Constant { value } = self.scaling
            && (!value.is_finite() || value == 0.0)
        {
            report("scaling.value", format!("value is `{value}`, but must be finite and not 0"));
        }
        problems.extend(self.init.check().into_iter().map(|problem| problem.inside("init")));
        self.check_adapter(steps, &mut problems);
        if problems.is_empty() { Ok(Variant { spec: self.clone() }) } else { Err(problems) }
    }

    /// Why maps cannot have ranks of their own; `None` where they can.
    pub fn refuses_own_ranks(&self) -> Option<String> {
        let policy = match (&self.delta, &self.rank_policy) {
            (None, _) => return Some("it adapts no map".to_owned()),
            (Some(DeltaSpec::SharedRandom(_)), _) => {
                return Some("its random pair has one rank and is shared by all maps".to_owned());
            }
            (_, AnyRankPolicy::Constant(_)) => return None,
            (_, AnyRankPolicy::NestedSampling(_)) => "`nested_sampling`, which draws one rank for all maps",
            (_, AnyRankPolicy::Budget(_)) => "`budget`, which gives every map its rank",
        };
        Some(format!("its rank policy is {policy}"))
    }

    /// Why maps cannot have an `α` of their own; `None` where they can.
    pub fn refuses_own_alphas(&self) -> Option<String> {
        match (&self.delta, self.scaling) {
            (None, _) => Some("it adapts no map".to_owned()),
            (_, Scaling::Constant { .. }) => Some("its scaling is `constant`, which has no alpha".to_owned()),
            _ => None,
        }
    }

    /// Whether the factor on the inputs trains, where there is one.
    pub fn trains_inputs(&self) -> bool {
        self.roles().contains(&Role::A) && self.train.trains(Role::A)
    }

    /// Roles of the tensors that this variant has, the head's included.
    pub fn roles(&self) -> BTreeSet<Role> {
        let mut roles = BTreeSet::from([Role::Head]);
        if let Some(delta) = &self.delta {
            roles.extend(delta.roles().iter().chain(self.combine.roles()));
        }
        if self.base == BaseSpec::Trained {
            roles.extend([Role::Weight, Role::Bias, Role::Norm]);
        }
        if self.bias != BiasSpec::None {
            roles.insert(Role::Bias);
        }
        roles
    }

    /// The rules that concern the adapter.
    fn check_adapter(&self, steps: Option<u64>, problems: &mut Vec<SpecProblem>) {
        let mut report = |field: &str, rule: String| problems.push(SpecProblem::new(field, rule));
        let Some(delta) = &self.delta else {
            if self.rank != 0 {
                report("rank", format!("rank is `{}`, but this variant adapts no map; leave it out", self.rank));
            }
            let constant = AnyRankPolicy::Constant(crate::rank::constant::Constant {});
            for (is_set, field) in [
                (self.rank_policy != constant, "rank_policy"),
                (self.dropout != 0.0, "dropout"),
                (self.orthogonality != 0.0, "orthogonality"),
                (self.gradient != GradientSpec::Plain, "gradient"),
                (!self.combine.is_additive(), "combine"),
            ] {
                if is_set {
                    report(field, format!("`{field}` concerns adapters, but `delta` is null; leave it out"));
                }
            }
            return;
        };
        if self.rank == 0 {
            report("rank", "rank is `0`, but an adapter needs at least rank 1".to_owned());
            return;
        }
        if !self.alpha.is_finite() || self.alpha == 0.0 {
            report(
                "alpha",
                format!("alpha is `{}`, but must be finite and not 0, or the adapter has no effect", self.alpha),
            );
        }
        if self.base == BaseSpec::Trained {
            report(
                "base",
                "base is `trained` beside an adapter; train the base (`delta: null`) or the adapter".to_owned(),
            );
        }
        if self.orthogonality > 0.0 && !delta.has_diagonal() {
            report(
                "orthogonality",
                format!("`{}` has no orthogonality penalty; use `svd_form` or set 0", delta.kind()),
            );
        }
        problems.extend(delta.check().into_iter().map(|problem| problem.inside("delta")));
        let mut report = |field: &str, rule: String| problems.push(SpecProblem::new(field, rule));
        if let GradientSpec::Preconditioned { ridge } = self.gradient {
            if !ridge.is_finite() || ridge < 0.0 {
                report("gradient.ridge", format!("ridge is `{ridge}`, but must be finite and not negative"));
            }
            if !matches!(self.rank_policy, AnyRankPolicy::Constant(_)) {
                report(
                    "gradient",
                    "`preconditioned` is defined at one rank and scale; use it with `rank_policy: {kind: constant}`"
                        .to_owned(),
                );
            }
            if !matches!(delta, DeltaSpec::LowRank(_)) {
                report(
                    "gradient",
                    format!(
                        "`preconditioned` multiplies the gradient of B by a function of A, which `{}` lacks; use `low_rank`",
                        delta.kind()
                    ),
                );
            } else if self.train.trains(Role::A) {
                report(
                    "gradient",
                    "`preconditioned` is defined for a fixed A; write `train: {a: {state: frozen}}`".to_owned(),
                );
            }
        }
        let policy = self.rank_policy.check(self.rank, delta.has_diagonal(), steps);
        problems.extend(
            policy.into_iter().map(|problem| SpecProblem::new(format!("rank_policy.{}", problem.field), problem.rule)),
        );
    }
}
