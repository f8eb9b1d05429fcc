//! How much of the evaluation splits the embedded base has met: every document of its pretraining run is made again and
//! looked up.
//!
//! ```text
//! cargo run --release -p data --example met_in_pretraining [DOCUMENTS]
//! ```
//! Prints, per task and split, the share of examples whose text (for pairs: both texts, verdict word left out) occurs in a
//! document.
#![allow(clippy::print_stdout, reason = "an example prints its table")]

use std::collections::{BTreeMap, HashMap, HashSet};

/// Documents of the run in the base's card, 7407 steps of 512.
const DOCUMENTS: u64 = 7407 * 512;

fn main() -> Result<(), data::error::DataError> {
    let documents = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(DOCUMENTS);
    // Every example's text, and where it belongs.
    let mut wanted: HashMap<String, Vec<(String, usize)>> = HashMap::new();
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for suite in data::suite::suites() {
        for info in data::suite::tasks(suite)? {
            let dataset = data::suite::load(suite, &info.name)?;
            let test = ("test".to_owned(), dataset.test);
            for (split, examples) in dataset.evaluation.into_iter().chain([test]) {
                let place = format!("{} {split}", info.name);
                sizes.insert(place.clone(), examples.len());
                for (index, example) in examples.into_iter().enumerate() {
                    let text = joined(&example.first, example.second.as_deref());
                    wanted.entry(text).or_default().push((place.clone(), index));
                }
            }
        }
    }
    let corpus = data::corpus::Corpus::new(0);
    let mut met: BTreeMap<String, HashSet<usize>> = BTreeMap::new();
    for index in 0..documents {
        let (first, second) = corpus.document(index);
        // A pair opens its second text with a verdict, or not; a single text may hold a sentence and what follows from it.
        let mut texts = vec![joined(&first, second.as_deref())];
        match &second {
            Some(second) => texts.extend(second.split_once(" , ").map(|(_, rest)| joined(&first, Some(rest)))),
            None => texts.extend(first.split_once(" . ").map(|(sentence, _)| format!("{sentence} ."))),
        }
        for (place, example) in texts.iter().filter_map(|text| wanted.get(text)).flatten() {
            met.entry(place.clone()).or_default().insert(*example);
        }
    }
    println!("{documents} documents\n\n| split | examples | met | share |\n|---|---:|---:|---:|");
    for (place, size) in sizes {
        let met = met.get(&place).map_or(0, HashSet::len);
        println!("| {place} | {size} | {met} | {:.1}% |", 100.0 * met as f64 / size as f64);
    }
    Ok(())
}

fn joined(first: &str, second: Option<&str>) -> String {
    second.map_or_else(|| first.to_owned(), |second| format!("{first}\t{second}"))
}
