//! Two trained factors with a trained diagonal between them: `ΔW = s·A·diag(λ)·B`.
//!
//! `A: [runs, d_in, rank]` is drawn from `init`; of the diagonal `λ` `[runs, 1, rank]` and `B: [runs, rank, d_out]` one starts at zero, so the
//! start is the base:
//!
//! | `start` | `λ` | `B` | method |
//! |---|---|---|---|
//! | `zero` | 0 | drawn, with torch's fan-in: `kaiming` is `U(±1/√rank)` | TriLoRA |
//! | `normal` | `N(0, 1)`, whatever `init` is | 0 | SoRA |
//!
//! `rank·(d_in + d_out + 1)` trained numbers per map. A component is pruned by setting its `λ` to 0; its factors keep training, so it may come
//! back. From `zero` the diagonal alone has a gradient at the first step, from `normal` `B` alone. Rows pass `A` and `B`.
//!
//! Feng et al., *TriLoRA*, 2024, arXiv:2405.11236; Ding et al., *Sparse Low-rank Adaptation of Pre-trained Language Models* (SoRA), EMNLP 2023,
//! arXiv:2311.11696, with the authors' code for first values.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    form::{Chain, Form},
    init::{AnyInit, Init},
    penalty::orthogonality::Factor,
    role::{Param, Role},
    stream::{self, Stream},
};

/// First values of the diagonal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// 0; both factors are drawn.
    #[default]
    Zero,
    /// Standard normal; `B` is 0.
    Normal,
}

/// Where the diagonal starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// First values of the diagonal.
    #[serde(default)]
    pub start: Start,
}

/// Two factors and a diagonal per run.
#[derive(Clone, Debug)]
pub struct Diagonal {
    /// `[runs, d_in, rank]`
    pub a: Tensor<3>,
    /// `[runs, 1, rank]`
    pub lambda: Tensor<3>,
    /// `[runs, rank, d_out]`
    pub b: Tensor<3>,
}

impl DeltaRecipe for Spec {
    type Delta = Diagonal;
    const PROVIDES: &'static [Capability] = &[Capability::Prunable, Capability::DrawnFactors, Capability::OwnRanks];
    const ROLES: &'static [Role] = &[Role::A, Role::Lambda, Role::B];

    /// From a diagonal at zero `‖a_k‖·‖b_k‖`, what a number of it is multiplied by; else `‖a_k‖`, as of LoRA.
    fn start_norm(&self, init: &AnyInit, rank: usize, [d_in, d_out]: [usize; 2]) -> Option<f64> {
        let a = init.std(d_in, rank) * (d_in as f64).sqrt();
        Some(match self.start {
            Start::Zero => a * init.std(rank, rank) * (d_out as f64).sqrt(),
            Start::Normal => a,
        })
    }

    fn init(&self, at: &mut Site<'_>) -> Diagonal {
        let [d_in, d_out] = at.shape;
        let a = at.drawn("a", d_in);
        match self.start {
            Start::Zero => Diagonal { a, lambda: at.zeros(1, at.rank), b: at.drawn_up("b", d_out) },
            Start::Normal => Diagonal { a, lambda: normal(at), b: at.zeros(at.rank, d_out) },
        }
    }
}

/// `N(0, 1)` per run and component, `[runs, 1, rank]`; the first `b` components are the same at every rank.
fn normal(at: &Site<'_>) -> Tensor<3> {
    if at.is_given() {
        return at.zeros(1, at.rank);
    }
    let of_run = |seed: &u64| {
        let rng = &mut stream::generator(*seed, Stream::Init, &format!("{}.lambda", at.slot));
        stream::normal(rng, at.rank, 1.0)
    };
    at.place.tensor(at.seeds.iter().flat_map(of_run).collect(), [at.seeds.len(), 1, at.rank])
}

impl Delta for Diagonal {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![
            Param::ranked("a", Role::A, 2, &mut self.a),
            Param::ranked("lambda", Role::Lambda, 2, &mut self.lambda),
            Param::ranked("b", Role::B, 1, &mut self.b),
        ]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        Form::LowRank(Chain { down: self.a.clone(), middle: self.lambda.clone() * gate.clone(), up: self.b.clone() })
    }

    fn vectors(&self) -> Vec<Factor> {
        vec![Factor { value: self.a.clone(), axis: 2 }, Factor { value: self.b.clone(), axis: 1 }]
    }

    fn diagonal(&self) -> Option<Tensor<3>> {
        Some(self.lambda.clone())
    }
}
