//! Embedding tables and layer norms obey what linear maps obey.

use std::collections::BTreeSet;

use burn::tensor::{DType, Int, Tensor, TensorData};
use nalgebra::DMatrix;

use super::{Case, FROZEN, Outcome, ROUNDING, ROWS, SEQ, TABLE, carried::gate, training::gradient};
use crate::{
    embedding::AdaptedEmbedding,
    error::AttachError,
    host::{inner, values},
    norm::AdaptedNorm,
    pass::{Active, Pass, StackPass},
    slot::{Slot, StackPlan, attach},
    stream::{self, Stream},
};

/// An embedding table with the case's stack, all of its tensors at random values if `random`; or why the variant does not adapt tables.
fn table(case: &Case, random: bool) -> Result<AdaptedEmbedding, Outcome> {
    let rng = &mut stream::generator(6, Stream::Data, "table");
    let [rows, d] = case.shape;
    let mut table = AdaptedEmbedding::new(TABLE, case.place().tensor(stream::normal(rng, rows * d, 0.5), [rows, d]));
    let plan = StackPlan { targets: BTreeSet::from([TABLE.to_owned()]), ..case.plan(&case.seeds()) };
    match attach(&mut [Slot::Embedding(&mut table)], &plan, &case.place()) {
        Ok(()) => {}
        Err(AttachError::NotAnEmbeddingDelta { .. }) => {
            return Err(Outcome::NotApplicable("this composition has no form on an embedding table"));
        }
        Err(other) => unreachable!("{case:?}: {other}"),
    }
    for mut param in table.parameters(0).into_iter().filter(|_| random) {
        let dims @ [runs, rows, cols] = param.tensor.dims();
        let rng = &mut stream::generator(7, Stream::Init, param.name);
        param.tensor.set(case.place().tensor(stream::normal(rng, runs * rows * cols, 0.7), dims));
    }
    Ok(table)
}

/// An adapted embedding table starts as the base's, looks up the rows of its merged table in every way the
/// components can be active.
pub fn tables_obey_the_laws_of_maps(case: &Case) -> Outcome {
    let fresh = match table(case, false) {
        Ok(fresh) => fresh,
        Err(reason) => return reason,
    };
    let [_, d] = case.shape;
    let tensor = || looked_up_ids(case).1;
    let ids = looked_up_ids(case).0;
    let looked_up = |table: &[f64]| ids.iter().flat_map(|id| &table[id * d..(id + 1) * d]).copied().collect::<Vec<_>>();
    let shape = [case.runs * ROWS, SEQ, d];
    let base = looked_up(&values(&fresh.base()));
    let start = fresh.forward(tensor(), &case.pass(&Active::All));
    case.close("a table starts as the base", &start, &case.place().tensor(base, shape));
    let random = table(case, true).unwrap_or_else(|_| unreachable!("it could be attached above"));
    for active in case.actives() {
        let y = random.forward(tensor(), &case.pass(&active));
        for run in 0..case.runs {
            let rows = run * ROWS..(run + 1) * ROWS;
            let merged = random.merge(0, run, &active).forward(tensor().slice([rows.clone()]), &Pass::of(vec![]));
            case.close("a table is its merged table", &y.clone().slice([rows]), &merged);
        }
    }
    Outcome::Applied
}

/// A table's stacks look up their own rows alone, each run in its merged table; a stack or a run that is kept stays as it was, and without
/// stacks the table is the base's.
pub fn tables_keep_what_they_are_told_to(case: &Case) -> Outcome {
    let (one, mut both) = match (table(case, true), table(case, true)) {
        (Ok(one), Ok(both)) => (one, both),
        (Err(reason), _) | (_, Err(reason)) => return reason,
    };
    let plan = StackPlan { targets: BTreeSet::from([TABLE.to_owned()]), ..case.plan(&case.seeds()) };
    attach(&mut [Slot::Embedding(&mut both)], &plan, &case.place()).unwrap_or_else(|error| unreachable!("{error}"));
    for mut param in both.parameters(1) {
        let dims @ [runs, rows, cols] = param.tensor.dims();
        let rng = &mut stream::generator(17, Stream::Init, param.name);
        param.tensor.set(case.place().tensor(stream::normal(rng, runs * rows * cols, 0.7), dims));
    }
    let ids = looked_up_ids(case).1;
    // The stacks look up other rows, so that one which took the other's would show.
    let of_stack = [ids.clone(), ids.clone().flip([0, 1])];
    let of_run = |stack: usize, run: usize| of_stack[stack].clone().slice([run * ROWS..(run + 1) * ROWS]);
    let bare = Pass::of(vec![]);
    for active in case.actives() {
        let here = StackPass::with(case.runs, active.clone());
        let y = both.forward(Tensor::cat(of_stack.to_vec(), 0), &Pass::of(vec![here.clone(), here]));
        for (stack, run) in [0, 1].into_iter().flat_map(|stack| (0..case.runs).map(move |run| (stack, run))) {
            let first = (stack * case.runs + run) * ROWS;
            let wanted = both.merge(stack, run, &active).forward(of_run(stack, run), &bare);
            case.close("stacks of a table", &y.clone().slice([first..first + ROWS]), &wanted);
            let mut alone = both.only(stack);
            case.close(
                "a table's stack alone",
                &alone.forward(of_stack[stack].clone(), &case.pass(&active)).slice([run * ROWS..(run + 1) * ROWS]),
                &wanted,
            );
            Slot::Embedding(&mut alone).keep_run(run);
            for mut param in alone.parameters(0) {
                param.tensor.set(param.tensor.clone().slice([run..run + 1]));
            }
            let own = match &active {
                Active::Prefix(ranks) => Active::Prefix(vec![ranks[run]]),
                other => other.clone(),
            };
            let z = alone.forward(of_run(stack, run), &Pass::of(vec![StackPass::with(1, own)]));
            case.close("a table's run alone", &z, &wanted);
        }
        let found = one.gate(0, &active).map(|(_, gate)| gate);
        let wanted = case.spec().delta.is_some().then(|| gate(case, &plan.alphas(TABLE), &active));
        assert_eq!(found, wanted, "a table's gate: {case:?}, {active:?}");
    }
    both.detach();
    let base = one.base().select(0, ids.clone().reshape([case.runs * ROWS * SEQ]));
    let base = base.reshape([case.runs * ROWS, SEQ, case.shape[1]]);
    assert_eq!(values(&both.forward(ids, &bare)), values(&base), "a table without stacks: {case:?}");
    Outcome::Applied
}

/// A table's update is replaced by its best approximation: what is lost are the singular values behind the rank.
pub fn tables_are_compressed_to_the_best_approximation(case: &Case) -> Outcome {
    let full = match table(case, true) {
        Ok(full) => full,
        Err(reason) => return reason,
    };
    if case.spec().delta.is_none() {
        return Outcome::NotApplicable("the variant adapts no table");
    }
    let [rows, d] = case.shape;
    let update = |table: &AdaptedEmbedding, run: usize| {
        let change = values(&table.merged(0, run, &Active::All)).into_iter().zip(values(&table.base()));
        DMatrix::from_row_iterator(rows, d, change.map(|(merged, base)| merged - base))
    };
    let rank = case.rank.div_ceil(2);
    let mut cut = full.clone();
    cut.compress(0, rank);
    for run in 0..case.runs {
        let (whole, kept) = (update(&full, run), update(&cut, run));
        let singular = whole.singular_values();
        let mut singular: Vec<f64> = singular.iter().copied().collect();
        singular.sort_by(|a, b| b.total_cmp(a));
        let lost = singular[rank.min(singular.len())..].iter().map(|value| value * value).sum::<f64>().sqrt();
        let found = (&whole - kept).norm();
        // Two decompositions, and in f32 the table's rounding.
        let tolerance = if case.dtype == DType::F64 { 1e-10 } else { 1e-4 } * (1.0 + whole.norm());
        assert!((found - lost).abs() <= tolerance, "a table is compressed: {case:?}: {found} is lost, not {lost}");
    }
    Outcome::Applied
}

/// Ids of every run's rows, on the host and on the device.
fn looked_up_ids(case: &Case) -> (Vec<usize>, Tensor<2, Int>) {
    let [vocabulary, _] = case.shape;
    let ids: Vec<usize> = (0..case.runs * ROWS * SEQ).map(|i| (i * 7 + i / 3) % vocabulary).collect();
    let data = TensorData::new(ids.iter().map(|id| *id as i64).collect::<Vec<_>>(), [case.runs * ROWS, SEQ]);
    (ids, Tensor::from_data(data, &case.place().device))
}

/// The gradients of a table's tensors are finite differences.
pub fn tables_have_their_gradients(case: &Case) -> Outcome {
    if case.dtype != DType::F64 {
        return ROUNDING;
    }
    let spec = case.spec();
    let mut tracked = match table(case, true) {
        Ok(tracked) => tracked,
        Err(reason) => return reason,
    };
    if !tracked.parameters(0).iter().any(|param| spec.train.trains(param.role)) {
        return FROZEN;
    }
    for mut param in tracked.parameters(0).into_iter().filter(|param| spec.train.trains(param.role)) {
        param.tensor.set(inner(&param.tensor).autodiff().require_grad());
    }
    let objective = |table: &AdaptedEmbedding| {
        let y = table.forward(looked_up_ids(case).1, &case.pass(&Active::All));
        (y.clone() * y).sum()
    };
    let gradients = objective(&tracked).backward();
    let analytic: Vec<_> = tracked.parameters(0).into_iter().map(|param| gradient(case, &param, &gradients)).collect();
    for (index, analytic) in analytic.into_iter().enumerate() {
        let Some(analytic) = analytic else { continue }; // of a frozen tensor
        for element in (0..analytic.len()).step_by((analytic.len() / 6).max(1)) {
            let at = |step: f64| {
                let mut moved = table(case, true).unwrap_or_else(|_| unreachable!("made above"));
                {
                    let mut params = moved.parameters(0);
                    let mut numbers = values(&params[index].tensor);
                    numbers[element] += step;
                    let dims = params[index].tensor.dims();
                    params[index].tensor.set(case.place().tensor(numbers, dims));
                }
                values(&objective(&moved))[0]
            };
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            // As for maps; the objective is of the order of a hundred.
            assert!(
                (analytic[element] - numeric).abs() <= 1e-5 * (1.0 + numeric.abs()),
                "a table's gradients: {case:?}: tensor {index}, element {element}: {} is not {numeric}",
                analytic[element]
            );
        }
    }
    Outcome::Applied
}

/// A norm, with mean or without, whose gain and bias are per-run copies is the merged norm of each run.
pub fn norms_obey_the_laws_of_maps(case: &Case) -> Outcome {
    let [_, d] = case.shape;
    let place = case.place();
    let draw = |name: &str| place.tensor(stream::normal(&mut stream::generator(8, Stream::Data, name), d, 0.5), [d]);
    let layer = AdaptedNorm::new("output.LayerNorm", draw("gamma") + 1.0, draw("beta"), 1e-5);
    let square = AdaptedNorm::root_mean_square("input_layernorm", draw("gamma") + 1.0, 1e-5);
    for (norm, stacks) in [(&layer, 1), (&layer, 2), (&square, 1), (&square, 2)] {
        runs_have_norms_of_their_own(case, norm.clone(), stacks);
    }
    Outcome::Applied
}

/// Every run's rows pass the norm that merging gives it, with the case's stack there once or several times.
fn runs_have_norms_of_their_own(case: &Case, mut norm: AdaptedNorm, stacks: usize) {
    let ([_, d], place, runs) = (case.shape, case.place(), case.runs);
    for _ in 0..stacks {
        attach(&mut [Slot::Norm(&mut norm)], &case.plan(&case.seeds()), &place)
            .unwrap_or_else(|error| unreachable!("{case:?}: {error}"));
    }
    let pass = Pass::of(vec![StackPass::with(runs, Active::All); stacks]);
    let rows = stacks * runs * ROWS;
    let rng = &mut stream::generator(3, Stream::Data, "x");
    let x = place.tensor(stream::normal(rng, rows * SEQ * d, 1.0), [rows, SEQ, d]);
    let base = norm.merge(0, 0).forward(x.clone(), &Pass::of(vec![]));
    case.close("a norm starts as the base", &norm.forward(x.clone(), &pass), &base);
    for stack in 0..stacks {
        for mut param in norm.parameters(stack) {
            let dims @ [runs, rows, cols] = param.tensor.dims();
            let rng = &mut stream::generator(9 + stack as u64, Stream::Init, param.name);
            param.tensor.set(place.tensor(stream::normal(rng, runs * rows * cols, 0.7), dims));
        }
    }
    let y = norm.forward(x.clone(), &pass);
    for (stack, run) in (0..stacks).flat_map(|stack| (0..runs).map(move |run| (stack, run))) {
        let first = (stack * runs + run) * ROWS;
        let rows = first..first + ROWS;
        let alone = norm.merge(stack, run).forward(x.clone().slice([rows.clone()]), &Pass::of(vec![]));
        case.close("a norm is its merged norm", &y.clone().slice([rows]), &alone);
    }
    let one = norm.only(stacks - 1);
    let own = runs * ROWS * (stacks - 1)..rows;
    let z = one.forward(x.clone().slice([own.clone()]), &Pass::of(vec![StackPass::with(runs, Active::All)]));
    case.close("a norm's stack alone", &z, &y.slice([own]));
    norm.detach();
    case.close("a norm without stacks", &norm.forward(x, &Pass::of(vec![])), &base);
}
