//! `U(±g/√d_in)`: with a gain `g` of 1 what loralib and PEFT ship.
//!
//! Both call `kaiming_uniform_(A, a=√5)`, whose bound `√(6/((1+5)·d_in))` is `1/√d_in`. torch's own default, `a=0`, has the gain `√6`.

use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};

use super::Init;
use crate::{error::SpecProblem, stream};

/// The gain.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kaiming {
    /// `g`, above 0.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub gain: f64,
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_one(gain: &f64) -> bool {
    *gain == one()
}

impl Default for Kaiming {
    fn default() -> Self {
        Self { gain: one() }
    }
}

impl Init for Kaiming {
    fn components(&self, [width, count]: [usize; 2], _rank: usize, rng: &mut ChaCha20Rng) -> Vec<f64> {
        stream::uniform(rng, count * width, self.gain / (width as f64).sqrt())
    }

    fn std(&self, width: usize, _rank: usize) -> f64 {
        self.gain / (3.0 * width as f64).sqrt() // of U(±u): u/√3
    }

    fn check(&self) -> Vec<SpecProblem> {
        if self.gain.is_finite() && self.gain > 0.0 {
            return Vec::new();
        }
        vec![SpecProblem::new("gain", format!("gain is `{}`, but must be above 0, or no factor is drawn", self.gain))]
    }
}
