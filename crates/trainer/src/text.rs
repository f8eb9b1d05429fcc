//! Causal language modelling: losses over the tokens that are learnt, perplexity, generation.

use burn::tensor::{Int, Tensor, activation};
use data::{
    batch::{Batch, EncodedSet},
    causal::decode::{Decoding, NextToken, generate},
};
use models::{head::index, network::Network};
use variants::{
    host::values,
    pass::{Active, Pass, StackPass},
};

use crate::{
    evaluate::score::spread,
    lesson::{Handout, Sheet},
};

/// The tokens that one stack's runs learn in a batch, run by run and as many for each: spare ones have weight 0.
struct Learnt {
    /// Flat indices of the positions before them, within the stack's rows.
    positions: Vec<u32>,
    /// The tokens, `[runs, n]`.
    ids: Vec<i64>,
    /// A run's share of its mean, `[runs, n]`.
    weights: Vec<f64>,
    n: usize,
}

impl Learnt {
    /// `batches` has one per run, all of one width.
    fn of(batches: &[Batch]) -> Self {
        let of_run = |batch: &Batch| -> Vec<(u32, i64)> {
            let cells =
                (0..batch.rows).flat_map(|row| (1..batch.lengths[row].max(1)).map(move |at| row * batch.seq + at));
            let learnt = cells.filter(|&cell| batch.targets[cell] > 0.0);
            learnt.map(|cell| (cell as u32 - 1, i64::from(batch.ids[cell]))).collect()
        };
        let found: Vec<Vec<(u32, i64)>> = batches.iter().map(of_run).collect();
        let n = found.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let mut all = Self { positions: Vec::new(), ids: Vec::new(), weights: Vec::new(), n };
        let mut start = 0;
        for (batch, run) in batches.iter().zip(found) {
            let share = 1.0 / run.len().max(1) as f64;
            for at in 0..n {
                let (position, id) = run.get(at).copied().unwrap_or((0, 0));
                all.positions.push(start + position);
                all.ids.push(id);
                all.weights.push(if at < run.len() { share } else { 0.0 });
            }
            start += (batch.rows * batch.seq) as u32;
        }
        all
    }
}

/// Negative log-likelihood of `ids` `[runs · n]` under `logits` `[runs, n, vocabulary]`, `[runs, n]`.
fn surprise(logits: Tensor<3>, ids: Tensor<1, Int>) -> Tensor<2> {
    let [runs, n, _] = logits.dims();
    activation::log_softmax(logits, 2).gather(2, ids.reshape([runs, n, 1])).reshape([runs, n]).neg()
}

/// Enters what the loss of one stack needs; `batches` has one per run, all of one width.
pub(crate) fn enter(batches: &[Batch], sheet: &mut Sheet) {
    let learnt = Learnt::of(batches);
    sheet.ints.push(learnt.positions.iter().map(|position| i64::from(*position)).collect());
    sheet.ints.push(learnt.ids);
    sheet.floats.push(learnt.weights);
    sheet.marks.push(learnt.n);
}

/// Mean loss of every run over the tokens it learns, `[runs]` per stack.
pub(crate) fn losses(network: &Network, hidden: &Tensor<3>, handout: &Handout, pass: &Pass) -> Vec<Tensor<1>> {
    let positions: Vec<Tensor<1, Int>> = handout.ints.iter().step_by(2).cloned().collect();
    let logits = network.continue_at(hidden, &positions, pass);
    let mean = |(stack, logits): (usize, Tensor<3>)| {
        let [runs, n, _] = logits.dims();
        let weights = handout.floats[stack].clone().reshape([runs, n]);
        (surprise(logits, handout.ints[2 * stack + 1].clone()) * weights).sum_dim(1).reshape([runs])
    };
    logits.into_iter().enumerate().map(mean).collect()
}

/// Logits at every token learnt in a small set, all in one list.
pub fn learnt_logits(network: &Network, set: &EncodedSet, active: &Active, pad: u32) -> Vec<f64> {
    let all: Vec<usize> = (0..set.rows.len()).collect();
    let batch = Batch::gather(set, &all, all.len(), pad);
    let pass = Pass::of(vec![StackPass::with(1, spread(active, 1))]);
    let tokens = network.backbone.tokens(&batch.ids, &batch.types, &batch.lengths);
    let hidden = network.backbone.forward(&tokens, &pass);
    let positions = Learnt::of(&[batch]).positions;
    positions
        .chunks(TOKENS)
        .flat_map(|part| {
            let positions = index(part, network.backbone.place());
            values(&network.continue_at(&hidden, &[positions], &pass)[0])
        })
        .collect()
}

/// Rows of an evaluation batch.
const ROWS: usize = 16;
/// Tokens whose logits are computed at once: a vocabulary is wide.
const TOKENS: usize = 512;

/// Sum of the negative log-likelihood over the tokens of a set that are learnt, and their number; `network` has one run.
pub fn likelihood(network: &Network, set: &EncodedSet, active: &Active, pad: u32) -> (f64, usize) {
    let pass = Pass::of(vec![StackPass::with(1, spread(active, 1))]);
    let mut order: Vec<usize> = (0..set.rows.len()).collect();
    order.sort_by_key(|row| set.rows[*row].ids.len());
    let (mut sum, mut count) = (0.0, 0);
    for rows in order.chunks(ROWS) {
        let batch = Batch::gather(set, rows, rows.len(), pad);
        let learnt = Learnt::of(std::slice::from_ref(&batch));
        let tokens = network.backbone.tokens(&batch.ids, &batch.types, &batch.lengths);
        let hidden = network.backbone.forward(&tokens, &pass);
        let real = learnt.weights.iter().filter(|weight| **weight > 0.0).count();
        for (positions, ids) in learnt.positions[..real].chunks(TOKENS).zip(learnt.ids.chunks(TOKENS)) {
            let place = network.backbone.place();
            let ids: Vec<u32> = ids[..positions.len()].iter().map(|id| *id as u32).collect();
            let logits = network.continue_at(&hidden, &[index(positions, place)], &pass).swap_remove(0);
            sum += values(&surprise(logits, index(&ids, place))).iter().sum::<f64>();
        }
        count += real;
    }
    (sum, count)
}

/// A trained model, seen from a search.
struct Continuation<'a> {
    network: &'a Network,
    pass: Pass,
    pad: u32,
}

impl NextToken for Continuation<'_> {
    type Error = std::convert::Infallible;

    fn logits(&mut self, prefixes: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Self::Error> {
        let seq = prefixes.iter().map(Vec::len).max().unwrap_or(0);
        let padded = |prefix: &Vec<u32>| {
            let mut row = prefix.clone();
            row.resize(seq, self.pad);
            row
        };
        let ids: Vec<u32> = prefixes.iter().flat_map(padded).collect();
        let lengths: Vec<usize> = prefixes.iter().map(Vec::len).collect();
        let tokens = self.network.backbone.tokens(&ids, &[], &lengths);
        let hidden = self.network.backbone.forward(&tokens, &self.pass);
        let last: Vec<u32> = lengths.iter().enumerate().map(|(row, length)| (row * seq + length - 1) as u32).collect();
        let last = index(&last, self.network.backbone.place());
        let logits = self.network.continue_at(&hidden, &[last], &self.pass).swap_remove(0); // [1, rows, V]
        let [_, _, vocabulary] = logits.dims();
        let flat: Vec<f32> = values(&logits).into_iter().map(|v| v as f32).collect();
        Ok(flat.chunks(vocabulary).map(<[f32]>::to_vec).collect())
    }
}

/// New tokens after every prompt, without the end token; `network` has one run.
pub fn continuations(
    network: &Network,
    prompts: &[Vec<u32>],
    end: u32,
    decoding: &Decoding,
    active: &Active,
    pad: u32,
) -> Vec<Vec<u32>> {
    let pass = Pass::of(vec![StackPass::with(1, spread(active, 1))]);
    let longest = network.backbone.config().longest();
    let Ok(found) = generate(&mut Continuation { network, pass, pad }, prompts, end, decoding, longest);
    found
}
