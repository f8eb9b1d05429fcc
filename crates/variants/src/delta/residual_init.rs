//! Residual initialisation: two trained factors minus their start, which is a part of `W0`: `ΔW = s·(A·B − A₀·B₀)`.
//!
//! Methods that start from a decomposition of the base train the part they took out and freeze the rest, the residual `W0 − s·A₀·B₀`.
//! Their codes overwrite the base with the residual. Here the base is never written and the start is subtracted instead, which is the same
//! map: any number of runs share one `W0`, merging is an addition, and the update is a LoRA of twice the rank wherever it goes,
//!
//! ```text
//! A·B − A₀·B₀ = (A − A₀)·B + A₀·(B − B₀) = [A − A₀, A₀]·[B; B − B₀]
//! ```
//!
//! The differences are taken in the precision that the factors train in, before anything is rounded to that of the base. Under bf16 the products
//! of the left-hand side would each be rounded to 8 bits and then cancel: where `A` has moved by 1%, the update would be wrong by a quarter,
//! as it is where the base is overwritten with its residual in bf16. In this form it is wrong by 0.3%, at the same cost.
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
//! **Weight decay** pulls `A` toward `A₀` and `B` toward `B₀` (`weight_decay_toward: start`), so that what is not trained stays at `W0`. The
//! released codes let it pull both factors toward 0 (`zero`), and `W'` then loses the part of the base that the factors hold: after `T`
//! steps without gradient `∏ₜ(1 − ηₜ·λ)²` of it is left, 0.42 by the recipe of LoRA's authors for CoLA (80 epochs at 4e-4, decay 0.1). The
//! authors of PiSSA train without decay, where both are the same.
//!
//! Dropout acts on the input of the complete update, so that a run starts at the base in expectation. The released codes drop only the
//! input of `A·B` and keep the residual's; at the dropout of 0 that PiSSA's authors use, both are the same.

use std::fmt::Debug;

use burn::tensor::Tensor;
use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    form::{Chain, Form},
    host::values,
    peft::PeftForm,
    role::{DecayToward, Param, Role},
};

/// What of the base the factors start at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Which decomposition, and which part of it.
    pub start: Start,
    /// What weight decay pulls both factors toward.
    #[serde(default = "toward_start")]
    pub weight_decay_toward: DecayToward,
}

fn toward_start() -> DecayToward {
    DecayToward::Start
}

impl Spec {
    /// This start, with weight decay toward it.
    pub fn at(start: Start) -> Self {
        Self { start, weight_decay_toward: toward_start() }
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self::at(Start::default())
    }
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
    weight_decay_toward: DecayToward,
}

/// `A₀ [d_in, rank]` and `B₀ [rank, d_out]`, row-major, in f64 on the host.
pub(super) type Pair = (Vec<f64>, Vec<f64>);

/// The numbers of a matrix, row-major.
pub(super) fn flat(m: MatRef<'_, f64>) -> Vec<f64> {
    (0..m.nrows()).flat_map(|row| (0..m.ncols()).map(move |column| m[(row, column)])).collect()
}

/// The pair whose product is that of `pair` at a scale, `s·A₀·B₀`: both factors by `1/√|s|`, a negative scale's sign in `B₀`.
pub(super) fn at_scale((a, b): &Pair, scale: f64) -> Pair {
    let root = scale.abs().sqrt().recip();
    let times = |part: &[f64], by: f64| part.iter().map(|value| value * by).collect();
    (times(a, root), times(b, scale.signum() * root))
}

/// `A₀` and `B₀` at `s = 1`.
fn decompose(weight: &[f64], [d_in, d_out]: [usize; 2], rank: usize, start: Start) -> Pair {
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
    (flat(a.as_ref()), flat(b.as_ref()))
}

impl ResidualInit {
    /// At a start per run; a run without one, whose adapter is put in later, is at zeros.
    pub(super) fn starting_at(at: &Site<'_>, starts: Vec<Option<Pair>>, weight_decay_toward: DecayToward) -> Self {
        let ([d_in, d_out], rank, runs) = (at.shape, at.rank, starts.len());
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for start in starts {
            let (down, up) = start.unwrap_or_else(|| (vec![0.0; d_in * rank], vec![0.0; rank * d_out]));
            a.extend(down);
            b.extend(up);
        }
        let (a, b) = (at.place.tensor(a, [runs, d_in, rank]), at.place.tensor(b, [runs, rank, d_out]));
        Self::minus_start(a, b, weight_decay_toward)
    }

    /// At zeros, in place of which everything is put in.
    pub(super) fn given(at: &Site<'_>, weight_decay_toward: DecayToward) -> Self {
        let ([d_in, d_out], rank) = (at.shape, at.rank);
        Self::minus_start(at.zeros(d_in, rank), at.zeros(rank, d_out), weight_decay_toward)
    }

    /// At these factors.
    pub(super) fn minus_start(a: Tensor<3>, b: Tensor<3>, weight_decay_toward: DecayToward) -> Self {
        Self { start_a: a.clone(), start_b: b.clone(), a, b, weight_decay_toward }
    }
}

impl DeltaRecipe for Spec {
    type Delta = ResidualInit;
    const PROVIDES: &'static [Capability] = &[Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::DrawnFactors, "which starts at a decomposition of the base")];
    const ROLES: &'static [Role] = &[Role::A, Role::B, Role::Projection];
    const WIDTH: usize = 2;
    const EXACT_START: bool = false;

    fn peft(&self) -> Option<PeftForm> {
        let start = match self.start {
            Start::Principal => Some("pissa"),
            Start::Minor => None,
            Start::Qr => Some("olora"),
        };
        Some(PeftForm::DoubledLora { start })
    }

    fn unrecorded(&self) -> &'static [&'static str] {
        self.weight_decay_toward.unrecorded()
    }

    fn init(&self, at: &mut Site<'_>) -> ResidualInit {
        if at.is_given() {
            return ResidualInit::given(at, self.weight_decay_toward);
        }
        let pair = decompose(&values(at.weight), at.shape, at.rank, self.start);
        // The product must give W0's part at the run's own scale. QR's part has no scale in the released code: `W0 − s·B·A`.
        let of_run = |scale: &f64| at_scale(&pair, if self.start == Start::Qr { 1.0 } else { *scale });
        let starts = at.scales.iter().map(|scale| Some(of_run(scale))).collect();
        ResidualInit::starting_at(at, starts, self.weight_decay_toward)
    }
}

impl Delta for ResidualInit {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        let [a, b] = [&self.start_a, &self.start_b].map(|start| self.weight_decay_toward.target(|| start.clone()));
        vec![
            Param::ranked("a", Role::A, 2, &mut self.a).decaying_toward(a),
            Param::ranked("b", Role::B, 1, &mut self.b).decaying_toward(b),
            Param::ranked("start_a", Role::Projection, 2, &mut self.start_a),
            Param::ranked("start_b", Role::Projection, 1, &mut self.start_b),
        ]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        // The differences first: what is cast to a lower precision afterwards no longer cancels.
        let moved_a = self.a.clone() - self.start_a.clone();
        let moved_b = self.b.clone() - self.start_b.clone();
        Form::LowRank(Chain {
            down: Tensor::cat(vec![moved_a, self.start_a.clone()], 2),
            middle: Tensor::cat(vec![gate.clone(), gate.clone()], 2),
            up: Tensor::cat(vec![self.b.clone(), moved_b], 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::{
        host::Placement,
        stream::{self, Stream},
    };

    const D: usize = 48;
    const RANK: usize = 4;

    fn drawn(name: &str, n: usize, std: f64) -> Vec<f64> {
        stream::normal(&mut stream::generator(3, Stream::Data, name), n, std)
    }

    /// `[rows, k]·[k, cols]`, in f64.
    fn product(a: &[f64], b: &[f64], k: usize) -> Vec<f64> {
        let (rows, cols) = (a.len() / k, b.len() / k);
        let at = |row: usize, col: usize| (0..k).map(|i| a[row * k + i] * b[i * cols + col]).sum();
        (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))).map(|(row, col)| at(row, col)).collect()
    }

    fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
        a.iter().zip(b).map(|(a, b)| a - b).collect()
    }

    fn norm(a: &[f64]) -> f64 {
        a.iter().map(|a| a * a).sum::<f64>().sqrt()
    }

    /// To the nearest number of bf16, ties to even.
    fn eight_bits(value: f64) -> f64 {
        let bits = (value as f32).to_bits();
        f64::from(f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000))
    }

    /// The error of the update where its factors are rounded to 8 bits and multiplied exactly, and that of `A·B − A₀·B₀` with the four of
    /// them rounded; `share` is how far `A` has moved.
    fn errors(share: f64, share_b: f64) -> [f64; 2] {
        let (start, up) = decompose(&drawn("w", D * D, 1.0), [D, D], RANK, Start::Principal);
        let away = |from: &[f64], name: &str, share: f64| -> Vec<f64> {
            from.iter().zip(drawn(name, from.len(), share)).map(|(value, by)| value * (1.0 + by)).collect()
        };
        let (a, b) = (away(&start, "a", share), away(&up, "b", share_b));
        let exact = minus(&product(&a, &b, RANK), &product(&start, &up, RANK));
        let place = Placement::new(&Device::flex(), DType::F32);
        let (tall, wide) = ([1, D, RANK], [1, RANK, D]);
        let delta = ResidualInit {
            a: place.tensor(a.clone(), tall),
            b: place.tensor(b.clone(), wide),
            start_a: place.tensor(start.clone(), tall),
            start_b: place.tensor(up.clone(), wide),
            weight_decay_toward: DecayToward::Start,
        };
        let rounded = |values: &[f64]| -> Vec<f64> { values.iter().map(|value| eight_bits(*value)).collect() };
        let base = place.zeros([1, 1]); // which the form does not read
        let Form::LowRank(chain) = delta.form(&(place.zeros([1, 1, RANK]) + 1.0), &base) else { panic!("low-rank") };
        let factors = chain.row_factors();
        let found = product(&rounded(&values(&factors.down)), &rounded(&values(&factors.up)), 2 * RANK);
        let [a, b, start, up] = [&a, &b, &start, &up].map(|factor| rounded(factor));
        let four = minus(&product(&a, &b, RANK), &product(&start, &up, RANK));
        [found, four].map(|found| norm(&minus(&found, &exact)) / norm(&exact))
    }

    #[test]
    fn eight_bits_are_enough_for_a_small_update() {
        for (share, share_b) in [(0.01, 0.0), (0.0, 0.01), (0.01, 0.01), (0.05, 0.0)] {
            let [found, four] = errors(share, share_b);
            println!(
                "A moved by {share}, B by {share_b}: {:.2}% off, {:.1}% by four rounded factors",
                100.0 * found,
                100.0 * four
            );
            // Two roundings to eight bits, of 2⁻⁹ at most and a third of that on average.
            assert!(found < 0.004, "{found} at {share}, {share_b}");
            assert!(four > 10.0 * found, "the error that this form avoids is there: {four} against {found}");
        }
    }

    /// The same update as that of the four factors, in f64.
    #[test]
    fn the_update_is_the_product_minus_the_start() {
        let place = Placement::new(&Device::flex(), DType::F64);
        let of = |name: &str, shape| place.tensor(drawn(name, D * RANK, 1.0), shape);
        let (tall, wide) = ([1, D, RANK], [1, RANK, D]);
        let delta = ResidualInit {
            a: of("a", tall),
            b: of("b", wide),
            start_a: of("a0", tall),
            start_b: of("b0", wide),
            weight_decay_toward: DecayToward::Start,
        };
        let wanted = delta.a.clone().matmul(delta.b.clone()) - delta.start_a.clone().matmul(delta.start_b.clone());
        let base = place.zeros([1, 1]); // which the form does not read
        let found = values(&delta.form(&(place.zeros([1, 1, RANK]) + 1.0), &base).dense(&base));
        for (found, wanted) in found.iter().zip(values(&wanted)) {
            assert!((found - wanted).abs() < 1e-12, "{found} is not {wanted}"); // sixteen products of numbers near 1
        }
    }
}
