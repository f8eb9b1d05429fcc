//! Scaled dot-product attention over heads, and its dropout.

use burn::tensor::{Tensor, activation};
use variants::{
    dropout,
    host::Place,
    pass::{Pass, join, split},
};

/// `[rows, seq, heads·d_head]` to `[rows, heads, seq, d_head]`.
pub(crate) fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [rows, seq, d] = x.dims();
    x.reshape([rows, seq, heads, d / heads]).swap_dims(1, 2)
}

/// Queries, keys and values, `[rows, heads, seq, d_head]`, to `[rows, seq, heads·d_head]`.
///
/// `bias` is 0 where a key may be attended to and a large negative number where not; `query` carries the scale.
pub(crate) fn attend(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    bias: Tensor<4>,
    drop: impl FnOnce(Tensor<4>) -> Tensor<4>,
) -> Tensor<3> {
    let [rows, heads, seq, d_head] = query.dims();
    let scores = query.matmul(key.swap_dims(2, 3)) + bias; // [rows, heads, seq, seq]
    drop(activation::softmax(scores, 3)).matmul(value).swap_dims(1, 2).reshape([rows, seq, heads * d_head])
}

/// Dropout of hidden states, `[rows, seq, d]`, every stack with its own bits.
pub(crate) fn drop_hidden(x: Tensor<3>, site: &str, p: f64, pass: &Pass, place: &Place) -> Tensor<3> {
    drop_at(x, dropout::site(site), p, pass, place)
}

/// Dropout of attention weights, `[rows, heads, seq, seq]`; a position is a (query, head) pair and a feature a key, so a bit does not
/// depend on the padding.
pub(crate) fn drop_weights(x: Tensor<4>, site: &str, p: f64, pass: &Pass, place: &Place) -> Tensor<4> {
    if p == 0.0 {
        return x;
    }
    let [rows, heads, seq, _] = x.dims();
    let flat = x.swap_dims(1, 2).reshape([rows, seq * heads, seq]);
    drop_at(flat, dropout::site(site), p, pass, place).reshape([rows, seq, heads, seq]).swap_dims(1, 2)
}

fn drop_at(x: Tensor<3>, site: u64, p: f64, pass: &Pass, place: &Place) -> Tensor<3> {
    if p == 0.0 || pass.stacks.iter().all(|stack| stack.dropout.is_none()) {
        return x;
    }
    let [rows, positions, width] = x.dims();
    let per_run = rows / pass.runs();
    let parts = split(&x, pass).into_iter().zip(&pass.stacks).map(|(part, here)| {
        match dropout::mask(here, site, p, [per_run, positions, width], place) {
            Some(mask) => part * mask,
            None => part,
        }
    });
    join(parts.collect(), rows, positions)
}
