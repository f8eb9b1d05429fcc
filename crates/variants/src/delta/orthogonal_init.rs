//! Two factors that both start at random numbers whose product is zero: `ΔW = s·A·B`.
//!
//! Of a random orthogonal matrix `Q: [rank, rank]`, `Q₁` are the rows with an even number, from 0, and `Q₂` the others; with `N₁: [d_in, rank/2]` and
//! `N₂: [rank/2, d_out]` from `N(0, 1)`
//!
//! ```text
//! A = N₁·Q₁/10      B = Q₂ᵀ·N₂/10      A·B = N₁·(Q₁·Q₂ᵀ)·N₂/100 = 0
//! ```
//!
//! so that both factors have a gradient from the first step on, and the start is the base to rounding. The rank is even. Rows pass `A` and `B`, which
//! train: `rank·(d_in + d_out)` numbers per map.
//!
//! PEFT's `init_lora_weights="orthogonal"`, after I. Datta, *Rethinking LoRA initialisation*, 2024.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{DeltaRecipe, Site, low_rank::LowRank};
use crate::{
    capability::Capability,
    init::{Init, orthonormal::Orthonormal},
    peft::PeftForm,
    role::Role,
    stream::{self, Stream},
};

/// No parameters of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

/// Two trained factors per run.
pub type OrthogonalInit = LowRank;

/// What the factors are divided by, in PEFT.
const SHRINK: f64 = 10.0;

impl DeltaRecipe for Spec {
    type Delta = OrthogonalInit;
    const PROVIDES: &'static [Capability] = &[Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::DrawnFactors, "whose factors have a distribution of their own")];
    const ROLES: &'static [Role] = &[Role::A, Role::B];
    const DRAWS: bool = true;
    const EXACT_START: bool = false;

    fn misfit(&self, rank: usize, _shape: [usize; 2]) -> Option<String> {
        let why = || format!("rank is `{rank}`, but half of its components are of either factor; use an even one");
        (!rank.is_multiple_of(2)).then(why)
    }

    fn peft(&self) -> Option<PeftForm> {
        Some(PeftForm::Lora)
    }

    fn init(&self, at: &mut Site<'_>) -> OrthogonalInit {
        let ([d_in, d_out], rank) = (at.shape, at.rank);
        if at.is_given() {
            return LowRank { a: at.zeros(d_in, rank), b: at.zeros(rank, d_out) };
        }
        let drawn: Vec<[Vec<f64>; 2]> = at.seeds.iter().map(|seed| pair(*seed, at.slot, rank, at.shape)).collect();
        let runs = drawn.len();
        let of = |which: usize, [rows, cols]: [usize; 2]| -> Tensor<3> {
            at.place.tensor(drawn.iter().flat_map(|pair| pair[which].iter().copied()).collect(), [runs, rows, cols])
        };
        LowRank { a: of(0, [d_in, rank]), b: of(1, [rank, d_out]) }
    }
}

/// `A [d_in, rank]` and `B [rank, d_out]` of one run, row-major.
fn pair(seed: u64, slot: &str, rank: usize, [d_in, d_out]: [usize; 2]) -> [Vec<f64>; 2] {
    let draws = |name: &str| stream::generator(seed, Stream::Init, &format!("{slot}.{name}"));
    let q = Orthonormal {}.components([rank, rank], rank, &mut draws("orthogonal"));
    let half = rank / 2;
    let (of_a, of_b) =
        (stream::normal(&mut draws("a"), d_in * half, 1.0), stream::normal(&mut draws("b"), half * d_out, 1.0));
    let (mut a, mut b) = (vec![0.0; d_in * rank], vec![0.0; rank * d_out]);
    for k in 0..half {
        for r in 0..rank {
            let [odd, even] = [2 * k, 2 * k + 1].map(|row| q[row * rank + r] / SHRINK);
            (0..d_in).for_each(|row| a[row * rank + r] += of_a[row * half + k] * odd);
            (0..d_out).for_each(|col| b[r * d_out + col] += even * of_b[k * d_out + col]);
        }
    }
    [a, b]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_zero_and_the_factors_are_not() {
        let (rank, [d_in, d_out]) = (6, [9, 7]);
        let [a, b] = pair(3, "map", rank, [d_in, d_out]);
        let square = |of: &[f64]| of.iter().map(|value| value * value).sum::<f64>() / of.len() as f64;
        // Numbers of half as many unit components, a tenth as large: a mean square of about 1/200.
        assert!((0.001..0.02).contains(&square(&a)) && (0.001..0.02).contains(&square(&b)));
        for row in 0..d_in {
            for col in 0..d_out {
                let product: f64 = (0..rank).map(|r| a[row * rank + r] * b[r * d_out + col]).sum();
                assert!(product.abs() < 1e-15, "{row}, {col}: {product:e}"); // six products of numbers below 0.3
            }
        }
    }
}
