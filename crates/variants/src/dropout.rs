//! Dropout whose bits are a pure function of run, site, row and position: see [`kernels::bits`].

use burn::tensor::Tensor;
use kernels::ops::{self, Dropout};

pub use kernels::bits::site;

use crate::pass::StackPass;

/// Dropout of `x` `[runs, rows·seq, features]` with the bits of one site, and whether anything could be dropped.
///
/// The bits of a position do not depend on how far its batch is padded.
pub fn drop(x: Tensor<3>, pass: &StackPass, site: u64, p: f64, seq: usize) -> (Tensor<3>, bool) {
    let Some(drop) = Dropout::at(pass.keys.as_ref(), site, p) else { return (x, false) };
    let [runs, n, features] = x.dims();
    let dropped = ops::dropout(x.reshape([runs * n / seq, seq, features]), Some(drop));
    (dropped.reshape([runs, n, features]), true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host::{Placement, values},
        pass::{DropoutClock, Pass},
    };
    use burn::tensor::{DType, Device};

    fn draw(seeds: &[u64], step: u64, [rows, seq, features]: [usize; 3], p: f64) -> Vec<f64> {
        let place = Placement::new(&Device::flex(), DType::F64);
        let clock = DropoutClock { seeds: seeds.to_vec(), step, micro: 0 };
        let pass = Pass::evaluation(seeds.len()).dropping(&clock, &place);
        let ones = place.tensor(vec![1.0; seeds.len() * rows * seq * features], [seeds.len(), rows * seq, features]);
        values(&drop(ones, &pass.stacks[0], site("query"), p, seq).0)
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
        assert_eq!(draw(&[5], 0, [1, 1, 4], 0.0), [1.0; 4], "nothing is dropped");
    }
}
