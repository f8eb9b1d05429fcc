//! Two trained factors with a gate on every component: `ΔW = s·A·diag(g)·B`, `g ∈ {0, 1}`.
//!
//! `A: [runs, d_in, rank]` is drawn from `init`, `B: [runs, rank, d_out]` starts at zero, so the start is the base. `g` `[runs, 1, rank]` does not
//! train: a rank policy opens and closes components by setting it, and a closed one has no gradient. The first `open` are open at the start, all
//! where it is absent. `rank·(d_in + d_out)` trained numbers per map, of which closed components use none. Rows pass `A` and `B`.
//!
//! Liu et al., *ALoRA: Allocating Low-Rank Adaptation for Fine-tuning Large Language Models*, NAACL 2024, arXiv:2403.16187, §3.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    error::SpecProblem,
    form::{Chain, Form},
    init::{AnyInit, Init},
    role::{Param, Role},
};

/// How many components are open at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Open components of every map at the start; all where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<usize>,
}

/// Two factors per run, and which components are in use.
#[derive(Clone, Debug)]
pub struct Gated {
    /// `[runs, d_in, rank]`
    pub a: Tensor<3>,
    /// `[runs, rank, d_out]`
    pub b: Tensor<3>,
    /// `[runs, 1, rank]`
    pub gate: Tensor<3>,
}

impl DeltaRecipe for Spec {
    type Delta = Gated;
    const PROVIDES: &'static [Capability] = &[Capability::Gated, Capability::DrawnFactors, Capability::OwnRanks];
    const ROLES: &'static [Role] = &[Role::A, Role::B, Role::Accumulated];

    fn check(&self) -> Vec<SpecProblem> {
        let none = self.open == Some(0);
        let rule = || SpecProblem::new("open", "open is `0`, but a closed component has no gradient; open at least one");
        none.then(rule).into_iter().collect()
    }

    fn start_norm(&self, init: &AnyInit, rank: usize, [d_in, _]: [usize; 2]) -> Option<f64> {
        Some(init.std(d_in, rank) * (d_in as f64).sqrt())
    }

    fn open(&self, rank: usize) -> usize {
        self.open.unwrap_or(rank).min(rank)
    }

    fn init(&self, at: &mut Site<'_>) -> Gated {
        let ([d_in, d_out], runs, open) = (at.shape, at.seeds.len(), self.open(at.rank));
        let of_run = (0..at.rank).map(|component| f64::from(u8::from(component < open)));
        let gate = at.place.tensor(of_run.collect(), [1, 1, at.rank]).repeat_dim(0, runs);
        Gated { a: at.drawn("a", d_in), b: at.zeros(at.rank, d_out), gate }
    }
}

impl Delta for Gated {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![
            Param::ranked("a", Role::A, 2, &mut self.a),
            Param::ranked("b", Role::B, 1, &mut self.b),
            Param::ranked("gate", Role::Accumulated, 2, &mut self.gate),
        ]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        Form::LowRank(Chain { down: self.a.clone(), middle: self.gate.clone() * gate.clone(), up: self.b.clone() })
    }
}
