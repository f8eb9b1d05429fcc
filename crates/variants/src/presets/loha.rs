//! LoHa: an elementwise product of two low-rank updates, whose rank is up to `rank²`.
//!
//! `ΔW = (α/r)·(B₁·A₁)∘(B₂·A₂)` (FedPara, Eq. 3 and Proposition 1, as LyCORIS' LoHa puts it beside a frozen weight); the mechanism is in
//! [`hadamard`]. All else is [`lora`], `α` included; PEFT's own default is `α = r = 8`.
//!
//! Trains both pairs: `2·r·(d_in + d_out)` parameters per map, as LoRA of twice the rank.
//!
//! Departures: dropout acts on the input as everywhere here; PEFT and LyCORIS drop rows of `ΔW` (`rank_dropout`) or the whole of it
//! (`module_dropout`) instead. Convolutions and their Tucker form are not supported.
//!
//! Hyeon-Woo et al., ICLR 2022, arXiv:2108.06098; Yeh et al., ICLR 2024, arXiv:2309.14859.

use super::lora;
use crate::{
    delta::{DeltaSpec, hadamard},
    preset::{Parity, Preset},
    spec::VariantSpec,
};

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "loha",
    about: "an elementwise product of two low-rank updates, of rank up to the rank squared",
    paper: "arXiv:2108.06098",
    spec: |rank| VariantSpec { delta: Some(DeltaSpec::Hadamard(hadamard::Spec {})), ..lora::spec(rank) },
    parameters: Some(|d_in, d_out, rank| 2 * rank * (d_in + d_out)),
    knobs: lora::PRESET.knobs,
    parity: Parity::Peft,
};
