//! Parts of a step that its end does not show: what is planned, kept, counted and reported.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use burn::tensor::Tensor;
use variants::{
    host::{inner, values},
    penalty::AnyPenalty,
    preset,
    rank::{AnyRankPolicy, budget::Budget, soft_threshold::SoftThreshold},
    role::{Role, RoleConfig},
    spec::VariantSpec,
};

use super::{
    importance::Importance, inputs::UploadBuffer, layout::StepLayout, pending::RunFacts, replay::Recordings, *,
};
use crate::study::run_state::RunAt;

#[path = "../../tests/support/cohort.rs"]
mod support;
use support::{Batches, classes};

const RANK: usize = 4;

fn spec(preset: &str) -> VariantSpec {
    (preset::find(preset).unwrap().spec)(RANK)
}

/// Observes before the last three steps, and allocates at every second of these steps.
fn adalora() -> VariantSpec {
    let budget = Budget { target_rank: 1, initial_steps: 1.0, final_steps: 3.0, interval: 2, ..Budget::default() };
    VariantSpec { rank_policy: AnyRankPolicy::Budget(budget), ..spec("adalora") }
}

/// Two runs of `steps` each.
fn cohort(spec: &VariantSpec, steps: [u64; 2]) -> Cohort {
    let mut cohort = support::cohort("roberta", &classes(), spec, &["query", "value"]);
    cohort.runs_mut().zip(steps).for_each(|(run, steps)| run.steps = steps);
    cohort
}

fn batches() -> Batches {
    Batches::new(classes(), 2)
}

/// A planned step and its numbers on the device.
fn planned(cohort: &mut Cohort) -> (StepLayout, DeviceInputs) {
    cohort.lay_out_parameters();
    let batch = batches().batch(&cohort.network, cohort.step);
    let (layout, buffer, _) = cohort.plan(vec![batch]);
    (layout, buffer.upload(cohort.place()))
}

/// Every number of a run.
fn numbers(cohort: &mut Cohort, run: usize) -> Vec<f64> {
    let parameters = cohort.network.parameters(0).into_iter();
    parameters.flat_map(|named| values(&inner(&named.param.tensor).slice([run..run + 1]))).collect()
}

#[test]
fn steps_that_are_read_together_are_reported_one_by_one() {
    let [mut one, mut other] = [(); 2].map(|()| cohort(&spec("lora"), [3, 2]));
    let alone: Vec<StepReport> = (0..3).map(|_| one.advance(&batches())).collect();
    for step in 0..3 {
        assert_eq!(other.pending(), step);
        other.enqueue(&batches());
    }
    let together = other.flush();
    assert_eq!((together.len(), other.pending(), other.flush().len()), (3, 0, 0));
    for (step, (one, other)) in alone.iter().zip(&together).enumerate() {
        assert_eq!(other.runs.len(), [2, 2, 1][step], "the second run has two steps");
        for (one, other) in one.runs.iter().zip(&other.runs) {
            assert_eq!((one.at, one.entry), (other.at, other.entry));
            assert_eq!(other.entry.step, step as u64 + 1);
        }
    }
}

#[test]
fn a_step_counts_the_tokens_of_all_its_micro_batches() {
    let mut cohort = cohort(&spec("lora"), [1, 1]);
    cohort.accumulate = 3;
    let report = cohort.advance(&batches());
    // Rows of four and two tokens, three times.
    assert_eq!(report.runs.iter().map(|run| run.tokens).collect::<Vec<_>>(), [18, 18]);
}

#[test]
fn gradients_take_the_bytes_of_what_trains_in_every_run() {
    for preset in ["lora", "adalora", "bitfit", "full"] {
        let mut cohort = cohort(&spec(preset), [1, 1]);
        cohort.advance(&batches());
        let (of_run, head) = cohort.network.trained_parameters(0);
        assert_eq!(cohort.gradient_bytes(), 2 * 4 * (of_run + head) as u64, "{preset}: two runs, four bytes each");
    }
}

/// What a device returned of one step: losses, penalties and squared norms of two runs.
fn returned(cohort: &mut Cohort, step: u64, results: [f64; 6], active: [bool; 2]) {
    let facts = active.map(|active| RunFacts { rate: 0.5, tokens: 6, active, components: None }).to_vec();
    // No step here has a threshold, whose counts come last.
    let results = cohort.place().tensor([&results[..], &[0.0; 2]].concat(), [8]);
    cohort.pending.push(Pending { step, results, facts: vec![facts] });
}

/// A run, its loss, penalty and norm.
type Told = (usize, f64, Option<f64>, f64);

/// What every step reports of its runs.
fn told(reports: &[StepReport]) -> Vec<Vec<Told>> {
    let of = |report: &StepReport| {
        let one =
            |run: &report::RunReport| (run.at.run, run.entry.task_loss, run.entry.penalty, run.entry.gradient_norm);
        report.runs.iter().map(one).collect()
    };
    reports.iter().map(of).collect()
}

#[test]
fn a_penalty_is_reported_where_the_composition_has_one() {
    for (spec, penalties) in [(spec("lora"), [None; 2]), (adalora(), [Some(0.25), Some(0.5)])] {
        let mut cohort = cohort(&spec, [9, 9]);
        returned(&mut cohort, 0, [1.0, 2.0, 0.25, 0.5, 4.0, 9.0], [true; 2]);
        let wanted = vec![(0, 1.0, penalties[0], 2.0), (1, 2.0, penalties[1], 3.0)];
        assert_eq!(told(&cohort.flush()), [wanted]);
    }
}

#[test]
fn a_run_that_has_ended_reports_nothing() {
    let mut cohort = cohort(&spec("lora"), [9, 9]);
    returned(&mut cohort, 0, [1.0, 2.0, 0.0, 0.0, 4.0, 9.0], [false, true]);
    assert_eq!(told(&cohort.flush()), [vec![(1, 2.0, None, 3.0)]]);
    assert!(cohort.runs().all(|run| run.active && run.failure.is_none()));
}

#[test]
fn a_loss_or_a_norm_that_is_not_finite_fails_its_run_and_is_the_last_that_it_reports() {
    // The first run's norm, the second run's loss.
    let mut cohort = cohort(&spec("lora"), [9, 9]);
    returned(&mut cohort, 0, [1.0, 2.0, 0.0, 0.0, 4.0, 9.0], [true; 2]);
    returned(&mut cohort, 1, [1.0, 2.0, 0.0, 0.0, f64::INFINITY, 9.0], [true; 2]);
    returned(&mut cohort, 2, [1.0, f64::INFINITY, 0.0, 0.0, 4.0, 9.0], [true; 2]);
    returned(&mut cohort, 3, [1.0, 2.0, 0.0, 0.0, 4.0, 9.0], [true; 2]);
    let reported: Vec<Vec<RunAt>> =
        cohort.flush().iter().map(|report| report.runs.iter().map(|run| run.at).collect()).collect();
    let [first, second] = [0, 1].map(|run| RunAt { stack: 0, run });
    assert_eq!(reported, [vec![first, second], vec![first, second], vec![second], vec![]]);
    let failed: Vec<Option<u64>> = cohort.runs().map(|run| run.failure.as_ref().map(|(step, _)| *step)).collect();
    assert_eq!(failed, [Some(2), Some(3)]);
    assert!(!cohort.is_active());
}

#[test]
fn recomputation_keeps_the_input_of_every_layer_and_differentiates_the_output_of_the_last() {
    let mut cohort = cohort(&spec("full"), [1, 1]);
    let (layout, inputs) = planned(&mut cohort);
    cohort.network.track();
    let tokens = layout.micros[0].batch.read(&inputs).tokens;
    let mut pass = cohort.pass(&layout, 0, &inputs);
    let kept = cohort.checkpoint_inputs(&tokens, &mut pass);
    let last = pass.last_hidden.take().unwrap();
    let backbone = cohort.network.frozen().backbone;
    assert_eq!(kept.len(), backbone.depth());
    let mut x = backbone.embed(&tokens, &pass);
    for (layer, kept) in kept.iter().enumerate() {
        assert_eq!(values(kept), values(&x), "layer {layer}");
        x = backbone.layer(layer, x, &tokens, &pass);
    }
    assert!(last.is_require_grad());
    assert_eq!(values(&inner(&last)), values(&x));
}

#[test]
fn a_penalty_of_weight_zero_is_not_computed() {
    for weight in [0.0, 0.5] {
        let mut cohort = cohort(&VariantSpec { orthogonality: weight, ..adalora() }, [9, 9]);
        let departure =
            cohort.network.penalty(0, AnyPenalty::Orthogonality).map(|departure| values(&inner(&departure)));
        let (layout, inputs) = planned(&mut cohort);
        let found = cohort.accumulate_gradients(&layout, &inputs).remove(0).penalty.map(|penalty| values(&penalty));
        let halved = |departure: Vec<f64>| departure.into_iter().map(|departure| 0.5 * departure).collect();
        assert_eq!(found, departure.filter(|_| weight > 0.0).map(halved), "a half is exact");
    }
}

/// A recording serves steps of one layout: one that observes nothing is another, shorter computation.
#[test]
fn importance_is_planned_for_the_steps_that_observe_and_for_no_other() {
    for (spec, wanted) in [(adalora(), [true, true, true, true, true, false, false, false]), (spec("lora"), [false; 8])]
    {
        let mut cohort = cohort(&spec, [8, 8]);
        let found = [(); 8].map(|()| {
            let (layout, _) = planned(&mut cohort);
            cohort.step += 1;
            layout.stacks[0].observing.is_some()
        });
        assert_eq!(found, wanted);
    }
}

#[test]
fn a_component_has_a_count_of_its_own_where_ranks_are_drawn() {
    for (preset, wanted) in [("lora", vec![2; 2]), ("dylora", vec![2; 2 * RANK])] {
        let mut cohort = cohort(&spec(preset), [2, 2]);
        (0..2).for_each(|_| cohort.enqueue(&batches()));
        let moments = cohort.stacks[0].optimizer.moments();
        let slices = cohort.stacks[0].optimizer.slices().iter().filter(|slice| slice.rank_axis.is_some());
        let names: Vec<&String> = slices.map(|slice| &slice.name).collect();
        assert!(!names.is_empty() && names.into_iter().all(|name| moments[name].counts == wanted), "{preset}");
    }
}

/// A stack's mask of pruned components covers all its runs. In steps of a shorter run's last phase the longer one trains on between its
/// allocations, and what it pruned may grow again.
#[test]
fn a_run_is_pruned_at_its_own_steps_beside_a_shorter_one() {
    let [mut beside_shorter, mut beside_like] = [8, 12].map(|first| cohort(&adalora(), [first, 12]));
    for step in 0..12 {
        let [one, other] = [&mut beside_shorter, &mut beside_like].map(|cohort| {
            cohort.advance(&batches());
            numbers(cohort, 1)
        });
        assert!(one == other, "step {step}: the second run's numbers are what they are beside a run of its length");
    }
}

/// Numbers of the diagonals of a run, in the order of its maps.
fn diagonal(cohort: &mut Cohort, run: usize) -> Vec<f64> {
    let found = cohort.network.parameters(0).into_iter().filter(|named| named.param.role == Role::Lambda);
    found.flat_map(|named| values(&inner(&named.param.tensor).slice([run..run + 1]))).collect()
}

/// With rates of 0 a step is its threshold alone: `sign(λ)·max(|λ| − ξ, 0)`, and the report counts what is left.
#[test]
fn a_threshold_shrinks_diagonals_and_counts_what_is_left() {
    let (threshold, steps) = (0.25, [2, 4]);
    let mut spec = spec("sora");
    spec.rank_policy = AnyRankPolicy::SoftThreshold(SoftThreshold { threshold });
    spec.train.0.insert(
        Role::Lambda,
        RoleConfig::Trained { lr_multiplier: 1e-30, learning_rate: None, weight_decay: Some(0.0) },
    );
    let mut cohort = cohort(&spec, steps);
    let starts = [0, 1].map(|run| diagonal(&mut cohort, run));
    for step in 1..=4 {
        let report = cohort.advance(&batches());
        for run in [0, 1] {
            // A run that has ended is left as it is.
            let shrunk = threshold * step.min(steps[run]) as f64;
            let wanted: Vec<f64> = starts[run].iter().map(|v| v.signum() * (v.abs() - shrunk).max(0.0)).collect();
            let found = diagonal(&mut cohort, run);
            let error = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(error < 1e-5, "step {step}, run {run}: {found:?} is not {wanted:?}"); // f32 and a rate of 1e-30
            let left = wanted.iter().filter(|number| number.abs() > 0.0).count();
            assert_eq!(cohort.stacks[0].final_ranks(run).values().sum::<usize>(), left);
            let reported = report.runs.iter().find(|report| report.at.run == run);
            assert_eq!(
                reported.map(|report| report.entry.components),
                (step <= steps[run]).then_some(Some(left as u64))
            );
        }
    }
    assert!(starts[0].len() > cohort.stacks[0].final_ranks(1).values().sum(), "some are gone");
}

#[test]
fn a_threshold_over_frozen_diagonals_counts_all_of_them() {
    let mut spec = spec("sora");
    spec.train.0.insert(Role::Lambda, RoleConfig::Frozen);
    let mut cohort = cohort(&spec, [2, 2]);
    let wanted = RANK * cohort.stacks[0].plan.targets.len();
    let report = cohort.advance(&batches());
    assert_eq!(report.runs[0].entry.components, Some(wanted as u64));
    assert_eq!(cohort.stacks[0].final_ranks(0).values().sum::<usize>(), wanted);
}

#[test]
fn a_budget_over_frozen_diagonals_prunes_none_of_them() {
    let mut spec = adalora();
    spec.train.0.insert(Role::Lambda, RoleConfig::Frozen);
    let mut cohort = cohort(&spec, [8, 8]);
    (0..8).for_each(|_| cohort.enqueue(&batches()));
    assert!(cohort.stacks[0].pruned.is_none());
    assert_eq!(cohort.flush().len(), 8);
}

#[test]
fn averages_go_out_and_come_back_and_score_the_same() {
    let mut cohort = cohort(&adalora(), [8, 8]);
    (0..3).for_each(|_| cohort.enqueue(&batches()));
    let stack = &cohort.stacks[0];
    let policy = &stack.variant().spec().rank_policy;
    let mut other = Importance::default();
    assert!(other.scores(policy, &stack.optimizer).is_empty(), "nothing was observed");
    for (name, averages) in stack.importance.averages(policy, &stack.optimizer) {
        other.restore(name, averages);
    }
    let scores = stack.importance.scores(policy, &stack.optimizer);
    assert_eq!(scores.keys().collect::<Vec<_>>(), stack.plan.targets.iter().collect::<Vec<_>>());
    assert!(scores.values().flatten().flatten().all(|score| *score > 0.0));
    assert_eq!(other.scores(policy, &stack.optimizer), scores);
}

/// A policy that keeps no averages scores values: a component's score is the mean of `|A|` along its column and of `|B|` along its row.
#[test]
fn scores_of_a_policy_without_averages_are_those_of_the_values() {
    let mut cohort = cohort(&spec("lora"), [2, 2]);
    (0..2).for_each(|_| cohort.enqueue(&batches()));
    let stack = &cohort.stacks[0];
    let policy = &stack.variant().spec().rank_policy;
    let scores = stack.importance.scores(policy, &stack.optimizer);
    let targets = stack.plan.targets.clone();
    assert!(!targets.is_empty() && scores.keys().eq(&targets));
    let mean = |all: &[f64]| all.iter().map(|value| value.abs()).sum::<f64>() / all.len() as f64;
    let mut tensors: std::collections::BTreeMap<String, Tensor<3>> = std::collections::BTreeMap::new();
    for named in cohort.network.parameters(0) {
        tensors.insert(named.name, inner(&named.param.tensor));
    }
    for map in targets {
        let [a, b] = ["a", "b"].map(|factor| tensors[&format!("{map}.{factor}")].clone());
        for (run, of_run) in scores[&map].iter().enumerate() {
            assert_eq!(of_run.len(), RANK);
            for (component, found) in of_run.iter().enumerate() {
                let of_a = mean(&values(&a.clone().slice([run..run + 1]).narrow(2, component, 1)));
                let of_b = mean(&values(&b.clone().slice([run..run + 1]).narrow(1, component, 1)));
                let wanted = of_a + of_b;
                assert!((found - wanted).abs() < 1e-12 * wanted, "{map} {run} {component}: {found} {wanted}"); // sums in f64
            }
        }
    }
}

#[test]
fn a_slice_of_replaced_inputs_reads_the_new_numbers() {
    let place = cohort(&spec("lora"), [1, 1]).place().clone();
    let uploaded = |whole: [i64; 3], numbers: [f64; 3]| {
        let mut buffer = UploadBuffer::default();
        let slices = [buffer.ints(whole[..1].to_vec()), buffer.ints(whole[1..].to_vec())];
        let floats = [buffer.floats(numbers[..1].to_vec()), buffer.floats(numbers[1..].to_vec())];
        (slices[1], floats[1], buffer.upload(&place))
    };
    let (ints, floats, mut inputs) = uploaded([1, 2, 3], [0.25, 0.5, 0.75]);
    inputs.replace(uploaded([4, 5, 6], [1.25, 1.5, 1.75]).2);
    assert_eq!(inputs.ints(ints).into_data().try_to_vec::<i64>().unwrap(), [5, 6]);
    assert_eq!(values(&inputs.floats(floats, [2])), [1.5, 1.75]);
}

/// A device that refuses every recording, as one on which a library still has to load something does. Nothing is recorded on the first step
/// of all, a new layout has a second chance, and every step is computed once.
#[test]
fn a_layout_that_cannot_be_recorded_twice_is_refused() {
    let mut cohort = cohort(&spec("lora"), [9, 9]);
    let (first, inputs) = planned(&mut cohort);
    let other = StepLayout { micros: Vec::new(), ..first.clone() };
    let mut recordings = Recordings::default();
    let found = [&first, &other, &other, &other, &first, &first].map(|layout| {
        let (mut computed, mut asked) = (0, 0);
        let results = recordings.run_or_replay(
            layout.clone(),
            inputs.clone(),
            &mut |_, _| {
                computed += 1;
                cohort.place().tensor(vec![2.5], [1])
            },
            &mut |_, _| {
                asked += 1;
                Err(format!("refused {}", layout.micros.len()))
            },
        );
        assert_eq!((values(&results), computed), (vec![2.5], 1));
        (asked, recordings.refused.take())
    });
    let refused = |micros: usize| Some(format!("refused {micros}"));
    assert_eq!(found, [(0, None), (1, None), (1, refused(0)), (0, None), (1, refused(1)), (0, None)]);
}
