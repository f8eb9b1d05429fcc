//! Reads the fields of one map, each with its path.

use std::collections::BTreeSet;

use serde_yaml::{Mapping, Value};

use super::At;
use crate::{error::Report, fields::given, path::Path};

/// Reads fields of one map.
pub(crate) struct Reader<'a> {
    pub(crate) fields: &'a Mapping,
    pub(crate) at: Path,
    pub(crate) report: &'a mut Report,
}

impl Reader<'_> {
    /// The field `key` by `parse`, with its path.
    pub(crate) fn read<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&Value, &Path, &mut Report) -> Option<T>,
    ) -> Option<At<T>> {
        let at = self.at.key(key);
        let value = parse(given(self.fields, key)?, &at, self.report)?;
        Some(At { at, value })
    }
}

/// Keys of a map that have a value.
pub(crate) fn gave(fields: &Mapping) -> BTreeSet<String> {
    fields.iter().filter(|(_, value)| !value.is_null()).filter_map(|(key, _)| Some(key.as_str()?.to_owned())).collect()
}

/// Items without their indices.
pub(crate) fn unindexed<T>(items: Vec<(usize, T)>) -> Vec<T> {
    items.into_iter().map(|(_, item)| item).collect()
}
