//! Train a variant beside its baseline, and print the table that a paper would show.
//!
//! ```text
//! cargo run --release -p examples --example train_a_variant
//! ```
//!
//! An experiment is text: base, tasks, variants, ranks and seeds. [`experiment::read`] turns it into *cells*, one for every run of the
//! grid, and finds every problem of the text at once, before anything is opened. A study trains the cells that have no record yet, and
//! the tables are a function of the records alone. So a study that was interrupted goes on where it stopped, and here a second call
//! trains nothing.
//!
//! DyLoRA trains one adapter for all ranks up to its own, which is why it has a row for each of them.

use std::{error::Error, path::Path};

use analysis::{
    compare::Rules,
    render,
    summary::{Selection, SummaryTable, summarise},
    table::{Layout, pivot_table},
};
use experiment::Experiment;
use trainer::model_cache::ModelCache;

/// `lora-lab run FILE` takes the same text from a file. Two seeds of a short run show that everything works; they compare nothing.
const EXPERIMENT: &str = "
suite: glue_mini
model: mini_roberta
tasks: [rte]
seeds: [0, 1]
targets: [query, value]
ranks: [2]
train: {steps: 40, batch: 16, learning_rate: 3e-3, max_length: 32}
variants: [lora, dylora]
baseline: lora
";

/// What the text says, read and checked.
pub(crate) fn experiment() -> Result<Experiment, Box<dyn Error>> {
    Ok(experiment::read(EXPERIMENT, "train_a_variant.yaml", "train_a_variant", &[])?)
}

/// Trains the grid into `results` and groups its records over seeds.
pub(crate) fn scores(results: &Path) -> Result<SummaryTable, Box<dyn Error>> {
    let records = examples::train(experiment()?.cells(), &ModelCache::on_cpu(), results)?;
    Ok(summarise(&records, Selection::Reported)?)
}

#[expect(clippy::print_stdout, reason = "an example shows what it computed")]
fn main() -> Result<(), Box<dyn Error>> {
    let results = tempfile::tempdir()?;
    let layout = Layout {
        split: "dev".to_owned(),
        variants: experiment()?.labels(),
        caption: "DyLoRA beside LoRA".to_owned(),
        ..Layout::default()
    };
    let table = pivot_table(&scores(results.path())?, &layout, &Rules::default())?;
    print!("{}", render::text(&table)); // `render::latex` and `render::markdown` take the same table
    Ok(())
}
