//! Axis 6: what happens to the base.

use serde::{Deserialize, Serialize};

use crate::capability::{Capability, Declaration};

/// Whether the base's own tensors train. Trained ones are per-run copies; the base is never written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseSpec {
    /// Nothing of the base trains.
    #[default]
    Frozen,
    /// Gains and biases of norms train.
    Norms,
    /// Every weight, bias, norm and embedding of the base trains.
    Trained,
}

impl BaseSpec {
    /// What it says of itself to the other parts.
    pub fn declaration(self) -> Declaration {
        let (kind, provides): (_, &[_]) = match self {
            Self::Frozen => ("frozen", &[Capability::FrozenBase]),
            Self::Norms => ("norms", &[Capability::FrozenBase]),
            Self::Trained => ("trained", &[]),
        };
        Declaration { kind, provides, lacks: &[], requires: &[] }
    }
}

/// Which biases of the base train, as PEFT's `bias` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BiasSpec {
    /// None.
    #[default]
    None,
    /// Every bias, layer norms' included.
    All,
    /// Those of adapted maps.
    LoraOnly,
}
