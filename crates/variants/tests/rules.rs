//! Every rule of a composition refuses what breaks it, names the field, and lets through what lies just inside.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use burn::tensor::{DType, Device};
use variants::{
    base::{BaseSpec, BiasSpec},
    base_update::{AnyBaseUpdate, follow::Follow, restart::Restart},
    capability::Capability,
    combine::{CombineSpec, weight_decomposed},
    delta::{DeltaSpec, shared_random},
    gradient::GradientSpec,
    host::{Placement, values},
    init::{AnyInit, gaussian::Gaussian, kaiming::Kaiming},
    penalty::AnyPenalty::{DiagonalL1, Orthogonality},
    preset,
    rank::{
        Action, AnyRankPolicy, RankPolicy, Seen,
        budget::Budget,
        constant::Constant,
        nested_sampling::{Distribution, NestedSampling},
    },
    role::{Role, RoleConfig, TrainConfig},
    scaling::Scaling,
    spec::{BatchKey, VariantSpec},
};

fn spec(name: &str) -> VariantSpec {
    (preset::find(name).unwrap().spec)(4)
}

/// The fields that a composition breaks rules of.
fn broken(spec: &VariantSpec) -> Vec<String> {
    let problems = spec.check(Some(100)).err().unwrap_or_default();
    problems.into_iter().map(|problem| problem.field).collect()
}

/// Holds that `change` breaks `field` alone at the values of `outside`, and nothing at those of `inside`.
#[track_caller]
fn bounds<T: Copy + std::fmt::Debug>(
    base: &str,
    field: &str,
    change: impl Fn(&mut VariantSpec, T),
    inside: &[T],
    outside: &[T],
) {
    for (values, wanted) in [(inside, &[][..]), (outside, &[field][..])] {
        for value in values {
            let mut changed = spec(base);
            change(&mut changed, *value);
            assert_eq!(broken(&changed), wanted, "`{field}` at {value:?}");
        }
    }
}

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

#[test]
fn numbers_of_an_adapter_have_bounds() {
    bounds("lora", "dropout", |s, v| s.dropout = v, &[0.0, 0.999], &[1.0, -0.1, NAN]);
    bounds("lora", "orthogonality", |s, v| s.orthogonality = v, &[0.0], &[]);
    bounds(
        "sora",
        "penalties.diagonal_l1",
        |s, v| s.penalties = [(DiagonalL1, v)].into(),
        &[0.0, 0.5],
        &[-1e-9, NAN, INF],
    );
    bounds("lora", "penalties.diagonal_l1", |s, v| s.penalties = [(DiagonalL1, v)].into(), &[0.0], &[0.1]);
    bounds("adalora", "penalties.orthogonality", |s, v| s.penalties = [(Orthogonality, v)].into(), &[], &[0.0, 0.1]);
    bounds("adalora", "orthogonality", |s, v| s.orthogonality = v, &[0.0, 0.5], &[-1e-9, NAN, INF]);
    bounds("lora", "alpha", |s, v| s.alpha = v, &[1e-9, -16.0], &[0.0, NAN, INF]);
    bounds("lora", "rank", |s, v| s.rank = v, &[1, 4], &[0]);
    bounds("lora", "scaling.value", |s, value| s.scaling = Scaling::Constant { value }, &[-1.0, 2.0], &[0.0, NAN, INF]);
    let init = |s: &mut VariantSpec, std| s.init = AnyInit::Gaussian(Gaussian { std: Some(std) });
    let kaiming = |s: &mut VariantSpec, gain| s.init = AnyInit::Kaiming(Kaiming { gain });
    bounds("lora", "init.gain", kaiming, &[1e-9, 2.0], &[0.0, -1.0, NAN, INF]);
    bounds("lora", "init.std", init, &[1e-9, 0.02], &[0.0, -0.02, NAN, INF]);
    let ridge = |s: &mut VariantSpec, ridge| s.gradient = GradientSpec::Preconditioned { ridge };
    bounds("lora_fa", "gradient.ridge", ridge, &[0.0, 1e-8], &[-1e-8, NAN, INF]);
    let d = |s: &mut VariantSpec, d_initial| {
        s.delta = Some(DeltaSpec::SharedRandom(shared_random::Spec { d_initial, ..shared_random::Spec::default() }));
    };
    bounds("vera", "delta.d_initial", d, &[0.1, -0.1], &[0.0, NAN, INF]);
}

#[test]
fn numbers_of_a_role_have_bounds() {
    let of = |lr_multiplier, learning_rate, weight_decay| {
        TrainConfig::of([(Role::B, RoleConfig::Trained { lr_multiplier, learning_rate, weight_decay })])
    };
    let read: RoleConfig = serde_yaml::from_str("state: trained").unwrap();
    assert_eq!(read, RoleConfig::DEFAULT);
    let multiplier = |s: &mut VariantSpec, v| s.train = of(v, None, None);
    bounds("lora", "train.b.lr_multiplier", multiplier, &[1e-9, 16.0], &[0.0, -1.0, NAN, INF]);
    let rate = |s: &mut VariantSpec, v| s.train = of(1.0, Some(v), None);
    bounds("lora", "train.b.learning_rate", rate, &[1e-9], &[0.0, -1.0, NAN, INF]);
    let decay = |s: &mut VariantSpec, v| s.train = of(1.0, None, Some(v));
    bounds("lora", "train.b.weight_decay", decay, &[0.0, 0.1], &[-0.1, NAN, INF]);
    let role = |s: &mut VariantSpec, role| s.train = TrainConfig::of([(role, RoleConfig::DEFAULT)]);
    bounds("lora", "train.magnitude", role, &[Role::A, Role::B, Role::Head], &[Role::Magnitude]);
    bounds("dora", "train.lambda", role, &[Role::Magnitude], &[Role::Lambda]);
    bounds("full", "train.a", role, &[Role::Weight, Role::Bias, Role::Norm, Role::Head], &[Role::A]);
    bounds("bitfit", "train.weight", role, &[Role::Bias], &[Role::Weight]);
    let frozen = |s: &mut VariantSpec, roles: &[Role]| {
        s.train = TrainConfig::of(roles.iter().map(|role| (*role, RoleConfig::Frozen)));
    };
    bounds(
        "lora",
        "train",
        frozen,
        &[&[Role::A, Role::B, Role::Embedding], &[Role::Head]],
        &[&[Role::A, Role::B, Role::Embedding, Role::Head]],
    );
}

#[test]
fn a_variant_without_adapters_has_nothing_that_concerns_them() {
    bounds("head_only", "rank", |s, v| s.rank = v, &[0], &[1]);
    bounds("head_only", "dropout", |s, v| s.dropout = v, &[0.0], &[0.1]);
    bounds("head_only", "orthogonality", |s, v| s.orthogonality = v, &[0.0], &[0.1]);
    let penalty = |s: &mut VariantSpec, v: &[_]| s.penalties = v.iter().map(|v| (DiagonalL1, *v)).collect();
    bounds("head_only", "penalties", penalty, &[&[]], &[&[0.1]]);
    let gradient = |s: &mut VariantSpec, v| s.gradient = v;
    bounds("head_only", "gradient", gradient, &[GradientSpec::Plain], &[GradientSpec::Preconditioned { ridge: 0.0 }]);
    let mut nested = spec("head_only");
    nested.rank_policy = AnyRankPolicy::NestedSampling(NestedSampling::default());
    assert_eq!(broken(&nested), ["rank_policy"]);
    let mut decomposed = spec("head_only");
    decomposed.combine = CombineSpec::WeightDecomposed(weight_decomposed::Spec::default());
    assert_eq!(broken(&decomposed), ["combine"]);
}

#[test]
fn a_budget_has_bounds_and_a_schedule_that_reaches_its_target() {
    let base = Budget { target_rank: 2, initial_steps: 10.0, final_steps: 20.0, interval: 5, beta1: 0.85, beta2: 0.85 };
    let with = |change: &dyn Fn(&mut Budget)| {
        let mut policy = base;
        change(&mut policy);
        policy.check(4, Some(100)).into_iter().map(|problem| problem.field).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    for inside in [1, 3] {
        assert_eq!(with(&|p| p.target_rank = inside), none);
    }
    for outside in [0, 4, 5] {
        assert_eq!(with(&|p| p.target_rank = outside), ["target_rank"]);
    }
    for inside in [0.0, 0.5, 1.0, 79.0 - 5.0] {
        assert_eq!(with(&|p| p.initial_steps = inside), none, "{inside}");
    }
    for outside in [-1.0, 1.5, NAN, INF, 80.0, 0.9] {
        assert_eq!(with(&|p| p.initial_steps = outside), ["initial_steps"], "{outside}");
    }
    // The last step before the final phase is 79: from 75 on none is a multiple of 5.
    assert_eq!(with(&|p| p.initial_steps = 75.0), ["interval"]);
    for inside in [1.0, 0.5, 0.01] {
        assert_eq!(with(&|p| p.final_steps = inside), none, "{inside}");
    }
    for outside in [0.0, 0.001, -1.0, 2.5, NAN] {
        assert_eq!(with(&|p| p.final_steps = outside), ["final_steps"], "{outside}");
    }
    assert_eq!(with(&|p| p.final_steps = 90.0), ["initial_steps"]);
    assert_eq!(with(&|p| p.interval = 0), ["interval"]);
    assert_eq!(with(&|p| p.interval = 79), none);
    assert_eq!(with(&|p| p.interval = 80), ["interval"]);
    for value in [-0.1, 1.0, NAN] {
        assert_eq!(with(&|p| p.beta1 = value), ["beta1"]);
        assert_eq!(with(&|p| p.beta2 = value), ["beta2"]);
    }
    assert_eq!(with(&|p| p.beta1 = 0.0), none);
    // Without a number of steps the schedule is not judged, but the values are.
    assert!(Budget { initial_steps: 90.0, ..base }.check(4, None).is_empty());
    assert_eq!(Budget { interval: 0, ..base }.check(4, None).len(), 1);
}

#[test]
fn steps_of_a_budget_are_counts_or_shares() {
    let policy = Budget { target_rank: 1, initial_steps: 0.1, final_steps: 0.25, interval: 1, beta1: 0.5, beta2: 0.5 };
    let budget = |step| policy.components(4, 3, step, 200);
    // b0 = 12, bT = 3, tᵢ = 20, the last phase starts at 150.
    assert_eq!([budget(0), budget(20), budget(150), budget(199)], [12, 12, 3, 3]);
    for step in 21..150_u32 {
        let left = 1.0 - f64::from(step - 20) / 130.0;
        assert_eq!(budget(u64::from(step)), (3.0 + 9.0 * left.powi(3)) as usize, "{step}");
    }
    assert_eq!(policy.settled(200), 151);
    // A count of 1 is one step, not the whole run.
    assert_eq!(Budget { final_steps: 1.0, ..policy }.settled(200), 200);
    let read: AnyRankPolicy = serde_yaml::from_str("{kind: budget, target_rank: 2, final_steps: 3}").unwrap();
    let wanted = Budget { target_rank: 2, initial_steps: 0.0, final_steps: 3.0, interval: 1, beta1: 0.85, beta2: 0.85 };
    assert_eq!(read, AnyRankPolicy::Budget(wanted));
}

#[test]
fn nested_sampling_has_bounds_and_defaults() {
    let with = |r_min, distribution| {
        let policy = NestedSampling { r_min, distribution, ..NestedSampling::default() };
        policy.check(4, None).into_iter().map(|problem| problem.field).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    for r_min in 1..=4 {
        assert_eq!(with(r_min, Distribution::Uniform), none);
        let weights = vec![0.5; 5 - r_min];
        assert_eq!(with(r_min, Distribution::Weights { weights: weights.clone() }), none);
        let more = [weights, vec![1.0]].concat();
        assert_eq!(with(r_min, Distribution::Weights { weights: more }), ["distribution.weights"]);
    }
    for r_min in [0, 5] {
        assert_eq!(with(r_min, Distribution::Uniform), ["r_min"]);
    }
    for p in [1e-9, 0.999] {
        assert_eq!(with(1, Distribution::Geometric { p }), none);
    }
    for p in [0.0, 1.0, -0.1, NAN] {
        assert_eq!(with(1, Distribution::Geometric { p }), ["distribution.p"]);
    }
    for (weights, wanted) in [
        (vec![0.0, 0.0, 0.0, 1.0], &[][..]),
        (vec![0.0; 4], &["distribution.weights"]),
        (vec![1.0, -0.5, 1.0, 1.0], &["distribution.weights"]),
        (vec![1.0, INF, 1.0, 1.0], &["distribution.weights"]),
    ] {
        assert_eq!(with(1, Distribution::Weights { weights: weights.clone() }), wanted, "{weights:?}");
    }
    let read: AnyRankPolicy = serde_yaml::from_str("kind: nested_sampling").unwrap();
    assert_eq!(read, AnyRankPolicy::NestedSampling(NestedSampling::default()));
    assert_eq!(NestedSampling { r_min: 2, ..NestedSampling::default() }.readouts(4), [2, 3, 4]);
}

#[test]
fn roles_are_those_of_the_parts_of_the_base_and_of_the_head() {
    let roles = |name: &str, change: &dyn Fn(&mut VariantSpec)| {
        let mut spec = spec(name);
        change(&mut spec);
        spec.roles().into_iter().collect::<Vec<_>>()
    };
    let same = |_: &mut VariantSpec| {};
    assert_eq!(roles("lora", &same), [Role::A, Role::B, Role::Embedding, Role::Head]);
    assert_eq!(roles("dora", &same), [Role::A, Role::B, Role::Magnitude, Role::Embedding, Role::Head]);
    assert_eq!(roles("head_only", &same), [Role::Head]);
    assert_eq!(roles("head_only", &|s| s.bias = BiasSpec::All), [Role::Bias, Role::Head]);
    assert_eq!(roles("head_only", &|s| s.base = BaseSpec::Trained), [Role::Weight, Role::Bias, Role::Norm, Role::Head]);
    assert!(spec("lora").trains_inputs() && !spec("lora_fa").trains_inputs() && !spec("full").trains_inputs());
}

#[test]
fn a_rank_that_never_changes_asks_nothing_of_the_trainer() {
    let place = Placement::new(&Device::flex(), DType::F64);
    let numbers = |values: [f64; 3]| place.tensor::<2>(values.to_vec(), [1, 3]);
    let constant = AnyRankPolicy::Constant(Constant {});
    assert_eq!((constant.draw(4, 1, 2), constant.touched(3), constant.settled(100)), (None, 0..3, 0));
    assert_eq!(constant.after_step(4, 2, 50, 100), Action::default());
    assert!(!constant.keeps_untouched() && constant.readouts(4).is_empty() && constant.averages().is_empty());
    assert!(constant.check(4, Some(1)).is_empty() && constant.unrecorded().is_empty());
    // What a policy without scores of its own would prune by: magnitude.
    assert_eq!(values(&constant.scores(&[], &numbers([-3.0, 0.5, 2.0]))), [3.0, 0.5, 2.0]);
    let kept = constant.observe(&[numbers([1.0, 2.0, 3.0])], Seen::Contributions(numbers([0.0; 3])));
    assert_eq!(kept.iter().map(values).collect::<Vec<_>>(), [[1.0, 2.0, 3.0]]);
    // A policy that prunes draws no rank, and one that draws prunes nothing.
    let budget = AnyRankPolicy::Budget(Budget::default());
    assert_eq!((budget.draw(4, 1, 2), budget.touched(3), budget.keeps_untouched()), (None, 0..3, false));
    assert!(budget.readouts(4).is_empty());
    let nested = AnyRankPolicy::NestedSampling(NestedSampling::default());
    assert_eq!(nested.after_step(4, 2, 50, 100), Action::default());
    assert_eq!((nested.settled(100), nested.keeps_untouched()), (0, false));
}

#[test]
fn stacks_and_batches_are_keyed_by_what_they_must_share() {
    let variant = |spec: VariantSpec| spec.check(Some(100)).unwrap();
    let lora = spec("lora");
    let of = |change: fn(&mut VariantSpec)| {
        let mut changed = lora.clone();
        change(&mut changed);
        variant(changed)
    };
    assert_eq!(variant(lora.clone()).stack_key(), of(|s| s.alpha = 3.0).stack_key(), "alpha is per run");
    assert_ne!(variant(lora.clone()).stack_key(), of(|s| s.dropout = 0.5).stack_key());
    assert_ne!(variant(lora.clone()).stack_key(), of(|s| s.rank = 3).stack_key());
    assert!(variant(lora.clone()).adapts() && !variant(spec("full")).adapts());
    let key = |is_alone, components, dropout: f64| BatchKey { is_alone, components, dropout: dropout.to_bits() };
    assert_eq!(lora.batch_key(), key(false, 4, 0.0));
    assert_eq!(of(|s| s.dropout = 0.5).spec().batch_key(), key(false, 4, 0.5));
    assert_eq!(spec("dora").batch_key(), key(true, 4, 0.0));
    assert_eq!(spec("pissa").batch_key(), key(false, 8, 0.0), "beside the factors lies their start");
    assert_eq!(spec("full").batch_key(), key(false, 0, 0.0));
}

#[test]
fn what_a_part_requires_of_the_others_is_asked_of_them() {
    let rule = GradientSpec::Preconditioned { ridge: 1e-8 };
    let with = |name: &str, frozen: bool| {
        let mut changed = VariantSpec { gradient: rule, ..spec(name) };
        if frozen {
            changed.train = TrainConfig::of([(Role::A, RoleConfig::Frozen)]);
        }
        broken(&changed)
    };
    let none: [&str; 0] = [];
    assert_eq!(with("lora", true), none);
    assert_eq!(with("lora", false), ["gradient"], "A trains");
    assert_eq!(with("dylora", true), ["gradient"], "the rank changes");
    assert_eq!(with("pissa", true), ["gradient"], "there are more than two factors");
    assert_eq!(broken(&VariantSpec { base: BaseSpec::Trained, ..spec("lora") }), ["base"]);
    assert_eq!(broken(&VariantSpec { orthogonality: 0.1, ..spec("lora") }), ["orthogonality"]);
    let pruned = VariantSpec { rank_policy: spec("adalora").rank_policy, ..spec("lora") };
    assert_eq!(broken(&pruned), ["rank_policy.kind"]);
}

#[test]
fn a_base_that_changes_over_time_is_refused_where_it_cannot() {
    let with = |name: &str, base_update: &AnyBaseUpdate, frozen: bool| {
        let mut changed = VariantSpec { base_update: base_update.clone(), ..spec(name) };
        if frozen {
            changed.train = TrainConfig::of([(Role::A, RoleConfig::Frozen)]);
        }
        let problems = changed.check(Some(100)).err().unwrap_or_default();
        let rules = problems.iter().map(|problem| format!("{}: {}", problem.field, problem.rule));
        rules.collect::<Vec<_>>().join("; ")
    };
    let restart = AnyBaseUpdate::Restart(Restart::default());
    let follow = AnyBaseUpdate::Follow(Follow { lambda: 2.0, start: 0.5 });
    for (base_update, name, frozen, parts) in [
        (&restart, "lora", false, &[][..]),
        (&restart, "lora_plus", false, &[]),
        (
            &restart,
            "dora",
            false,
            &["base_update.kind: a restart adds the delta to the base, but under `weight_decomposed`"],
        ),
        (
            &restart,
            "dylora",
            false,
            &["what a restart has merged keeps its scale, but `nested_sampling` changes the rank"],
        ),
        (&restart, "adalora", false, &["but `budget` changes the rank in use", "`rank_policy: {kind: constant}`"]),
        (
            &restart,
            "pissa",
            false,
            &["those of `residual_init` are not drawn by `init`; use ", "`low_rank`", " or `svd_form`"],
        ),
        (&restart, "hira", false, &["the update of `elementwise` is no product of two; use ", "`low_rank`"]),
        (&restart, "delora", false, &["the first values of `bounded_low_rank` give another; use "]),
        (&follow, "oft", false, &["the update of `block_rotation` is no product of two; use "]),
        (&restart, "vera", false, &["those of `shared_random` are not drawn by `init`"]),
        (&restart, "lora_fa", true, &["a restart draws A anew, but `train.a` is frozen; let it train"]),
        (&follow, "lora_fa", true, &[]),
        (&follow, "lora_fa_preconditioned", true, &[]),
        (&follow, "pissa", false, &[]),
        (&follow, "dora", false, &["the base follows the change of the delta, but under `weight_decomposed`"]),
        (&follow, "dylora", false, &["`nested_sampling` uses a part of it at a time"]),
        (&follow, "full", false, &["base_update: `base_update` concerns adapters, but `delta` is null; leave it out"]),
    ] {
        let found = with(name, base_update, frozen);
        assert_eq!(found.is_empty(), parts.is_empty(), "{name}: {found}");
        assert!(parts.iter().all(|part| found.contains(part)), "{name}: {found}");
    }
    let role = |s: &mut VariantSpec, role| s.train = TrainConfig::of([(role, RoleConfig::DEFAULT)]);
    bounds("relora", "train.accumulated", role, &[Role::A], &[Role::Accumulated]);
    assert_eq!(
        spec("relora").lacks(&[Capability::ConstantBase]).map(|lack| lack.to_string()).as_deref(),
        Some("its base update is `restart`, under which the delta is not all of the update")
    );
    assert_eq!(spec("lora").lacks(&[Capability::ConstantBase]), None);
}

/// The budget of the preset: two thirds of the initial rank, as in the authors' runs, and never none.
#[test]
fn adaloras_budget_ends_at_two_thirds_of_its_rank() {
    for (rank, target) in [(2, 1), (3, 2), (8, 5), (12, 8)] {
        let spec = (preset::find("adalora").unwrap().spec)(rank);
        let wanted = Budget { target_rank: target, ..Budget::default() };
        assert_eq!(spec.rank_policy, AnyRankPolicy::Budget(wanted), "at rank {rank}");
    }
}

#[test]
fn a_policy_says_why_the_rank_is_not_a_maps_own() {
    let says =
        |name: &str, capability| spec(name).lacks(&[capability]).map(|lack| lack.to_string()).unwrap_or_default();
    let changes = says("adalora", Capability::ConstantRank);
    assert_eq!(changes, "its rank policy is `budget`, under which the rank changes");
    let own = says("adalora", Capability::OwnRanks);
    assert_eq!(own, "its rank policy is `budget`, which gives every map its rank");
    let drawn = says("dylora", Capability::OwnRanks);
    assert_eq!(drawn, "its rank policy is `nested_sampling`, which draws one rank for all maps");
}
