//! Masked language modelling: which tokens the model must restore.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::batch::Batch;
use crate::tokenize::Tokenizer;

/// Share of the words that become targets. BERT, section 3.1; so are the next two.
pub const TARGET_SHARE: f64 = 0.15;
/// Share of the targets that become `<mask>`.
pub const MASKED_SHARE: f64 = 0.8;
/// Share of the targets that become a random word; the rest stay.
pub const RANDOM_SHARE: f64 = 0.1;

/// A batch with corrupted tokens and what they were.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedBatch {
    /// The batch after masking.
    pub batch: Batch,
    /// Flat index `row * seq + position` of each target, ascending, `[targets]`.
    pub positions: Vec<u32>,
    /// Token id before masking, `[targets]`.
    pub targets: Vec<u32>,
}

/// Masks every row of a batch; row `i` of step `step` depends on nothing but `seed`, `step`, `i` and its own tokens.
///
/// A row with at least one word has `max(1, round(15% of its words))` targets; special tokens are never targets.
pub fn mask(mut batch: Batch, tokenizer: &Tokenizer, seed: u64, step: u64) -> MaskedBatch {
    let special = tokenizer.special_ids();
    let words: Vec<u32> = (0..tokenizer.vocab_size() as u32).filter(|id| !special.contains(id)).collect();
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for row in 0..batch.rows {
        let mut rng = row_rng(seed, step, row as u64);
        let start = row * batch.seq;
        let mut candidates: Vec<usize> =
            (start..start + batch.lengths[row]).filter(|&i| !special.contains(&batch.ids[i])).collect();
        if candidates.is_empty() {
            continue;
        }
        let n = ((TARGET_SHARE * candidates.len() as f64).round() as usize).max(1);
        candidates.shuffle(&mut rng);
        candidates.truncate(n);
        candidates.sort_unstable();
        for position in candidates {
            positions.push(position as u32);
            targets.push(batch.ids[position]);
            let roll = rng.random::<f64>();
            if roll < MASKED_SHARE {
                batch.ids[position] = tokenizer.mask_id();
            } else if roll < MASKED_SHARE + RANDOM_SHARE {
                batch.ids[position] = words[rng.random_range(0..words.len())];
            }
        }
    }
    MaskedBatch { batch, positions, targets }
}

/// One ChaCha stream per step, and one block range of it per row.
fn row_rng(seed: u64, step: u64, row: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step);
    // A row draws far fewer than 2^32 words.
    rng.set_word_pos(u128::from(row) << 32);
    rng
}
