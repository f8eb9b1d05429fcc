//! One pair of factors for all layers, and two vectors per map: `ΔW = s·A·diag(u)·B·diag(v)`.
//!
//! Maps in the same place of different layers, and of one shape, own `A: [runs, d_in, rank]` and `B: [runs, rank, d_out]` together: a pair for all
//! queries, another for all values. `A` is drawn from the variant's `init` and `B` starts at zero, as LoRA's do. Every map has
//! `u: [runs, 1, rank]` and `v: [runs, 1, d_out]` of its own, which start at 1. The gradient of the pair is the sum over its maps, and a run
//! counts, clips, decays and saves it once.
//!
//! | field | default | source |
//! |---|---|---|
//! | `weight_decay_toward` | `start`: 1, for `u` and `v` | decay toward `zero` takes a map's update away, and with it what the pair learns |
//!
//! The paper's other configurations freeze some of the four: `train: {vector: {state: frozen}}` ties the pair alone, and a frozen pair with
//! trained vectors is [`shared_random`](super::shared_random).
//!
//! Renduchintala, Konuk and Kuchaiev, *Tied-LoRA: Enhancing parameter efficiency of LoRA with Weight Tying*, NAACL 2024, arXiv:2311.09578.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    form::{Chain, Form},
    init::{AnyInit, Init},
    role::{DecayToward, Param, Role, Tied},
};

/// As written in YAML.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What weight decay pulls the vectors toward.
    #[serde(default = "toward_start")]
    pub weight_decay_toward: DecayToward,
}

fn toward_start() -> DecayToward {
    DecayToward::Start
}

impl Default for Spec {
    fn default() -> Self {
        Self { weight_decay_toward: toward_start() }
    }
}

/// A pair that other maps refer to as well, and the map's own vectors.
#[derive(Clone, Debug)]
pub struct TiedLowRank {
    /// Down-projection, `[runs, d_in, rank]`.
    pub a: Tied,
    /// Up-projection, `[runs, rank, d_out]`.
    pub b: Tied,
    /// `[runs, 1, rank]`.
    pub u: Tensor<3>,
    /// `[runs, 1, d_out]`.
    pub v: Tensor<3>,
    weight_decay_toward: DecayToward,
}

impl DeltaRecipe for Spec {
    type Delta = TiedLowRank;
    const PROVIDES: &'static [Capability] = &[Capability::DrawnFactors];
    const LACKS: &'static [(Capability, &'static str)] = &[
        (Capability::OwnRanks, "whose factors have one rank and are tied between layers"),
        (Capability::OwnTensors, "whose factors are tied between layers"),
    ];
    const ROLES: &'static [Role] = &[Role::A, Role::B, Role::Vector];
    const TIED: bool = true;

    /// `‖a_k‖`, what a row of `B` is multiplied by.
    fn start_norm(&self, init: &AnyInit, rank: usize, [d_in, _]: [usize; 2]) -> Option<f64> {
        Some(init.std(d_in, rank) * (d_in as f64).sqrt())
    }

    fn init(&self, at: &mut Site<'_>) -> TiedLowRank {
        let ([d_in, d_out], owner) = (at.shape, at.kindred());
        let a = at.tied(&owner, "a", |at| at.drawn_of(&owner, "a", [d_in, at.rank]));
        let b = at.tied(&owner, "b", |at| at.zeros(at.rank, d_out));
        let one = |width| if at.is_given() { at.zeros(1, width) } else { at.zeros(1, width) + 1.0 };
        TiedLowRank { a, b, u: one(at.rank), v: one(d_out), weight_decay_toward: self.weight_decay_toward }
    }
}

impl Delta for TiedLowRank {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        let toward = self.weight_decay_toward;
        let start = |of: &Tensor<3>| toward.target(|| of.clone().without_autodiff().slice([0..1]).ones_like());
        let (of_u, of_v) = (start(&self.u), start(&self.v));
        vec![
            Param::ranked("a", Role::A, 2, &mut self.a.value).owned_by(&self.a.owner),
            Param::ranked("b", Role::B, 1, &mut self.b.value).owned_by(&self.b.owner),
            Param::ranked("u", Role::Vector, 2, &mut self.u).decaying_toward(of_u),
            Param::new("v", Role::Vector, &mut self.v).decaying_toward(of_v),
        ]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let (down, up) = (self.a.value.clone(), self.b.value.clone() * self.v.clone());
        Form::LowRank(Chain { down, middle: self.u.clone() * gate.clone(), up })
    }
}
