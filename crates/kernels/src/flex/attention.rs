//! Attention, one head of one row at a time: its scores fit into the nearest caches.

use burn::{backend::Flex, tensor::Shape};
use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::{
    dropout::{Falls, halves},
    product::{LINE, Left, multiply, transpose},
    real::{Real, fold, larger, sums},
    storage::{cast, dense, fresh, values},
    tasks::{lines_per_task, run_all, zeros},
};
use crate::kernel::Drop;

/// What the backward pass needs.
#[derive(Clone, Debug)]
pub struct Attended {
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    /// Softmax, `[rows, heads, seq, seq]`. A weight that dropout took has its sign bit set.
    weights: FlexTensor,
    shape: Split,
    scale: f64,
    /// The factor of a weight that dropout kept.
    keep: f64,
}

/// How heads lie in `[rows, seq, heads·d_head]`.
#[derive(Clone, Copy, Debug)]
struct Split {
    seq: usize,
    heads: usize,
    d_head: usize,
}

impl Split {
    /// Values of one row.
    fn row(self) -> usize {
        self.seq * self.heads * self.d_head
    }
    /// Length of a padded line of features.
    fn wide(self) -> usize {
        self.d_head.next_multiple_of(LINE)
    }
    /// Length of a padded line of keys.
    fn long(self) -> usize {
        self.seq.next_multiple_of(LINE)
    }
    /// What a row costs beside the values of a cheap loop.
    fn cost(self) -> usize {
        self.heads * self.seq * self.seq * (1 + self.d_head / 4)
    }
    /// A head's values at every position of a row.
    #[inline(always)]
    fn lines<T>(self, row: &[T], head: usize) -> impl Iterator<Item = &[T]> {
        row.chunks_exact(self.heads * self.d_head).map(move |line| &line[head * self.d_head..][..self.d_head])
    }
    /// [`lines`](Self::lines), to write.
    #[inline(always)]
    fn lines_mut<T>(self, row: &mut [T], head: usize) -> impl Iterator<Item = &mut [T]> {
        row.chunks_exact_mut(self.heads * self.d_head).map(move |line| &mut line[head * self.d_head..][..self.d_head])
    }
    /// A head of a row as padded lines, `[seq, wide]`.
    #[inline(always)]
    fn gather<T: Real>(self, row: &[T], head: usize, to: &mut [T]) {
        for (to, line) in to.chunks_exact_mut(self.wide()).zip(self.lines(row, head)) {
            to[..self.d_head].copy_from_slice(line);
        }
    }
    /// A head of a row with the positions along the padded lines, `[d_head, long]`.
    #[inline(always)]
    fn gather_transposed<T: Real>(self, row: &[T], head: usize, to: &mut [T]) {
        let from = (&row[head * self.d_head..], self.heads * self.d_head);
        transpose(from, (to, self.long()), self.seq, self.d_head);
    }
    /// The way back from [`gather`](Self::gather).
    #[inline(always)]
    fn scatter<T: Real>(self, from: &[T], row: &mut [T], head: usize) {
        for (from, line) in from.chunks_exact(self.wide()).zip(self.lines_mut(row, head)) {
            line.copy_from_slice(&from[..self.d_head]);
        }
    }
}

/// The mask as it lies in memory, `[rows, 1, 1 or seq, seq]`; an axis of length 1 is one stride of 0.
#[derive(Clone, Copy)]
struct Bias<'a, T> {
    values: &'a [T],
    start: isize,
    /// Of rows, queries and keys.
    strides: [isize; 3],
}

impl<'a, T: Real> Bias<'a, T> {
    fn new(tensor: &'a FlexTensor) -> Self {
        let layout = tensor.layout();
        let stride = |axis: usize| if layout.shape()[axis] == 1 { 0 } else { layout.strides()[axis] };
        Self {
            values: tensor.storage(),
            start: layout.start_offset() as isize,
            strides: [stride(0), stride(2), stride(3)],
        }
    }

    /// A query's values, of every key.
    #[inline(always)]
    fn read(&self, row: usize, query: usize, line: &mut [T]) {
        let start = self.start + row as isize * self.strides[0] + query as isize * self.strides[1];
        if self.strides[2] == 1 {
            line.copy_from_slice(&self.values[start as usize..][..line.len()]);
        } else {
            for (key, value) in line.iter_mut().enumerate() {
                *value = self.values[(start + key as isize * self.strides[2]) as usize];
            }
        }
    }
}

/// Some rows' attention.
struct Rows<'a, T> {
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    y: &'a mut [T],
    /// Where softmax is kept.
    weights: Option<&'a mut [T]>,
    bias: Bias<'a, T>,
    falls: Option<&'a Falls>,
    shape: Split,
    scale: T,
    /// The first row's number.
    first: usize,
}

/// `softmax(scale·scores + bias)` in place; both are padded lines.
#[inline(always)]
fn softmax<T: Real>(scores: &mut [T], bias: &[T], scale: T) {
    let (scores, bias) = (scores.as_chunks_mut::<LINE>().0, bias.as_chunks::<LINE>().0);
    let mut tops = [-T::ONE / T::ZERO; LINE];
    for (scores, bias) in scores.iter_mut().zip(bias) {
        for lane in 0..LINE {
            scores[lane] = scores[lane].mul_add(scale, bias[lane]);
            tops[lane] = larger(scores[lane], tops[lane]);
        }
    }
    let top = fold(tops, larger);
    let mut sums = [T::ZERO; LINE];
    for scores in scores.iter_mut() {
        for lane in 0..LINE {
            scores[lane] = (scores[lane] - top).exp();
            sums[lane] += scores[lane];
        }
    }
    let share = T::ONE / fold(sums, |a, b| a + b);
    for scores in scores.iter_mut() {
        for score in scores {
            *score = *score * share;
        }
    }
}

impl<T: Real> WithSimd for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { q, k, v, y, mut weights, bias, falls, shape, scale, first } = self;
        let Split { seq, heads, d_head } = shape;
        let (wide, long) = (shape.wide(), shape.long());
        let mut keys = vec![T::ZERO; d_head * long];
        let mut queries = vec![T::ZERO; seq * wide];
        let mut features = vec![T::ZERO; seq * wide];
        let mut scores = vec![T::ZERO; seq * long];
        let mut words = vec![0; if falls.is_some() { seq.div_ceil(2) } else { 0 }];
        // A key that is only padding is never seen.
        let mut mask = vec![-T::ONE / T::ZERO; long];
        let rows = q.chunks_exact(shape.row()).zip(k.chunks_exact(shape.row())).zip(v.chunks_exact(shape.row()));
        for (index, (((q, k), v), y)) in rows.zip(y.chunks_exact_mut(shape.row())).enumerate() {
            let row = first + index;
            bias.read(row, 0, &mut mask[..seq]);
            for head in 0..heads {
                shape.gather(q, head, &mut queries);
                shape.gather_transposed(k, head, &mut keys);
                multiply(simd, &mut scores, Left::Rows(&queries, wide), &keys, long, d_head);
                for (query, scores) in scores.chunks_exact_mut(long).enumerate() {
                    if bias.strides[1] != 0 {
                        bias.read(row, query, &mut mask[..seq]);
                    }
                    softmax(scores, &mask, scale);
                    let scores = &mut scores[..seq];
                    let kept = weights.as_deref_mut().map(|weights| {
                        let line = (index * heads + head) * seq + query;
                        let weights = &mut weights[line * seq..][..seq];
                        weights.copy_from_slice(scores);
                        weights
                    });
                    if let Some(falls) = falls {
                        falls.draw(row, query * heads + head, &mut words);
                        for (score, half) in scores.iter_mut().zip(halves(&words)) {
                            *score = if falls.drops(*half) { T::ZERO } else { *score * falls.keep() };
                        }
                        if let Some(weights) = kept {
                            for (weight, half) in weights.iter_mut().zip(halves(&words)) {
                                *weight = if falls.drops(*half) { -*weight } else { *weight };
                            }
                        }
                    }
                }
                shape.gather(v, head, &mut features);
                multiply(simd, &mut queries, Left::Rows(&scores, long), &features, wide, seq);
                shape.scatter(&queries, y, head);
            }
        }
    }
}

/// See [`Kernels::attend`](crate::kernel::Kernels::attend), in the width of `T`.
#[expect(clippy::too_many_arguments, reason = "see `Kernels::attend`")]
pub(super) fn attend<T: Real>(
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    bias: FlexTensor,
    heads: usize,
    scale: f64,
    drop: Option<Drop<Flex>>,
    keeps: bool,
) -> (FlexTensor, Option<Attended>) {
    let [rows, seq, d] = q.layout().shape().dims();
    let shape = Split { seq, heads, d_head: d / heads };
    let (q, k, v) = (dense::<T>(q), dense::<T>(k), dense::<T>(v));
    let bias = cast(bias, T::dtype());
    let falls = drop.map(|drop| Falls::new(&drop, rows));
    let mut y = zeros::<T>(rows * shape.row());
    let mut weights = vec![T::ZERO; if keeps { rows * heads * seq * seq } else { 0 }];
    let per_task = lines_per_task(rows, shape.cost());
    let parts = values::<T>(&q).chunks(per_task * shape.row());
    let parts = parts.zip(values::<T>(&k).chunks(per_task * shape.row()));
    let parts = parts.zip(values::<T>(&v).chunks(per_task * shape.row()));
    let mut kept = weights.chunks_mut(per_task * heads * seq * seq);
    run_all(
        parts
            .zip(y.chunks_mut(per_task * shape.row()))
            .enumerate()
            .map(|(index, (((q, k), v), y))| Rows {
                q,
                k,
                v,
                y,
                weights: kept.next(),
                bias: Bias::new(&bias),
                falls: falls.as_ref(),
                shape,
                scale: T::of(scale),
                first: index * per_task,
            })
            .collect(),
    );
    let attended = keeps.then(|| Attended {
        weights: fresh(weights, Shape::new([rows, heads, seq, seq])),
        shape,
        scale,
        keep: falls.as_ref().map_or(1.0, Falls::keep),
        q: q.clone(),
        k,
        v,
    });
    (fresh(y, q.layout().shape().clone()), attended)
}

/// Some rows' gradients.
struct BackwardRows<'a, T> {
    dy: &'a [T],
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    weights: &'a [T],
    dq: &'a mut [T],
    dk: &'a mut [T],
    dv: &'a mut [T],
    shape: Split,
    scale: T,
    keep: T,
}

impl<T: Real> WithSimd for BackwardRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { dy, q, k, v, weights, dq, dk, dv, shape, scale, keep } = self;
        let Split { seq, heads, d_head } = shape;
        let (row, wide, long) = (shape.row(), shape.wide(), shape.long());
        let mut lines = vec![T::ZERO; seq * wide];
        let mut result = vec![T::ZERO; seq * wide];
        let mut features = vec![T::ZERO; d_head * long];
        let mut dropped = vec![T::ZERO; seq * long];
        let mut slopes = vec![T::ZERO; seq * long];
        let inputs = dy.chunks_exact(row).zip(q.chunks_exact(row)).zip(k.chunks_exact(row)).zip(v.chunks_exact(row));
        let outputs = dq.chunks_exact_mut(row).zip(dk.chunks_exact_mut(row)).zip(dv.chunks_exact_mut(row));
        let weights = weights.chunks_exact(heads * seq * seq);
        for (((((dy, q), k), v), ((dq, dk), dv)), weights) in inputs.zip(outputs).zip(weights) {
            for (head, weights) in weights.chunks_exact(seq * seq).enumerate() {
                for (dropped, weights) in dropped.chunks_exact_mut(long).zip(weights.chunks_exact(seq)) {
                    for (dropped, weight) in dropped.iter_mut().zip(weights) {
                        *dropped = if weight.is_signed() { T::ZERO } else { *weight * keep };
                    }
                }
                // dV = dropped weightsᵀ·dY, and the weights' gradient dY·Vᵀ.
                shape.gather(dy, head, &mut lines);
                multiply(simd, &mut result, Left::Columns(&dropped, long), &lines, wide, seq);
                shape.scatter(&result, dv, head);
                shape.gather_transposed(v, head, &mut features);
                multiply(simd, &mut slopes, Left::Rows(&lines, wide), &features, long, d_head);
                // Σ dw·w over the keys is the same with dropped weights and their factors as without: what is dropped has no share.
                let pairs = slopes.chunks_exact_mut(long).zip(dropped.chunks_exact(long));
                for ((slopes, dropped), weights) in pairs.zip(weights.chunks_exact(seq)) {
                    let [mean] = sums([slopes, dropped], |[slope, weight]| [slope * weight]);
                    let line = slopes.iter_mut().zip(dropped).zip(weights);
                    for ((slope, dropped), weight) in line {
                        *slope = scale * slope.mul_add(*dropped, -(weight.abs() * mean));
                    }
                }
                shape.gather(k, head, &mut lines);
                multiply(simd, &mut result, Left::Rows(&slopes, long), &lines, wide, seq);
                shape.scatter(&result, dq, head);
                shape.gather(q, head, &mut lines);
                multiply(simd, &mut result, Left::Columns(&slopes, long), &lines, wide, seq);
                shape.scatter(&result, dk, head);
            }
        }
    }
}

/// See [`Kernels::attend_backward`](crate::kernel::Kernels::attend_backward), in the width of `T`.
pub(super) fn attend_backward<T: Real>(dy: FlexTensor, kept: Attended) -> (FlexTensor, FlexTensor, FlexTensor) {
    let Attended { q, k, v, weights, shape, scale, keep } = kept;
    let full = q.layout().shape().clone();
    let dy = dense::<T>(dy);
    let (len, Split { seq, heads, .. }) = (full.num_elements(), shape);
    let per_task = lines_per_task(full[0], 2 * shape.cost());
    let part = per_task * shape.row();
    let (mut dq, mut dk, mut dv) = (zeros::<T>(len), zeros::<T>(len), zeros::<T>(len));
    let (dys, qs) = (values::<T>(&dy).chunks(part), values::<T>(&q).chunks(part));
    let (ks, vs) = (values::<T>(&k).chunks(part), values::<T>(&v).chunks(part));
    let weights = values::<T>(&weights).chunks(per_task * heads * seq * seq);
    let outputs = dq.chunks_mut(part).zip(dk.chunks_mut(part)).zip(dv.chunks_mut(part));
    run_all(
        dys.zip(qs)
            .zip(ks.zip(vs))
            .zip(weights)
            .zip(outputs)
            .map(|((((dy, q), (k, v)), weights), ((dq, dk), dv))| BackwardRows {
                dy,
                q,
                k,
                v,
                weights,
                dq,
                dk,
                dv,
                shape,
                scale: T::of(scale),
                keep: T::of(keep),
            })
            .collect(),
    );
    (fresh(dq, full.clone()), fresh(dk, full.clone()), fresh(dv, full))
}
