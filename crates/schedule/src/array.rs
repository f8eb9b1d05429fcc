//! The cut of a study into the tasks of a job array.

use crate::fleet::Fleet;

/// Seconds that a worker should have work for, so that its start is little beside it.
const WORTHWHILE: f64 = 600.0;
/// The share of the work that a worker's start may take at most.
const START_SHARE: f64 = 0.02;
/// How much longer than estimated a worker may take before its time limit ends it: it saves then, and goes on when it is queued again.
const MARGIN: f64 = 1.5;
/// The shortest time that a task is given for its work, in minutes.
pub const LEAST_MINUTES: u64 = 10;

/// What bounds an array.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// The most tasks that may run at once.
    pub most: usize,
    /// Cohorts that a worker trains at once.
    pub at_once: usize,
    /// Seconds from a task's start to its first step.
    pub start: f64,
    /// The most minutes that a task may take, where it is given.
    pub minutes: Option<u64>,
    /// The shortest time limit where it is not.
    pub least_minutes: u64,
    /// How many workers there are to be, where that is given: as many as have worthwhile work else.
    pub workers: Option<usize>,
}

/// A study as the tasks of a job array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Tasks, each of them one worker.
    pub workers: usize,
    /// The time limit of a task, in minutes.
    pub minutes: u64,
    /// Seconds from the start of all to the end of the last, where nothing fails.
    pub makespan: f64,
}

/// Cohorts in the order in which they should be begun, by estimated seconds: the longest first, so that none is left to be waited for when
/// all others have ended. Equal ones keep their order.
pub fn longest_first(seconds: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..seconds.len()).collect();
    order.sort_by(|a, b| seconds[*b].total_cmp(&seconds[*a]));
    order
}

/// Cuts levels of cohorts of these estimated seconds into an array; a level is begun when the one before has ended. There are as many workers as
/// have worthwhile work, no more than the largest level has cohorts for, and the time that the longest of them needs.
pub fn cut(levels: &[Vec<f64>], demand: Demand) -> Cut {
    let at_once = demand.at_once.max(1);
    let total: f64 = levels.iter().flatten().sum();
    let worthwhile = WORTHWHILE.max(demand.start / START_SHARE);
    let busy = levels.iter().map(Vec::len).max().unwrap_or(0).div_ceil(at_once);
    let most = demand.most.min(busy).max(1);
    let enough = (total / at_once as f64 / worthwhile).ceil() as usize;
    let workers = demand.workers.unwrap_or(enough).clamp(1, most);
    let fleet = Fleet { workers: workers * at_once, ..Fleet::default() };
    let of_level = |seconds: &Vec<f64>| {
        let order = longest_first(seconds);
        fleet.run(order.iter().map(|index| seconds[*index])).makespan
    };
    let makespan = demand.start + levels.iter().map(of_level).sum::<f64>();
    let minutes = demand.minutes.unwrap_or(((makespan * MARGIN / 60.0).ceil() as u64).max(demand.least_minutes));
    Cut { workers, minutes, makespan }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: Demand =
        Demand { most: 256, at_once: 1, start: 5.0, minutes: None, least_minutes: LEAST_MINUTES, workers: None };

    #[test]
    fn a_short_study_is_one_task() {
        let of = cut(&[vec![20.0; 10]], DEMAND);
        assert_eq!((of.workers, of.minutes), (1, LEAST_MINUTES));
        assert!((of.makespan - 205.0).abs() < 1e-9);
        assert_eq!(cut(&[], DEMAND).workers, 1);
    }

    #[test]
    fn a_long_one_is_as_many_as_are_allowed_and_busy() {
        assert_eq!(cut(&[vec![3600.0; 1000]], DEMAND).workers, 256);
        assert_eq!(cut(&[vec![36_000.0; 3]], DEMAND).workers, 3);
        let limited = cut(&[vec![3600.0; 1000]], Demand { most: 4, minutes: Some(30), ..DEMAND });
        assert_eq!((limited.workers, limited.minutes), (4, 30));
        // Four hours of work for each of two, and half as much again.
        let two = cut(&[vec![3600.0; 8]], Demand { most: 2, ..DEMAND });
        assert_eq!((two.workers, two.minutes), (2, 361));
        assert_eq!(cut(&[vec![3600.0; 8]], Demand { at_once: 4, ..DEMAND }).workers, 2);
        assert_eq!(cut(&[vec![1.0; 8]], Demand { workers: Some(3), ..DEMAND }).workers, 3);
    }

    #[test]
    fn a_chain_keeps_no_more_workers_than_its_levels_are_wide() {
        // Five chains of ten tasks of an hour: five workers for ten hours.
        let chains = cut(&vec![vec![3600.0; 5]; 10], DEMAND);
        assert_eq!((chains.workers, chains.minutes), (5, 901));
        assert!((chains.makespan - 36_005.0).abs() < 1e-9);
    }

    #[test]
    fn equal_ones_keep_their_order() {
        assert_eq!(longest_first(&[1.0, 3.0, 1.0, 3.0]), [1, 3, 0, 2]);
    }
}
