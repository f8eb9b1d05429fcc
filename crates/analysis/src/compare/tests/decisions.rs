//! What decides, and at which level: families, margins, averages.

use super::*;
use crate::stats::{CONFIDENCE, power};

/// The quantile of Student's distribution at 0.975 with 5 degrees of freedom.
const STUDENT: f64 = 2.570_581_835_636_314;

#[test]
fn a_statement_is_decided_below_the_level_and_not_at_it() {
    let of = |p: f64, is_above: bool| beyond(&[Beyond { p: Some(p), is_above }]).unwrap();
    assert_eq!(of(1.0 - CONFIDENCE, true), [Reached::Undecided]);
    assert_eq!((of(0.0499, true), of(0.0499, false)), (vec![Reached::Yes], vec![Reached::No]));
}

#[test]
fn what_seeds_can_tell_is_asked_at_the_level_that_is_left() {
    let gains = [("lora", 0.0), ("dora", 0.05), ("pissa", 0.001), ("rslora", 0.002), ("vera", -0.001)];
    let records: Vec<RunRecord> = gains.iter().flat_map(|(variant, gain)| runs("cola", variant, 8, *gain)).collect();
    let found = compared(&records, &lora(None));
    // One of four differences is found, so that Holm's method stopped before three.
    let differ: Vec<bool> = found.iter().map(|c| c.holm_p.unwrap() < 0.05).collect();
    assert_eq!(differ, [true, false, false, false]);
    let level = 0.05 / 3.0;
    // The spread is half of an example in a hundred, that of the noise being smaller.
    let error = 0.005 / 6.0_f64.sqrt();
    // The fewest seeds with which a point is found, by trying.
    let of = |seeds: usize| power(0.01 / (0.005 / (seeds as f64).sqrt()), seeds as f64 - 1.0, level);
    let fewest = (2..100).find(|seeds| of(*seeds) >= 0.8);
    for comparison in &found {
        let least = comparison.detectable.unwrap();
        assert!((power(least / error, 5.0, level) - 0.8).abs() < 1e-5, "{comparison:?}");
        assert_eq!(comparison.seeds_needed, fewest, "{comparison:?}");
    }
}

#[test]
fn a_margin_is_reached_where_less_is_better_as_where_more_is() {
    for (gain, points, margin, want) in [
        (8.0, 1.0, 5.0, Reached::Yes),
        (5.5, 3.0, 5.0, Reached::Undecided),
        (2.0, 1.0, 5.0, Reached::No),
        (-2.0, 0.5, -3.0, Reached::Yes),
        (-2.0, 3.0, -3.0, Reached::Undecided),
    ] {
        let up = spread(&[("cola", gain, points)], 6);
        let mut down = spread(&[("wikitext", -gain, points)], 6);
        for record in &mut down {
            record.primary_metric.goal = Goal::Minimise;
        }
        for records in [up, down] {
            let found = &asked(&records, &Rules::default(), Some(margin), None).comparisons[0];
            assert_eq!(found.reached, Some(want), "{found:?}");
        }
    }
}

#[test]
fn tasks_of_opposite_goals_have_no_average() {
    let mut records = spread(&[("cola", 2.0, 1.0), ("wikitext", -2.0, 1.0)], 6);
    for record in records.iter_mut().filter(|record| record.cell.task == "wikitext") {
        record.primary_metric.goal = Goal::Minimise;
    }
    let found = asked(&records, &Rules::default(), None, None);
    assert_eq!(found.averages, Averages::None);
    assert_eq!(found.comparisons.iter().map(|c| c.task.as_str()).collect::<Vec<_>>(), ["cola", "wikitext"]);
}

#[test]
fn tasks_go_together_by_their_differences_whatever_the_baseline_does() {
    let luck = [0.60, 0.66, 0.63, 0.69, 0.61, 0.64];
    let differences = [[0.010, 0.014, 0.012, 0.019, 0.011, 0.013], [0.022, 0.020, 0.027, 0.021, 0.024, 0.025]];
    let mut records = Vec::new();
    for (task, of_task) in ["cola", "rte"].iter().zip(differences) {
        for (seed, difference) in of_task.into_iter().enumerate() {
            records.push(run(task, "lora", 8, seed as u64, luck[seed]));
            records.push(run(task, "dora", 8, seed as u64, luck[seed] + difference));
        }
    }
    let Averages::Stratified(Some(found)) = asked(&records, &Rules::default(), None, None).averages else {
        panic!("six seeds cannot show that these go together")
    };
    // Pearson's correlation, written out.
    let centred = differences.map(|of| of.map(|value| value - of.iter().sum::<f64>() / 6.0));
    let product = |one: [f64; 6], other: [f64; 6]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
    let [one, other] = centred;
    let want = product(one, other) / (product(one, one) * product(other, other)).sqrt();
    assert!((found.correlation - want).abs() < 1e-9, "{found:?} {want}");
}

#[test]
fn an_average_by_seed_has_a_resolution_of_its_own() {
    // A thousandth of a point is less than half of an example in 5000, and the two tasks move as one.
    let mut records = spread(&[("cola", 2.0, 0.001)], 6);
    records.extend(spread(&[("rte", 2.0, 0.001)], 6));
    let found = asked(&records, &Rules::default(), None, None);
    assert!(matches!(found.averages, Averages::BySeed(_)), "{:?}", found.averages);
    // An example moves a task by 1/5000 and the average by half of that; two tasks have twice as many, so that its step is a quarter of
    // their sum. Half a step is taken for the spread.
    for (comparison, step) in found.comparisons.iter().zip([1.0 / 5000.0, 1.0 / 5000.0, 2.0 / 5000.0 / 4.0]) {
        let half = comparison.ci_high.unwrap() - comparison.difference;
        assert!(comparison.is_raised, "{comparison:?}");
        assert!((half - STUDENT * step / 2.0 / 6.0_f64.sqrt()).abs() < 1e-12, "{comparison:?}");
    }
}
