//! A few trained coefficients of the two-dimensional Fourier transform of `ΔW`.
//!
//! With `n` places `(j_e, k_e)` of the spectrum and their coefficients `c_e`, the real part of the inverse transform is
//!
//! ```text
//! ΔW[q, p] = s/(d_in·d_out)·Σ_e c_e·cos(2π·(p·j_e/d_out + q·k_e/d_in))
//!          = s/(d_in·d_out)·Σ_e c_e·(cos(2πq·k_e/d_in)·cos(2πp·j_e/d_out) − sin(2πq·k_e/d_in)·sin(2πp·j_e/d_out))
//! ```
//!
//! that is `down·diag(c, c)·up` with two waves a coefficient, `down: [d_in, 2n]` and `up: [2n, d_out]`. No transform is computed and no spectrum
//! is formed; `ΔW` is, by `2n·d_in·d_out` multiplications a step, because `n` is above the map's widths as a rule.
//!
//! `rank` is the number `n` of coefficients, `1..=d_in·d_out`; the rank of `ΔW` is at most `2n`. Trained is `coefficients: [runs, 1, n]`, which
//! starts at 0. The places are drawn without repetition from `places_seed` (not the run's seed): maps of one shape have the same, as in the paper
//! and in PEFT, and runs share them. The generator is portable, so an adapter has the seed and a checksum, not the places.
//!
//! | field | default | source |
//! |---|---|---|
//! | `places_seed` | 777 | PEFT's `random_loc_seed`; torch's generator draws other places from it |
//!
//! Gao et al., *Parameter-Efficient Fine-Tuning with Discrete Fourier Transform*, ICML 2024, arXiv:2405.03003, Eq. 2–4.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Delta, DeltaRecipe, Site, block_rotation::WHOLE};
use crate::{
    capability::{Capability, Requirement},
    form::Form,
    role::{Param, Role},
    stream::{self, Stream},
};

/// Where the places are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Seed of the places.
    #[serde(default = "places_seed")]
    pub places_seed: u64,
}

fn places_seed() -> u64 {
    777 // PEFT, fourierft/config.py
}

impl Default for Spec {
    fn default() -> Self {
        Self { places_seed: places_seed() }
    }
}

/// Coefficients per run, and the waves that all runs share.
#[derive(Clone, Debug)]
pub struct Fourier {
    /// `c`, `[runs, 1, n]`.
    pub coefficients: Tensor<3>,
    /// Waves of the inputs, `[d_in, 2n]`.
    down: Tensor<2>,
    /// Waves of the outputs over `d_in·d_out`, `[2n, d_out]`.
    up: Tensor<2>,
    checksum: String,
}

/// The places `[output, input]` of `n` coefficients of a map `[d_in, d_out]`.
pub fn places(seed: u64, n: usize, [d_in, d_out]: [usize; 2]) -> Vec<[usize; 2]> {
    let rng = &mut stream::generator(seed, Stream::Init, &format!("fourier.{d_in}x{d_out}"));
    stream::distinct(rng, n, d_in * d_out).into_iter().map(|place| [place / d_in, place % d_in]).collect()
}

/// The angle of a wave with `frequency` periods over `width` at `at`; `libm` and integers, so that every platform has the same bits.
fn angle(at: usize, frequency: usize, width: usize) -> f64 {
    core::f64::consts::TAU * (at * frequency % width) as f64 / width as f64
}

impl DeltaRecipe for Spec {
    type Delta = Fourier;
    const RANK_BOUNDED: bool = false;
    const LOW_RANK: bool = false;
    const WIDTH: usize = 2;
    const PROVIDES: &'static [Capability] = &[Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::DrawnFactors, "whose places have a seed of their own")];
    const REQUIRES: &'static [Requirement] = WHOLE;
    const ROLES: &'static [Role] = &[Role::Spectrum];

    fn misfit(&self, rank: usize, [d_in, d_out]: [usize; 2]) -> Option<String> {
        let all = d_in * d_out;
        (rank > all).then(|| format!("`rank` is the number of coefficients, of which it has `{all}`; use fewer"))
    }

    fn init(&self, at: &mut Site<'_>) -> Fourier {
        let (shape @ [d_in, d_out], n, place) = (at.shape, at.rank, at.place);
        let places = if at.is_shape() { Vec::new() } else { places(self.places_seed, n, shape) };
        let mut hasher = Sha256::new();
        places.iter().flatten().for_each(|place| hasher.update((*place as u64).to_le_bytes()));
        let key = |side: &str| format!("fourier.{side}.{d_in}x{d_out}.{n}");
        let down = at.shared.get(&key("down"), [d_in, 2 * n], || {
            let wave = |of: fn(f64) -> f64| {
                let at = |q: usize| places.iter().map(move |[_, k]| of(angle(q, *k, d_in)));
                (0..d_in).map(at).map(Iterator::collect).collect::<Vec<Vec<f64>>>()
            };
            let rows = wave(libm::cos).into_iter().zip(wave(libm::sin)).flat_map(|(cos, sin)| [cos, sin].concat());
            place.tensor(rows.collect(), [d_in, 2 * n])
        });
        let up = at.shared.get(&key("up"), [2 * n, d_out], || {
            let share = 1.0 / (d_in * d_out) as f64;
            let wave = |of: fn(f64) -> f64, sign: f64| {
                let row = move |[j, _]: &[usize; 2]| {
                    let j = *j;
                    (0..d_out).map(move |p| sign * share * of(angle(p, j, d_out)))
                };
                places.iter().flat_map(row).collect::<Vec<f64>>()
            };
            place.tensor([wave(libm::cos, 1.0), wave(libm::sin, -1.0)].concat(), [2 * n, d_out])
        });
        let checksum = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Fourier { coefficients: at.zeros(1, n), down, up, checksum }
    }
}

impl Delta for Fourier {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::ranked("coefficients", Role::Spectrum, 2, &mut self.coefficients)]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let weighed = self.coefficients.clone() * gate.clone(); // [runs, 1, n]
        let middle = Tensor::cat(vec![weighed.clone(), weighed], 2);
        let down = self.down.clone().unsqueeze::<3>() * middle; // [runs, d_in, 2n]
        Form::Dense(down.matmul(self.up.clone().unsqueeze::<3>()))
    }

    fn checksum(&self) -> Option<String> {
        Some(self.checksum.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_distinct_and_maps_of_one_shape_share_them() {
        let all = places(777, 12, [3, 4]);
        assert!((0..4).all(|output| (0..3).all(|input| all.contains(&[output, input]))));
        assert_eq!(places(777, 5, [3, 4]), all[..5], "fewer are the first");
        assert_ne!(places(778, 12, [3, 4]), all);
    }
}
