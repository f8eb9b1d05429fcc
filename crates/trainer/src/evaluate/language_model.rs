//! What a causal model is worth: perplexity over the tokens that are learnt, and generation.

use burn::tensor::Tensor;
use data::{
    batch::{Encoded, EncodedSet},
    causal::decode::{Decoding, Generated, NextToken, generate_counted},
};
use models::{head::index, network::Network, tokens::Row};
use variants::{
    host::values,
    pass::{Active, Pass, StackPass},
};

use super::score::spread;
use crate::{
    error::TrainError,
    objective::causal::{LossMask, token_nll},
    rows::row,
    stop::Stop,
};

/// Rows of an evaluation batch.
const ROWS: usize = 16;
/// Tokens whose logits are computed at once: a vocabulary is wide.
const TOKENS: usize = 512;

/// Hidden states `[rows, seq, d]` of some rows of a set, and the tokens that are learnt in them; `network` has one run.
fn forward(network: &Network, set: &EncodedSet, rows: &[usize], pass: &Pass, pad: u32) -> (Tensor<3>, LossMask) {
    let examples: Vec<Option<&Encoded>> = rows.iter().map(|row| Some(&set.rows[*row])).collect();
    let seq = examples.iter().flatten().map(|example| example.ids.len()).max().unwrap_or(0);
    let rows: Vec<_> = examples.iter().map(|example| row(*example)).collect();
    let tokens = network.backbone.padded(&rows, seq, pad);
    (network.backbone.forward(&tokens, pass), LossMask::of(&examples, seq))
}

/// Logits at every token learnt in a small set, all in one list.
pub fn learnt_logits(network: &Network, set: &EncodedSet, active: &Active, pad: u32) -> Vec<f64> {
    let all: Vec<usize> = (0..set.rows.len()).collect();
    let pass = Pass::of(vec![StackPass::with(1, spread(active, 1))]);
    let (hidden, learnt) = forward(network, set, &all, &pass, pad);
    learnt
        .positions
        .chunks(TOKENS)
        .flat_map(|part| {
            let positions = index(part, network.backbone.place());
            values(&network.continue_at(&hidden, &[positions], &pass)[0])
        })
        .collect()
}

/// Sum of the negative log-likelihood over the tokens of a set that are learnt, and their number; `network` has one run.
pub fn likelihood(
    network: &Network,
    set: &EncodedSet,
    active: &Active,
    pad: u32,
    stop: Stop<'_>,
) -> Result<(f64, usize), TrainError> {
    let pass = Pass::of(vec![StackPass::with(1, spread(active, 1))]);
    let place = network.backbone.place();
    let mut order: Vec<usize> = (0..set.rows.len()).collect();
    order.sort_by_key(|row| set.rows[*row].ids.len());
    let (mut sum, mut count) = (0.0, 0);
    for rows in order.chunks(ROWS) {
        stop.check()?;
        let (hidden, learnt) = forward(network, set, rows, &pass, pad);
        for (positions, ids) in learnt.positions.chunks(TOKENS).zip(learnt.ids.chunks(TOKENS)) {
            let logits = network.continue_at(&hidden, &[index(positions, place)], &pass).swap_remove(0);
            sum += values(&token_nll(logits, index(ids, place))).iter().sum::<f64>();
        }
        count += learnt.len();
    }
    Ok((sum, count))
}

/// A trained model as a search sees it.
struct Continuation<'a> {
    network: &'a Network,
    pass: Pass,
    pad: u32,
    stop: Stop<'a>,
}

impl NextToken for Continuation<'_> {
    type Error = TrainError;

    fn logits(&mut self, prefixes: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Self::Error> {
        self.stop.check()?;
        let seq = prefixes.iter().map(Vec::len).max().unwrap_or(0);
        let rows: Vec<Row<'_>> = prefixes.iter().map(|ids| Row { ids, types: &[] }).collect();
        let lengths: Vec<usize> = prefixes.iter().map(Vec::len).collect();
        let tokens = self.network.backbone.padded(&rows, seq, self.pad);
        let hidden = self.network.backbone.forward(&tokens, &self.pass);
        let last: Vec<u32> = lengths.iter().enumerate().map(|(row, length)| (row * seq + length - 1) as u32).collect();
        let last = index(&last, self.network.backbone.place());
        let logits = self.network.continue_at(&hidden, &[last], &self.pass).swap_remove(0); // [1, rows, V]
        let [_, _, vocabulary] = logits.dims();
        let flat: Vec<f32> = values(&logits).into_iter().map(|v| v as f32).collect();
        Ok(flat.chunks(vocabulary).map(<[f32]>::to_vec).collect())
    }
}

/// How a text is continued.
#[derive(Clone, Copy, Debug)]
pub struct Continuing<'a> {
    /// The token that ends a text.
    pub end: u32,
    /// How texts are searched for.
    pub decoding: &'a Decoding,
    /// Components in use.
    pub active: &'a Active,
    /// The padding token.
    pub pad: u32,
    /// Who may want it to stop, which is looked at before every token.
    pub stop: Stop<'a>,
}

/// New tokens after every prompt, without the end token, and how many of these texts were cut; `network` has one run.
pub fn continuations(network: &Network, prompts: &[Vec<u32>], how: &Continuing<'_>) -> Result<Generated, TrainError> {
    let pass = Pass::of(vec![StackPass::with(1, spread(how.active, 1))]);
    let longest = network.backbone.config().longest();
    let mut model = Continuation { network, pass, pad: how.pad, stop: how.stop };
    generate_counted(&mut model, prompts, how.end, how.decoding, longest)
}
