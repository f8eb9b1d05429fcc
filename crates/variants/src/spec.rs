//! A variant as written, and as valid.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    base::{BaseSpec, BiasSpec},
    base_update::{AnyBaseUpdate, BaseUpdate},
    bilevel::Bilevel,
    capability::{Capability, Declaration},
    combine::CombineSpec,
    delta::DeltaSpec,
    error::SpecProblem,
    gradient::GradientSpec,
    init::{AnyInit, Init},
    layers::LayerSchedule,
    penalty::AnyPenalty,
    rank::{AnyRankPolicy, RankPolicy},
    role::{Role, TrainConfig},
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
    /// Weight of the penalty on factors that are not orthonormal, recorded apart from the task loss.
    pub orthogonality: f64,
    /// Whether the base trains.
    pub base: BaseSpec,
    /// Which biases of the base train.
    pub bias: BiasSpec,
    /// How a run's base changes over time; records from before the field existed mean `none`.
    #[serde(default)]
    pub base_update: AnyBaseUpdate,
    /// Weights of further penalties, recorded with the one above; records from before the field existed mean none.
    #[serde(default)]
    pub penalties: BTreeMap<AnyPenalty, f64>,
    /// Which layers train at a step; records from before the field existed mean all.
    #[serde(default)]
    pub layers: LayerSchedule,
    /// Whether training has two levels; records from before the field existed mean one.
    #[serde(default)]
    pub bilevel: Bilevel,
}

impl VariantSpec {
    /// Why there is no one update that all tokens share, in words that follow the variant's name; none where there is one.
    pub fn unmergeable(&self) -> Option<String> {
        self.delta.as_ref()?;
        Some(format!("is not mergeable: {}", self.lacks(&[Capability::Mergeable])?))
    }
}

/// A role as YAML has it.
pub(crate) fn role_name(role: Role) -> String {
    serde_yaml::to_string(&role).unwrap_or_default().trim().to_owned()
}

/// What two stacks must share for their updates to be batched. The order of keys brings equal ones together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchKey {
    /// Whether the update changes the base's output by another thing than a sum of low rank; such updates are never batched.
    pub is_alone: bool,
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
            is_alone: !self.combine.is_additive() || self.delta.as_ref().is_some_and(|delta| !delta.is_low_rank()),
            components: self.delta.as_ref().map_or(0, |delta| {
                let own = delta.components(self.rank);
                // On a map that is wider than all that is accumulated.
                own.saturating_add(self.base_update.components(own, [usize::MAX; 2]))
            }),
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
        for (penalty, weight) in &self.penalties {
            let field = format!("penalties.{}", penalty.kind());
            if *penalty == AnyPenalty::Orthogonality {
                let rule = format!(
                    "orthogonality has a field of its own; write `orthogonality: {weight}` and leave it out here"
                );
                report(&field, rule);
            } else if !weight.is_finite() || *weight < 0.0 {
                report(&field, format!("{} is `{weight}`, but must be finite and not negative", penalty.kind()));
            }
        }
        problems.extend(self.layers.check().into_iter().map(|problem| problem.inside("layers")));
        let mut report = |field: &str, rule: String| problems.push(SpecProblem::new(field, rule));
        let mut roles = self.roles();
        roles.extend(more);
        for (role, plan) in &self.train.0 {
            let field = format!("train.{}", role_name(*role));
            if *role == Role::Accumulated {
                let rule = "what is accumulated beside the base is stored, not trained; leave it out".to_owned();
                report(&field, rule);
            } else if !roles.contains(role) {
                let known: Vec<String> = roles.iter().map(|role| format!("`{}`", role_name(*role))).collect();
                let rule =
                    format!("this variant has no tensor of role `{}`; it has {}", role_name(*role), known.join(", "));
                report(&field, rule);
            }
            for problem in plan.check() {
                report(&format!("{field}.{}", problem.field), problem.rule);
            }
        }
        if !roles.iter().any(|role| self.train.trains(*role)) {
            report("train", "nothing trains: every role is frozen; leave one of them trained".to_owned());
        }
        let trained = roles.iter().copied().filter(|role| self.train.trains(*role)).collect();
        let levels = self.bilevel.check(&trained, steps);
        problems.extend(levels.into_iter().map(|problem| problem.inside("bilevel")));
        problems.extend(self.scaling.check().into_iter().map(|problem| problem.inside("scaling")));
        problems.extend(self.init.check().into_iter().map(|problem| problem.inside("init")));
        self.check_adapter(steps, &mut problems);
        if problems.is_empty() { Ok(Variant { spec: self.clone() }) } else { Err(problems) }
    }

    /// Fields that a plan leaves out when it is written, by the axis that they belong to: their value is what records from before the
    /// field existed meant, whose hashes stay. Reading such a plan gives the field's default of today, which no training uses: runs are
    /// planned from the experiment's file alone.
    pub fn unrecorded(&self) -> [(&'static str, &'static [&'static str]); 3] {
        [
            ("delta", self.delta.as_ref().map_or(&[], DeltaSpec::unrecorded)),
            ("combine", self.combine.unrecorded()),
            ("rank_policy", self.rank_policy.unrecorded()),
        ]
    }

    /// Axes that a plan leaves out when it is written, for the same reason: they are at the value that records from before the axis existed
    /// meant.
    pub fn unrecorded_axes(&self) -> impl Iterator<Item = &'static str> {
        let unset = [
            ("base_update", self.base_update.is_none()),
            ("penalties", self.penalties.is_empty()),
            ("layers", self.layers.is_all()),
            ("bilevel", self.bilevel.is_none()),
        ];
        unset.into_iter().filter_map(|(axis, is_unset)| is_unset.then_some(axis))
    }

    /// Penalties whose weight is not 0: the field, the penalty, the weight.
    pub(crate) fn weighed_penalties(&self) -> impl Iterator<Item = (String, AnyPenalty, f64)> {
        let own = ("orthogonality".to_owned(), AnyPenalty::Orthogonality, self.orthogonality);
        let more =
            self.penalties.iter().map(|(penalty, weight)| (format!("penalties.{}", penalty.kind()), *penalty, *weight));
        std::iter::once(own).chain(more).filter(|(.., weight)| *weight > 0.0)
    }

    /// Loss terms beside the task's, with their weights; none where all weights are 0.
    pub fn penalties(&self) -> Vec<(AnyPenalty, f64)> {
        self.weighed_penalties().map(|(_, penalty, weight)| (penalty, weight)).collect()
    }

    /// Whether the factor on the inputs trains, where there is one.
    pub fn trains_inputs(&self) -> bool {
        self.roles().contains(&Role::A) && self.train.trains(Role::A)
    }

    /// Share of a run's training examples that is held out from training, or from the lower level of it.
    pub fn held_out(&self) -> Option<f64> {
        self.bilevel.held_out().into_iter().chain(self.rank_policy.held_out()).reduce(f64::max)
    }

    /// Roles of the tensors that this variant has, the head's included.
    pub fn roles(&self) -> BTreeSet<Role> {
        let mut roles = BTreeSet::from([Role::Head]);
        if let Some(delta) = &self.delta {
            roles.extend(delta.roles().iter().chain(self.combine.roles()));
        }
        if !self.base_update.is_none() {
            roles.insert(Role::Accumulated);
        }
        if self.base == BaseSpec::Trained {
            roles.extend([Role::Weight, Role::Bias, Role::Norm]);
        }
        if self.base == BaseSpec::Norms {
            roles.extend([Role::Bias, Role::Norm]);
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
            let offers = |declared: Declaration, capability| declared.provides.contains(&capability);
            for (is_set, field) in [
                (!offers(self.rank_policy.declaration(), Capability::ConstantRank), "rank_policy"),
                (self.dropout != 0.0, "dropout"),
                (self.orthogonality != 0.0, "orthogonality"),
                (!self.penalties.is_empty(), "penalties"),
                (self.gradient != GradientSpec::Plain, "gradient"),
                (!offers(self.combine.declaration(), Capability::Additive), "combine"),
                (!self.base_update.is_none(), "base_update"),
            ] {
                if is_set {
                    report(field, format!("`{field}` concerns adapters, but `delta` is null; leave it out"));
                }
            }
            return;
        };
        if self.rank == 0 && delta.is_ranked() {
            report("rank", "rank is `0`, but an adapter needs at least rank 1".to_owned());
            return;
        }
        if !delta.is_ranked() {
            if self.rank != 0 {
                let rule = format!("rank is `{}`, but `{}` has no rank; leave it out", self.rank, delta.kind());
                report("rank", rule);
            }
            if self.scaling.declaration().provides.contains(&Capability::UsesAlpha) {
                let (scaling, delta) = (self.scaling.declaration().kind, delta.kind());
                report(
                    "scaling",
                    format!(
                        "`{scaling}` divides by a rank, which `{delta}` does not have; use `{{kind: constant, value: 1}}`"
                    ),
                );
            }
        }
        if !self.alpha.is_finite() || self.alpha == 0.0 {
            report(
                "alpha",
                format!("alpha is `{}`, but must be finite and not 0, or the adapter has no effect", self.alpha),
            );
        }
        problems.extend(delta.check().into_iter().map(|problem| problem.inside("delta")));
        problems.extend(self.gradient.check().into_iter().map(|problem| problem.inside("gradient")));
        problems.extend(self.unmet());
        let policy = self.rank_policy.check(self.rank, steps);
        problems.extend(policy.into_iter().map(|problem| problem.inside("rank_policy")));
        let over_time = self.base_update.check(steps);
        problems.extend(over_time.into_iter().map(|problem| problem.inside("base_update")));
    }
}
