//! Fused operations of a training step, implemented per backend, forward and backward.
//!
//! Each would be slow as a chain of Burn's operations: a chain launches many kernels and reads and writes every tensor between them.
//!
//! | module | job |
//! |---|---|
//! | [`ops`] | the interface: functions on Burn tensors, which fall back to Burn's own operations on a backend without kernels here |
//! | [`kernel`] | the trait that a backend implements: forward and backward of every operation on raw tensors |
//! | [`graph`] | CUDA graphs: steps that a device records once and replays |
//! | [`bits`] | dropout bits as a pure function of run, site, row and position, so that every backend draws the same |
//! | [`memory`] | statistics of a device's allocator |
//! | [`shared_input_grad`] | the gradient of an input that several operations share, accumulated in one place, and the check that none is lost |
//! | `fused` | the link from Burn's tensors to a backend's kernels, and the backward pass of each |
//! | `flex` | kernels for the CPU |
//! | `libtorch` | kernels for `LibTorch`, behind the feature `tch` |
//!
//! Every operation also has a form composed of Burn's differentiable operations, [`ops::composed`]; tests compare the two.
#![warn(missing_docs)]
#![cfg_attr(
    feature = "tch",
    expect(deprecated, reason = "Burn means to drop LibTorch, the fastest backend measured on a GPU")
)]
#![expect(clippy::inline_always, reason = "what is not inlined into a kernel is compiled without its vectors")]

pub mod bits;
mod columns;
mod flex;
mod fused;
pub mod graph;
pub mod kernel;
#[cfg(feature = "tch")]
pub mod libtorch;
pub mod memory;
pub mod ops;
pub mod shared_input_grad;
