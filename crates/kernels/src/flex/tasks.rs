//! Work shared among cores.

use pulp::{Arch, WithSimd};
use rayon::prelude::*;

use super::real::Real;

/// Values below which a task is not worth handing to another core.
const GRAIN: usize = 16 * 1024;

/// How many of `lines` lines make one task, where a line costs about as much as `cost` values of a cheap loop.
pub(super) fn lines_per_task(lines: usize, cost: usize) -> usize {
    // A few tasks for each core, so that one that is held up does not hold up all.
    let tasks = (lines * cost / GRAIN).min(4 * rayon::current_num_threads()).max(1);
    lines.div_ceil(tasks).max(1)
}

/// Runs every kernel, compiled for the widest vectors this machine has.
pub(super) fn run_all<K: WithSimd<Output = ()> + Send>(kernels: Vec<K>) {
    let arch = Arch::new();
    if kernels.len() <= 1 {
        for kernel in kernels {
            arch.dispatch(kernel);
        }
    } else {
        kernels.into_par_iter().for_each(|kernel| arch.dispatch(kernel));
    }
}

/// Values that one core writes at a time.
const BLOCK: usize = 4096;

/// A vector that all cores write, block by block: `fill` is given the index of a block's first value, and zeros in its place. By one core
/// alone, writing a large result is time in which the others wait.
pub(super) fn filled<T: Real>(len: usize, fill: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
    if len < 4 * GRAIN {
        let mut values = vec![T::ZERO; len];
        values.chunks_mut(BLOCK).enumerate().for_each(|(index, block)| fill(index * BLOCK, block));
        return values;
    }
    let block = |index| {
        let (mut block, first) = ([T::ZERO; BLOCK], index * BLOCK);
        fill(first, &mut block[..BLOCK.min(len - first)]);
        block
    };
    // Whole blocks, so that none is moved again; what the last one has too much is cut off.
    let mut values = (0..len.div_ceil(BLOCK)).into_par_iter().map(block).collect::<Vec<_>>().into_flattened();
    values.truncate(len);
    values
}

/// A vector of zeros.
pub(super) fn zeros<T: Real>(len: usize) -> Vec<T> {
    filled(len, |_, _| {})
}

/// A copy.
pub(super) fn copied<T: Real>(values: &[T]) -> Vec<T> {
    filled(values.len(), |first, block| block.copy_from_slice(&values[first..][..block.len()]))
}
