//! The averages that a rank policy keeps of what components do, and their scores. They are concatenated like the optimizer's tensors, so that
//! an observation is a handful of kernels however many tensors there are.

use std::collections::BTreeMap;

use burn::tensor::{Bool, Tensor};
use kernels::ops::assign;
use variants::{
    host::values,
    rank::{AnyRankPolicy, Observed, RankPolicy, Seen},
    role::Role,
};

use super::optimizer::{ParamSlice, StackOptimizer};

/// The averages that a rank policy keeps of everything in a stack that has components, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Importance {
    /// `[runs, m]` each, the optimizer's first `m` columns; none before the first observation.
    laid: Option<Vec<Tensor<2>>>,
    /// Averages of a checkpoint that are not laid out yet, by tensor.
    waiting: BTreeMap<String, Vec<Tensor<3>>>,
}

/// Whether a policy keeps averages of a tensor's numbers: of all that have components, or of diagonals.
pub fn is_observed(policy: &AnyRankPolicy, slice: &ParamSlice) -> bool {
    match policy.averages_of() {
        Observed::Numbers => slice.rank_axis.is_some(),
        Observed::Contributions | Observed::Logits => slice.meta.role == Role::Lambda,
        Observed::Ablations => false,
    }
}

/// The tensors whose numbers have averages, in their order: they are the optimizer's first.
fn observed<'a>(policy: &AnyRankPolicy, optimizer: &'a StackOptimizer) -> impl Iterator<Item = &'a ParamSlice> {
    let policy = policy.clone();
    optimizer.slices().iter().filter(move |slice| is_observed(&policy, slice))
}

impl Importance {
    /// Lets the policy take in what a step shows. Runs outside `observing` `[runs, 1]` keep their averages.
    pub fn observe(
        &mut self,
        policy: &AnyRankPolicy,
        optimizer: &StackOptimizer,
        seen: Seen,
        observing: &Tensor<2, Bool>,
    ) {
        let before = self.laid.take().unwrap_or_else(|| self.laid_out(policy, optimizer));
        self.waiting.clear();
        let after = policy.observe(&before, seen);
        let select =
            |(old, new): (&Tensor<2>, Tensor<2>)| old.clone().mask_where(observing.clone().expand(old.shape()), new);
        let after: Vec<Tensor<2>> = before.iter().zip(after).map(select).collect();
        self.laid = Some(before.into_iter().zip(after).map(|(old, new)| assign(old, new)).collect());
    }

    /// What is waiting, laid out; zeros for what is not there.
    fn laid_out(&self, policy: &AnyRankPolicy, optimizer: &StackOptimizer) -> Vec<Tensor<2>> {
        let value = optimizer.ranked();
        let [runs, _] = value.dims();
        let of = |which: usize| {
            let flat = |slice: &ParamSlice| {
                let zeros = || value.zeros_like().slice([0..runs, 0..slice.len()]);
                let held = self.waiting.get(&slice.name).map(|held| held[which].clone());
                held.map_or_else(zeros, |held| held.reshape([runs, slice.len()]))
            };
            Tensor::cat(observed(policy, optimizer).map(flat).collect(), 1)
        };
        (0..policy.averages().len()).map(of).collect()
    }

    /// The averages by tensor, `[runs, rows, cols]` each.
    pub fn averages(&self, policy: &AnyRankPolicy, optimizer: &StackOptimizer) -> BTreeMap<String, Vec<Tensor<3>>> {
        let Some(laid) = &self.laid else { return self.waiting.clone() };
        let of = |slice: &ParamSlice| (slice.name.clone(), laid.iter().map(|flat| slice.of(flat)).collect());
        observed(policy, optimizer).map(of).collect()
    }

    /// Averages of a checkpoint.
    pub fn restore(&mut self, name: String, averages: Vec<Tensor<3>>) {
        self.waiting.insert(name, averages);
    }

    /// Importance of every component, by map, then run: over the tensors of the map, the sum of the component's mean score. Read in one
    /// transfer.
    pub fn scores(&self, policy: &AnyRankPolicy, optimizer: &StackOptimizer) -> BTreeMap<String, Vec<Vec<f64>>> {
        let mut sums: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
        if !policy.averages().is_empty() && self.laid.is_none() && self.waiting.is_empty() {
            return sums;
        }
        // A resumed run may allocate before it observes again.
        let laid = self.laid.clone().unwrap_or_else(|| self.laid_out(policy, optimizer));
        let m = observed(policy, optimizer).map(ParamSlice::len).sum();
        let value = optimizer.ranked();
        let [runs, _] = value.dims();
        let all = values(&policy.scores(&laid, &value.slice([0..runs, 0..m])));
        for slice in observed(policy, optimizer) {
            let ([rows, cols], along_rows) = (slice.shape, slice.rank_axis == Some(1));
            let (rank, others) = if along_rows { (rows, cols) } else { (cols, rows) };
            let sums = sums.entry(slice.meta.slot.clone()).or_insert_with(|| vec![vec![0.0; rank]; runs]);
            for (run, sums) in sums.iter_mut().enumerate() {
                let values = &all[run * m + slice.start..][..slice.len()];
                let mut own = vec![0.0; rank];
                for (at, value) in values.iter().enumerate() {
                    own[if along_rows { at / cols } else { at % cols }] += value;
                }
                for (sum, own) in sums.iter_mut().zip(own) {
                    *sum += own / others as f64;
                }
            }
        }
        sums
    }
}
