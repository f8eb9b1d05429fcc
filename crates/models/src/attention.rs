//! Dropout of hidden states and attention over heads, on the kernels' operations.

use burn::tensor::{Int, Tensor};
use kernels::ops::{self, Dropout};
use variants::{dropout::site, pass::Pass};

/// Dropout at a named site with probability `p`, in a pass that drops anything.
pub(crate) fn dropout_at(name: &str, p: f64, pass: &Pass) -> Option<Dropout> {
    Dropout::at(pass.keys.as_ref(), site(name), p)
}

/// Dropout of hidden states, `[rows, seq, d]`, every run with its own bits.
pub(crate) fn drop_hidden(x: Tensor<3>, name: &str, p: f64, pass: &Pass) -> Tensor<3> {
    ops::dropout(x, dropout_at(name, p, pass))
}

/// `1/√d_head`, the usual scale of products of queries and keys.
pub(crate) fn per_width(d_head: usize) -> f64 {
    1.0 / (d_head as f64).sqrt()
}

/// Attention of `[rows, seq, heads·d_head]` queries, keys and values over `heads` whose products are multiplied by `scale`. `bias`
/// `[rows, 1, 1 or seq, seq]` is 0 where a key may be attended to and a large negative number where not.
pub(crate) fn attend(
    [query, key, value]: [Tensor<3>; 3],
    bias: Tensor<4>,
    (heads, scale): (usize, f64),
    drop: Option<Dropout>,
) -> Tensor<3> {
    ops::attention(query, key, value, bias, heads, scale, drop)
}

/// [`attend`] within each of the packed rows that begin at `starts`, with the usual scale and without dropout.
pub(crate) fn attend_packed(
    [query, key, value]: [Tensor<3>; 3],
    starts: Tensor<1, Int>,
    longest: usize,
    heads: usize,
) -> Tensor<3> {
    let d_head = query.dims()[2] / heads;
    ops::varlen_attention(query, key, value, starts, longest, heads, per_width(d_head))
}
