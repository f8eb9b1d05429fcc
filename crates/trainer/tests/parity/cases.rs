//! The fixtures, the presets that must repeat them, and what a fixture's run sets otherwise than its preset.

use variants::{
    base_update::{AnyBaseUpdate, Moments, follow::Follow, restart::Rate},
    bilevel::Bilevel,
    combine::CombineSpec,
    delta::{DeltaSpec, covariance_init, gated, shared_random},
    layers::LayerSchedule,
    penalty::AnyPenalty,
    rank::{
        AnyRankPolicy,
        ablation::Ablation,
        budget::Budget,
        nested_sampling::{NestedSampling, OptimizerState, Update},
        norm_budget::NormBudget,
        soft_threshold::SoftThreshold,
        softmax_threshold::SoftmaxThreshold,
    },
    role::{DecayToward, Role, RoleConfig, TrainConfig},
    spec::VariantSpec,
};

use crate::{maps, products, reference::Reference};

/// A fixture and the preset that must repeat it.
pub(crate) struct Case {
    pub(crate) fixture: &'static str,
    pub(crate) preset: &'static str,
    /// What the fixture's run sets otherwise than the preset.
    pub(crate) change: fn(&Reference, VariantSpec) -> VariantSpec,
}

/// At least one line per preset that says that it is tested.
pub(crate) const CASES: &[Case] = &[
    Case { fixture: "adalora", preset: "adalora", change: adalora },
    Case { fixture: "alora", preset: "alora", change: alora },
    Case { fixture: "autolora", preset: "autolora", change: autolora },
    Case { fixture: "bitfit", preset: "bitfit", change: as_published },
    Case { fixture: "boft", preset: "boft", change: |_, published| decaying(published, DecayToward::Zero) },
    Case { fixture: "boft_start", preset: "boft", change: as_published },
    Case { fixture: "bone", preset: "bone", change: as_published },
    Case { fixture: "c3a", preset: "c3a", change: as_published },
    Case { fixture: "cola", preset: "cola", change: restarting },
    Case {
        fixture: "corda",
        preset: "corda",
        change: |r, published| decaying(calibrated(r, published), DecayToward::Zero),
    },
    Case { fixture: "corda_knowledge", preset: "corda", change: knowledge_preserved },
    Case { fixture: "corda_start", preset: "corda", change: calibrated },
    Case { fixture: "delora", preset: "delora", change: maps::delora },
    Case { fixture: "delta_lora", preset: "delta_lora", change: following },
    Case { fixture: "delora_subtracted", preset: "delora", change: as_published },
    Case { fixture: "dora", preset: "dora", change: |_, published| decaying(published, DecayToward::Zero) },
    Case { fixture: "dora_start", preset: "dora", change: as_published },
    Case { fixture: "dora_dynamic", preset: "dora_dynamic", change: dora_dynamic },
    Case {
        fixture: "dvora",
        preset: "dvora",
        change: |reference, published| vera(reference, published, shared_random::Save::Seed),
    },
    Case { fixture: "dylora", preset: "dylora", change: |_, published| masked(published, Update::Nested) },
    Case { fixture: "dylora_dense", preset: "dylora", change: as_published },
    Case { fixture: "dylora_frozen", preset: "dylora", change: |_, published| masked(published, Update::Frozen) },
    Case { fixture: "dylora_frozen_dense", preset: "dylora", change: |_, published| dylora(published, Update::Frozen) },
    Case { fixture: "eva", preset: "eva", change: calibrated },
    Case { fixture: "flora_core", preset: "flora_core", change: as_published },
    Case { fixture: "fourierft", preset: "fourierft", change: maps::fourierft },
    Case { fixture: "full", preset: "full", change: as_published },
    Case { fixture: "gralora", preset: "gralora", change: as_published },
    Case { fixture: "hira", preset: "hira", change: as_published },
    Case { fixture: "hra", preset: "hra", change: as_published },
    Case { fixture: "hydra_lora", preset: "hydra_lora", change: as_published },
    Case { fixture: "ia3", preset: "ia3", change: |_, published| decaying(published, DecayToward::Zero) },
    Case { fixture: "ia3_start", preset: "ia3", change: as_published },
    Case { fixture: "inc_lora", preset: "inc_lora", change: beside },
    Case { fixture: "loha", preset: "loha", change: as_published },
    Case { fixture: "lokr", preset: "lokr", change: as_published },
    Case { fixture: "lokr_both", preset: "lokr", change: products::lokr },
    Case {
        fixture: "lisa",
        preset: "lisa",
        change: |reference, published| {
            let layers = LayerSchedule::Sampled { count: 1, interval: reference.count("interval") as u64 };
            VariantSpec { layers, ..published }
        },
    },
    Case { fixture: "lora", preset: "lora", change: as_published },
    Case { fixture: "lora_fa", preset: "lora_fa", change: as_published },
    Case { fixture: "lora_fa_preconditioned", preset: "lora_fa_preconditioned", change: as_published },
    Case {
        fixture: "lora_ga",
        preset: "lora_ga",
        change: |r, published| decaying(calibrated(r, published), DecayToward::Zero),
    },
    Case { fixture: "lora_orthogonal", preset: "lora_orthogonal", change: as_published },
    Case { fixture: "lora_plus", preset: "lora_plus", change: lora_plus },
    Case { fixture: "lora_xs", preset: "lora_xs", change: as_published },
    Case { fixture: "melora", preset: "melora", change: as_published },
    Case { fixture: "milora", preset: "milora", change: |_, published| decaying(published, DecayToward::Zero) },
    Case { fixture: "miss", preset: "miss", change: as_published },
    Case { fixture: "miss_columns", preset: "miss", change: products::miss },
    Case { fixture: "molora", preset: "molora", change: products::molora },
    Case { fixture: "mov", preset: "mov", change: products::mov },
    Case { fixture: "nola", preset: "nola", change: products::nola },
    Case { fixture: "nz_lora", preset: "nz_lora", change: as_published },
    Case { fixture: "o_lora", preset: "o_lora", change: orthogonal },
    Case { fixture: "oft", preset: "oft", change: as_published },
    Case { fixture: "oft_exact", preset: "oft", change: maps::exact },
    Case { fixture: "olora", preset: "olora", change: |_, published| decaying(published, DecayToward::Zero) },
    Case { fixture: "olora_start", preset: "olora", change: as_published },
    Case { fixture: "pissa", preset: "pissa", change: |_, published| decaying(published, DecayToward::Zero) },
    Case { fixture: "pissa_start", preset: "pissa", change: as_published },
    Case { fixture: "randlora", preset: "randlora", change: products::randlora },
    Case { fixture: "relora", preset: "relora", change: restarting },
    Case { fixture: "rslora", preset: "rslora", change: as_published },
    Case { fixture: "shira", preset: "shira", change: as_published },
    Case { fixture: "sora", preset: "sora", change: sora },
    Case { fixture: "svdiff", preset: "svdiff", change: as_published },
    Case { fixture: "tied_lora", preset: "tied_lora", change: as_published },
    Case { fixture: "tri_lora", preset: "tri_lora", change: as_published },
    Case { fixture: "vb_lora", preset: "vb_lora", change: products::vb_lora },
    Case {
        fixture: "vera",
        preset: "vera",
        change: |reference, published| vera(reference, published, shared_random::Save::Seed),
    },
    Case {
        fixture: "vera_start",
        preset: "vera",
        change: |reference, published| {
            decaying(vera(reference, published, shared_random::Save::Seed), DecayToward::Start)
        },
    },
    Case { fixture: "xgblora", preset: "xgblora", change: restarting },
];

impl Case {
    pub(crate) fn named(fixture: &str) -> (Reference, VariantSpec) {
        CASES.iter().find(|case| case.fixture == fixture).unwrap().open()
    }

    pub(crate) fn open(&self) -> (Reference, VariantSpec) {
        let reference = Reference::read(self.fixture);
        let spec = (self.change)(&reference, reference.preset(self.preset));
        (reference, spec)
    }
}

pub(crate) fn as_published(_: &Reference, published: VariantSpec) -> VariantSpec {
    published
}

/// The preset with the fixture's restarts; the authors' pruning of moments in place of `relora`'s reset. `relora` has 9 components to keep of
/// maps of width 8, and so keeps their sum; the others keep them.
pub(crate) fn restarting(reference: &Reference, mut published: VariantSpec) -> VariantSpec {
    let AnyBaseUpdate::Restart(restart) = &mut published.base_update else { panic!("{}", reference.name) };
    restart.restarts = reference.count("restarts") as u64;
    if let Rate::WarmUp { steps } = &mut restart.rate {
        *steps = reference.number("ramp");
    }
    if reference.has("share") {
        restart.moments = Moments::Pruned { share: reference.number("share") };
    }
    published
}

/// The preset with the fixture's `λ` and `K`.
pub(crate) fn following(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let follow = Follow { lambda: reference.number("lambda"), start: reference.number("start") };
    VariantSpec { base_update: AnyBaseUpdate::Follow(follow), ..published }
}

/// The preset beside the fixture's adapters of earlier tasks.
pub(crate) fn beside(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let base_update = published.base_update.after(reference.count("adapters")).expect("it keeps them");
    VariantSpec { base_update, ..published }
}

/// The same with the fixture's weight of the penalty.
pub(crate) fn orthogonal(reference: &Reference, published: VariantSpec) -> VariantSpec {
    VariantSpec {
        penalties: [(AnyPenalty::Overlap, reference.number("overlap"))].into(),
        ..beside(reference, published)
    }
}

/// The preset with the fixture's threshold, which sets some of its few components to 0, and its weight of the penalty.
pub(crate) fn sora(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let threshold = reference.number("threshold");
    VariantSpec {
        rank_policy: AnyRankPolicy::SoftThreshold(SoftThreshold { threshold }),
        penalties: [(AnyPenalty::DiagonalL1, reference.number("penalty_weight"))].into(),
        ..published
    }
}

/// The preset with the fixture's schedule, at LoRA's `α`, by which all fixtures are scaled.
pub(crate) fn dora_dynamic(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let budget = NormBudget {
        target_rank: reference.count("target_rank"),
        initial_steps: reference.number("initial_steps"),
        final_steps: reference.number("final_steps"),
        interval: reference.count("interval") as u64,
        beta: reference.number("beta"),
    };
    VariantSpec {
        alpha: reference.number("scale") * published.rank as f64,
        rank_policy: AnyRankPolicy::NormBudget(budget),
        ..published
    }
}

/// PEFT divides by `r + 1e-5` (see [`adaloras_scale_departs_from_pefts_by_its_epsilon`]); this alpha makes the scales equal.
pub(crate) fn adalora(reference: &Reference, published: VariantSpec) -> VariantSpec {
    VariantSpec {
        alpha: reference.number("scale") * published.rank as f64,
        orthogonality: reference.number("orthogonality"),
        rank_policy: AnyRankPolicy::Budget(budget(reference)),
        ..published
    }
}

pub(crate) fn budget(reference: &Reference) -> Budget {
    Budget {
        target_rank: reference.count("target_rank"),
        initial_steps: reference.number("initial_steps"),
        final_steps: reference.number("final_steps"),
        interval: reference.count("interval") as u64,
        beta1: reference.number("beta1"),
        beta2: reference.number("beta2"),
    }
}

/// What starts away from 0 decays as said: its fixture is stock AdamW, or AdamW with the decay toward the start written out.
pub(crate) fn decaying(mut spec: VariantSpec, toward: DecayToward) -> VariantSpec {
    match (&mut spec.delta, &mut spec.combine) {
        (_, CombineSpec::WeightDecomposed(part)) => part.weight_decay_toward = toward,
        (Some(DeltaSpec::CovarianceInit(part)), _) => part.weight_decay_toward = toward,
        (Some(DeltaSpec::GradientInit(part)), _) => part.weight_decay_toward = toward,
        (Some(DeltaSpec::ResidualInit(part)), _) => part.weight_decay_toward = toward,
        (Some(DeltaSpec::SharedRandom(part)), _) => part.weight_decay_toward = toward,
        (Some(DeltaSpec::ButterflyRotation(part)), _) => part.weight_decay_toward = toward,
        (Some(DeltaSpec::Gain(part)), _) => part.weight_decay_toward = toward,
        _ => unreachable!("no part of it has a direction of decay"),
    }
    spec
}

/// The preset, which takes its start from as many batches as the fixture's.
pub(crate) fn calibrated(reference: &Reference, mut spec: VariantSpec) -> VariantSpec {
    let n = reference.count("calibration_batches");
    match &mut spec.delta {
        Some(DeltaSpec::CovarianceInit(part)) => part.batches = n,
        Some(DeltaSpec::GradientInit(part)) => part.batches = n,
        Some(DeltaSpec::InputInit(part)) => part.batches = n,
        _ => unreachable!("nothing of it starts from batches"),
    }
    spec
}

pub(crate) fn knowledge_preserved(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let mut spec = decaying(calibrated(reference, published), DecayToward::Zero);
    let Some(DeltaSpec::CovarianceInit(part)) = &mut spec.delta else { unreachable!("corda") };
    part.mode = covariance_init::Mode::KnowledgePreserved;
    spec
}

pub(crate) fn dylora(published: VariantSpec, update: Update) -> VariantSpec {
    let sampling = NestedSampling { update, ..NestedSampling::default() };
    VariantSpec { rank_policy: AnyRankPolicy::NestedSampling(sampling), ..published }
}

pub(crate) fn masked(published: VariantSpec, update: Update) -> VariantSpec {
    let sampling = NestedSampling { update, optimizer_state: OptimizerState::Masked, ..NestedSampling::default() };
    VariantSpec { rank_policy: AnyRankPolicy::NestedSampling(sampling), ..published }
}

/// The preset, whose ratio is the fixture's, with a rate of the embedding's factors that moves them.
pub(crate) fn lora_plus(reference: &Reference, mut spec: VariantSpec) -> VariantSpec {
    let embedding = RoleConfig::Trained {
        lr_multiplier: 1.0,
        learning_rate: Some(reference.number("embedding_rate")),
        weight_decay: None,
    };
    spec.train.0.insert(Role::Embedding, embedding);
    spec
}

pub(crate) fn vera(reference: &Reference, published: VariantSpec, pair: shared_random::Save) -> VariantSpec {
    let projection_seed = reference.count("projection_seed") as u64;
    let form = shared_random::Spec { projection_seed, pair, ..shared_random::Spec::default() };
    VariantSpec { delta: Some(DeltaSpec::SharedRandom(form)), ..published }
}

/// A search of the fixture's length, whose weights have the fixture's rate.
fn autolora(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let search = reference.number("search");
    let Bilevel::Alternating { upper, held_out, .. } = published.bilevel.clone() else { panic!("it has two levels") };
    let weights = RoleConfig::Trained {
        lr_multiplier: 1.0,
        learning_rate: Some(reference.number("weight_rate")),
        weight_decay: Some(0.0),
    };
    VariantSpec {
        rank_policy: AnyRankPolicy::SoftmaxThreshold(SoftmaxThreshold { search }),
        bilevel: Bilevel::Alternating { upper, held_out, until: Some(search) },
        train: TrainConfig::of([(Role::Lambda, weights)]),
        ..published
    }
}

/// Rounds at the fixture's steps.
fn alora(reference: &Reference, published: VariantSpec) -> VariantSpec {
    VariantSpec {
        delta: Some(DeltaSpec::Gated(gated::Spec { open: Some(reference.count("open")) })),
        rank_policy: AnyRankPolicy::Ablation(Ablation {
            initial_steps: reference.number("initial_steps"),
            interval: reference.number("interval"),
            rounds: reference.count("rounds") as u64,
            held_out: 0.1,
        }),
        ..published
    }
}
