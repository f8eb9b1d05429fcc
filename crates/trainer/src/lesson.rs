//! What a cohort learns from: batches and the loss over them. The loop knows no more of a task than this.

use std::sync::{Arc, Mutex};

use burn::tensor::{Int, Tensor, activation};
use data::{
    batch::{Batch, EncodedSet},
    order::epoch_order,
    task::Objective,
};
use kernels::ops;
use models::{
    network::Network,
    tokens::{AttentionMask, Layout, Tokens},
};
use variants::{
    host::{Placement, cast},
    pass::Pass,
};

use crate::{
    step::inputs::{DeviceInputs, Slice, UploadBuffer},
    text,
};

/// One micro-batch on the host.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    /// Its tokens.
    pub layout: Layout,
    /// Further whole numbers, in an order of the lesson's own.
    pub ints: Vec<Vec<i64>>,
    /// Further numbers.
    pub floats: Vec<Vec<f64>>,
    /// What the shape of the loss depends on.
    pub marks: Vec<usize>,
    /// Real tokens of every run of every stack, padding left out.
    pub real: Vec<Vec<u64>>,
}

/// Where a micro-batch lies in a step's buffer. Equal plans are the same computation with other numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SheetPlan {
    rows: usize,
    seq: usize,
    queries: usize,
    ids: Slice,
    types: Slice,
    positions: Slice,
    closed: Slice,
    last: Slice,
    sequences: Option<SequencePlan>,
    ints: Vec<Slice>,
    floats: Vec<Slice>,
    marks: Vec<usize>,
}

/// Where rows side by side are said to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SequencePlan {
    starts: Slice,
    first: Slice,
    /// What no row is longer than, rounded up: shapes depend on less.
    longest: usize,
}

impl Sheet {
    /// Enters it into a buffer.
    pub fn enter(self, buffer: &mut UploadBuffer) -> SheetPlan {
        let Layout { rows, seq, ids, types, positions, bias, last, sequences } = self.layout;
        SheetPlan {
            rows,
            seq,
            queries: bias.len() / (rows * seq).max(1),
            ids: buffer.ints(ids),
            types: buffer.ints(types),
            positions: buffer.ints(positions),
            last: buffer.ints(last),
            sequences: sequences.map(|sequences| SequencePlan {
                longest: sequences.longest().next_multiple_of(ops::LONGEST),
                starts: buffer.ints(sequences.starts),
                first: buffer.ints(sequences.first),
            }),
            ints: self.ints.into_iter().map(|values| buffer.ints(values)).collect(),
            closed: buffer.floats(bias),
            floats: self.floats.into_iter().map(|values| buffer.floats(values)).collect(),
            marks: self.marks,
        }
    }

    /// The same micro-batch on a device by itself.
    pub fn hand_out(self, place: &Placement) -> Handout {
        let mut buffer = UploadBuffer::default();
        let plan = self.enter(&mut buffer);
        plan.hand_out(&buffer.upload(place))
    }
}

/// One micro-batch on the device.
#[derive(Clone, Debug)]
pub struct Handout {
    /// Its tokens.
    pub tokens: Tokens,
    /// [`Sheet::ints`]
    pub ints: Vec<Tensor<1, Int>>,
    /// [`Sheet::floats`]
    pub floats: Vec<Tensor<1>>,
    /// [`Sheet::marks`]
    pub marks: Vec<usize>,
}

impl SheetPlan {
    /// The micro-batch from a step's inputs.
    pub fn hand_out(&self, inputs: &DeviceInputs) -> Handout {
        let shape = [self.rows, self.seq];
        Handout {
            tokens: Tokens {
                ids: inputs.table(self.ids, shape),
                types: (!self.types.is_empty()).then(|| inputs.table(self.types, shape)),
                positions: inputs.table(self.positions, shape),
                attention_mask: match self.sequences {
                    Some(SequencePlan { starts, first, longest }) => {
                        AttentionMask::Packed { starts: inputs.ints(starts), first: inputs.ints(first), longest }
                    }
                    None => AttentionMask::Padded(inputs.floats(self.closed, [self.rows, 1, self.queries, self.seq])),
                },
                last: inputs.ints(self.last),
            },
            ints: self.ints.iter().map(|span| inputs.ints(*span)).collect(),
            floats: self.floats.iter().map(|span| inputs.floats(*span, [span.len()])).collect(),
            marks: self.marks.clone(),
        }
    }
}

/// Batches and losses of a cohort.
pub trait Lesson {
    /// Micro-batch `micro` (counted over the whole run) of every run, for a network with these stacks.
    fn sheet(&self, network: &Network, micro: u64) -> Sheet;

    /// Losses under `pass`, one per stack, `[runs]` each: means over real rows or tokens.
    fn losses(&self, network: &Network, handout: &Handout, pass: &Pass) -> Vec<Tensor<1>>;
}

/// One run's training examples in their order.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Tokenised examples.
    pub set: EncodedSet,
    /// What is predicted.
    pub objective: Objective,
    /// Key of the `data` stream.
    pub seed: u64,
    order: Arc<Mutex<Option<Epoch>>>,
}

/// One pass over the examples, batch by batch; sorting a large set anew for every batch would take longer than a step.
#[derive(Debug)]
struct Epoch {
    number: u64,
    rows: usize,
    batches: Vec<Vec<usize>>,
}

impl Feed {
    /// Examples in the order of a seed's `data` stream.
    pub fn new(set: EncodedSet, objective: Objective, seed: u64) -> Self {
        Self { set, objective, seed, order: Arc::default() }
    }

    /// Rows of micro-batch `micro`: a pure function of seed and number, so a resumed run sees what it would
    /// have seen.
    pub fn batch(&self, micro: u64, rows: usize, pad: u32) -> Batch {
        let per_epoch = self.set.rows.len().div_ceil(rows) as u64;
        let number = micro / per_epoch;
        let mut held = self.order.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        let epoch = match held.take().filter(|epoch| (epoch.number, epoch.rows) == (number, rows)) {
            Some(epoch) => epoch,
            None => Epoch { number, rows, batches: epoch_order(&self.set.lengths(), rows, self.seed, number) },
        };
        let batch = Batch::gather(&self.set, &epoch.batches[(micro % per_epoch) as usize], rows, pad);
        *held = Some(epoch);
        batch
    }
}

/// Classification and regression, or text to continue, every run of a cohort on its own examples.
#[derive(Debug)]
pub struct Examples {
    /// One per stack and run.
    pub feeds: Vec<Vec<Feed>>,
    /// Rows per run and micro-batch.
    pub rows: usize,
    /// Padding token.
    pub pad: u32,
    /// Widths are rounded up to a multiple of this: few shapes, each recorded once on a device that replays steps.
    pub bucket: usize,
    /// Narrower batches are padded to this width.
    pub at_least: usize,
}

impl Examples {
    /// The same, every batch as wide as the longest example.
    #[must_use]
    pub fn widest(self) -> Self {
        let longest = self.feeds.iter().flatten().flat_map(|feed| feed.set.lengths()).max().unwrap_or(0);
        Self { at_least: longest, ..self }
    }

    /// Whether these are texts; a cohort has texts alone, or none.
    fn is_text(&self) -> bool {
        self.feeds.iter().flatten().any(|feed| feed.objective == Objective::Text)
    }
}

impl Lesson for Examples {
    fn sheet(&self, network: &Network, micro: u64) -> Sheet {
        let batches: Vec<Vec<Batch>> = self
            .feeds
            .iter()
            .map(|stack| stack.iter().map(|feed| feed.batch(micro, self.rows, self.pad)).collect())
            .collect();
        let mut whole = Batch::concat(batches.iter().flatten().cloned().collect(), self.pad);
        let longest = network.backbone.config().longest();
        let width = whole.seq.max(self.at_least).next_multiple_of(self.bucket);
        whole.pad_to(width.min(longest.max(whole.seq)), self.pad);
        let (is_text, runs) = (self.is_text(), self.feeds.iter().map(Vec::len).sum());
        // A width that was asked for is padded to.
        let padded = is_text || self.at_least > 0;
        let layout = if padded { layout(network, &whole) } else { row_layout(network, &whole, runs) };
        let mut sheet = Sheet { layout, ..Sheet::default() };
        for (batches, feeds) in batches.iter().zip(&self.feeds) {
            if is_text {
                let mut batches = batches.clone();
                for batch in &mut batches {
                    batch.pad_to(whole.seq, self.pad);
                }
                text::enter(&batches, &mut sheet);
            } else {
                let objectives: Vec<_> = feeds.iter().map(|feed| &feed.objective).collect();
                enter(batches, &objectives, &mut sheet);
            }
        }
        let real = |batch: &Batch| {
            let rows = batch.lengths.iter().zip(&batch.weights).filter(|(_, weight)| **weight > 0.0);
            rows.map(|(length, _)| *length as u64).sum()
        };
        sheet.real = batches.iter().map(|stack| stack.iter().map(real).collect()).collect();
        sheet
    }

    fn losses(&self, network: &Network, handout: &Handout, pass: &Pass) -> Vec<Tensor<1>> {
        if self.is_text() {
            let hidden = network.backbone.forward(&handout.tokens, pass);
            return text::losses(network, &hidden, handout, pass);
        }
        let logits = network.classify(&handout.tokens, pass);
        logits.into_iter().enumerate().map(|(stack, logits)| loss(&logits, handout, stack)).collect()
    }
}

/// The tokens of a batch, laid out for a network's backbone.
pub fn layout(network: &Network, batch: &Batch) -> Layout {
    Layout::new(&batch.ids, &batch.types, &batch.lengths, network.backbone.scheme())
}

/// [`layout`] of a batch of `runs` runs whose rows are classified one by one: without padding where the network can have it so.
pub fn row_layout(network: &Network, batch: &Batch, runs: usize) -> Layout {
    let layout = layout(network, batch);
    let longest = batch.lengths.iter().copied().max().unwrap_or(0);
    if network.supports_packing(longest) { layout.packed(runs) } else { layout }
}

/// What [`loss`] reads of a stack: its marks (outputs, whether any run classifies, whether any regresses).
const MARKS: usize = 3;
/// Arrays of a stack: share of each log-probability, closed outputs, labels and shares of regression.
const ARRAYS: usize = 4;

/// Enters what the loss of one stack needs, its batches run by run: shares of real rows and each run's own classes.
pub fn enter(batches: &[Batch], objectives: &[&Objective], sheet: &mut Sheet) {
    let (runs, rows) = (batches.len(), batches[0].rows);
    let outputs = objectives.iter().map(|objective| objective.n_outputs()).max().unwrap_or(1);
    let mut target = vec![0.0; runs * rows * outputs]; // weight of each log-probability
    let mut closed = vec![0.0; runs * outputs]; // -1e9 where a run has no such class
    let mut label = vec![0.0; runs * rows];
    let mut weight = vec![0.0; runs * rows];
    let (mut classifies, mut regresses) = (false, false);
    for (run, (batch, objective)) in batches.iter().zip(objectives).enumerate() {
        let real: f32 = batch.weights.iter().sum();
        for row in 0..rows {
            let share = f64::from(batch.weights[row] / real);
            match objective {
                Objective::Classification { .. } => {
                    target[(run * rows + row) * outputs + batch.labels[row] as usize] = share;
                    classifies = true;
                }
                Objective::Text => unreachable!("text has a loss of its own"),
                Objective::Regression { .. } => {
                    label[run * rows + row] = f64::from(batch.labels[row]);
                    weight[run * rows + row] = share;
                    regresses = true;
                }
            }
        }
        closed[run * outputs + objective.n_outputs()..(run + 1) * outputs].fill(-1e9);
    }
    sheet.floats.extend([target, closed, label, weight]);
    sheet.marks.extend([outputs, usize::from(classifies), usize::from(regresses)]);
}

/// Mean loss of every run of a stack over its real rows, `[runs]`: cross-entropy over the run's own classes, squared error of the first
/// output for regression. `logits` `[runs, rows, outputs]`.
pub fn loss(logits: &Tensor<3>, handout: &Handout, stack: usize) -> Tensor<1> {
    let [runs, rows, outputs] = logits.dims();
    let [target, closed, label, weight] = [0, 1, 2, 3].map(|at| handout.floats[stack * ARRAYS + at].clone());
    let marks = &handout.marks[stack * MARKS..][..MARKS];
    assert_eq!(marks[0], outputs, "a stack's head has the outputs of its widest run");
    let logits = cast(logits, target.dtype());
    let mut total: Option<Tensor<1>> = None;
    if marks[1] == 1 {
        let open = logits.clone() + closed.reshape([runs, 1, outputs]);
        let chosen = activation::log_softmax(open, 2) * target.reshape([runs, rows, outputs]);
        total = Some(chosen.reshape([runs, rows * outputs]).sum_dim(1).reshape([runs]).neg());
    }
    if marks[2] == 1 {
        let error = logits.slice([0..runs, 0..rows, 0..1]) - label.reshape([runs, rows, 1]);
        let squared =
            (error.square() * weight.reshape([runs, rows, 1])).reshape([runs, rows]).sum_dim(1).reshape([runs]);
        total = Some(match total {
            Some(other) => other + squared,
            None => squared,
        });
    }
    total.unwrap_or_else(|| unreachable!("a cohort has at least one run"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};
    use variants::host::values;

    #[test]
    fn losses_are_means_over_each_runs_own_rows_and_classes() {
        let place = Placement::new(&Device::flex(), DType::F64);
        let batch = |labels: Vec<f32>, weights: Vec<f32>| Batch {
            rows: 2,
            seq: 1,
            ids: vec![0, 0],
            lengths: vec![1, 1],
            labels,
            weights,
            ..Batch::default()
        };
        let labels = |n: usize| Objective::Classification { labels: vec!["x".into(); n] };
        let (two, three, score) = (labels(2), labels(3), Objective::Regression { low: 0.0, high: 5.0 });
        let logits = vec![
            0.0, 0.0, 99.0, /**/ 1.0, 3.0, 99.0, // two classes; the third output is not this run's
            1.0, 1.0, 1.0, /**/ 7.0, 7.0, 7.0, // three classes; the second row only fills up
            2.0, 0.0, 0.0, /**/ 1.0, 0.0, 0.0, // regression
        ];
        let batches = [
            batch(vec![0.0, 1.0], vec![1.0, 1.0]),
            batch(vec![2.0, 0.0], vec![1.0, 0.0]),
            batch(vec![4.0, 1.5], vec![1.0, 1.0]),
        ];
        let layout =
            Layout { rows: 6, seq: 1, ids: vec![0; 6], positions: vec![0; 6], bias: vec![0.0; 6], ..Layout::default() };
        let mut sheet = Sheet { layout, ..Sheet::default() };
        enter(&batches, &[&two, &three, &score], &mut sheet);
        let got = values(&loss(&place.tensor(logits, [3, 2, 3]), &sheet.hand_out(&place), 0));
        let expected =
            [f64::midpoint(2.0_f64.ln(), (1.0 + (-2.0_f64).exp()).ln()), 3.0_f64.ln(), f64::midpoint(4.0, 0.25)];
        for (got, want) in got.iter().zip(expected) {
            assert!((got - want).abs() < 1e-7, "{got} {want}"); // row shares are f32
        }
    }
}
