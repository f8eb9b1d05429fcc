//! `U(±1/√d_in)`: what loralib and PEFT ship.
//!
//! Both call `kaiming_uniform_(A, a=√5)`, whose bound `√(6/((1+5)·d_in))` is `1/√d_in`.

use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};

use super::Init;
use crate::stream;

/// No parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kaiming {}

impl Init for Kaiming {
    fn components(&self, [width, count]: [usize; 2], _rank: usize, rng: &mut ChaCha20Rng) -> Vec<f64> {
        stream::uniform(rng, count * width, 1.0 / (width as f64).sqrt())
    }

    fn std(&self, width: usize, _rank: usize) -> f64 {
        1.0 / (3.0 * width as f64).sqrt() // of U(±u): u/√3
    }
}
