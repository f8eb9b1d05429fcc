//! Which values are dropped, line by line.

use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd, bytemuck};

use super::{
    real::Real,
    storage::unshared,
    tasks::{lines_per_task, run_all},
};
use crate::{bits, kernel::Drop};

/// Where values fall, on the host.
#[derive(Clone, Debug)]
pub(super) struct DropoutBits {
    keys: Vec<u64>,
    rows_per_run: usize,
    site: u64,
    threshold: u32,
    keep: f64,
}

impl DropoutBits {
    /// What `drop` says of `rows` rows.
    pub(super) fn new(drop: &Drop<burn::backend::Flex>, rows: usize) -> Self {
        let keys = drop.keys.to_contiguous();
        let keys = keys.as_slice::<i64>().unwrap_or_else(|| unreachable!("keys are 64-bit"));
        Self {
            keys: keys.iter().map(|key| *key as u64).collect(),
            rows_per_run: rows / keys.len(),
            site: drop.site,
            threshold: bits::threshold(drop.p),
            keep: 1.0 / (1.0 - drop.p),
        }
    }

    /// A kept value's factor.
    #[inline(always)]
    pub(super) fn keep<T: Real>(&self) -> T {
        T::of(self.keep)
    }

    /// Draws the words of a line of `2·words.len()` features, or one less.
    #[inline(always)]
    pub(super) fn draw(&self, row: usize, position: usize, words: &mut [u64]) {
        let (run, row) = (row / self.rows_per_run, row % self.rows_per_run);
        let key = bits::line_key(self.keys[run], self.site, row as u64, position as u64);
        for (pair, word) in words.iter_mut().enumerate() {
            *word = bits::word(key, pair as u64);
            // The even feature's half comes first in memory.
            if cfg!(target_endian = "big") {
                *word = word.rotate_left(32);
            }
        }
    }

    /// Whether a feature of [`halves`] is dropped.
    #[inline(always)]
    pub(super) fn drops(&self, half: u32) -> bool {
        half < self.threshold
    }
}

/// The features' halves of drawn words.
#[inline(always)]
pub(super) fn halves(words: &[u64]) -> &[u32] {
    bytemuck::cast_slice(words)
}

/// Dropout of lines in place.
struct Lines<'a, T> {
    x: &'a mut [T],
    dropout: &'a DropoutBits,
    /// The first line's number.
    first: usize,
    positions: usize,
    features: usize,
}

impl<T: Real> WithSimd for Lines<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let mut words = vec![0; self.features.div_ceil(2)];
        for (line, number) in self.x.chunks_exact_mut(self.features).zip(self.first..) {
            self.dropout.draw(number / self.positions, number % self.positions, &mut words);
            for (x, half) in line.iter_mut().zip(halves(&words)) {
                // A selection: a dropped value is 0 whatever it was.
                *x = if self.dropout.drops(*half) { T::ZERO } else { *x * self.dropout.keep() };
            }
        }
    }
}

/// See [`Kernels::dropout`](crate::kernel::Kernels::dropout).
pub(super) fn dropout<T: Real>(x: FlexTensor, drop: &Drop<burn::backend::Flex>) -> FlexTensor {
    let mut x = unshared::<T>(x);
    let [rows, positions, features] = x.layout().shape().dims();
    let dropout = DropoutBits::new(drop, rows);
    let lines = lines_per_task(rows * positions, 2 * features);
    let values = x.storage_mut::<T>();
    if !values.is_empty() {
        run_all(
            values
                .chunks_mut(lines * features)
                .enumerate()
                .map(|(task, x)| Lines { x, dropout: &dropout, first: task * lines, positions, features })
                .collect(),
        );
    }
    x
}
