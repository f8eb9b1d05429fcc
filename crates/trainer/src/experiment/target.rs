//! The maps that a target selects, with their shapes, from a model's configuration alone.

use std::collections::BTreeMap;

use models::{error::ModelError, roberta::Config, target::Target};

/// A map that can be adapted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetMap {
    /// `[d_in, d_out]`; `[rows, d_model]` of a table.
    pub shape: [usize; 2],
    /// Whether it is an embedding table and not a linear map.
    pub table: bool,
}

impl TargetMap {
    /// Largest rank of an update.
    pub fn max_rank(self) -> usize {
        self.shape[0].min(self.shape[1])
    }
}

/// Every map of the model that can be adapted, by full name.
fn all(config: &Config) -> BTreeMap<String, TargetMap> {
    let map = |tensor: models::weights::Wanted| {
        let name = tensor.name.strip_suffix(".weight")?;
        let table = name.starts_with("embeddings.") && name.ends_with("_embeddings");
        let shape = match tensor.shape[..] {
            [rows, d] if table => [rows, d],
            [d_out, d_in] if name.starts_with("encoder.") => [d_in, d_out],
            _ => return None,
        };
        Some((name.to_owned(), TargetMap { shape, table }))
    };
    config.wanted(false).into_iter().filter_map(map).collect()
}

/// The maps of a model that `target` selects, by full name.
pub fn select_targets(config: &Config, target: &Target) -> Result<BTreeMap<String, TargetMap>, ModelError> {
    let mut maps = all(config);
    let names =
        |table| maps.iter().filter(|(_, map)| map.table == table).map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let selected = target.select(&names(false), &names(true))?;
    maps.retain(|name, _| selected.contains(name));
    Ok(maps)
}
