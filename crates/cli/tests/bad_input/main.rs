//! A table of broken inputs, each with its message. None panics, none takes memory out of proportion to its files, none writes a file
//! where it was not told to.
//!
//! A case starts from inputs that are whole, which a test of its own runs, and breaks one thing. The messages lie in one snapshot: read
//! it as a user would.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    collections::BTreeSet,
    sync::{Mutex, OnceLock},
};

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

/// Every case with its answer, in order; asked once, by two threads.
fn answers() -> &'static [(Case, Answer)] {
    static ANSWERS: OnceLock<Vec<(Case, Answer)>> = OnceLock::new();
    ANSWERS.get_or_init(|| {
        let (waiting, found) = (Mutex::new(all().into_iter().enumerate()), Mutex::new(Vec::new()));
        let work = || {
            loop {
                let Some((at, case)) = waiting.lock().unwrap().next() else { break };
                let answer = case.ask();
                found.lock().unwrap().push((at, case, answer));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(work);
            }
        });
        let mut found = found.into_inner().unwrap();
        found.sort_by_key(|(at, ..)| *at);
        found.into_iter().map(|(_, case, answer)| (case, answer)).collect()
    })
}

#[test]
fn every_broken_input_is_one_clear_error() {
    let answers = answers();
    let names: BTreeSet<&str> = answers.iter().map(|(case, _)| case.name.as_str()).collect();
    assert_eq!(names.len(), answers.len(), "two cases have one name");
    assert!(answers.len() >= 350, "{} cases", answers.len());
    let problems: Vec<String> = answers.iter().filter_map(|(case, answer)| case.problem(answer)).collect();
    assert!(problems.is_empty(), "{} of {} cases:\n{}", problems.len(), answers.len(), problems.join("\n"));
    let largest = answers.iter().filter_map(|(_, answer)| answer.peak_kib).max().unwrap_or_default();
    let (slow, slowest) = answers.iter().max_by_key(|(_, answer)| answer.took).unwrap();
    println!(
        "{} broken inputs; the largest process held {largest} KiB, the slowest took {:.2?} ({})",
        answers.len(),
        slowest.took,
        slow.name
    );
}

#[test]
fn the_messages_are_those_that_were_read() {
    let shown: Vec<String> = answers().iter().map(|(case, answer)| case.shown(answer)).collect();
    insta::assert_snapshot!("messages", shown.join("\n"));
}

/// What the cases start from works: a case fails for what it breaks.
#[test]
fn unbroken_inputs_work() {
    for case in case::whole() {
        let answer = case.ask();
        assert_eq!(answer.status, Some(0), "{}: {}", case.name, answer.said);
    }
}
