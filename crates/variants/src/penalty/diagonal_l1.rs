//! How large the numbers of the diagonals are: `P = mean |λ|` over all components of all maps of a run.
//!
//! The authors of SoRA add it to the loss with a weight of 10 beside the soft threshold of their optimizer (`trainer.py`); the paper has the
//! threshold alone.
//!
//! Ding et al., *Sparse Low-rank Adaptation of Pre-trained Language Models*, EMNLP 2023, arXiv:2311.11696.

use burn::tensor::Tensor;

use super::{Penalised, Penalty};
use crate::{
    capability::{Capability, Requirement},
    delta::Delta,
};

/// The mean absolute number of a diagonal.
#[derive(Clone, Copy, Debug)]
pub struct DiagonalL1;

impl Penalty for DiagonalL1 {
    const REQUIRES: &'static [Requirement] = &[Requirement {
        needs: Capability::Prunable,
        rule: "`{kind}` has no diagonal for a penalty to make small; use {others} or leave it out",
    }];

    fn of(maps: &[Penalised<'_>]) -> Option<Tensor<1>> {
        // Maps may have unlike ranks: [runs, 1, rank] each.
        let all: Vec<Tensor<3>> = maps.iter().filter_map(|map| map.delta.diagonal()).collect();
        if all.is_empty() {
            return None;
        }
        let all = Tensor::cat(all, 2);
        let [runs, ..] = all.dims();
        Some(all.abs().mean_dim(2).reshape([runs]))
    }
}
