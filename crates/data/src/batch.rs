//! Encoded examples and the padded batches made of them.

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
}

impl EncodedSet {
    /// Encodes every example, each to at most `max_len` tokens.
    pub fn encode_all(tokenizer: &Tokenizer, examples: &[Example], max_len: usize) -> Result<Self, DataError> {
        let encode =
            |e: &Example| Ok(Encoded::labelled(tokenizer.encode(&e.first, e.second.as_deref(), max_len)?, e.label));
        Ok(Self { rows: examples.iter().map(encode).collect::<Result<_, DataError>>()? })
    }

    /// Tokens per row, `[rows]`.
    pub fn lengths(&self) -> Vec<usize> {
        self.rows.iter().map(|row| row.ids.len()).collect()
    }
}

/// Rows of equal width, ready for a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Number of rows, fillers included.
    pub rows: usize,
    /// Width of every row.
    pub seq: usize,
    /// Token ids, `[rows, seq]` row-major, padded on the right.
    pub ids: Vec<u32>,
    /// Type ids, `[rows, seq]`; 0 where padded.
    pub types: Vec<u32>,
    /// 1 where the token at this position is learnt, else 0, `[rows, seq]`; nothing predicts position 0, so a loss leaves it out.
    pub targets: Vec<f32>,
    /// Tokens of each row before padding, `[rows]`; 0 for a filler row.
    pub lengths: Vec<usize>,
    /// Labels, `[rows]`; 0 for a filler row.
    pub labels: Vec<f32>,
    /// 1 for a row of the set, 0 for a filler row, `[rows]`.
    pub weights: Vec<f32>,
}

impl Batch {
    /// The rows at `indices`, filled up to `rows` with rows of weight 0, as wide as the longest.
    pub fn gather(set: &EncodedSet, indices: &[usize], rows: usize, pad_id: u32) -> Self {
        assert!(indices.len() <= rows, "{} indices do not fit into {rows} rows", indices.len());
        let chosen: Vec<&Encoded> = indices.iter().map(|&i| &set.rows[i]).collect();
        let seq = chosen.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let (ids, types, targets) = (vec![pad_id; rows * seq], vec![0; rows * seq], vec![0.0; rows * seq]);
        let mut batch = Self { rows, seq, ids, types, targets, ..Self::default() };
        for (row, encoded) in chosen.iter().enumerate() {
            let start = row * seq;
            batch.ids[start..][..encoded.ids.len()].copy_from_slice(&encoded.ids);
            batch.types[start..][..encoded.types.len()].copy_from_slice(&encoded.types);
            for (position, &target) in encoded.targets.iter().enumerate() {
                batch.targets[start + position] = f32::from(u8::from(target));
            }
        }
        let filled = |value: &dyn Fn(&Encoded) -> f32| {
            let mut values: Vec<f32> = chosen.iter().map(|e| value(e)).collect();
            values.resize(rows, 0.0);
            values
        };
        batch.labels = filled(&|e| e.label);
        batch.weights = filled(&|_| 1.0);
        batch.lengths = chosen.iter().map(|e| e.ids.len()).collect();
        batch.lengths.resize(rows, 0);
        batch
    }

    /// Widens every row to `seq` tokens; a batch that is at least so wide stays as it is.
    pub fn pad_to(&mut self, seq: usize, pad_id: u32) {
        if seq <= self.seq {
            return;
        }
        self.ids = widened(&self.ids, [self.rows, self.seq], seq, pad_id);
        self.types = widened(&self.types, [self.rows, self.seq], seq, 0);
        self.targets = widened(&self.targets, [self.rows, self.seq], seq, 0.0);
        self.seq = seq;
    }

    /// All rows in order, each part padded to the longest: `[sum of rows, max of seq]`.
    pub fn concat(parts: Vec<Self>, pad_id: u32) -> Self {
        let seq = parts.iter().map(|part| part.seq).max().unwrap_or(0);
        let mut whole = Self { seq, ..Self::default() };
        for mut part in parts {
            part.pad_to(seq, pad_id);
            whole.rows += part.rows;
            whole.ids.append(&mut part.ids);
            whole.types.append(&mut part.types);
            whole.targets.append(&mut part.targets);
            whole.lengths.append(&mut part.lengths);
            whole.labels.append(&mut part.labels);
            whole.weights.append(&mut part.weights);
        }
        whole
    }

    /// One row with its padding, `[seq]`.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.ids[row * self.seq..][..self.seq]
    }
}

/// `[rows, from]` to `[rows, to]`, filled on the right.
fn widened<T: Copy>(values: &[T], [rows, from]: [usize; 2], to: usize, filler: T) -> Vec<T> {
    let mut wide = vec![filler; rows * to];
    for row in 0..rows {
        wide[row * to..][..from].copy_from_slice(&values[row * from..][..from]);
    }
    wide
}
