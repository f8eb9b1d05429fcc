//! A low-rank update for every block of the map: `ΔW[i, j] = s·Aᵢⱼ·Bᵢⱼ` over `n × n` blocks.
//!
//! Inputs and outputs are cut into `n = blocks` equal parts. The block from part `i` of the inputs to part `j` of the outputs has a product of
//! its own, `Aᵢⱼ: [d_in/n, rank/n]` and `Bᵢⱼ: [rank/n, d_out/n]`. Stored are
//!
//! ```text
//! A: [runs, d_in, rank]       Aᵢⱼ in the rows of part i, columns j·rank/n..
//! B: [runs, n·rank, d_out/n]  Bᵢⱼ in rows j·rank + i·rank/n..
//! ```
//!
//! `rank·(d_in + d_out)` trained numbers per map, those of LoRA at that rank, for a `ΔW` of rank `n·rank`. One block is LoRA. Both widths and the
//! rank must be multiples of `n`.
//!
//! `A` is drawn from `init` with the fan-in of a part (`kaiming`: `U(±1/√(d_in/n))`, PEFT's), `B` starts at zero.
//!
//! Rows pass two factors of `n·rank` components that are zero outside of their blocks, at the cost of LoRA of rank `n·rank`.
//!
//! Jung et al., *GraLoRA: Granular Low-Rank Adaptation for Parameter-Efficient Fine-Tuning*, NeurIPS 2025, arXiv:2505.20355, Eq. 5.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Delta, DeltaRecipe, Site,
    block_diagonal::{drawn, parts, uncut},
    scale,
};
use crate::{
    capability::{Capability, Requirement},
    error::SpecProblem,
    form::{Chain, Form},
    init::{AnyInit, Init},
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerTensor},
    role::{Param, Role},
};

/// Into how many parts the widths are cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Parts, PEFT's `gralora_k`; both widths of a map and the rank must be multiples.
    #[serde(default = "blocks")]
    pub blocks: usize,
}

fn blocks() -> usize {
    2 // PEFT's, which the authors recommend up to rank 32
}

impl Default for Spec {
    fn default() -> Self {
        Self { blocks: blocks() }
    }
}

/// The factors of all blocks of a run.
#[derive(Clone, Debug)]
pub struct Granular {
    /// `[runs, d_in, rank]`
    pub a: Tensor<3>,
    /// `[runs, n·rank, d_out/n]`
    pub b: Tensor<3>,
    blocks: usize,
    /// 1 where input and component are of one part, `[1, d_in, n·rank]`.
    of_inputs: Tensor<3>,
    /// 1 where component `(i, j, q)` and output are of one part `j`, `[1, n·rank, d_out]`.
    of_outputs: Tensor<3>,
}

impl DeltaRecipe for Spec {
    type Delta = Granular;
    const PROVIDES: &'static [Capability] = &[Capability::DrawnFactors, Capability::OwnRanks];
    const REQUIRES: &'static [Requirement] = &[Requirement {
        needs: Capability::ConstantRank,
        rule: "the components of `granular` are shared out among blocks; use it with `rank_policy: {kind: constant}`",
    }];
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
        let n = self.blocks;
        uncut(shape, n, "blocks").or_else(|| {
            let why = || {
                format!(
                    "rank is `{rank}`, but must be a multiple of blocks, `{n}`; use `{}`",
                    rank.next_multiple_of(n.max(1))
                )
            };
            (!rank.is_multiple_of(n)).then(why)
        })
    }

    /// `‖a_k‖` of a block: what a row of its `B` is multiplied by.
    fn start_norm(&self, init: &AnyInit, rank: usize, [d_in, _]: [usize; 2]) -> Option<f64> {
        let width = d_in / self.blocks;
        Some(init.std(width, rank) * (width as f64).sqrt())
    }

    fn peft(&self) -> Option<PeftForm> {
        let fields = vec![
            ("r", Field::Rank),
            ("alpha", Field::Alpha),
            ("gralora_dropout", Field::Dropout),
            ("gralora_k", Field::Fixed(json!(self.blocks))),
            ("hybrid_r", Field::Fixed(json!(0))),
            ("init_weights", Field::Passive(json!(true))),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "GRALORA", fields }))
    }

    fn peft_tensors(&self, TunedMap { shape: [d_in, d_out], rank, .. }: TunedMap<'_>) -> Vec<TunerTensor> {
        let n = self.blocks;
        vec![
            TunerTensor::shaped("a", "gralora_A", [n, d_in / n, rank]),
            TunerTensor::shaped("b", "gralora_B", [n, rank, d_out / n]),
        ]
    }

    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        config.is("GRALORA").then(|| Self { blocks: config.count("gralora_k").unwrap_or_else(blocks) })
    }

    fn init(&self, at: &mut Site<'_>) -> Granular {
        let ([d_in, d_out], rank, n) = (at.shape, at.rank, self.blocks);
        // Component `(i, j, q)` is of output part `j`: within every `i`, parts of `rank/n` components each.
        let of_outputs = parts(d_out, n, rank / n, at.place).swap_dims(1, 2).repeat_dim(1, n);
        Granular {
            a: drawn(at, n),
            b: at.zeros(n * rank, d_out / n),
            blocks: n,
            of_inputs: parts(d_in, n, rank, at.place),
            of_outputs,
        }
    }
}

impl Delta for Granular {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::new("a", Role::A, &mut self.a), Param::new("b", Role::B, &mut self.b)]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let (n, [runs, k, cols]) = (self.blocks, self.b.dims());
        // Rows of `B` are in the order (j, i, q), components in the order (i, j, q).
        let b = self.b.clone().reshape([runs, n, n, k / (n * n) * cols]).swap_dims(1, 2).reshape([runs, k, cols]);
        Form::LowRank(Chain {
            down: self.a.clone().repeat_dim(2, n) * self.of_inputs.clone(),
            middle: scale(gate, k),
            up: b.repeat_dim(2, n) * self.of_outputs.clone(),
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
        assert_eq!(says(5, 5, [8, 12]), "blocks is `5`, but must divide both widths; use `4`, or target other maps");
        assert_eq!(says(2, 3, [8, 12]), "rank is `3`, but must be a multiple of blocks, `2`; use `4`");
    }
}
