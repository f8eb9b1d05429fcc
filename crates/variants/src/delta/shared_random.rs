//! One frozen random pair for all maps, two trained vectors per map: `ΔW = s·A·diag(d)·B·diag(b)`.
//!
//! `A: [d_in, rank]` and `B: [rank, d_out]` are slices of one pair drawn for the widest map from
//! `projection_seed` (not the run's seed), kaiming uniform with gain √2 as PEFT draws it:
//! `U(±√(6/d_in_max))` and `U(±√(6/rank))`. They carry no runs axis: every run of a stack shares them. The
//! generator is portable, so a checkpoint needs the seed and a checksum, not the pair. Trained are
//! `d: [runs, 1, rank]`, which starts at `d_initial`, and `b: [runs, 1, d_out]`, which starts at zero:
//! `rank + d_out` parameters per map. Ranks above the map's width are legal.
//!
//! Kopiczko et al., *VeRA: Vector-based Random Matrix Adaptation*, ICLR 2024, arXiv:2310.11454, Eq. 2.

use burn::tensor::{Tensor, module::linear};
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Factors, Site};
use crate::{
    preset::Preset,
    role::{Owned, Role},
    stream::{self, Stream},
};

/// What VeRA adds to rank and scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Seed of the shared pair; PEFT's `projection_prng_key`.
    #[serde(default)]
    pub projection_seed: u64,
    /// First value of `d`.
    #[serde(default = "d_initial")]
    pub d_initial: f64,
}

fn d_initial() -> f64 {
    0.1 // PEFT, vera/config.py
}

impl Default for Spec {
    fn default() -> Self {
        Self { projection_seed: 0, d_initial: d_initial() }
    }
}

/// A shared pair and two vectors per run.
#[derive(Clone, Debug)]
pub struct SharedRandom {
    /// Frozen and shared, `[d_in, rank]`.
    pub a: Tensor<2>,
    /// Frozen and shared, `[rank, d_out]`.
    pub b: Tensor<2>,
    /// Trained, `[runs, 1, rank]`.
    pub lambda_d: Tensor<3>,
    /// Trained, `[runs, 1, d_out]`.
    pub lambda_b: Tensor<3>,
}

/// VeRA is a preset over this form: see `presets/vera.rs`.
pub const PRESETS: &[Preset] = &[];

/// The pair of `seed` for maps up to `[d_in, d_out]`: `A [rank, d_in]` and `B [d_out, rank]`, row-major.
pub fn pair(seed: u64, rank: usize, [d_in, d_out]: [usize; 2]) -> [Vec<f64>; 2] {
    let draw = |name, n, fan_in: usize| {
        stream::uniform(&mut stream::generator(seed, Stream::Init, name), n, (6.0 / fan_in as f64).sqrt())
    };
    [draw("vera.A", rank * d_in, d_in), draw("vera.B", d_out * rank, rank)]
}

impl DeltaRecipe for Spec {
    type Delta = SharedRandom;
    const RANK_BOUNDED: bool = false;

    fn init(&self, at: &mut Site<'_>) -> SharedRandom {
        let (rank, [d_in, d_out], widest, place) = (at.rank, at.shape, at.widest, at.place);
        let make = |which: usize, shape: [usize; 2]| {
            let [a, b] = pair(self.projection_seed, rank, widest);
            place.tensor([a, b][which].clone(), shape).transpose()
        };
        let a = at.shared.get("vera.A", || make(0, [rank, widest[0]])); // [d_in_max, rank]
        let b = at.shared.get("vera.B", || make(1, [widest[1], rank])); // [rank, d_out_max]
        // Slices are shared too: all maps of one shape hold the same tensor.
        let a = at.shared.get(&format!("vera.A.{d_in}"), || a.slice([0..d_in, 0..rank]));
        let b = at.shared.get(&format!("vera.B.{d_out}"), || b.slice([0..rank, 0..d_out]));
        SharedRandom { a, b, lambda_d: at.zeros(1, rank) + self.d_initial, lambda_b: at.zeros(1, d_out) }
    }
}

impl Delta for SharedRandom {
    fn owned(&mut self) -> Vec<Owned<'_>> {
        vec![
            Owned::ranked("lambda_d", Role::Vector, 2, &mut self.lambda_d),
            Owned::new("lambda_b", Role::Vector, &mut self.lambda_b),
        ]
    }

    fn factors(&self, gate: &Tensor<3>) -> Factors {
        Factors {
            down: self.a.clone().unsqueeze::<3>() * (self.lambda_d.clone() * gate.clone()),
            up: self.b.clone().unsqueeze::<3>() * self.lambda_b.clone(),
        }
    }

    fn forward(&self, x: Tensor<3>, gate: &Tensor<3>) -> Tensor<3> {
        let hidden = linear(x, self.a.clone(), None) * (self.lambda_d.clone() * gate.clone()); // [runs, n, rank]
        linear(hidden, self.b.clone(), None) * self.lambda_b.clone() // [runs, n, d_out]
    }
}
