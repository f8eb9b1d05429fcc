//! Attention, one head of one sequence at a time: its scores fit into the nearest caches. A row of a padded batch is a
//! sequence of the batch's length; packed sequences have their own lengths.

use burn::{
    backend::{Flex, ops::IntTensorOps},
    tensor::{DType, IntDType, Shape},
};
use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::{
    dropout::{DropoutBits, halves},
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
    /// Softmax, `[heads, length, length]` for every sequence, one behind another. A weight that dropout took has its sign bit set.
    weights: FlexTensor,
    sequences: Sequences,
    scale: f64,
    /// The factor of a weight that dropout kept.
    keep: f64,
}

/// Which tokens attend to one another, in `[tokens, heads·d_head]`.
#[derive(Clone, Debug)]
struct Sequences {
    /// The first token of each, and the number of tokens.
    starts: Vec<usize>,
    heads: usize,
    d_head: usize,
}

/// Some sequences that follow one another.
#[derive(Clone, Copy)]
struct Stretch<'a> {
    /// See [`Sequences::starts`].
    starts: &'a [usize],
    heads: usize,
    d_head: usize,
    /// The first one's number.
    first: usize,
}

impl Sequences {
    /// All of them in stretches, each a task; attending costs one sequence `effort` times what its forward pass does.
    fn tasks(&self, effort: usize) -> impl Iterator<Item = Stretch<'_>> {
        let Self { starts, heads, d_head } = self;
        let count = starts.len() - 1;
        let whole = Stretch { starts, heads: *heads, d_head: *d_head, first: 0 };
        let cost = whole.splits().map(Split::cost).sum::<usize>().div_ceil(count.max(1));
        let per_task = lines_per_task(count, effort * cost);
        (0..count).step_by(per_task).map(move |first| Stretch {
            starts: &starts[first..=(first + per_task).min(count)],
            first,
            ..whole
        })
    }

    /// Number of weights.
    fn weights(&self) -> usize {
        Stretch { starts: &self.starts, heads: self.heads, d_head: self.d_head, first: 0 }.weights()
    }
}

impl Stretch<'_> {
    /// Every sequence.
    #[inline(always)]
    fn splits(self) -> impl Iterator<Item = Split> {
        let Self { starts, heads, d_head, .. } = self;
        starts.windows(2).map(move |ends| Split { seq: ends[1] - ends[0], heads, d_head })
    }
    /// The longest one's length.
    #[inline(always)]
    fn longest(self) -> Split {
        let seq = self.splits().map(|split| split.seq).max().unwrap_or(0);
        Split { seq, heads: self.heads, d_head: self.d_head }
    }
    /// Values of all tokens.
    fn values(self) -> usize {
        self.splits().map(Split::row).sum()
    }
    /// Number of weights.
    fn weights(self) -> usize {
        self.splits().map(Split::weights).sum()
    }
}

/// How heads lie in one sequence's `[seq, heads·d_head]`.
#[derive(Clone, Copy, Debug)]
struct Split {
    seq: usize,
    heads: usize,
    d_head: usize,
}

impl Split {
    /// Values of the sequence.
    #[inline(always)]
    fn row(self) -> usize {
        self.seq * self.heads * self.d_head
    }
    /// Its weights.
    #[inline(always)]
    fn weights(self) -> usize {
        self.heads * self.seq * self.seq
    }
    /// Length of a padded line of features.
    #[inline(always)]
    fn wide(self) -> usize {
        self.d_head.next_multiple_of(LINE)
    }
    /// Length of a padded line of keys.
    #[inline(always)]
    fn long(self) -> usize {
        self.seq.next_multiple_of(LINE)
    }
    /// What it costs beside the values of a cheap loop.
    fn cost(self) -> usize {
        self.weights() * (1 + self.d_head / 4)
    }
    /// A head's values at every position.
    #[inline(always)]
    fn lines<T>(self, row: &[T], head: usize) -> impl Iterator<Item = &[T]> {
        row.chunks_exact(self.heads * self.d_head).map(move |line| &line[head * self.d_head..][..self.d_head])
    }
    /// [`lines`](Self::lines), to write.
    #[inline(always)]
    fn lines_mut<T>(self, row: &mut [T], head: usize) -> impl Iterator<Item = &mut [T]> {
        row.chunks_exact_mut(self.heads * self.d_head).map(move |line| &mut line[head * self.d_head..][..self.d_head])
    }
    /// A head as padded lines, `[seq, wide]`.
    #[inline(always)]
    fn gather<T: Real>(self, row: &[T], head: usize, to: &mut [T]) {
        for (to, line) in to.chunks_exact_mut(self.wide()).zip(self.lines(row, head)) {
            to[..self.d_head].copy_from_slice(line);
        }
    }
    /// A head with the positions along the padded lines, `[d_head, long]`.
    #[inline(always)]
    fn gather_transposed<T: Real>(self, row: &[T], head: usize, to: &mut [T]) {
        let from = (&row[head * self.d_head..], self.heads * self.d_head);
        transpose(from, (to, self.long()), self.seq, self.d_head);
        // Another sequence's values may lie there, of another run, and not all be finite.
        for line in to.chunks_exact_mut(self.long()).take(self.d_head) {
            line[self.seq..].fill(T::ZERO);
        }
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

/// Some sequences' attention.
struct Forward<'a, T> {
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    y: &'a mut [T],
    /// Where softmax is kept.
    weights: Option<&'a mut [T]>,
    /// Whom nobody sees, where that is anyone.
    bias: Option<Bias<'a, T>>,
    dropout: Option<&'a DropoutBits>,
    stretch: Stretch<'a>,
    scale: T,
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

impl<T: Real> WithSimd for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { mut q, mut k, mut v, mut y, mut weights, bias, dropout, stretch, scale } = self;
        let longest = stretch.longest();
        let (wide, d_head) = (longest.wide(), longest.d_head);
        let mut keys = vec![T::ZERO; d_head * longest.long()];
        let mut queries = vec![T::ZERO; longest.seq * wide];
        let mut features = vec![T::ZERO; longest.seq * wide];
        let mut scores = vec![T::ZERO; longest.seq * longest.long()];
        let mut words = vec![0; if dropout.is_some() { longest.seq.div_ceil(2) } else { 0 }];
        let mut mask = vec![T::ZERO; longest.long()];
        for (index, shape) in stretch.splits().enumerate().filter(|(_, shape)| shape.seq > 0) {
            let (row, Split { seq, heads, .. }, long) = (stretch.first + index, shape, shape.long());
            let [q, k, v] = [&mut q, &mut k, &mut v].map(|x| first(x, shape.row()));
            let y = first_mut(&mut y, shape.row());
            let mut weights = weights.as_mut().map(|weights| first_mut(weights, shape.weights()));
            let (queries, features) = (&mut queries[..seq * wide], &mut features[..seq * wide]);
            let (scores, mask) = (&mut scores[..seq * long], &mut mask[..long]);
            // A key that is only padding is never seen.
            mask[seq..].fill(-T::ONE / T::ZERO);
            match bias {
                Some(bias) => bias.read(row, 0, &mut mask[..seq]),
                None => mask[..seq].fill(T::ZERO),
            }
            for head in 0..heads {
                shape.gather(q, head, queries);
                shape.gather_transposed(k, head, &mut keys);
                multiply(simd, scores, Left::Rows(queries, wide), &keys[..d_head * long], long, d_head);
                for (query, scores) in scores.chunks_exact_mut(long).enumerate() {
                    if let Some(bias) = bias.filter(|bias| bias.strides[1] != 0) {
                        bias.read(row, query, &mut mask[..seq]);
                    }
                    softmax(scores, mask, scale);
                    let scores = &mut scores[..seq];
                    let kept = weights.as_deref_mut().map(|weights| {
                        let weights = &mut weights[(head * seq + query) * seq..][..seq];
                        weights.copy_from_slice(scores);
                        weights
                    });
                    if let Some(dropout) = dropout {
                        dropout.draw(row, query * heads + head, &mut words);
                        for (score, half) in scores.iter_mut().zip(halves(&words)) {
                            *score = if dropout.drops(*half) { T::ZERO } else { *score * dropout.keep() };
                        }
                        if let Some(weights) = kept {
                            for (weight, half) in weights.iter_mut().zip(halves(&words)) {
                                *weight = if dropout.drops(*half) { -*weight } else { *weight };
                            }
                        }
                    }
                }
                shape.gather(v, head, features);
                multiply(simd, queries, Left::Rows(scores, long), features, wide, seq);
                shape.scatter(queries, y, head);
            }
        }
    }
}

/// The first `len` values, which are taken off.
#[inline(always)]
fn first<'a, T>(values: &mut &'a [T], len: usize) -> &'a [T] {
    let (first, rest) = values.split_at(len);
    *values = rest;
    first
}

/// [`first`], to write.
#[inline(always)]
#[expect(clippy::mut_mut, reason = "the slice itself moves on")]
fn first_mut<'a, T>(values: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (first, rest) = std::mem::take(values).split_at_mut(len);
    *values = rest;
    first
}

/// See [`Kernels::attend`](crate::kernel::Kernels::attend), in the precision of `T`.
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
    let starts = (0..=rows).map(|row| row * seq).collect();
    let sequences = Sequences { starts, heads, d_head: d / heads };
    let dropout = drop.map(|drop| DropoutBits::new(&drop, rows));
    let bias = cast(bias, T::dtype());
    forward::<T>([q, k, v], sequences, scale, Some(Bias::new(&bias)), dropout.as_ref(), keeps)
}

/// See [`Kernels::attend_varlen`](crate::kernel::Kernels::attend_varlen), in the precision of `T`.
pub(super) fn attend_varlen<T: Real>(
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    starts: FlexTensor,
    heads: usize,
    scale: f64,
    keeps: bool,
) -> (FlexTensor, Option<Attended>) {
    let starts = if starts.dtype() == DType::I64 { starts } else { Flex::int_cast(starts, IntDType::I64) };
    let starts = starts.to_contiguous();
    let starts = starts.as_slice::<i64>().unwrap_or_default().iter().map(|start| *start as usize).collect();
    let sequences = Sequences { starts, heads, d_head: q.layout().shape()[2] / heads };
    forward::<T>([q, k, v], sequences, scale, None, None, keeps)
}

fn forward<T: Real>(
    [q, k, v]: [FlexTensor; 3],
    sequences: Sequences,
    scale: f64,
    bias: Option<Bias<'_, T>>,
    dropout: Option<&DropoutBits>,
    keeps: bool,
) -> (FlexTensor, Option<Attended>) {
    let shape = q.layout().shape().clone();
    let [q, k, v] = [q, k, v].map(dense::<T>);
    let mut y = zeros::<T>(shape.num_elements());
    let mut weights = zeros::<T>(if keeps { sequences.weights() } else { 0 });
    let (mut outs, mut kept) = (&mut y[..], keeps.then_some(&mut weights[..]));
    let [mut qs, mut ks, mut vs] = [&q, &k, &v].map(values::<T>);
    let tasks = sequences.tasks(1).map(|stretch| {
        let len = stretch.values();
        Forward {
            q: first(&mut qs, len),
            k: first(&mut ks, len),
            v: first(&mut vs, len),
            y: first_mut(&mut outs, len),
            weights: kept.as_mut().map(|kept| first_mut(kept, stretch.weights())),
            bias,
            dropout,
            stretch,
            scale: T::of(scale),
        }
    });
    run_all(tasks.collect());
    let len = weights.len();
    let keep = dropout.map_or(1.0, DropoutBits::keep);
    let attended =
        keeps.then(|| Attended { q, k, v, weights: fresh(weights, Shape::new([len])), sequences, scale, keep });
    (fresh(y, shape), attended)
}

/// Some sequences' gradients.
struct Backward<'a, T> {
    dy: &'a [T],
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    weights: &'a [T],
    dq: &'a mut [T],
    dk: &'a mut [T],
    dv: &'a mut [T],
    stretch: Stretch<'a>,
    scale: T,
    keep: T,
}

impl<T: Real> WithSimd for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { mut dy, mut q, mut k, mut v, mut weights, mut dq, mut dk, mut dv, stretch, scale, keep } = self;
        let longest = stretch.longest();
        let (wide, d_head) = (longest.wide(), longest.d_head);
        let mut lines = vec![T::ZERO; longest.seq * wide];
        let mut result = vec![T::ZERO; longest.seq * wide];
        let mut features = vec![T::ZERO; d_head * longest.long()];
        let mut dropped = vec![T::ZERO; longest.seq * longest.long()];
        let mut slopes = vec![T::ZERO; longest.seq * longest.long()];
        for shape in stretch.splits().filter(|shape| shape.seq > 0) {
            let (seq, long) = (shape.seq, shape.long());
            let [dy, q, k, v] = [&mut dy, &mut q, &mut k, &mut v].map(|x| first(x, shape.row()));
            let [dq, dk, dv] = [&mut dq, &mut dk, &mut dv].map(|x| first_mut(x, shape.row()));
            let (lines, result) = (&mut lines[..seq * wide], &mut result[..seq * wide]);
            let (dropped, slopes) = (&mut dropped[..seq * long], &mut slopes[..seq * long]);
            for (head, weights) in first(&mut weights, shape.weights()).chunks_exact(seq * seq).enumerate() {
                for (dropped, weights) in dropped.chunks_exact_mut(long).zip(weights.chunks_exact(seq)) {
                    for (dropped, weight) in dropped.iter_mut().zip(weights) {
                        *dropped = if weight.is_signed() { T::ZERO } else { *weight * keep };
                    }
                    dropped[seq..].fill(T::ZERO);
                }
                // dV = dropped weightsᵀ·dY, and the weights' gradient dY·Vᵀ.
                shape.gather(dy, head, lines);
                multiply(simd, result, Left::Columns(dropped, long), lines, wide, seq);
                shape.scatter(result, dv, head);
                shape.gather_transposed(v, head, &mut features);
                multiply(simd, slopes, Left::Rows(lines, wide), &features[..d_head * long], long, d_head);
                // Σ dw·w over the keys is the same with dropped weights and their factors as without: what is dropped has no share.
                let pairs = slopes.chunks_exact_mut(long).zip(dropped.chunks_exact(long));
                for ((slopes, dropped), weights) in pairs.zip(weights.chunks_exact(seq)) {
                    let [mean] = sums([slopes, dropped], |[slope, weight]| [slope * weight]);
                    let line = slopes.iter_mut().zip(dropped).zip(weights);
                    for ((slope, dropped), weight) in line {
                        *slope = scale * slope.mul_add(*dropped, -(weight.abs() * mean));
                    }
                }
                shape.gather(k, head, lines);
                multiply(simd, result, Left::Rows(slopes, long), lines, wide, seq);
                shape.scatter(result, dq, head);
                shape.gather(q, head, lines);
                multiply(simd, result, Left::Columns(slopes, long), lines, wide, seq);
                shape.scatter(result, dk, head);
            }
        }
    }
}

/// See [`Kernels::attend_backward`](crate::kernel::Kernels::attend_backward), in the precision of `T`.
pub(super) fn attend_backward<T: Real>(dy: FlexTensor, kept: Attended) -> (FlexTensor, FlexTensor, FlexTensor) {
    let Attended { q, k, v, weights, sequences, scale, keep } = kept;
    let shape = q.layout().shape().clone();
    let dy = dense::<T>(dy);
    let [mut dq, mut dk, mut dv] = [(); 3].map(|()| zeros::<T>(shape.num_elements()));
    let mut outs = [&mut dq[..], &mut dk[..], &mut dv[..]];
    let [mut dys, mut qs, mut ks, mut vs, mut all] = [&dy, &q, &k, &v, &weights].map(values::<T>);
    let tasks = sequences.tasks(2).map(|stretch| {
        let len = stretch.values();
        let [dq, dk, dv] = outs.each_mut().map(|out| first_mut(out, len));
        Backward {
            dy: first(&mut dys, len),
            q: first(&mut qs, len),
            k: first(&mut ks, len),
            v: first(&mut vs, len),
            weights: first(&mut all, stretch.weights()),
            dq,
            dk,
            dv,
            stretch,
            scale: T::of(scale),
            keep: T::of(keep),
        }
    });
    run_all(tasks.collect());
    (fresh(dq, shape.clone()), fresh(dk, shape.clone()), fresh(dv, shape))
}
