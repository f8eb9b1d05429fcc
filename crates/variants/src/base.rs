//! Axis 6: what happens to the base.

use serde::{Deserialize, Serialize};

/// Whether the base's own tensors train. Trained ones are per-run copies; the base is never written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseSpec {
    /// Nothing of the base trains.
    #[default]
    Frozen,
    /// Every weight, bias, norm and embedding of the base trains.
    Trained,
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
