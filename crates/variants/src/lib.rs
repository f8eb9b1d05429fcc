//! What is trained: the parameterisations of low-rank adaptation, as pure tensor code.
//!
//! A method is a point in a space of orthogonal axes, the fields of a [`VariantSpec`](spec::VariantSpec):
//!
//! <!-- table of axes -->
//! | axis | file or folder | what varies | kinds |
//! |---|---|---|---|
//! | `rank` | `crates/variants/src/spec.rs` | rank of `ΔW`; a map may have its own |  |
//! | `alpha` | `crates/variants/src/spec.rs` | `α` of the scale; a run and a map may have their own |  |
//! | `dropout` | `crates/variants/src/dropout.rs` | share of the adapter's input that a training step drops |  |
//! | `delta` | `crates/variants/src/delta` | how `ΔW` is formed; `null` adapts nothing | `low_rank`, `residual_init`, `shared_random`, `svd_form` |
//! | `combine` | `crates/variants/src/combine` | how `ΔW` meets `W0` | `additive`, `weight_decomposed` |
//! | `init` | `crates/variants/src/init` | first values of the drawn factors | `gaussian`, `kaiming` |
//! | `scaling` | `crates/variants/src/scaling.rs` | the scale `s` as a function of the rank in use | `alpha_over_rank`, `alpha_over_sqrt_rank`, `constant` |
//! | `train` | `crates/variants/src/role.rs` | which roles train, at which rate and decay |  |
//! | `rank_policy` | `crates/variants/src/rank` | rank over time | `budget`, `constant`, `nested_sampling` |
//! | `gradient` | `crates/variants/src/gradient.rs` | what the optimizer sees of the gradient of `B` | `plain`, `preconditioned` |
//! | `orthogonality` | `crates/variants/src/orthogonality.rs` | weight of the penalty on factors that are not orthonormal |  |
//! | `base` | `crates/variants/src/base.rs` | whether the base trains | `frozen`, `trained` |
//! | `bias` | `crates/variants/src/base.rs` | which biases of the base train | `none`, `all`, `lora_only` |
//! | `base_update` | `crates/variants/src/base_update` | the base over time | `follow`, `none`, `restart` |
//! <!-- end -->
//!
//! A [`Preset`](preset::Preset) is a named point in that space: a published method or a reference point. An empty cell is LoRA's value:
//!
//! <!-- table of presets -->
//! | preset | alpha | dropout | delta | combine | init | scaling | train | rank_policy | gradient | orthogonality | base | bias | base_update |
//! |---|---|---|---|---|---|---|---|---|---|---|---|---|---|
//! | `adalora` | 10.7·rank |  | svd_form |  | gaussian, std 0.02 |  |  | budget |  | 0.1 |  |  |  |
//! | `bitfit` |  |  | null |  |  |  |  |  |  |  |  | all |  |
//! | `cola` |  |  |  |  |  |  |  |  |  |  |  |  | restart |
//! | `delta_lora` |  |  |  |  |  |  |  |  |  |  |  |  | follow |
//! | `dora` |  |  |  | weight_decomposed, dropout_form adapter |  |  |  |  |  |  |  |  |  |
//! | `dylora` |  |  |  |  |  |  |  | nested_sampling |  |  |  |  |  |
//! | `full` |  |  | null |  |  |  |  |  |  |  | trained |  |  |
//! | `head_only` |  |  | null |  |  |  |  |  |  |  |  |  |  |
//! | `lora` | 16.0 | 0.0 | low_rank | additive | kaiming | alpha_over_rank | all | constant | plain | 0.0 | frozen | none | none |
//! | `lora_fa` |  |  |  |  |  |  | a frozen |  |  |  |  |  |  |
//! | `lora_fa_preconditioned` |  |  |  |  |  |  | a frozen |  | preconditioned, ridge 1e-8 |  |  |  |  |
//! | `lora_plus` |  |  |  |  |  |  | b trained, lr_multiplier 16.0, embedding trained |  |  |  |  |  |  |
//! | `milora` |  |  | residual_init, start minor |  |  |  |  |  |  |  |  |  |  |
//! | `olora` |  |  | residual_init, start qr |  |  |  |  |  |  |  |  |  |  |
//! | `pissa` |  |  | residual_init, start principal |  |  |  |  |  |  |  |  |  |  |
//! | `relora` |  |  |  |  |  |  |  |  |  |  |  |  | restart |
//! | `rslora` |  |  |  |  |  | alpha_over_sqrt_rank |  |  |  |  |  |  |  |
//! | `vera` |  |  | shared_random |  |  | constant, value 1.0 |  |  |  |  |  |  |  |
//! | `xgblora` |  |  |  |  |  |  |  |  |  |  |  |  | restart |
//! <!-- end -->
//!
//! What the parts of a composition declare about each other, and so which compositions are legal, is in [`capability`].
//! [`AdaptedLinear`](adapted::AdaptedLinear) is the only place where `W0` meets an adapter.
//!
//! Weights are stored `[d_in, d_out]` and every adapter tensor carries a leading `runs` axis: a *stack* of
//! runs that share shapes trains in parallel over one frozen base.
//!
//! This crate reads no file and no clock, and prints nothing.
#![allow(clippy::doc_markdown, reason = "cells of the tables are words of YAML, as the registries have them")]
#![warn(missing_docs)]

pub mod adapted;
pub mod base;
pub mod base_update;
pub mod calibration;
pub mod capability;
mod cayley;
pub mod combine;
pub mod compress;
pub mod delta;
pub mod dropout;
pub mod embedding;
pub mod error;
pub mod form;
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
