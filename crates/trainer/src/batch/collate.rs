//! From the chosen examples of every run to the arrays of one micro-batch.

use models::{
    network::Network,
    tokens::{Layout, Row},
};

use super::layout::{BatchArrays, HostBatch};
use crate::{
    objective::LossInputs,
    rows::{RunRows, row},
};

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
    HostBatch {
        arrays: BatchArrays { tokens, losses },
        n_tokens: counts(stacks, RunRows::n_tokens),
        n_terms: counts(stacks, RunRows::n_terms),
    }
}

/// A number of every run of every stack.
fn counts<'a>(stacks: &[Vec<RunRows<'a>>], count: fn(&RunRows<'a>) -> u64) -> Vec<Vec<u64>> {
    stacks.iter().map(|runs| runs.iter().map(count).collect()).collect()
}
