//! What a map computes: start, forward, merge, update, scale.

use burn::tensor::{DType, Tensor};
use nalgebra::DMatrix;

use super::{Case, Outcome, ROUTED, ROWS, SEQ, UNADAPTED};
use crate::{
    adapted::{AdaptedLinear, Canonical},
    base_update::BaseUpdate,
    capability::Capability,
    dropout,
    form::Experts,
    host::{inner, values},
    pass::{Active, DropoutClock, Pass},
    scaling::Scaling,
    slot::{Slot, attach},
    spec::VariantSpec,
};

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

/// How far each run's start may be from `W0`, as a share of it, where it may.
fn start_share(case: &Case) -> Option<Vec<f64>> {
    let spec = case.spec();
    let share = spec.delta.as_ref()?.start_share(&spec.init, case.rank);
    let alphas = case.plan(&case.seeds()).alphas(super::NAME);
    (share > 0.0).then(|| alphas.into_iter().map(|alpha| share * spec.scaling.at(alpha, case.rank).abs()).collect())
}

/// At its first values a variant computes what the base computes, and its dense weight is the base's, bit for bit; to rounding where
/// the update is a difference of two products, and no further away than declared where first values are drawn next to 0.
pub fn the_start_is_the_base(case: &Case) -> Outcome {
    let base = case.base().forward(case.input(), &Pass::of(vec![]));
    let map = case.fresh();
    let weight = values(&map.base().0);
    if let Some(share) = start_share(case) {
        let change = map.weight(0, &Active::All) - map.base().0.unsqueeze::<3>();
        let norm = weight.iter().map(|v| v * v).sum::<f64>().sqrt();
        for (run, change) in values(&change).chunks(weight.len()).enumerate() {
            let most = share[run] * norm;
            let found = change.iter().map(|v| v * v).sum::<f64>().sqrt();
            assert!(found > 0.0 && found <= most, "the start is near the base: {case:?}: {found} is above {most}");
        }
        return Outcome::Applied;
    }
    for active in case.actives() {
        case.close("the start is the base", &map.forward(case.input(), &case.pass(&active)), &base);
        if case.is_routed() {
            continue;
        }
        if case.spec().delta.is_some_and(|delta| !delta.starts_exactly()) {
            let dense = map.weight(0, &active);
            let wanted = map.base().0.unsqueeze::<3>().repeat_dim(0, dense.dims()[0]);
            case.close("the start is the base", &dense, &wanted);
            continue;
        }
        for run in values(&map.weight(0, &active)).chunks(weight.len()) {
            assert_eq!(run, weight, "the start is the base, bit for bit: {case:?}, {active:?}");
        }
    }
    Outcome::Applied
}

/// `forward(x) = x·weight() + bias`, at random values, in every way the components can be active; and the same for so many rows that another way
/// through a map may be cheaper.
pub fn forward_is_the_dense_product(case: &Case) -> Outcome {
    if case.is_routed() {
        return ROUTED;
    }
    let map = case.random();
    for active in case.actives() {
        let y = map.forward(case.input(), &case.pass(&active));
        case.close("forward = x·weight + bias", &y, &dense(&map, case, &active));
        let many = case.shape[1];
        let of_many = map.forward(case.input().repeat_dim(1, many), &case.pass(&active));
        case.close("many rows = few", &of_many, &y.repeat_dim(1, many));
    }
    Outcome::Applied
}

/// `x·W0 + bias + Σᵢ ωᵢ(x)·x̃·ΔWᵢ` row by row, from dense experts and weights written out on the host: of inputs as they are, and after
/// dropout, which the router of low-rank experts does not see.
pub fn rows_mix_their_experts(case: &Case) -> Outcome {
    if !case.is_routed() {
        return Outcome::NotApplicable("all rows share the update");
    }
    if case.spec().lacks(&[Capability::Additive]).is_some() {
        return Outcome::NotApplicable("the combination does more than add");
    }
    let [d_in, d_out] = case.shape;
    let mut random = case.random();
    let spec = VariantSpec { dropout: 0.5, ..case.spec() };
    let (mut map, mut plan) = (case.base(), case.plan(&case.seeds()));
    plan.variant = spec.check(Some(1000)).unwrap_or_else(|problems| unreachable!("{case:?}: {problems:?}"));
    attach(&mut [Slot::Linear(&mut map)], &plan, &case.place()).unwrap_or_else(|error| unreachable!("{error}"));
    for (mut to, from) in map.parameters(0).into_iter().zip(random.parameters(0)) {
        to.tensor.set(from.tensor.clone());
    }
    let x = case.input().reshape([case.runs, ROWS * SEQ, d_in]);
    let base = x.clone().matmul(map.base().0.unsqueeze::<3>());
    let bias = |run| {
        map.bias_of(0, run, &Active::All)
            .unwrap_or_else(|| unreachable!("the laws' base has a bias"))
            .reshape([1, 1, d_out])
    };
    let bias: Tensor<3> = Tensor::cat((0..case.runs).map(bias).collect(), 0);
    for active in case.actives() {
        let routed = map.routed(0, &active).unwrap_or_else(|| unreachable!("as asked above"));
        let [_, _, experts] = routed.router.dims();
        let weights = |seen: Tensor<3>| {
            let of_row = |logits: &[f64]| {
                let each: Vec<f64> = logits.iter().map(|logit| logit.exp()).collect();
                let sum: f64 = each.iter().sum();
                each.into_iter().map(|one| one / sum).collect::<Vec<_>>()
            };
            let logits = values(&seen.matmul(routed.router.clone()));
            case.place().tensor(logits.chunks(experts).flat_map(of_row).collect(), [case.runs, ROWS * SEQ, experts])
        };
        let clock = DropoutClock { seeds: (40..40 + case.runs as u64).collect(), step: 3, micro: 1 };
        let training = case.pass(&active).dropping(&clock, &case.place());
        let (dropped, _) = dropout::drop(x.clone(), &training.stacks[0], dropout::site(super::NAME), 0.5, SEQ);
        let input = x.clone();
        for (pass, x) in [(case.pass(&active), x.clone()), (training, dropped)] {
            let mut wanted = base.clone() + bias.clone();
            let weights = weights(match routed.experts {
                Experts::LowRank { .. } => input.clone(),
                Experts::Gains(_) => x.clone().matmul(map.base().0.unsqueeze::<3>()),
            });
            for (at, expert) in routed.one_by_one().into_iter().enumerate() {
                let of_expert = x.clone().matmul(expert.dense(&map.base().0));
                wanted = wanted + of_expert * weights.clone().narrow(2, at, 1);
            }
            let found = map.forward(case.input(), &pass).reshape([case.runs, ROWS * SEQ, d_out]);
            case.near("rows mix their experts", &inner(&found), &wanted, 10.0);
        }
    }
    Outcome::Applied
}

/// A merged map, free of stacks, computes what the adapted one computes.
pub fn merging_preserves_outputs(case: &Case) -> Outcome {
    if case.is_routed() {
        return ROUTED;
    }
    let map = case.random();
    for active in case.actives() {
        let y = map.forward(case.input(), &case.pass(&active));
        for run in 0..case.runs {
            let rows = run * ROWS..(run + 1) * ROWS;
            let merged = map.merge(0, run, &active);
            let got = merged.forward(case.input().slice([rows.clone()]), &Pass::of(vec![]));
            case.close("merge preserves outputs", &got, &y.clone().slice([rows]));
        }
    }
    Outcome::Applied
}

/// Taking the stacks off restores the base bit for bit, whatever happened to them.
pub fn detaching_restores_the_base(case: &Case) -> Outcome {
    let mut map = case.random();
    let _ = map.forward(case.input(), &case.pass(&Active::All));
    if !case.is_routed() {
        let _ = map.merge(0, 0, &Active::All);
    }
    map.detach();
    let ((weight, bias), (w0, b0)) = (map.base(), case.base().base());
    assert_eq!(values(&weight), values(&w0), "detaching restores the base: {case:?}");
    assert_eq!(bias.map(|b| values(&b)), b0.map(|b| values(&b)), "detaching restores the base: {case:?}");
    Outcome::Applied
}

/// The numerical rank of `ΔW`, before it is combined with the base, is at most the declared one.
pub fn the_rank_is_bounded(case: &Case) -> Outcome {
    if case.is_routed() {
        return ROUTED;
    }
    let map = case.random();
    let Some(delta) = case.spec().delta else { return UNADAPTED };
    let accumulated = case.spec().base_update.components(delta.components(case.rank), case.shape);
    for active in case.actives() {
        let update = values(&(map.sum(0, &active) - map.base().0.unsqueeze::<3>()));
        let [d_in, d_out] = case.shape;
        for (run, update) in update.chunks(d_in * d_out).enumerate() {
            let singular = DMatrix::from_row_slice(d_in, d_out, update).svd(false, false).singular_values;
            let bound = delta.components(match &active {
                Active::All => case.rank,
                Active::Prefix(ranks) => ranks[run],
                Active::Truncated(rank) => *rank,
            });
            let bound = bound.saturating_add(accumulated);
            let floor = if case.dtype == DType::F64 { 1e-10 } else { 1e-4 };
            let rank = singular.iter().filter(|s| **s > floor * singular[0]).count();
            assert!(rank <= bound, "the rank is bounded: {case:?}: {rank} above {bound}");
        }
    }
    Outcome::Applied
}

/// `canonical` is `W' − W0`: the low-rank form where there is one, the dense `W'` elsewhere.
pub fn the_canonical_form_is_the_update(case: &Case) -> Outcome {
    if case.is_routed() {
        return ROUTED;
    }
    let map = case.random();
    for active in case.actives() {
        let base = map.base().0.unsqueeze::<3>();
        let update = map.weight(0, &active) - base.clone();
        match map.canonical(0, &active) {
            None => case.close("canonical form", &update, &update.zeros_like()),
            Some(Canonical::LowRank(factors)) => case.close("canonical form", &factors.product(), &update),
            Some(Canonical::Dense(weight)) => case.close("canonical form", &(weight - base), &update),
        }
    }
    Outcome::Applied
}

/// Trained parameters are those of the published formula.
pub fn parameters_follow_the_formula(case: &Case) -> Outcome {
    let counts = case.axis.name == super::DEFAULT.name || (case.axis.own)(case.rank).rank.is_some();
    if !counts {
        return Outcome::NotApplicable("the axis changes what the formula counts");
    }
    let Some(formula) = case.preset.parameters else {
        return Outcome::NotApplicable("what trains is not adapters, so there is no formula");
    };
    let (mut map, spec) = (case.fresh(), case.spec());
    let trained: usize = map
        .parameters(0)
        .iter()
        .filter(|param| spec.train.trains(param.role))
        .map(|param| {
            let [_, rows, cols] = param.tensor.dims();
            rows * cols
        })
        .sum();
    let [d_in, d_out] = case.shape;
    assert_eq!(trained, formula(d_in, d_out, case.rank), "parameters follow the formula: {case:?}");
    Outcome::Applied
}

/// `ΔW`, before it is combined with the base, is proportional to `s`, run by run: `α` is per run, and a prefix is scaled at its own rank.
pub fn the_update_scales_as_declared(case: &Case) -> Outcome {
    if case.is_routed() {
        return ROUTED;
    }
    let spec = case.spec();
    let map = case.random();
    if spec.delta.is_none() {
        return UNADAPTED;
    }
    let unit = {
        let unscaled = Case { preset: case.preset, ..*case };
        let mut plan = unscaled.plan(&case.seeds());
        let spec = VariantSpec { scaling: Scaling::Constant { value: 1.0 }, ..spec.clone() };
        plan.variant = spec.check(Some(1000)).unwrap_or_else(|problems| unreachable!("{problems:?}"));
        let mut other = case.base();
        attach(&mut [Slot::Linear(&mut other)], &plan, &case.place()).unwrap_or_else(|error| unreachable!("{error}"));
        let mut source = case.random();
        for (mut to, from) in other.parameters(0).into_iter().zip(source.parameters(0)) {
            to.tensor.set(from.tensor.clone());
        }
        other
    };
    for active in case.actives() {
        let update = |map: &AdaptedLinear| map.sum(0, &active) - map.base().0.unsqueeze::<3>();
        let scales: Vec<f64> = case
            .plan(&case.seeds())
            .alphas(super::NAME)
            .into_iter()
            .enumerate()
            .map(|(run, alpha)| {
                let rank = match &active {
                    Active::Prefix(ranks) => ranks[run],
                    _ => case.rank,
                };
                spec.scaling.at(alpha, rank)
            })
            .collect();
        let wanted = update(&unit) * case.place().tensor(scales, [case.runs, 1, 1]);
        case.close("the update scales as declared", &update(&map), &wanted);
    }
    Outcome::Applied
}

/// Dropout acts on the adapter's input alone, in the form that the combination declares, and not at all in evaluation.
pub fn dropout_acts_where_declared(case: &Case) -> Outcome {
    if case.is_routed() {
        return ROUTED;
    }
    let spec = VariantSpec { dropout: 0.5, ..case.spec() };
    if spec.delta.is_none() {
        return UNADAPTED;
    }
    let dropping = Case { axis: super::DEFAULT, ..*case };
    let mut map = dropping.base();
    let mut plan = case.plan(&case.seeds());
    plan.variant = spec.check(Some(1000)).unwrap_or_else(|problems| unreachable!("{case:?}: {problems:?}"));
    attach(&mut [Slot::Linear(&mut map)], &plan, &case.place()).unwrap_or_else(|error| unreachable!("{error}"));
    let mut random = case.random();
    for (mut to, from) in map.parameters(0).into_iter().zip(random.parameters(0)) {
        to.tensor.set(from.tensor.clone());
    }
    let [d_in, d_out] = case.shape;
    for active in case.actives() {
        let evaluated = map.forward(case.input(), &case.pass(&active));
        case.close("evaluation drops nothing", &evaluated, &random.forward(case.input(), &case.pass(&active)));
        let clock = DropoutClock { seeds: (40..40 + case.runs as u64).collect(), step: 3, micro: 1 };
        let training = case.pass(&active).dropping(&clock, &case.place());
        let y = map.forward(case.input(), &training);
        // Written out on dense matrices: what is declared to see the input as it is, and the rest of W' after dropout.
        let x = case.input().reshape([case.runs, ROWS * SEQ, d_in]);
        let (_, bias) = map.base();
        let as_it_is = map.undropped(0, &active); // [runs or 1, d_in, d_out]
        let rest = map.weight(0, &active) - as_it_is.clone();
        let (dropped, _) = dropout::drop(x.clone(), &training.stacks[0], dropout::site(super::NAME), 0.5, SEQ);
        let wanted = x.matmul(as_it_is) + dropped.matmul(rest);
        // Each run adds its own bias where it has one.
        let biases: Vec<Tensor<3>> = (0..case.runs)
            .map(|run| {
                map.merged(0, run, &active)
                    .1
                    .or_else(|| bias.clone())
                    .map_or_else(|| unreachable!("the laws' base has a bias"), |bias| bias.reshape([1, 1, d_out]))
            })
            .collect();
        let wanted = (wanted + Tensor::cat(biases, 0)).reshape([case.runs * ROWS, SEQ, d_out]);
        // Column norms are divided by each other once more than in the code.
        case.near("dropout acts on the adapter's input", &inner(&y), &wanted, 10.0);
    }
    Outcome::Applied
}
