//! Start at the principal directions of the inputs: `ΔW = s·A·B`, where `A` starts at the first right singular vectors of the inputs of a
//! map.
//!
//! With the inputs `X` `[n, d_in]` of the first training batches and `X = U·S·Vᵀ` (values descending), `A₀ = V` of components `1..=rank`,
//! `[d_in, rank]`, orthonormal, and `B₀ = 0` `[rank, d_out]`, so the start is the base. `A` is the projection of its rank that keeps most of
//! the inputs' square sum (§3.2). `V` holds the eigenvectors of `E[xᵀx]`, so the second moment is all that is taken of the inputs.
//!
//! | parameter | default | range | source |
//! |---|---|---|---|
//! | `batches` | 8 | from 1 | the paper goes on until the vectors change by less than `τ`; a stated number is the same for every run |
//! | `rho` | 1 | 1 | the paper's bound on a map's share of all ranks: 1 gives every map the rank as written |
//!
//! `A` and `B` train, `rank·(d_in + d_out)` numbers a map.
//!
//! **Departures.**
//! - Ranks are not redistributed among maps (the paper's `ρ > 1`): a run's ranks are part of its recipe, by which it is counted, sized and
//!   loaded before its data are read. Give maps their own by `rank_pattern`.
//! - The inputs are not centred, as in the paper's Algorithm 1. PEFT's incremental method subtracts their mean.
//! - Every token that is not padding counts. PEFT leaves out those of a prompt that is not learnt, by default.
//! - An embedding table has no inputs to project; adapters on tables start as LoRA's do.
//!
//! Paischer et al., *Parameter Efficient Fine-tuning via Explained Variance Adaptation*, NeurIPS 2025, arXiv:2410.07170, §3.2, Algorithm 1.

use faer::MatRef;
use serde::{Deserialize, Serialize};

use super::{DeltaRecipe, Site, low_rank::LowRank};
use crate::{
    calibration::{Calibration, Statistic, check_batches},
    capability::Capability,
    error::SpecProblem,
    init::AnyInit,
    peft::PeftForm,
    role::Role,
};

/// As written in YAML.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Training batches that the inputs are taken from.
    #[serde(default = "batches")]
    pub batches: usize,
    /// The most that a map's rank may be in units of the rank as written.
    #[serde(default = "rho")]
    pub rho: f64,
}

fn batches() -> usize {
    8
}

fn rho() -> f64 {
    1.0
}

impl Default for Spec {
    fn default() -> Self {
        Self { batches: batches(), rho: rho() }
    }
}

/// Two factors per run.
pub type InputInit = LowRank;

/// The first `rank` eigenvectors of a second moment `[d, d]`, as columns `[d, rank]`, row-major.
fn principal(second_moment: &[f64], d: usize, rank: usize) -> Vec<f64> {
    let Ok(svd) = MatRef::from_row_major_slice(second_moment, d, d).thin_svd() else {
        // Numbers that are not finite have no decomposition; a run's first step says so.
        return vec![f64::NAN; d * rank];
    };
    (0..d).flat_map(|row| (0..rank).map(move |i| (row, i))).map(|at| svd.U()[at]).collect()
}

impl DeltaRecipe for Spec {
    type Delta = InputInit;
    const PROVIDES: &'static [Capability] = &[Capability::TwoFactors, Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::DrawnFactors, "which starts at a decomposition of the inputs")];
    // On an embedding table both factors have the role `embedding`.
    const ROLES: &'static [Role] = &[Role::A, Role::B, Role::Embedding];

    fn check(&self) -> Vec<SpecProblem> {
        let rho = (self.rho.to_bits() != 1.0_f64.to_bits()).then(|| {
            let rule = format!(
                "rho is `{}`, but ranks are not redistributed by the inputs: a run's ranks are part of its recipe, by which it is counted and \
                 loaded before its data are read; write 1, and give maps their own rank by `rank_pattern`",
                self.rho
            );
            SpecProblem::new("rho", rule)
        });
        check_batches(self.batches).into_iter().chain(rho).collect()
    }

    fn peft(&self) -> Option<PeftForm> {
        Some(PeftForm::Lora)
    }

    fn calibration(&self) -> Option<Calibration> {
        Some(Calibration { statistic: Statistic::SecondMoment, batches: self.batches })
    }

    /// `‖a_k‖`: what a row of `B` is multiplied by.
    fn start_norm(&self, _init: &AnyInit, _rank: usize, _shape: [usize; 2]) -> Option<f64> {
        Some(1.0)
    }

    fn init(&self, at: &mut Site<'_>) -> InputInit {
        let ([d_in, d_out], rank) = (at.shape, at.rank);
        let b = at.zeros(rank, d_out);
        if at.is_given() {
            return LowRank { a: at.zeros(d_in, rank), b };
        }
        let vectors = at.of_statistics(|moment| principal(&moment.values(), d_in, rank));
        // A run without a statistic has its adapter put in later.
        let of_run = |run: Option<&Vec<f64>>| run.cloned().unwrap_or_else(|| vec![0.0; d_in * rank]);
        let a: Vec<f64> = vectors.iter().flat_map(|run| of_run(run.as_deref())).collect();
        LowRank { a: at.place.tensor(a, [vectors.len(), d_in, rank]), b }
    }
}
