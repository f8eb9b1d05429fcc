//! The operations of a training step that are slow as chains of small ones, each as one kernel with a backward pass of its own.
//!
//! | module | job |
//! |---|---|
//! | [`ops`] | what other crates call: functions on Burn tensors, composed from Burn's own operations on a backend without kernels here |
//! | [`kernel`] | what a backend implements: forward and backward of every operation on raw tensors |
//! | [`graph`] | steps that a device records once and replays |
//! | [`bits`] | dropout bits as a pure function of their place; every backend draws the same |
//! | [`memory`] | what a device's allocator says |
//! | [`shared_input_grad`] | the gradient of an input that several operations share, accumulated in one place, and the check that none is lost |
//! | `fused` | the way from Burn's tensors to a backend's kernels, and their place in automatic differentiation |
//! | `flex` | kernels for the CPU |
//! | `libtorch` | kernels for `LibTorch`, behind the feature `tch` |
//!
//! Every operation here has a composed form out of differentiable Burn operations, [`ops::composed`], and is held against it in tests.
#![warn(missing_docs)]
#![cfg_attr(
    feature = "tch",
    expect(deprecated, reason = "Burn means to drop LibTorch, the fastest backend measured on a card")
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
