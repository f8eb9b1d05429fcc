//! Figures from adapters: overlap between ranks and seeds, `W` against `ΔW`, table 7, DoRA's dynamics.

use std::collections::BTreeSet;

use super::{Named, over_seeds};
use crate::{
    figure::{
        AmplificationRow, Caption, Dynamics, Fit, Matrix, Measured, Overlap, PhiMap, amplification, dynamics, phi_grid,
        phi_ranks, phi_seeds, seed_overlap,
    },
    measures::{AdapterSample, Directions, Map, MeasureError, magnitude_direction, overlap, place, projection},
    subspace::{
        Side, SubspaceError,
        decomposition::pearson,
        grassmann::{self, Phi},
        random::Gaussian,
        top::{TopOptions, top},
    },
};

/// Corner of LoRA's figure 3 that is shown enlarged.
const ZOOM: usize = 8;
/// Maps on one page.
const MOST_MAPS: usize = 24;
/// Directions of `W` beside those of `ΔW` in the heat map of appendix H.3.
const BASE_DIRECTIONS: usize = 64;

/// Runs of one task and variant.
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
pub fn all(study: &str, samples: &[AdapterSample]) -> Result<Vec<Named>, MeasureError> {
    let groups = groups(samples);
    let factored: Vec<&Group<'_>> =
        groups.iter().filter(|group| group.runs.iter().all(|run| run.is_factored())).collect();
    let mut figures = Vec::new();
    // Overlaps are read within one method, where its factors train; a study that compares methods shows them for those with
    // several ranks.
    let trained = |group: &&&Group<'_>| group.runs.iter().all(|run| !run.frozen_inputs);
    let swept: Vec<&&Group<'_>> = factored.iter().filter(trained).filter(|group| group.ranks().len() > 1).collect();
    let seed_rows = overlap::seeds(samples)?;
    for group in &swept {
        let suffix = group.suffix(swept.len() > 1);
        figures.extend(between_ranks(study, group, &suffix)?);
        figures.extend(between_seeds(study, group, &suffix)?);
        figures.extend(overlap_by_layer(study, group, &seed_rows, &suffix));
        figures.extend(against_base(study, group, &suffix)?);
        figures.extend(amplified(study, group, &suffix)?);
    }
    figures.extend(moved(study, &groups)?);
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

fn matrix(phi: &Phi) -> Matrix {
    let (rows, columns) = phi.values().shape();
    let cells = || (1..=rows).flat_map(|i| (1..=columns).map(move |j| (i, j)));
    Matrix {
        rows,
        columns,
        values: cells().map(|(i, j)| Some(phi.at(i, j))).collect(),
        flags: cells().map(|(i, j)| phi.is_ambiguous(i, j)).collect(),
    }
}

/// The value of the brightest colour, one for all panels of a figure: the next tenth.
fn brightest<'a>(maps: impl Iterator<Item = &'a PhiMap>) -> f64 {
    let largest = maps.flat_map(|map| &map.phi.values).flatten().fold(0.0_f64, |most, value| most.max(*value));
    ((largest * 10.0).ceil() / 10.0).clamp(0.1, 1.0)
}

/// LoRA figure 3, and the same for every map.
fn between_ranks(study: &str, group: &Group<'_>, suffix: &str) -> Result<Vec<Named>, MeasureError> {
    let ranks: Vec<usize> = group.ranks().into_iter().collect();
    let Some(&large) = ranks.last() else { return Ok(Vec::new()) };
    // The paper's pair is 8 and 64; else the two largest.
    let small = if ranks.contains(&8) && large > 8 { 8 } else { ranks[ranks.len().saturating_sub(2)] };
    if small == large {
        return Ok(Vec::new());
    }
    // Another seed, so that what the two share was learnt: one seed gives both ranks the same first values.
    let (firsts, seconds) = (group.seeds(small), group.seeds(large));
    let Some(first) = firsts.first() else { return Ok(Vec::new()) };
    let other = seconds.iter().find(|run| run.cell.seed != first.cell.seed);
    let Some(second) = other.or(seconds.first()) else { return Ok(Vec::new()) };
    let n = if first.cell.seed == second.cell.seed {
        format!("one run each, seed {}: overlap is there from the start", first.cell.seed)
    } else {
        format!("one run each, seeds {} and {}", first.cell.seed, second.cell.seed)
    };
    let phis = overlap::between(first, second, Directions::A)?;
    let panel = |map: &str| phis.get(map).map(|phi| PhiMap { title: title(map), phi: matrix(phi) });
    let few: Vec<PhiMap> = shown(first).into_iter().filter_map(panel).collect();
    let mut names: Vec<&String> = phis.keys().collect();
    names.sort_by_key(|map| (place(map).0, *map)); // layer 2 before layer 10
    let every: Vec<PhiMap> = names.into_iter().filter_map(|map| panel(map)).collect();
    let labels = [format!("i (r = {small})"), format!("j (r = {large})")];
    let labels = [labels[0].as_str(), labels[1].as_str()];
    let caption = |what: &str| Caption {
        title: format!("{study}: φ(A_{{r={small}}}, A_{{r={large}}}, i, j){what}"),
        n: n.clone(),
        notes: vec![format!(
            "{}, {}; random subspaces of this space have φ = max(i, j)/{}.",
            group.task,
            group.variant,
            phis.values().next().map_or(0, Phi::dimension)
        )],
    };
    let zoom = ZOOM.min(small);
    let mut figures = vec![Named::new(
        format!("phi_ranks{suffix}"),
        phi_ranks(caption(""), &few, labels, zoom, brightest(few.iter())),
    )];
    if every.len() > few.len() {
        // One scale for all pages, so that they can be laid side by side.
        let top = brightest(every.iter());
        let pages: Vec<&[PhiMap]> = every.chunks(MOST_MAPS).collect();
        for (at, page) in pages.iter().enumerate() {
            let (of, end) = if pages.len() > 1 {
                (format!(", part {} of {}", at + 1, pages.len()), format!("-{}", at + 1))
            } else {
                (String::new(), String::new())
            };
            let figure = phi_grid(caption(&format!(", every map{of}")), page, labels, page.len().min(4), top);
            figures.push(Named::new(format!("phi_ranks_all{suffix}{end}"), figure));
        }
    }
    Ok(figures)
}

/// LoRA figure 4 with its random panel, and the overlap of seeds in every map.
fn between_seeds(study: &str, group: &Group<'_>, suffix: &str) -> Result<Vec<Named>, MeasureError> {
    let Some(rank) = group.ranks().into_iter().next_back() else { return Ok(Vec::new()) };
    let runs = group.seeds(rank);
    let [first, second, ..] = runs.as_slice() else { return Ok(Vec::new()) };
    let phis = overlap::between(first, second, Directions::A)?;
    let mut panels: Vec<PhiMap> = shown(first)
        .into_iter()
        .take(3)
        .filter_map(|map| phis.get(map).map(|phi| PhiMap { title: title(map), phi: matrix(phi) }))
        .collect();
    let dimension = phis.values().next().map_or(0, Phi::dimension);
    let random = || -> Result<Phi, SubspaceError> {
        let mut gaussian = Gaussian::new(0);
        let (one, other) = (gaussian.basis(dimension, rank)?, gaussian.basis(dimension, rank)?);
        grassmann::phi(&one, &other)
    };
    let random = random().map_err(|source| MeasureError::Measure {
        sample: "random subspaces".to_owned(),
        map: format!("dimension {dimension}, {rank} directions"),
        source,
    })?;
    panels.push(PhiMap { title: "two random Gaussians".to_owned(), phi: matrix(&random) });
    let caption = Caption {
        title: format!("{study}: φ between two seeds, r = {rank}"),
        n: format!("seeds {} and {}", first.cell.seed, second.cell.seed),
        notes: vec![format!("{}, {}, directions of A.", group.task, group.variant)],
    };
    let labels = [format!("i (seed {})", first.cell.seed), format!("j (seed {})", second.cell.seed)];
    let top = brightest(panels.iter());
    Ok(vec![Named::new(
        format!("phi_seeds{suffix}"),
        phi_seeds(caption, &panels, [labels[0].as_str(), labels[1].as_str()], top),
    )])
}

/// `φ(k, k)` over all pairs of seeds, by layer and map, at the rank of 8 or the nearest there is.
fn overlap_by_layer(study: &str, group: &Group<'_>, rows: &[overlap::SeedRow], suffix: &str) -> Option<Named> {
    let rank = group.ranks().into_iter().rfind(|rank| *rank <= 8).or_else(|| group.ranks().into_iter().next())?;
    let k = overlap::CUTS.into_iter().rfind(|k| *k <= rank)?;
    let of_group = |row: &&overlap::SeedRow| {
        (row.task.as_str(), row.variant.as_str(), row.rank, row.side, row.k)
            == (group.task, group.variant, rank, Directions::A.name(), k)
            && row.layer.is_some()
    };
    let found: Vec<&overlap::SeedRow> = rows.iter().filter(of_group).collect();
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

/// Appendix H.3: the leading directions of `W` against those of `ΔW`.
fn against_base(study: &str, group: &Group<'_>, suffix: &str) -> Result<Option<Named>, MeasureError> {
    let ranks = group.ranks();
    let Some(rank) = ranks.iter().copied().rfind(|rank| *rank <= 8).or(ranks.first().copied()) else { return Ok(None) };
    let runs = group.seeds(rank);
    let Some(run) = runs.first() else { return Ok(None) };
    let mut panels = Vec::new();
    for map in shown(run) {
        let Map { base: Some(base), update } = &run.maps[map] else { continue };
        let Some(directions) = Directions::DeltaInput.of(update, &run.name, map)? else { continue };
        let failed = |source| MeasureError::Measure { sample: run.name.clone(), map: map.to_owned(), source };
        let count = BASE_DIRECTIONS.min(base.nrows().min(base.ncols()));
        let leading = top(base, count, TopOptions::default()).map_err(failed)?;
        let phi = grassmann::phi(&leading.svd.basis(Side::Input), &directions).map_err(failed)?;
        panels.push(PhiMap { title: title(map), phi: matrix(&phi) });
    }
    if panels.is_empty() {
        return Ok(None);
    }
    let caption = Caption {
        title: format!("{study}: φ between W and ΔW, r = {rank}"),
        n: format!("one run, seed {}", run.cell.seed),
        notes: vec![format!("{}, {}; directions in the input space.", group.task, group.variant)],
    };
    let top = brightest(panels.iter());
    let figure = phi_seeds(caption, &panels, ["i (W)", "j (ΔW)"], top);
    Ok(Some(Named::new(format!("phi_base{suffix}"), figure)))
}

/// LoRA table 7, geometric means over seeds.
fn amplified(study: &str, group: &Group<'_>, suffix: &str) -> Result<Option<Named>, MeasureError> {
    let samples: Vec<AdapterSample> = group.runs.iter().map(|run| (*run).clone()).collect();
    let rows = projection::rows(&samples)?;
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
        return Ok(None);
    }
    let layer = maps.first().and_then(|map| place(map).0).map_or(String::new(), |layer| format!(", layer {layer}"));
    let counts = group.ranks().into_iter().map(|rank| group.seeds(rank).len());
    let caption = Caption {
        title: format!("{study}: W in the directions of ΔW{layer}"),
        n: super::seeds(counts, "bars"),
        notes: vec![format!("{}, {}, r directions each; geometric means.", group.task, group.variant)],
    };
    Ok(Some(Named::new(format!("amplification{suffix}"), amplification(caption, &lines))))
}

/// `ΔM` against `ΔD` for every variant that kept snapshots, one figure per task.
fn moved(study: &str, groups: &[Group<'_>]) -> Result<Vec<Named>, MeasureError> {
    let tasks: BTreeSet<&str> = groups.iter().map(|group| group.task).collect();
    let mut figures = Vec::new();
    for task in &tasks {
        let mut methods = Vec::new();
        let mut counts = Vec::new();
        let of_task: Vec<AdapterSample> = groups
            .iter()
            .filter(|group| group.task == *task)
            .flat_map(|group| {
                let largest = group.ranks().pop_last().unwrap_or(0);
                group.runs.iter().filter(move |run| run.cell.rank == largest).map(|run| (*run).clone())
            })
            .collect();
        let all = magnitude_direction::rows(&of_task)?;
        let shared = magnitude_direction::shared_maps(&all.iter().collect::<Vec<_>>());
        for group in groups.iter().filter(|group| group.task == *task) {
            let largest = group.ranks().pop_last().unwrap_or(0);
            let rows: Vec<&magnitude_direction::Row> = all
                .iter()
                .filter(|row| row.variant == group.variant && row.rank == largest && shared.contains(row.map.as_str()))
                .collect();
            let points: Vec<(f64, f64, f64)> = rows
                .iter()
                .filter_map(|row| Some((row.delta_direction?, row.delta_magnitude?, row.step as f64)))
                .collect();
            if points.is_empty() {
                continue;
            }
            let name = if largest > 0 { format!("{}, r = {largest}", group.variant) } else { group.variant.to_owned() };
            counts.push(group.seeds(largest).len());
            methods.push(Dynamics { method: name, fit: fit(&points), points });
        }
        if methods.is_empty() {
            continue;
        }
        let name = if tasks.len() > 1 { format!("dynamics-{task}") } else { "dynamics".to_owned() };
        let caption = Caption {
            title: format!("{study}: change of magnitude against change of direction, {task}"),
            n: super::seeds(counts.into_iter(), "").split(';').next().unwrap_or_default().to_owned(),
            notes: vec!["One point per map, snapshot and seed; the maps that every method changes.".to_owned()],
        };
        figures.push(Named::new(name, dynamics(caption, &methods)));
    }
    Ok(figures)
}

/// Least squares of `ΔM` on `ΔD`; none where one of them does not vary.
fn fit(points: &[(f64, f64, f64)]) -> Option<Fit> {
    let (x, y): (Vec<f64>, Vec<f64>) = points.iter().map(|point| (point.0, point.1)).unzip();
    let correlation = pearson(&x, &y).ok()??;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mx, my) = (mean(&x), mean(&y));
    let slope = x.iter().zip(&y).map(|(a, b)| (a - mx) * (b - my)).sum::<f64>()
        / x.iter().map(|a| (a - mx).powi(2)).sum::<f64>();
    Some(Fit { slope, intercept: my - slope * mx, correlation })
}
