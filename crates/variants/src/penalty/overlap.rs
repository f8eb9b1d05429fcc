//! How far a task's directions are from orthogonal to those of earlier tasks: `P = Σ_maps Σ_i Σ |A_iᵀ·A|`, the sum of the absolute entries of
//! `[k, rank]` products of a map's left factor `A` with those of the adapters beside it.
//!
//! It is 0 if and only if the row spaces of the updates (in the paper's layout, the columns of `A` here) are orthogonal, so that what a task
//! trains leaves inputs alone that earlier tasks read. The first task of a sequence has nothing to be orthogonal to.
//!
//! Wang et al., *Orthogonal Subspace Learning for Language Model Continual Learning*, Findings of EMNLP 2023, arXiv:2310.14152; the sum over
//! entries and maps is that of the authors' code (cmnfriend/O-LoRA, `uie_trainer_lora.py`).

use burn::tensor::Tensor;

use super::{Penalised, Penalty};
use crate::{
    capability::{Capability, Requirement},
    delta::Delta,
    role::Role,
};

/// The absolute entries of the products with the factors of earlier tasks.
#[derive(Clone, Copy, Debug)]
pub struct Overlap;

impl Penalty for Overlap {
    const REQUIRES: &'static [Requirement] = &[
        Requirement {
            needs: Capability::PreviousAdapters,
            rule: "a base update of kind `{kind}` keeps no adapters of earlier tasks to be orthogonal to; use \
                   `base_update: {kind: previous}` or leave it out",
        },
        Requirement {
            needs: Capability::TrainedA,
            rule: "A is what is kept orthogonal, but `train.a` is {kind}; let it train or leave the penalty out",
        },
        Requirement {
            needs: Capability::TwoFactors,
            rule: "`{kind}` has no factor `a` to hold against those of earlier tasks; use {others} or leave it out",
        },
    ];

    fn of(maps: &[Penalised<'_>]) -> Option<Tensor<1>> {
        let of_map = |map: &Penalised<'_>| {
            let earlier = map.accumulated?;
            let mut delta = map.delta.clone();
            let own = delta.parameters().into_iter().find(|param| param.role == Role::A)?.tensor.clone();
            let products = earlier.clone().transpose().matmul(own); // [runs, k, rank]
            let [runs, k, rank] = products.dims();
            Some(products.abs().reshape([runs, k * rank]).sum_dim(1).reshape([runs]))
        };
        maps.iter().filter_map(of_map).reduce(|sum, more| sum + more)
    }
}
