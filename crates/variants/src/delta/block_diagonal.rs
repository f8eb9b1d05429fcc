//! Small low-rank updates on the blocks of the diagonal: `ΔW = s·diag(A₁·B₁, …, Aₙ·Bₙ)`.
//!
//! Inputs and outputs are cut into `n = blocks` equal parts; part `i` of the inputs reaches part `i` of the outputs through
//! `Aᵢ: [d_in/n, rank]` and `Bᵢ: [rank, d_out/n]`, and no other. Stored are `A: [runs, d_in, rank]`, the `Aᵢ` below one another, and
//! `B: [runs, rank, d_out]`, the `Bᵢ` concatenated: `rank·(d_in + d_out)` numbers, those of LoRA at that rank, for a `ΔW` of rank
//! `n·rank`. One block is LoRA.
//!
//! `A` is drawn from `init` with the fan-in of a part (`kaiming`: `U(±1/√(d_in/n))`), `B` starts at zero. The rank in use is that of every block.
//!
//! Rows pass two factors of `n·rank` components that are zero outside of their parts, at the cost of LoRA of rank `n·rank`.
//!
//! Ren et al., *MELoRA: Mini-Ensemble Low-Rank Adapters for Parameter-Efficient Fine-Tuning*, ACL 2024, arXiv:2402.17263, Eq. 3.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    error::SpecProblem,
    form::{Chain, Form},
    host::Placement,
    init::{AnyInit, Init},
    role::{Param, Role},
    stream::{self, Stream},
};

/// Into how many parts the widths are cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Parts; both widths of a map must be multiples.
    #[serde(default = "blocks")]
    pub blocks: usize,
}

fn blocks() -> usize {
    2 // the authors' GLUE scripts
}

impl Default for Spec {
    fn default() -> Self {
        Self { blocks: blocks() }
    }
}

/// The factors of all blocks of a run.
#[derive(Clone, Debug)]
pub struct BlockDiagonal {
    /// `[runs, d_in, rank]`
    pub a: Tensor<3>,
    /// `[runs, rank, d_out]`
    pub b: Tensor<3>,
    blocks: usize,
    /// 1 where input `i` is in the part of component `j·rank + p`, part `j`, `[1, d_in, n·rank]`.
    of_inputs: Tensor<3>,
    /// The same of outputs, `[1, n·rank, d_out]`.
    of_outputs: Tensor<3>,
}

/// 1 where coordinate `i` of `width` and place `j·each + p` are of one part, `[1, width, blocks·each]`.
pub(super) fn parts(width: usize, blocks: usize, each: usize, place: &Placement) -> Tensor<3> {
    let same = |i: usize| (0..blocks * each).map(move |at| f64::from(u8::from(i * blocks / width == at / each)));
    place.tensor((0..width).flat_map(same).collect(), [1, width, blocks * each])
}

/// The `Aᵢ` of all blocks below one another, `[runs, d_in, rank]`, each drawn with the fan-in of a part.
pub(super) fn drawn(at: &Site<'_>, blocks: usize) -> Tensor<3> {
    let ([d_in, _], rank, runs) = (at.shape, at.rank, at.seeds.len());
    if at.is_given() {
        return at.zeros(d_in, rank);
    }
    let mut values = Vec::with_capacity(runs * d_in * rank);
    for &seed in at.seeds {
        for block in 0..blocks {
            // Of its own, so that the first components of every block are the same at every rank. The first is LoRA's.
            let name = if block == 0 { format!("{}.a", at.slot) } else { format!("{}.a.{block}", at.slot) };
            let rng = &mut stream::generator(seed, Stream::Init, &name);
            values.extend(at.init.components([d_in / blocks, rank], rank, rng)); // [blocks, rank, d_in/blocks]
        }
    }
    let each = at.place.tensor::<4>(values, [runs, blocks, rank, d_in / blocks]);
    each.swap_dims(2, 3).reshape([runs, d_in, rank])
}

/// Why the widths of a map cannot be cut into `blocks` parts, with the way out.
pub(super) fn uncut([d_in, d_out]: [usize; 2], blocks: usize, field: &str) -> Option<String> {
    let fits = |n: usize| d_in.is_multiple_of(n) && d_out.is_multiple_of(n);
    if fits(blocks) {
        return None;
    }
    let near = (1..=blocks.min(d_in).min(d_out)).rev().find(|n| fits(*n)).unwrap_or(1);
    Some(format!("{field} is `{blocks}`, but must divide both widths; use `{near}`, or target other maps"))
}

impl DeltaRecipe for Spec {
    type Delta = BlockDiagonal;
    const PROVIDES: &'static [Capability] = &[Capability::DrawnFactors, Capability::OwnRanks];
    const ROLES: &'static [Role] = &[Role::A, Role::B];

    fn check(&self) -> Vec<SpecProblem> {
        match self.blocks {
            0 => vec![SpecProblem::new("blocks", "blocks is `0`, but must be at least 1; one block is LoRA")],
            _ => Vec::new(),
        }
    }

    fn components(&self, rank: usize) -> usize {
        self.blocks.saturating_mul(rank)
    }

    fn misfit(&self, rank: usize, shape: [usize; 2]) -> Option<String> {
        let most = shape[0].min(shape[1]) / self.blocks.max(1);
        uncut(shape, self.blocks, "blocks").or_else(|| {
            (rank > most)
                .then(|| format!("rank `{rank}` is above that of a block, {most}; use 1..={most} or fewer blocks"))
        })
    }

    /// `‖a_k‖` of a block: what a row of its `B` is multiplied by.
    fn start_norm(&self, init: &AnyInit, rank: usize, [d_in, _]: [usize; 2]) -> Option<f64> {
        let width = d_in / self.blocks;
        Some(init.std(width, rank) * (width as f64).sqrt())
    }

    fn init(&self, at: &mut Site<'_>) -> BlockDiagonal {
        let ([d_in, d_out], rank, blocks) = (at.shape, at.rank, self.blocks);
        BlockDiagonal {
            a: drawn(at, blocks),
            b: at.zeros(rank, d_out),
            blocks,
            of_inputs: parts(d_in, blocks, rank, at.place),
            of_outputs: parts(d_out, blocks, rank, at.place).swap_dims(1, 2),
        }
    }
}

impl Delta for BlockDiagonal {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::ranked("a", Role::A, 2, &mut self.a), Param::ranked("b", Role::B, 1, &mut self.b)]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let n = self.blocks;
        Form::LowRank(Chain {
            down: self.a.clone().repeat_dim(2, n) * self.of_inputs.clone(),
            middle: gate.clone().repeat_dim(2, n),
            up: self.b.clone().repeat_dim(1, n) * self.of_outputs.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misfit_names_the_way_out() {
        let says = |blocks, rank, shape| Spec { blocks }.misfit(rank, shape).unwrap_or_default();
        assert_eq!(says(2, 4, [8, 12]), "");
        assert_eq!(says(3, 1, [8, 12]), "blocks is `3`, but must divide both widths; use `2`, or target other maps");
        assert_eq!(says(2, 1, [7, 12]), "blocks is `2`, but must divide both widths; use `1`, or target other maps");
        assert_eq!(says(4, 3, [8, 12]), "rank `3` is above that of a block, 2; use 1..=2 or fewer blocks");
    }
}
