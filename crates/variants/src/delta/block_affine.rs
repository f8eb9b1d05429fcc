//! An affine map of the base's blocks: `ΔW = s·C·(W0 + I)`, block by block.
//!
//! `W0` is cut into blocks `[rank, rank]`. All blocks of one column of blocks `o` are multiplied by the same matrix, which is also added to each:
//!
//! ```text
//! ΔW[i, o] = s·(Cₒ·W0[i, o] + Dₒ),   Cₒ = Bₒᵀ,  Dₒ = Bₒᵀ
//! ```
//!
//! in this layout, `W0[i, o]` the block of inputs `i·rank..` and outputs `o·rank..`. The trained `Bₒ [rank, rank]` of all columns are stored
//! below one another, `[runs, d_out, rank]`, and start at zero: `rank·d_out` numbers per map. `ΔW` depends on `W0` and is of any rank. Both
//! widths must be multiples of the rank. There is no scale in the paper or in PEFT: `s = 1`. Nothing is drawn.
//!
//! The form is dense: forming `ΔW` takes `rank·d_in·d_out` products a step and run, and the rows pass `x·(W0 + ΔW)`.
//!
//! Kang and Yin, arXiv:2409.15371, *Bone: Block-Affine Adaptation of Large Language Models* in its first versions, Eq. 3 (its form "Bat"); PEFT's
//! `MissConfig(init_weights="bat")`.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Delta, DeltaRecipe, Site, scale};
use crate::{
    capability::{Capability, Requirement},
    form::Form,
    host::{cast, identity},
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerTensor},
    role::{Param, Role},
};

/// No parameters of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

/// A matrix per column of blocks.
#[derive(Clone, Debug)]
pub struct BlockAffine {
    /// The `Bₒ` below one another, `[runs, d_out, rank]`.
    pub block: Tensor<3>,
}

impl DeltaRecipe for Spec {
    type Delta = BlockAffine;
    const PROVIDES: &'static [Capability] = &[Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::DrawnFactors, "whose only trained tensor starts at zero")];
    const REQUIRES: &'static [Requirement] = &[Requirement {
        needs: Capability::ConstantRank,
        rule: "the rank of `block_affine` is the size of its blocks; use it with `rank_policy: {kind: constant}`",
    }];
    const LOW_RANK: bool = false;
    const ROLES: &'static [Role] = &[Role::B];

    /// Of full rank where the base is.
    fn components(&self, _rank: usize) -> usize {
        usize::MAX
    }

    fn misfit(&self, rank: usize, [d_in, d_out]: [usize; 2]) -> Option<String> {
        let fits = |n: usize| d_in.is_multiple_of(n) && d_out.is_multiple_of(n);
        if fits(rank) {
            return None;
        }
        let near = (1..=rank.min(d_in).min(d_out)).rev().find(|n| fits(*n)).unwrap_or(1);
        Some(format!("rank `{rank}` is the side of a block, so it must divide both widths; use `{near}`"))
    }

    /// PEFT had it as `BONE` too, and no longer has.
    fn peft(&self) -> Option<PeftForm> {
        let fields = vec![
            ("r", Field::Rank),
            ("init_weights", Field::Fixed(json!("bat"))),
            ("mini_r", Field::Passive(json!(1))),
            // The dropout of another form of it.
            ("miss_dropout", Field::Passive(json!(0.0))),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "MISS", fields }))
    }

    fn peft_tensors(&self, TunedMap { shape: [_, d_out], rank, .. }: TunedMap<'_>) -> Vec<TunerTensor> {
        vec![TunerTensor::shaped("block", "miss_block", [d_out / rank, rank, rank])]
    }

    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        (config.is("MISS") && config.text("init_weights") == Some("bat")).then(Self::default)
    }

    fn init(&self, at: &mut Site<'_>) -> BlockAffine {
        BlockAffine { block: at.zeros(at.shape[1], at.rank) }
    }
}

impl Delta for BlockAffine {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::new("block", Role::B, &mut self.block)]
    }

    fn form(&self, gate: &Tensor<3>, base: &Tensor<2>) -> Form {
        let ([runs, d_out, r], [d_in, _]) = (self.block.dims(), base.dims());
        let [rows, columns] = [d_in / r, d_out / r];
        let turned = (self.block.clone() * scale(gate, 1)).reshape([runs, columns, r, r]).swap_dims(2, 3); // [runs, columns, r, r]
        // Beside one another, in each column of blocks: the blocks of W0, each with the identity added.
        let base = cast(base, self.block.dtype()).reshape([rows, r, columns, r]);
        let base = base.permute([2, 1, 0, 3]).reshape([1, columns, r, rows * r]);
        let eye = identity(r, &base).unsqueeze::<4>().repeat_dim(3, rows);
        let change = turned.matmul(base + eye).reshape([runs, columns, r, rows, r]);
        Form::Dense(change.permute([0, 3, 2, 1, 4]).reshape([runs, d_in, d_out]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misfit_names_the_way_out() {
        let says = |rank, shape| Spec {}.misfit(rank, shape).unwrap_or_default();
        assert_eq!(says(4, [8, 12]), "");
        assert_eq!(says(3, [8, 12]), "rank `3` is the side of a block, so it must divide both widths; use `2`");
    }
}
