//! How unevenly the numbers of a component are spread: `P = mean var(a_k), var(b_k)` over all components of all maps of a run, each variance
//! over the numbers of one vector, unbiased.
//!
//! It counts while ranks change, and is 0 afterwards: the authors' code leaves it out of the loss once pruning has ended.
//!
//! Mao et al., *DoRA: Enhancing Parameter-Efficient Fine-Tuning with Dynamic Rank Distribution*, ACL 2024, arXiv:2405.17357, Eq. 10
//! (dimensional equilibrium).

use burn::tensor::Tensor;

use super::{Penalised, Penalty};
use crate::{
    capability::{Capability, Requirement},
    delta::Delta,
    penalty::orthogonality::Factor,
};

/// The mean variance of a component's numbers.
#[derive(Clone, Copy, Debug)]
pub struct ComponentVariance;

impl Penalty for ComponentVariance {
    const REQUIRES: &'static [Requirement] = &[Requirement {
        needs: Capability::Prunable,
        rule: "`{kind}` has no diagonal between vectors, whose variance the penalty is of; use {others} or leave it out",
    }];
    const WHILE_RANKS_CHANGE: bool = true;

    fn of(maps: &[Penalised<'_>]) -> Option<Tensor<1>> {
        let of_factor = |Factor { value, axis }: Factor| {
            let along = 3 - axis;
            let [runs, ..] = value.dims();
            let count = value.dims()[axis];
            let others = value.dims()[along];
            // `Tensor::var` rounds its divisor to single precision.
            let square = (value.clone() - value.mean_dim(along)).square().sum_dim(along);
            (square * (1.0 / (others - 1).max(1) as f64)).reshape([runs, count]) // [runs, rank]
        };
        let all: Vec<Tensor<2>> = maps.iter().flat_map(|map| map.delta.vectors()).map(of_factor).collect();
        if all.is_empty() {
            return None;
        }
        let all = Tensor::cat(all, 1);
        let [runs, _] = all.dims();
        Some(all.mean_dim(1).reshape([runs]))
    }
}
