//! Gradient-aligned start: the first step of the factors moves `W'` as a step of full fine-tuning would, as far as their rank allows:
//! `ΔW = s·(A·B − A₀·B₀)`.
//!
//! With `G = ∂L/∂W0` `[d_in, d_out]`, the mean gradient of the unadapted base over the first training batches, and `G = U·S·Vᵀ` (thin, values
//! descending), the factors start at singular vectors of different components, so that `A₀·∂B + ∂A·B₀` has rank `2·rank` (Theorem 3.1;
//! there `W: [d_out, d_in]`, so that `A` holds right and `B` left vectors). In this layout, with `c = d_out^¼/√γ` (Theorem 3.2):
//!
//! ```text
//! direction      A₀ [d_in, rank]                    B₀ [rank, d_out]
//! ar_b2r         c·U of components 1..=rank         c·Vᵀ of components rank+1..=2·rank
//! a2r_br         c·U of components rank+1..=2·rank  c·Vᵀ of components 1..=rank
//! ar_br          c·U of components 2, 4, ..         c·Vᵀ of components 1, 3, ..
//! ```
//!
//! | parameter | default | range | source |
//! |---|---|---|---|
//! | `direction` | `ar_b2r` | the three above | the released code and PEFT |
//! | `scale` | `stable` (as above) | `stable`, `unit` (`c = 1`) | the released code and PEFT |
//! | `gamma` | 16 | above 0 | `stable_gamma` of both |
//! | `batches` | 8 | from 1 | 128 examples in the released code (64 batches of 2); here batches are of `train.batch` examples, 32 by default |
//!
//! The rank is at most half of a map's shorter width, since `2·rank` components are taken. `A` and `B` train, `rank·(d_in + d_out)` numbers a
//! map. How the start is subtracted, saved and decayed toward is that of [`residual_init`].
//!
//! **Departures.**
//! - The released code takes the decomposition by a randomised method (`svd_lowrank`), here it is exact.
//! - PEFT 0.21.2 multiplies `B₀` by its components' singular values and scales `B₀` alone; here both factors are scaled and neither has the
//!   singular values, as in Theorem 3.2 and the released code. The spans of both factors are the same.
//! - The gradient is taken without dropout; the released code leaves the model's dropout on.
//! - A classifier's head is at its first values, so its seed enters the gradient.
//!
//! Wang, Yu and Li, *LoRA-GA: Low-Rank Adaptation with Gradient Approximation*, NeurIPS 2024, arXiv:2407.05000, Theorems 3.1 and 3.2,
//! Algorithm 1.

use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};

use super::{
    DeltaRecipe, Site,
    residual_init::{self, Pair, ResidualInit, flat},
};
use crate::{
    calibration::{Calibration, Statistic, check_batches},
    capability::Capability,
    error::SpecProblem,
    peft::PeftForm,
    role::{DecayToward, Role},
};

/// Which components of the gradient each factor takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// `A` the first, `B` the second `rank`.
    #[default]
    #[serde(rename = "ar_b2r")]
    ArB2r,
    /// `A` the second, `B` the first `rank`.
    #[serde(rename = "a2r_br")]
    A2rBr,
    /// By turns, `B` first.
    ArBr,
}

impl Direction {
    /// The component that `A` and that `B` takes in place `i` of `rank`.
    fn components(self, i: usize, rank: usize) -> [usize; 2] {
        match self {
            Self::ArB2r => [i, rank + i],
            Self::A2rBr => [rank + i, i],
            Self::ArBr => [2 * i + 1, 2 * i],
        }
    }
}

/// The length of a singular vector in a factor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// `d_out^¼/√γ`: the update's output does not depend on the widths.
    #[default]
    Stable,
    /// 1
    Unit,
}

/// As written in YAML.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Which components of the gradient each factor takes.
    #[serde(default)]
    pub direction: Direction,
    /// The length of a singular vector in a factor.
    #[serde(default)]
    pub scale: Scale,
    /// `γ` of the stable scale.
    #[serde(default = "gamma")]
    pub gamma: f64,
    /// Training batches that the gradient is taken over.
    #[serde(default = "batches")]
    pub batches: usize,
    /// What weight decay pulls both factors toward.
    #[serde(default = "toward_start")]
    pub weight_decay_toward: DecayToward,
}

fn gamma() -> f64 {
    16.0
}

fn batches() -> usize {
    8
}

fn toward_start() -> DecayToward {
    DecayToward::Start
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            direction: Direction::default(),
            scale: Scale::default(),
            gamma: gamma(),
            batches: batches(),
            weight_decay_toward: DecayToward::Start,
        }
    }
}

/// The trained factors and their frozen start.
pub type GradientInit = ResidualInit;

impl Spec {
    /// `A₀` and `B₀` by a gradient `[d_in, d_out]`.
    fn decompose(&self, gradient: &[f64], [d_in, d_out]: [usize; 2], rank: usize) -> Pair {
        let Ok(svd) = MatRef::from_row_major_slice(gradient, d_in, d_out).thin_svd() else {
            // Numbers that are not finite have no decomposition; a run's first step says so.
            return (vec![f64::NAN; d_in * rank], vec![f64::NAN; rank * d_out]);
        };
        let length = match self.scale {
            Scale::Stable => (d_out as f64).sqrt().sqrt() / self.gamma.sqrt(),
            Scale::Unit => 1.0,
        };
        let [of_a, of_b] = [0, 1].map(|factor| move |i| self.direction.components(i, rank)[factor]);
        let a = Mat::from_fn(d_in, rank, |row, i| length * svd.U()[(row, of_a(i))]);
        let b = Mat::from_fn(rank, d_out, |i, column| length * svd.V()[(column, of_b(i))]);
        (flat(a.as_ref()), flat(b.as_ref()))
    }
}

impl DeltaRecipe for Spec {
    type Delta = GradientInit;
    const PROVIDES: &'static [Capability] = residual_init::Spec::PROVIDES;
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::DrawnFactors, "which starts at a decomposition of the gradient")];
    const ROLES: &'static [Role] = residual_init::Spec::ROLES;
    const WIDTH: usize = residual_init::Spec::WIDTH;
    const EXACT_START: bool = residual_init::Spec::EXACT_START;

    fn check(&self) -> Vec<SpecProblem> {
        let is_positive = self.gamma.is_finite() && self.gamma > 0.0;
        let gamma = (!is_positive)
            .then(|| SpecProblem::new("gamma", format!("gamma is `{}`, but must be positive", self.gamma)));
        check_batches(self.batches).into_iter().chain(gamma).collect()
    }

    fn misfit(&self, rank: usize, [d_in, d_out]: [usize; 2]) -> Option<String> {
        let most = d_in.min(d_out) / 2;
        (rank > most).then(|| {
            format!(
                "`gradient_init` starts at twice as many components of its gradient as the rank, `{rank}`, which are more than there are; use at \
                 most {most}"
            )
        })
    }

    fn peft(&self) -> Option<PeftForm> {
        // PEFT takes the start off by its own calibration, which nobody can repeat.
        Some(PeftForm::DoubledLora { start: None })
    }

    fn calibration(&self) -> Option<Calibration> {
        Some(Calibration { statistic: Statistic::WeightGradient, batches: self.batches })
    }

    fn init(&self, at: &mut Site<'_>) -> GradientInit {
        if at.is_given() {
            return ResidualInit::given(at, self.weight_decay_toward);
        }
        let pairs = at.of_statistics(|gradient| self.decompose(&gradient.values(), at.shape, at.rank));
        let starts = pairs.iter().map(|pair| pair.as_deref().cloned()).collect();
        ResidualInit::starting_at(at, starts, self.weight_decay_toward)
    }
}
