//! `N(0, std²)`: what the LoRA paper says (§4.1); `std` is `1/r` by default, as in PEFT's `gaussian`.
//!
//! AdaLoRA draws both factors with `std = 0.02`.

use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};

use super::Init;
use crate::{error::SpecProblem, stream};

/// The normal distribution around zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gaussian {
    /// Standard deviation; `1/rank` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<f64>,
}

impl Init for Gaussian {
    fn components(&self, [width, count]: [usize; 2], rank: usize, rng: &mut ChaCha20Rng) -> Vec<f64> {
        stream::normal(rng, count * width, self.std(width, rank))
    }

    fn std(&self, _width: usize, rank: usize) -> f64 {
        self.std.unwrap_or(1.0 / rank as f64)
    }

    fn check(&self) -> Vec<SpecProblem> {
        match self.std {
            Some(std) if !std.is_finite() || std <= 0.0 => {
                vec![SpecProblem::new("std", format!("std is `{std}`, but must be finite and above 0"))]
            }
            _ => Vec::new(),
        }
    }
}
