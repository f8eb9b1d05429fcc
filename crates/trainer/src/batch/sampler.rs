//! The order in which a run sees its training examples.

use std::sync::{Arc, Mutex};

use data::{batch::EncodedSet, order::epoch_order, task::Objective};
use experiment::cell::Recipe;
use variants::{
    bilevel::{Bilevel, Level},
    stream::{self, Stream},
};

use crate::{model_cache::TokenizedTask, rows::RunRows};

/// One run's training examples, in the order of its seed.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// Tokenised examples.
    pub set: EncodedSet,
    /// What is predicted.
    pub objective: Objective,
    /// Key of the `data` stream.
    pub seed: u64,
    /// What is held out of them; none where every step sees all.
    pub split: Option<Split>,
    /// The epochs that the last batches were of.
    epochs: Arc<Mutex<Vec<Epoch>>>,
}

/// Which examples a step of a run sees, where some are held out.
#[derive(Clone, Debug)]
pub struct Split {
    /// Share of the examples that is held out.
    pub share: f64,
    /// Which steps see those.
    pub bilevel: Bilevel,
    /// Length of the run.
    pub steps: u64,
    /// Micro-batches per step.
    pub accumulate: u64,
}

/// A part of the examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    All,
    Rest,
    HeldOut,
}

/// One pass over a part of the examples, batch by batch; sorting a large set anew for every batch would take longer than a step.
#[derive(Debug)]
struct Epoch {
    part: Part,
    number: u64,
    rows: usize,
    batches: Vec<Vec<usize>>,
}

impl Sampler {
    /// Examples in the order of a seed's `data` stream.
    pub fn new(set: EncodedSet, objective: Objective, seed: u64) -> Self {
        Self { set, objective, seed, split: None, epochs: Arc::default() }
    }

    /// All training examples of a recipe's task, in the order of its data seed.
    pub fn of_task(recipe: &Recipe, task: &TokenizedTask) -> Self {
        let seed = stream::key(recipe.seeds.data, Stream::Data, "order");
        Self::new(task.train.clone(), task.info.objective.clone(), seed)
    }

    /// The same as a run of the recipe trains on them, which may hold some of them out.
    pub fn of_run(recipe: &Recipe, task: &TokenizedTask) -> Self {
        let split = recipe.variant.held_out().map(|share| Split {
            share,
            bilevel: recipe.variant.bilevel.clone(),
            steps: recipe.train.total_steps(task.train.rows.len()),
            accumulate: recipe.train.accumulate as u64,
        });
        Self { split, ..Self::of_task(recipe, task) }
    }

    /// The examples of micro-batch `micro`, filled up to `rows` rows: a pure function of seed and number, so a resumed run sees what it
    /// would have seen.
    pub fn rows(&self, micro: u64, rows: usize) -> RunRows<'_> {
        let Some(Split { bilevel, steps, accumulate, .. }) = &self.split else {
            return self.chosen(Part::All, micro, rows);
        };
        let (level, before) = bilevel.at(micro / accumulate, *steps);
        let part = match level {
            Level::One if !bilevel.is_none() => Part::All,
            Level::One | Level::Lower => Part::Rest,
            Level::Upper => Part::HeldOut,
        };
        self.chosen(part, before * accumulate + micro % accumulate, rows)
    }

    /// Batch `number` of the examples that are held out, of all where none are.
    pub fn held_out(&self, number: u64, rows: usize) -> RunRows<'_> {
        self.chosen(if self.split.is_some() { Part::HeldOut } else { Part::All }, number, rows)
    }

    /// Batch `micro` of a part.
    fn chosen(&self, part: Part, micro: u64, rows: usize) -> RunRows<'_> {
        let n = self.members(part).map_or(self.set.rows.len(), |range| range.len());
        let per_epoch = n.div_ceil(rows) as u64;
        let number = micro / per_epoch;
        let mut held = self.epochs.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        let is_it = |epoch: &Epoch| (epoch.part, epoch.number, epoch.rows) == (part, number, rows);
        if !held.iter().any(is_it) {
            held.retain(|epoch| epoch.part != part);
            held.push(Epoch { part, number, rows, batches: self.epoch(part, number, rows) });
        }
        let epoch = held.iter().find(|epoch| is_it(epoch)).unwrap_or_else(|| unreachable!("it was just put there"));
        let chosen = epoch.batches[(micro % per_epoch) as usize].iter().map(|row| &self.set.rows[*row]);
        RunRows::new(chosen.collect(), rows, &self.objective)
    }

    /// Epoch `number` of a part, by row.
    fn epoch(&self, part: Part, number: u64, rows: usize) -> Vec<Vec<usize>> {
        let lengths = self.set.lengths();
        let Some(range) = self.members(part) else { return epoch_order(&lengths, rows, self.seed, number) };
        let members = self.shuffled()[range].to_vec();
        let own: Vec<usize> = members.iter().map(|row| lengths[*row]).collect();
        let order = epoch_order(&own, rows, self.seed, number);
        order.into_iter().map(|batch| batch.into_iter().map(|at| members[at]).collect()).collect()
    }

    /// Where a part lies in the shuffled examples; none of all of them. Both parts have an example.
    fn members(&self, part: Part) -> Option<std::ops::Range<usize>> {
        let (share, n) = (self.split.as_ref()?.share, self.set.rows.len());
        if n < 2 {
            return None;
        }
        let held = ((share * n as f64).round() as usize).clamp(1, n - 1);
        match part {
            Part::All => None,
            Part::HeldOut => Some(0..held),
            Part::Rest => Some(held..n),
        }
    }

    /// The rows in the order of which the first are held out.
    fn shuffled(&self) -> Vec<usize> {
        let rng = &mut stream::generator(self.seed, Stream::Data, "held_out");
        let mut rows: Vec<usize> = (0..self.set.rows.len()).collect();
        for last in (1..rows.len()).rev() {
            let other = (stream::unit(rng) * (last + 1) as f64) as usize;
            rows.swap(last, other);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use data::batch::Encoded;
    use variants::role::Role;

    use super::*;

    fn sampler(n: usize, split: Option<Split>) -> Sampler {
        let row = |id: usize| Encoded {
            ids: vec![id as u32; 1 + id % 5],
            types: Vec::new(),
            targets: Vec::new(),
            label: 0.0,
        };
        let set = EncodedSet::whole((0..n).map(row).collect());
        let all = Sampler::new(set, Objective::Classification { labels: vec!["a".to_owned(), "b".to_owned()] }, 7);
        Sampler { split, ..all }
    }

    fn ids(rows: &RunRows<'_>) -> Vec<u32> {
        rows.rows.iter().flatten().map(|row| row.ids[0]).collect()
    }

    fn alternating(until: f64) -> Split {
        let bilevel = Bilevel::Alternating { upper: BTreeSet::from([Role::Lambda]), held_out: 0.3, until: Some(until) };
        Split { share: 0.3, bilevel, steps: 60, accumulate: 2 }
    }

    #[test]
    fn levels_see_their_own_examples_each_once_an_epoch() {
        let split = sampler(20, Some(alternating(40.0)));
        let seen = |steps: std::ops::Range<u64>, parity: u64| -> Vec<u32> {
            let micros = steps.filter(|step| step % 2 == parity).flat_map(|step| [2 * step, 2 * step + 1]);
            micros.flat_map(|micro| ids(&split.rows(micro, 2))).collect()
        };
        // 14 examples are 7 micro-batches, 6 are 3: seven and three steps of two each are two epochs.
        let (mut rest, mut held) = (seen(0..14, 0), seen(0..6, 1));
        assert_eq!((rest.len(), held.len()), (28, 12));
        for part in [&mut rest, &mut held] {
            part.sort_unstable();
            assert!(part.chunks(2).all(|pair| pair[0] == pair[1]), "each twice in two epochs: {part:?}");
            part.dedup();
        }
        assert!(rest.iter().all(|id| !held.contains(id)), "no example is in both");
        assert_eq!((rest.len(), held.len()), (14, 6));
        // The search over, all are seen: 20 examples in ten micro-batches, five steps.
        let mut all: Vec<u32> = (80..90).flat_map(|micro| ids(&split.rows(micro, 2))).collect();
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
        assert_eq!(
            ids(&split.rows(37, 2)),
            ids(&sampler(20, Some(alternating(40.0))).rows(37, 2)),
            "a function of its number"
        );
    }

    #[test]
    fn what_a_policy_scores_by_is_never_trained_on() {
        let split = Split { share: 0.1, bilevel: Bilevel::None, steps: 9, accumulate: 1 };
        let sampler = sampler(20, Some(split));
        let held: BTreeSet<u32> = (0..4).flat_map(|number| ids(&sampler.held_out(number, 4))).collect();
        let rest: BTreeSet<u32> = (0..9).flat_map(|micro| ids(&sampler.rows(micro, 4))).collect();
        assert_eq!((held.len(), rest.len()), (2, 18));
        assert!(held.is_disjoint(&rest));
    }

    #[test]
    fn a_run_that_holds_nothing_out_sees_the_order_of_its_seed() {
        let sampler = sampler(20, None);
        let wanted = epoch_order(&sampler.set.lengths(), 4, 7, 1);
        assert_eq!(ids(&sampler.rows(5, 4)), wanted[0].iter().map(|row| *row as u32).collect::<Vec<_>>());
    }
}
