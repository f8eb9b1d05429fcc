//! A table of broken inputs, each with its message. None panics, none takes memory out of proportion to its files, none writes a file
//! where it was not told to.
//!
//! A case starts from inputs that are whole, which a test of its own runs, and breaks one thing. The messages lie in one snapshot: read
//! it as a user would.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{collections::BTreeSet, sync::Mutex};

mod adapters;
mod base;
mod case;
mod commands;
mod configs;
mod experiments;
mod place;
mod rows;
mod tensors;
mod tokenizers;
mod weights;

use case::{Answer, Case};

fn all() -> Vec<Case> {
    [
        experiments::cases(),
        configs::cases(),
        tokenizers::cases(),
        weights::cases(),
        adapters::cases(),
        rows::cases(),
        commands::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Every case's answer, in order, by two threads.
fn answers(cases: &[Case]) -> Vec<Answer> {
    let (next, found) = (Mutex::new(0..cases.len()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let Some(at) = next.lock().unwrap().next() else { break };
            let answer = cases[at].ask();
            found.lock().unwrap().push((at, answer));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, answer)| answer).collect()
}

#[test]
fn every_broken_input_is_one_clear_error() {
    let cases = all();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let answers = answers(&cases);
    let problems: Vec<String> = cases.iter().zip(&answers).filter_map(|(case, answer)| case.problem(answer)).collect();
    assert!(problems.is_empty(), "{} of {} cases:\n{}", problems.len(), cases.len(), problems.join("\n"));
    let shown: Vec<String> = cases.iter().zip(&answers).map(|(case, answer)| case.shown(answer)).collect();
    insta::assert_snapshot!("messages", shown.join("\n"));
    let largest = answers.iter().filter_map(|answer| answer.peak_kib).max().unwrap_or_default();
    let slowest = answers.iter().zip(&cases).max_by_key(|(answer, _)| answer.took).unwrap();
    println!(
        "{} broken inputs; the largest process held {largest} KiB, the slowest took {:.2?} ({})",
        cases.len(),
        slowest.0.took,
        slowest.1.name
    );
}

/// What the cases start from works: a case fails for what it breaks.
#[test]
fn unbroken_inputs_work() {
    for case in case::whole() {
        let answer = case.ask();
        assert_eq!(answer.status, Some(0), "{}: {}", case.name, answer.said);
    }
}
