//! Two factors that both start at random numbers, minus their start: `ΔW = s·(A·B − A₀·B₀)`.
//!
//! Both factors are drawn `U(±√(gain/d_in))`, so that both have a gradient from the first step on, while the start is `W0` as it is LoRA's. `A₀` and
//! `B₀` are frozen and saved with the adapter; how the difference is computed, and what weight decay does, is in
//! [`residual_init`](super::residual_init).
//!
//! | field | default | source |
//! |---|---|---|
//! | `gain` | 1: numbers of `A` as LoRA draws them | the paper varies the variance of both around `1/d_in` |
//! | `weight_decay_toward` | `start` | as in [`residual_init`](super::residual_init) |
//!
//! Li et al., *Beyond Zero Initialization: Investigating the Impact of Non-Zero Initialization on LoRA Fine-Tuning Dynamics*, ICML 2025,
//! arXiv:2505.23194.

use serde::{Deserialize, Serialize};

use super::{DeltaRecipe, Site, residual_init::ResidualInit};
use crate::{
    capability::Capability,
    error::SpecProblem,
    peft::PeftForm,
    role::{DecayToward, Role},
    stream,
};

/// How large the first numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What the variance of both factors' numbers is multiplied by, beside `1/(3·d_in)`.
    #[serde(default = "one")]
    pub gain: f64,
    /// What weight decay pulls both factors toward.
    #[serde(default = "toward_start")]
    pub weight_decay_toward: DecayToward,
}

fn one() -> f64 {
    1.0
}

fn toward_start() -> DecayToward {
    DecayToward::Start
}

impl Default for Spec {
    fn default() -> Self {
        Self { gain: one(), weight_decay_toward: toward_start() }
    }
}

/// Two trained factors per run and their frozen start.
pub type DrawnInit = ResidualInit;

impl DeltaRecipe for Spec {
    type Delta = DrawnInit;
    const PROVIDES: &'static [Capability] = &[Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::DrawnFactors, "whose factors have a distribution of their own")];
    const ROLES: &'static [Role] = &[Role::A, Role::B, Role::Projection];
    const WIDTH: usize = 2;
    const DRAWS: bool = true;
    const EXACT_START: bool = false;

    fn check(&self) -> Vec<SpecProblem> {
        if self.gain.is_finite() && self.gain > 0.0 {
            return Vec::new();
        }
        let rule = format!("gain is `{}`, but must be above 0: with both factors at 0 no gradient leaves 0", self.gain);
        vec![SpecProblem::new("gain", rule)]
    }

    fn peft(&self) -> Option<PeftForm> {
        Some(PeftForm::DoubledLora { start: None })
    }

    fn init(&self, at: &mut Site<'_>) -> DrawnInit {
        let ([d_in, d_out], rank) = (at.shape, at.rank);
        let bound = (self.gain / d_in as f64).sqrt();
        // Component by component, so that a smaller rank starts at the same ones.
        let drawn = |name: &str, width: usize| {
            let name = format!("{}.{name}", at.slot);
            at.drawn_by(&name, [rank, width], |rng, n| stream::uniform(rng, n, bound))
        };
        ResidualInit::minus_start(drawn("a", d_in).swap_dims(1, 2), drawn("b", d_out), self.weight_decay_toward)
    }
}
