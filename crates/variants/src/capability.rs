//! What the parts of a composition declare about each other, and the one place where a composition is held against it.
//!
//! A part (a delta, a combination, a rank policy, ..) *provides* capabilities and *requires* some of the others. A composition has a
//! capability if every part that decides it provides it:
//!
//! | capability | decided by | who requires it |
//! |---|---|---|
//! | [`TwoFactors`](Capability::TwoFactors) | delta | adapters on tables, readouts at smaller ranks, `gradient: preconditioned` |
//! | [`LowRank`](Capability::LowRank), [`ExactStart`](Capability::ExactStart) | delta | base updates |
//! | [`Prunable`](Capability::Prunable) | delta | rank policies that prune, penalties on diagonals and the vectors beside them |
//! | [`Gated`](Capability::Gated), [`SoftGates`](Capability::SoftGates) | delta | rank policies that set gates |
//! | [`Orthonormal`](Capability::Orthonormal) | delta | `orthogonality` above 0 |
//! | [`Additive`](Capability::Additive) | combine | adapters on tables, readouts at smaller ranks, `lora-lab export --svd`, base updates |
//! | [`ConstantRank`](Capability::ConstantRank) | rank policy | readouts at smaller ranks, `gradient: preconditioned`, base updates |
//! | [`RestingTensors`](Capability::RestingTensors) | rank policy | `bilevel` |
//! | [`DrawnFactors`](Capability::DrawnFactors) | delta | an `init` of one's own, restarts |
//! | [`Mergeable`](Capability::Mergeable) | delta | `combine: {kind: weight_decomposed}`, `lora-lab merge`, `export`, `combine` and `analyze` |
//! | [`OwnTensors`](Capability::OwnTensors) | delta | restarts |
//! | [`OwnRanks`](Capability::OwnRanks) | delta, rank policy | `rank_pattern` |
//! | [`UsesAlpha`](Capability::UsesAlpha) | scaling | `alpha_pattern` |
//! | [`FixedA`](Capability::FixedA), [`TrainedA`](Capability::TrainedA) | train | `gradient: preconditioned`; adapters on tables, restarts |
//! | [`FrozenBase`](Capability::FrozenBase) | base | every adapter |
//! | [`ConstantBase`](Capability::ConstantBase) | base update | adapters on tables, readouts at smaller ranks |
//! | [`PreviousAdapters`](Capability::PreviousAdapters) | base update | penalties on what the adapters of several tasks have in common |
//!
//! A new kind of part declares its own; no list of kinds is kept here or anywhere else.

use std::fmt;

use crate::{delta, error::SpecProblem, spec::VariantSpec};

/// What a composition offers to whoever builds on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// `ΔW = s·A·B` of two factors with the roles `a` and `b` and nothing else.
    TwoFactors,
    /// `ΔW` is a product of two thin factors, whatever they are made of. Follows from the delta's form.
    LowRank,
    /// First values give `ΔW = 0` bit by bit, and so do all later draws. Follows from the delta's start.
    ExactStart,
    /// A component is pruned by setting its number of the diagonal, whose role is `lambda`, to 0.
    Prunable,
    /// A step may open and close components, by the stored tensor `gate`.
    Gated,
    /// Components are weighted by a softmax of the role `lambda`, until a step sets their gates.
    SoftGates,
    /// It has factors whose components are to be orthonormal.
    Orthonormal,
    /// It has factors whose first values `init` draws from the run's seed.
    DrawnFactors,
    /// `W' − W0` is the delta itself.
    Additive,
    /// All components are in use at every step.
    ConstantRank,
    /// What it does after a step does not depend on tensors that rested in it.
    RestingTensors,
    /// There is a `ΔW` that all rows share, and so a dense weight. Follows from the delta's form.
    Mergeable,
    /// No map owns a tensor together with others. Follows from what the delta ties.
    OwnTensors,
    /// A map may have a rank of its own.
    OwnRanks,
    /// The scale depends on `α`.
    UsesAlpha,
    /// `A` keeps its first value.
    FixedA,
    /// `A` trains.
    TrainedA,
    /// No weight of the base trains: at most biases and norms do.
    FrozenBase,
    /// Nothing is accumulated beside the base: the delta is all of the update.
    ConstantBase,
    /// The adapters of earlier tasks are there as factors.
    PreviousAdapters,
}

/// A part of a composition that decides a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// How `ΔW` is formed.
    Delta,
    /// How it meets `W0`.
    Combine,
    /// The scale.
    Scaling,
    /// How each role trains.
    Train,
    /// Rank over time.
    RankPolicy,
    /// Whether the base trains.
    Base,
    /// The base over time.
    BaseUpdate,
}

impl Capability {
    /// The parts that all must provide it.
    const fn decided_by(self) -> &'static [Part] {
        match self {
            Self::TwoFactors
            | Self::LowRank
            | Self::ExactStart
            | Self::Prunable
            | Self::Gated
            | Self::SoftGates
            | Self::Orthonormal
            | Self::Mergeable
            | Self::OwnTensors
            | Self::DrawnFactors => &[Part::Delta],
            Self::Additive => &[Part::Combine],
            Self::ConstantRank | Self::RestingTensors => &[Part::RankPolicy],
            Self::OwnRanks => &[Part::Delta, Part::RankPolicy],
            Self::UsesAlpha => &[Part::Scaling],
            Self::FixedA | Self::TrainedA => &[Part::Train],
            Self::FrozenBase => &[Part::Base],
            Self::ConstantBase | Self::PreviousAdapters => &[Part::BaseUpdate],
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delta => "delta",
            Self::Combine => "combine",
            Self::Scaling => "scaling",
            Self::Train => "train",
            Self::RankPolicy => "rank policy",
            Self::Base => "base",
            Self::BaseUpdate => "base update",
        })
    }
}

/// What a part says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// Its kind as YAML has it, or its state.
    pub kind: &'static str,
    /// What it offers.
    pub provides: &'static [Capability],
    /// Why it lacks what it does not offer, where its kind alone does not tell: the words that follow the kind in a message.
    pub lacks: &'static [(Capability, &'static str)],
    /// What it needs of the other parts.
    pub requires: &'static [Requirement],
}

/// What a part needs of another.
#[derive(Clone, Copy, Debug)]
pub struct Requirement {
    /// The capability that must be there.
    pub needs: Capability,
    /// The rule and the way out, as the user reads them where it is not. `{kind}` stands for the kind of the part that lacks it, `{others}`
    /// for the deltas that provide it.
    pub rule: &'static str,
}

/// A capability that a composition lacks, with the part that is to blame. Shown as `its delta is ..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The part; none where nothing is adapted.
    part: Option<Part>,
    kind: &'static str,
    why: &'static str,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            None => f.write_str("it adapts no map"),
            Some(Part::Train) => write!(f, "its `a` is {}", self.kind),
            Some(part) if self.why.is_empty() => write!(f, "its {part} is `{}`", self.kind),
            Some(part) => write!(f, "its {part} is `{}`, {}", self.kind, self.why),
        }
    }
}

impl VariantSpec {
    /// The first part that keeps the composition from having all of `wanted`; `None` where it has them.
    pub fn lacks(&self, wanted: &[Capability]) -> Option<Lack> {
        wanted.iter().find_map(|capability| self.lack(*capability))
    }

    fn lack(&self, capability: Capability) -> Option<Lack> {
        if self.delta.is_none() {
            return Some(Lack { part: None, kind: "", why: "" });
        }
        capability.decided_by().iter().find_map(|part| {
            let Declaration { kind, provides, lacks, .. } = self.declaration(*part)?;
            let why = lacks.iter().find(|(of, _)| *of == capability).map_or("", |(_, why)| why);
            let offered = match (part, &self.delta) {
                (Part::Delta, Some(delta)) => delta.offers(capability),
                _ => provides.contains(&capability),
            };
            (!offered).then_some(Lack { part: Some(*part), kind, why })
        })
    }

    /// What one part says of itself; `None` where there is no such part.
    fn declaration(&self, part: Part) -> Option<Declaration> {
        Some(match part {
            Part::Delta => self.delta.as_ref()?.declaration(),
            Part::Combine => self.combine.declaration(),
            Part::Scaling => self.scaling.declaration(),
            Part::Train => self.train.declaration(),
            Part::RankPolicy => self.rank_policy.declaration(),
            Part::Base => self.base.declaration(),
            Part::BaseUpdate => self.base_update.declaration(),
        })
    }

    /// What the parts of an adapter require of each other and do not get, with the field of the part that requires it.
    pub(crate) fn unmet(&self) -> Vec<SpecProblem> {
        let Some(delta) = &self.delta else { return Vec::new() };
        let penalised = self.weighed_penalties().map(|(field, penalty, _)| (field, penalty.requires()));
        let asking: [(&str, &[Requirement]); 8] = [
            ("base", delta::REQUIRES),
            ("delta.kind", delta.declaration().requires),
            ("combine.kind", self.combine.declaration().requires),
            ("gradient", self.gradient.requires()),
            ("rank_policy.kind", self.rank_policy.declaration().requires),
            ("base_update.kind", self.base_update.declaration().requires),
            ("layers", self.layers.requires()),
            ("bilevel", self.bilevel.requires()),
        ];
        let of = |(field, requires): (String, &[Requirement])| {
            let broken = |requirement: &Requirement| {
                let lack = self.lack(requirement.needs)?;
                let rule = requirement.rule.replace("{kind}", lack.kind);
                Some(SpecProblem::new(&field, rule.replace("{others}", &providers(requires))))
            };
            requires.iter().filter_map(broken).collect::<Vec<_>>()
        };
        let asking = asking.into_iter().map(|(field, requires)| (field.to_owned(), requires));
        penalised.chain(asking).flat_map(of).collect()
    }
}

/// The deltas that provide all that a part requires of one, as a message lists them.
fn providers(requires: &[Requirement]) -> String {
    let of_delta = |requirement: &&Requirement| requirement.needs.decided_by() == [Part::Delta];
    let wanted: Vec<Capability> = requires.iter().filter(of_delta).map(|requirement| requirement.needs).collect();
    let able = |delta: &delta::DeltaSpec| wanted.iter().all(|capability| delta.offers(*capability));
    let names: Vec<String> =
        delta::defaults().into_iter().filter(able).map(|delta| format!("`{}`", delta.kind())).collect();
    match names.as_slice() {
        [] => "another delta".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    fn spec(name: &str) -> VariantSpec {
        (preset::find(name).unwrap_or_else(|_| panic!("{name}")).spec)(4)
    }

    #[track_caller]
    fn says(spec: &VariantSpec, wanted: &[Capability], message: &str) {
        assert_eq!(spec.lacks(wanted).map(|lack| lack.to_string()).as_deref(), Some(message));
    }

    #[test]
    fn the_part_that_lacks_something_is_named_with_its_reason() {
        let readouts = [Capability::TwoFactors, Capability::Additive, Capability::ConstantRank];
        assert_eq!(spec("lora").lacks(&readouts), None);
        says(&spec("full"), &readouts, "it adapts no map");
        says(&spec("adalora"), &readouts, "its delta is `svd_form`");
        says(&spec("dora"), &readouts, "its combine is `weight_decomposed`, not additive");
        says(&spec("dylora"), &readouts, "its rank policy is `nested_sampling`, under which the rank changes");
        says(
            &spec("vera"),
            &[Capability::OwnRanks],
            "its delta is `shared_random`, whose random pair has one rank and is shared by all maps",
        );
        says(&spec("vera"), &[Capability::UsesAlpha], "its scaling is `constant`, which has no alpha");
        says(&spec("lora_fa"), &[Capability::TrainedA], "its `a` is frozen");
        let drawn = [Capability::DrawnFactors];
        assert_eq!((spec("lora").lacks(&drawn), spec("adalora").lacks(&drawn)), (None, None));
        says(&spec("pissa"), &drawn, "its delta is `residual_init`, which starts at a decomposition of the base");
        says(
            &spec("vera"),
            &drawn,
            "its delta is `shared_random`, whose random pair has a seed and a distribution of its own",
        );
    }

    #[test]
    fn a_way_out_names_every_kind_that_would_do() {
        let wrong = VariantSpec { orthogonality: 0.1, ..spec("lora") };
        let problems = wrong.unmet();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].rule, "`low_rank` has no orthogonality penalty; use `svd_form` or set 0");
    }
}
