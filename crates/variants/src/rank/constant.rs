//! The rank never changes.

use serde::{Deserialize, Serialize};

use super::RankPolicy;
use crate::capability::Capability;

/// No parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {}

impl RankPolicy for Constant {
    fn provides(&self) -> &'static [Capability] {
        &[Capability::ConstantRank, Capability::OwnRanks, Capability::RestingTensors]
    }
}
