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
//! | `attention.rs` | attention, by the fastest of LibTorch's ways |
//! | `aten.rs` | the operations without kernels |

mod aten;
mod attention;
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
    attention::Attended,
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

fn sizes(x: &Tensor) -> (i64, i64, i64) {
    x.size3().unwrap_or_else(|error| panic!("LibTorch: {error}"))
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

    fn cayley(q: FloatTensor<Self>) -> FloatTensor<Self> {
        let q = &q.tensor;
        fresh(match cuda::device(q) {
            Some(device) => cuda::cayley(device, q),
            None => aten::cayley(q),
        })
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
        attention::attend([q, k, v], &bias, (heads as i64, scale), drop, keeps)
    }

    fn attend_backward(
        dy: FloatTensor<Self>,
        kept: Attended,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        attention::attend_backward(dy, kept)
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
        attention::attend_varlen([q, k, v], &starts, longest as i64, (heads as i64, scale), keeps)
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
