//! Comparisons of two rows by the examples that their runs get right, where records keep them.

use std::collections::BTreeMap;

use record::RunRecord;

use crate::AnalysisError;
use crate::compare::{ALL_TASKS, Comparison};
use crate::stats::{self, McNemar, Resampled};
use crate::summary::{Selection, SummaryTable, reported};

/// Draws of the bootstrap over seeds and examples.
pub const DRAWS: usize = 1000;

/// McNemar's mid-p below this decides between two runs.
const SIGNIFICANCE: f64 = 1.0 - stats::CONFIDENCE;

/// What runs got right: by task, label and rank, the bits of each seed with the hash of the data.
type Right<'a> = BTreeMap<(String, String, usize), BTreeMap<u64, (&'a str, Vec<bool>)>>;

/// Two rows on one task, on the seeds that both have.
#[derive(Clone, Debug, PartialEq)]
pub struct ByExample {
    /// The task.
    pub task: String,
    /// The row, as label and rank.
    pub row: (String, usize),
    /// The row it is compared with.
    pub against: (String, usize),
    /// Examples of the split.
    pub examples: usize,
    /// McNemar's test of the two runs of each seed.
    pub seeds: BTreeMap<u64, McNemar>,
    /// The difference in accuracy, with the interval of the bootstrap over seeds and examples.
    pub difference: Resampled,
}

impl ByExample {
    /// Seeds whose run of the row is better, and worse, than the other's at the 5% level, without correction.
    pub fn decided(&self) -> [usize; 2] {
        let count = |better: bool| {
            let is = |test: &&McNemar| test.p_mid < SIGNIFICANCE && (test.first > test.second) == better;
            self.seeds.values().filter(is).count()
        };
        [count(true), count(false)]
    }
}

/// Every comparison of single tasks whose runs keep what they got right on the split; empty where none does. Runs of one seed are paired
/// where their data are the same.
pub fn by_example(
    comparisons: &[Comparison],
    records: &[RunRecord],
    summary: &SummaryTable,
    split: &str,
) -> Result<Vec<ByExample>, AnalysisError> {
    let right = right(records, summary, split)?;
    let mut found: Vec<ByExample> = Vec::new();
    for comparison in comparisons.iter().filter(|comparison| comparison.task != ALL_TASKS) {
        let get = |label: &str, rank: usize| right.get(&(comparison.task.clone(), label.to_owned(), rank));
        let (Some(own), Some(other)) =
            (get(&comparison.variant, comparison.rank), get(&comparison.baseline, comparison.baseline_rank))
        else {
            continue;
        };
        found.extend(compared(comparison, own, other)?);
    }
    Ok(found)
}

fn right<'a>(records: &'a [RunRecord], summary: &SummaryTable, split: &str) -> Result<Right<'a>, AnalysisError> {
    let mut right: Right = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_finished()) {
        for evaluation in reported(record, Selection::Reported)? {
            let bits = evaluation.correct.as_ref().and_then(|correct| correct.of(evaluation.examples));
            let is_shown = summary.section_of(&record.cell.task, &evaluation.split) == split;
            if let (Some(bits), true) = (bits, is_shown) {
                let readout = &evaluation.readout;
                let row = right.entry((record.cell.task.clone(), readout.label.clone(), readout.rank)).or_default();
                row.insert(record.cell.seed, (&record.data_hash, bits));
            }
        }
    }
    Ok(right)
}

fn compared(
    comparison: &Comparison,
    own: &BTreeMap<u64, (&str, Vec<bool>)>,
    other: &BTreeMap<u64, (&str, Vec<bool>)>,
) -> Result<Option<ByExample>, AnalysisError> {
    let place = |source| AnalysisError::Stats {
        place: format!("{}/{} rank {}, by example", comparison.task, comparison.variant, comparison.rank),
        source,
    };
    let paired = own.iter().filter_map(|(seed, (data, bits))| {
        let (other_data, other_bits) = other.get(seed)?;
        (data == other_data && bits.len() == other_bits.len()).then_some((*seed, bits, other_bits))
    });
    let paired: Vec<(u64, &Vec<bool>, &Vec<bool>)> = paired.collect();
    let Some(examples) = paired.first().map(|(_, bits, _)| bits.len()).filter(|examples| *examples > 0) else {
        return Ok(None);
    };
    if paired.iter().any(|(_, bits, _)| bits.len() != examples) {
        return Ok(None);
    }
    let mut seeds = BTreeMap::new();
    for (seed, one, two) in &paired {
        seeds.insert(*seed, McNemar::of(one, two).map_err(place)?);
    }
    let (one, two): (Vec<Vec<bool>>, Vec<Vec<bool>>) =
        paired.iter().map(|(_, one, two)| ((*one).clone(), (*two).clone())).unzip();
    let difference = stats::two_level(&one, &two, DRAWS, 0).map_err(place)?;
    Ok(Some(ByExample {
        task: comparison.task.clone(),
        row: (comparison.variant.clone(), comparison.rank),
        against: (comparison.baseline.clone(), comparison.baseline_rank),
        examples,
        seeds,
        difference,
    }))
}

#[cfg(test)]
mod tests {
    use record::Correct;

    use super::*;
    use crate::compare::{Baseline, Rules, compare};
    use crate::summary::summarise;
    use crate::summary::tests::run;

    /// A hundred examples, the first `right` of which are right.
    fn with_bits(mut record: RunRecord, right: usize) -> RunRecord {
        let bits: Vec<bool> = (0..100).map(|at| at < right).collect();
        record.evaluations.iter_mut().for_each(|evaluation| evaluation.correct = Some(Correct::pack(&bits)));
        record
    }

    fn found(records: &[RunRecord]) -> Vec<ByExample> {
        let summary = summarise(records, Selection::Reported).unwrap();
        let baseline = Baseline { variant: "lora".into(), rank: None };
        let compared = compare(&summary, "validation", &baseline, &Rules::default()).unwrap();
        by_example(&compared.comparisons, records, &summary, "validation").unwrap()
    }

    #[test]
    fn runs_of_a_seed_are_tested_on_their_examples_and_all_seeds_together() {
        let mut records = Vec::new();
        for seed in 1..=3 {
            records.push(with_bits(run("cola", "lora", 8, seed, 0.8), 80));
            records.push(with_bits(run("cola", "dora", 8, seed, 0.8), if seed == 3 { 79 } else { 90 }));
        }
        let rows = found(&records);
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((row.examples, row.seeds.len(), row.decided()), (100, 3, [2, 0]));
        assert!((row.difference.value - 19.0 / 300.0).abs() < 1e-12 && row.difference.low < 0.0, "{row:?}");
        // Other data are no pair.
        records[1].data_hash = "other".into();
        assert_eq!(found(&records)[0].seeds.len(), 2);
    }

    #[test]
    fn records_without_bits_are_left_out() {
        let records = [run("cola", "lora", 8, 1, 0.8), run("cola", "dora", 8, 1, 0.9)];
        assert!(found(&records).is_empty());
        let [lora, dora] = records;
        assert!(found(&[with_bits(lora, 80), dora]).is_empty());
    }
}
