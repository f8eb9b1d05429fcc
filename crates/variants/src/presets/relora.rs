//! ReLoRA: LoRA that is merged into the base and restarted some times over the run.
//!
//! `W_T = W0 + s·Σⱼ AⱼBⱼ` over the periods `j` (Algorithm 1); the mechanism is in [`restart`]. At a restart Adam's moments of the factors are
//! reset, and the learning rate warms up again: under a cosine schedule that is the paper's jagged cosine.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `base_update.restarts` | 3 | every 5 000 of 20 000 steps |
//! | `base_update.moments` | `zero` | `reset_optimizer_on_relora`, the default of the authors' code, which leaves a random thousandth |
//! | `base_update.rate` | 0.05 of a period | `restart_warmup_steps` is 100 beside a period of 2 000 steps in the authors' script |
//!
//! The authors train at rank 128, `α` 32 and dropout 0.1, at about twice the learning rate of training in full, under `train.schedule: cosine`.
//! The rank and `α` here are LoRA's.
//!
//! The authors' configuration of 1.3B parameters prunes instead (`optimizer_magnitude_pruning: 0.9`), as `{kind: pruned, share: 0.9}` does.
//! That needs a long ramp: where a first moment stays and its second does not, a step is `η·m/ε` until gradients have filled the second in,
//! and `A` has none while `B` is 0. A hundred steps of ramp let `m` fall to nothing. In a run of 60 steps (miniature, SST-2, ramp of one step)
//! the loss went from 0.001 to 0.7 at the second restart.
//!
//! Trains `A`, `B`: `r·(d_in + d_out)` numbers per map at a time; `W_T − W0` has rank `(restarts + 1)·r` at most.
//!
//! Departs from the paper and its code: the first period is LoRA and not training in full, which is for pre-training from scratch; the rate
//! falls to the schedule's own end and not to a tenth of the peak; the ramp meets the schedule where it is and not where it was at the
//! restart; the reset is exact, and counts Adam's steps anew, which the code leaves running.
//!
//! Lialin et al., *ReLoRA: High-Rank Training Through Low-Rank Updates*, ICLR 2024, arXiv:2307.05695.
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
        base_update: AnyBaseUpdate::Restart(Restart {
            restarts: 3,
            moments: Moments::Zero,
            rate: Rate::WarmUp { steps: 0.05 },
        }),
        ..lora::spec(rank)
    }
}

/// The registry's entry.
pub const PRESET: Preset = Preset {
    name: "relora",
    about: "LoRA merged and restarted over the run, with reset moments and a jagged learning rate",
    paper: "arXiv:2307.05695",
    spec,
    parameters: lora::PRESET.parameters,
    knobs: |rank| {
        vec![Knob::alpha(spec(rank).alpha), Knob { path: "base_update.restarts", values: vec![1.0, 3.0, 7.0] }]
    },
    parity: Parity::Equations,
};
