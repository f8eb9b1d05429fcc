//! Figures from adapters: overlap between ranks and seeds, `W` against `ΔW`, table 7, DoRA's dynamics.

use std::collections::BTreeSet;

use super::{Named, over_seeds};
use crate::{
    figure::{AmplificationRow, Caption, Measured, Overlap, amplification, seed_overlap},
    measures::{
        AdapterSample, Directions, MeasureError, overlap, place, projection, seeds,
        study::{Measures, Measuring},
    },
};

mod dynamics;
mod phi;

/// Runs of one task and variant, those that are compared.
struct Group<'a> {
    task: &'a str,
    variant: &'a str,
    runs: Vec<&'a AdapterSample>,
}

impl Group<'_> {
    fn ranks(&self) -> BTreeSet<usize> {
        self.runs.iter().map(|run| run.cell.rank).collect()
    }

    fn seeds(&self, rank: usize) -> Vec<&AdapterSample> {
        let mut runs: Vec<_> = self.runs.iter().copied().filter(|run| run.cell.rank == rank).collect();
        runs.sort_by_key(|run| run.cell.seed);
        runs
    }

    fn suffix(&self, many: bool) -> String {
        if many { format!("-{}-{}", self.task, self.variant) } else { String::new() }
    }
}

fn groups(samples: &[AdapterSample]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for sample in samples {
        let (task, variant) = (sample.cell.task.as_str(), sample.cell.variant.as_str());
        match groups.iter_mut().find(|group| (group.task, group.variant) == (task, variant)) {
            Some(group) => group.runs.push(sample),
            None => groups.push(Group { task, variant, runs: vec![sample] }),
        }
    }
    groups
}

/// Every figure the adapters allow. The overlaps are for methods whose update is a product of factors.
pub fn all(study: &str, measures: &Measures) -> Result<Vec<Named>, MeasureError> {
    let Measures { taken, seeds } = measures;
    let groups = groups(&taken.compared);
    let factored: Vec<&Group<'_>> =
        groups.iter().filter(|group| group.runs.iter().all(|run| run.is_factored())).collect();
    let mut figures = Vec::new();
    // Overlaps are read within one method, where its factors train; a study that compares methods shows them for those with
    // several ranks.
    let trained = |group: &&&Group<'_>| group.runs.iter().all(|run| !run.frozen_inputs);
    let swept: Vec<&&Group<'_>> = factored.iter().filter(trained).filter(|group| group.ranks().len() > 1).collect();
    for group in &swept {
        let suffix = group.suffix(swept.len() > 1);
        figures.extend(phi::between_ranks(study, group, &suffix)?);
        figures.extend(phi::between_seeds(study, group, &suffix)?);
        figures.extend(overlap_by_layer(study, group, seeds, &suffix));
        figures.extend(phi::against_base(study, group, &suffix)?);
        figures.extend(amplified(study, group, taken, &suffix));
    }
    figures.extend(dynamics::moved(study, &groups, taken));
    Ok(figures)
}

/// Maps of the layer in the middle, one per kind, at most four: what a figure of a few panels shows.
fn shown(sample: &AdapterSample) -> Vec<&str> {
    let layers: BTreeSet<usize> = sample.maps.keys().filter_map(|map| place(map).0).collect();
    let middle = layers.iter().nth(layers.len() / 2).copied();
    sample.maps.keys().filter(|map| place(map).0 == middle).take(4).map(String::as_str).collect()
}

fn title(map: &str) -> String {
    match place(map) {
        (Some(layer), kind) => format!("{kind}, layer {layer}"),
        (None, kind) => kind,
    }
}

/// `φ(k, k)` over all pairs of seeds, by layer and map, at the rank of 8 or the nearest there is.
fn overlap_by_layer(study: &str, group: &Group<'_>, rows: &[seeds::Row], suffix: &str) -> Option<Named> {
    let rank = group.ranks().into_iter().rfind(|rank| *rank <= 8).or_else(|| group.ranks().into_iter().next())?;
    let k = overlap::CUTS.into_iter().rfind(|k| *k <= rank)?;
    let of_group = |row: &&seeds::Row| {
        (row.task.as_str(), row.variant.as_str(), row.rank, row.side, row.k)
            == (group.task, group.variant, rank, Directions::A.name(), k)
            && row.layer.is_some()
    };
    let found: Vec<&seeds::Row> = rows.iter().filter(of_group).collect();
    let seeds = found.first()?.n;
    let layers: BTreeSet<usize> = found.iter().filter_map(|row| row.layer).collect();
    let kinds: BTreeSet<&String> = found.iter().map(|row| &row.kind).collect();
    let of = |kind: &String, layer: usize| {
        let row = found.iter().find(|row| row.layer == Some(layer) && row.kind == *kind)?;
        Some(Measured { value: row.mean, interval: row.ci_low.zip(row.ci_high).map(|(low, high)| [low, high]) })
    };
    let maps: Vec<Overlap> = kinds
        .iter()
        .map(|kind| Overlap { map: (*kind).clone(), layers: layers.iter().map(|layer| of(kind, *layer)).collect() })
        .collect();
    let pairs = seeds * (seeds - 1) / 2;
    let bars = if seeds > 2 { "; bars: 95% jackknife over seeds" } else { "" };
    let caption = Caption {
        title: format!("{study}: overlap of seeds, r = {rank}"),
        n: format!("{seeds} seeds, {pairs} {}{bars}", if pairs == 1 { "pair" } else { "pairs" }),
        notes: vec![format!("{}, {}, directions of A.", group.task, group.variant)],
    };
    let layers: Vec<String> = layers.iter().map(ToString::to_string).collect();
    // One line for all maps, where one space is as wide as the other.
    let randoms: BTreeSet<u64> = found.iter().filter_map(|row| row.random_mean).map(f64::to_bits).collect();
    let random = if randoms.len() == 1 { randoms.first().map(|bits| f64::from_bits(*bits)) } else { None };
    Some(Named::new(
        format!("seed_overlap{suffix}"),
        seed_overlap(caption, &format!("φ({k}, {k})"), &layers, &maps, random),
    ))
}

/// LoRA table 7, geometric means over seeds.
fn amplified(study: &str, group: &Group<'_>, taken: &Measuring, suffix: &str) -> Option<Named> {
    let of_group = |row: &&projection::Row| row.task == group.task && row.variant == group.variant;
    let rows: Vec<&projection::Row> = taken.projected.iter().filter(of_group).collect();
    let maps = group.runs.first().map(|run| shown(run)).unwrap_or_default();
    let mut lines = Vec::new();
    for rank in group.ranks() {
        for &map in &maps {
            let mut found: Vec<_> = rows.iter().filter(|row| row.rank == rank && row.map == map).collect();
            found.sort_by_key(|row| row.seed);
            // Norms are positive and differ by factors: the mean and its interval are those of the logarithms.
            let over = |pick: &dyn Fn(&projection::Row) -> Option<f64>| {
                let logarithms: Vec<f64> = found.iter().filter_map(|row| pick(row)).map(f64::ln).collect();
                over_seeds(&logarithms).map(|Measured { value, interval }| Measured {
                    value: value.exp(),
                    interval: interval.map(|ends| ends.map(f64::exp)),
                })
            };
            let measured = (
                over(&|row| Some(row.onto_update)),
                over(&|row| Some(row.onto_base)),
                over(&|row| Some(row.onto_random)),
                over(&|row| row.amplification),
            );
            let (Some(update), Some(base), Some(random), Some(factor)) = measured else { continue };
            let name = format!("{}, r={rank}", place(map).1);
            lines.push(AmplificationRow { name, projections: [update, base, random], amplification: factor });
        }
    }
    if lines.is_empty() {
        return None;
    }
    let layer = maps.first().and_then(|map| place(map).0).map_or(String::new(), |layer| format!(", layer {layer}"));
    let counts = group.ranks().into_iter().map(|rank| taken.count(group.task, group.variant, rank));
    let caption = Caption {
        title: format!("{study}: W in the directions of ΔW{layer}"),
        n: super::seeds(counts, "bars"),
        notes: vec![format!("{}, {}, r directions each; geometric means.", group.task, group.variant)],
    };
    Some(Named::new(format!("amplification{suffix}"), amplification(caption, &lines)))
}
