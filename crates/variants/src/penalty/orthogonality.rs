//! How far factors are from orthonormal: `‖FᵀF − I‖_F`, of all factors of a stack at once.
//!
//! AdaLoRA's regulariser `P` is the mean of these over all factors, as the authors' code has it; the paper's Eq. 4 squares the norms.
//!
//! Zhang et al., *Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning*, ICLR 2023, arXiv:2303.10512, Eq. 4.

use burn::tensor::Tensor;

use super::{Penalised, Penalty};
use crate::{
    capability::{Capability, Requirement},
    delta::Delta,
    host::identity,
};

/// The mean departure of factors from orthonormality.
#[derive(Clone, Copy, Debug)]
pub struct Orthogonality;

impl Penalty for Orthogonality {
    const REQUIRES: &'static [Requirement] = &[Requirement {
        needs: Capability::Orthonormal,
        rule: "`{kind}` has no orthogonality penalty; use {others} or set 0",
    }];

    fn of(maps: &[Penalised<'_>]) -> Option<Tensor<1>> {
        let all = departure(maps.iter().flat_map(|map| map.delta.orthonormal()).collect())?; // [runs, factors]
        let [runs, _] = all.dims();
        Some(all.mean_dim(1).reshape([runs]))
    }
}

/// A factor whose components are to be orthonormal.
#[derive(Clone, Debug)]
pub struct Factor {
    /// `[runs, d, rank]` or `[runs, rank, d]`.
    pub value: Tensor<3>,
    /// The axis of its components, 2 or 1.
    pub axis: usize,
}

/// What factors of one batch have in common: the axis of their components, and their shape.
type Kind = (usize, [usize; 3]);

/// `‖FᵀF − I‖_F` with components as columns, of every run and factor, `[runs, factors]`; the order is the factors' own where all have one
/// shape, else shape by shape in the order of their first ones. `None` where there is no factor.
///
/// Factors of one shape are one batch: a cohort's step has dozens of them, and each by itself would be dozens of kernels.
pub fn departure(factors: Vec<Factor>) -> Option<Tensor<2>> {
    let mut groups: Vec<(Kind, Vec<Tensor<3>>)> = Vec::new();
    for Factor { value, axis } in factors {
        let key = (axis, value.dims());
        match groups.iter_mut().find(|(of, _)| *of == key) {
            Some((_, group)) => group.push(value),
            None => groups.push((key, vec![value])),
        }
    }
    let of_group = |((axis, [runs, ..]), group): (Kind, Vec<Tensor<3>>)| {
        let terms = group.len();
        let all = Tensor::cat(group, 0); // [terms·runs, .., ..]
        let gram = match axis {
            1 => all.clone().matmul(all.transpose()),
            _ => all.clone().transpose().matmul(all),
        }; // [terms·runs, rank, rank]
        let [_, rank, _] = gram.dims();
        let one = identity(rank, &gram);
        let square = (gram - one).square().reshape([terms, runs, rank * rank]).sum_dim(2);
        // The square root has no derivative at 0; below this floor the gradient is 0.
        square.clamp_min(1e-30).sqrt().reshape([terms, runs]).swap_dims(0, 1)
    };
    let departures: Vec<Tensor<2>> = groups.into_iter().map(of_group).collect();
    (!departures.is_empty()).then(|| Tensor::cat(departures, 1))
}
