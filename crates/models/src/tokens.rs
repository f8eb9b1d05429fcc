//! A padded batch of token ids on the device.

use burn::tensor::{Int, Tensor, TensorData};
use variants::host::Place;

/// Where the positions of a row start, and who sees whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Position of a row's first token.
    pub first: usize,
    /// Position of padding, where it has one of its own; else it counts on.
    pub padding: Option<usize>,
    /// Whether a position sees only those before it.
    pub causal: bool,
}

impl Scheme {
    /// A decoder's.
    pub const DECODER: Self = Self { first: 0, padding: None, causal: true };
}

/// A right-padded batch on the host: what the device is given of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// Rows of all runs.
    pub rows: usize,
    /// Width.
    pub seq: usize,
    /// `[rows, seq]`
    pub ids: Vec<i64>,
    /// Token types, `[rows, seq]`; empty where all are 0.
    pub types: Vec<i64>,
    /// `[rows, seq]`
    pub positions: Vec<i64>,
    /// 0 where a key may be attended to and a large negative number where not, `[rows, 1, 1 or seq, seq]`.
    pub closed: Vec<f64>,
    /// Flat index of each row's last token, `[rows]`.
    pub last: Vec<i64>,
}

impl Layout {
    /// From `ids` and `types` (empty: all 0), each `[rows, seq]` row-major, with the real length of each row.
    pub fn new(ids: &[u32], types: &[u32], lengths: &[usize], scheme: Scheme) -> Self {
        let (rows, seq) = (lengths.len(), ids.len() / lengths.len());
        let cells = || lengths.iter().flat_map(|&length| (0..seq).map(move |p| (length, p)));
        let position = |(length, p): (usize, usize)| match scheme.padding {
            Some(padding) if p >= length => padding as i64,
            _ => (scheme.first + p) as i64,
        };
        let wide = |values: &[u32]| values.iter().map(|id| i64::from(*id)).collect::<Vec<_>>();
        // Finite, so that a filler row of padding alone yields numbers and not NaN.
        let closed = |open: bool| if open { 0.0 } else { -1e9 };
        Self {
            rows,
            seq,
            ids: wide(ids),
            types: if types.iter().any(|kind| *kind > 0) { wide(types) } else { Vec::new() },
            positions: cells().map(position).collect(),
            closed: if scheme.causal {
                let of_row = |&length: &usize| {
                    (0..seq).flat_map(move |query| (0..seq).map(move |key| closed(key <= query && key < length.max(1))))
                };
                lengths.iter().flat_map(of_row).collect()
            } else {
                cells().map(|(length, p)| closed(p < length)).collect()
            },
            last: lengths
                .iter()
                .enumerate()
                .map(|(row, length)| (row * seq + length.saturating_sub(1)) as i64)
                .collect(),
        }
    }
}

/// Token ids of a right-padded batch.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// `[rows, seq]`
    pub ids: Tensor<2, Int>,
    /// Token types, `[rows, seq]`; none counts as all 0.
    pub types: Option<Tensor<2, Int>>,
    /// `[rows, seq]`
    pub positions: Tensor<2, Int>,
    /// 0 where a key may be attended to and a large negative number where not, `[rows, 1, 1 or seq, seq]`.
    pub attention_bias: Tensor<4>,
    /// Flat index of each row's last token, `[rows]`.
    pub last: Tensor<1, Int>,
}

impl Tokens {
    /// On a device.
    pub fn new(layout: Layout, place: &Place) -> Self {
        let Layout { rows, seq, ids, types, positions, closed, last } = layout;
        let int = |values: Vec<i64>| Tensor::from_data(TensorData::new(values, [rows, seq]), &place.device);
        let queries = closed.len() / (rows * seq);
        Self {
            ids: int(ids),
            types: (!types.is_empty()).then(|| int(types)),
            positions: int(positions),
            attention_bias: place.frozen(closed, [rows, 1, queries, seq]),
            last: Tensor::from_data(TensorData::new(last, [rows]), &place.device),
        }
    }
}
