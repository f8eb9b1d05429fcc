//! A fleet of workers that take cohorts one after another: what a study over them comes to.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Workers, and what happens to them.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    /// How many there are.
    pub workers: usize,
    /// Seconds from a worker's start to its first step.
    pub start: f64,
    /// Seconds that it takes to get the lease on a cohort and to give it back.
    pub between: f64,
    /// Mean seconds between two deaths of a worker, which are as likely at any time; none where no worker dies.
    pub lifetime: Option<f64>,
    /// Seconds of work between two checkpoints: what a death loses at most.
    pub checkpoint: f64,
    /// Seconds until others take a dead worker's cohort.
    pub patience: f64,
    /// Seconds until a dead worker is queued again and begins to start.
    pub requeue: f64,
    /// The seed of the deaths.
    pub seed: u64,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            workers: 1,
            start: 0.0,
            between: 0.0,
            lifetime: None,
            checkpoint: 60.0,
            patience: 60.0,
            requeue: 60.0,
            seed: 0,
        }
    }
}

/// How a study went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Simulated {
    /// Seconds from the start of all workers to the end of the last cohort.
    pub makespan: f64,
    /// No schedule ends sooner: the work over all workers, or the longest cohort, after one start.
    pub bound: f64,
    /// Workers that died.
    pub deaths: usize,
    /// Seconds of work that were done twice.
    pub repeated: f64,
}

/// A time, and a worker who is free then.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Free(f64);

impl Eq for Free {}

impl Ord for Free {
    fn cmp(&self, other: &Self) -> Ordering {
        // The earliest first, in a heap that gives the largest.
        other.0.total_cmp(&self.0)
    }
}

impl PartialOrd for Free {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Fleet {
    /// Trains cohorts of these seconds, each begun in this order by the first worker who is free; what a dead worker leaves is taken before what
    /// nobody has begun.
    pub fn run(&self, seconds: impl IntoIterator<Item = f64>) -> Simulated {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut waiting: VecDeque<f64> = seconds.into_iter().collect();
        let workers = self.workers.max(1);
        let (total, longest) = waiting.iter().fold((0.0, 0.0_f64), |(sum, most), one| (sum + one, most.max(*one)));
        let mut done = Simulated { bound: self.start + longest.max(total / workers as f64), ..Simulated::default() };
        let mut free: BinaryHeap<Free> = (0..workers).map(|_| Free(self.start)).collect();
        // What dead workers left: when others may take it, and what is left of it.
        let mut left: VecDeque<(f64, f64)> = VecDeque::new();
        while let Some(Free(now)) = free.pop() {
            let taken = match left.front() {
                Some((from, rest)) if *from <= now => Some(*rest),
                _ => None,
            };
            let work = match taken {
                Some(rest) => {
                    left.pop_front();
                    rest
                }
                None => match (waiting.pop_front(), left.front()) {
                    (Some(work), _) => work,
                    (None, Some((from, _))) => {
                        free.push(Free(*from));
                        continue;
                    }
                    (None, None) => continue,
                },
            };
            let begun = now + self.between;
            let lives = self.lifetime.map_or(f64::INFINITY, |mean| -mean * (1.0 - random.random::<f64>()).ln());
            if lives >= work {
                done.makespan = done.makespan.max(begun + work);
                free.push(Free(begun + work));
                continue;
            }
            let saved = if self.checkpoint > 0.0 { (lives / self.checkpoint).floor() * self.checkpoint } else { lives };
            done.deaths += 1;
            done.repeated += lives - saved;
            left.push_back((begun + lives + self.patience, work - saved));
            free.push(Free(begun + lives + self.requeue + self.start));
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_take_what_is_next() {
        let fleet = Fleet { workers: 2, start: 1.0, between: 0.5, ..Fleet::default() };
        // 1 + 0.5 + 3 and 1 + (0.5 + 1) + (0.5 + 1) + (0.5 + 1).
        let done = fleet.run([3.0, 1.0, 1.0, 1.0]);
        assert!((done.makespan - 5.5).abs() < 1e-12, "{done:?}");
        assert!((done.bound - 4.0).abs() < 1e-12, "{done:?}");
    }

    #[test]
    fn a_death_loses_no_more_than_a_checkpoint() {
        let fleet = Fleet { workers: 3, lifetime: Some(100.0), checkpoint: 10.0, seed: 3, ..Fleet::default() };
        let done = fleet.run([50.0; 60]);
        assert!(done.deaths > 10, "{done:?}");
        assert!(done.repeated < 10.0 * done.deaths as f64 && done.makespan > done.bound, "{done:?}");
        let immortal = Fleet { lifetime: None, ..fleet }.run([50.0; 60]);
        assert!((immortal.makespan - 1000.0).abs() < 1e-9 && immortal.deaths == 0, "{immortal:?}");
    }
}
