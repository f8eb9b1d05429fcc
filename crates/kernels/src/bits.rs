//! Dropout bits: each a pure function of where it falls.
//!
//! The bit of `(run's key, site, row in the run, position, feature)` does not depend on padding, on companions in a cohort or on the
//! device; a run's key follows from its seed, the step and the micro-batch. Every backend computes the same function: 64-bit integer
//! arithmetic, one mixed word for two neighbouring features.

/// `SplitMix64`'s finaliser: a bijection of 64 bits whose output passes the usual test batteries.
#[inline(always)]
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Odd, and 2⁶⁴ over the golden ratio.
pub const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// One more coordinate of a bit's place.
#[inline(always)]
pub const fn fold(key: u64, part: u64) -> u64 {
    mix(key.wrapping_add(GOLDEN) ^ part.wrapping_mul(GOLDEN))
}

/// The key of a site (a place in the network where dropout acts), from its name.
pub fn site(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| mix(hash ^ u64::from(byte)))
}

/// A run's key in one pass.
pub fn run_key(seed: u64, step: u64, micro: u64) -> u64 {
    fold(fold(seed, step), micro)
}

/// The key of a line of features: `row` within the run, `position` within the row.
#[inline(always)]
pub const fn line_key(run_key: u64, site: u64, row: u64, position: u64) -> u64 {
    fold(fold(fold(run_key, site), row), position)
}

/// The word that decides features `2·pair` (its low half) and `2·pair + 1` (its high half) of a line.
#[inline(always)]
pub const fn word(line_key: u64, pair: u64) -> u64 {
    mix(line_key.wrapping_add((pair + 1).wrapping_mul(GOLDEN)))
}

/// A feature is dropped where its half of the word is below this.
pub fn threshold(p: f64) -> u32 {
    (p * 4_294_967_296.0) as u32
}
