//! Against every possible schedule of small studies, and the bounds that Graham proved (Bounds on Multiprocessing Timing Anomalies, 1969).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use proptest::prelude::*;
use schedule::{Fleet, longest_first};

/// The shortest makespan of all assignments of cohorts to workers.
fn best(seconds: &[f64], workers: usize) -> f64 {
    let all = workers.pow(seconds.len() as u32);
    let makespan = |mut code: usize| {
        let mut ends = vec![0.0; workers];
        for one in seconds {
            ends[code % workers] += one;
            code /= workers;
        }
        ends.into_iter().fold(0.0, f64::max)
    };
    (0..all).map(makespan).fold(f64::INFINITY, f64::min)
}

proptest! {
    #[test]
    fn the_longest_first_is_near_the_best(seconds in prop::collection::vec(0.1..10.0_f64, 1..8), workers in 1_usize..4) {
        let fleet = Fleet { workers, ..Fleet::default() };
        let best = best(&seconds, workers);
        let as_written = fleet.run(seconds.iter().copied());
        let sorted = fleet.run(longest_first(&seconds).into_iter().map(|index| seconds[index]));
        let m = workers as f64;
        prop_assert!(as_written.bound <= best + 1e-9);
        prop_assert!(best <= sorted.makespan + 1e-9 && best <= as_written.makespan + 1e-9);
        prop_assert!(as_written.makespan <= (2.0 - 1.0 / m) * best + 1e-9);
        prop_assert!(sorted.makespan <= (4.0 / 3.0 - 1.0 / (3.0 * m)) * best + 1e-9);
    }

    #[test]
    fn every_cohort_is_trained_once(seconds in prop::collection::vec(0.1..10.0_f64, 1..40), workers in 1_usize..6) {
        // With one worker and no deaths, the makespan is the sum of the work.
        let all: f64 = seconds.iter().sum();
        prop_assert!((Fleet::default().run(seconds.iter().copied()).makespan - all).abs() < 1e-9);
        // Deaths repeat work and lose none of it.
        let mortal = Fleet { workers, lifetime: Some(5.0), checkpoint: 1.0, ..Fleet::default() };
        let done = mortal.run(seconds.iter().copied());
        prop_assert!(done.makespan + 1e-9 >= (all + done.repeated) / workers as f64);
    }
}
