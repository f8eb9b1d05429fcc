//! FourierFT: a few trained coefficients of the Fourier transform of the update.
//!
//! `ΔW = α·Re(IDFT2(F))` with `F` zero but for `n` coefficients at places drawn once (Eq. 2–4); the mechanism is in [`fourier`].
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `rank` | – | the number `n` of coefficients, `1..=d_in·d_out`; PEFT's default is 1000 |
//! | `scaling.value` | 150, the paper's `α` as PEFT's `scaling` has it | not 0; 100 or 150 for RoBERTa on GLUE, 300 for LLaMA |
//!
//! Trains the coefficients: `n` parameters per map.
//!
//! Departures: coefficients start at 0, as under PEFT's `init_weights: true`. PEFT's default and the paper draw standard normals, which are not
//! the base.
//!
//! Gao et al., *Parameter-Efficient Fine-Tuning with Discrete Fourier Transform*, ICML 2024, arXiv:2405.03003.

use super::lora;
use crate::{
    delta::{DeltaSpec, fourier},
    preset::{Knob, Parity, Preset},
    scaling::Scaling,
    spec::VariantSpec,
};

/// PEFT, `fourierft/config.py`.
const SCALE: f64 = 150.0;

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "fourierft",
    about: "a few coefficients of the Fourier transform of the update",
    paper: "arXiv:2405.03003",
    spec: |rank| VariantSpec {
        delta: Some(DeltaSpec::Fourier(fourier::Spec::default())),
        scaling: Scaling::Constant { value: SCALE },
        ..lora::spec(rank)
    },
    parameters: Some(|_, _, rank| rank),
    // What PEFT's documentation names for other models and tasks.
    knobs: |_| vec![Knob { path: "scaling.value", values: vec![100.0, SCALE, 300.0] }],
    parity: Parity::EquationsAndPeft,
};
