//! The measures of a whole study: its adapters come one at a time, and what stays of each is the rows of the tables.
//!
//! The comparisons between adapters are the exception. They grow with the square of the seeds, so they are made between the first
//! [`MOST_COMPARED`] runs of every task, variant and rank, which are kept; the tables of single runs have them all.

use std::{collections::BTreeMap, sync::Arc};

use nalgebra::DMatrix;

use super::{
    AdapterSample, MeasureError, across, captured_energy, frame::csv, known::Known, magnitude_direction, overlap,
    per_run_and_map, projection, random_column, seeds, spectrum,
};
use crate::{AnalysisError, render, table::projection_table};

/// Runs of one task, variant and rank that are compared, with each other and with those of others: 16 seeds are 120 pairs.
pub const MOST_COMPARED: usize = 16;

/// A file under `results/NAME/analysis`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasureFile {
    /// Its name.
    pub name: String,
    /// Its content.
    pub text: String,
    /// Rows of a CSV file; none for LoRA's table 7, which is laid out for readers.
    pub rows: Option<usize>,
}

/// Why a study's tables of measures cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A measure is not defined on what was given.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// A table cannot be written as CSV.
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
}

/// The adapters of a study that were measured so far.
#[derive(Debug, Default)]
pub struct Measuring {
    /// The runs that are compared, in their order.
    pub(crate) compared: Vec<AdapterSample>,
    /// How many runs there are of every task, variant and rank.
    counts: BTreeMap<(String, String, usize), usize>,
    /// The base's maps, by name.
    bases: BTreeMap<String, Arc<DMatrix<f64>>>,
    known: Known,
    pub(crate) projected: Vec<projection::Row>,
    pub(crate) moved: Vec<magnitude_direction::Row>,
    shapes: Vec<spectrum::Row>,
}

/// What a study's tables and figures show.
#[derive(Debug)]
pub struct Measures {
    pub(crate) taken: Measuring,
    pub(crate) seeds: Vec<seeds::Row>,
}

impl Measuring {
    /// Measures the next adapter.
    pub fn add(&mut self, sample: AdapterSample) -> Result<(), MeasureError> {
        for run in per_run_and_map([&sample]) {
            if let Some(base) = &run.map.base {
                self.bases.entry(run.name.to_owned()).or_insert_with(|| Arc::clone(base));
            }
            let Some(update) = run.svd()? else { continue };
            self.projected.extend(projection::row(&run, &update, &mut self.known)?);
            self.shapes.push(spectrum::row(&run, &update, &mut self.known)?);
        }
        self.moved.extend(magnitude_direction::rows(std::slice::from_ref(&sample))?);
        let cell = &sample.cell;
        let count = self.counts.entry((cell.task.clone(), cell.variant.clone(), cell.rank)).or_default();
        *count += 1;
        if *count <= MOST_COMPARED {
            self.compared.push(sample);
        }
        Ok(())
    }

    /// Compares the adapters.
    pub fn finish(self) -> Result<Measures, MeasureError> {
        Ok(Measures { seeds: seeds::rows(&self.compared)?, taken: self })
    }

    /// How many runs there are of a task, variant and rank.
    pub(crate) fn count(&self, task: &str, variant: &str, rank: usize) -> usize {
        self.counts.get(&(task.to_owned(), variant.to_owned(), rank)).copied().unwrap_or(0)
    }
}

impl Measures {
    /// The measures of adapters that are all in memory.
    pub fn of(samples: impl IntoIterator<Item = AdapterSample>) -> Result<Self, MeasureError> {
        let mut measuring = Measuring::default();
        samples.into_iter().try_for_each(|sample| measuring.add(sample))?;
        measuring.finish()
    }

    /// Runs that are in the tables of single runs, but compared with no other.
    pub fn left_out(&self) -> usize {
        self.taken.counts.values().sum::<usize>() - self.taken.compared.len()
    }

    /// Every table of a study that has rows. The names of the files are those of the committed results.
    pub fn files(&self, study: &str) -> Result<Vec<MeasureFile>, StudyError> {
        let Measuring { compared, bases, projected, moved, shapes, .. } = &self.taken;
        let mut files = Vec::new();
        if !projected.is_empty() {
            let table = projection_table(projected);
            let latex = render::latex(&table, &format!("{study}-table7"));
            for (end, text) in [("txt", render::text(&table)), ("md", render::markdown(&table)), ("tex", latex)] {
                files.push(MeasureFile { name: format!("table7.{end}"), text, rows: None });
            }
        }
        let all = [
            ("seeds", csv(&self.seeds)?),
            ("random_column", csv(&random_column::rows(bases)?)?),
            ("correlation", csv(&magnitude_direction::correlations(moved))?),
            ("overlap", csv(&overlap::rows(compared)?)?),
            ("across", csv(&across::rows(compared)?)?),
            ("projection", csv(projected)?),
            ("shape", csv(shapes)?),
            ("movement", csv(moved)?),
            ("span", csv(&captured_energy::rows(compared)?)?),
        ];
        for (name, text) in all {
            let rows = text.lines().count().saturating_sub(1);
            if rows > 0 {
                files.push(MeasureFile { name: format!("{name}.csv"), text, rows: Some(rows) });
            }
        }
        Ok(files)
    }
}
