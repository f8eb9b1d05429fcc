//! Random compositions: every axis at LoRA's value or at another that some preset or registry has.

use std::collections::BTreeSet;

use rand::Rng;

use super::{Axis, Case, Change, DEFAULT, DIVISIBLE, SHAPES};
use crate::{
    base::{BaseSpec, BiasSpec},
    base_update::{self, AnyBaseUpdate},
    bilevel::Bilevel,
    combine::{self, CombineSpec},
    delta::{self, DeltaSpec},
    error::SpecProblem,
    gradient::GradientSpec,
    init,
    layers::LayerSchedule,
    penalty, preset,
    presets::lora,
    rank::{self, AnyRankPolicy, constant::Constant},
    role::{RoleConfig, TrainConfig},
    scaling::Scaling,
    spec::VariantSpec,
    stream::{self, Stream},
};

fn pick<T>(rng: &mut impl Rng, mut of: Vec<T>) -> T {
    let at = (stream::unit(rng) * of.len() as f64) as usize;
    of.swap_remove(at)
}

/// The values that presets have on an axis, behind those of its registry.
fn known<T: PartialEq>(registry: Vec<T>, of: fn(VariantSpec) -> T, rank: usize) -> Vec<T> {
    let mut all = registry;
    for value in preset::all().into_iter().map(|preset| of(preset.at(rank))) {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

/// The composition of a seed. The delta is drawn evenly; of the other axes most keep LoRA's value, since a composition that changes all of
/// them is hardly ever legal.
pub fn drawn(seed: u64) -> VariantSpec {
    let rng = &mut stream::generator(seed, Stream::Data, "composition");
    let rank = pick(rng, vec![1, 2, 3, 4]);
    let mut spec = lora::PRESET.at(rank);
    let some = delta::defaults().into_iter().map(Some).collect();
    spec.delta = pick(rng, known(some, |spec| spec.delta, rank));
    // Half of those that need it get the rank and the scale of a method without a rank; the others are refused.
    if !spec.delta.as_ref().is_some_and(DeltaSpec::is_ranked) && pick(rng, vec![true, false]) {
        (spec.rank, spec.scaling) = (0, Scaling::Constant { value: 1.0 });
    }
    let mut changes = |share: f64| stream::unit(rng) < share;
    let changed: [bool; 10] = std::array::from_fn(|axis| changes(if axis == 9 { 0.05 } else { 0.2 }));
    // A start that takes more of a map than its rank fits no small one at the largest ranks.
    let fits = |shape| spec.delta.as_ref().is_none_or(|delta| delta.misfit(spec.rank, shape).is_none());
    if !SHAPES.into_iter().any(fits) {
        spec.rank = 2;
    }
    let [combine, init, scaling, train, policy, gradient, penalty, dropout, bias, base] = changed;
    if combine {
        spec.combine = pick(rng, known(combine::defaults(), |spec| spec.combine, rank));
    }
    if init {
        spec.init = pick(rng, known(init::defaults(), |spec| spec.init, rank));
    }
    if scaling {
        let all = vec![Scaling::AlphaOverRank, Scaling::AlphaOverSqrtRank, Scaling::Constant { value: 1.0 }];
        spec.scaling = pick(rng, all);
    }
    if train {
        spec.train = pick(rng, known(Vec::new(), |spec| spec.train, rank));
        let roles: Vec<_> = spec.roles().into_iter().collect();
        spec.train.0.insert(pick(rng, roles), RoleConfig::Frozen);
    }
    if policy {
        spec.rank_policy = pick(rng, known(rank::defaults(), |spec| spec.rank_policy, rank));
    }
    if gradient {
        spec.gradient = pick(rng, known(Vec::new(), |spec| spec.gradient, rank));
    }
    if penalty {
        spec.orthogonality = 0.1;
    }
    if dropout {
        spec.dropout = 0.3;
    }
    if bias {
        spec.bias = pick(rng, vec![BiasSpec::All, BiasSpec::LoraOnly]);
    }
    if base {
        spec.base = BaseSpec::Trained;
    }
    // Behind all others, so that what was drawn before this axis existed stays.
    if stream::unit(rng) < 0.25 {
        spec.base_update = pick(rng, known(base_update::defaults(), |spec| spec.base_update, rank));
    }
    if stream::unit(rng) < 0.1 {
        spec.penalties.insert(pick(rng, penalty::all()), 0.1);
    }
    if stream::unit(rng) < 0.1 {
        spec.layers = LayerSchedule::Sampled { count: 1, interval: 2 };
    }
    if stream::unit(rng) < 0.1 {
        let upper = BTreeSet::from([pick(rng, spec.roles().into_iter().collect())]);
        spec.bilevel = Bilevel::Alternating { upper, held_out: 0.5, until: pick(rng, vec![None, Some(0.5)]) };
    }
    spec
}

/// The composition with one axis as the rule of a problem on it says that it may be.
fn mended(problem: &SpecProblem, spec: &VariantSpec) -> VariantSpec {
    let mut spec = spec.clone();
    match problem.field.split('.').next().unwrap_or_default() {
        "rank" => spec.rank = if spec.delta.as_ref().is_some_and(DeltaSpec::is_ranked) { 2 } else { 0 },
        "delta" => {
            spec.rank = spec.rank.max(1);
            spec.delta = lora::PRESET.at(spec.rank).delta;
        }
        "combine" => spec.combine = CombineSpec::Additive(combine::additive::Spec {}),
        "init" => spec.init = lora::PRESET.at(1).init,
        "scaling" => spec.scaling = Scaling::Constant { value: 1.0 },
        "train" => spec.train = TrainConfig::default(),
        "rank_policy" => spec.rank_policy = AnyRankPolicy::Constant(Constant {}),
        "gradient" => spec.gradient = GradientSpec::Plain,
        "orthogonality" => spec.orthogonality = 0.0,
        "penalties" => spec.penalties.clear(),
        "dropout" => spec.dropout = 0.0,
        "base" => spec.base = BaseSpec::Frozen,
        "base_update" => spec.base_update = AnyBaseUpdate::default(),
        "layers" => spec.layers = LayerSchedule::All,
        "bilevel" => spec.bilevel = Bilevel::None,
        other => panic!("a problem on `{other}`, which no composition drawn here can have: {problem}"),
    }
    spec
}

/// Why a composition is refused; empty where it is legal. Panics where a reason is not true: one that stays when the field that it names
/// is as its rule says, or a composition that stays refused when all of them are.
pub fn refusals(spec: &VariantSpec, steps: u64) -> Vec<SpecProblem> {
    let refused = |spec: &VariantSpec| spec.check(Some(steps)).err().unwrap_or_default();
    let found = refused(spec);
    let (mut left, mut open) = (spec.clone(), found.clone());
    for _ in 0..12 {
        for problem in &open {
            let gap = ["{kind}", "{others}"].into_iter().find(|gap| problem.rule.contains(gap));
            assert_eq!(gap, None, "a gap in a message: {problem}");
            let mended = mended(problem, &left);
            assert!(!refused(&mended).contains(problem), "`{problem}` is not about its field: {left:?}");
        }
        let Some(first) = open.first() else { return found };
        left = mended(first, &left);
        open = refused(&left);
    }
    panic!("{open:?} are left of a composition that was mended as they say: {spec:?}")
}

/// The cases of a legal composition: the shapes that it fits, three runs each; none where no map is one for its delta at its rank.
pub fn cases(spec: &'static VariantSpec) -> Vec<Case> {
    let axis = Axis { name: "random composition", change: Change::To(spec), own: DEFAULT.own };
    let case =
        |shape| Case { preset: &lora::PRESET, shape, rank: spec.rank, runs: 3, dtype: burn::tensor::DType::F64, axis };
    SHAPES.into_iter().chain(DIVISIBLE).map(case).filter(Case::is_meant).collect()
}
