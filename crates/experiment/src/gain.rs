//! How far a unit of what starts at 0 moves the weight at the start: the scale times the norm of a drawn component.

use std::collections::BTreeMap;

use models::config::{Config, MapKind};

use crate::cell::Cell;

/// The gain of a variant's start.
#[derive(Clone, Debug, PartialEq)]
pub struct Gain {
    /// The variant's label.
    pub variant: String,
    /// Its rank.
    pub rank: usize,
    /// `s`.
    pub scale: f64,
    /// Norm of a component at `s = 1`, the least and the largest over the adapted maps.
    pub norm: [f64; 2],
}

/// The gain of every variant and rank whose update starts at 0 beside drawn factors, in the order of the cells; only of those whose model's
/// configuration is here.
pub fn gains(cells: &[Cell]) -> Vec<Gain> {
    let mut configs: BTreeMap<&str, Option<Config>> = BTreeMap::new();
    let mut all: Vec<Gain> = Vec::new();
    for cell in cells {
        let (variant, rank) = (&cell.id.variant, cell.recipe.variant.rank);
        let read = || assets::source::config(&cell.recipe.model).ok().flatten();
        let config = configs.entry(&cell.recipe.model).or_insert_with(read);
        let is_new = !all.iter().any(|gain| gain.variant == *variant && gain.rank == rank);
        let Some(norm) = config.as_ref().filter(|_| is_new).and_then(|config| norms(cell, config)) else { continue };
        let scale = cell.recipe.variant.scaling.at(cell.recipe.variant.alpha, rank);
        all.push(Gain { variant: variant.clone(), rank, scale, norm });
    }
    all
}

/// The least and the largest norm over the linear maps that a cell adapts.
fn norms(cell: &Cell, config: &Config) -> Option<[f64; 2]> {
    let spec = &cell.recipe.variant;
    let delta = spec.delta.as_ref()?;
    let selected = cell.recipe.modules.select(Some(&cell.recipe.targets), config).ok()?;
    let linear = selected.maps.values().filter(|map| map.kind != MapKind::Table);
    let norms = linear.map(|map| delta.start_norm(&spec.init, spec.rank, map.shape)).collect::<Option<Vec<f64>>>()?;
    let least = norms.iter().copied().reduce(f64::min)?;
    Some([least, norms.into_iter().fold(least, f64::max)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Closed forms at width 128: `‖a‖ = 1/√3` of kaiming's uniform numbers, `‖p‖·‖q‖ = 0.02²·128` of AdaLoRA's normal ones.
    #[test]
    fn the_gain_is_the_scale_times_the_norm_of_a_component() {
        let yaml = "suite: glue_mini\nmodel: mini_roberta\ntasks: [cola]\nseeds: [0, 1]\ntargets: [query, value]\nranks: [6]\n\
                    variants: [lora, adalora, pissa, head_only]\n";
        let experiment = crate::read(yaml, "experiments/x.yaml", "x", &[]).unwrap();
        let found = gains(experiment.cells());
        let names: Vec<_> = found.iter().map(|gain| (gain.variant.as_str(), gain.rank)).collect();
        assert_eq!(names, [("lora", 6), ("adalora", 6)], "the others do not start at 0 beside drawn factors");
        for (gain, (scale, norm)) in found.iter().zip([(16.0 / 6.0, 1.0 / 3.0_f64.sqrt()), (32.0 / 3.0, 0.0512)]) {
            assert!((gain.scale - scale).abs() < 1e-12, "{gain:?}");
            assert!(gain.norm.iter().all(|found| (found - norm).abs() < 1e-12), "{gain:?}");
        }
    }
}
