//! Heat maps of `φ`: between ranks (LoRA figure 3), between seeds (figure 4), and between `W` and `ΔW` (appendix H.3).

use super::{Group, Named, shown, title};
use crate::{
    figure::{Caption, Matrix, PhiMap, phi_grid, phi_ranks, phi_seeds},
    measures::{AdapterSample, Directions, Map, MeasureError, pair, place},
    subspace::{
        Side, SubspaceError,
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

/// LoRA figure 3, and the same for every map.
pub(super) fn between_ranks(study: &str, group: &Group<'_>, suffix: &str) -> Result<Vec<Named>, MeasureError> {
    let Some([first, second]) = smaller_and_largest(group) else { return Ok(Vec::new()) };
    let n = if first.cell.seed == second.cell.seed {
        format!("one run each, seed {}: overlap is there from the start", first.cell.seed)
    } else {
        format!("one run each, seeds {} and {}", first.cell.seed, second.cell.seed)
    };
    let (small, large) = (first.cell.rank, second.cell.rank);
    let phis = pair::between(first, second, Directions::A)?;
    let panel = |map: &str| phis.get(map).map(|phi| PhiMap { title: title(map), phi: matrix(phi) });
    let few: Vec<PhiMap> = shown(first).into_iter().filter_map(panel).collect();
    let mut names: Vec<&String> = phis.keys().collect();
    names.sort_by_key(|map| (place(map).0, *map)); // layer 2 before layer 10
    let every: Vec<PhiMap> = names.into_iter().filter_map(|map| panel(map)).collect();
    let labels = [format!("i (r = {small})"), format!("j (r = {large})")];
    let labels = [labels[0].as_str(), labels[1].as_str()];
    let dimension = phis.values().next().map_or(0, Phi::dimension);
    let caption = |what: &str| Caption {
        title: format!("{study}: φ(A_{{r={small}}}, A_{{r={large}}}, i, j){what}"),
        n: n.clone(),
        notes: vec![format!(
            "{}, {}; random subspaces of this space have φ = max(i, j)/{dimension}.",
            group.task, group.variant
        )],
    };
    let zoom = ZOOM.min(small);
    let enlarged = phi_ranks(caption(""), &few, labels, zoom, brightest(few.iter()));
    let mut figures = vec![Named::new(format!("phi_ranks{suffix}"), enlarged)];
    if every.len() > few.len() {
        figures.extend(pages(&every, labels, suffix, &caption));
    }
    Ok(figures)
}

/// A run of a smaller rank and one of the largest; none where there is one rank. The paper's pair is 8 and 64.
fn smaller_and_largest<'a>(group: &'a Group<'_>) -> Option<[&'a AdapterSample; 2]> {
    let ranks: Vec<usize> = group.ranks().into_iter().collect();
    let large = *ranks.last()?;
    let small = if ranks.contains(&8) && large > 8 { 8 } else { ranks[ranks.len().saturating_sub(2)] };
    if small == large {
        return None;
    }
    // Another seed, so that what the two share was learnt: one seed gives both ranks the same first values.
    let (firsts, seconds) = (group.seeds(small), group.seeds(large));
    let first = *firsts.first()?;
    let other = seconds.iter().find(|run| run.cell.seed != first.cell.seed);
    Some([first, *other.or(seconds.first())?])
}

/// Every map on as many pages as it takes, on one colour scale, so that pages can be compared.
fn pages(every: &[PhiMap], labels: [&str; 2], suffix: &str, caption: &dyn Fn(&str) -> Caption) -> Vec<Named> {
    let top = brightest(every.iter());
    let pages: Vec<&[PhiMap]> = every.chunks(MOST_MAPS).collect();
    let page = |(at, page): (usize, &&[PhiMap])| {
        let (of, end) = if pages.len() > 1 {
            (format!(", part {} of {}", at + 1, pages.len()), format!("-{}", at + 1))
        } else {
            (String::new(), String::new())
        };
        let figure = phi_grid(caption(&format!(", every map{of}")), page, labels, page.len().min(4), top);
        Named::new(format!("phi_ranks_all{suffix}{end}"), figure)
    };
    pages.iter().enumerate().map(page).collect()
}

/// LoRA figure 4 with its random panel, and the overlap of seeds in every map.
pub(super) fn between_seeds(study: &str, group: &Group<'_>, suffix: &str) -> Result<Vec<Named>, MeasureError> {
    let Some(rank) = group.ranks().into_iter().next_back() else { return Ok(Vec::new()) };
    let runs = group.seeds(rank);
    let [first, second, ..] = runs.as_slice() else { return Ok(Vec::new()) };
    let phis = pair::between(first, second, Directions::A)?;
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

/// Appendix H.3: the leading directions of `W` against those of `ΔW`.
pub(super) fn against_base(study: &str, group: &Group<'_>, suffix: &str) -> Result<Option<Named>, MeasureError> {
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
