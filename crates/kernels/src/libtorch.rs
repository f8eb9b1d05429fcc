//! Kernels for LibTorch.
//!
//! On CUDA the operations are kernels of our own, compiled at run time for the GPU and launched on LibTorch's stream, beside LibTorch's
//! attention and matrix products; elsewhere they are composed of LibTorch's operations. What LibTorch has and its Rust binding does not
//! (CUDA graphs, memory statistics, the precision of products, facts about GPUs) is here as well.
//!
//! | file | job |
//! |---|---|
//! | `kernels.cu` | the kernels |
//! | `shim.cpp` | LibTorch's and the driver's interfaces behind plain functions |
//! | `ffi.rs` | those functions in safe Rust, and the only unsafe code of the workspace |
//! | `device.rs` | versions and GPUs |
//! | `cuda.rs` | launches |
//! | `aten.rs` | the operations without kernels |

mod aten;
mod cuda;
mod device;
mod ffi;

use std::sync::OnceLock;

use burn::backend::{
    LibTorch,
    tensor::{FloatTensor, IntTensor},
};
use burn_tch::TchTensor;
use tch::{Kind, Tensor};

pub use self::{
    device::{Gpu, Versions, gpus, versions},
    ffi::{Error, Graph, Memory, Pool, empty_cache, matmul_precision, memory, reset_peak, synchronize},
};
use crate::{
    columns,
    kernel::{Adam, Drop, Kernels, Normed},
};

/// A dropout whose keys are as the kernels read them.
struct Dropping {
    /// `[runs]`, 64-bit and contiguous.
    keys: Tensor,
    site: u64,
    p: f64,
}

impl Dropping {
    fn of(drop: &Drop<LibTorch>) -> Self {
        Self { keys: drop.keys.tensor.to_kind(Kind::Int64).contiguous(), site: drop.site, p: drop.p }
    }

    fn rows_per_run(&self, rows: i64) -> i64 {
        let runs = self.keys.numel() as i64;
        assert!(runs > 0 && rows % runs == 0, "{rows} rows are not of {runs} runs alike");
        (rows / runs).max(1)
    }

    /// What a kept value is multiplied by.
    fn scale(&self) -> f64 {
        1.0 / (1.0 - self.p)
    }
}

/// What attention keeps for its backward pass.
#[derive(Clone, Debug)]
pub enum Attended {
    /// Of LibTorch's memory-efficient attention, which keeps nothing of the size of the scores.
    Efficient {
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
    },
    /// Of LibTorch's flash attention over packed sequences.
    Flash {
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
    },
    /// Of attention by its probabilities.
    Probabilities {
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
    },
}

/// Compiles the kernels for f32 and for `also` on a CUDA device, a few seconds of work that is otherwise done when they are first used.
///
/// A capture of a [`Graph`] cannot do it. `also` names another precision, such as bf16.
pub fn prepare(device: usize, also: Option<burn::tensor::DType>) -> Result<(), Error> {
    use burn::tensor::DType;
    let also = also.and_then(|dtype| match dtype {
        DType::BF16 => Some(Kind::BFloat16),
        DType::F16 => Some(Kind::Half),
        DType::F64 => Some(Kind::Double),
        _ => None,
    });
    let each = [Some(Kind::Float), also].into_iter().flatten().flat_map(|kind| [(kind, true), (kind, false)]);
    std::thread::scope(|scope| {
        let started: Vec<_> =
            each.map(|(kind, aligned)| scope.spawn(move || ffi::prepare(device, kind, aligned))).collect();
        let joined = started.into_iter().map(|thread| thread.join());
        joined.map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// Whether LibTorch's flash attention runs on a CUDA device: from Ampere on.
pub fn has_flash(device: usize) -> bool {
    static KNOWN: OnceLock<Vec<Gpu>> = OnceLock::new();
    let gpus = KNOWN.get_or_init(|| gpus().unwrap_or_default());
    gpus.iter().any(|gpu| gpu.index == device && gpu.capability.0 >= 8)
}

/// The sum of squares of every run's values, `[runs]` of `x` `[runs, n]`, f32 at least. The order of the sum depends on `n` alone.
pub fn squared_norms(x: &FloatTensor<LibTorch>) -> FloatTensor<LibTorch> {
    fresh(match cuda::device(&x.tensor) {
        Some(device) => cuda::squared_norms(device, &x.tensor),
        None => aten::squared_norms(&x.tensor),
    })
}

/// A contiguous tensor that may be written: `x` itself where nothing else holds it.
fn owned(x: TchTensor) -> TchTensor {
    if x.can_mut() && x.tensor.is_contiguous() { x } else { fresh(x.tensor.contiguous().copy()) }
}

/// A tensor that shares its memory with no other.
fn fresh(tensor: Tensor) -> TchTensor {
    TchTensor::new(tensor)
}

/// `tensor`, which is `of` itself, a view of it from its start, or fresh.
fn related(tensor: Tensor, of: &TchTensor) -> TchTensor {
    TchTensor::from_existing(tensor, of.storage.clone())
}

fn dropped(x: &Tensor, drop: &Dropping) -> Tensor {
    match cuda::device(x) {
        Some(device) => {
            let y = Tensor::empty(x.size(), (x.kind(), x.device()));
            cuda::dropout(device, x, &y, drop);
            y
        }
        None => aten::dropout(x, drop),
    }
}

/// [`dropped`] of probabilities `[rows, heads, queries, keys]`.
fn dropped_probabilities(p: &Tensor, drop: &Dropping) -> Tensor {
    let [rows, heads, queries, keys] = p.size()[..] else { panic!("probabilities are [rows, heads, queries, keys]") };
    let lines = p.transpose(1, 2).reshape([rows, queries * heads, keys]);
    dropped(&lines, drop).view([rows, queries, heads, keys]).transpose(1, 2).contiguous()
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

fn sizes(x: &Tensor) -> (i64, i64, i64) {
    x.size3().unwrap_or_else(|error| panic!("LibTorch: {error}"))
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

fn attend_efficiently(
    q: TchTensor,
    k: TchTensor,
    v: TchTensor,
    bias: &TchTensor,
    heads: i64,
    scale: f64,
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
        Attended::Efficient { q, k, v, bias, y: y.clone(), logsumexp, seed, offset, heads, scale }
    });
    (y, kept)
}

impl Kernels for LibTorch {
    type Attended = Attended;

    fn assign(target: FloatTensor<Self>, source: FloatTensor<Self>) -> FloatTensor<Self> {
        target.tensor.shallow_clone().copy_(&source.tensor);
        target
    }

    fn assign_ints(target: IntTensor<Self>, source: IntTensor<Self>) -> IntTensor<Self> {
        target.tensor.shallow_clone().copy_(&source.tensor);
        target
    }

    fn snapshot(x: FloatTensor<Self>) -> FloatTensor<Self> {
        fresh(x.tensor.copy())
    }

    fn dropout(x: FloatTensor<Self>, drop: Drop<Self>) -> FloatTensor<Self> {
        let dropping = Dropping::of(&drop);
        if let Some(device) = cuda::device(&x.tensor)
            && x.can_mut()
            && x.tensor.is_contiguous()
        {
            cuda::dropout(device, &x.tensor, &x.tensor, &dropping);
            return x;
        }
        fresh(dropped(&x.tensor, &dropping))
    }

    fn norm(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        drop: Option<Drop<Self>>,
    ) -> Normed<Self> {
        let drop = drop.as_ref().map(Dropping::of);
        let residual = residual.as_ref().map(|residual| &residual.tensor);
        let (gamma, beta) = (&gamma.tensor, &beta.tensor);
        let x = if x.tensor.is_contiguous() { x } else { fresh(x.tensor.contiguous()) };
        let done = cuda::device(&x.tensor)
            .and_then(|device| cuda::norm(device, &x.tensor, residual, gamma, beta, epsilon, drop.as_ref()));
        if let Some(cuda::Normed { y, z, statistics }) = done {
            return Normed { y: fresh(y), z: z.map_or(x, fresh), statistics: fresh(statistics) };
        }
        let x = match drop {
            Some(drop) => fresh(dropped(&x.tensor, &drop)),
            None => x,
        };
        let (y, z, statistics) = aten::norm(&x.tensor, residual, gamma, beta, epsilon);
        Normed { y: fresh(y), z: z.map_or(x, fresh), statistics: fresh(statistics) }
    }

    fn norm_backward(
        dy: FloatTensor<Self>,
        z: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (dy, z, statistics, gamma) = (&dy.tensor, &z.tensor, &statistics.tensor, &gamma.tensor);
        let done = cuda::device(z).and_then(|device| cuda::norm_backward(device, dy, z, statistics, gamma));
        fresh(done.unwrap_or_else(|| aten::norm_backward(dy, z, statistics, gamma)))
    }

    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        fresh(x.tensor.contiguous().gelu("none"))
    }

    fn exact_gelu_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let dy = dy.tensor.to_kind(x.tensor.kind()).contiguous();
        fresh(x.tensor.contiguous().gelu_backward(&dy, "none"))
    }

    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        heads: usize,
        scale: f64,
        drop: Option<Drop<Self>>,
        keeps: bool,
    ) -> (FloatTensor<Self>, Option<Attended>) {
        let (heads, kind) = (heads as i64, q.tensor.kind());
        let [k, v] = [k, v].map(|x| related(x.tensor.to_kind(kind), &x));
        if drop.is_none() && is_efficient(&q.tensor, heads) {
            return attend_efficiently(q, k, v, &bias, heads, scale, keeps);
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
            Attended::Probabilities { q, k, v, p, scale, drop }
        });
        (fresh(y), kept)
    }

    fn attend_backward(
        dy: FloatTensor<Self>,
        kept: Attended,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        match kept {
            Attended::Efficient { q, k, v, bias, y, logsumexp, seed, offset, heads, scale } => {
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
            Attended::Flash { q, k, v, y, logsumexp, starts, state: [seed, offset], longest, scale } => {
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
            Attended::Probabilities { q, k, v, p, scale, drop } => {
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
    }

    fn attend_varlen(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        starts: IntTensor<Self>,
        longest: usize,
        heads: usize,
        scale: f64,
        keeps: bool,
    ) -> (FloatTensor<Self>, Option<Attended>) {
        let size = q.tensor.size();
        let (kind, heads, longest) = (q.tensor.kind(), heads as i64, longest as i64);
        let by_head = |x: TchTensor| {
            let x = loadable(related(x.tensor.to_kind(kind), &x));
            related(x.tensor.reshape([-1, heads, size[2] / heads]), &x)
        };
        let [q, k, v] = [q, k, v].map(by_head);
        let starts = related(starts.tensor.to_kind(Kind::Int).contiguous(), &starts);
        let flash = ffi::flash(&q.tensor, &k.tensor, &v.tensor, &starts.tensor, longest, scale)
            .unwrap_or_else(|error| panic!("LibTorch, attention: {error}"));
        let [y, logsumexp, seed, offset] = flash.map(fresh);
        let y = related(y.tensor.reshape(&size[..]), &y);
        let state = [seed, offset];
        let kept = keeps.then(|| Attended::Flash { q, k, v, y: y.clone(), logsumexp, starts, state, longest, scale });
        (y, kept)
    }

    fn add_product(c: FloatTensor<Self>, x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        let mut c = c;
        let kind = c.tensor.kind();
        let (x, y) = (x.tensor.to_kind(kind), y.tensor.to_kind(kind));
        let (runs, n, _) = sizes(&x);
        let whole = c.tensor.size() == [runs, n, sizes(&y).2];
        let alone = runs == 1 && c.tensor.size()[0] == 1;
        let (x, y) = if alone { (x.squeeze_dim(0), y.squeeze_dim(0)) } else { (x, y) };
        if whole && c.can_mut() && c.tensor.is_contiguous() {
            // The sum goes where `c` was.
            let _ = if alone { c.tensor.squeeze_dim(0).addmm_(&x, &y) } else { c.tensor.baddbmm_(&x, &y) };
            return c;
        }
        fresh(if alone {
            c.tensor.squeeze_dim(0).addmm(&x, &y).unsqueeze(0)
        } else {
            c.tensor.baddbmm(&x, &y, 1.0, 1.0)
        })
    }

    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: Option<FloatTensor<Self>>) -> FloatTensor<Self> {
        let mut size = x.tensor.size();
        let d_out = weight.tensor.size()[1];
        let flat = x.tensor.reshape([-1, weight.tensor.size()[0]]);
        let y = match bias {
            // One kernel, which starts its sums from the bias.
            Some(bias) => bias.tensor.addmm(&flat, &weight.tensor),
            None => flat.mm(&weight.tensor),
        };
        if let Some(last) = size.last_mut() {
            *last = d_out;
        }
        fresh(y.view(size.as_slice()))
    }

    fn add_product_to_rows(
        c: FloatTensor<Self>,
        start: usize,
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let c = owned(c);
        let kind = c.tensor.kind();
        let (x, y) = (x.tensor.to_kind(kind), y.tensor.to_kind(kind));
        let ((_, seq, m), (runs, n, _)) = (sizes(&c.tensor), sizes(&x));
        let rows = c.tensor.narrow(0, start as i64, runs * n / seq);
        if runs == 1 {
            let _ = rows.view([n, m]).addmm_(&x.squeeze_dim(0), &y.squeeze_dim(0));
        } else {
            let _ = rows.view([runs, n, m]).baddbmm_(&x, &y);
        }
        c
    }

    fn add_to_rows(c: FloatTensor<Self>, start: usize, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let c = owned(c);
        let mut rows = c.tensor.narrow(0, start as i64, x.tensor.size()[0]);
        let _ = rows.g_add_(&x.tensor.to_kind(c.tensor.kind()));
        c
    }

    fn column_norms(
        base: FloatTensor<Self>,
        squares: FloatTensor<Self>,
        down: FloatTensor<Self>,
        up: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let done = cuda::device(&base.tensor)
            .and_then(|device| cuda::column_norms(device, &base.tensor, &down.tensor, &up.tensor));
        done.map_or_else(|| columns::norms::<Self>(base, squares, down, up), fresh)
    }

    fn scale_columns(
        x: FloatTensor<Self>,
        magnitude: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        let shift = bias.as_ref().map(|bias| &bias.tensor);
        let done = cuda::device(&x.tensor)
            .and_then(|device| cuda::scale_columns(device, &x.tensor, &magnitude.tensor, &norm.tensor, shift));
        done.map_or_else(|| columns::scale::<Self>(x, magnitude, norm, bias), fresh)
    }

    fn scale_columns_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        magnitude: FloatTensor<Self>,
        norm: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let done = cuda::device(&x.tensor).and_then(|device| {
            cuda::scale_columns_backward(device, &dy.tensor, &x.tensor, &magnitude.tensor, &norm.tensor)
        });
        match done {
            Some((dx, dm)) => (fresh(dx), fresh(dm)),
            None => columns::scale_backward::<Self>(dy, x, magnitude, norm),
        }
    }

    fn adamw(
        value: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        segment: IntTensor<Self>,
        coefficients: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        adam: Adam,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (gradient, segment) = (&gradient.tensor, &segment.tensor);
        let (coefficients, clip) = (&coefficients.tensor, &clip.tensor);
        let kind = value.tensor.kind();
        let alike = first.tensor.kind() == kind && second.tensor.kind() == kind;
        if let Some(device) = cuda::device(&value.tensor).filter(|_| alike) {
            let [value, first, second] =
                [value, first, second].map(|x| if x.tensor.is_contiguous() { x } else { fresh(x.tensor.contiguous()) });
            let (p, m, v) = (&value.tensor, &first.tensor, &second.tensor);
            cuda::adamw(device, p, m, v, gradient, segment, coefficients, clip, adam);
            return (value, first, second);
        }
        let (value, first, second) = (&value.tensor, &first.tensor, &second.tensor);
        let (value, first, second) = aten::adamw(value, first, second, gradient, segment, coefficients, clip, adam);
        (fresh(value), fresh(first), fresh(second))
    }
}

/// `x` in another precision, or as it is.
fn fresh_or_same(x: TchTensor, kind: Kind) -> TchTensor {
    if x.tensor.kind() == kind { x } else { fresh(x.tensor.to_kind(kind)) }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn squares_are_summed_for_every_run() {
        let name = std::env::var("LORA_LAB_TEST_DEVICE").unwrap_or_default();
        let index = name.strip_prefix("tch:cuda:").and_then(|index| index.parse().ok());
        let device = index.map_or(Device::Cpu, Device::Cuda);
        for kind in [Kind::Float, Kind::Double, Kind::BFloat16] {
            for n in [1, 1000, 70_001] {
                let x = Tensor::arange(3 * n, (Kind::Double, Device::Cpu)).remainder(7.0).view([3, n]) * 0.5 + 0.5;
                let expected = x.square().sum_dim_intlist(-1, false, Kind::Double);
                let found = squared_norms(&fresh(x.to_kind(kind).to_device(device))).tensor;
                assert_eq!(found.kind(), cuda::wide(kind));
                let found = found.to_device(Device::Cpu).to_kind(Kind::Double);
                let worst = ((found - &expected).abs() / expected).max().double_value(&[]);
                assert!(worst < 1e-6, "{kind:?}, {n}: {worst:e}");
            }
        }
    }
}
