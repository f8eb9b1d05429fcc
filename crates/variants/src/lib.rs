//! What is trained: the parameterisations of low-rank adaptation, as pure tensor code.
//!
//! A method is a point in a space of orthogonal axes, the fields of a [`VariantSpec`](spec::VariantSpec):
//!
//! <!-- table of axes -->
//! <!-- end -->
//!
//! A published method is a [`Preset`](preset::Preset), a named point in that space. An empty cell is LoRA's value:
//!
//! <!-- table of presets -->
//! <!-- end -->
//!
//! What the parts of a composition declare about each other, and so which compositions are legal, is in [`capability`].
//! [`AdaptedLinear`](adapted::AdaptedLinear) is the only place where `W0` meets an adapter.
//!
//! Weights are stored `[d_in, d_out]` and every adapter tensor carries a leading `runs` axis: a *stack* of
//! runs that share shapes trains in parallel over one frozen base.
//!
//! This crate reads no file and no clock, and prints nothing.
#![warn(missing_docs)]

pub mod adapted;
pub mod base;
pub mod capability;
pub mod combine;
pub mod compress;
pub mod delta;
pub mod dropout;
pub mod embedding;
pub mod error;
pub mod gradient;
pub mod host;
pub mod init;
#[cfg(feature = "testing")]
pub mod laws;
pub mod norm;
pub mod orthogonality;
pub mod pass;
pub mod peft;
pub mod preset;
pub mod presets;
pub mod rank;
pub mod role;
pub mod scaling;
pub mod sensitivity;
pub mod slot;
pub mod spec;
pub mod stream;
