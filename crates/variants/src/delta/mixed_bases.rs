//! Two factors that are mixtures of fixed random ones: `ΔW = s·(A₀ + Σₖ αₖ·Aₖ)·(Σₖ βₖ·Bₖ)`.
//!
//! `A₀` and the bases `Aₖ: [d_in, rank]` and `Bₖ: [rank, d_out]`, `k` from 1 to `bases`, are frozen; the coefficients `α` and `β`
//! `[runs, 1, bases]` train and start at zero: `2·bases` numbers per map, whatever its widths and the rank. At the start the second factor is zero
//! and the first is `A₀`, so `β` has a gradient from the first step on.
//!
//! All frozen tensors are drawn for the widest map from `projection_seed` (not the run's seed) and shared by all maps and runs; a map takes
//! the first rows of its width. `A₀` is `U(±1/√d_in)`, as LoRA's `A` is drawn, and the bases `U(±1/√bases)`, both of the widest map. The generator
//! is portable, so a checkpoint needs the seed and a checksum. Forming both factors takes `bases·rank·(d_in + d_out)` products a step and run;
//! the rows then pass them as LoRA's.
//!
//! Koohpayegani et al., *NOLA: Compressing LoRA using Linear Combination of Random Basis*, ICLR 2024, arXiv:2310.02556, Eq. 3, with the first values
//! of the authors' code for language models.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site, shared_random::checksum};
use crate::{
    capability::Capability,
    error::SpecProblem,
    form::{Chain, Form},
    role::{Param, Role},
    stream::{self, Stream},
};

/// How many bases there are and which.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Bases of each factor.
    #[serde(default = "bases")]
    pub bases: usize,
    /// Seed of everything that is frozen.
    #[serde(default)]
    pub projection_seed: u64,
}

fn bases() -> usize {
    128 // the authors' code for quantised LLaMA
}

impl Default for Spec {
    fn default() -> Self {
        Self { bases: bases(), projection_seed: 0 }
    }
}

/// Frozen bases and their coefficients per run.
#[derive(Clone, Debug)]
pub struct MixedBases {
    /// `A₀`, `[rank, d_in]`.
    start: Tensor<2>,
    /// The `Aₖ`, turned, row by row, `[bases, rank·d_in]`.
    of_a: Tensor<2>,
    /// The `Bₖ` row by row, `[bases, rank·d_out]`.
    of_b: Tensor<2>,
    /// Coefficients of the `Aₖ`, `[runs, 1, bases]`.
    pub alpha: Tensor<3>,
    /// Coefficients of the `Bₖ`, `[runs, 1, bases]`.
    pub beta: Tensor<3>,
}

/// What is frozen of `seed` for maps up to `[d_in, d_out]`: `A₀ [rank, d_in]`, the `Aₖ` `[bases·rank, d_in]` and the `Bₖ` `[bases·rank, d_out]`,
/// row-major.
pub fn frozen(seed: u64, bases: usize, rank: usize, [d_in, d_out]: [usize; 2]) -> [Vec<f64>; 3] {
    let draw = |name, n, bound| stream::uniform(&mut stream::generator(seed, Stream::Init, name), n, bound);
    let share = 1.0 / (bases as f64).sqrt();
    [
        draw("nola.A0", rank * d_in, 1.0 / (d_in as f64).sqrt()),
        draw("nola.A", bases * rank * d_in, share),
        draw("nola.B", bases * rank * d_out, share),
    ]
}

impl DeltaRecipe for Spec {
    type Delta = MixedBases;
    const PROVIDES: &'static [Capability] = &[];
    const LACKS: &'static [(Capability, &'static str)] = &[
        (Capability::OwnRanks, "whose random bases have one rank and are shared by all maps"),
        (Capability::DrawnFactors, "whose random bases have a seed and a distribution of their own"),
    ];
    const ROLES: &'static [Role] = &[Role::Vector];

    fn check(&self) -> Vec<SpecProblem> {
        match self.bases {
            0 => vec![SpecProblem::new("bases", "bases is `0`, but must be at least 1, or nothing trains")],
            _ => Vec::new(),
        }
    }

    fn init(&self, at: &mut Site<'_>) -> MixedBases {
        let ([d_in, d_out], rank, bases, place) = (at.shape, at.rank, self.bases, at.place);
        let [widest_in, widest_out] = at.widest;
        let of = |part: usize| std::mem::take(&mut frozen(self.projection_seed, bases, rank, at.widest)[part]);
        let start = at.shared.get("nola.A0", [rank, widest_in], || place.tensor(of(0), [rank, widest_in]));
        let of_a =
            at.shared.get("nola.A", [bases * rank, widest_in], || place.tensor(of(1), [bases * rank, widest_in]));
        let of_b =
            at.shared.get("nola.B", [bases * rank, widest_out], || place.tensor(of(2), [bases * rank, widest_out]));
        // Slices are shared too: all maps of one width hold the same tensors.
        let cut = |all: Tensor<2>, width: usize| all.slice([0..bases * rank, 0..width]).reshape([bases, rank * width]);
        MixedBases {
            start: at.shared.get(&format!("nola.A0.{d_in}"), [rank, d_in], || start.slice([0..rank, 0..d_in])),
            of_a: at.shared.get(&format!("nola.A.{d_in}"), [bases, rank * d_in], || cut(of_a, d_in)),
            of_b: at.shared.get(&format!("nola.B.{d_out}"), [bases, rank * d_out], || cut(of_b, d_out)),
            alpha: at.zeros(1, bases),
            beta: at.zeros(1, bases),
        }
    }
}

/// `Σₖ cₖ·Mₖ`, `[runs, rank, width]`, of coefficients `[runs, 1, bases]` and matrices `[bases, rank·width]`.
fn mixture(coefficients: &Tensor<3>, matrices: &Tensor<2>, rank: usize) -> Tensor<3> {
    let [runs, _, bases] = coefficients.dims();
    let [_, n] = matrices.dims();
    coefficients.clone().reshape([runs, bases]).matmul(matrices.clone()).reshape([runs, rank, n / rank])
}

impl Delta for MixedBases {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::new("alpha", Role::Vector, &mut self.alpha), Param::new("beta", Role::Vector, &mut self.beta)]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let [rank, _] = self.start.dims();
        let a = mixture(&self.alpha, &self.of_a, rank) + self.start.clone().unsqueeze::<3>();
        Form::LowRank(Chain {
            down: a.swap_dims(1, 2),
            middle: gate.clone(),
            up: mixture(&self.beta, &self.of_b, rank),
        })
    }

    fn checksum(&self) -> Option<String> {
        Some(checksum([&self.start, &self.of_a, &self.of_b]))
    }
}
