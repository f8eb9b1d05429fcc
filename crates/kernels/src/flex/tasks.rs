//! Work shared among cores.

use pulp::{Arch, WithSimd};
use rayon::{iter::repeat_n, prelude::*};

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

/// A vector of zeros, cleared by all cores: by one alone, those of a product's result are time in which the others wait.
pub(super) fn zeros<T: Real>(len: usize) -> Vec<T> {
    const BLOCK: usize = 16;
    if len < 4 * GRAIN || !len.is_multiple_of(BLOCK) {
        return vec![T::ZERO; len];
    }
    let blocks: Vec<[T; BLOCK]> = repeat_n([T::ZERO; BLOCK], len / BLOCK).with_min_len(GRAIN / BLOCK).collect();
    blocks.into_flattened()
}
