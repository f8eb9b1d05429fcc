//! The conformance laws: what every variant must obey, whatever it does. Callable from any crate's tests.
//!
//! Each law takes a [`Case`] and panics with the case and the numbers where it does not hold; else it says whether it applied, and why not
//! where it did not. A new preset gets all of them by being in the registry. Computation is in the case's precision; tolerances are stated
//! where they are used.
//!
//! | file | laws |
//! |---|---|
//! | [`mod@function`] | start, forward, merge, update, scale, dropout |
//! | [`training`] | which gradients there are, what they are, where they lead |
//! | [`independence`] | independence of runs and of stacks |
//! | [`input_gradient`] | the gradient of a slot's input |
//! | [`slots`] | tables and norms |
//! | [`carried`] | what a map says of its stacks, stacks and runs taken out, fused maps |
//! | [`writing`] | specs, seeds, saved tensors |
//!
//! [`compositions`] draws compositions that no preset is, for the same laws.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use burn::tensor::{DType, Device, Tensor};

use crate::{
    adapted::AdaptedLinear,
    calibration::{Calibration, MapStatistic, Statistic},
    delta::DeltaSpec,
    host::{Placement, inner, values},
    pass::{Active, Pass, StackPass},
    preset::{self, Preset},
    rank::RankPolicy,
    slot::{MapPlan, RunPlan, Slot, StackPlan, attach},
    spec::{Variant, VariantSpec},
    stream::{self, Stream},
};

mod axes;
pub mod carried;
pub mod compositions;
pub mod function;
pub mod independence;
pub mod input_gradient;
pub mod slots;
pub mod training;
pub mod writing;

pub use self::axes::{Axis, Change, DEFAULT, axes};

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
    /// Width of every number. Laws that need more than f32 hold skip it.
    pub dtype: DType,
    /// The value of an axis that the preset is changed by.
    pub axis: Axis,
}

const NAME: &str = "encoder.layer.0.attention.self.query";

const TABLE: &str = "embeddings.word_embeddings";

const SEQ: usize = 2;

const ROWS: usize = 3; // per run

impl Case {
    fn place(&self) -> Placement {
        Placement::new(&Device::flex(), self.dtype)
    }

    /// A few dozen operations per number, on numbers of up to a few tens.
    fn exact(&self) -> f64 {
        if self.dtype == DType::F64 { 1e-12 } else { 2e-5 }
    }

    fn spec(&self) -> VariantSpec {
        self.axis.change.of((self.preset.spec)(self.rank))
    }

    /// Whether the composition is valid, it fits the map, and the axis changes it.
    pub fn is_meant(&self) -> bool {
        let (own, changed) = ((self.preset.spec)(self.rank), self.spec());
        let rank = (self.axis.own)(self.rank).rank.unwrap_or(self.rank);
        let fits = changed.delta.as_ref().is_none_or(|delta| delta.misfit(rank, self.shape).is_none());
        fits && (self.axis.name == DEFAULT.name || own != changed) && changed.check(Some(1000)).is_ok()
    }

    /// Whether every row has an update of its own.
    fn is_routed(&self) -> bool {
        self.spec().delta.is_some_and(|delta| delta.is_routed())
    }

    fn variant(&self) -> Variant {
        self.spec().check(Some(1000)).unwrap_or_else(|problems| unreachable!("{self:?}: {problems:?}"))
    }

    fn base(&self) -> AdaptedLinear {
        let [d_in, d_out] = self.shape;
        let rng = &mut stream::generator(1, Stream::Data, "base");
        let weight = self.place().tensor(stream::normal(rng, d_in * d_out, 0.5), self.shape);
        let bias = self.place().tensor(stream::normal(rng, d_out, 0.5), [d_out]);
        AdaptedLinear::new(NAME, weight, Some(bias))
    }

    fn plan(&self, seeds: &[u64]) -> StackPlan {
        let run = |(index, seed): (usize, &u64)| RunPlan { init_seed: *seed, alpha: 8.0 + index as f64 };
        let runs = seeds.iter().enumerate().map(run).collect();
        let own = (self.axis.own)(self.rank);
        let maps = if own == MapPlan::default() { BTreeMap::new() } else { [(NAME, own), (TABLE, own)].into() };
        let plan = StackPlan {
            maps: maps.into_iter().map(|(name, own)| (name.to_owned(), own)).collect(),
            ..StackPlan::new(self.variant(), runs, BTreeSet::from([NAME.to_owned()]))
        };
        calibrated(plan, &[(NAME, self.shape)])
    }

    fn seeds(&self) -> Vec<u64> {
        (10..10 + self.runs as u64).collect()
    }

    /// The map with its stack, at its first values.
    fn fresh(&self) -> AdaptedLinear {
        let mut map = self.base();
        attach(&mut [Slot::Linear(&mut map)], &self.plan(&self.seeds()), &self.place())
            .unwrap_or_else(|error| unreachable!("{self:?}: {error}"));
        map
    }

    /// The map with every owned tensor at a random value of its own.
    fn random(&self) -> AdaptedLinear {
        let mut map = self.fresh();
        for mut param in map.parameters(0) {
            let dims @ [runs, rows, cols] = param.tensor.dims();
            let rng = &mut stream::generator(2, Stream::Init, param.name);
            param.tensor.set(self.place().tensor(stream::normal(rng, runs * rows * cols, 0.7), dims));
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
        Pass::of(vec![StackPass::with(self.runs, active.clone())])
    }

    fn input(&self) -> Tensor<3> {
        let rows = self.runs * ROWS;
        let rng = &mut stream::generator(3, Stream::Data, "x");
        self.place().tensor(stream::normal(rng, rows * SEQ * self.shape[0], 1.0), [rows, SEQ, self.shape[0]])
    }

    #[track_caller]
    fn close<const D: usize>(&self, law: &str, got: &Tensor<D>, wanted: &Tensor<D>) {
        self.near(law, got, wanted, 1.0);
    }

    /// As `close`, at a multiple of its tolerance.
    #[track_caller]
    fn near<const D: usize>(&self, law: &str, got: &Tensor<D>, wanted: &Tensor<D>, slack: f64) {
        assert_eq!(got.dims(), wanted.dims(), "{law}: {self:?}");
        let (got, wanted) = (values(&inner(got)), values(&inner(wanted)));
        let scale = wanted.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
        for (index, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
            assert!(
                (got - wanted).abs() <= slack * self.exact() * scale,
                "{law}: {self:?}: element {index}: {got} is not {wanted}"
            );
        }
    }
}

/// The same plan with random statistics of these maps, equal ones for all runs, where the composition starts from any.
pub fn calibrated(plan: StackPlan, maps: &[(&str, [usize; 2])]) -> StackPlan {
    let asked = plan.variant.spec().delta.as_ref().and_then(DeltaSpec::calibration);
    let Some(Calibration { statistic, .. }) = asked else { return plan };
    let place = Placement::new(&Device::flex(), DType::F64);
    let taken = |(name, shape): &(&str, [usize; 2])| {
        let [rows, cols] = statistic.shape(*shape);
        let rng = &mut stream::generator(4, Stream::Data, name);
        let drawn: Tensor<2> = place.tensor(stream::normal(rng, rows * cols, 0.5), [rows, cols]);
        let matrix = match statistic {
            Statistic::SecondMoment => drawn.clone().transpose().matmul(drawn),
            Statistic::WeightGradient => drawn,
        };
        ((*name).to_owned(), MapStatistic::new(&matrix))
    };
    let of_run = Arc::new(maps.iter().map(taken).collect());
    StackPlan { calibrations: vec![Some(of_run); plan.runs.len()], ..plan }
}

/// Maps of the cases: square, wide, tall with widths that blocks divide, and prime.
const SHAPES: [[usize; 2]; 4] = [[6, 6], [4, 9], [8, 4], [7, 11]];

/// Maps of presets that some of those above do not fit: widths with divisors.
const DIVISIBLE: [[usize; 2]; 2] = [[12, 8], [4, 12]];

/// Every preset of the registry, over shapes, ranks, numbers of runs and the values of every axis.
pub fn cases() -> Vec<Case> {
    let axes = axes();
    let mut cases = Vec::new();
    for preset in preset::all() {
        let spec = (preset.spec)(4);
        let misfits = |shape: &[usize; 2]| spec.delta.as_ref().is_some_and(|delta| delta.misfit(4, *shape).is_some());
        let more = if SHAPES.iter().any(misfits) { &DIVISIBLE[..] } else { &[] };
        for &shape in SHAPES.iter().chain(more) {
            let full = shape[0].min(shape[1]);
            let fits =
                |rank: &usize| (preset.spec)(*rank).delta.is_none_or(|delta| delta.misfit(*rank, shape).is_none());
            let most = (1..=full).rev().find(fits).unwrap_or(full);
            let mut ranks = match &spec.delta {
                None => vec![0],
                Some(delta) if !delta.is_ranked() => vec![0],
                Some(delta) if delta.rank_bounded() => vec![1, most.min(4), most],
                Some(_) => vec![1, 4, full, 3 * full],
            };
            ranks.dedup();
            let case = |rank, runs, dtype, axis| Case { preset, shape, rank, runs, dtype, axis };
            for &rank in &ranks {
                let widths = [(1, DType::F64), (3, DType::F64), (3, DType::F32)];
                cases.extend(widths.map(|(runs, dtype)| case(rank, runs, dtype, DEFAULT)));
            }
            // The values that no preset has by default, on two shapes.
            if shape[0] != shape[1] && full >= 4 {
                let rank = if ranks == [0] { 0 } else { most.min(4) };
                cases.extend(axes.iter().map(|axis| case(rank, 3, DType::F64, *axis)));
            }
        }
    }
    // A preset whose policy cannot work at a rank (a budget needs something to prune) is not a case.
    cases.retain(Case::is_meant);
    cases
}

/// What a law says of a case that does not break it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Applied,
    /// It says nothing of this case, for a reason.
    NotApplicable(&'static str),
}

const UNADAPTED: Outcome = Outcome::NotApplicable("the variant adapts no map");

const ROUTED: Outcome = Outcome::NotApplicable("every token has an update of its own");

const FROZEN: Outcome = Outcome::NotApplicable("nothing of the slot trains");

const ROUNDING: Outcome = Outcome::NotApplicable("a difference quotient in f32 is noise");

/// A law: panics where a case breaks it.
pub type Law = fn(&Case) -> Outcome;

/// Every law, by name.
pub const LAWS: &[(&str, Law)] = &[
    ("the start is the base", function::the_start_is_the_base),
    ("forward is the dense product", function::forward_is_the_dense_product),
    ("rows mix their experts", function::rows_mix_their_experts),
    ("merging preserves outputs", function::merging_preserves_outputs),
    ("detaching restores the base", function::detaching_restores_the_base),
    ("the rank is bounded", function::the_rank_is_bounded),
    ("the canonical form is the update", function::the_canonical_form_is_the_update),
    ("parameters follow the formula", function::parameters_follow_the_formula),
    ("the update scales as declared", function::the_update_scales_as_declared),
    ("dropout acts where declared", function::dropout_acts_where_declared),
    ("gradients reach the declared roles", training::gradients_reach_the_declared_roles),
    ("gradients are finite differences", training::gradients_are_finite_differences),
    ("penalties have their gradients", training::penalties_have_their_gradients),
    ("input gradients are finite differences", input_gradient::input_gradients_are_finite_differences),
    ("input gradients hold among stacks", input_gradient::input_gradients_hold_among_stacks),
    ("maps that share an input sum its gradient", input_gradient::maps_that_share_an_input_sum_its_gradient),
    ("fused maps and their parts pass gradients on", input_gradient::fused_maps_and_their_parts_pass_gradients_on),
    ("norms pass gradients on", input_gradient::norms_pass_gradients_on),
    ("a planted update is recovered", training::a_planted_update_is_recovered),
    ("runs are independent", independence::runs_are_independent),
    ("stacks are independent", independence::stacks_are_independent),
    ("nan stays in its run", independence::nan_stays_in_its_run),
    ("tables obey the laws of maps", slots::tables_obey_the_laws_of_maps),
    ("gradients of tables are finite differences", slots::tables_have_their_gradients),
    ("tables keep what they are told to", slots::tables_keep_what_they_are_told_to),
    ("tables are compressed to the best approximation", slots::tables_are_compressed_to_the_best_approximation),
    ("norms obey the laws of maps", slots::norms_obey_the_laws_of_maps),
    ("a map says what it carries", carried::a_map_says_what_it_carries),
    ("the gate is the scale of active components", carried::the_gate_is_the_scale_of_active_components),
    ("what is kept is as it was", carried::what_is_kept_is_as_it_was),
    ("a stack lies on one side of a fused map", carried::a_stack_lies_on_one_side_of_a_fused_map),
    ("first values follow the seed", writing::first_values_follow_the_seed),
    ("the spec survives yaml", writing::the_spec_survives_yaml),
    ("the base has the declared copies", writing::the_base_has_the_declared_copies),
    ("saved tensors are the adapter", writing::saved_tensors_are_the_adapter),
    ("parts are what they declare", writing::parts_are_what_they_declare),
];
