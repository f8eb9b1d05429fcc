//! Encoded examples and the padded batches made of them.

use crate::error::DataError;
use crate::task::Example;
use crate::tokenize::Tokenizer;

/// One example as token ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// Token ids with special tokens, `[length]`.
    pub ids: Vec<u32>,
    /// Class index or score.
    pub label: f32,
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
        let encode = |e: &Example| {
            let ids = tokenizer.encode(&e.first, e.second.as_deref(), max_len)?;
            Ok(Encoded { ids, label: e.label })
        };
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
        let mut batch = Self { rows, seq, ids: vec![pad_id; rows * seq], ..Self::default() };
        for (row, encoded) in chosen.iter().enumerate() {
            batch.ids[row * seq..][..encoded.ids.len()].copy_from_slice(&encoded.ids);
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
        let mut ids = vec![pad_id; self.rows * seq];
        for row in 0..self.rows {
            ids[row * seq..][..self.seq].copy_from_slice(&self.ids[row * self.seq..][..self.seq]);
        }
        self.ids = ids;
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
