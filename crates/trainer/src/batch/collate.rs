//! From the chosen examples of every run to the arrays of one micro-batch.

use data::{batch::Encoded, task::Objective};
use models::{
    network::Network,
    tokens::{Layout, Row},
};

use super::layout::{BatchArrays, HostBatch};
use crate::objective::LossInputs;

/// One run's part of a micro-batch.
#[derive(Clone, Debug)]
pub struct RunRows<'a> {
    /// Its examples, then empty rows that fill the batch up and count for nothing.
    pub rows: Vec<Option<&'a Encoded>>,
    /// What is predicted.
    pub objective: &'a Objective,
}

/// How the rows of a micro-batch are padded.
#[derive(Clone, Copy, Debug)]
pub struct Padding {
    /// The padding token.
    pub token: u32,
    /// Lengths are rounded up to a multiple of this: few shapes, each recorded once on a device that replays steps.
    pub bucket: usize,
    /// Shorter batches are padded to this length, and never packed; 0 asks for nothing.
    pub at_least: usize,
}

impl<'a> RunRows<'a> {
    /// These examples, filled up to `rows` rows.
    pub fn new(examples: Vec<&'a Encoded>, rows: usize, objective: &'a Objective) -> Self {
        assert!(examples.len() <= rows, "{} examples do not fit into {rows} rows", examples.len());
        let mut all: Vec<Option<&Encoded>> = examples.into_iter().map(Some).collect();
        all.resize(rows, None);
        Self { rows: all, objective }
    }

    /// What each of its examples weighs in a mean over them. Row weights are f32.
    pub fn share(&self) -> f64 {
        f64::from(1.0 / self.rows.iter().flatten().count() as f32)
    }

    /// Tokens of its examples, padding left out.
    fn n_tokens(&self) -> u64 {
        self.rows.iter().flatten().map(|example| example.ids.len() as u64).sum()
    }
}

/// The arrays of a micro-batch, from the rows of every run by stack. Rows are packed where the network and all losses have it so, and
/// padded to one length elsewhere.
pub fn collate(network: &Network, stacks: &[Vec<RunRows<'_>>], padding: Padding) -> HostBatch {
    let rows: Vec<Row<'_>> = stacks.iter().flatten().flat_map(|run| &run.rows).map(|example| row(*example)).collect();
    let longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    let seq = longest.max(padding.at_least).next_multiple_of(padding.bucket);
    let seq = seq.min(network.backbone.config().longest().max(longest));
    let losses: Vec<Vec<_>> = stacks.iter().map(|runs| LossInputs::collate(runs, seq)).collect();
    // Where a loss reads single tokens, it finds them by their place in a padded row.
    let packs = padding.at_least == 0
        && losses.iter().flatten().all(LossInputs::reads_rows)
        && network.supports_packing(longest);
    let (runs, scheme) = (stacks.iter().map(Vec::len).sum(), network.backbone.scheme());
    let tokens = if packs {
        Layout::packed(&rows, runs, seq, padding.token, scheme)
    } else {
        Layout::padded(&rows, seq, padding.token, scheme)
    };
    let n_tokens = stacks.iter().map(|runs| runs.iter().map(RunRows::n_tokens).collect()).collect();
    HostBatch { arrays: BatchArrays { tokens, losses }, n_tokens }
}

/// An example as the model sees it; none is a row that fills a batch up.
pub(crate) fn row(example: Option<&Encoded>) -> Row<'_> {
    example.map_or_else(Row::default, |example| Row { ids: &example.ids, types: &example.types })
}
