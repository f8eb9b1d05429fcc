//! Residual initialisation: two trained factors minus their start, which is a part of `W0`: `ΔW = s·(A·B − A₀·B₀)`.
//!
//! Methods that start from a decomposition of the base train the part they took out and freeze the rest, the residual `W0 − s·A₀·B₀`.
//! Their codes overwrite the base with the residual. Here the base is never written and the start is subtracted instead, which is the same
//! map: any number of runs share one `W0`, merging is an addition, and the update is a LoRA of twice the rank,
//! `s·[A, A₀]·[B; −B₀]`, wherever it goes.
//!
//! With `W0 = U·S·Vᵀ` (thin, values descending, `W0: [d_in, d_out]`) and `i` the components taken, the factors start at
//!
//! ```text
//! principal, minor:   A₀ = U_i·√(S_i/s)   [d_in, rank]      B₀ = √(S_i/s)·V_iᵀ   [rank, d_out]
//! qr:                 W0ᵀ = Q·R:   A₀ = R_iᵀ,   B₀ = Q_iᵀ
//! ```
//!
//! | start | `i` | source |
//! |---|---|---|
//! | `principal` | the first `rank` | PiSSA, Meng et al., NeurIPS 2024, arXiv:2404.02948, Eq. 2–4 |
//! | `minor` | the last `rank` | MiLoRA, Wang et al., NAACL 2025, arXiv:2406.09044, Eq. 4–6 |
//! | `qr` | the first `rank` | OLoRA, Büyükakyüz, 2024, arXiv:2406.01775, Algorithm 1 |
//!
//! Nothing is drawn: every seed starts at the same factors. `A₀` and `B₀` are frozen and saved with the adapter, because a decomposition
//! made on another machine differs in its last bits and may differ in signs.
//!
//! Dropout acts on the input of the complete update, so that a run starts at the base in expectation. The released codes drop only the
//! input of `A·B` and keep the residual's; at the dropout of 0 that PiSSA's authors use, both are the same.

use std::fmt::Debug;

use burn::tensor::Tensor;
use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};

use super::{Chain, Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    host::values,
    peft::PeftForm,
    role::{Param, Role},
};

/// What of the base the factors start at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Which decomposition, and which part of it.
    pub start: Start,
}

/// The part of `W0` that the factors start at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// The largest singular values.
    #[default]
    Principal,
    /// The smallest singular values.
    Minor,
    /// The first columns of `Q` and rows of `R`.
    #[serde(rename = "triangular", alias = "qr")]
    Qr,
}

/// Two trained factors per run and their frozen start.
#[derive(Clone, Debug)]
pub struct ResidualInit {
    /// Down-projection, `[runs, d_in, rank]`.
    pub a: Tensor<3>,
    /// Up-projection, `[runs, rank, d_out]`.
    pub b: Tensor<3>,
    /// `A₀`, frozen, `[runs, d_in, rank]`.
    pub start_a: Tensor<3>,
    /// `B₀`, frozen, `[runs, rank, d_out]`.
    pub start_b: Tensor<3>,
}

/// `A₀ [d_in, rank]` and `B₀ [rank, d_out]` at `s = 1`, row-major, in f64 on the host.
fn decompose(weight: &[f64], [d_in, d_out]: [usize; 2], rank: usize, start: Start) -> (Vec<f64>, Vec<f64>) {
    let weight = MatRef::from_row_major_slice(weight, d_in, d_out);
    let from_svd = |first: usize| {
        // A base with numbers that are not finite has no decomposition; its factors are not finite either, which a run's first step says.
        let Ok(svd) = weight.thin_svd() else {
            return (Mat::from_fn(d_in, rank, |_, _| f64::NAN), Mat::from_fn(rank, d_out, |_, _| f64::NAN));
        };
        let root = |i: usize| svd.S().column_vector()[first + i].max(0.0).sqrt();
        let a = Mat::from_fn(d_in, rank, |row, i| svd.U()[(row, first + i)] * root(i));
        let b = Mat::from_fn(rank, d_out, |i, column| root(i) * svd.V()[(column, first + i)]);
        (a, b)
    };
    let (a, b) = match start {
        Start::Principal => from_svd(0),
        Start::Minor => from_svd(d_in.min(d_out) - rank),
        Start::Qr => {
            let qr = weight.transpose().qr();
            let (q, r) = (qr.compute_thin_Q(), qr.thin_R());
            let a = Mat::from_fn(d_in, rank, |row, i| r[(i, row)]);
            (a, Mat::from_fn(rank, d_out, |i, column| q[(column, i)]))
        }
    };
    let flat = |m: &Mat<f64>| {
        (0..m.nrows()).flat_map(|row| (0..m.ncols()).map(move |column| (row, column))).map(|at| m[at]).collect()
    };
    (flat(&a), flat(&b))
}

impl DeltaRecipe for Spec {
    type Delta = ResidualInit;
    const PROVIDES: &'static [Capability] = &[Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::DrawnFactors, "which starts at a decomposition of the base")];
    const ROLES: &'static [Role] = &[Role::A, Role::B, Role::Projection];
    const WIDTH: usize = 2;

    fn peft(&self) -> Option<PeftForm> {
        let start = match self.start {
            Start::Principal => Some("pissa"),
            Start::Minor => None,
            Start::Qr => Some("olora"),
        };
        Some(PeftForm::DoubledLora { start })
    }

    fn init(&self, at: &mut Site<'_>) -> ResidualInit {
        let ([d_in, d_out], rank) = (at.shape, at.rank);
        if at.is_given() {
            let (a, b) = (at.zeros(d_in, rank), at.zeros(rank, d_out));
            return ResidualInit { start_a: a.clone(), start_b: b.clone(), a, b };
        }
        let (a, b) = decompose(&values(at.weight), at.shape, rank, self.start);
        let runs = at.scales.len();
        // The product must give W0's part at the run's own scale, a negative one's sign in B. QR's part has no scale in the released
        // code: `W0 − s·B·A`.
        let root = |scale: &f64| if self.start == Start::Qr { 1.0 } else { scale.abs().sqrt().recip() };
        let sign = |scale: &f64| if self.start == Start::Qr { 1.0 } else { scale.signum() };
        let stacked = |part: &[f64], shape, share: &dyn Fn(&f64) -> f64| {
            let all = at.scales.iter().flat_map(|scale| part.iter().map(move |value| value * share(scale)));
            at.place.tensor(all.collect(), shape)
        };
        let a = stacked(&a, [runs, d_in, rank], &root);
        let b = stacked(&b, [runs, rank, d_out], &|scale| sign(scale) * root(scale));
        ResidualInit { start_a: a.clone(), start_b: b.clone(), a, b }
    }
}

impl Delta for ResidualInit {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![
            Param::ranked("a", Role::A, 2, &mut self.a),
            Param::ranked("b", Role::B, 1, &mut self.b),
            Param::ranked("start_a", Role::Projection, 2, &mut self.start_a),
            Param::ranked("start_b", Role::Projection, 1, &mut self.start_b),
        ]
    }

    fn chain(&self, gate: &Tensor<3>) -> Chain {
        // One product of both terms, so that equal ones cancel before they are rounded to a lower precision.
        Chain {
            down: Tensor::cat(vec![self.a.clone(), self.start_a.clone()], 2),
            middle: Tensor::cat(vec![gate.clone(), gate.clone()], 2),
            up: Tensor::cat(vec![self.b.clone(), self.start_b.clone().neg()], 1),
        }
    }
}
