//! Components that are orthonormal, `aᵢᵀaⱼ = δᵢⱼ`: a uniformly random frame.
//!
//! Numbers from `N(0, 1)`, orthonormalised in order by Gram and Schmidt's method, run twice so that rounding does not add up. The first `b`
//! components are the same at every rank. Asymmetric LoRA freezes such a factor (Zhu et al., ICML 2024, arXiv:2402.16842); the authors'
//! code takes the singular vectors of a random matrix, which are such a frame as well.
//!
//! There are at most `width` such components. Where more are asked for, the rest start a new frame.

use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};

use super::Init;
use crate::stream;

/// No parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orthonormal {}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Init for Orthonormal {
    fn components(&self, [width, count]: [usize; 2], _rank: usize, rng: &mut ChaCha20Rng) -> Vec<f64> {
        let mut all: Vec<f64> = Vec::with_capacity(count * width);
        for index in 0..count {
            let mut own = stream::normal(rng, width, 1.0);
            let frame = index - index % width.max(1);
            for _ in 0..2 {
                for other in all[frame * width..].chunks(width) {
                    let share = product(&own, other);
                    own.iter_mut().zip(other).for_each(|(own, other)| *own -= share * other);
                }
            }
            let norm = product(&own, &own).sqrt();
            all.extend(own.into_iter().map(|value| value / norm));
        }
        all
    }

    fn std(&self, width: usize, _rank: usize) -> f64 {
        1.0 / (width as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Stream, generator};

    fn frame(width: usize, rank: usize) -> Vec<f64> {
        Orthonormal {}.components([width, rank], rank, &mut generator(3, Stream::Init, "a"))
    }

    #[test]
    fn components_are_orthonormal_and_the_same_at_every_rank() {
        let all = frame(40, 40);
        assert_eq!(all[..120], frame(40, 3));
        for (i, one) in all.chunks(40).enumerate() {
            for (j, other) in all.chunks(40).enumerate() {
                let wanted = f64::from(u8::from(i == j));
                assert!((product(one, other) - wanted).abs() < 1e-14, "{i}, {j}"); // forty products of numbers below 1
            }
        }
    }

    #[test]
    fn more_components_than_the_width_start_a_new_frame() {
        let all = frame(2, 5);
        assert!(all.iter().all(|value| value.is_finite()));
        assert!(product(&all[4..6], &all[6..8]).abs() < 1e-15);
    }
}
