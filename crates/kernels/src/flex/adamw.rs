//! One pass of AdamW over flat tensors, in place.

use std::ops::Range;

use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::{
    real::Real,
    storage::{dense, unshared, values},
    tasks::{lines_per_task, run_all},
};
use crate::kernel::Adam;

/// Columns of one segment.
struct Stretch {
    columns: Range<usize>,
    segment: usize,
}

/// The stretches of equal neighbours.
fn stretches(segment: &[i64]) -> Vec<Stretch> {
    let mut start = 0;
    segment
        .chunk_by(|a, b| a == b)
        .map(|chunk| {
            let columns = start..start + chunk.len();
            start = columns.end;
            Stretch { columns, segment: chunk[0] as usize }
        })
        .collect()
}

/// Adam's constants in one precision.
#[derive(Clone, Copy)]
struct Constants<T> {
    beta1: T,
    beta2: T,
    rest1: T,
    rest2: T,
    epsilon: T,
}

/// Some columns of one run.
struct Part<'a, T> {
    value: &'a mut [T],
    first: &'a mut [T],
    second: &'a mut [T],
    gradient: &'a [T],
    /// The first column's number.
    start: usize,
    stretches: &'a [Stretch],
    /// The run's, `[segments, 4]`.
    coefficients: &'a [T],
    clip: T,
    adam: Constants<T>,
}

impl<T: Real> WithSimd for Part<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { value, first, second, gradient, start, stretches, coefficients, clip, adam } = self;
        let end = start + value.len();
        let from = stretches.partition_point(|stretch| stretch.columns.end <= start);
        for stretch in stretches[from..].iter().take_while(|stretch| stretch.columns.start < end) {
            let [step, root, keep, updated] = std::array::from_fn(|i| coefficients[4 * stretch.segment + i]);
            if updated <= T::of(0.5) {
                continue;
            }
            let here = stretch.columns.start.max(start) - start..stretch.columns.end.min(end) - start;
            let (value, gradient) = (&mut value[here.clone()], &gradient[here.clone()]);
            let (first, second) = (&mut first[here.clone()], &mut second[here]);
            for (((p, m), v), g) in value.iter_mut().zip(first).zip(second).zip(gradient) {
                let g = *g * clip;
                *m = m.mul_add(adam.beta1, g * adam.rest1);
                *v = v.mul_add(adam.beta2, g * g * adam.rest2);
                *p = *p * keep - step * *m / v.sqrt().mul_add(root, adam.epsilon);
            }
        }
    }
}

/// See [`Kernels::adamw`](crate::kernel::Kernels::adamw), in the precision of `T`.
#[expect(clippy::too_many_arguments, reason = "see `Kernels::adamw`")]
pub(super) fn adamw<T: Real>(
    value: FlexTensor,
    first: FlexTensor,
    second: FlexTensor,
    gradient: FlexTensor,
    segment: &FlexTensor,
    coefficients: FlexTensor,
    clip: FlexTensor,
    adam: Adam,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let [runs, n] = value.layout().shape().dims();
    let (mut value, mut first, mut second) = (unshared::<T>(value), unshared::<T>(first), unshared::<T>(second));
    let (gradient, coefficients, clip) = (dense::<T>(gradient), dense::<T>(coefficients), dense::<T>(clip));
    let segment = segment.to_contiguous();
    let segment = segment.as_slice::<i64>().unwrap_or_else(|| unreachable!("segments are 64-bit"));
    let stretches = stretches(segment);
    let constants = Constants {
        beta1: T::of(adam.beta1),
        beta2: T::of(adam.beta2),
        rest1: T::of(1.0 - adam.beta1),
        rest2: T::of(1.0 - adam.beta2),
        epsilon: T::of(adam.epsilon),
    };
    if runs * n > 0 {
        let columns = lines_per_task(runs * n, 4).min(n);
        let (gradient, clip) = (values::<T>(&gradient), values::<T>(&clip));
        let of_run = values::<T>(&coefficients);
        let of_run = of_run.chunks_exact(of_run.len() / runs);
        let stores = (value.storage_mut::<T>(), first.storage_mut::<T>(), second.storage_mut::<T>());
        let lines = stores.0.chunks_exact_mut(n).zip(stores.1.chunks_exact_mut(n)).zip(stores.2.chunks_exact_mut(n));
        let mut parts = vec![];
        for ((((value, first), second), gradient), (coefficients, clip)) in
            lines.zip(gradient.chunks_exact(n)).zip(of_run.zip(clip))
        {
            if !(*clip >= T::ZERO && clip.is_finite()) {
                continue;
            }
            let moments = first.chunks_mut(columns).zip(second.chunks_mut(columns));
            let chunks = value.chunks_mut(columns).zip(moments).zip(gradient.chunks(columns));
            parts.extend(chunks.enumerate().map(|(index, ((value, (first, second)), gradient))| Part {
                value,
                first,
                second,
                gradient,
                start: index * columns,
                stretches: &stretches,
                coefficients,
                clip: *clip,
                adam: constants,
            }));
        }
        run_all(parts);
    }
    (value, first, second)
}
