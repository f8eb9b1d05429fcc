//! Randomness: four named streams per run, portable across platforms and devices.
//!
//! Every draw comes from a `ChaCha` generator keyed by `(seed, stream, name)`, never from a library's global
//! state: the same seed gives the same numbers on every device and in every cohort.

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a draw is for. The streams of one run are independent of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// First values of adapters and heads.
    Init,
    /// Order of the training examples.
    Data,
    /// Dropout masks.
    Dropout,
    /// DyLoRA's rank of each step.
    Rank,
}

/// The seeds of one run, one per stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seeds {
    /// First values.
    pub init: u64,
    /// Data order.
    pub data: u64,
    /// Dropout masks.
    pub dropout: u64,
    /// Sampled ranks.
    pub rank: u64,
    /// The training set, where the run has its own: the suite's generator draws it with this seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<u64>,
}

impl Seeds {
    /// All four streams from one seed; they differ because the stream's name is part of every key.
    pub fn all(seed: u64) -> Self {
        Self { init: seed, data: seed, dropout: seed, rank: seed, sample: None }
    }
}

/// The generator of `(seed, stream, name)`.
pub fn generator(seed: u64, stream: Stream, name: &str) -> ChaCha20Rng {
    let mut hash = Sha256::new();
    hash.update(b"lora-lab stream 1\0");
    hash.update([stream as u8]);
    hash.update(seed.to_le_bytes());
    hash.update(name.as_bytes());
    ChaCha20Rng::from_seed(hash.finalize().into())
}

/// A 64-bit key of `(seed, stream, name)`, for counter-based draws.
pub fn key(seed: u64, stream: Stream, name: &str) -> u64 {
    generator(seed, stream, name).next_u64()
}

/// A number in `[0, 1)` with 53 random bits.
pub fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// `n` draws, uniform in `[-bound, bound)`.
pub fn uniform(rng: &mut impl Rng, n: usize, bound: f64) -> Vec<f64> {
    (0..n).map(|_| (2.0 * unit(rng) - 1.0) * bound).collect()
}

/// `n` draws from `N(0, std²)` by the Box–Muller transform.
///
/// `libm` and not the platform's mathematics library, whose last bits differ between systems.
pub fn normal(rng: &mut impl Rng, n: usize, std: f64) -> Vec<f64> {
    let mut out = Vec::with_capacity(n + 1);
    while out.len() < n {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit(rng)));
        let angle = core::f64::consts::TAU * unit(rng);
        out.push(std * radius * libm::cos(angle));
        out.push(std * radius * libm::sin(angle));
    }
    out.truncate(n);
    out
}

/// `n` different numbers below `of`, in the order in which they are drawn: the first steps of Fisher and Yates' shuffle.
pub fn distinct(rng: &mut impl Rng, n: usize, of: usize) -> Vec<usize> {
    // Where the shuffle has written; elsewhere a place holds its own number.
    let mut moved = std::collections::BTreeMap::new();
    let mut draw = |at: usize| {
        let from = at + (unit(rng) * (of - at) as f64) as usize;
        let (found, displaced) = (moved.get(&from).copied().unwrap_or(from), moved.get(&at).copied().unwrap_or(at));
        moved.insert(from, displaced);
        found
    };
    (0..n.min(of)).map(&mut draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_names_are_independent_and_pinned() {
        let first = |seed, stream, name| generator(seed, stream, name).next_u64();
        assert_ne!(first(0, Stream::Init, "a"), first(0, Stream::Data, "a"));
        assert_ne!(first(0, Stream::Init, "a"), first(0, Stream::Init, "b"));
        assert_ne!(first(0, Stream::Init, "a"), first(1, Stream::Init, "a"));
        // Pinned: a change here changes the first values of every adapter ever trained.
        assert_eq!(first(0, Stream::Init, "a"), 1_250_199_188_818_667_156);
        assert_eq!(key(0, Stream::Init, "a"), 1_250_199_188_818_667_156);
    }

    /// A draw takes from the generator what it needs and no more: what is drawn next does not depend on how the first was asked for.
    #[test]
    fn draws_follow_one_another() {
        let together = normal(&mut generator(3, Stream::Init, "x"), 6, 2.0);
        let rng = &mut generator(3, Stream::Init, "x");
        assert_eq!([normal(rng, 2, 2.0), normal(rng, 4, 2.0)].concat(), together);
        assert_eq!(normal(&mut generator(3, Stream::Init, "x"), 5, 2.0), together[..5]);
    }

    #[test]
    fn distinct_numbers_are_a_part_of_a_permutation() {
        let of = |n| distinct(&mut generator(5, Stream::Init, "distinct"), n, 9);
        let mut sorted = of(9);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..9).collect::<Vec<_>>());
        assert_eq!(of(4), of(9)[..4]);
        // Pinned: a change here moves the places of every FourierFT and SHiRA adapter.
        assert_eq!(of(9), [6, 8, 3, 7, 4, 2, 0, 5, 1]);
        // Each of 6 numbers comes first in 6000 draws about 1000 times; 4 standard errors are 116.
        let rng = &mut generator(5, Stream::Init, "first");
        let mut counts = [0; 6];
        (0..6000).for_each(|_| counts[distinct(rng, 2, 6)[1]] += 1);
        assert!(counts.iter().all(|count: &i32| (count - 1000).abs() < 116), "{counts:?}");
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let rng = &mut generator(3, Stream::Init, "moments");
        let n = 200_000;
        let moments = |x: &[f64]| {
            let mean = x.iter().sum::<f64>() / n as f64;
            (mean, x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64)
        };
        // Four standard errors: std/√n for the mean, about √2·σ²/√n for the variance.
        let (mean, var) = moments(&normal(rng, n, 2.0));
        assert!(mean.abs() < 4.0 * 2.0 / 447.0 && (var - 4.0).abs() < 4.0 * 5.66 / 447.0);
        let (mean, var) = moments(&uniform(rng, n, 3.0));
        assert!(mean.abs() < 4.0 * 1.74 / 447.0 && (var - 3.0).abs() < 4.0 * 2.7 / 447.0);
    }
}
