//! What presets are changed by before they meet the laws: values that no preset has by default, and kinds that no preset uses.

use std::collections::BTreeSet;

use crate::{
    base::BiasSpec,
    base_update::{self, AnyBaseUpdate, follow::Follow, previous::Previous, restart::Restart},
    capability::Capability,
    combine::{self, CombineSpec, weight_decomposed},
    delta::{self, DeltaSpec, block_rotation, shared_random},
    init::{self, AnyInit, gaussian::Gaussian},
    preset,
    rank::{
        self, AnyRankPolicy,
        nested_sampling::{Distribution, OptimizerState, Update},
    },
    scaling::Scaling,
    slot::MapPlan,
    spec::VariantSpec,
};

/// How a composition is changed.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// By a function that gives the composition as it is where the change does not concern it.
    By(fn(VariantSpec) -> VariantSpec),
    /// To a delta at its defaults, by its place in the registry.
    Delta(usize),
    /// To a combination at its defaults.
    Combine(usize),
    /// To an initialisation at its defaults.
    Init(usize),
    /// To a rank policy at its defaults.
    RankPolicy(usize),
    /// To a composition as it stands.
    To(&'static VariantSpec),
    /// To a base update at its defaults.
    BaseUpdate(usize),
}

impl Change {
    /// The composition after it; kinds concern adapters alone.
    pub fn of(self, spec: VariantSpec) -> VariantSpec {
        match self {
            Self::By(change) => change(spec),
            Self::To(other) => other.clone(),
            _ if spec.delta.is_none() => spec,
            Self::Delta(at) => VariantSpec { delta: Some(delta::defaults().swap_remove(at)), ..spec },
            Self::Combine(at) => VariantSpec { combine: combine::defaults().swap_remove(at), ..spec },
            Self::Init(at) => VariantSpec { init: init::defaults().swap_remove(at), ..spec },
            Self::RankPolicy(at) => VariantSpec { rank_policy: rank::defaults().swap_remove(at), ..spec },
            Self::BaseUpdate(at) => VariantSpec { base_update: base_update::defaults().swap_remove(at), ..spec },
        }
    }
}

/// A named change of a composition.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// What it changes.
    pub name: &'static str,
    /// How a composition is changed.
    pub change: Change,
    /// What the case's map has instead of the stack's rank and the runs' `α`, at the case's rank.
    pub own: fn(usize) -> MapPlan,
}

/// Nothing of its own.
const SHARED: fn(usize) -> MapPlan = |_| MapPlan { rank: None, alpha: None };

/// The preset as published.
pub const DEFAULT: Axis = Axis { name: "default", change: Change::By(|spec| spec), own: SHARED };

/// The composition with this base update, where it adapts anything.
fn with_base(spec: VariantSpec, base_update: AnyBaseUpdate) -> VariantSpec {
    if spec.delta.is_some() { VariantSpec { base_update, ..spec } } else { spec }
}

/// Values of every axis that no preset has by default; a preset meets those that concern it.
const AXES: &[Axis] = &[
    Axis {
        name: "one restart",
        change: Change::By(|s| with_base(s, AnyBaseUpdate::Restart(Restart::default()))),
        own: SHARED,
    },
    Axis {
        name: "following base",
        change: Change::By(|s| with_base(s, AnyBaseUpdate::Follow(Follow::default()))),
        own: SHARED,
    },
    Axis {
        name: "adapters of two earlier tasks",
        change: Change::By(|s| with_base(s, AnyBaseUpdate::Previous(Previous { adapters: 2 }))),
        own: SHARED,
    },
    Axis {
        name: "gaussian init",
        change: Change::By(|s| VariantSpec { init: AnyInit::Gaussian(Gaussian { std: None }), ..s }),
        own: SHARED,
    },
    Axis {
        name: "scale by root of rank",
        change: Change::By(|s| VariantSpec { scaling: Scaling::AlphaOverSqrtRank, ..s }),
        own: SHARED,
    },
    Axis { name: "every bias", change: Change::By(|s| VariantSpec { bias: BiasSpec::All, ..s }), own: SHARED },
    Axis { name: "adapted biases", change: Change::By(|s| VariantSpec { bias: BiasSpec::LoraOnly, ..s }), own: SHARED },
    Axis {
        name: "weight decomposed",
        change: Change::By(|s| VariantSpec {
            combine: CombineSpec::WeightDecomposed(weight_decomposed::Spec::default()),
            ..s
        }),
        own: SHARED,
    },
    Axis {
        name: "dropout as PEFT decomposes",
        change: Change::By(|s| VariantSpec {
            combine: CombineSpec::WeightDecomposed(weight_decomposed::Spec {
                dropout_form: weight_decomposed::DropoutForm::Peft,
                ..weight_decomposed::Spec::default()
            }),
            ..s
        }),
        own: SHARED,
    },
    Axis {
        name: "dropout",
        change: Change::By(|s| if s.delta.is_some() { VariantSpec { dropout: 0.3, ..s } } else { s }),
        own: SHARED,
    },
    Axis {
        name: "frozen update, geometric draws from 2",
        change: Change::By(|mut s| {
            if let AnyRankPolicy::NestedSampling(policy) = &mut s.rank_policy {
                policy.update = Update::Frozen;
                policy.distribution = Distribution::Geometric { p: 0.15 };
                policy.r_min = 2;
            }
            s
        }),
        own: SHARED,
    },
    Axis {
        name: "masked optimizer state",
        change: Change::By(|mut s| {
            if let AnyRankPolicy::NestedSampling(policy) = &mut s.rank_policy {
                policy.optimizer_state = OptimizerState::Masked;
            }
            s
        }),
        own: SHARED,
    },
    Axis {
        name: "kept pair",
        change: Change::By(|mut s| {
            if let Some(DeltaSpec::SharedRandom(spec)) = &mut s.delta {
                spec.pair = shared_random::Save::Yes;
            }
            s
        }),
        own: SHARED,
    },
    Axis {
        name: "exact Cayley transform",
        change: Change::By(|mut s| {
            if let Some(DeltaSpec::BlockRotation(spec)) = &mut s.delta {
                spec.cayley = block_rotation::Cayley::Exact;
            }
            s
        }),
        own: SHARED,
    },
    Axis {
        name: "one butterfly factor",
        change: Change::By(|mut s| {
            if let Some(DeltaSpec::ButterflyRotation(spec)) = &mut s.delta {
                spec.butterfly_factors = 1;
            }
            s
        }),
        own: SHARED,
    },
    Axis {
        name: "gains of inputs",
        change: Change::By(|mut s| {
            if let Some(DeltaSpec::Gain(spec)) = &mut s.delta {
                spec.feedforward = vec!["query".to_owned()];
            }
            s
        }),
        own: SHARED,
    },
    Axis {
        name: "a map's own rank and alpha",
        // The stack's rank is another than the map's, which is the case's.
        change: Change::By(|s| {
            if s.lacks(&[Capability::OwnRanks]).is_none() { VariantSpec { rank: s.rank + 3, ..s } } else { s }
        }),
        own: |rank| MapPlan { rank: Some(rank), alpha: Some(5.0) },
    },
    Axis {
        name: "a map's own alpha",
        change: Change::By(|s| {
            if s.lacks(&[Capability::UsesAlpha]).is_none() { VariantSpec { alpha: s.alpha + 1.0, ..s } } else { s }
        }),
        own: |_| MapPlan { rank: None, alpha: Some(-3.0) },
    },
];

/// The kinds of a registry, and the change that puts one of them into a composition, by its place in the registry.
type Kinds = (Vec<&'static str>, fn(usize) -> Change);

/// The values above, and every kind of a registry that no preset has: a new one meets the laws by being registered.
pub fn axes() -> Vec<Axis> {
    let specs: Vec<VariantSpec> = preset::all().iter().map(|preset| (preset.spec)(4)).collect();
    let adapted = || specs.iter().filter_map(|spec| Some((spec, spec.delta.as_ref()?)));
    let mut used: BTreeSet<&str> = adapted().map(|(_, delta)| delta.kind()).collect();
    for (spec, _) in adapted() {
        used.extend([spec.combine.kind(), spec.init.kind(), spec.rank_policy.declaration().kind]);
        used.insert(spec.base_update.declaration().kind);
    }
    let kinds: [Kinds; 5] = [
        (delta::defaults().iter().map(DeltaSpec::kind).collect(), Change::Delta),
        (combine::defaults().iter().map(CombineSpec::kind).collect(), Change::Combine),
        (init::defaults().iter().map(AnyInit::kind).collect(), Change::Init),
        (rank::defaults().iter().map(|policy| policy.declaration().kind).collect(), Change::RankPolicy),
        (base_update::defaults().iter().map(|kind| kind.declaration().kind).collect(), Change::BaseUpdate),
    ];
    let mut axes = AXES.to_vec();
    for (kinds, change) in kinds {
        let unused = kinds.into_iter().enumerate().filter(|(_, kind)| !used.contains(kind));
        axes.extend(unused.map(|(at, name)| Axis { name, change: change(at), own: SHARED }));
    }
    axes
}
