//! Covariance-oriented start: the factors take the part of `W0` that matters most, or least, to the inputs of a map:
//! `ΔW = s·(A·B − A₀·B₀)`.
//!
//! With `C = E[xᵀx]` `[d_in, d_in]`, the second moment of the inputs over the first training batches, the paper decomposes the weight times it
//! and takes it out again (Eq. 2–5; there `W: [d_out, d_in]` and `SVD(W·C)`). In this layout (`x·W`, `W0: [d_in, d_out]`):
//!
//! ```text
//! C·W0 = V·S·Uᵀ   (thin, values descending)        W0 = Σᵢ Sᵢ·C⁻¹·vᵢ·uᵢᵀ
//! A₀ = C⁻¹·V_i·√(S_i/|s|)   [d_in, rank]           B₀ = ±√(S_i/|s|)·U_iᵀ   [rank, d_out], the sign that of s
//! ```
//!
//! | `mode` | the components `i` | what the batches are for |
//! |---|---|---|
//! | `instruction_previewed` (default, as in PEFT) | the first `rank` | the task to be learnt: its directions are what trains (IPM) |
//! | `knowledge_preserved` | the last `rank` | what is to be kept: the directions that they use most stay frozen (KPM) |
//!
//! | parameter | default | range | source |
//! |---|---|---|---|
//! | `mode` | `instruction_previewed` | the two above | PEFT's `corda_method` |
//! | `batches` | 8 | from 1 | 256 samples in §4.1; here batches are of `train.batch` examples, 32 by default |
//! | `damping` | 0.01 | above 0 | the released code: `C + damping·mean(diag C)·I` is what is inverted |
//!
//! `A` and `B` train, `rank·(d_in + d_out)` numbers a map. How the start is subtracted, saved and decayed toward is that of
//! [`residual_init`].
//!
//! **Departures.**
//! - Both modes are calibrated on the run's own first training batches. The paper calibrates KPM on questions of another data set, whose
//!   knowledge is to be kept; where the training data are not that, KPM keeps what the task's inputs use.
//! - `C` is divided by its mean diagonal. `A₀·B₀` and both spans do not depend on its unit, but the split between `A₀` and `B₀` does; the
//!   paper's sum over tokens and the released code's (of inputs over their largest number) would let it depend on the length of a batch.
//! - The released code doubles the damping while `‖C·C⁻¹ − I‖` exceeds 0.05 in f32. Everything here is in f64, where it is far below.
//!
//! Yang et al., *CorDA: Context-Oriented Decomposition Adaptation of Large Language Models for Task-Aware Parameter-Efficient Fine-tuning*,
//! NeurIPS 2024, arXiv:2406.05223, Eq. 2–5.

use faer::{Mat, MatRef, linalg::solvers::Solve};
use serde::{Deserialize, Serialize};

use super::{
    DeltaRecipe, Site,
    residual_init::{self, Pair, ResidualInit, at_scale, flat},
};
use crate::{
    calibration::{Calibration, Statistic, check_batches},
    capability::Capability,
    error::SpecProblem,
    host::values,
    peft::PeftForm,
    role::{DecayToward, Role},
};

/// Which end of the spectrum the factors start at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The largest values (IPM).
    #[default]
    InstructionPreviewed,
    /// The smallest values (KPM).
    KnowledgePreserved,
}

/// As written in YAML.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Which end of the spectrum the factors start at.
    #[serde(default)]
    pub mode: Mode,
    /// Training batches that the second moment is taken over.
    #[serde(default = "batches")]
    pub batches: usize,
    /// What is added to the diagonal of the second moment, in units of its mean diagonal.
    #[serde(default = "damping")]
    pub damping: f64,
    /// What weight decay pulls both factors toward.
    #[serde(default = "toward_start")]
    pub weight_decay_toward: DecayToward,
}

fn batches() -> usize {
    8
}

fn damping() -> f64 {
    0.01
}

fn toward_start() -> DecayToward {
    DecayToward::Start
}

impl Default for Spec {
    fn default() -> Self {
        Self { mode: Mode::default(), batches: batches(), damping: damping(), weight_decay_toward: DecayToward::Start }
    }
}

/// The trained factors and their frozen start.
pub type CovarianceInit = ResidualInit;

/// `C / mean(diag C) + damping·I`, `[d, d]`.
fn damped(second_moment: &[f64], d: usize, damping: f64) -> Mat<f64> {
    let moment = MatRef::from_row_major_slice(second_moment, d, d);
    let mean = (0..d).map(|i| moment[(i, i)]).sum::<f64>() / d as f64;
    Mat::from_fn(d, d, |row, column| moment[(row, column)] / mean + if row == column { damping } else { 0.0 })
}

/// `A₀` and `B₀` at `s = 1`, by the damped second moment.
fn decompose(weight: &[f64], [d_in, d_out]: [usize; 2], rank: usize, mode: Mode, covariance: &Mat<f64>) -> Pair {
    let weight = MatRef::from_row_major_slice(weight, d_in, d_out);
    let Ok(svd) = (covariance * weight).thin_svd() else {
        // Numbers that are not finite have no decomposition; a run's first step says so.
        return (vec![f64::NAN; d_in * rank], vec![f64::NAN; rank * d_out]);
    };
    let first = match mode {
        Mode::InstructionPreviewed => 0,
        Mode::KnowledgePreserved => d_in.min(d_out) - rank,
    };
    let root = |i: usize| svd.S().column_vector()[first + i].max(0.0).sqrt();
    let left = Mat::from_fn(d_in, rank, |row, i| svd.U()[(row, first + i)] * root(i));
    let a = covariance.partial_piv_lu().solve(&left);
    let b = Mat::from_fn(rank, d_out, |i, column| root(i) * svd.V()[(column, first + i)]);
    (flat(a.as_ref()), flat(b.as_ref()))
}

impl DeltaRecipe for Spec {
    type Delta = CovarianceInit;
    const PROVIDES: &'static [Capability] = residual_init::Spec::PROVIDES;
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::DrawnFactors, "which starts at a decomposition of the base and the inputs")];
    const ROLES: &'static [Role] = residual_init::Spec::ROLES;
    const WIDTH: usize = residual_init::Spec::WIDTH;
    const EXACT_START: bool = residual_init::Spec::EXACT_START;

    fn check(&self) -> Vec<SpecProblem> {
        let is_positive = self.damping.is_finite() && self.damping > 0.0;
        let damping = (!is_positive).then(|| {
            let rule =
                format!("damping is `{}`, but must be positive, or the second moment has no inverse", self.damping);
            SpecProblem::new("damping", rule)
        });
        check_batches(self.batches).into_iter().chain(damping).collect()
    }

    fn peft(&self) -> Option<PeftForm> {
        // PEFT takes the start off by its own calibration, which nobody can repeat.
        Some(PeftForm::DoubledLora { start: None })
    }

    fn calibration(&self) -> Option<Calibration> {
        Some(Calibration { statistic: Statistic::SecondMoment, batches: self.batches })
    }

    fn init(&self, at: &mut Site<'_>) -> CovarianceInit {
        if at.is_given() {
            return ResidualInit::given(at, self.weight_decay_toward);
        }
        let weight = values(at.weight);
        let pairs = at.of_statistics(|moment| {
            let covariance = damped(&moment.values(), at.shape[0], self.damping);
            decompose(&weight, at.shape, at.rank, self.mode, &covariance)
        });
        let starts = pairs.iter().zip(at.scales).map(|(pair, scale)| Some(at_scale(pair.as_deref()?, *scale)));
        ResidualInit::starting_at(at, starts.collect(), self.weight_decay_toward)
    }
}
