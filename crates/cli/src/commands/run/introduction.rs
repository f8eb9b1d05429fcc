//! What a run says of itself before it trains: device, base, tasks, what trains, and how long it may take.

use std::collections::BTreeSet;

use data::task::Objective;
use experiment::{
    cell::{Cell, Recipe},
    matching::{Counted, counted},
};
use models::config::{Config, Purpose};
use trainer::model_cache::{ModelCache, TokenizedTask};

use crate::{failure::Failure, output::compact};

/// Rows of an experiment that are named one by one.
const ROWS: usize = 8;

/// The lines, of cells whose models and tasks are open.
pub(super) fn lines(cells: &[Cell], cache: &ModelCache, device: &str) -> Result<Vec<String>, Failure> {
    let mut lines = vec![format!("device: {}", if device == "flex" { "cpu" } else { device })];
    let mut said = BTreeSet::new();
    let mut tasks = Vec::new();
    for Cell { recipe, .. } in cells {
        if said.insert(recipe.model.to_string()) {
            lines.push(of_base(recipe, cache)?);
        }
        let key = (&recipe.task, recipe.train.max_length, recipe.seeds.sample.is_some());
        if !tasks.contains(&key) {
            tasks.push(key);
        }
    }
    for key in tasks {
        let is_of =
            |cell: &&Cell| (&cell.recipe.task, cell.recipe.train.max_length, cell.recipe.seeds.sample.is_some()) == key;
        if let Some(cell) = cells.iter().find(is_of) {
            lines.push(of_task(&cell.recipe, &*cache.task(&cell.recipe)?));
        }
    }
    let rows = counted(cells);
    lines.extend(rows.iter().take(ROWS).filter_map(of_row));
    if rows.len() > ROWS {
        lines.push(format!("and {} more rows", rows.len() - ROWS));
    }
    Ok(lines)
}

fn of_base(recipe: &Recipe, cache: &ModelCache) -> Result<String, Failure> {
    let base = cache.base_of(recipe)?;
    let config = base.backbone.config();
    let count: usize =
        config.wanted(Purpose::Classify).iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    let kind = match &config {
        Config::Encoder(_) => "an encoder",
        Config::Gpt2(_) | Config::Llama(_) => "a decoder",
    };
    Ok(format!("base: {}, {kind} of {} parameters", recipe.model, compact(count as u64)))
}

fn of_task(recipe: &Recipe, task: &TokenizedTask) -> String {
    let splits = task.evaluated().map(|split| format!("{} {}", split.name, split.set.rows.len()));
    let splits = splits.collect::<Vec<_>>().join(", ");
    let asks = match &task.info.objective {
        Objective::Classification { labels } if labels.len() <= 4 => format!("classes {}", labels.join(", ")),
        Objective::Classification { labels } => format!("{} classes", labels.len()),
        Objective::Regression { low, high } => format!("a score from {low} to {high}"),
        Objective::Text => "text".to_owned(),
    };
    let cut = match task.truncated.is_empty() {
        true => format!("none longer than {} tokens", recipe.train.max_length),
        false => {
            let all = task.truncated.iter().map(|(split, cut)| format!("{} of {} of {split}", cut.texts, cut.of));
            format!("cut at {} tokens: {}", recipe.train.max_length, all.collect::<Vec<_>>().join(", "))
        }
    };
    format!("task {}: train {}, {splits}; {asks}; {cut}", recipe.task, task.train.rows.len())
}

fn of_row(Counted { variant, rank, parameters }: &Counted) -> Option<String> {
    let rank = if *rank > 0 { format!(" rank {rank}") } else { String::new() };
    parameters.map(|count| format!("{variant}{rank}: {} parameters train, beside the head", compact(count as u64)))
}
