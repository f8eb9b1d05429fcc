//! An elementwise product of two low-rank matrices: `ΔW = s·(A₁·B₁)∘(A₂·B₂)`.
//!
//! `Aᵢ: [runs, d_in, rank]` and `Bᵢ: [runs, rank, d_out]`, all trained: `2·rank·(d_in + d_out)` numbers per map, twice LoRA's. The rank of `ΔW`
//! is at most `rank²`, because entry by entry
//!
//! ```text
//! ΔW[i, j] = s·Σ_p Σ_q (A₁[i, p]·A₂[i, q])·(B₁[p, j]·B₂[q, j])
//! ```
//!
//! which is a product of two factors of `rank²` components: rows of `A₁` and `A₂` multiplied pair by pair (their face-splitting product), and
//! columns of `B₁` and `B₂`. Rows of the input pass these two, at `rank²·(d_in + d_out)` products a row; no dense matrix is formed.
//!
//! `A₂` starts at zero, the others are drawn from `init` with the fan-in that torch sees: `A₁` that of the input, both `B` that of the rank. With
//! `kaiming` these are PEFT's `U(±1/√d_in)` and `U(±1/√rank)`. LyCORIS draws normal numbers instead and starts another factor at zero.
//!
//! Hyeon-Woo, Ye-Bin and Oh, *FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated Learning*, ICLR 2022, arXiv:2108.06098,
//! Proposition 1; Yeh et al., *Navigating Text-To-Image Customization*, ICLR 2024, arXiv:2309.14859.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Delta, DeltaRecipe, Site, scale};
use crate::{
    capability::{Capability, Requirement},
    form::{Chain, Form},
    init::{AnyInit, Init},
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerTensor},
    role::{Param, Role},
};

/// No parameters of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

/// Two pairs of factors per run.
#[derive(Clone, Debug)]
pub struct Hadamard {
    /// `[runs, d_in, rank]`
    pub a1: Tensor<3>,
    /// `[runs, rank, d_out]`
    pub b1: Tensor<3>,
    /// `[runs, d_in, rank]`
    pub a2: Tensor<3>,
    /// `[runs, rank, d_out]`
    pub b2: Tensor<3>,
}

impl DeltaRecipe for Spec {
    type Delta = Hadamard;
    const PROVIDES: &'static [Capability] = &[Capability::DrawnFactors, Capability::OwnRanks];
    const REQUIRES: &'static [Requirement] = &[Requirement {
        needs: Capability::ConstantRank,
        rule: "`hadamard` multiplies every component with every other; use it with `rank_policy: {kind: constant}`",
    }];
    const ROLES: &'static [Role] = &[Role::A, Role::B];

    fn components(&self, rank: usize) -> usize {
        rank * rank
    }

    /// A number of `A₂` multiplies, column by column, a sum of `rank` products of drawn numbers and one more.
    fn start_norm(&self, init: &AnyInit, rank: usize, [d_in, d_out]: [usize; 2]) -> Option<f64> {
        let (a1, b) = (init.std(d_in, rank), init.std(rank, rank));
        Some(a1 * b * b * (rank as f64 * d_out as f64).sqrt())
    }

    /// PEFT's `w1_a·w1_b` is `[d_out, d_in]`.
    fn peft(&self) -> Option<PeftForm> {
        let fields = vec![
            ("r", Field::Rank),
            ("rank_pattern", Field::RankPattern),
            ("alpha", Field::Alpha),
            ("alpha_pattern", Field::AlphaPattern),
            ("rank_dropout", Field::Passive(json!(0.0))),
            ("module_dropout", Field::Passive(json!(0.0))),
            ("use_effective_conv2d", Field::Passive(json!(false))),
            ("init_weights", Field::Passive(json!(true))),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "LOHA", fields }))
    }

    fn peft_tensors(&self, _map: TunedMap<'_>) -> Vec<TunerTensor> {
        [("a1", "hada_w1_b"), ("b1", "hada_w1_a"), ("a2", "hada_w2_b"), ("b2", "hada_w2_a")]
            .map(|(ours, theirs)| TunerTensor::transposed(ours, theirs))
            .to_vec()
    }

    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        config.is("LOHA").then(Self::default)
    }

    fn init(&self, at: &mut Site<'_>) -> Hadamard {
        let [d_in, d_out] = at.shape;
        Hadamard {
            a1: at.drawn("a1", d_in),
            b1: at.drawn_up("b1", d_out),
            a2: at.zeros(d_in, at.rank),
            b2: at.drawn_up("b2", d_out),
        }
    }
}

/// The products of every column of `a` `[runs, n, r]` with every one of `b`, row by row, `[runs, n, r²]`: pair `(p, q)` at `p·r + q`.
fn row_products(a: &Tensor<3>, b: &Tensor<3>) -> Tensor<3> {
    let [runs, n, r] = a.dims();
    (a.clone().reshape([runs, n, r, 1]) * b.clone().reshape([runs, n, 1, r])).reshape([runs, n, r * r])
}

/// The products of every row of `a` `[runs, r, n]` with every one of `b`, column by column, `[runs, r², n]`.
fn column_products(a: &Tensor<3>, b: &Tensor<3>) -> Tensor<3> {
    let [runs, r, n] = a.dims();
    (a.clone().reshape([runs, r, 1, n]) * b.clone().reshape([runs, 1, r, n])).reshape([runs, r * r, n])
}

impl Delta for Hadamard {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![
            Param::new("a1", Role::A, &mut self.a1),
            Param::new("b1", Role::B, &mut self.b1),
            Param::new("a2", Role::A, &mut self.a2),
            Param::new("b2", Role::B, &mut self.b2),
        ]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let (down, up) = (row_products(&self.a1, &self.a2), column_products(&self.b1, &self.b2));
        Form::LowRank(Chain { middle: scale(gate, down.dims()[2]), down, up })
    }
}
