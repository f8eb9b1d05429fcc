//! Layer norm of a sum, and its gradient: one pass over each line while it is near.

use burn::{backend::Flex, tensor::Shape};
use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::{
    dropout::{DropoutBits, halves},
    real::{Real, sums},
    storage::{dense, fresh, unshared, values},
    tasks::{lines_per_task, run_all, zeros},
};
use crate::kernel::{Drop, Normed};

/// Where the lines that are normed come from.
enum Source<'a, T> {
    /// They are there.
    Given(&'a [T]),
    /// `z` holds `x` and becomes the sum.
    Merged { z: &'a mut [T], residual: Option<&'a [T]>, dropout: Option<&'a DropoutBits> },
}

/// Some lines' norm.
struct Lines<'a, T> {
    source: Source<'a, T>,
    y: &'a mut [T],
    statistics: &'a mut [T],
    gamma: &'a [T],
    beta: &'a [T],
    epsilon: T,
    /// The first line's number.
    first: usize,
    positions: usize,
}

/// `z ← residual + dropout(z)`.
#[inline(always)]
fn merge<T: Real>(z: &mut [T], residual: Option<&[T]>, dropout: Option<&DropoutBits>, halves: &[u32]) {
    match (residual, dropout) {
        (Some(residual), Some(dropout)) => {
            for ((z, residual), half) in z.iter_mut().zip(residual).zip(halves) {
                *z = if dropout.drops(*half) { *residual } else { z.mul_add(dropout.keep(), *residual) };
            }
        }
        (Some(residual), None) => {
            for (z, residual) in z.iter_mut().zip(residual) {
                *z += *residual;
            }
        }
        (None, Some(dropout)) => {
            for (z, half) in z.iter_mut().zip(halves) {
                *z = if dropout.drops(*half) { T::ZERO } else { *z * dropout.keep() };
            }
        }
        (None, None) => {}
    }
}

impl<T: Real> WithSimd for Lines<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { mut source, y, statistics, gamma, beta, epsilon, first, positions } = self;
        let d = gamma.len();
        let beta = &beta[..d];
        let per_line = T::ONE / T::of(d as f64);
        let mut words = match &source {
            Source::Merged { dropout: Some(_), .. } => vec![0; d.div_ceil(2)],
            _ => vec![],
        };
        for (index, (y, statistics)) in y.chunks_exact_mut(d).zip(statistics.chunks_exact_mut(2)).enumerate() {
            let z = match &mut source {
                Source::Given(z) => &z[index * d..][..d],
                Source::Merged { z, residual, dropout } => {
                    if let Some(dropout) = dropout {
                        let line = first + index;
                        dropout.draw(line / positions, line % positions, &mut words);
                    }
                    let z = &mut z[index * d..][..d];
                    merge(z, residual.map(|residual| &residual[index * d..][..d]), *dropout, halves(&words));
                    &*z
                }
            };
            let [sum] = sums([z], |z| z);
            let mean = sum * per_line;
            let [squares] = sums([z], |[z]| [(z - mean) * (z - mean)]);
            let rstd = T::ONE / (squares * per_line + epsilon).sqrt();
            for i in 0..d {
                y[i] = ((z[i] - mean) * rstd).mul_add(gamma[i], beta[i]);
            }
            statistics[0] = mean;
            statistics[1] = rstd;
        }
    }
}

/// See [`Kernels::norm`](crate::kernel::Kernels::norm), in the precision of `T`.
pub(super) fn norm<T: Real>(
    x: FlexTensor,
    residual: Option<FlexTensor>,
    gamma: FlexTensor,
    beta: FlexTensor,
    epsilon: f64,
    drop: Option<Drop<Flex>>,
) -> Normed<Flex> {
    let shape = x.layout().shape().clone();
    let [rows, seq, d] = shape.dims();
    let count = rows * seq;
    let lines = lines_per_task(count, 4 * d);
    let (gamma, beta) = (dense::<T>(gamma), dense::<T>(beta));
    let (gamma, beta) = (values::<T>(&gamma), values::<T>(&beta));
    let dropout = drop.map(|drop| DropoutBits::new(&drop, rows));
    let mut y = zeros::<T>(count * d);
    let mut statistics = vec![T::ZERO; count * 2];
    let task = |(index, ((source, y), statistics))| {
        let (epsilon, first) = (T::of(epsilon), index * lines);
        Lines { source, y, statistics, gamma, beta, epsilon, first, positions: seq }
    };
    let outputs = y.chunks_mut(lines * d).zip(statistics.chunks_mut(lines * 2));
    let z = if residual.is_none() && dropout.is_none() {
        let z = dense::<T>(x);
        let sources = values::<T>(&z).chunks(lines * d).map(Source::Given);
        run_all(sources.zip(outputs).map(|(z, (y, s))| ((z, y), s)).enumerate().map(task).collect());
        z
    } else {
        let mut z = unshared::<T>(x);
        let residual = residual.map(dense::<T>);
        let residual = residual.as_ref().map(values::<T>);
        let sources = z.storage_mut::<T>().chunks_mut(lines * d).enumerate().map(|(index, z)| {
            let residual = residual.map(|residual| &residual[index * lines * d..][..z.len()]);
            Source::Merged { z, residual, dropout: dropout.as_ref() }
        });
        run_all(sources.zip(outputs).map(|(z, (y, s))| ((z, y), s)).enumerate().map(task).collect());
        z
    };
    Normed { y: fresh(y, shape), z, statistics: fresh(statistics, Shape::new([count, 2])) }
}

/// Some lines' gradient, written over `dy`.
struct BackwardLines<'a, T> {
    dy: &'a mut [T],
    z: &'a [T],
    statistics: &'a [T],
    gamma: &'a [T],
}

impl<T: Real> WithSimd for BackwardLines<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { dy, z, statistics, gamma } = self;
        let d = gamma.len();
        let per_line = T::ONE / T::of(d as f64);
        for ((dy, z), statistics) in dy.chunks_exact_mut(d).zip(z.chunks_exact(d)).zip(statistics.chunks_exact(2)) {
            let (mean, rstd) = (statistics[0], statistics[1]);
            let [along, across] = sums([dy, z, gamma], |[dy, z, gamma]| {
                let g = gamma * dy;
                [g, g * ((z - mean) * rstd)]
            });
            let (along, across) = (along * per_line, across * per_line);
            for i in 0..d {
                dy[i] = rstd * (gamma[i] * dy[i] - along - (z[i] - mean) * rstd * across);
            }
        }
    }
}

/// See [`Kernels::norm_backward`](crate::kernel::Kernels::norm_backward), in the precision of `T`.
pub(super) fn norm_backward<T: Real>(
    dy: FlexTensor,
    z: FlexTensor,
    statistics: FlexTensor,
    gamma: FlexTensor,
) -> FlexTensor {
    let mut dy = unshared::<T>(dy);
    let (z, statistics, gamma) = (dense::<T>(z), dense::<T>(statistics), dense::<T>(gamma));
    let (z, statistics, gamma) = (values::<T>(&z), values::<T>(&statistics), values::<T>(&gamma));
    let d = gamma.len();
    let lines = lines_per_task(statistics.len() / 2, 3 * d);
    let parts = z.chunks(lines * d).zip(statistics.chunks(lines * 2));
    run_all(
        dy.storage_mut::<T>()
            .chunks_mut(lines * d)
            .zip(parts)
            .map(|(dy, (z, statistics))| BackwardLines { dy, z, statistics, gamma })
            .collect(),
    );
    dy
}
