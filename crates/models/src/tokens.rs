//! A batch of token ids on the device: rows padded to one length, or packed without padding.

use burn::tensor::{Int, Tensor, TensorData};
use variants::host::Placement;

/// Where the positions of a row start, and in which directions attention goes.
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

/// A batch on the host, as the device will hold it: padded on the right, or packed, the rows of each run concatenated into one line, where
/// it has [`Sequences`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// Rows of all runs, or lines, one per run.
    pub rows: usize,
    /// Width.
    pub seq: usize,
    /// `[rows, seq]`
    pub ids: Vec<i64>,
    /// Token types, `[rows, seq]`; empty where all are 0.
    pub types: Vec<i64>,
    /// `[rows, seq]`
    pub positions: Vec<i64>,
    /// 0 where a key may be attended to and a large negative number where not, `[rows, 1, 1 or seq, seq]`; empty without padding.
    pub bias: Vec<f64>,
    /// Flat index of each row's last token.
    pub last: Vec<i64>,
    /// Where rows are packed.
    pub sequences: Option<Sequences>,
}

/// Offsets of packed rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequences {
    /// Flat index of every sequence's first token, and the number of tokens. Each line has its rows first; filler follows as sequences of
    /// its own, so that attention computes every position and none is undefined.
    pub starts: Vec<i64>,
    /// Flat index of each row's first token, `[rows]`.
    pub first: Vec<i64>,
}

impl Sequences {
    /// The longest one's number of tokens.
    pub fn longest(&self) -> usize {
        self.starts.windows(2).map(|ends| (ends[1] - ends[0]) as usize).max().unwrap_or(0)
    }
}

impl Layout {
    /// From `ids` and `types` (empty: all 0), each `[rows, seq]` row-major, and the number of tokens of each row.
    pub fn new(ids: &[u32], types: &[u32], lengths: &[usize], scheme: Scheme) -> Self {
        let (rows, seq) = (lengths.len(), ids.len() / lengths.len());
        let cells = || lengths.iter().flat_map(|&length| (0..seq).map(move |p| (length, p)));
        let position = |(length, p): (usize, usize)| match scheme.padding {
            Some(padding) if p >= length => padding as i64,
            _ => (scheme.first + p) as i64,
        };
        let wide = |values: &[u32]| values.iter().map(|id| i64::from(*id)).collect::<Vec<_>>();
        // Finite, so that a row of padding alone yields numbers and not NaN.
        let bias = |is_open: bool| if is_open { 0.0 } else { -1e9 };
        Self {
            rows,
            seq,
            ids: wide(ids),
            types: if types.iter().any(|kind| *kind > 0) { wide(types) } else { Vec::new() },
            positions: cells().map(position).collect(),
            bias: if scheme.causal {
                let of_row = |&length: &usize| {
                    (0..seq).flat_map(move |query| (0..seq).map(move |key| bias(key <= query && key < length.max(1))))
                };
                lengths.iter().flat_map(of_row).collect()
            } else {
                cells().map(|(length, p)| bias(p < length)).collect()
            },
            last: lengths
                .iter()
                .enumerate()
                .map(|(row, length)| (row * seq + length.saturating_sub(1)) as i64)
                .collect(),
            sequences: None,
        }
    }

    /// The same batch of `runs` runs, packed: the rows of each run are concatenated into one line without padding, `[runs, n]`. Attention
    /// stays inside a row and ignores the scheme's direction, so only encoders take packed batches.
    ///
    /// The line length is that of the longest line, rounded up by a 16th at most, mostly by a 32nd. So there are few shapes, and a device
    /// that replays recorded steps records each once.
    #[must_use]
    pub fn packed(&self, runs: usize) -> Self {
        let (seq, per_run) = (self.seq, self.rows / runs);
        let length = |row: usize| self.last[row] as usize + 1 - row * seq;
        let rows_of = |run: usize| run * per_run..(run + 1) * per_run;
        let longest = (0..runs).map(|run| rows_of(run).map(length).sum::<usize>()).max().unwrap_or(0);
        let n = longest.next_multiple_of((longest.next_power_of_two() / 32).max(1));
        let mut out = Self { rows: runs, seq: n, ..Self::default() };
        let mut sequences = Sequences::default();
        // The same number of sequences in every batch of this shape.
        let most = n.div_ceil(seq);
        for run in 0..runs {
            let mut cells = Vec::with_capacity(n);
            for row in rows_of(run) {
                let from = run * n + cells.len();
                sequences.starts.push(from as i64);
                sequences.first.push(from as i64);
                cells.extend(row * seq..row * seq + length(row));
                out.last.push((run * n + cells.len() - 1) as i64);
            }
            for _ in 0..most {
                sequences.starts.push((run * n + cells.len()) as i64);
                // The filler repeats the line's first token.
                let filled = (n - cells.len()).min(seq);
                cells.extend(std::iter::repeat_n(run * per_run * seq, filled));
            }
            out.ids.extend(cells.iter().map(|cell| self.ids[*cell]));
            out.positions.extend(cells.iter().map(|cell| self.positions[*cell]));
            if !self.types.is_empty() {
                out.types.extend(cells.iter().map(|cell| self.types[*cell]));
            }
        }
        sequences.starts.push((runs * n) as i64);
        Self { sequences: Some(sequences), ..out }
    }
}

/// Token ids of a batch.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// `[rows, seq]`
    pub ids: Tensor<2, Int>,
    /// Token types, `[rows, seq]`; none counts as all 0.
    pub types: Option<Tensor<2, Int>>,
    /// `[rows, seq]`
    pub positions: Tensor<2, Int>,
    /// Which keys each query may attend to.
    pub attention_mask: AttentionMask,
    /// Flat index of each row's last token, `[rows]`.
    pub last: Tensor<1, Int>,
}

/// Which keys each query may attend to.
#[derive(Clone, Debug)]
pub enum AttentionMask {
    /// Rows are padded to one length: 0 where a key may be attended to and a large negative number where not, `[rows, 1, 1 or seq, seq]`.
    Padded(Tensor<4>),
    /// Rows are packed, those of each run into one line.
    Packed {
        /// Flat index of every sequence's first token, and the number of tokens.
        starts: Tensor<1, Int>,
        /// Flat index of each row's first token, `[rows]`.
        first: Tensor<1, Int>,
        /// At least as long as any row.
        longest: usize,
    },
}

impl Tokens {
    /// On a device.
    pub fn new(layout: Layout, place: &Placement) -> Self {
        let Layout { rows, seq, ids, types, positions, bias, last, sequences } = layout;
        let int = |values: Vec<i64>| Tensor::from_data(TensorData::new(values, [rows, seq]), &place.device);
        let flat = |values: Vec<i64>| {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), &place.device)
        };
        Self {
            ids: int(ids),
            types: (!types.is_empty()).then(|| int(types)),
            positions: int(positions),
            attention_mask: if let Some(sequences) = sequences {
                let longest = sequences.longest();
                AttentionMask::Packed { starts: flat(sequences.starts), first: flat(sequences.first), longest }
            } else {
                let queries = bias.len() / (rows * seq);
                AttentionMask::Padded(place.frozen(bias, [rows, 1, queries, seq]))
            },
            last: flat(last),
        }
    }

    /// The mask of a batch with padding, `[rows, 1, 1 or seq, seq]`.
    pub(crate) fn mask(&self) -> Tensor<4> {
        match &self.attention_mask {
            AttentionMask::Padded(bias) => bias.clone(),
            AttentionMask::Packed { .. } => unreachable!("only encoders are given packed rows"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_packed_and_lines_are_filled_up() {
        // Two runs of two rows: 3 and 1 tokens, 2 and 4.
        let ids = [1, 2, 3, 0, 0, /**/ 4, 0, 0, 0, 0, /**/ 5, 6, 0, 0, 0, /**/ 7, 8, 9, 10, 0];
        let scheme = Scheme { first: 2, padding: Some(1), causal: false };
        let packed = Layout::new(&ids, &[], &[3, 1, 2, 4], scheme).packed(2);
        assert_eq!((packed.rows, packed.seq), (2, 6), "the longest line has six tokens");
        assert_eq!(packed.ids, [1, 2, 3, 4, 1, 1, /**/ 5, 6, 7, 8, 9, 10]);
        assert_eq!(packed.positions, [2, 3, 4, 2, 2, 2, /**/ 2, 3, 2, 3, 4, 5]);
        assert_eq!(packed.last, [2, 3, 7, 11]);
        let Sequences { starts, first } = packed.sequences.unwrap_or_default();
        assert_eq!(first, [0, 3, 6, 8]);
        // Rows, then what fills up, in two pieces of at most five tokens, however little there is to fill.
        assert_eq!(starts, [0, 3, 4, 6, 6, 8, 12, 12, 12]);
        assert!(packed.bias.is_empty() && packed.types.is_empty());
    }
}
