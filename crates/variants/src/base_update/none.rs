//! The base stays as it is.

use serde::{Deserialize, Serialize};

use super::BaseUpdate;
use crate::capability::Capability;

/// No parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct None {}

impl BaseUpdate for None {
    fn provides(&self) -> &'static [Capability] {
        &[Capability::ConstantBase]
    }
}
