//! How the rows of a batch are arranged on the host: padded to one length, or packed without padding.

use kernels::ops;

use super::Transfer;

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

    /// Position id of token `at` of a row with `length` tokens.
    fn position(self, at: usize, length: usize) -> i64 {
        match self.padding {
            Some(padding) if at >= length => padding as i64,
            _ => (self.first + at) as i64,
        }
    }
}

/// One row of a batch. A row without tokens fills a batch up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row<'a> {
    /// Token ids, `[length]`.
    pub ids: &'a [u32],
    /// Token types, `[length]`; empty means all 0.
    pub types: &'a [u32],
}

/// The arrays of a batch: vectors on the host, or what a [`Transfer`] made of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout<I = Vec<i64>, F = Vec<f64>> {
    /// Rows of all runs where they are padded; lines, one per run, where they are packed.
    pub rows: usize,
    /// Length of a row or line.
    pub seq: usize,
    /// Token ids, `[rows, seq]`.
    pub ids: I,
    /// Token types, `[rows, seq]`; none where all are 0.
    pub types: Option<I>,
    /// Position ids, `[rows, seq]`.
    pub positions: I,
    /// Which keys each query may attend to.
    pub attention: Attention<I, F>,
    /// Flat index of each row's last token.
    pub last: I,
}

/// Which keys each query may attend to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attention<I = Vec<i64>, F = Vec<f64>> {
    /// Rows are padded.
    Padded {
        /// Queries that differ in what they may attend to: 1, or the length of a row where attention is causal.
        queries: usize,
        /// 0 where a key may be attended to and a large negative number where not, `[rows, 1, queries, seq]`.
        bias: F,
    },
    /// Rows are packed.
    Packed {
        /// Flat index of every sequence's first token, and the number of tokens. Each line has its rows first; filler follows as sequences
        /// of its own, so that attention computes every position and none is undefined.
        starts: I,
        /// Flat index of each row's first token, `[rows]`.
        first: I,
        /// At least as long as any sequence, and a multiple of [`ops::LONGEST`]: shapes depend on less.
        longest: usize,
    },
}

impl Layout {
    /// Rows padded on the right to `seq` tokens, at least one, with `pad` as the padding token.
    pub fn padded(rows: &[Row<'_>], seq: usize, pad: u32, scheme: Scheme) -> Self {
        // A tensor without columns has no last token to read.
        let seq = seq.max(1);
        let mut ids = vec![pad; rows.len() * seq];
        let mut types = vec![0; rows.len() * seq];
        for (at, row) in rows.iter().enumerate() {
            ids[at * seq..][..row.ids.len()].copy_from_slice(row.ids);
            types[at * seq..][..row.types.len()].copy_from_slice(row.types);
        }
        let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len()).collect();
        Self::new(&ids, &types, &lengths, scheme)
    }

    /// From padded `ids` and `types` (empty: all 0), each `[rows, seq]` row-major, with the length of each row before padding.
    pub fn new(ids: &[u32], types: &[u32], lengths: &[usize], scheme: Scheme) -> Self {
        let (rows, seq) = (lengths.len(), ids.len() / lengths.len().max(1));
        let cells = || lengths.iter().flat_map(|&length| (0..seq).map(move |at| (length, at)));
        let wide = |values: &[u32]| values.iter().map(|id| i64::from(*id)).collect::<Vec<_>>();
        // Finite, so that a row of padding alone yields numbers and not NaN.
        let closed = |is_open: bool| if is_open { 0.0 } else { -1e9 };
        let bias = if scheme.causal {
            let of_row = |&length: &usize| {
                (0..seq).flat_map(move |query| (0..seq).map(move |key| closed(key <= query && key < length.max(1))))
            };
            lengths.iter().flat_map(of_row).collect()
        } else {
            cells().map(|(length, at)| closed(at < length)).collect()
        };
        let last = lengths.iter().enumerate().map(|(row, length)| (row * seq + length.saturating_sub(1)) as i64);
        Self {
            rows,
            seq,
            ids: wide(ids),
            types: types.iter().any(|kind| *kind > 0).then(|| wide(types)),
            positions: cells().map(|(length, at)| scheme.position(at, length)).collect(),
            attention: Attention::Padded { queries: if scheme.causal { seq } else { 1 }, bias },
            last: last.collect(),
        }
    }

    /// The rows of `runs` runs, as many for each and run after run, packed: those of each run are concatenated into one line without padding,
    /// `[runs, n]`. A row without tokens is one padding token. Attention stays inside a row and ignores the scheme's direction, so only
    /// encoders take packed batches.
    ///
    /// The line length is that of the longest line, rounded up by a 16th at most, mostly by a 32nd. So there are few shapes, and a device
    /// that replays recorded steps records each once. The filler repeats a line's first token, in sequences of at most `widest` tokens,
    /// which no row is longer than.
    pub fn packed(rows: &[Row<'_>], runs: usize, widest: usize, pad: u32, scheme: Scheme) -> Self {
        let lines: Vec<&[Row<'_>]> = rows.chunks(rows.len() / runs).collect();
        let tokens_of = |line: &&[Row<'_>]| line.iter().map(|row| row.ids.len().max(1)).sum::<usize>();
        let longest = lines.iter().map(tokens_of).max().unwrap_or(0);
        let n = longest.next_multiple_of((longest.next_power_of_two() / 32).max(1));
        // The same number of sequences in every batch of this shape.
        let fillers = n.div_ceil(widest);
        let mut packing = Packing::new(n, pad, scheme);
        for (run, line) in lines.into_iter().enumerate() {
            for row in line {
                packing.push(row);
            }
            for _ in 0..fillers {
                packing.fill(run, widest);
            }
        }
        let has_types = packing.types.iter().any(|kind| *kind > 0);
        let Packing { ids, types, positions, mut starts, first, last, .. } = packing;
        starts.push((runs * n) as i64);
        let longest = starts.windows(2).map(|ends| (ends[1] - ends[0]) as usize).max().unwrap_or(0);
        let longest = longest.next_multiple_of(ops::LONGEST);
        let attention = Attention::Packed { starts, first, longest };
        Self { rows: runs, seq: n, ids, types: has_types.then_some(types), positions, attention, last }
    }
}

impl<I, F> Layout<I, F> {
    /// The same batch with every array carried to another place.
    pub fn map<T: Transfer<I, F>>(self, to: &mut T) -> Layout<T::Ints, T::Floats> {
        Layout {
            rows: self.rows,
            seq: self.seq,
            ids: to.ints(self.ids),
            types: self.types.map(|types| to.ints(types)),
            positions: to.ints(self.positions),
            attention: match self.attention {
                Attention::Padded { queries, bias } => Attention::Padded { queries, bias: to.floats(bias) },
                Attention::Packed { starts, first, longest } => {
                    Attention::Packed { starts: to.ints(starts), first: to.ints(first), longest }
                }
            },
            last: to.ints(self.last),
        }
    }
}

/// A packed batch while it is written.
struct Packing {
    /// Length of a line.
    n: usize,
    pad: u32,
    scheme: Scheme,
    ids: Vec<i64>,
    types: Vec<i64>,
    positions: Vec<i64>,
    starts: Vec<i64>,
    first: Vec<i64>,
    last: Vec<i64>,
}

impl Packing {
    fn new(n: usize, pad: u32, scheme: Scheme) -> Self {
        let [ids, types, positions, starts, first, last] = <[Vec<i64>; 6]>::default();
        Self { n, pad, scheme, ids, types, positions, starts, first, last }
    }

    /// Appends a row, or one padding token for a row without tokens.
    fn push(&mut self, row: &Row<'_>) {
        self.starts.push(self.ids.len() as i64);
        self.first.push(self.ids.len() as i64);
        let length = row.ids.len();
        for at in 0..length.max(1) {
            self.ids.push(i64::from(row.ids.get(at).copied().unwrap_or(self.pad)));
            self.types.push(i64::from(row.types.get(at).copied().unwrap_or(0)));
            self.positions.push(self.scheme.position(at, length));
        }
        self.last.push(self.ids.len() as i64 - 1);
    }

    /// Appends a sequence of at most `widest` tokens that fills the line of run `run` up; none are left over where the line is full.
    fn fill(&mut self, run: usize, widest: usize) {
        self.starts.push(self.ids.len() as i64);
        let (start, end) = (run * self.n, (run + 1) * self.n);
        let more = (end - self.ids.len()).min(widest);
        for list in [&mut self.ids, &mut self.types, &mut self.positions] {
            list.extend(std::iter::repeat_n(list[start], more));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROBERTA: Scheme = Scheme { first: 2, padding: Some(1), causal: false };

    fn rows<'a>(ids: &'a [&'a [u32]]) -> Vec<Row<'a>> {
        ids.iter().map(|ids| Row { ids, types: &[] }).collect()
    }

    #[test]
    fn rows_are_padded_to_one_length() {
        let (short, long) = (Row { ids: &[4], types: &[] }, Row { ids: &[5, 6, 7], types: &[0, 1, 1] });
        let padded = Layout::padded(&[short, long, Row::default()], 4, 9, ROBERTA);
        assert_eq!((padded.rows, padded.seq), (3, 4));
        assert_eq!(padded.ids, [4, 9, 9, 9, /**/ 5, 6, 7, 9, /**/ 9, 9, 9, 9]);
        assert_eq!(padded.types, Some(vec![0, 0, 0, 0, /**/ 0, 1, 1, 0, /**/ 0, 0, 0, 0]));
        assert_eq!(padded.positions, [2, 1, 1, 1, /**/ 2, 3, 4, 1, /**/ 1, 1, 1, 1]);
        assert_eq!(padded.last, [0, 6, 8]);
        let no = -1e9;
        let bias = vec![0.0, no, no, no, /**/ 0.0, 0.0, 0.0, no, /**/ no, no, no, no];
        assert_eq!(padded.attention, Attention::Padded { queries: 1, bias });
    }

    #[test]
    fn rows_without_tokens_are_one_padding_token() {
        let padded = Layout::padded(&[Row::default(), Row::default()], 0, 9, Scheme::DECODER);
        assert_eq!((padded.rows, padded.seq, padded.ids, padded.last), (2, 1, vec![9, 9], vec![0, 1]));
        let none = Layout::padded(&[], 4, 9, Scheme::DECODER);
        assert_eq!((none.rows, none.seq, none.ids.len()), (0, 0, 0));
    }

    #[test]
    fn rows_are_packed_and_lines_are_filled_up() {
        // Two runs of two rows: 3 and 1 tokens, 2 and 4.
        let rows = rows(&[&[1, 2, 3], &[4], &[5, 6], &[7, 8, 9, 10]]);
        let packed = Layout::packed(&rows, 2, 5, 0, ROBERTA);
        assert_eq!((packed.rows, packed.seq), (2, 6), "the longest line has six tokens");
        assert_eq!(packed.ids, [1, 2, 3, 4, 1, 1, /**/ 5, 6, 7, 8, 9, 10]);
        assert_eq!(packed.positions, [2, 3, 4, 2, 2, 2, /**/ 2, 3, 2, 3, 4, 5]);
        assert_eq!(packed.last, [2, 3, 7, 11]);
        assert_eq!(packed.types, None);
        // Rows, then what fills up, in two pieces of at most five tokens, however little there is to fill.
        let starts = vec![0, 3, 4, 6, 6, 8, 12, 12, 12];
        let longest = 4_usize.next_multiple_of(ops::LONGEST);
        assert_eq!(packed.attention, Attention::Packed { starts, first: vec![0, 3, 6, 8], longest });
    }

    #[test]
    fn a_packed_row_is_the_padded_one_without_its_padding() {
        let first = Row { ids: &[3, 4, 5, 6, 7], types: &[0, 0, 1, 1, 1] };
        let rows = [Row { ids: &[8, 9], types: &[0, 1] }, Row::default(), first, Row { ids: &[2], types: &[] }];
        for scheme in [ROBERTA, Scheme { first: 0, padding: None, causal: false }] {
            let (padded, packed) = (Layout::padded(&rows, 8, 1, scheme), Layout::packed(&rows, 2, 8, 1, scheme));
            let Attention::Packed { starts, first, longest } = packed.attention else { panic!("it is packed") };
            assert!(starts.windows(2).all(|ends| ends[0] <= ends[1] && (ends[1] - ends[0]) as usize <= longest));
            assert_eq!(*starts.last().unwrap(), (packed.rows * packed.seq) as i64);
            let types = (padded.types.unwrap(), packed.types.unwrap());
            for (row, tokens) in rows.iter().enumerate() {
                // A row without tokens keeps one token of its padding.
                for at in 0..tokens.ids.len().max(1) {
                    let (here, there) = (row * 8 + at, first[row] as usize + at);
                    assert_eq!(padded.ids[here], packed.ids[there]);
                    assert_eq!(types.0[here], types.1[there]);
                    assert_eq!(padded.positions[here], packed.positions[there]);
                }
                assert_eq!(padded.last[row] - row as i64 * 8, packed.last[row] - first[row]);
            }
        }
    }
}
