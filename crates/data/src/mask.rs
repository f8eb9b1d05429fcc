//! Masked language modelling: which tokens the model must restore.

use std::collections::BTreeSet;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::batch::Batch;
use crate::corpus::Text;
use crate::error::DataError;
use crate::tokenize::Tokenizer;

/// Share of the salient words ([`Text::determined_words`]) that become targets.
pub const SALIENT_SHARE: f64 = 0.4;
/// Share of the other words that become targets; with the salient ones, about 15% of all words.
pub const PLAIN_SHARE: f64 = 0.05;
/// [`PLAIN_SHARE`] of stories, which name their nouns again, so that more of them follow from their context.
pub const STORY_SHARE: f64 = 0.1;
/// Share of the tokens that become targets in a text of which nothing is known. Devlin et al., section 3.1.
pub const UNIFORM_SHARE: f64 = 0.15;
/// Share of the targets that become `<mask>`. Devlin et al., *BERT*, NAACL 2019, section 3.1; so is the next.
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

/// Which words become targets, and what stands for them.
#[derive(Clone, Debug)]
pub struct Masking {
    mask_id: u32,
    special: Vec<u32>,
    salient: BTreeSet<u32>,
    /// Words that can stand in place of a target.
    words: Vec<u32>,
    plain_share: f64,
}

impl Masking {
    /// The masking of a corpus; an error says that the vocabulary has no token to mask with.
    pub fn new(text: Text, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let special = tokenizer.special_ids().to_vec();
        let salient = text.determined_words().into_iter().filter_map(|word| tokenizer.id(word)).collect();
        let can_stand = |id: &u32| !special.contains(id) && tokenizer.token(*id).is_some_and(|word| text.has(&word));
        let words = (0..tokenizer.vocab_size() as u32).filter(can_stand).collect();
        let plain_share = if text == Text::Stories { STORY_SHARE } else { PLAIN_SHARE };
        Ok(Self { mask_id: tokenizer.mask_id()?, special, salient, words, plain_share })
    }

    /// The masking of any text, BERT's: every token but the special ones is a target with [`UNIFORM_SHARE`] and can stand for another.
    pub fn uniform(tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let special = tokenizer.special_ids().to_vec();
        let can_stand = |id: &u32| !special.contains(id) && tokenizer.token(*id).is_some();
        let words = (0..tokenizer.vocab_size() as u32).filter(can_stand).collect();
        Ok(Self { mask_id: tokenizer.mask_id()?, special, salient: BTreeSet::new(), words, plain_share: UNIFORM_SHARE })
    }

    /// The targets among the candidates, ascending; where the draw takes none, the one that came nearest.
    fn choose(&self, candidates: impl Iterator<Item = usize>, ids: &[u32], rng: &mut ChaCha8Rng) -> Vec<usize> {
        let share = |i: usize| if self.salient.contains(&ids[i]) { SALIENT_SHARE } else { self.plain_share };
        let rolls: Vec<(usize, f64)> = candidates.map(|i| (i, rng.random::<f64>() / share(i))).collect();
        let chosen: Vec<usize> = rolls.iter().filter(|r| r.1 < 1.0).map(|r| r.0).collect();
        let nearest = rolls.iter().min_by(|a, b| a.1.total_cmp(&b.1)).map(|r| r.0);
        if chosen.is_empty() { nearest.into_iter().collect() } else { chosen }
    }
}

/// Masks every row of a batch; row `i` of step `step` depends on nothing but `seed`, `step`, `i` and its own tokens.
///
/// Every word is a target independently, with [`SALIENT_SHARE`] or the share of the other words; a row with words has at least one target, and
/// special tokens are never targets. Names and nouns that no context determines would fill most of a uniform draw, and the noise of
/// their gradients hides the words that carry meaning; Guu et al., *REALM*, ICML 2020, section 3.4 mask salient spans for that reason.
pub fn mask(mut batch: Batch, masking: &Masking, seed: u64, step: u64) -> MaskedBatch {
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for row in 0..batch.rows {
        let mut rng = row_rng(seed, step, row as u64);
        let start = row * batch.seq;
        let candidates = (start..start + batch.lengths[row]).filter(|&i| !masking.special.contains(&batch.ids[i]));
        for position in masking.choose(candidates, &batch.ids, &mut rng) {
            positions.push(position as u32);
            targets.push(batch.ids[position]);
            let roll = rng.random::<f64>();
            if roll < MASKED_SHARE {
                batch.ids[position] = masking.mask_id;
            } else if roll < MASKED_SHARE + RANDOM_SHARE {
                batch.ids[position] = masking.words[rng.random_range(0..masking.words.len())];
            }
        }
    }
    MaskedBatch { batch, positions, targets }
}

/// One `ChaCha` stream per step, and one block range of it per row.
fn row_rng(seed: u64, step: u64, row: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step);
    // A row draws far fewer than 2^32 words.
    rng.set_word_pos(u128::from(row) << 32);
    rng
}
