//! Updates of stacks side by side, as one batch.

use burn::tensor::{Int, Tensor};
use kernels::ops::{self, Dropout, Uses};

use super::Adapter;
use crate::{delta::Factors, pass::StackPass};

/// Updates of neighbouring stacks as one batch: of one rank, with dropout alike.
///
/// A cohort of many small stacks waits for launches, not for arithmetic: stacks side by side cost as many as one.
pub(super) struct Neighbours {
    /// Rows among those that add: the first, and their number.
    rows: [usize; 2],
    runs: usize,
    site: u64,
    /// Dropout of the input, where there is any, and every stack's keys.
    dropout: Option<(f64, Vec<Tensor<1, Int>>)>,
    /// `[runs, d_in, k]` of each stack.
    down: Vec<Tensor<3>>,
    /// `[runs, k, d_out]` of each stack.
    up: Vec<Tensor<3>>,
}

impl Neighbours {
    pub(super) fn of(adapter: &Adapter, here: &StackPass, site: u64, rows: [usize; 2]) -> Self {
        let Factors { down, up } = adapter.thin(here);
        let keys = here.keys.clone().filter(|_| adapter.dropout > 0.0);
        let dropout = keys.map(|keys| (adapter.dropout, vec![keys]));
        Self { rows, runs: here.runs, site, dropout, down: vec![down], up: vec![up] }
    }

    pub(super) fn takes(&self, next: &Self) -> bool {
        let p = |batch: &Self| batch.dropout.as_ref().map(|(p, _)| p.to_bits());
        let k = |batch: &Self| batch.up[0].dims()[1];
        self.rows[0] + self.rows[1] == next.rows[0] && k(self) == k(next) && p(self) == p(next)
    }

    pub(super) fn join(&mut self, next: Self) {
        self.rows[1] += next.rows[1];
        self.runs += next.runs;
        self.down.extend(next.down);
        self.up.extend(next.up);
        if let (Some((_, keys)), Some((_, more))) = (&mut self.dropout, next.dropout) {
            keys.extend(more);
        }
    }

    /// `y` `[len, seq, d_out]`, which is that of `x` from row `start` on, with these updates added.
    pub(super) fn onto(self, y: Tensor<3>, x: &Tensor<3>, start: usize, uses: &Uses) -> Tensor<3> {
        let Self { rows: [offset, len], runs, site, dropout, down, up } = self;
        let (own, [_, seq, d_in]) = ([start + offset, len], x.dims());
        // Side by side before they are narrowed: one cast for all.
        let Factors { down, up } = Factors { down: joined(down), up: joined(up) }.cast(x.dtype());
        let hidden = match dropout {
            Some((p, keys)) => {
                let falls =
                    Dropout { keys: if keys.len() == 1 { keys[0].clone() } else { Tensor::cat(keys, 0) }, site, p };
                let input = ops::dropout(ops::rows(x.clone(), own, uses), Some(falls));
                input.reshape([runs, len * seq / runs, d_in]).matmul(down)
            }
            None => ops::thin(x.clone(), own, down, uses),
        }; // [runs, n, k]
        ops::onto(y, offset, hidden, up)
    }
}

fn joined(mut tensors: Vec<Tensor<3>>) -> Tensor<3> {
    if tensors.len() == 1 { tensors.remove(0) } else { Tensor::cat(tensors, 0) }
}
