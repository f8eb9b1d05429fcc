//! Cayley transforms of many small matrices.

use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::{
    real::Real,
    storage::unshared,
    tasks::{lines_per_task, run_all},
};

/// `(I − Q)·(I + Q)⁻¹` over matrices `Q` `[b, b]`, one after another.
struct Transforms<'a, T> {
    all: &'a mut [T],
    b: usize,
}

impl<T: Real> WithSimd for Transforms<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { all, b } = self;
        let mut pivot_row = vec![T::ZERO; b];
        for matrix in all.chunks_exact_mut(b * b) {
            (0..b).for_each(|at| matrix[at * b + at] += T::ONE);
            invert(matrix, &mut pivot_row);
            // (I − Q)·(I + Q)⁻¹ = (2I − (I + Q))·(I + Q)⁻¹
            for value in matrix.iter_mut() {
                *value += *value;
            }
            (0..b).for_each(|at| matrix[at * b + at] += -T::ONE);
        }
    }
}

/// Gauss and Jordan's inverse in place, without a search for pivots: those of a matrix whose symmetric part is the identity are 1 or more.
#[inline(always)]
fn invert<T: Real>(matrix: &mut [T], pivot_row: &mut [T]) {
    let b = pivot_row.len();
    for k in 0..b {
        let own = &mut matrix[k * b..][..b];
        let pivot = T::ONE / own[k];
        own[k] = T::ONE;
        for value in own.iter_mut() {
            *value = *value * pivot;
        }
        pivot_row.copy_from_slice(own);
        for (at, row) in matrix.chunks_exact_mut(b).enumerate() {
            if at != k {
                let factor = -row[k];
                row[k] = T::ZERO;
                for (value, of_pivot) in row.iter_mut().zip(&*pivot_row) {
                    *value = of_pivot.mul_add(factor, *value);
                }
            }
        }
    }
}

/// See [`Kernels::cayley`](crate::kernel::Kernels::cayley), in the precision of `T`.
pub(super) fn cayley<T: Real>(q: FlexTensor) -> FlexTensor {
    let mut q = unshared::<T>(q);
    let b = q.layout().shape()[2];
    let all = q.storage_mut::<T>();
    if all.is_empty() {
        return q;
    }
    let part = lines_per_task(all.len() / (b * b), b * b * b) * b * b;
    run_all(all.chunks_mut(part).map(|all| Transforms { all, b }).collect());
    q
}
