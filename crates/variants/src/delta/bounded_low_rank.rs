//! Two trained factors whose directions count and not their lengths, with a trained bound: every component of the update has the same size.
//!
//! ```text
//! D(A, B) = diag(n)·Σ_i 1/r·(a_i/‖a_i‖)·(b_i/‖b_i‖)      n_j = ‖W0[j, :]‖, the norms of the base's rows, one an input
//! ΔW = s·λ·(D(A, B) − D(A₀, B₀))
//! ```
//!
//! `A: [runs, d_in, r]` with columns `a_i`, `B: [runs, r, d_out]` with rows `b_i` and the bound `λ: [runs, 1, 1]` all train. Without the norms
//! of the base `‖λ·D‖` is `λ` at most, whatever the learning rate. As in the authors' code the trained bound multiplies the frozen start too,
//! so that weight decay, which pulls `λ` toward 0, pulls the weight toward the base; the bound's first gradient is 0. Differences are taken in
//! the precision that the factors train in, as in [`residual_init`](super::residual_init): with `D = P·Q`,
//! `P·Q − P₀·Q₀ = [P − P₀, P₀]·[Q; Q − Q₀]`.
//!
//! | `start` | | |
//! |---|---|---|
//! | `subtracted`, the paper's | both factors drawn from the variant's `init`, `A₀`, `B₀` frozen and saved | starts at the base to rounding; rank `2r` at most |
//! | `zero`, PEFT's | `B` starts at 0 and nothing is subtracted | rank `r` at most |
//!
//! A norm below 1e-4 counts as 1e-4, as in PEFT. From a `B` of zeros the first gradient is therefore ten thousand times as large as the next
//! ones, and Adam, whose second moment forgets in a thousand steps, holds `B` still for several thousand. That is why `subtracted` is the
//! default.
//!
//! | field | default | source |
//! |---|---|---|
//! | `initial_bound` | 15 | PEFT's `delora_lambda` |
//!
//! Bini et al., *DeLoRA: Decoupling Angles and Strength in Low-rank Adaptation*, ICLR 2025, arXiv:2503.18225.

use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    error::SpecProblem,
    form::{Chain, Form},
    host::{cast, values},
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerConstant, TunerTensor},
    role::{Param, Role},
};

/// Where factors and bound start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// First value of `λ`.
    #[serde(default = "initial_bound")]
    pub initial_bound: f64,
    /// First values of the factors.
    #[serde(default)]
    pub start: Start,
}

/// Where the factors start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At draws, whose update is subtracted.
    #[default]
    Subtracted,
    /// `B` at 0.
    Zero,
}

fn initial_bound() -> f64 {
    15.0 // PEFT, delora/config.py
}

impl Default for Spec {
    fn default() -> Self {
        Self { initial_bound: initial_bound(), start: Start::default() }
    }
}

/// Two factors and a bound per run.
#[derive(Clone, Debug)]
pub struct BoundedLowRank {
    /// `[runs, d_in, r]`
    pub a: Tensor<3>,
    /// `[runs, r, d_out]`
    pub b: Tensor<3>,
    /// `λ`, `[runs, 1, 1]`.
    pub bound: Tensor<3>,
    /// `A₀`, `B₀`, frozen, where the start is subtracted.
    start: Option<[Tensor<3>; 2]>,
    /// Norms of the base's rows, `[1, d_in, 1]`.
    norms: Tensor<3>,
}

/// The square of the least norm that a direction is divided by: PEFT's `clamp(min=1e-4)`.
const FLOOR: f64 = 1e-8;

/// Vectors along `axis` at length 1, or shorter where they are below 1e-4. The square is floored and not its root, which has no gradient at 0.
fn directions(of: &Tensor<3>, axis: usize) -> Tensor<3> {
    of.clone() / of.clone().square().sum_dim(axis).clamp_min(FLOOR).sqrt()
}

impl DeltaRecipe for Spec {
    type Delta = BoundedLowRank;
    const PROVIDES: &'static [Capability] = &[Capability::DrawnFactors, Capability::OwnRanks];
    const ROLES: &'static [Role] = &[Role::A, Role::B, Role::Bound, Role::Projection];
    const EXACT_START: bool = false;

    fn check(&self) -> Vec<SpecProblem> {
        if self.initial_bound.is_finite() && self.initial_bound != 0.0 {
            return Vec::new();
        }
        let rule =
            format!("initial_bound is `{}`, but must be finite and not 0, where nothing trains", self.initial_bound);
        vec![SpecProblem::new("initial_bound", rule)]
    }

    fn components(&self, rank: usize) -> usize {
        match self.start {
            Start::Subtracted => 2 * rank,
            Start::Zero => rank,
        }
    }

    /// PEFT's components are what `zero` has; a start that is subtracted is as many more of them.
    fn peft(&self) -> Option<PeftForm> {
        let fields = vec![
            ("r", Field::Rank),
            ("rank_pattern", Field::RankPattern),
            ("delora_lambda", Field::Passive(json!(self.initial_bound))),
            ("lambda_pattern", Field::Passive(json!({}))),
            ("module_dropout", Field::Dropout),
            ("init_weights", Field::Passive(json!(true))),
        ];
        let tuner = Tuner { peft_type: "DELORA", fields };
        Some(match self.start {
            Start::Zero => PeftForm::Tuner(tuner),
            Start::Subtracted => PeftForm::DoubledTuner(tuner),
        })
    }

    fn for_peft(&self, _maps: &[TunedMap<'_>]) -> Result<Self, String> {
        Ok(Self { start: Start::Zero, ..*self })
    }

    fn peft_tensors(&self, _map: TunedMap<'_>) -> Vec<TunerTensor> {
        vec![
            TunerTensor::transposed("a", "delora_A"),
            TunerTensor::transposed("b", "delora_B"),
            TunerTensor::shaped("bound", "delora_lambda", [1]),
        ]
    }

    /// The norms of the base's rows, which PEFT saves.
    fn peft_of_base(&self, weight: &Tensor<2>) -> Vec<TunerConstant> {
        let norms = cast(weight, DType::F32).square().sum_dim(1).sqrt();
        let [d_in, _] = weight.dims();
        let (theirs, numbers) = ("delora_w_norm", values(&norms));
        vec![TunerConstant { theirs, shape: vec![d_in], numbers, is_whole: false }]
    }

    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        config.is("DELORA").then(|| Self { start: Start::Zero, ..Self::default() })
    }

    fn init(&self, at: &mut Site<'_>) -> BoundedLowRank {
        let [d_in, d_out] = at.shape;
        let norms = cast(at.weight, at.place.dtype).square().sum_dim(1).sqrt().unsqueeze::<3>(); // [1, d_in, 1]
        let a = at.drawn("a", d_in);
        let (b, start) = match self.start {
            Start::Subtracted => {
                let b = at.drawn("b", d_out).swap_dims(1, 2);
                (b.clone(), Some([a.clone(), b]))
            }
            Start::Zero => (at.zeros(at.rank, d_out), None),
        };
        let bound = at.zeros(1, 1);
        let bound = if at.is_given() { bound } else { bound + self.initial_bound };
        BoundedLowRank { a, b, bound, start, norms }
    }
}

impl Delta for BoundedLowRank {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        let mut params = vec![
            Param::ranked("a", Role::A, 2, &mut self.a),
            Param::ranked("b", Role::B, 1, &mut self.b),
            Param::new("bound", Role::Bound, &mut self.bound),
        ];
        if let Some([a, b]) = &mut self.start {
            params.push(Param::ranked("start_a", Role::Projection, 2, a));
            params.push(Param::ranked("start_b", Role::Projection, 1, b));
        }
        params
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let [_, _, rank] = self.a.dims();
        // The share of a component is taken of what does not train: a gradient through a quotient by a number is rounded to f32.
        let norms = self.norms.clone() / rank as f64;
        let scaled = |a: &Tensor<3>| directions(a, 1) * norms.clone();
        let (p, q) = (scaled(&self.a), directions(&self.b, 2));
        let gate = gate.clone() * self.bound.clone();
        let Some([a, b]) = &self.start else {
            return Form::LowRank(Chain { down: p, middle: gate, up: q });
        };
        // The differences first: what is cast to a lower precision afterwards no longer cancels.
        let (start_p, start_q) = (scaled(a), directions(b, 2));
        Form::LowRank(Chain {
            down: Tensor::cat(vec![p - start_p.clone(), start_p], 2),
            middle: Tensor::cat(vec![gate.clone(), gate], 2),
            up: Tensor::cat(vec![q.clone(), q - start_q], 1),
        })
    }
}
