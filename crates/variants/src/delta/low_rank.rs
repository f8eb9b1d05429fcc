//! The product of two thin factors, `ΔW = s·A·B`.
//!
//! `A: [runs, d_in, rank]` (the paper's `Aᵀ`) is drawn from the variant's `init`, `B: [runs, rank, d_out]`
//! (the paper's `Bᵀ`) starts at zero, so the start is the base. `drawn: b` is the other way round: `B` is drawn as `init` draws for
//! `rank` inputs, so that the variance of its numbers is that of `1/rank` (Init[B] of Hayou et al., 2024, arXiv:2406.08447), and
//! `A` starts at zero. Two thin products replace `x·ΔW`:
//! `rank·(d_in + d_out)` multiplications per row instead of `d_in·d_out`.
//!
//! Where `A` is frozen, autodiff keeps `x·A` (`[n, rank]`) for the backward pass and not `x`
//! (`[n, d_in]`), because an untracked factor needs no gradient.
//!
//! Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022, arXiv:2106.09685, Eq. 3.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    form::{Chain, Form},
    init::{AnyInit, Init},
    peft::PeftForm,
    role::{Param, Role},
};

/// As written in YAML.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Which factor is drawn; the other starts at zero.
    #[serde(default, skip_serializing_if = "Drawn::is_default")]
    pub drawn: Drawn,
}

/// A factor of the pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drawn {
    /// The one on the inputs.
    #[default]
    A,
    /// The one on the outputs.
    B,
}

impl Drawn {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::A
    }
}

/// Two factors per run.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// Down-projection, `[runs, d_in, rank]`.
    pub a: Tensor<3>,
    /// Up-projection, `[runs, rank, d_out]`.
    pub b: Tensor<3>,
}

impl DeltaRecipe for Spec {
    type Delta = LowRank;
    const PROVIDES: &'static [Capability] = &[Capability::TwoFactors, Capability::DrawnFactors, Capability::OwnRanks];
    // On an embedding table both factors have the role `embedding`.
    const ROLES: &'static [Role] = &[Role::A, Role::B, Role::Embedding];

    fn peft(&self) -> Option<PeftForm> {
        Some(PeftForm::Lora)
    }

    /// `‖a_k‖`, what a row of `B` is multiplied by; `‖b_k‖` where `B` is drawn.
    fn start_norm(&self, init: &AnyInit, rank: usize, [d_in, d_out]: [usize; 2]) -> Option<f64> {
        Some(match self.drawn {
            Drawn::A => init.std(d_in, rank) * (d_in as f64).sqrt(),
            Drawn::B => init.std(rank, rank) * (d_out as f64).sqrt(),
        })
    }

    fn init(&self, at: &mut Site<'_>) -> LowRank {
        let [d_in, d_out] = at.shape;
        match self.drawn {
            Drawn::A => LowRank { a: at.drawn("a", d_in), b: at.zeros(at.rank, d_out) },
            Drawn::B => LowRank { a: at.zeros(d_in, at.rank), b: at.drawn_up("b", d_out) },
        }
    }
}

impl Delta for LowRank {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::ranked("a", Role::A, 2, &mut self.a), Param::ranked("b", Role::B, 1, &mut self.b)]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        Form::LowRank(Chain { down: self.a.clone(), middle: gate.clone(), up: self.b.clone() })
    }
}
