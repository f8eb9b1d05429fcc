//! COLA, a chain of LoRA: links that are trained one after the other, each on the residual that the ones before have left.
//!
//! `W_T = W0 + s·Σⱼ AⱼBⱼ` (§3): a link is tuned, tied into the base, and the chain is extended by a new one, with a new optimizer and a
//! schedule of its own; the mechanism is in [`restart`].
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `base_update.restarts` | 2 | chains of three links, the longer ones of the paper's ablation |
//! | `base_update.moments` | `fresh` | a new optimizer per link |
//! | `base_update.rate` | `anew` | a schedule per link |
//!
//! Trains `A`, `B`: `r·(d_in + d_out)` numbers per map at a time; `W_T − W0` has rank `(restarts + 1)·r` at most.
//!
//! Departs from the paper: links have equal length and equal rank. There a link takes one or several passes over the data and its rank may
//! fall along the chain. The defaults are read from secondary descriptions of the paper, which names no reference code.
//!
//! Xia, Qin and Hazan, *Chain of LoRA: Efficient Fine-tuning of Language Models via Residual Learning*, 2024, arXiv:2401.04151.
//!
//! [`restart`]: crate::base_update::restart

use super::lora;
use crate::{
    base_update::{
        AnyBaseUpdate, Moments,
        restart::{Rate, Restart},
    },
    preset::{Knob, Parity, Preset},
    spec::VariantSpec,
};

fn spec(rank: usize) -> VariantSpec {
    VariantSpec {
        base_update: AnyBaseUpdate::Restart(Restart { restarts: 2, moments: Moments::Fresh, rate: Rate::Anew }),
        ..lora::spec(rank)
    }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "cola",
    about: "a chain of LoRA, each link trained afresh on what the ones before have left",
    paper: "arXiv:2401.04151",
    spec,
    parameters: lora::PRESET.parameters,
    knobs: |rank| {
        vec![Knob::alpha(spec(rank).alpha), Knob { path: "base_update.restarts", values: vec![1.0, 2.0, 3.0] }]
    },
    parity: Parity::Equations,
};
