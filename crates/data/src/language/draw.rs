//! Random decisions: which word, which side of an alternative.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::lexicon::{Class, Term, lexicon};

/// The share of draws from [`Pool::HeldOut`] that use words no train split has.
pub const HELD_OUT_SHARE: f64 = 0.88;

/// Which words a draw may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Every word, frequent ones more often: the pretraining corpus.
    All,
    /// Only seen groups: train splits.
    Seen,
    /// Mostly groups that are not seen: evaluation and test splits.
    HeldOut,
}

/// A source of random choices over one pool of words.
#[derive(Clone, Debug)]
pub struct Draw {
    rng: ChaCha8Rng,
    pool: Pool,
}

impl Draw {
    /// Stream `stream` of `seed`; equal arguments make equal choices.
    pub fn new(seed: u64, stream: u64, pool: Pool) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self { rng, pool }
    }

    /// Whether an event of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    /// A uniform number in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    /// A uniform element.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A word of the class: any group the pool allows, either side, any synonym.
    pub fn pick(&mut self, class: Class) -> Term {
        let group = self.pick_group(class, None);
        self.pick_in(class, group)
    }

    /// A word of one of the classes, weighted by their number of groups.
    pub fn pick_from(&mut self, classes: &[Class]) -> Term {
        let sizes: Vec<usize> = classes.iter().map(|&c| lexicon().groups(c).len()).collect();
        let mut left = self.below(sizes.iter().sum());
        for (&class, size) in classes.iter().zip(sizes) {
            if left < size {
                return self.pick(class);
            }
            left -= size;
        }
        unreachable!("the draw is below the sum of the sizes")
    }

    /// A word of the same class and side, from another group.
    pub fn sibling(&mut self, term: Term) -> Term {
        let group = self.pick_group(term.class, Some(term.group));
        let side = term.side.min(lexicon().groups(term.class)[group].sides.len() - 1);
        let member = self.below(lexicon().groups(term.class)[group].sides[side].len());
        Term { group, side, member, ..term }
    }

    /// Another synonym where the group has one, else the same word.
    pub fn synonym(&mut self, term: Term) -> Term {
        let n = lexicon().group(term).sides[term.side].len();
        let step = if n > 1 { 1 + self.below(n - 1) } else { 0 };
        Term { member: (term.member + step) % n, ..term }
    }

    /// Any synonym of the other side of the group, if there is one.
    pub fn antonym(&mut self, term: Term) -> Option<Term> {
        let sides = &lexicon().group(term).sides;
        let side = 1 - term.side;
        let member = self.below(sides.get(side)?.len());
        Some(Term { side, member, ..term })
    }

    fn pick_in(&mut self, class: Class, group: usize) -> Term {
        let sides = &lexicon().groups(class)[group].sides;
        let side = self.below(sides.len());
        let member = self.below(sides[side].len());
        Term { class, group, side, member }
    }

    /// A group other than `except`. Frequencies fall mildly with rank so that the last word of a class is still common.
    fn pick_group(&mut self, class: Class, except: Option<usize>) -> usize {
        let groups = lexicon().groups(class);
        let has_held_out = groups.iter().enumerate().any(|(i, g)| !g.seen && Some(i) != except);
        let want_seen = match self.pool {
            Pool::All => None,
            Pool::Seen => Some(true),
            Pool::HeldOut if !has_held_out => None,
            Pool::HeldOut => Some(!self.rng.random_bool(HELD_OUT_SHARE)),
        };
        let weight = |i: usize| {
            let allowed = Some(i) != except && want_seen.is_none_or(|seen| groups[i].seen == seen);
            if allowed { 1.0 / (i as f64 + 6.0).sqrt() } else { 0.0 }
        };
        let total: f64 = (0..groups.len()).map(weight).sum();
        assert!(total > 0.0, "class `{}` has no word for pool {:?}", class.section(), self.pool);
        let mut left = self.rng.random::<f64>() * total;
        let mut last = 0;
        for i in (0..groups.len()).filter(|&i| weight(i) > 0.0) {
            last = i;
            left -= weight(i);
            if left < 0.0 {
                break;
            }
        }
        last
    }
}
