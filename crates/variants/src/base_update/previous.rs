//! Adapters of earlier tasks stay beside the base: a run that starts from another's adapter keeps it frozen and in use, and trains a new one.
//!
//! Of the tasks `1..t` of a sequence, each started from the one before,
//!
//! ```text
//! W_t = W0 + s·Σ_{i<t} A_i·B_i + s·A_t·B_t        A_t, B_t: first values, drawn anew for every task
//! ```
//!
//! so that the run of task `t` begins at the update that the run of task `t − 1` ended with. The factors of earlier tasks are
//! concatenated, `P = [A₁, A₂, ..]` and `Q = [B₁; B₂; ..]`, bit for bit; nothing writes them. The first task has none, and is the run of the same
//! composition without a base update.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `adapters` | 0 | tasks before this one: an experiment fills it in from `start_from` |
//!
//! Wang et al., *Orthogonal Subspace Learning for Language Model Continual Learning*, Findings of EMNLP 2023, arXiv:2310.14152; code:
//! cmnfriend/O-LoRA, which concatenates the factors (`save_and_load.py`).

use serde::{Deserialize, Serialize};

use super::BaseUpdate;
use crate::capability::{Capability, Requirement};

/// Adapters of earlier tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// How many there are.
    #[serde(default)]
    pub adapters: usize,
}

/// One, so that a composition whose experiment has not filled it in yet, as every law tries it, meets an earlier adapter.
impl Default for Previous {
    fn default() -> Self {
        Self { adapters: 1 }
    }
}

const REQUIRES: &[Requirement] = &[
    Requirement {
        needs: Capability::Additive,
        rule: "adapters of earlier tasks add up, but under `{kind}` `W' − W0` is not the delta; use `combine: {kind: additive}`",
    },
    Requirement {
        needs: Capability::ConstantRank,
        rule: "an earlier adapter keeps its scale, but `{kind}` changes the rank in use and with it the scale; use \
               `rank_policy: {kind: constant}`",
    },
    Requirement {
        needs: Capability::DrawnFactors,
        rule: "every task draws new factors, but those of `{kind}` are not drawn by `init`; use {others}",
    },
    Requirement {
        needs: Capability::LowRank,
        rule: "the factors of earlier tasks are kept, but the update of `{kind}` is no product of two; use {others}",
    },
    Requirement {
        needs: Capability::ExactStart,
        rule: "a task begins at a new update of 0, but the first values of `{kind}` give another; use {others}",
    },
    Requirement {
        needs: Capability::OwnTensors,
        rule: "every task draws the factors of every map anew, but maps own those of `{kind}` together; use {others}",
    },
];

impl BaseUpdate for Previous {
    fn provides(&self) -> &'static [Capability] {
        &[Capability::PreviousAdapters]
    }

    fn requires(&self) -> &'static [Requirement] {
        REQUIRES
    }

    /// All of them, however narrow the map is: a penalty asks for the factors themselves.
    fn components(&self, own: usize, _shape: [usize; 2]) -> usize {
        self.adapters.saturating_mul(own)
    }
}
