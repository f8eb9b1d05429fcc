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
//! | `delta` | `crates/variants/src/delta` | how `ΔW` is formed; `null` adapts nothing | `block_affine`, `block_circulant`, `block_diagonal`, `block_rotation`, `bounded_low_rank`, `butterfly_rotation`, `core`, `covariance_init`, `diagonal`, `drawn_init`, `elementwise`, `fourier`, `gain`, `gated`, `gradient_init`, `granular`, `hadamard`, `input_init`, `kronecker`, `low_rank`, `mixed_bases`, `orthogonal_init`, `random_bases`, `reflections`, `residual_init`, `routed_gain`, `routed_low_rank`, `shard_sharing`, `shared_random`, `singular_core`, `softmax_gated`, `sparse`, `spectral_shift`, `svd_form`, `tied_low_rank`, `vector_bank` |
//! | `combine` | `crates/variants/src/combine` | how `ΔW` meets `W0` | `additive`, `weight_decomposed` |
//! | `init` | `crates/variants/src/init` | first values of the drawn factors | `gaussian`, `kaiming`, `orthonormal` |
//! | `scaling` | `crates/variants/src/scaling.rs` | the scale `s` as a function of the rank in use | `alpha_over_rank`, `alpha_over_sqrt_rank`, `constant` |
//! | `train` | `crates/variants/src/role.rs` | which roles train, at which rate and decay |  |
//! | `rank_policy` | `crates/variants/src/rank` | rank over time | `ablation`, `budget`, `constant`, `nested_sampling`, `norm_budget`, `soft_threshold`, `softmax_threshold` |
//! | `gradient` | `crates/variants/src/gradient.rs` | what the optimizer sees of the gradient of `B` | `plain`, `preconditioned` |
//! | `orthogonality` | `crates/variants/src/penalty/orthogonality.rs` | weight of the penalty on factors that are not orthonormal |  |
//! | `base` | `crates/variants/src/base.rs` | whether the base trains | `frozen`, `norms`, `trained` |
//! | `bias` | `crates/variants/src/base.rs` | which biases of the base train | `none`, `all`, `lora_only` |
//! | `base_update` | `crates/variants/src/base_update` | the base over time | `follow`, `none`, `previous`, `restart` |
//! | `penalties` | `crates/variants/src/penalty` | weights of further loss terms beside the task's | `component_variance`, `diagonal_l1`, `overlap` |
//! | `layers` | `crates/variants/src/layers.rs` | which layers train at a step | `all`, `sampled` |
//! | `bilevel` | `crates/variants/src/bilevel.rs` | whether training has two levels, on two parts of the examples | `none`, `alternating` |
//! <!-- end -->
//!
//! A [`Preset`](preset::Preset) is a named point in that space: a published method or a reference point. An empty cell is LoRA's value:
//!
//! <!-- table of presets -->
//! | preset | alpha | dropout | delta | combine | init | scaling | train | rank_policy | gradient | orthogonality | base | bias | base_update | penalties | layers | bilevel |
//! |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
//! | `adalora` | 10.7·rank |  | svd_form |  | gaussian, std 0.02 |  |  | budget |  | 0.1 |  |  |  |  |  |  |
//! | `alora` |  |  | gated, open 4 |  |  |  |  | ablation |  |  |  |  |  |  |  |  |
//! | `asymmetric_lora` |  |  |  |  | orthonormal |  | a frozen |  |  |  |  |  |  |  |  |  |
//! | `autolora` |  |  | softmax_gated |  |  |  | lambda trained | softmax_threshold, search 0.5 |  |  |  |  |  |  |  | alternating |
//! | `bitfit` |  |  | null |  |  |  |  |  |  |  |  | all |  |  |  |  |
//! | `boft` |  |  | butterfly_rotation, butterfly_factors 2 |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `bone` |  |  | block_affine |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `c3a` |  |  | block_circulant |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `cola` |  |  |  |  |  |  |  |  |  |  |  |  | restart |  |  |  |
//! | `corda` |  |  | covariance_init |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `delora` |  |  | bounded_low_rank |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `delta_lora` |  |  |  |  |  |  |  |  |  |  |  |  | follow |  |  |  |
//! | `dora` |  |  |  | weight_decomposed, dropout_form adapter |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `dora_dynamic` | 8.0 |  | diagonal, start zero |  | kaiming, gain 2.449489742783178 |  |  | norm_budget |  |  |  |  |  | component_variance 0.1 |  |  |
//! | `dvora` |  |  | shared_random | weight_decomposed, dropout_form adapter |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `dylora` |  |  |  |  |  |  |  | nested_sampling |  |  |  |  |  |  |  |  |
//! | `eva` |  |  | input_init |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `flora_core` |  |  | core |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `fourierft` |  |  | fourier, places_seed 777 |  |  | constant, value 150.0 |  |  |  |  |  |  |  |  |  |  |
//! | `full` |  |  | null |  |  |  |  |  |  |  | trained |  |  |  |  |  |
//! | `gralora` |  |  | granular, blocks 2 |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `head_only` |  |  | null |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `hira` |  |  | elementwise |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `hra` |  |  | reflections |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `hydra_lora` |  |  | routed_low_rank |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `ia3` |  |  | gain |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `inc_lora` |  |  |  |  |  |  |  |  |  |  |  |  | previous, adapters 0 |  |  |  |
//! | `init_b` |  |  | low_rank, drawn b |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `lisa` |  |  | null |  |  |  |  |  |  |  | trained |  |  |  | sampled |  |
//! | `ln_tuning` |  |  | null |  |  |  |  |  |  |  | norms |  |  |  |  |  |
//! | `loha` |  |  | hadamard |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `lokr` |  |  | kronecker, decompose_both false |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `lora` | 16.0 | 0.0 | low_rank | additive | kaiming | alpha_over_rank | all | constant | plain | 0.0 | frozen | none | none | all | all | none |
//! | `lora_fa` |  |  |  |  |  |  | a frozen |  |  |  |  |  |  |  |  |  |
//! | `lora_fa_preconditioned` |  |  |  |  |  |  | a frozen |  | preconditioned, ridge 1e-8 |  |  |  |  |  |  |  |
//! | `lora_ga` |  |  | gradient_init |  |  | alpha_over_sqrt_rank |  |  |  |  |  |  |  |  |  |  |
//! | `lora_orthogonal` |  |  | orthogonal_init |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `lora_plus` |  |  |  |  |  |  | b trained, lr_multiplier 16.0, embedding trained |  |  |  |  |  |  |  |  |  |
//! | `lora_xs` |  |  | singular_core |  | gaussian, std 0.00001 |  |  |  |  |  |  |  |  |  |  |  |
//! | `melora` |  |  | block_diagonal, blocks 2 |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `milora` |  |  | residual_init, start minor |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `miss` |  |  | shard_sharing |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `molora` |  |  | routed_low_rank |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `mov` |  |  | routed_gain, experts 10 |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `nola` |  |  | mixed_bases |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `nz_lora` |  |  | drawn_init, gain 1.0 |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `o_lora` |  |  |  |  |  |  |  |  |  |  |  |  | previous, adapters 0 | overlap 0.5 |  |  |
//! | `oft` |  |  | block_rotation, cayley neumann |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `olora` |  |  | residual_init, start qr |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `pissa` |  |  | residual_init, start principal |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `randlora` | 20.0·rank |  | random_bases, projection_seed 0 |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `relora` |  |  |  |  |  |  |  |  |  |  |  |  | restart |  |  |  |
//! | `rslora` |  |  |  |  |  | alpha_over_sqrt_rank |  |  |  |  |  |  |  |  |  |  |
//! | `shira` |  |  | sparse, mask_seed 0 |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `sora` |  |  | diagonal, start normal |  |  |  | lambda trained | soft_threshold, threshold 0.0003 |  |  |  |  |  | diagonal_l1 10.0 |  |  |
//! | `svdiff` |  |  | spectral_shift |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `tied_lora` |  |  | tied_low_rank |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `tri_lora` |  |  | diagonal, start zero |  |  |  |  |  |  |  |  |  |  |  |  |  |
//! | `vb_lora` |  |  | vector_bank |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `vera` |  |  | shared_random |  |  | constant, value 1.0 |  |  |  |  |  |  |  |  |  |  |
//! | `xgblora` |  |  |  |  |  |  |  |  |  |  |  |  | restart |  |  |  |
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
pub mod bilevel;
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
pub mod layers;
pub mod norm;
pub mod pass;
pub mod peft;
pub mod penalty;
pub mod preset;
pub mod presets;
pub mod rank;
pub mod role;
pub mod routing;
pub mod scaling;
pub mod sensitivity;
pub mod slot;
pub mod spec;
pub mod stream;
