//! The conformance laws: what every variant must obey, whatever it does. Callable from any crate's tests.
//!
//! Each law takes a [`Case`] and panics with the case and the numbers where it does not hold. A new preset gets
//! all of them by being in the registry. Computation is in f64; tolerances are stated at their use.

use std::collections::BTreeSet;

use burn::tensor::{DType, Device, Tensor};
use nalgebra::DMatrix;

use crate::{
    adapted::{AdaptedLinear, Canonical},
    base::BaseSpec,
    combine::CombineSpec,
    host::{Place, plain, values},
    pass::{Active, Pass, StackPass},
    preset::Preset,
    rank::RankPolicy,
    role::Role,
    scaling::Scaling,
    slot::{RunPlan, Slot, StackPlan, attach},
    spec::{Variant, VariantSpec},
    stream::{self, Stream},
};

/// One preset on one map.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The preset.
    pub preset: &'static Preset,
    /// `[d_in, d_out]`
    pub shape: [usize; 2],
    /// Rank of the update.
    pub rank: usize,
    /// Runs in the stack.
    pub runs: usize,
}

/// f64 with a few dozen operations per number.
const EXACT: f64 = 1e-12;

const NAME: &str = "encoder.layer.0.attention.self.query";
const SEQ: usize = 2;
const ROWS: usize = 3; // per run

impl Case {
    fn place() -> Place {
        Place::new(&Device::flex(), DType::F64)
    }

    fn spec(&self) -> VariantSpec {
        (self.preset.spec)(self.rank)
    }

    fn variant(&self) -> Variant {
        self.spec().check(Some(1000)).unwrap_or_else(|problems| unreachable!("{self:?}: {problems:?}"))
    }

    fn base(&self) -> AdaptedLinear {
        let [d_in, d_out] = self.shape;
        let rng = &mut stream::generator(1, Stream::Data, "base");
        let weight = Self::place().tensor(stream::normal(rng, d_in * d_out, 0.5), self.shape);
        let bias = Self::place().tensor(stream::normal(rng, d_out, 0.5), [d_out]);
        AdaptedLinear::new(NAME, weight, Some(bias))
    }

    fn plan(&self, seeds: &[u64]) -> StackPlan {
        let run = |(index, seed): (usize, &u64)| RunPlan { init_seed: *seed, alpha: 8.0 + index as f64 };
        StackPlan {
            variant: self.variant(),
            runs: seeds.iter().enumerate().map(run).collect(),
            targets: BTreeSet::from([NAME.to_owned()]),
        }
    }

    fn seeds(&self) -> Vec<u64> {
        (10..10 + self.runs as u64).collect()
    }

    /// The map with its stack, at its first values.
    fn fresh(&self) -> AdaptedLinear {
        let mut map = self.base();
        attach(&mut [Slot::Linear(&mut map)], &self.plan(&self.seeds()), &Self::place())
            .unwrap_or_else(|error| unreachable!("{self:?}: {error}"));
        map
    }

    /// The map with every owned tensor at a random value of its own.
    fn random(&self) -> AdaptedLinear {
        let mut map = self.fresh();
        for owned in map.owned(0) {
            let dims @ [runs, rows, cols] = owned.tensor.dims();
            let rng = &mut stream::generator(2, Stream::Init, owned.name);
            *owned.tensor = Self::place().tensor(stream::normal(rng, runs * rows * cols, 0.7), dims);
        }
        map
    }

    /// Every way in which this preset's components enter a pass, different in each run.
    fn actives(&self) -> Vec<Active> {
        let ranks = self.spec().rank_policy.readouts(self.rank);
        if ranks.is_empty() {
            return vec![Active::All];
        }
        let pick = |shift: usize| (0..self.runs).map(|run| ranks[(run + shift) % ranks.len()]).collect();
        vec![Active::All, Active::Prefix(pick(0)), Active::Prefix(pick(1))]
    }

    fn pass(&self, active: &Active) -> Pass {
        Pass { stacks: vec![StackPass { active: active.clone(), ..StackPass::plain(self.runs) }] }
    }

    fn input(&self) -> Tensor<3> {
        let rows = self.runs * ROWS;
        let rng = &mut stream::generator(3, Stream::Data, "x");
        Self::place().tensor(stream::normal(rng, rows * SEQ * self.shape[0], 1.0), [rows, SEQ, self.shape[0]])
    }

    #[track_caller]
    fn close<const D: usize>(&self, law: &str, got: &Tensor<D>, wanted: &Tensor<D>, tolerance: f64) {
        assert_eq!(got.dims(), wanted.dims(), "{law}: {self:?}");
        let (got, wanted) = (values(&plain(got)), values(&plain(wanted)));
        let scale = wanted.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
        for (index, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
            assert!(
                (got - wanted).abs() <= tolerance * scale,
                "{law}: {self:?}: element {index}: {got} is not {wanted}"
            );
        }
    }
}

/// `x·W'` of every run with its own rows, plus `bias`, from dense weights.
fn dense(map: &AdaptedLinear, case: &Case, active: &Active) -> Tensor<3> {
    let rows = case.runs * ROWS;
    let x = case.input();
    let parts = (0..case.runs).map(|run| {
        let (weight, bias) = map.merged(0, run, active);
        let x = x.clone().slice([run * ROWS..(run + 1) * ROWS]).reshape([ROWS * SEQ, case.shape[0]]);
        let y = x.matmul(weight);
        match bias {
            Some(bias) => y + bias.unsqueeze::<2>(),
            None => y,
        }
    });
    Tensor::cat(parts.collect(), 0).reshape([rows, SEQ, case.shape[1]])
}

/// At its first values a variant computes what the base computes.
pub fn the_start_is_the_base(case: &Case) {
    let base = case.base().forward(case.input(), &Pass { stacks: vec![] });
    let map = case.fresh();
    for active in case.actives() {
        case.close("the start is the base", &map.forward(case.input(), &case.pass(&active)), &base, EXACT);
    }
}

/// `forward(x) = x·weight() + bias`, at random values, in every way the components can be active.
pub fn forward_is_the_dense_product(case: &Case) {
    let map = case.random();
    for active in case.actives() {
        let y = map.forward(case.input(), &case.pass(&active));
        case.close("forward = x·weight + bias", &y, &dense(&map, case, &active), EXACT);
    }
}

/// A merged map, free of stacks, computes what the adapted one computes.
pub fn merging_preserves_outputs(case: &Case) {
    let map = case.random();
    for active in case.actives() {
        let y = map.forward(case.input(), &case.pass(&active));
        for run in 0..case.runs {
            let rows = run * ROWS..(run + 1) * ROWS;
            let merged = map.merge(0, run, &active);
            let got = merged.forward(case.input().slice([rows.clone()]), &Pass { stacks: vec![] });
            case.close("merge preserves outputs", &got, &y.clone().slice([rows]), EXACT);
        }
    }
}

/// Taking the stacks off restores the base bit for bit, whatever happened to them.
pub fn detaching_restores_the_base(case: &Case) {
    let mut map = case.random();
    let _ = map.forward(case.input(), &case.pass(&Active::All));
    let _ = map.merge(0, 0, &Active::All);
    map.detach();
    let ((weight, bias), (w0, b0)) = (map.base(), case.base().base());
    assert_eq!(values(&weight), values(&w0), "detaching restores the base: {case:?}");
    assert_eq!(bias.map(|b| values(&b)), b0.map(|b| values(&b)), "detaching restores the base: {case:?}");
}

/// The scalar `Σ c∘y` of a pass, with `c` fixed and random, as a function of the stack's tensors.
fn objective(map: &AdaptedLinear, case: &Case, active: &Active) -> Tensor<1> {
    let y = map.forward(case.input(), &case.pass(active));
    (y.clone() * cotangent(case)).sum()
}

fn cotangent(case: &Case) -> Tensor<3> {
    let rows = case.runs * ROWS;
    let rng = &mut stream::generator(4, Stream::Data, "c");
    Case::place().tensor(stream::normal(rng, rows * SEQ * case.shape[1], 1.0), [rows, SEQ, case.shape[1]])
}

fn track(map: &mut AdaptedLinear, spec: &VariantSpec) {
    for owned in map.owned(0) {
        if spec.train.trains(owned.role) {
            *owned.tensor = plain(owned.tensor).autodiff().require_grad();
        }
    }
}

/// Gradients reach exactly the tensors whose roles train, and every one of them.
pub fn gradients_reach_the_declared_roles(case: &Case) {
    let (mut map, spec) = (case.random(), case.spec());
    track(&mut map, &spec);
    if map.owned(0).iter().all(|owned| !spec.train.trains(owned.role)) {
        return;
    }
    let gradients = objective(&map, case, &Active::All).backward();
    for owned in map.owned(0) {
        let reached = owned.tensor.grad(&gradients).is_some_and(|g| values(&g).iter().any(|v| *v != 0.0));
        assert_eq!(
            reached,
            spec.train.trains(owned.role),
            "gradients reach the declared roles: {case:?}: {}",
            owned.name
        );
    }
}

/// `n` of the weight-decomposed combination from the dense sum: what its backward pass holds constant.
fn held_norms(map: &AdaptedLinear, case: &Case, active: &Active) -> Option<Vec<f64>> {
    if !matches!(case.spec().combine, CombineSpec::WeightDecomposed(_)) {
        return None;
    }
    let sum = map.sum(0, active);
    Some(values(&plain(&sum).square().sum_dim(1).sqrt())) // [runs, 1, d_out]
}

/// Every gradient equals a central difference, with what the backward pass holds constant held constant.
pub fn gradients_are_finite_differences(case: &Case) {
    let spec = case.spec();
    for active in case.actives() {
        let mut tracked = case.random();
        let held = held_norms(&tracked, case, &active);
        track(&mut tracked, &spec);
        if tracked.owned(0).iter().all(|owned| !spec.train.trains(owned.role)) {
            return;
        }
        let gradients = objective(&tracked, case, &active).backward();
        let analytic: Vec<_> =
            tracked.owned(0).into_iter().map(|owned| owned.tensor.grad(&gradients).map(|g| values(&g))).collect();
        for (index, analytic) in analytic.into_iter().enumerate() {
            let Some(analytic) = analytic else { continue };
            // Every element of small tensors, a spread of those of large ones.
            let stride = (analytic.len() / 12).max(1);
            for element in (0..analytic.len()).step_by(stride) {
                let numeric = difference(case, &active, index, element, held.as_deref());
                let error = (analytic[element] - numeric).abs();
                // Central differences at h = 1e-5 in f64: truncation and rounding both near 1e-9 of the value.
                assert!(
                    error <= 1e-6 * (1.0 + numeric.abs()),
                    "gradient = finite difference: {case:?}, {active:?}: tensor {index}, element {element}: {} is not {numeric}",
                    analytic[element]
                );
            }
        }
    }
}

fn difference(case: &Case, active: &Active, tensor: usize, element: usize, held: Option<&[f64]>) -> f64 {
    let h = 1e-5;
    let at = |step: f64| {
        let mut map = case.random();
        {
            let mut owned = map.owned(0);
            let target = &mut owned[tensor];
            let mut moved = values(target.tensor);
            moved[element] += step;
            *target.tensor = Case::place().tensor(moved, target.tensor.dims());
        }
        let y = map.forward(case.input(), &case.pass(active));
        let y = match (held, held_norms(&map, case, active)) {
            (Some(held), Some(now)) => {
                let (_, bias) = map.base();
                let ratio: Vec<f64> = now.iter().zip(held).map(|(now, held)| now / held).collect();
                let bias = bias.unwrap_or_else(|| unreachable!("the laws' base has a bias")).unsqueeze::<3>();
                rescale(case, y - bias, ratio)
            }
            _ => y,
        };
        values(&(y * cotangent(case)).sum())[0]
    };
    (at(h) - at(-h)) / (2.0 * h)
}

/// Outputs without bias, rescaled per run and column so that the norm in them is the held one.
fn rescale(case: &Case, y: Tensor<3>, ratio: Vec<f64>) -> Tensor<3> {
    let [rows, seq, d_out] = y.dims();
    let ratio = Case::place().tensor(ratio, [case.runs, 1, d_out]);
    (y.reshape([case.runs, rows / case.runs * seq, d_out]) * ratio).reshape([rows, seq, d_out])
}

/// The numerical rank of `ΔW` is at most the declared one.
pub fn the_rank_is_bounded(case: &Case) {
    let map = case.random();
    for active in case.actives() {
        let Some(Canonical::LowRank(factors)) = map.canonical(0, &active) else { continue };
        let delta = values(&factors.product());
        let [d_in, d_out] = case.shape;
        for (run, delta) in delta.chunks(d_in * d_out).enumerate() {
            let singular = DMatrix::from_row_slice(d_in, d_out, delta).svd(false, false).singular_values;
            let bound = match &active {
                Active::All => case.rank,
                Active::Prefix(ranks) => ranks[run],
                Active::Truncated(rank) => *rank,
            };
            let rank = singular.iter().filter(|s| **s > 1e-10 * singular[0]).count();
            assert!(rank <= bound, "the rank is bounded: {case:?}: {rank} above {bound}");
        }
    }
}

/// `canonical` is `W' − W0`: the low-rank form where there is one, the dense `W'` elsewhere.
pub fn the_canonical_form_is_the_update(case: &Case) {
    let map = case.random();
    for active in case.actives() {
        let base = map.base().0.unsqueeze::<3>();
        let update = map.weight(0, &active) - base.clone();
        match map.canonical(0, &active) {
            None => case.close("canonical form", &update, &update.zeros_like(), EXACT),
            Some(Canonical::LowRank(factors)) => case.close("canonical form", &factors.product(), &update, EXACT),
            Some(Canonical::Dense(weight)) => case.close("canonical form", &(weight - base), &update, EXACT),
        }
    }
}

/// Trained parameters are those of the published formula.
pub fn parameters_follow_the_formula(case: &Case) {
    let Some(formula) = case.preset.parameters else { return };
    let (mut map, spec) = (case.fresh(), case.spec());
    let trained: usize = map
        .owned(0)
        .iter()
        .filter(|owned| spec.train.trains(owned.role))
        .map(|owned| {
            let [_, rows, cols] = owned.tensor.dims();
            rows * cols
        })
        .sum();
    let [d_in, d_out] = case.shape;
    assert_eq!(trained, formula(d_in, d_out, case.rank), "parameters follow the formula: {case:?}");
}

/// An additive update is proportional to `s`, run by run: `α` is per run, and a prefix is scaled at its own rank.
pub fn the_update_scales_as_declared(case: &Case) {
    let spec = case.spec();
    let map = case.random();
    if !spec.combine.is_additive() || spec.delta.is_none() {
        return;
    }
    let unit = {
        let unscaled = Case { preset: case.preset, ..*case };
        let mut plan = unscaled.plan(&case.seeds());
        let spec = VariantSpec { scaling: Scaling::Constant { value: 1.0 }, ..spec.clone() };
        plan.variant = spec.check(Some(1000)).unwrap_or_else(|problems| unreachable!("{problems:?}"));
        let mut other = case.base();
        attach(&mut [Slot::Linear(&mut other)], &plan, &Case::place()).unwrap_or_else(|error| unreachable!("{error}"));
        let mut source = case.random();
        for (to, from) in other.owned(0).into_iter().zip(source.owned(0)) {
            *to.tensor = from.tensor.clone();
        }
        other
    };
    for active in case.actives() {
        let update = |map: &AdaptedLinear| map.weight(0, &active) - map.base().0.unsqueeze::<3>();
        let scales: Vec<f64> = case
            .plan(&case.seeds())
            .runs
            .iter()
            .enumerate()
            .map(|(run, plan)| {
                let rank = match &active {
                    Active::Prefix(ranks) => ranks[run],
                    _ => case.rank,
                };
                spec.scaling.at(plan.alpha, rank)
            })
            .collect();
        let wanted = update(&unit) * Case::place().tensor(scales, [case.runs, 1, 1]);
        case.close("the update scales as declared", &update(&map), &wanted, EXACT);
    }
}

/// The same seed gives the same bits; another seed gives others, where anything is drawn per run.
pub fn first_values_follow_the_seed(case: &Case) {
    let tensors = |mut map: AdaptedLinear| -> Vec<Vec<f64>> { map.owned(0).iter().map(|o| values(o.tensor)).collect() };
    assert_eq!(tensors(case.fresh()), tensors(case.fresh()), "same seed, same bits: {case:?}");
    let mut other = case.base();
    let seeds: Vec<u64> = case.seeds().iter().map(|seed| seed + 100).collect();
    attach(&mut [Slot::Linear(&mut other)], &case.plan(&seeds), &Case::place())
        .unwrap_or_else(|error| unreachable!("{error}"));
    let drawn = case.fresh().owned(0).iter().any(|owned| owned.role == Role::A);
    assert_eq!(tensors(other) != tensors(case.fresh()), drawn, "another seed, other bits: {case:?}");
}

/// The law of independence: a run in company has the first values, outputs and gradients it has alone.
pub fn runs_are_independent(case: &Case) {
    let spec = case.spec();
    for active in case.actives() {
        let (mut together, x) = (case.fresh(), case.input());
        perturb(&mut together, case.runs);
        track(&mut together, &spec);
        let y = together.forward(x.clone(), &case.pass(&active));
        let trains = together.owned(0).iter().any(|owned| spec.train.trains(owned.role));
        let gradients = trains.then(|| (y.clone() * cotangent(case)).sum().backward());
        for (run, seed) in case.seeds().into_iter().enumerate() {
            let rows = run * ROWS..(run + 1) * ROWS;
            let mut plan = case.plan(&[seed]);
            plan.runs[0].alpha = 8.0 + run as f64;
            let mut alone = case.base();
            attach(&mut [Slot::Linear(&mut alone)], &plan, &Case::place())
                .unwrap_or_else(|error| unreachable!("{error}"));
            for (mine, all) in alone.owned(0).into_iter().zip(case.fresh().owned(0)) {
                assert_eq!(
                    values(mine.tensor),
                    values(&all.tensor.clone().slice([run..run + 1])),
                    "first values alone and in company: {case:?}"
                );
            }
            perturb_run(&mut alone, run);
            track(&mut alone, &spec);
            let own = match &active {
                Active::Prefix(ranks) => Active::Prefix(vec![ranks[run]]),
                other => other.clone(),
            };
            let pass = Pass { stacks: vec![StackPass { active: own, ..StackPass::plain(1) }] };
            let z = alone.forward(x.clone().slice([rows.clone()]), &pass);
            case.close("outputs alone and in company", &z, &y.clone().slice([rows.clone()]), EXACT);
            let Some(gradients) = &gradients else { continue };
            let mine = (z * cotangent(case).slice([rows])).sum().backward();
            for (alone, all) in alone.owned(0).into_iter().zip(together.owned(0)) {
                if let (Some(mine), Some(all)) = (alone.tensor.grad(&mine), all.tensor.grad(gradients)) {
                    case.close("gradients alone and in company", &mine, &all.slice([run..run + 1]), EXACT);
                }
            }
        }
    }
}

/// Moves every run off its first values by numbers of its own.
fn perturb(map: &mut AdaptedLinear, runs: usize) {
    for owned in map.owned(0) {
        let [_, rows, cols] = owned.tensor.dims();
        let noise = (0..runs).map(|run| noise(owned.name, run, rows * cols).reshape([1, rows, cols])).collect();
        *owned.tensor = owned.tensor.clone() + Tensor::cat(noise, 0);
    }
}

fn perturb_run(map: &mut AdaptedLinear, run: usize) {
    for owned in map.owned(0) {
        let [_, rows, cols] = owned.tensor.dims();
        *owned.tensor = owned.tensor.clone() + noise(owned.name, run, rows * cols).reshape([1, rows, cols]);
    }
}

fn noise(name: &str, run: usize, n: usize) -> Tensor<1> {
    Case::place().tensor(stream::normal(&mut stream::generator(run as u64, Stream::Data, name), n, 0.5), [n])
}

/// A composition survives YAML, and a key that means nothing is refused.
pub fn the_spec_survives_yaml(case: &Case) {
    let spec = case.spec();
    let text = serde_yaml::to_string(&spec).unwrap_or_else(|error| unreachable!("{error}"));
    let back: VariantSpec =
        serde_yaml::from_str(&text).unwrap_or_else(|error| unreachable!("{case:?}: {error}\n{text}"));
    assert_eq!(back, spec, "the spec survives YAML: {case:?}");
    let extra = format!("{text}colour: blue\n");
    assert!(serde_yaml::from_str::<VariantSpec>(&extra).is_err(), "unknown keys are refused: {case:?}");
}

/// What trains is what the spec says about the base: copies exist exactly where they are declared.
pub fn the_base_has_the_declared_copies(case: &Case) {
    let (mut map, spec) = (case.fresh(), case.spec());
    let roles: BTreeSet<Role> = map.owned(0).iter().map(|owned| owned.role).collect();
    assert_eq!(roles.contains(&Role::Weight), spec.base == BaseSpec::Trained, "copies of weights: {case:?}");
    let biases = spec.base == BaseSpec::Trained || spec.bias != crate::base::BiasSpec::None;
    assert_eq!(roles.contains(&Role::Bias), biases, "copies of biases: {case:?}");
}

/// A law: panics where a case breaks it.
pub type Law = fn(&Case);

/// Every law, by name.
pub const LAWS: &[(&str, Law)] = &[
    ("the start is the base", the_start_is_the_base),
    ("forward is the dense product", forward_is_the_dense_product),
    ("merging preserves outputs", merging_preserves_outputs),
    ("detaching restores the base", detaching_restores_the_base),
    ("gradients reach the declared roles", gradients_reach_the_declared_roles),
    ("gradients are finite differences", gradients_are_finite_differences),
    ("the rank is bounded", the_rank_is_bounded),
    ("the canonical form is the update", the_canonical_form_is_the_update),
    ("parameters follow the formula", parameters_follow_the_formula),
    ("the update scales as declared", the_update_scales_as_declared),
    ("first values follow the seed", first_values_follow_the_seed),
    ("runs are independent", runs_are_independent),
    ("the spec survives yaml", the_spec_survives_yaml),
    ("the base has the declared copies", the_base_has_the_declared_copies),
];
