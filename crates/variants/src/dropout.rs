//! Dropout whose every bit is a pure function of where it falls.
//!
//! The bit of `(run's seed, step, micro-batch, site, row in the run, position, feature)` does not depend on
//! padding, on companions in the cohort, on the device or on whether the run was resumed.

use burn::tensor::Tensor;

use crate::{host::Place, pass::StackPass};

/// `SplitMix64`'s finaliser: a bijection of 64 bits whose output passes the usual test batteries.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The key of a site (a place in the network where dropout acts), from its name.
pub fn site(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| mix(hash ^ u64::from(byte)))
}

/// `1/(1-p)` where kept and 0 where dropped, for one row of `features`.
fn fill_row(out: &mut [f64], key: u64, p: f64, keep: f64) {
    let threshold = (p * 4_294_967_296.0) as u64; // of 2^32
    for (pair, chunk) in out.chunks_mut(2).enumerate() {
        let word = mix(key.wrapping_add((pair as u64 + 1).wrapping_mul(GOLDEN)));
        for (half, value) in chunk.iter_mut().enumerate() {
            *value = if (word >> (32 * half)) & 0xFFFF_FFFF < threshold { 0.0 } else { keep };
        }
    }
}

/// The mask of one site, `[runs, rows · positions, features]`, or `None` where nothing is dropped.
///
/// `rows` counts one run's rows. Positions beyond a shorter padding would hold the same bits.
pub fn mask(
    pass: &StackPass,
    site: u64,
    p: f64,
    [rows, positions, features]: [usize; 3],
    place: &Place,
) -> Option<Tensor<3>> {
    let clock = pass.dropout.as_ref().filter(|_| p > 0.0)?;
    let keep = 1.0 / (1.0 - p);
    let runs = clock.seeds.len();
    let mut values = vec![0.0; runs * rows * positions * features];
    for (index, line) in values.chunks_mut(features).enumerate() {
        let (run, row, position) = (index / (rows * positions), index / positions % rows, index % positions);
        let key = [clock.step, clock.micro, site, row as u64, position as u64]
            .into_iter()
            .fold(clock.seeds[run], |key, part| mix(key.wrapping_add(GOLDEN) ^ part.wrapping_mul(GOLDEN)));
        fill_row(line, key, p, keep);
    }
    Some(place.tensor(values, [runs, rows * positions, features]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host::values, pass::DropoutClock};
    use burn::tensor::{DType, Device};

    fn draw(seeds: &[u64], step: u64, dims: [usize; 3], p: f64) -> Vec<f64> {
        let place = Place::new(&Device::flex(), DType::F64);
        let clock = DropoutClock { seeds: seeds.to_vec(), step, micro: 0 };
        let pass = StackPass { dropout: Some(clock), ..StackPass::plain(seeds.len()) };
        mask(&pass, site("query"), p, dims, &place).map(|mask| values(&mask)).unwrap_or_default()
    }

    #[test]
    fn a_bit_depends_on_its_place_alone() {
        let both = draw(&[1, 2], 7, [2, 3, 6], 0.5);
        assert_eq!(both[..36], draw(&[1], 7, [2, 3, 6], 0.5)[..], "companions change nothing");
        let longer = draw(&[1], 7, [2, 5, 6], 0.5); // padded to five positions
        assert_eq!(longer[..18], both[..18]);
        assert_eq!(longer[30..48], both[18..36]);
        assert_ne!(both[..36], draw(&[1], 8, [2, 3, 6], 0.5)[..], "steps differ");
    }

    #[test]
    fn the_rate_is_p_and_the_mean_is_one() {
        let n = 100_000.0;
        let bits = draw(&[5], 0, [10, 100, 100], 0.1);
        let dropped = bits.iter().filter(|&&v| v == 0.0).count() as f64;
        assert!((dropped / n - 0.1).abs() < 4.0 * (0.09_f64 / n).sqrt(), "{dropped}");
        assert!(draw(&[5], 0, [1, 1, 4], 0.0).is_empty(), "no mask where nothing is dropped");
    }
}
