//! How large the cohorts of each group of runs are, where several workers share them.
//!
//! A step of a cohort takes a card `once + each·runs`: what it takes however few runs there are, which is the base's many small kernels, and what
//! each run adds. So a group that is cut costs `once` again for every further cohort, and small models are cut as little as can be.

use crate::{array::longest_first, fleet::Fleet};

/// Runs that may train in one cohort.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// How many there are.
    pub runs: usize,
    /// What a cohort of them costs, however few they are; in seconds, or any other unit.
    pub once: f64,
    /// What each of them costs besides.
    pub each: f64,
    /// The most runs of a cohort that a device's memory takes.
    pub capacity: usize,
}

impl Group {
    /// What a cohort of `runs` of its runs costs.
    pub fn cost(&self, runs: usize) -> f64 {
        self.once + self.each * runs as f64
    }

    /// `runs` runs in `count` cohorts, as even as can be.
    fn even(runs: usize, count: usize) -> impl Iterator<Item = usize> {
        (0..count).map(move |at| runs * (at + 1) / count - runs * at / count)
    }

    /// In as few cohorts as memory allows, as even as can be.
    fn fewest(&self) -> Vec<usize> {
        Self::even(self.runs, self.runs.div_ceil(self.capacity.max(1))).collect()
    }
}

/// How much longer than the best split a split into fewer cohorts may take.
const TOLERANCE: f64 = 1.01;
/// The most even cohorts for each worker.
const MOST: usize = 8;
/// Halvings of the makespan that is packed for.
const HALVINGS: usize = 30;

/// The sizes of each group's cohorts: those with which the workers end soonest, when each takes the longest that is left; as few as do.
pub fn split(groups: &[Group], workers: usize) -> Vec<Vec<usize>> {
    let fewest: Vec<Vec<usize>> = groups.iter().map(Group::fewest).collect();
    if workers < 2 {
        return fewest;
    }
    let total: f64 = costs(groups, &fewest).iter().sum();
    let even = (1..=MOST).map(|each| {
        let of = |(group, least): (&Group, &Vec<usize>)| {
            let share = (each * workers) as f64 * group.cost(group.runs) / total.max(f64::MIN_POSITIVE);
            let count = (share.ceil() as usize).clamp(least.len(), group.runs.max(least.len()));
            Group::even(group.runs, count).collect()
        };
        groups.iter().zip(&fewest).map(of).collect()
    });
    let packed = packed(groups, &fewest, workers);
    let all: Vec<(f64, Vec<Vec<usize>>)> = std::iter::once(fewest.clone())
        .chain(packed)
        .chain(even)
        .map(|sizes| (makespan(groups, &sizes, workers), sizes))
        .collect();
    let best = all.iter().map(|(makespan, _)| *makespan).fold(f64::INFINITY, f64::min);
    let enough = all.into_iter().filter(|(makespan, _)| *makespan <= best * TOLERANCE);
    enough.map(|(_, sizes)| sizes).min_by_key(|sizes| sizes.iter().map(Vec::len).sum::<usize>()).unwrap_or(fewest)
}

/// What each cohort costs.
fn costs(groups: &[Group], sizes: &[Vec<usize>]) -> Vec<f64> {
    let of = |(group, sizes): (&Group, &Vec<usize>)| sizes.iter().map(|runs| group.cost(*runs)).collect::<Vec<f64>>();
    groups.iter().zip(sizes).flat_map(of).collect()
}

/// When the workers end.
fn makespan(groups: &[Group], sizes: &[Vec<usize>], workers: usize) -> f64 {
    let costs = costs(groups, sizes);
    Fleet { workers, ..Fleet::default() }.run(longest_first(&costs).into_iter().map(|index| costs[index])).makespan
}

/// Cuts only where a worker's time is full. The time is the least for which the workers have room, found by halving; none where cutting nothing
/// is as good.
fn packed(groups: &[Group], fewest: &[Vec<usize>], workers: usize) -> Option<Vec<Vec<usize>>> {
    let (mut low, mut high) = (0.0, makespan(groups, fewest, workers));
    let mut best = None;
    for _ in 0..HALVINGS {
        let middle = (low + high) * 0.5;
        match within(groups, fewest, workers, middle) {
            Some(sizes) => {
                best = Some(sizes);
                high = middle;
            }
            None => low = middle,
        }
    }
    best
}

/// The runs of all groups in the given time of every worker. What is dear to cut is placed first, and whole where a worker has room for it.
fn within(groups: &[Group], fewest: &[Vec<usize>], workers: usize, time: f64) -> Option<Vec<Vec<usize>>> {
    let mut rooms = vec![time; workers];
    let mut sizes = vec![Vec::new(); groups.len()];
    let mut waiting: Vec<(usize, usize)> =
        fewest.iter().enumerate().flat_map(|(at, sizes)| sizes.iter().map(move |runs| (at, *runs))).collect();
    waiting.sort_by(|(a, _), (b, _)| groups[*b].once.total_cmp(&groups[*a].once));
    for (at, mut runs) in waiting {
        let group = groups[at];
        while runs > 0 {
            let whole = group.cost(runs);
            let tightest =
                (0..workers).filter(|worker| rooms[*worker] >= whole).min_by(|a, b| rooms[*a].total_cmp(&rooms[*b]));
            let worker = tightest.or_else(|| (0..workers).max_by(|a, b| rooms[*a].total_cmp(&rooms[*b])))?;
            let fit =
                if tightest.is_some() { runs } else { ((rooms[worker] - group.once) / group.each).max(0.0) as usize };
            if fit == 0 {
                return None;
            }
            let placed = fit.min(runs);
            rooms[worker] -= group.cost(placed);
            sizes[at].push(placed);
            runs -= placed;
        }
    }
    Some(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(runs: usize, once: f64, each: f64) -> Group {
        Group { runs, once, each, capacity: 64 }
    }

    fn counts(groups: &[Group], workers: usize) -> Vec<usize> {
        split(groups, workers).iter().map(Vec::len).collect()
    }

    #[test]
    fn one_worker_has_as_few_cohorts_as_fit() {
        assert_eq!(split(&[group(48, 0.0, 1.0), group(100, 0.0, 1.0)], 1), [vec![48], vec![50, 50]]);
        assert_eq!(split(&[], 4), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn equal_groups_are_not_cut_further_than_workers_need() {
        assert_eq!(counts(&[group(12, 0.0, 1.0); 4], 4), [1, 1, 1, 1]);
        assert_eq!(counts(&[group(12, 0.0, 1.0); 4], 2), [1, 1, 1, 1]);
        assert_eq!(split(&[group(48, 0.0, 1.0)], 4), [[12, 12, 12, 12]]);
    }

    #[test]
    fn every_run_is_in_one_cohort_and_uneven_groups_end_together() {
        for (groups, workers) in [
            (vec![group(12, 0.0, 1.0); 4], 3),
            (vec![group(40, 0.0, 2.5), group(40, 0.0, 0.25)], 4),
            (vec![group(30, 0.0, 0.03); 5], 4),
            (vec![group(200, 1.0, 0.5), group(3, 1.0, 0.5), group(17, 2.0, 0.1)], 5),
        ] {
            let sizes = split(&groups, workers);
            for (group, sizes) in groups.iter().zip(&sizes) {
                assert_eq!(sizes.iter().sum::<usize>(), group.runs);
                assert!(sizes.iter().all(|runs| (1..=group.capacity).contains(runs)), "{sizes:?}");
            }
            let work: f64 = costs(&groups, &sizes).iter().sum();
            let makespan = makespan(&groups, &sizes, workers);
            assert!(makespan <= 1.05 * work / workers as f64, "{sizes:?}: {makespan} of {}", work / workers as f64);
        }
    }

    /// Ten seeds of eight variants on two tasks, as an H200 takes them: a step of the one costs as much for its base as for ten runs.
    #[test]
    fn what_is_cheap_to_cut_is_cut() {
        let (dear, cheap) = (group(80, 9.0, 0.9), group(80, 0.5, 1.1));
        let [dear, cheap] = [dear, cheap].map(|group| Group { capacity: 1000, ..group });
        let sizes = split(&[dear, cheap], 2);
        assert_eq!(sizes[0], [80]);
        assert_eq!(sizes[1].len(), 2, "{sizes:?}");
        // 81 and 88.5 uncut; 85 each and half a second where five runs change sides.
        assert!(makespan(&[dear, cheap], &sizes, 2) < 86.5, "{sizes:?}");
        // Cutting costs more than it gains.
        assert_eq!(split(&[group(8, 10.0, 0.5), group(8, 10.0, 0.6)], 2), [[8], [8]]);
    }

    #[test]
    fn no_cohort_is_without_a_run() {
        assert_eq!(split(&[group(3, 0.0, 20.0)], 8), [[1, 1, 1]]);
        assert_eq!(split(&[group(0, 1.0, 1.0), group(2, 0.0, 0.0)], 2)[0], Vec::<usize>::new());
    }
}
