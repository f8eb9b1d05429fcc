//! One frozen random pair for all maps, two trained vectors per map: `ΔW = s·A·diag(d)·B·diag(b)`.
//!
//! `A: [d_in, rank]` and `B: [rank, d_out]` are slices of one pair drawn for the widest map from
//! `projection_seed` (not the run's seed), kaiming uniform with gain √2 as PEFT draws it:
//! `U(±√(6/d_in_max))` and `U(±√(6/rank))`. They carry no runs axis: every run of a stack shares them. The
//! generator is portable, so a checkpoint needs the seed and a checksum, not the pair. Trained are
//! `d: [runs, 1, rank]`, which starts at `d_initial`, and `b: [runs, 1, d_out]`, which starts at zero:
//! `rank + d_out` parameters per map. Ranks above the map's width are legal.
//!
//! With `pair: kept` the map's slices of the pair belong to the adapter, frozen, and are saved with it: the form that an
//! adapter takes whose pair another program drew.
//!
//! **Weight decay** pulls both vectors toward 0, as any parameter of PEFT's (`weight_decay_toward: zero`). That takes nothing from the base:
//! with `d` and `b` the update goes to 0, and `W'` to `W0`, as LoRA's does. But `b` learns no faster than `d` lets it, so decay slows a run
//! down by what it takes off `d`'s first value; `start` pulls `d` toward `d_initial` (and `b` toward 0, where it starts).
//!
//! Kopiczko et al., *VeRA: Vector-based Random Matrix Adaptation*, ICLR 2024, arXiv:2310.11454, Eq. 2.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    error::SpecProblem,
    form::{Chain, Form},
    host::values,
    peft::PeftForm,
    role::{DecayToward, Param, Role},
    slot::copies,
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
    /// Where the pair lives.
    #[serde(default)]
    pub pair: Save,
    /// What weight decay pulls `d` toward.
    #[serde(default = "toward_zero")]
    pub weight_decay_toward: DecayToward,
}

/// Where the frozen pair lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Save {
    /// Drawn from `projection_seed` wherever it is needed; a saved adapter has its checksum.
    #[default]
    Seed,
    /// In the adapter, as tensors that do not train.
    #[serde(rename = "kept", alias = "saved")]
    Yes,
}

fn d_initial() -> f64 {
    0.1 // PEFT, vera/config.py
}

fn toward_zero() -> DecayToward {
    DecayToward::Zero
}

impl Default for Spec {
    fn default() -> Self {
        Self { projection_seed: 0, d_initial: d_initial(), pair: Save::Seed, weight_decay_toward: toward_zero() }
    }
}

/// The frozen pair of one map.
#[derive(Clone, Debug)]
pub enum Pair {
    /// Slices that every run shares: `A [d_in, rank]` and `B [rank, d_out]`.
    Shared(Tensor<2>, Tensor<2>),
    /// Each run's own: `A [runs, d_in, rank]` and `B [runs, rank, d_out]`.
    Saved(Tensor<3>, Tensor<3>),
}

/// A frozen pair and two vectors per run.
#[derive(Clone, Debug)]
pub struct SharedRandom {
    /// `A` and `B`.
    pub pair: Pair,
    /// Trained, `[runs, 1, rank]`.
    pub lambda_d: Tensor<3>,
    /// Trained, `[runs, 1, d_out]`.
    pub lambda_b: Tensor<3>,
    /// What weight decay pulls `d` toward, `[1, 1, rank]`; 0 where there is none.
    decay_target: Option<Tensor<3>>,
}

fn draw(seed: u64, name: &str, n: usize, fan_in: usize) -> Vec<f64> {
    stream::uniform(&mut stream::generator(seed, Stream::Init, name), n, (6.0 / fan_in as f64).sqrt())
}

/// `A [rank, d_in]`, row-major.
fn draw_a(seed: u64, rank: usize, d_in: usize) -> Vec<f64> {
    draw(seed, "vera.A", rank * d_in, d_in)
}

/// `B [d_out, rank]`, row-major.
fn draw_b(seed: u64, rank: usize, d_out: usize) -> Vec<f64> {
    draw(seed, "vera.B", d_out * rank, rank)
}

/// The pair of `seed` for maps up to `[d_in, d_out]`: `A [rank, d_in]` and `B [d_out, rank]`, row-major.
pub fn pair(seed: u64, rank: usize, [d_in, d_out]: [usize; 2]) -> [Vec<f64>; 2] {
    [draw_a(seed, rank, d_in), draw_b(seed, rank, d_out)]
}

impl DeltaRecipe for Spec {
    type Delta = SharedRandom;
    const RANK_BOUNDED: bool = false;
    // From a seed of its own.
    const PROVIDES: &'static [Capability] = &[];
    const LACKS: &'static [(Capability, &'static str)] = &[
        (Capability::OwnRanks, "whose random pair has one rank and is shared by all maps"),
        (Capability::DrawnFactors, "whose random pair has a seed and a distribution of its own"),
    ];
    const ROLES: &'static [Role] = &[Role::Vector, Role::Projection];

    fn check(&self) -> Vec<SpecProblem> {
        if self.d_initial.is_finite() && self.d_initial != 0.0 {
            return Vec::new();
        }
        let rule = format!(
            "d_initial is `{}`, but must be finite and not 0: with both vectors at 0 no gradient leaves 0",
            self.d_initial
        );
        vec![SpecProblem::new("d_initial", rule)]
    }

    fn peft(&self) -> Option<PeftForm> {
        Some(PeftForm::Vera(*self))
    }

    fn unrecorded(&self) -> &'static [&'static str] {
        self.weight_decay_toward.unrecorded()
    }

    fn init(&self, at: &mut Site<'_>) -> SharedRandom {
        let ([d_in, d_out], rank, runs) = (at.shape, at.rank, at.seeds.len());
        let pair = match self.pair {
            Save::Yes if at.is_given() => Pair::Saved(at.zeros(d_in, rank), at.zeros(rank, d_out)),
            Save::Yes => {
                let [a, b] = self.slices(at);
                Pair::Saved(copies(&a, runs), copies(&b, runs))
            }
            // No parameters: nobody could put them in.
            Save::Seed => {
                let [a, b] = self.slices(at);
                Pair::Shared(a, b)
            }
        };
        let lambda_d = at.zeros(1, rank) + self.d_initial; // [runs, 1, rank]
        let decay_target = self.weight_decay_toward.target(|| lambda_d.clone().slice([0..1]));
        SharedRandom { pair, lambda_d, lambda_b: at.zeros(1, d_out), decay_target }
    }
}

impl Spec {
    /// A map's slices of the pair, `[d_in, rank]` and `[rank, d_out]`.
    fn slices(&self, at: &mut Site<'_>) -> [Tensor<2>; 2] {
        let (rank, [d_in, d_out], widest, place) = (at.rank, at.shape, at.widest, at.place);
        let a = at.shared.get("vera.A", [widest[0], rank], || {
            place.tensor(draw_a(self.projection_seed, rank, widest[0]), [rank, widest[0]]).transpose()
        }); // [d_in_max, rank]
        let b = at.shared.get("vera.B", [rank, widest[1]], || {
            place.tensor(draw_b(self.projection_seed, rank, widest[1]), [widest[1], rank]).transpose()
        }); // [rank, d_out_max]
        // Slices are shared too: all maps of one shape hold the same tensor.
        let a = at.shared.get(&format!("vera.A.{d_in}"), [d_in, rank], || a.slice([0..d_in, 0..rank]));
        let b = at.shared.get(&format!("vera.B.{d_out}"), [rank, d_out], || b.slice([0..rank, 0..d_out]));
        [a, b]
    }
}

impl Delta for SharedRandom {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        let mut params = vec![
            Param::ranked("lambda_d", Role::Vector, 2, &mut self.lambda_d).decaying_toward(self.decay_target.clone()),
            Param::new("lambda_b", Role::Vector, &mut self.lambda_b),
        ];
        if let Pair::Saved(a, b) = &mut self.pair {
            params.push(Param::ranked("a", Role::Projection, 2, a));
            params.push(Param::ranked("b", Role::Projection, 1, b));
        }
        params
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let runs = self.lambda_d.dims()[0];
        let spread = |factor: &Tensor<2>| factor.clone().unsqueeze::<3>();
        let (down, up) = match &self.pair {
            // Every run's rows pass the same `A`; a view where the device has views.
            Pair::Shared(a, b) => (spread(a).expand([runs as i64, -1, -1]), spread(b)),
            Pair::Saved(a, b) => (a.clone(), b.clone()),
        };
        Form::LowRank(Chain { down, middle: self.lambda_d.clone() * gate.clone(), up: up * self.lambda_b.clone() })
    }

    fn checksum(&self) -> Option<String> {
        let Pair::Shared(a, b) = &self.pair else { return None };
        Some(checksum([a, b]))
    }
}

/// SHA-256 of frozen tensors one after the other, row by row.
pub(super) fn checksum<const N: usize>(tensors: [&Tensor<2>; N]) -> String {
    let mut hasher = Sha256::new();
    for number in tensors.into_iter().flat_map(values) {
        // As f32, so that the checksum does not depend on the precision of the run.
        hasher.update((number as f32).to_le_bytes());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
