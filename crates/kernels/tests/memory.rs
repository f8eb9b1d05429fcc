//! Memory is given back where a forward pass ends without its backward pass.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::panic::{self, AssertUnwindSafe};

use burn::tensor::{Device, Tensor};
use kernels::memory::forget_unfinished_graphs;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Numbers of a tensor: 1 MiB.
const SIZE: usize = 1 << 18;
/// Operations in a row, each of which keeps a tensor for its backward pass.
const DEPTH: usize = 40;

/// A forward pass that a panic ends, as one of a device without memory.
fn unfinished() {
    let device = Device::flex().autodiff();
    let forward = || {
        let mut x = Tensor::<1>::ones([SIZE], &device).require_grad();
        for _ in 0..DEPTH {
            x = x.clone().exp() * x;
        }
        panic::panic_any("out of memory");
    };
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    assert!(panic::catch_unwind(AssertUnwindSafe(forward)).is_err());
    panic::set_hook(hook);
}

#[test]
fn an_unfinished_forward_pass_is_forgotten_and_one_in_use_is_not() {
    let device = Device::flex().autodiff();
    let used = Tensor::<1>::ones([SIZE], &device).require_grad();
    let in_use = (used.clone() * used.clone()).exp();
    let before = MEMORY.current_usage_as_mb();
    unfinished();
    let held = MEMORY.current_usage_as_mb() - before;
    assert!(
        held > DEPTH as f32,
        "Burn gives the memory back by itself by now ({held} MiB are held): the sweeps can go"
    );
    forget_unfinished_graphs();
    let left = MEMORY.current_usage_as_mb() - before;
    assert!(left < 1.0, "{left} MiB of {held} are left");
    // The graph in use is whole: d/dx exp(x²) = 2x·exp(x²).
    let gradients = in_use.sum().backward();
    let gradient = used.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap();
    assert!((gradient[0] - 2.0 * std::f32::consts::E).abs() < 1e-5, "{}", gradient[0]);
}
