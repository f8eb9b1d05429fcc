//! What one `--set` argument changed.

use serde_yaml::Value;

use super::path::Path;

/// One applied override.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Set {
    /// Where it went, labels replaced by indices.
    pub(super) path: Path,
    /// As given.
    pub(super) text: String,
    /// What was put there.
    pub(super) value: Value,
}
