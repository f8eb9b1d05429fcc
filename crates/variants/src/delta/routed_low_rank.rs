//! Several low-rank updates, mixed anew for every row: `ΔW(x) = s·Σᵢ ωᵢ(x)·Aᵢ·Bᵢ` with `ω(x) = softmax(x·R)`.
//!
//! The router `R: [runs, d_in, experts]` is drawn `U(±1/√d_in)`, as torch draws a linear map's weight. With `down: shared` all experts have one
//! `A: [runs, d_in, rank]`; with `own` each has its own, `A: [runs, experts·d_in, rank]` with the experts' below one another. `A` is drawn by `init`, and
//! `B: [runs, rank, experts·d_out]`, the experts' concatenated, starts at zero: the start is the base, and the router has no gradient before `B`
//! has moved. The router sees the input as it is, the experts see it after dropout.
//!
//! A row costs `rank·(d_in + experts·d_out)` products with a shared `A`, `experts·rank·(d_in + d_out)` with own ones, and `d_in·experts` for its
//! weights. There is no matrix that all rows share, so nothing is merged.
//!
//! | field | default | source |
//! |---|---|---|
//! | `experts` | 3 | ours; 2 in the authors' code for HydraLoRA, 4 in its script |
//! | `down` | `shared` | HydraLoRA |

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    error::SpecProblem,
    form::{Experts, Form, Routed},
    init::{AnyInit, Init},
    role::{Param, Role},
    stream,
};

/// How many experts there are, and what they share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Experts of a map.
    #[serde(default = "experts")]
    pub experts: usize,
    /// Whether the experts of a map share their down-projection.
    #[serde(default)]
    pub down: Down,
}

/// The experts' down-projections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Down {
    /// One for all.
    #[default]
    Shared,
    /// One each.
    Own,
}

fn experts() -> usize {
    3
}

impl Default for Spec {
    fn default() -> Self {
        Self { experts: experts(), down: Down::default() }
    }
}

/// Experts of two factors and their router, per run.
#[derive(Clone, Debug)]
pub struct RoutedLowRank {
    /// `R`, `[runs, d_in, experts]`.
    pub router: Tensor<3>,
    /// Down-projections, `[runs, d_in, rank]` or `[runs, experts·d_in, rank]`.
    pub a: Tensor<3>,
    /// Up-projections, `[runs, rank, experts·d_out]`.
    pub b: Tensor<3>,
}

/// A router of rows of this width as torch draws a linear map's weight, `[runs, width, experts]`.
pub(super) fn router(at: &Site<'_>, width: usize, experts: usize) -> Tensor<3> {
    let bound = 1.0 / (width as f64).sqrt();
    at.drawn_by(&format!("{}.router", at.slot), [experts, width], |rng, n| stream::uniform(rng, n, bound)).swap_dims(1, 2)
}

/// The rule that a mixture has something to mix.
pub(super) fn check_experts(experts: usize) -> Vec<SpecProblem> {
    match experts {
        0 => vec![SpecProblem::new("experts", "experts is `0`, but must be at least 1, or nothing trains")],
        _ => Vec::new(),
    }
}

impl DeltaRecipe for Spec {
    type Delta = RoutedLowRank;
    const PROVIDES: &'static [Capability] = &[Capability::DrawnFactors, Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::Mergeable, "whose experts every token weighs anew")];
    const LOW_RANK: bool = false;
    const ROUTED: bool = true;
    const ROLES: &'static [Role] = &[Role::Router, Role::A, Role::B];

    fn check(&self) -> Vec<SpecProblem> {
        check_experts(self.experts)
    }

    fn components(&self, rank: usize) -> usize {
        self.experts * rank
    }

    /// `‖a_k‖`, what a row of a `B` is multiplied by, at the weights of an even router.
    fn start_norm(&self, init: &AnyInit, rank: usize, [d_in, _]: [usize; 2]) -> Option<f64> {
        Some(init.std(d_in, rank) * (d_in as f64).sqrt() / self.experts as f64)
    }

    fn init(&self, at: &mut Site<'_>) -> RoutedLowRank {
        let ([d_in, d_out], rank) = (at.shape, at.rank);
        let a = match self.down {
            Down::Shared => at.drawn("a", d_in),
            // The first expert's is that of one alone.
            Down::Own => {
                let name = |expert: usize| if expert == 0 { "a".to_owned() } else { format!("a.{expert}") };
                Tensor::cat((0..self.experts).map(|expert| at.drawn(&name(expert), d_in)).collect(), 1)
            }
        };
        RoutedLowRank { router: router(at, d_in, self.experts), a, b: at.zeros(rank, self.experts * d_out) }
    }
}

impl Delta for RoutedLowRank {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![
            Param::new("router", Role::Router, &mut self.router),
            Param::ranked("a", Role::A, 2, &mut self.a),
            Param::ranked("b", Role::B, 1, &mut self.b),
        ]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let ([runs, d_in, experts], [_, rows, rank]) = (self.router.dims(), self.a.dims());
        let [_, _, columns] = self.b.dims();
        let up = self.b.clone() * gate.clone().swap_dims(1, 2);
        let up = up.reshape([runs, rank, experts, columns / experts]).swap_dims(1, 2);
        let down = if rows == d_in {
            self.a.clone()
        } else {
            let each = self.a.clone().reshape([runs, experts, d_in, rank]).swap_dims(1, 2);
            each.reshape([runs, d_in, experts * rank])
        };
        let up = up.reshape([runs, experts * rank, columns / experts]);
        Form::Routed(Routed { router: self.router.clone(), experts: Experts::LowRank { down, up } })
    }
}
