//! How many cohorts each group of runs is trained in, where several workers share them.

use crate::{array::longest_first, fleet::Fleet};

/// Runs that may train in one cohort.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// How many there are.
    pub runs: usize,
    /// What they cost together, in seconds or any other unit.
    pub cost: f64,
    /// The most runs of a cohort that a device's memory takes.
    pub capacity: usize,
}

/// How much longer than evenly spread work a split may take.
const TOLERANCE: f64 = 1.1;
/// The most cohorts for each worker: smaller ones cost more for each of their runs.
const MOST: usize = 8;

/// The number of cohorts of each group: as few as memory allows, and for several workers as few as keep all of them about equally long at work.
pub fn split(groups: &[Group], workers: usize) -> Vec<usize> {
    let least = |group: &Group| group.runs.div_ceil(group.capacity.max(1)).max(1);
    let fewest: Vec<usize> = groups.iter().map(least).collect();
    let total: f64 = groups.iter().map(|group| group.cost).sum();
    if workers < 2 || total <= 0.0 {
        return fewest;
    }
    let mut best = (f64::INFINITY, fewest.clone());
    for each in 1..=MOST {
        let of = |(group, least): (&Group, &usize)| {
            let share = ((each * workers) as f64 * group.cost / total).ceil() as usize;
            share.clamp(*least, group.runs.max(*least))
        };
        let counts: Vec<usize> = groups.iter().zip(&fewest).map(of).collect();
        let cohorts: Vec<f64> = groups.iter().zip(&counts).flat_map(|(group, count)| parts(*group, *count)).collect();
        let fleet = Fleet { workers, ..Fleet::default() };
        let makespan = fleet.run(longest_first(&cohorts).into_iter().map(|index| cohorts[index])).makespan;
        if makespan < best.0 {
            best = (makespan, counts);
        }
        if makespan <= TOLERANCE * total / workers as f64 {
            break;
        }
    }
    best.1
}

/// The costs of a group's cohorts, which are as even as can be.
fn parts(group: Group, count: usize) -> impl Iterator<Item = f64> {
    let each = group.runs.div_ceil(count);
    let cost = group.cost / group.runs.max(1) as f64;
    (0..group.runs).step_by(each.max(1)).map(move |first| cost * each.min(group.runs - first) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(runs: usize, cost: f64) -> Group {
        Group { runs, cost, capacity: 64 }
    }

    #[test]
    fn one_worker_has_as_few_cohorts_as_fit() {
        assert_eq!(split(&[group(48, 60.0), group(100, 60.0)], 1), [1, 2]);
        assert_eq!(split(&[], 4), Vec::<usize>::new());
    }

    #[test]
    fn equal_groups_are_not_cut_further_than_workers_need() {
        assert_eq!(split(&[group(12, 15.0); 4], 4), [1, 1, 1, 1]);
        assert_eq!(split(&[group(12, 15.0); 4], 2), [1, 1, 1, 1]);
        assert_eq!(split(&[group(48, 60.0)], 4), [4]);
    }

    #[test]
    fn uneven_groups_are_cut_until_workers_are_even() {
        for (groups, workers) in
            [(vec![group(12, 15.0); 4], 3), (vec![group(40, 100.0), group(40, 10.0)], 4), (vec![group(30, 1.0); 5], 4)]
        {
            let counts = split(&groups, workers);
            let total: f64 = groups.iter().map(|group| group.cost).sum();
            let cohorts: Vec<f64> = groups.iter().zip(&counts).flat_map(|(group, n)| parts(*group, *n)).collect();
            let fleet = Fleet { workers, ..Fleet::default() };
            let makespan = fleet.run(longest_first(&cohorts).into_iter().map(|index| cohorts[index])).makespan;
            assert!(makespan <= 1.1 * total / workers as f64, "{counts:?}: {makespan} of {}", total / workers as f64);
            assert!((cohorts.iter().sum::<f64>() - total).abs() < 1e-9);
        }
    }

    #[test]
    fn no_cohort_is_without_a_run() {
        assert_eq!(split(&[group(3, 60.0)], 8), [3]);
    }
}
