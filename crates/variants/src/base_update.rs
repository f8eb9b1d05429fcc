//! Axis 7: the base over time. A run keeps an accumulated change of its own beside the frozen base, which is never written.
//!
//! Methods that merge their adapter into the base and go on, or let the base follow the adapter, change `W0` in a way that the adapter's
//! factors tell. So the change is kept as factors, `W0 + s·P·Q`, and the update of a map is
//!
//! ```text
//! ΔW = s·A·B + s·P·Q = s·[A, P]·[B; Q]      P: [d_in, k]   Q: [k, d_out]
//! ```
//!
//! which is one low-rank update wherever it goes: any number of runs share one `W0`, forward, merge and export know nothing of the axis,
//! and `P` and `Q` are copies of `A` and `B`, bit for bit, because the scale `s` of a run is the same at every step. What is kept has the
//! role `accumulated`: it never trains, and is saved with the adapter.
//!
//! A kind decides from step numbers what a run does after a step ([`Change`]); the trainer acts. `k` follows from the composition and the
//! map's shape, so that the shapes of a run are known before it begins.
//!
//! **Dropout** acts on the input of the complete update, so that a run starts a period where it ended the one before, in expectation. The
//! papers' codes do not drop the input of what they have merged; at a dropout of 0 both are the same.

use std::fmt::Debug;

use burn::tensor::Tensor;
use kernels::ops;
use serde::{Deserialize, Serialize};

use crate::{
    capability::{Capability, Declaration, Requirement},
    error::SpecProblem,
    form::{Chain, Factors},
    host::{Placement, identity},
    role::{Param, Role},
    slot::FirstValues,
};

/// What happens to Adam's moments where a run restarts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Moments {
    /// They go on.
    Kept,
    /// Those of the factors that are drawn anew begin at 0, and their steps are counted from 0.
    Zero,
    /// Those of everything that the run trains, the head included: a new optimizer.
    Fresh,
    /// The smallest of every tensor that is drawn anew are set to 0, apart for each moment; the count of steps goes on.
    Pruned {
        /// Share of a tensor's numbers that are set to 0.
        share: f64,
    },
}

impl Moments {
    /// Rules that its own numbers break, with the field.
    fn check(self) -> Vec<SpecProblem> {
        match self {
            Self::Pruned { share } if !(share > 0.0 && share < 1.0) => vec![SpecProblem::new(
                "share",
                format!(
                    "share is `{share}`, but must lie in (0, 1); to keep all write `kind: kept`, to keep none `kind: zero`"
                ),
            )],
            _ => Vec::new(),
        }
    }
}

/// A delta that begins anew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Renewal {
    /// Which restart of its run it is, from 1: a part of the key of the random draws.
    pub round: u64,
    /// What happens to the moments.
    pub moments: Moments,
}

/// What a run does with its accumulated change after a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Places of the accumulated factors that take copies of the delta's, in widths of the delta.
    pub store: Vec<usize>,
    /// Whether the delta begins anew, after that.
    pub restart: Option<Renewal>,
}

impl Change {
    /// Whether nothing is done.
    pub fn is_none(&self) -> bool {
        self.store.is_empty() && self.restart.is_none()
    }
}

/// The rate of a run by its schedule, as a multiple of its peak: at a step, from 0, of so many.
pub type Schedule<'a> = dyn Fn(u64, u64) -> f64 + 'a;

/// How the base changes over time.
pub trait BaseUpdate: Clone + Debug {
    /// What it offers to the other parts.
    fn provides(&self) -> &'static [Capability] {
        &[]
    }

    /// What it needs of the other parts.
    fn requires(&self) -> &'static [Requirement] {
        &[]
    }

    /// Every rule that its own numbers break. `steps`: length of the run, where known.
    fn check(&self, _steps: Option<u64>) -> Vec<SpecProblem> {
        Vec::new()
    }

    /// Components of the accumulated factors of a map `[d_in, d_out]`, whose delta has factors of `own` components.
    fn components(&self, _own: usize, _shape: [usize; 2]) -> usize {
        0
    }

    /// Whether the accumulated change of such a map is kept as a matrix, `I·Q` or `P·I`, to which deltas are added.
    fn is_dense(&self, _own: usize, _shape: [usize; 2]) -> bool {
        false
    }

    /// What the factors that were stored, `own` components at each place, add to `ΔW/s`.
    fn factors(&self, stored: Factors, _own: usize) -> Factors {
        stored
    }

    /// The whole update at a scale of 1, from the delta's factors and what was stored: in as few components as it takes.
    fn whole(&self, own: Factors, stored: Factors) -> Factors {
        let [_, _, k] = own.down.dims();
        beside(own, self.factors(stored, k))
    }

    /// What a run does after optimizer step `step` (counted from 0) of `steps`.
    fn after_step(&self, _step: u64, _steps: u64) -> Change {
        Change::default()
    }

    /// The multiple of the peak rate at a step of a run whose schedule is `schedule`.
    fn rate(&self, step: u64, steps: u64, schedule: &Schedule<'_>) -> f64 {
        schedule(step, steps)
    }
}

macro_rules! base_updates {
    ($($file:ident :: $Kind:ident),+ $(,)?) => {
        $(pub mod $file;)+

        /// Any kind, as written in YAML and as used.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[expect(missing_docs, reason = "each variant is documented in its own file")]
        pub enum AnyBaseUpdate { $($Kind($file::$Kind)),+ }

        impl BaseUpdate for AnyBaseUpdate {
            fn provides(&self) -> &'static [Capability] {
                match self { $(Self::$Kind(kind) => kind.provides()),+ }
            }
            fn requires(&self) -> &'static [Requirement] {
                match self { $(Self::$Kind(kind) => kind.requires()),+ }
            }
            fn check(&self, steps: Option<u64>) -> Vec<SpecProblem> {
                match self { $(Self::$Kind(kind) => kind.check(steps)),+ }
            }
            fn components(&self, own: usize, shape: [usize; 2]) -> usize {
                match self { $(Self::$Kind(kind) => kind.components(own, shape)),+ }
            }
            fn is_dense(&self, own: usize, shape: [usize; 2]) -> bool {
                match self { $(Self::$Kind(kind) => kind.is_dense(own, shape)),+ }
            }
            fn factors(&self, stored: Factors, own: usize) -> Factors {
                match self { $(Self::$Kind(kind) => kind.factors(stored, own)),+ }
            }
            fn whole(&self, own: Factors, stored: Factors) -> Factors {
                match self { $(Self::$Kind(kind) => kind.whole(own, stored)),+ }
            }
            fn after_step(&self, step: u64, steps: u64) -> Change {
                match self { $(Self::$Kind(kind) => kind.after_step(step, steps)),+ }
            }
            fn rate(&self, step: u64, steps: u64, schedule: &Schedule<'_>) -> f64 {
                match self { $(Self::$Kind(kind) => kind.rate(step, steps, schedule)),+ }
            }
        }

        /// Every kind at its defaults.
        pub fn defaults() -> Vec<AnyBaseUpdate> {
            vec![$(AnyBaseUpdate::$Kind($file::$Kind::default())),+]
        }

        impl AnyBaseUpdate {
            /// What it says of itself to the other parts.
            pub fn declaration(&self) -> Declaration {
                let kind = match self { $(Self::$Kind(_) => stringify!($file)),+ };
                let lacks = &[(Capability::ConstantBase, "under which the delta is not all of the update")];
                Declaration { kind, provides: self.provides(), lacks, requires: self.requires() }
            }
        }
    };
}

// Alphabetical.
base_updates! {
    follow::Follow,
    none::None,
    previous::Previous,
    restart::Restart,
}

impl Default for AnyBaseUpdate {
    fn default() -> Self {
        Self::None(none::None {})
    }
}

impl AnyBaseUpdate {
    /// Whether the base stays as it is.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None(_))
    }

    /// The same beside the adapters of so many earlier tasks, where it keeps them; `None` where it keeps none.
    pub fn after(&self, adapters: usize) -> Option<Self> {
        matches!(self, Self::Previous(_)).then_some(Self::Previous(previous::Previous { adapters }))
    }

    /// Adapters of earlier tasks that it keeps.
    pub fn adapters(&self) -> usize {
        if let Self::Previous(previous) = self { previous.adapters } else { 0 }
    }
}

/// A count as written, or a share of `steps`.
pub(crate) fn resolve(written: f64, steps: u64) -> u64 {
    if written > 0.0 && written < 1.0 { (written * steps as f64).round() as u64 } else { written as u64 }
}

/// What is wrong with a number that [`resolve`] reads.
pub(crate) fn check_count(field: &str, value: f64) -> Option<SpecProblem> {
    let is_wrong = !(value >= 0.0 && value.is_finite()) || (value >= 1.0 && value.fract() != 0.0);
    let rule = || format!("{field} is `{value}`, but must be a whole number of steps or a share below 1");
    is_wrong.then(|| SpecProblem::new(field, rule()))
}

/// The accumulated change of every run of a stack on one map.
#[derive(Clone, Debug)]
pub(crate) struct Accumulated {
    kind: AnyBaseUpdate,
    /// Components of the delta's factors.
    own: usize,
    /// `P`, `[runs, d_in, k]`.
    down: Tensor<3>,
    /// `Q`, `[runs, k, d_out]`.
    up: Tensor<3>,
}

/// The sum of two products as one.
fn beside(one: Factors, other: Factors) -> Factors {
    Factors { down: Tensor::cat(vec![one.down, other.down], 2), up: Tensor::cat(vec![one.up, other.up], 1) }
}

/// `target` with `source` in a part of it: written into its storage where the device does so, because a recorded step reads it there.
fn put(target: &Tensor<3>, part: [std::ops::Range<usize>; 3], source: Tensor<3>) -> Tensor<3> {
    if ops::writes_in_place(&target.device()) {
        let _ = ops::assign(target.clone().slice(part), source);
        target.clone()
    } else {
        target.clone().slice_assign(part, source)
    }
}

impl Accumulated {
    /// Nothing accumulated yet; `None` where nothing ever is.
    pub(crate) fn new(
        kind: &AnyBaseUpdate,
        own: usize,
        shape @ [d_in, d_out]: [usize; 2],
        runs: usize,
        first: FirstValues,
        place: &Placement,
    ) -> Option<Self> {
        let k = kind.components(own, shape);
        if k == 0 {
            return None;
        }
        let (mut down, mut up) = (place.zeros([runs, d_in, k]), place.zeros([runs, k, d_out]));
        if kind.is_dense(own, shape) && first == FirstValues::Init {
            let side = if d_in <= d_out { &mut down } else { &mut up };
            *side = side.clone() + identity(k, side);
        }
        Some(Self { kind: kind.clone(), own, down, up })
    }

    /// The tensors.
    pub(crate) fn parameters(&mut self) -> [Param<'_>; 2] {
        [
            Param::undecayed("accumulated_a", Role::Accumulated, &mut self.down),
            Param::undecayed("accumulated_b", Role::Accumulated, &mut self.up),
        ]
    }

    /// The factors that are stored, and after them the delta's own: what a run keeps that goes on beside both.
    pub(crate) fn followed_by(&self, own: Factors) -> Factors {
        beside(self.stored(), own)
    }

    /// `P`, `[runs, d_in, k]`.
    pub(crate) fn down(&self) -> &Tensor<3> {
        &self.down
    }

    fn stored(&self) -> Factors {
        Factors { down: self.down.clone(), up: self.up.clone() }
    }

    /// The whole update at a scale of 1, from the delta's factors: a matrix beside the identity where factors would be wider than the map.
    pub(crate) fn whole(&self, own: Factors) -> Factors {
        let all = self.kind.whole(own, self.stored());
        let ([_, d_in, k], [_, _, d_out]) = (all.down.dims(), all.up.dims());
        if k <= d_in.min(d_out) { all } else { Factors::of_matrix(all.product()) }
    }

    /// `own` and what is accumulated as one chain; `scale` is `s`, `[runs, 1, 1]`.
    pub(crate) fn join(&self, own: Chain, scale: Tensor<3>) -> Chain {
        let Factors { down, up } = self.kind.factors(self.stored(), self.own);
        let [runs, _, k] = down.dims();
        Chain {
            down: Tensor::cat(vec![own.down, down], 2),
            middle: Tensor::cat(vec![own.middle, scale.expand([runs, 1, k])], 2),
            up: Tensor::cat(vec![own.up, up], 1),
        }
    }

    /// Takes the delta's factors at a scale of 1, `[runs, d_in, own]` and `[runs, own, d_out]`, as every run's change says.
    pub(crate) fn store(&mut self, factors: &Factors, changes: &[Change]) {
        let is_same = changes.iter().all(|change| change.store == changes[0].store);
        let all = 0..changes.len();
        // One write for all runs where they do the same, as they do unless their lengths differ.
        let parts = if is_same { vec![all] } else { all.map(|run| run..run + 1).collect() };
        for runs in parts {
            for place in &changes[runs.start].store {
                self.store_at(factors, runs.clone(), *place);
            }
        }
    }

    fn store_at(&mut self, factors: &Factors, runs: std::ops::Range<usize>, place: usize) {
        let ([_, d_in, k], [_, _, d_out]) = (self.down.dims(), self.up.dims());
        let of_runs = |t: &Tensor<3>| {
            let [_, rows, cols] = t.dims();
            t.clone().slice([runs.clone(), 0..rows, 0..cols])
        };
        let (down, up) = (of_runs(&factors.down), of_runs(&factors.up));
        if self.kind.is_dense(self.own, [d_in, d_out]) {
            let whole = down.matmul(up);
            if d_in <= d_out {
                self.up = put(&self.up, [runs.clone(), 0..k, 0..d_out], of_runs(&self.up) + whole);
            } else {
                self.down = put(&self.down, [runs.clone(), 0..d_in, 0..k], of_runs(&self.down) + whole);
            }
        } else {
            let columns = place * self.own..(place + 1) * self.own;
            self.down = put(&self.down, [runs.clone(), 0..d_in, columns.clone()], down);
            self.up = put(&self.up, [runs, columns, 0..d_out], up);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::{restart::Restart, *};
    use crate::host::values;

    const OWN: usize = 2;

    /// What three restarts have accumulated, and the sum of the products that they took, of two runs.
    fn accumulated(shape @ [d_in, d_out]: [usize; 2]) -> (usize, Vec<f64>, Vec<f64>) {
        let place = Placement::new(&Device::flex(), DType::F64);
        let kind = AnyBaseUpdate::Restart(Restart { restarts: 3, ..Restart::default() });
        let mut all = Accumulated::new(&kind, OWN, shape, 2, FirstValues::Init, &place).expect("restarts accumulate");
        let mut sum = place.zeros([2, d_in, d_out]);
        for round in 0..3_usize {
            let number = |at: usize| ((at * 7 + round * 3) % 11) as f64 - 5.0;
            let factors = Factors {
                down: place.tensor((0..2 * d_in * OWN).map(number).collect(), [2, d_in, OWN]),
                up: place.tensor((0..2 * d_out * OWN).map(number).collect(), [2, OWN, d_out]),
            };
            // The second run stops after the first round.
            let store =
                |run: usize| Change { store: if run == 0 || round == 0 { vec![round] } else { vec![] }, restart: None };
            all.store(&factors, &[store(0), store(1)]);
            let taken = place.tensor(vec![1.0, f64::from(u8::from(round == 0))], [2, 1, 1]);
            sum = sum + factors.product() * taken;
        }
        let nothing =
            Chain { down: place.zeros([2, d_in, 1]), middle: place.zeros([2, 1, 1]), up: place.zeros([2, 1, d_out]) };
        let own = Factors { down: place.zeros([2, d_in, OWN]) + 1.0, up: place.zeros([2, OWN, d_out]) + 1.0 };
        let whole = all.whole(own.clone());
        assert_eq!(whole.down.dims()[2], (4 * OWN).min(d_in).min(d_out), "as many components as it takes");
        assert_eq!(values(&whole.product()), values(&(own.product() + sum.clone())));
        let scale = place.tensor(vec![2.0, -3.0], [2, 1, 1]);
        let k = all.down.dims()[2];
        (k, values(&all.join(nothing, scale.clone()).factors().product()), values(&(sum * scale)))
    }

    /// Whole numbers, so that sums are exact in any order.
    #[test]
    fn what_is_accumulated_is_the_sum_of_the_products() {
        for (shape, k) in [([9, 7], 6), ([5, 7], 5), ([7, 5], 5), ([6, 6], 6)] {
            let (width, found, wanted) = accumulated(shape);
            assert_eq!(width, k, "{shape:?}");
            assert_eq!(found, wanted, "{shape:?}");
        }
    }
}
