//! A split cut from the training examples, on which settings are chosen.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde::{Deserialize, Serialize};

use crate::{
    error::DataError,
    task::{Dataset, Example, Objective},
};

/// The name of the split.
pub const TUNE: &str = "tune";

/// Examples that either side of a cut needs at least, and as many again as [`PER_CLASS`] for every class.
const LEAST: usize = 8;
/// Examples that either side needs for every class, on average: a rare class may have fewer, which a note says.
const PER_CLASS: usize = 2;

/// Which share of the training examples is cut off, and by which seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holdout {
    /// In (0, 1).
    pub share: f64,
    /// Of the choice.
    pub seed: u64,
}

impl Holdout {
    /// The task with `⌈share · n⌉` training examples of every class, or of all where there are no classes, as its only evaluation split
    /// [`TUNE`]. The task's own evaluation and test splits are gone, so that nothing can be chosen by them.
    ///
    /// A class with a single example stays in training. An error where a side would be empty, or have fewer than 8 examples or than 2 for
    /// every class: nothing can be told apart by so few.
    pub fn cut(self, dataset: Dataset) -> Result<Dataset, DataError> {
        let Dataset { mut info, train, .. } = dataset;
        let mut classes: Vec<Vec<Example>> = match &info.objective {
            Objective::Classification { labels } => vec![Vec::new(); labels.len()],
            Objective::Regression { .. } | Objective::Text => vec![Vec::new()],
        };
        let last = classes.len() - 1;
        for example in train {
            classes[(example.label.max(0.0) as usize).min(last)].push(example);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let (mut kept, mut held) = (Vec::new(), Vec::new());
        for mut class in classes {
            class.shuffle(&mut rng);
            held.extend(class.drain(..self.count(class.len())));
            kept.extend(class);
        }
        if kept.is_empty() || held.is_empty() {
            return Err(DataError::NoHoldout { task: info.name, examples: kept.len() + held.len() });
        }
        let least = LEAST.max(PER_CLASS * info.objective.labels().len());
        if kept.len().min(held.len()) < least {
            let (held, kept) = (held.len(), kept.len());
            return Err(DataError::SmallHoldout { task: info.name, share: self.share, held, kept, least });
        }
        // Classes would otherwise follow one another, which a sampler without shuffling would see.
        kept.shuffle(&mut rng);
        held.shuffle(&mut rng);
        info.splits = vec![TUNE.to_owned()];
        Ok(Dataset { info, train: kept, evaluation: vec![(TUNE.to_owned(), held)], test: Vec::new() })
    }

    /// The items that stay in training, in their order, and those of the split, in the order of the draw: the first of them are as much
    /// a draw as all. Items of one key stay together, so that no part of a text is on either side. An error where a side would be empty.
    pub(crate) fn part<T, K: Ord>(
        self,
        task: &str,
        items: Vec<T>,
        key: impl Fn(&T) -> K,
    ) -> Result<(Vec<T>, Vec<T>), DataError> {
        let examples = items.len();
        let mut places: BTreeMap<K, usize> = BTreeMap::new();
        let mut groups: Vec<Vec<(usize, T)>> = Vec::new();
        for (at, item) in items.into_iter().enumerate() {
            let place = *places.entry(key(&item)).or_insert(groups.len());
            if place == groups.len() {
                groups.push(Vec::new());
            }
            groups[place].push((at, item));
        }
        groups.shuffle(&mut ChaCha8Rng::seed_from_u64(self.seed));
        let held: Vec<T> = groups.drain(..self.count(groups.len())).flatten().map(|(_, item)| item).collect();
        let mut kept: Vec<(usize, T)> = groups.into_iter().flatten().collect();
        if kept.is_empty() || held.is_empty() {
            return Err(DataError::NoHoldout { task: task.to_owned(), examples });
        }
        kept.sort_by_key(|(at, _)| *at);
        Ok((kept.into_iter().map(|(_, item)| item).collect(), held))
    }

    /// How many of `n` are held out; one at least stays.
    fn count(self, n: usize) -> usize {
        ((self.share * n as f64).ceil() as usize).min(n.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite;

    fn texts(examples: &[Example]) -> std::collections::BTreeSet<String> {
        examples.iter().map(|example| format!("{}\0{:?}\0{}", example.first, example.second, example.label)).collect()
    }

    #[test]
    fn every_example_is_on_one_side_and_classes_keep_their_shares() {
        let whole = suite::load("glue_mini", "cola").unwrap();
        let cut = Holdout { share: 0.2, seed: 100 }.cut(whole.clone()).unwrap();
        assert_eq!(cut.evaluation.len(), 1);
        let (name, held) = &cut.evaluation[0];
        assert_eq!((name.as_str(), cut.info.splits.as_slice()), (TUNE, &[TUNE.to_owned()][..]));
        assert_eq!(cut.train.len() + held.len(), whole.train.len());
        let all: Vec<Example> = cut.train.iter().chain(held).cloned().collect();
        assert_eq!(texts(&all), texts(&whole.train));
        for class in 0..2 {
            let count = |examples: &[Example]| examples.iter().filter(|e| e.label as usize == class).count();
            assert_eq!(count(held), (0.2 * count(&whole.train) as f64).ceil() as usize);
        }
        assert!(cut.test.is_empty(), "nothing is chosen by the test split");
    }

    #[test]
    fn the_seed_chooses_and_nothing_else() {
        let load = || suite::load("glue_mini", "stsb").unwrap();
        let cut = |seed| Holdout { share: 0.1, seed }.cut(load()).unwrap();
        assert_eq!(cut(1), cut(1));
        assert_ne!(cut(1).hash(), cut(2).hash());
    }

    #[test]
    fn one_example_of_each_class_cannot_be_cut() {
        let mut few = suite::load("glue_mini", "cola").unwrap();
        few.train.dedup_by_key(|example| example.label as i64);
        few.train.truncate(2);
        let error = Holdout { share: 0.5, seed: 0 }.cut(few).unwrap_err();
        assert!(error.to_string().contains("cola"), "{error}");
    }

    #[test]
    fn a_cut_leaves_a_few_examples_on_either_side() {
        let cut = |n: usize, share: f64| {
            let mut task = suite::load("glue_mini", "cola").unwrap();
            task.train.truncate(n);
            Holdout { share, seed: 0 }.cut(task)
        };
        // Whatever a share is called: two examples choose nothing, and two teach nothing.
        for (share, held) in [(1e-300, "2 of"), (0.999_999_999, "leaves 2")] {
            let error = cut(400, share).unwrap_err().to_string();
            assert!(error.contains(held) && error.contains("either side needs 8"), "{error}");
        }
        let sides = |n, share| cut(n, share).map(|task| (task.train.len(), task.evaluation[0].1.len()));
        assert!(sides(20, 0.2).is_err());
        let (kept, held) = sides(20, 0.5).unwrap();
        assert!(kept >= 8 && held >= 8 && kept + held == 20, "{kept} and {held}");
    }

    #[test]
    fn many_classes_need_two_examples_each_on_either_side() {
        let of_classes = |n: usize| {
            let mut task = suite::load("glue_mini", "cola").unwrap();
            task.info.objective = Objective::Classification { labels: (0..n).map(|class| class.to_string()).collect() };
            let mut train = std::mem::take(&mut task.train);
            train.truncate(100);
            train.iter_mut().enumerate().for_each(|(row, example)| example.label = (row % n) as f32);
            Holdout { share: 0.2, seed: 0 }.cut(Dataset { train, ..task })
        };
        assert_eq!(of_classes(10).unwrap().evaluation[0].1.len(), 20);
        let error = of_classes(20).unwrap_err().to_string();
        assert!(error.contains("cuts 20 of 100") && error.contains("either side needs 40"), "{error}");
    }
}
