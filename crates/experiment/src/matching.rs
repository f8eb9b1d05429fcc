//! Rows that have as much of a quantity as the baseline: ranks that are chosen so, and the rule that all of them hold it.
//!
//! Ranks and parameters are known before a run, from the configuration of the model. Memory and time are measured, so the table of costs says
//! how far rows are off.

use std::collections::BTreeMap;

use assets::source;
use models::{config::Config, modules::Modules, target::Target};
use record::{Matching, Quantity};
use variants::spec::VariantSpec;

use crate::{
    cell::Cell,
    document::{At, Document, Entry},
    error::Report,
    grid::{
        self,
        free::{Free, Unknown, composition},
    },
    path::Path,
};

pub(crate) mod count;
mod search;

use search::{Counts, Fitting};

/// Trained parameters of a row without its head's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Label of the variant.
    pub variant: String,
    /// Rank, 0 for methods without.
    pub rank: usize,
    /// Parameters; none where the model's configuration is not at hand.
    pub parameters: Option<usize>,
}

/// What each row of an experiment trains, in the order of its cells.
pub fn counted(cells: &[Cell]) -> Vec<Counted> {
    let mut configs: BTreeMap<&str, Option<Config>> = BTreeMap::new();
    let mut all: Vec<Counted> = Vec::new();
    for Cell { id, recipe, .. } in cells {
        if all.iter().any(|row| row.variant == id.variant && row.rank == id.rank) {
            continue;
        }
        let config = configs.entry(&recipe.model).or_insert_with(|| source::config(&recipe.model).ok().flatten());
        let count = |config: &Config| parameters(&recipe.variant, &recipe.targets, &recipe.modules, config);
        let parameters = config.as_ref().and_then(count);
        all.push(Counted { variant: id.variant.clone(), rank: id.rank, parameters });
    }
    all
}

fn parameters(spec: &VariantSpec, targets: &Target, modules: &Modules, config: &Config) -> Option<usize> {
    let variant = spec.check_beside(None, modules.roles()).ok()?;
    let selected = modules.select(variant.adapts().then_some(targets), config).ok()?;
    count::count(config, &variant, &selected).ok()
}

/// Puts ranks into the entries that say `ranks: match`.
pub(super) fn choose(document: &mut Document, report: &mut Report) {
    let free: Vec<usize> = (0..document.variants.len()).filter(|at| document.variants[*at].matches_ranks).collect();
    let Some(matching) = &document.matching else {
        for at in free {
            let rule = "ranks is `match`, but the experiment matches nothing; write `match: parameters` and a `baseline`, or a list of ranks";
            report.add(&document.variants[at].at.key("ranks"), rule);
        }
        return;
    };
    let Some(baseline) = baseline(document) else {
        report.add(
            &matching.at,
            "rows are matched with the baseline, but there is none; give `baseline`, the label of an entry",
        );
        return;
    };
    if baseline.matches_ranks {
        let rule = format!(
            "`{}` is the baseline that the others match, so it needs ranks of its own; write `ranks: [8]`",
            baseline.label
        );
        report.add(&baseline.at.key("ranks"), rule);
        return;
    }
    // What is wrong with the baseline itself is reported with the other entries.
    let Some(row) = grid::probe(document, baseline) else { return };
    let wanted: Vec<Option<usize>> = row.specs.iter().map(|spec| of_row(&row, spec)).collect();
    let ranks_of_baseline: Vec<usize> = row.specs.iter().map(|spec| spec.rank).collect();
    let by = matching.value.by;
    for at in free {
        let entry = &document.variants[at];
        // That it has no use for ranks, or is wrong at any, is told with the other rules of the entry.
        if !composition(entry).and_then(|spec| spec.delta).is_some_and(|delta| delta.is_ranked()) {
            continue;
        }
        let chosen = match by {
            Quantity::Rank => Ok(ranks_of_baseline.clone()),
            Quantity::Parameters => match Free::new(document, entry) {
                Ok(free) => nearest(&free, &entry.label, &wanted),
                Err(Unknown::Wrong) => continue,
                Err(Unknown::Model) => Err(format!(
                    "the parameters of `{}` cannot be counted before its model is at hand; write a list of ranks",
                    entry.label
                )),
            },
            Quantity::Memory | Quantity::Time => Err(format!(
                "the {} of a row is known when it has run, so no rank can be chosen by it; write a list of ranks",
                by.name()
            )),
        };
        let place = entry.at.key("ranks");
        match chosen {
            Ok(mut ranks) => {
                ranks.sort_unstable();
                ranks.dedup();
                document.variants[at].ranks = Some(At { at: place, value: ranks.into_iter().enumerate().collect() });
            }
            Err(why) => report.add(&place, why),
        }
    }
}

fn baseline(document: &Document) -> Option<&Entry> {
    document.variants.iter().find(|entry| Some(&entry.label) == document.baseline.as_ref())
}

fn of_row(row: &grid::Row, spec: &VariantSpec) -> Option<usize> {
    let config = source::config(&row.model).ok().flatten()?;
    parameters(spec, &row.targets, &row.modules, &config)
}

/// The rank whose parameters come nearest to each of `wanted`.
fn nearest(free: &Free<'_>, label: &str, wanted: &[Option<usize>]) -> Result<Vec<usize>, String> {
    let wanted: Option<Vec<usize>> = wanted.iter().copied().collect();
    let wanted = wanted
        .ok_or("the parameters of the baseline cannot be counted before its model is at hand; write a list of ranks")?;
    let none = |why: String| format!("no rank can be chosen for `{label}`: {why}; or write a list of ranks");
    let (most, misfit) = (free.most(), |rank| free.misfit(rank));
    let fitting = Fitting::new(most, free.widest(), |rank| misfit(rank).is_none());
    if fitting.len() == 0 {
        let why = misfit(1).unwrap_or_default();
        return Err(none(format!("none of 1..={most} fits all of its maps; at rank 1, {why}")));
    }
    let mut counts = Counts::new(|rank| free.count(rank).ok());
    let ranks: Option<Vec<usize>> = wanted.iter().map(|wanted| counts.nearest(&fitting, *wanted)).collect();
    ranks.ok_or_else(|| {
        let why = free.count(fitting.last()).err().unwrap_or_default();
        none(format!("it can be counted at none; at rank {}, {why}", fitting.last()))
    })
}

/// Reports rows that are further off the baseline than the experiment allows, as far as that is known before a run.
pub(super) fn verify(document: &Document, cells: &[Cell], report: &mut Report) {
    let (Some(At { at, value: matching }), Some(baseline)) = (&document.matching, baseline(document)) else { return };
    let rows = counted(cells);
    let is_baseline = |row: &&Counted| row.variant == baseline.label;
    let others = rows.iter().filter(|row| !is_baseline(row) && !matching.except.contains(&row.variant));
    let quantity = |row: &Counted| match matching.by {
        Quantity::Rank => Some(row.rank),
        Quantity::Parameters => row.parameters,
        Quantity::Memory | Quantity::Time => None,
    };
    if matches!(matching.by, Quantity::Memory | Quantity::Time) {
        return;
    }
    let of_baseline: Option<Vec<f64>> =
        rows.iter().filter(is_baseline).map(|row| Some(quantity(row)? as f64)).collect();
    let Some(of_baseline) = of_baseline else {
        report.add(at, "parameters are counted from the model's config.json, which is not at hand; `lora-lab run` downloads it, or match by rank");
        return;
    };
    for row in others {
        let entry = document.variants.iter().find(|entry| entry.label == row.variant);
        let place = entry.map_or_else(Path::default, |entry| entry.at.clone());
        let is_chosen = entry.is_some_and(|entry| entry.matches_ranks);
        if let Some(problem) = broken(matching, row, is_chosen, quantity(row), (&baseline.label, &of_baseline)) {
            report.add(&place, problem);
        }
    }
}

/// What keeps a row from being matched; its rank may be the nearest that there is.
fn broken(
    matching: &Matching,
    row: &Counted,
    is_chosen: bool,
    value: Option<usize>,
    baseline: (&str, &[f64]),
) -> Option<String> {
    let (label, of_baseline) = baseline;
    let what = matching.by.name();
    let value = value? as f64;
    // No rank is near another: a rank is equal or it is not.
    let tolerance = if matching.by == Quantity::Rank { 0.0 } else { matching.tolerance };
    let off = matching.off(value, of_baseline);
    if off.is_some_and(|off| off.abs() <= tolerance) || (off.is_none() && of_baseline.contains(&value)) {
        return None;
    }
    let has = match (matching.by, row.rank) {
        (Quantity::Rank, 0) => "has no rank".to_owned(),
        (Quantity::Rank, rank) => format!("has rank {rank}"),
        (_, 0) => format!("trains {value} parameters"),
        (_, rank) if is_chosen => format!("trains {value} parameters at rank {rank}, of its ranks the nearest"),
        (_, rank) => format!("trains {value} parameters at rank {rank}"),
    };
    let apart =
        off.filter(|_| matching.by != Quantity::Rank).map(|off| format!(", {:+.1}%", 100.0 * off)).unwrap_or_default();
    let listed = of_baseline.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let choose = match (row.rank, is_chosen) {
        (0, _) => "",
        (_, true) => "change what else its count depends on (its targets, a field of its `with`), or ",
        (_, false) => "write `ranks: match` in its entry, which chooses the nearest, or ",
    };
    Some(format!(
        "`{}` {has}, but `{label}` has {listed}{apart}, and the experiment matches {what}; {choose}name it under `match: {{by: {what}, except: \
         [{}]}}`",
        row.variant, row.variant
    ))
}
