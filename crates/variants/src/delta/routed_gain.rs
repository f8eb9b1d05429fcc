//! Several gains of a map's outputs, mixed anew for every row: `y∘Σᵢ ωᵢ(y)·gᵢ` of `y = x·W0`, with `ω(y) = softmax(y·R)`.
//!
//! The gains `g: [runs, experts, d_out]` start at 1, so that the start is the base whatever the router says, and the router
//! `R: [runs, d_out, experts]` is drawn as torch draws a linear map's weight, `U(±1/√d_out)`. It sees what the gains multiply. The weights sum to 1, so the mixture of equal gains is
//! that gain. There is no rank. With the scale `s` a gain is `1 + s·(g − 1)`. The map's bias is added behind, unscaled. There is no matrix that
//! all rows share, so nothing is merged.
//!
//! | field | default | source |
//! |---|---|---|
//! | `experts` | 10 | ours |
//! | `weight_decay_toward` | `start`: 1 | decay toward `zero` takes the base's outputs away |

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    Delta, DeltaRecipe, Site,
    routed_low_rank::{check_experts, router},
};
use crate::{
    capability::Capability,
    error::SpecProblem,
    form::{Experts, Form, Routed},
    role::{DecayToward, Param, Role},
};

/// How many experts there are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Experts of a map.
    #[serde(default = "experts")]
    pub experts: usize,
    /// What weight decay pulls the gains toward.
    #[serde(default = "toward_start")]
    pub weight_decay_toward: DecayToward,
}

fn experts() -> usize {
    10
}

fn toward_start() -> DecayToward {
    DecayToward::Start
}

impl Default for Spec {
    fn default() -> Self {
        Self { experts: experts(), weight_decay_toward: toward_start() }
    }
}

/// Gains and their router, per run.
#[derive(Clone, Debug)]
pub struct RoutedGain {
    /// `R`, `[runs, d_out, experts]`.
    pub router: Tensor<3>,
    /// `[runs, experts, d_out]`.
    pub gains: Tensor<3>,
    weight_decay_toward: DecayToward,
}

impl DeltaRecipe for Spec {
    type Delta = RoutedGain;
    const RANK_BOUNDED: bool = false;
    const LOW_RANK: bool = false;
    const ROUTED: bool = true;
    const RANKED: bool = false;
    const DRAWS: bool = true;
    const PROVIDES: &'static [Capability] = &[];
    const LACKS: &'static [(Capability, &'static str)] = &[
        (Capability::Mergeable, "whose experts every token weighs anew"),
        (Capability::OwnRanks, "which has no rank"),
        (Capability::DrawnFactors, "whose gains start at 1"),
    ];
    const ROLES: &'static [Role] = &[Role::Router, Role::Gain];

    fn check(&self) -> Vec<SpecProblem> {
        check_experts(self.experts)
    }

    fn components(&self, _rank: usize) -> usize {
        usize::MAX
    }

    fn init(&self, at: &mut Site<'_>) -> RoutedGain {
        let [_, d_out] = at.shape;
        let gains = at.zeros(self.experts, d_out);
        let gains = if at.is_given() { gains } else { gains + 1.0 };
        RoutedGain { router: router(at, d_out, self.experts), gains, weight_decay_toward: self.weight_decay_toward }
    }
}

impl Delta for RoutedGain {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        let start = self.weight_decay_toward.target(|| self.gains.clone().without_autodiff().slice([0..1]).ones_like());
        vec![
            Param::new("router", Role::Router, &mut self.router),
            Param::new("gains", Role::Gain, &mut self.gains).decaying_toward(start),
        ]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let gains = (self.gains.clone() - 1.0) * gate.clone().narrow(2, 0, 1);
        Form::Routed(Routed { router: self.router.clone(), experts: Experts::Gains(gains) })
    }
}
