//! Encoded examples, and rows of them padded to one length.

use crate::error::DataError;
use crate::task::Example;
use crate::tokenize::{Encoding, Tokenizer};

/// One example as token ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// Token ids with special tokens, `[length]`.
    pub ids: Vec<u32>,
    /// Type ids, `[length]`; empty means all 0.
    pub types: Vec<u32>,
    /// Which tokens a causal model learns to predict from those before them, `[length]`; empty where a head learns the label.
    pub targets: Vec<bool>,
    /// Class index or score; 0 where tokens are learnt.
    pub label: f32,
}

impl Encoded {
    /// A text whose label a head learns.
    pub fn labelled(encoding: Encoding, label: f32) -> Self {
        Self { ids: encoding.ids, types: encoding.types, targets: Vec::new(), label }
    }

    /// Tokens of which a causal model learns those that `targets` marks, `[length]` each.
    pub fn causal(ids: Vec<u32>, targets: Vec<bool>) -> Self {
        assert_eq!(ids.len(), targets.len(), "one mark per token");
        Self { types: vec![0; ids.len()], ids, targets, label: 0.0 }
    }
}

/// Examples as token ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EncodedSet {
    /// One row per example, in the examples' order.
    pub rows: Vec<Encoded>,
    /// How many of them lost tokens at the length limit.
    pub truncated: usize,
}

impl EncodedSet {
    /// Rows of which none was truncated.
    pub fn whole(rows: Vec<Encoded>) -> Self {
        Self { rows, truncated: 0 }
    }

    /// Encodes every example, each to at most `max_len` tokens.
    pub fn encode_all(tokenizer: &Tokenizer, examples: &[Example], max_len: usize) -> Result<Self, DataError> {
        let mut set = Self { rows: Vec::with_capacity(examples.len()), truncated: 0 };
        for (row, example) in (1..).zip(examples) {
            let encoding = tokenizer.encode(&example.first, example.second.as_deref(), max_len);
            let encoding = encoding.map_err(|error| match error {
                DataError::NothingToRead { .. } => DataError::NothingToRead { row: Some(row) },
                other => other,
            })?;
            set.truncated += usize::from(encoding.truncated > 0);
            set.rows.push(Encoded::labelled(encoding, example.label));
        }
        Ok(set)
    }

    /// Tokens per row, `[rows]`.
    pub fn lengths(&self) -> Vec<usize> {
        self.rows.iter().map(|row| row.ids.len()).collect()
    }
}

/// Rows padded to one length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Number of rows, fillers included.
    pub rows: usize,
    /// Length of every row.
    pub seq: usize,
    /// Token ids, `[rows, seq]` row-major, padded on the right.
    pub ids: Vec<u32>,
    /// Type ids, `[rows, seq]`; 0 where padded.
    pub types: Vec<u32>,
    /// Tokens of each row before padding, `[rows]`; 0 for a filler row.
    pub lengths: Vec<usize>,
}

impl Batch {
    /// The rows at `indices`, filled up to `rows` rows, as long as the longest.
    pub fn gather(set: &EncodedSet, indices: &[usize], rows: usize, pad_id: u32) -> Self {
        assert!(indices.len() <= rows, "{} indices do not fit into {rows} rows", indices.len());
        let chosen: Vec<&Encoded> = indices.iter().map(|&i| &set.rows[i]).collect();
        let seq = chosen.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let (mut ids, mut types, mut lengths) = (vec![pad_id; rows * seq], vec![0; rows * seq], vec![0; rows]);
        for (row, encoded) in chosen.iter().enumerate() {
            let start = row * seq;
            ids[start..][..encoded.ids.len()].copy_from_slice(&encoded.ids);
            types[start..][..encoded.types.len()].copy_from_slice(&encoded.types);
            lengths[row] = encoded.ids.len();
        }
        Self { rows, seq, ids, types, lengths }
    }

    /// One row with its padding, `[seq]`.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.ids[row * self.seq..][..self.seq]
    }
}
