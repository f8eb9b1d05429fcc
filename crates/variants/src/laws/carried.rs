//! What a map says of what it carries, and what is left of it when a part is taken off.

use std::collections::BTreeSet;

use burn::tensor::Tensor;

use super::{
    Case, NAME, Outcome, ROUTED, ROWS, UNADAPTED,
    independence::{crowded, crowded_pass},
    input_gradient::{base, plan},
};
use crate::{
    adapted::AdaptedLinear,
    base::{BaseSpec, BiasSpec},
    host::values,
    pass::{Active, Pass, StackPass},
    slot::{Slot, StackPlan, attach},
};

/// A map says whether a stack adapts it, has anything of its own there and drops inputs, as the plan has it.
pub fn a_map_says_what_it_carries(case: &Case) -> Outcome {
    let spec = case.spec();
    let (adapts, trained) = (spec.delta.is_some(), spec.base == BaseSpec::Trained);
    let elsewhere = StackPlan { targets: BTreeSet::new(), ..case.plan(&case.seeds()) };
    for (plan, targeted) in [(case.plan(&case.seeds()), true), (elsewhere, false)] {
        let mut map = case.base();
        assert_eq!(map.stacks(), 0, "stacks of a bare map: {case:?}");
        attach(&mut [Slot::Linear(&mut map)], &plan, &case.place()).unwrap_or_else(|error| unreachable!("{error}"));
        let adapted = adapts && targeted;
        let bias = trained || spec.bias == BiasSpec::All || (spec.bias == BiasSpec::LoraOnly && targeted);
        assert_eq!(map.stacks(), 1, "stacks: {case:?}");
        assert_eq!(map.is_adapted(0), adapted, "adapted: {case:?}");
        assert_eq!(map.is_used(0), adapted || trained || bias, "used: {case:?}");
        assert_eq!(map.drops(), adapted && spec.dropout > 0.0, "drops: {case:?}");
        assert_eq!(map.rank(0), adapted.then_some(case.rank), "rank: {case:?}");
        assert_eq!(map.alphas(0).map(<[f64]>::to_vec), adapted.then(|| plan.alphas(NAME)), "alphas: {case:?}");
        map.detach();
        assert_eq!(map.stacks(), 0, "stacks after they are taken off: {case:?}");
    }
    Outcome::Applied
}

/// The gate of a pass holds the scale at the rank in use where a component is active, and 0 elsewhere; its key is what it depends on. A gate
/// that was uploaded is the one that acts.
pub fn the_gate_is_the_scale_of_active_components(case: &Case) -> Outcome {
    let (map, spec) = (case.random(), case.spec());
    if spec.delta.is_none() {
        assert!(map.gate(0, &Active::All).is_none(), "a gate without an adapter: {case:?}");
        return UNADAPTED;
    }
    let alphas = case.plan(&case.seeds()).alphas(NAME);
    let more = [Active::Truncated(1), Active::Truncated(case.rank + 2)];
    for active in case.actives().into_iter().chain(more) {
        let (key, found) =
            map.gate(0, &active).unwrap_or_else(|| unreachable!("{case:?}: an adapted map without a gate"));
        assert_eq!(key, (case.rank, alphas.iter().map(|alpha| alpha.to_bits()).collect()), "the gate's key: {case:?}");
        let wanted = gate(case, &alphas, &active);
        assert_eq!(found, wanted, "the gate: {case:?}, {active:?}");
        let mut uploaded = case.pass(&Active::All);
        uploaded.stacks[0].gates.insert(key, case.place().tensor(found, [case.runs, 1, case.rank.max(1)]));
        let (got, wanted) = (map.forward(case.input(), &uploaded), map.forward(case.input(), &case.pass(&active)));
        case.close("an uploaded gate acts", &got, &wanted);
    }
    Outcome::Applied
}

/// The scale at the rank in use where a component is active, `[runs, rank]` row-major.
pub(super) fn gate(case: &Case, alphas: &[f64], active: &Active) -> Vec<f64> {
    let of_run = |(run, alpha): (usize, &f64)| {
        let (width, rank) = match active {
            Active::All => (case.rank.max(1), case.rank),
            Active::Prefix(ranks) => (ranks[run], ranks[run]),
            Active::Truncated(width) => (*width, case.rank),
        };
        let scale = case.spec().scaling.at(*alpha, rank);
        // Without a rank it holds the scale alone.
        (0..case.rank.max(1)).map(|component| if component < width { scale } else { 0.0 }).collect::<Vec<_>>()
    };
    alphas.iter().enumerate().flat_map(of_run).collect()
}

/// A stack alone is what it was among others, and a run alone what it was in its stack.
pub fn what_is_kept_is_as_it_was(case: &Case) -> Outcome {
    let (among, alone) = (crowded(case), case.random());
    assert_eq!(among.stacks(), 5);
    let kept = among.only(2);
    assert_eq!(kept.stacks(), 1, "a stack alone: {case:?}");
    for active in case.actives() {
        let (_, pass) = crowded_pass(case, &active, false);
        let y = alone.forward(case.input(), &pass);
        case.close("a stack alone", &kept.forward(case.input(), &pass), &y);
        for run in 0..case.runs {
            let (one, rows) = (run_alone(&alone, run), run * ROWS..(run + 1) * ROWS);
            let own = match &active {
                Active::Prefix(ranks) => Active::Prefix(vec![ranks[run]]),
                other => other.clone(),
            };
            let pass = Pass::of(vec![StackPass::with(1, own)]);
            let z = one.forward(case.input().slice([rows.clone()]), &pass);
            case.close("a run alone", &z, &y.clone().slice([rows]));
            let of_run = |all: Option<Tensor<3>>| all.map(|all| values(&all.slice([run..run + 1])));
            assert_eq!(one.preconditioner(0).map(|own| values(&own)), of_run(alone.preconditioner(0)), "{case:?}");
        }
    }
    Outcome::Applied
}

/// A map with one run of its only stack: its settings, and its slices of the parameters.
fn run_alone(map: &AdaptedLinear, run: usize) -> AdaptedLinear {
    let mut one = map.clone();
    let _ = one.preconditioner(0); // what was computed for all runs must not stay
    Slot::Linear(&mut one).keep_run(run);
    for mut param in one.parameters(0) {
        param.tensor.set(param.tensor.clone().slice([run..run + 1]));
    }
    one
}

/// A stack lies on the parts of a fused map if it adapts or trains one of them, and on the fused map otherwise. The parts are the fused map
/// cut in columns, and the fused map of its parts, each merged, computes what they compute.
pub fn a_stack_lies_on_one_side_of_a_fused_map(case: &Case) -> Outcome {
    if case.is_routed() {
        return ROUTED;
    }
    let (spec, [_, d_out]) = (case.spec(), case.shape);
    let (whole, names) = ("h.0.attn.c_attn", ["h.0.attn.c_attn.q", "h.0.attn.c_attn.v"]);
    let parts = names.map(str::to_owned);
    let copies = spec.base == BaseSpec::Trained || spec.bias == BiasSpec::All;
    let adapts = spec.delta.is_some() || spec.bias == BiasSpec::LoraOnly;
    let halved = names.map(|name| (name, d_out));
    for adapted in [&[(whole, 2 * d_out)][..], &halved[..], &halved[1..]] {
        let mut fused = base(case, whole, 2 * d_out).fusing(&parts);
        let mut halves = [0, 1].map(|at| fused.part(names[at], &parts, at * d_out, (at + 1) * d_out));
        let joined = fused.fused_from(&halves);
        assert_eq!(bits(&joined), bits(&fused), "a fused map is the columns of its parts: {case:?}");
        let slots = halves.iter_mut().chain([&mut fused]).map(Slot::Linear);
        attach(&mut slots.collect::<Vec<_>>(), &plan(case, adapted), &case.place())
            .unwrap_or_else(|error| unreachable!("{case:?}: {error}"));
        let divided = adapted[0].0 != whole;
        let own = |name: &str, side: bool| side && (copies || adapts && adapted.iter().any(|(of, _)| *of == name));
        assert_eq!(fused.is_used(0), own(whole, !divided), "the fused map: {case:?}, {adapted:?}");
        for (half, name) in halves.iter().zip(names) {
            assert_eq!(half.is_used(0), own(name, divided), "`{name}`: {case:?}, {adapted:?}");
        }
        for mut param in halves.iter_mut().flat_map(|half| half.parameters(0)) {
            param.tensor.set(param.tensor.clone() + 0.25);
        }
        let (x, bare) = (case.input(), Pass::of(vec![]));
        let merged = halves.each_ref().map(|half| half.merge(0, 0, &Active::All));
        let wanted = Tensor::cat(merged.iter().map(|half| half.forward(x.clone(), &bare)).collect(), 2);
        let joined = fused.fused_from(&merged);
        assert_eq!((joined.name(), joined.stacks()), (whole, 0), "the fused map of its parts: {case:?}");
        case.close("the fused map of its parts", &joined.forward(x, &bare), &wanted);
    }
    Outcome::Applied
}

/// The frozen weight and bias.
fn bits(map: &AdaptedLinear) -> (Vec<f64>, Option<Vec<f64>>) {
    let (weight, bias) = map.base();
    (values(&weight), bias.map(|bias| values(&bias)))
}
