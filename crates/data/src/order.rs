//! The order in which an epoch visits its examples: shuffled, yet with rows of similar length together.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Batches per chunk inside which rows are sorted by length: large enough to save padding, small enough to keep epochs different.
pub const CHUNK_BATCHES: usize = 50;

/// Batches of row indices for one epoch; a pure function of its arguments.
///
/// All rows are shuffled and cut into chunks of [`CHUNK_BATCHES`] batches; a chunk is sorted by length and cut into batches; the
/// batches are shuffled. Every index of `lengths: [rows]` occurs exactly once, and at most one batch is short.
pub fn epoch_order(lengths: &[usize], batch: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    assert!(batch > 0, "a batch has at least one row");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch);
    let mut rows: Vec<usize> = (0..lengths.len()).collect();
    rows.shuffle(&mut rng);
    let mut batches = Vec::with_capacity(rows.len().div_ceil(batch));
    for chunk in rows.chunks_mut(batch * CHUNK_BATCHES) {
        // Stable, so rows of one length stay in shuffled order.
        chunk.sort_by_key(|&row| lengths[row]);
        batches.extend(chunk.chunks(batch).map(<[usize]>::to_vec));
    }
    batches.shuffle(&mut rng);
    batches
}
