//! Attention on LibTorch, by the fastest of its ways that the tensors allow, with what each keeps for its backward pass.

use burn::backend::LibTorch;
use burn_tch::TchTensor;
use tch::{Kind, Tensor};

use super::{Dropping, aten, cuda, dropped, ffi, fresh, related, sizes};
use crate::kernel::Drop;

/// What attention keeps for its backward pass.
#[derive(Clone, Debug)]
pub enum Attended {
    /// Of LibTorch's memory-efficient attention.
    Efficient(Efficient),
    /// Of LibTorch's flash attention over packed sequences.
    Flash(Flash),
    /// Of attention by its probabilities.
    Probabilities(Probabilities),
}

/// What LibTorch's memory-efficient attention keeps: nothing of the size of the scores.
#[derive(Clone, Debug)]
pub struct Efficient {
    /// `[rows, seq, heads·d_head]`.
    q: TchTensor,
    /// Like `q`.
    k: TchTensor,
    /// Like `q`.
    v: TchTensor,
    /// `[rows, heads, seq, seq]` in the precision of `q`, aligned as LibTorch wants it.
    bias: TchTensor,
    /// What came out, like `q`.
    y: TchTensor,
    /// Logarithm of the sum of the exponentials, `[rows, heads, at least seq]`, f32.
    logsumexp: TchTensor,
    /// Of a random generator that nothing draws from.
    seed: TchTensor,
    /// Likewise.
    offset: TchTensor,
    /// Number of heads.
    heads: i64,
    /// Of the scores.
    scale: f64,
}

/// What LibTorch's flash attention over packed sequences keeps.
#[derive(Clone, Debug)]
pub struct Flash {
    /// `[tokens, heads, d_head]`.
    q: TchTensor,
    /// Like `q`.
    k: TchTensor,
    /// Like `q`.
    v: TchTensor,
    /// What came out, `[lines, n, heads·d_head]`.
    y: TchTensor,
    /// Logarithm of the sum of the exponentials, `[heads, tokens]`, f32.
    logsumexp: TchTensor,
    /// `[sequences + 1]`, 32-bit.
    starts: TchTensor,
    /// Of a random generator that nothing draws from.
    state: [TchTensor; 2],
    /// At least as long as any sequence.
    longest: i64,
    /// Of the scores.
    scale: f64,
}

/// What attention by its probabilities keeps.
#[derive(Clone, Debug)]
pub struct Probabilities {
    /// `[rows·heads, seq, d_head]`.
    q: TchTensor,
    /// Like `q`.
    k: TchTensor,
    /// Like `q`.
    v: TchTensor,
    /// Before dropout, `[rows, heads, seq, seq]`.
    p: TchTensor,
    /// Of the scores.
    scale: f64,
    /// Dropout of the probabilities.
    drop: Option<Drop<LibTorch>>,
}

/// See [`Kernels::attend`](crate::kernel::Kernels::attend).
pub(super) fn attend(
    [q, k, v]: [TchTensor; 3],
    bias: &TchTensor,
    (heads, scale): (i64, f64),
    drop: Option<Drop<LibTorch>>,
    keeps: bool,
) -> (TchTensor, Option<Attended>) {
    let kind = q.tensor.kind();
    let [k, v] = [k, v].map(|x| related(x.tensor.to_kind(kind), &x));
    if drop.is_none() && is_efficient(&q.tensor, heads) {
        return attend_efficiently([q, k, v], bias, (heads, scale), keeps);
    }
    let (rows, queries, _) = sizes(&q.tensor);
    let keys = sizes(&k.tensor).1;
    // The originals go, unless the split is a view of them: what is kept is kept once.
    let [q, k, v] = [q, k, v].map(|x| related(split(&x.tensor, heads), &x));
    let dropping = drop.as_ref().map(Dropping::of);
    let scores = q.tensor.bmm(&k.tensor.transpose(1, 2)).view([rows, heads, queries, keys]);
    let (p, dropped) = softmax(scores, &bias.tensor, scale, dropping.as_ref(), keeps);
    let weights = dropped.as_ref().unwrap_or(&p).view([rows * heads, queries, keys]);
    let y = joined(&weights.bmm(&v.tensor), heads);
    let kept = keeps.then(|| {
        let p = fresh(p);
        Attended::Probabilities(Probabilities { q, k, v, p, scale, drop })
    });
    (fresh(y), kept)
}

fn attend_efficiently(
    [q, k, v]: [TchTensor; 3],
    bias: &TchTensor,
    (heads, scale): (i64, f64),
    keeps: bool,
) -> (TchTensor, Option<Attended>) {
    let (rows, queries, d) = sizes(&q.tensor);
    let keys = sizes(&k.tensor).1;
    let bias = loadable_bias(bias, q.tensor.kind(), [rows, heads, queries, keys]);
    let [q, k, v] = [q, k, v].map(loadable);
    let [q4, k4, v4] = [&q, &k, &v].map(|x| by_heads(&x.tensor, heads).transpose(1, 2));
    let (y, logsumexp, seed, offset) = Tensor::internal_scaled_dot_product_efficient_attention(
        &q4,
        &k4,
        &v4,
        Some(&bias.tensor),
        keeps,
        0.0,
        false,
        scale,
    );
    let y = fresh(y.transpose(1, 2).reshape([rows, queries, d])); // laid out like this already
    let kept = keeps.then(|| {
        // Where nothing is drawn, nothing need be there.
        let some = |x: Tensor| if x.defined() { x } else { Tensor::zeros([1], (Kind::Int64, logsumexp.device())) };
        let [seed, offset] = [seed, offset].map(|x| fresh(some(x)));
        let logsumexp = fresh(logsumexp);
        Attended::Efficient(Efficient { q, k, v, bias, y: y.clone(), logsumexp, seed, offset, heads, scale })
    });
    (y, kept)
}

/// See [`Kernels::attend_varlen`](crate::kernel::Kernels::attend_varlen).
pub(super) fn attend_varlen(
    qkv: [TchTensor; 3],
    starts: &TchTensor,
    longest: i64,
    (heads, scale): (i64, f64),
    keeps: bool,
) -> (TchTensor, Option<Attended>) {
    let (size, kind) = (qkv[0].tensor.size(), qkv[0].tensor.kind());
    let by_head = |x: TchTensor| {
        let x = loadable(related(x.tensor.to_kind(kind), &x));
        related(x.tensor.reshape([-1, heads, size[2] / heads]), &x)
    };
    let [q, k, v] = qkv.map(by_head);
    let starts = related(starts.tensor.to_kind(Kind::Int).contiguous(), starts);
    let flash = ffi::flash(&q.tensor, &k.tensor, &v.tensor, &starts.tensor, longest, scale)
        .unwrap_or_else(|error| panic!("LibTorch, attention: {error}"));
    let [y, logsumexp, seed, offset] = flash.map(fresh);
    let y = related(y.tensor.reshape(&size[..]), &y);
    let state = [seed, offset];
    let kept =
        keeps.then(|| Attended::Flash(Flash { q, k, v, y: y.clone(), logsumexp, starts, state, longest, scale }));
    (y, kept)
}

/// See [`Kernels::attend_backward`](crate::kernel::Kernels::attend_backward).
pub(super) fn attend_backward(dy: TchTensor, kept: Attended) -> (TchTensor, TchTensor, TchTensor) {
    match kept {
        Attended::Efficient(kept) => kept.backward(dy),
        Attended::Flash(kept) => kept.backward(&dy),
        Attended::Probabilities(kept) => kept.backward(&dy),
    }
}

impl Efficient {
    /// Gradients through LibTorch's memory-efficient attention.
    fn backward(self, dy: TchTensor) -> (TchTensor, TchTensor, TchTensor) {
        let Self { q, k, v, bias, y, logsumexp, seed, offset, heads, scale } = self;
        let (queries, keys) = (sizes(&q.tensor).1, sizes(&k.tensor).1);
        let dy = loadable(fresh_or_same(dy, q.tensor.kind()));
        let [dy, q, k, v, y] = [&dy, &q, &k, &v, &y].map(|x| by_heads(&x.tensor, heads));
        let (dq, dk, dv, _) = Tensor::internal_efficient_attention_backward(
            &dy,
            &q,
            &k,
            &v,
            Some(&bias.tensor),
            &y,
            None,
            None,
            queries,
            keys,
            &logsumexp.tensor,
            0.0,
            &seed.tensor,
            &offset.tensor,
            0, // no mask but the bias
            false,
            scale,
            1, // keys are not split among blocks, whose sums would come in any order
            None,
            false,
        );
        let [dq, dk, dv] = [dq, dk, dv].map(|x| {
            let size = x.size();
            fresh(x.reshape([size[0], size[1], size[2] * size[3]]))
        });
        (dq, dk, dv)
    }
}

impl Flash {
    /// Gradients through LibTorch's flash attention.
    fn backward(self, dy: &TchTensor) -> (TchTensor, TchTensor, TchTensor) {
        let Self { q, k, v, y, logsumexp, starts, state: [seed, offset], longest, scale } = self;
        let (size, by_head) = (y.tensor.size(), q.tensor.size());
        let dy = dy.tensor.to_kind(q.tensor.kind()).contiguous().view(&by_head[..]);
        let (dq, dk, dv) = Tensor::internal_flash_attention_backward(
            &dy,
            &q.tensor,
            &k.tensor,
            &v.tensor,
            &y.tensor.view(&by_head[..]),
            &logsumexp.tensor,
            &starts.tensor,
            &starts.tensor,
            longest,
            longest,
            0.0,
            false,
            &seed.tensor,
            &offset.tensor,
            scale,
            None,
            None,
        );
        let [dq, dk, dv] = [dq, dk, dv].map(|x| fresh(x.reshape(&size[..])));
        (dq, dk, dv)
    }
}

impl Probabilities {
    /// Gradients through probabilities that were kept.
    fn backward(self, dy: &TchTensor) -> (TchTensor, TchTensor, TchTensor) {
        let Self { q, k, v, p, scale, drop } = self;
        let (q, k, v, p) = (&q.tensor, &k.tensor, &v.tensor, &p.tensor);
        let size = p.size();
        let heads = size[1];
        let flat = [size[0] * heads, size[2], size[3]];
        let dropping = drop.as_ref().map(Dropping::of);
        let dy = split(&dy.tensor.to_kind(q.kind()), heads);
        let dp = dy.bmm(&v.transpose(1, 2)).view(&size[..]);
        let (ds, dropped) = softmax_backward(dp, p, scale, dropping.as_ref());
        let dv = dropped.as_ref().unwrap_or(p).view(flat).transpose(1, 2).bmm(&dy);
        let ds = ds.view(flat);
        let (dq, dk) = (ds.bmm(k), ds.transpose(1, 2).bmm(q));
        let [dq, dk, dv] = [dq, dk, dv].map(|x| fresh(joined(&x, heads)));
        (dq, dk, dv)
    }
}

/// Probabilities of fresh contiguous `scores` `[rows, heads, queries, keys]`, and their dropped values where something is dropped.
fn softmax(
    scores: Tensor,
    bias: &Tensor,
    scale: f64,
    drop: Option<&Dropping>,
    keeps: bool,
) -> (Tensor, Option<Tensor>) {
    let done = cuda::device(&scores).and_then(|device| cuda::softmax(device, &scores, bias, scale, drop, keeps));
    if let Some(cuda::Dropped(dropped)) = done {
        return (scores, dropped);
    }
    let p = aten::softmax(&scores, bias, scale);
    let dropped = drop.map(|drop| dropped_probabilities(&p, drop));
    (p, dropped)
}

/// Gradient of the scores before their scale, from that of the dropped probabilities, fresh and contiguous; and the dropped probabilities.
fn softmax_backward(dp: Tensor, p: &Tensor, scale: f64, drop: Option<&Dropping>) -> (Tensor, Option<Tensor>) {
    let done = cuda::device(&dp).and_then(|device| cuda::softmax_backward(device, &dp, p, scale, drop));
    if let Some(cuda::Dropped(dropped)) = done {
        return (dp, dropped);
    }
    let dropped = drop.map(|drop| dropped_probabilities(p, drop));
    let dp = match drop {
        Some(drop) => dropped_probabilities(&dp, drop),
        None => dp,
    };
    (aten::softmax_backward(&dp, p, scale), dropped)
}

/// [`dropped`] of probabilities `[rows, heads, queries, keys]`.
fn dropped_probabilities(p: &Tensor, drop: &Dropping) -> Tensor {
    let [rows, heads, queries, keys] = p.size()[..] else { panic!("probabilities are [rows, heads, queries, keys]") };
    let lines = p.transpose(1, 2).reshape([rows, queries * heads, keys]);
    dropped(&lines, drop).view([rows, queries, heads, keys]).transpose(1, 2).contiguous()
}

/// `[rows, seq, heads·d_head]` as `[rows·heads, seq, d_head]`, contiguous.
fn split(x: &Tensor, heads: i64) -> Tensor {
    let (rows, seq, d) = sizes(x);
    x.reshape([rows, seq, heads, d / heads]).transpose(1, 2).contiguous().view([rows * heads, seq, d / heads])
}

/// The way back.
fn joined(x: &Tensor, heads: i64) -> Tensor {
    let (lines, seq, d_head) = sizes(x);
    let rows = lines / heads;
    x.view([rows, heads, seq, d_head]).transpose(1, 2).contiguous().view([rows, seq, heads * d_head])
}

/// Whether LibTorch's memory-efficient attention takes these.
fn is_efficient(q: &Tensor, heads: i64) -> bool {
    /// What 16 bytes hold: the loads of its matrix products.
    fn unit(kind: Kind) -> Option<i64> {
        match kind {
            Kind::BFloat16 | Kind::Half => Some(8),
            Kind::Float => Some(4),
            _ => None,
        }
    }
    let (rows, seq, d) = sizes(q);
    // A row is an index of a block, of which CUDA has 16 bits.
    let fits = rows > 0 && rows < 65536 && seq > 0;
    q.device().is_cuda() && fits && unit(q.kind()).is_some_and(|unit| (d / heads) % unit == 0)
}

/// `x` `[rows, seq, d]` where its vectors of 16 bytes can be loaded, else a copy.
fn loadable(x: TchTensor) -> TchTensor {
    let stride = x.tensor.stride();
    let unit = 16 / x.tensor.kind().elt_size_in_bytes() as i64;
    if stride[2] == 1 && stride[0] % unit == 0 && stride[1] % unit == 0 && cuda::starts_aligned(&x.tensor) {
        return x;
    }
    fresh(cuda::repacked(&x.tensor))
}

/// The mask in the precision of the scores, with lines that start where LibTorch's attention can load them, for every head and query.
fn loadable_bias(bias: &TchTensor, kind: Kind, [rows, heads, queries, keys]: [i64; 4]) -> TchTensor {
    const UNIT: i64 = 8; // LibTorch's own, for every precision
    let tensor = if bias.tensor.kind() == kind {
        bias.tensor.shallow_clone()
    } else {
        // What is large in f32 would become infinite, and a line of nothing else not a number.
        let lowest = if kind == Kind::Half { -3e4 } else { -1e30 };
        bias.tensor.clamp_min(lowest).to_kind(kind)
    };
    let (size, stride) = (tensor.size(), tensor.stride());
    let is_loadable = |axis: usize| size[axis] == 1 || stride[axis] % UNIT == 0;
    let tensor = if stride[3] == 1 && (0..3).all(is_loadable) && cuda::starts_aligned(&tensor) {
        tensor
    } else {
        let room = (keys + UNIT - 1) / UNIT * UNIT;
        let wider = Tensor::zeros([size[0], size[1], size[2], room], (kind, tensor.device()));
        wider.narrow(3, 0, keys).copy_(&tensor);
        wider.narrow(3, 0, keys)
    };
    related(tensor.expand([rows, heads, queries, keys], false), bias)
}

/// `[rows, seq, heads·d_head]` as `[rows, seq, heads, d_head]`, a view.
fn by_heads(x: &Tensor, heads: i64) -> Tensor {
    let (rows, seq, d) = sizes(x);
    x.view([rows, seq, heads, d / heads])
}

/// `x` in another precision, or as it is.
fn fresh_or_same(x: TchTensor, kind: Kind) -> TchTensor {
    if x.tensor.kind() == kind { x } else { fresh(x.tensor.to_kind(kind)) }
}
