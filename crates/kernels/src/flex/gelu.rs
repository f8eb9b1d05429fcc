//! `x·Φ(x)` and its gradient.

use burn_flex::FlexTensor;
use pulp::{Arch, Simd, WithSimd};

use super::{
    real::Real,
    storage::{dense, fresh, is_own, unshared, values},
    tasks::{filled, lines_per_task, run_all},
};

/// `x·Φ(x)` in place.
struct Forward<'a, T>(&'a mut [T]);

impl<T: Real> WithSimd for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for x in self.0 {
            *x = *x * x.normal().0;
        }
    }
}

/// `dy·(Φ(x) + x·φ(x))` over `dy`.
struct Backward<'a, T> {
    dy: &'a mut [T],
    x: &'a [T],
}

impl<T: Real> WithSimd for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // 1/√(2π)
        let peak = T::of(std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2 / 2.0);
        for (dy, x) in self.dy.iter_mut().zip(self.x) {
            let (phi, density) = x.normal();
            *dy = *dy * (*x * peak).mul_add(density, phi);
        }
    }
}

/// What a value costs beside one of a cheap loop.
const COST: usize = 4;

/// See [`Kernels::exact_gelu`](crate::kernel::Kernels::exact_gelu), in the precision of `T`.
pub(super) fn gelu<T: Real>(x: FlexTensor) -> FlexTensor {
    let mut x = dense::<T>(x);
    if !is_own::<T>(&x) {
        // The gradient needs `x`: the result is written where it stays, and not over a copy.
        let (arch, from) = (Arch::new(), values::<T>(&x));
        let y = filled(from.len(), |first, y| {
            y.copy_from_slice(&from[first..][..y.len()]);
            arch.dispatch(Forward(y));
        });
        return fresh(y, x.layout().shape().clone());
    }
    let values = x.storage_mut::<T>();
    let part = lines_per_task(values.len(), COST);
    run_all(values.chunks_mut(part).map(Forward).collect());
    x
}

/// See [`Kernels::exact_gelu_backward`](crate::kernel::Kernels::exact_gelu_backward), in the precision of `T`.
pub(super) fn gelu_backward<T: Real>(x: FlexTensor, dy: FlexTensor) -> FlexTensor {
    let (x, mut dy) = (dense::<T>(x), unshared::<T>(dy));
    let x = values::<T>(&x);
    let part = lines_per_task(x.len(), COST);
    run_all(dy.storage_mut::<T>().chunks_mut(part).zip(x.chunks(part)).map(|(dy, x)| Backward { dy, x }).collect());
    dy
}
