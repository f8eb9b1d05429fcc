//! A batch of token ids on the device: rows padded to one length, or packed without padding.

mod layout;

use burn::tensor::{Int, Tensor, TensorData};
use variants::host::Placement;

pub use self::layout::{Attention, Layout, Row, Scheme};

/// Carries the arrays of a batch from one place to the next: from the host into an upload buffer, from there to tensors. A batch keeps its
/// shape on the way, and only the type of its arrays of whole numbers (`I`) and numbers (`F`) changes.
pub trait Transfer<I, F> {
    /// An array of whole numbers at the destination.
    type Ints;
    /// An array of numbers at the destination.
    type Floats;

    /// Carries whole numbers.
    fn ints(&mut self, values: I) -> Self::Ints;

    /// Carries numbers.
    fn floats(&mut self, values: F) -> Self::Floats;
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
    /// Rows are padded to one length: 0 where a key may be attended to and a large negative number where not,
    /// `[rows, 1, 1 or seq, seq]`.
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

/// Uploads every array of a batch by itself, numbers in the precision of the base.
struct Upload<'a>(&'a Placement);

impl Transfer<Vec<i64>, Vec<f64>> for Upload<'_> {
    type Ints = Tensor<1, Int>;
    type Floats = Tensor<1>;

    fn ints(&mut self, values: Vec<i64>) -> Tensor<1, Int> {
        let count = values.len();
        Tensor::from_data(TensorData::new(values, [count]), &self.0.device)
    }

    fn floats(&mut self, values: Vec<f64>) -> Tensor<1> {
        let count = values.len();
        self.0.frozen(values, [count])
    }
}

impl Tokens {
    /// On a device.
    pub fn new(layout: Layout, place: &Placement) -> Self {
        Self::from_tensors(layout.map(&mut Upload(place)))
    }

    /// From arrays that are on the device already.
    pub fn from_tensors(layout: Layout<Tensor<1, Int>, Tensor<1>>) -> Self {
        let Layout { rows, seq, ids, types, positions, attention, last } = layout;
        Self {
            ids: ids.reshape([rows, seq]),
            types: types.map(|types| types.reshape([rows, seq])),
            positions: positions.reshape([rows, seq]),
            attention_mask: match attention {
                Attention::Padded { queries, bias } => AttentionMask::Padded(bias.reshape([rows, 1, queries, seq])),
                Attention::Packed { starts, first, longest } => AttentionMask::Packed { starts, first, longest },
            },
            last,
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
