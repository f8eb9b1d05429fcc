//! The rank never changes.

use serde::{Deserialize, Serialize};

use super::RankPolicy;
use crate::error::SpecProblem;

/// No parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {}

impl RankPolicy for Constant {
    fn check(&self, _rank: usize, _has_diagonal: bool, _steps: Option<u64>) -> Vec<SpecProblem> {
        Vec::new()
    }
}
