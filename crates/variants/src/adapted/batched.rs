//! Batched LoRA: the updates of several stacks as one product.

use burn::tensor::{Int, Tensor};
use kernels::ops::{self, Dropout, SharedInputGrad};

use super::adapter::Adapter;
use crate::{
    form::{Chain, Factors},
    host::cast,
    pass::StackPass,
};

/// The updates of consecutive stacks as one batch: they have the same rank and the same dropout.
///
/// Many small stacks are bound by kernel launches, not by arithmetic, and a batch takes as many launches as one stack.
pub(super) struct BatchedAdapters {
    /// Rows of the input: the first, and their number.
    rows: [usize; 2],
    runs: usize,
    site: u64,
    /// Dropout of the input, where there is any, and every stack's keys.
    dropout: Option<(f64, Vec<Tensor<1, Int>>)>,
    /// `[runs, d_in, k]` of each stack.
    down: Vec<Tensor<3>>,
    /// `x·down` of all of them, `[runs, n, k]`, where [`share_down_products`] has computed it.
    hidden: Option<Tensor<3>>,
    /// `[runs, k, d_out]` of each stack.
    up: Vec<Tensor<3>>,
}

impl BatchedAdapters {
    pub(super) fn of(adapter: &Adapter, chain: Chain, here: &StackPass, site: u64, rows: [usize; 2]) -> Self {
        let Factors { down, up } = chain.row_factors();
        let keys = here.keys.clone().filter(|_| adapter.dropout > 0.0);
        let dropout = keys.map(|keys| (adapter.dropout, vec![keys]));
        Self { rows, runs: here.runs, site, dropout, down: vec![down], hidden: None, up: vec![up] }
    }

    /// Components of the updates.
    fn width(&self) -> usize {
        self.up[0].dims()[1]
    }

    pub(super) fn can_join(&self, next: &Self) -> bool {
        let p = |batch: &Self| batch.dropout.as_ref().map(|(p, _)| p.to_bits());
        self.rows[0] + self.rows[1] == next.rows[0] && self.width() == next.width() && p(self) == p(next)
    }

    pub(super) fn extend(&mut self, next: Self) {
        self.rows[1] += next.rows[1];
        self.runs += next.runs;
        self.down.extend(next.down);
        self.up.extend(next.up);
        if let (Some((_, keys)), Some((_, more))) = (&mut self.dropout, next.dropout) {
            keys.extend(more);
        }
    }

    pub(super) fn starts_before(&self, row: usize) -> bool {
        self.rows[0] < row
    }

    /// `y` `[len, seq, d_out]`, which is that of `x` from row `start` on, with these updates added.
    pub(super) fn add_to(self, y: Tensor<3>, x: &Tensor<3>, start: usize, input_grad: &SharedInputGrad) -> Tensor<3> {
        let Self { rows, runs, site, dropout, down, hidden, up } = self;
        let [_, seq, d_in] = x.dims();
        // Concatenated before the cast to the input's precision: one cast for all.
        let narrow = |tensors| cast(&joined(tensors), x.dtype());
        let hidden = match (hidden, dropout) {
            (Some(hidden), _) => hidden,
            (None, Some((p, keys))) => {
                let dropout =
                    Dropout { keys: if keys.len() == 1 { keys[0].clone() } else { Tensor::cat(keys, 0) }, site, p };
                let input = ops::dropout(ops::rows(x.clone(), rows, input_grad), Some(dropout));
                input.reshape([runs, rows[1] * seq / runs, d_in]).matmul(narrow(down))
            }
            (None, None) => ops::low_rank_down(x.clone(), rows, narrow(down), input_grad),
        }; // [runs, n, k]
        ops::add_low_rank(y, rows[0] - start, hidden, narrow(up))
    }
}

/// The most components with which a batch shares its product `x·down` with other maps.
const WIDEST: usize = 64;

/// Computes `x·down` of batches on the same rows, those of several maps, as one product, because reading `x` is what takes the time.
pub(super) fn share_down_products<'a>(
    batches: impl Iterator<Item = &'a mut BatchedAdapters>,
    x: &Tensor<3>,
    input_grad: &SharedInputGrad,
) {
    let mut groups: Vec<Vec<&mut BatchedAdapters>> = Vec::new();
    // With dropout every map has another input. With many components reading `x` is a small part of the time, and a pair that all runs share
    // would be copied for each.
    for batch in batches.filter(|batch| batch.dropout.is_none() && batch.width() <= WIDEST) {
        match groups.iter_mut().find(|group| group[0].rows == batch.rows) {
            Some(group) => group.push(batch),
            None => groups.push(vec![batch]),
        }
    }
    for mut group in groups.into_iter().filter(|group| group.len() > 1) {
        let down: Vec<Tensor<3>> = group.iter_mut().map(|batch| joined(std::mem::take(&mut batch.down))).collect();
        let widths: Vec<usize> = down.iter().map(|down| down.dims()[2]).collect();
        let down = cast(&Tensor::cat(down, 2), x.dtype());
        let hidden = ops::low_rank_down(x.clone(), group[0].rows, down, input_grad); // [runs, n, sum of widths]
        let (own, mut at) = (input_grad.derived("columns of the low-rank products"), 0);
        for (batch, width) in group.into_iter().zip(widths) {
            batch.hidden = Some(ops::columns(hidden.clone(), [at, width], &own));
            at += width;
        }
    }
}

fn joined(mut tensors: Vec<Tensor<3>>) -> Tensor<3> {
    if tensors.len() == 1 { tensors.remove(0) } else { Tensor::cat(tensors, 0) }
}
