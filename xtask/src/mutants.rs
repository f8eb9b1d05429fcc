//! Does a test notice when the code is wrong? cargo-mutants says which operators, returns and match arms are changed by rule;
//! `mutants/breaks.yaml` lists the changes of meaning that no rule makes.
//!
//! A build for every mutant takes days. So all mutants of a crate are compiled at once, each behind a question to the running program
//! (mutant schemata: Untch, Offutt and Harrold, "Mutation analysis using mutant schemata", ISSTA 1993), and then asked one after the other:
//! `list` has cargo-mutants' list, `sites` finds their places in the syntax, `switch` writes them, `build` compiles, `reach` finds which test
//! runs which, `ask` asks, `left` leaves the others to cargo-mutants, `outcomes` keeps what was said, `report` writes `mutants/results.md`. `breaks` makes the breaks by hand.

use std::{fs, path::Path, time::Duration};

use serde::Deserialize;

mod ask;
mod breaks;
mod build;
mod left;
mod list;
mod outcomes;
mod reach;
mod report;
mod sites;
mod switch;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use breaks::{stale, try_breaks};

const WORK: &str = "target/mutants";

fn read<T: for<'a> Deserialize<'a>>(root: &Path, name: &str) -> Result<T, String> {
    let text = fs::read_to_string(root.join(name)).map_err(|error| format!("{name}: {error}"))?;
    serde_yaml::from_str(&text).map_err(|error| format!("{name}: {error}"))
}

/// A copy of the tree for cargo-mutants.
pub(crate) fn tree(root: &Path) -> Result<(), String> {
    tree::with_modules(root, &root.join(WORK).join("tree"))
}

/// Asks the tests of crates about their mutants: names of crates, `--jobs N`, `--within PART_OF_A_FILE'S_NAME`, and `--under SECONDS`: no slower
/// test, so what passes stays open.
pub(crate) fn ask(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut question = ask::Question { packages: Vec::new(), jobs: 2, within: "", under: Duration::MAX };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match (*argument, arguments.as_slice().first()) {
            ("--jobs", Some(jobs)) => {
                question.jobs = jobs.parse().map_err(|error| format!("--jobs `{jobs}`: {error}"))?;
            }
            ("--under", Some(seconds)) => {
                let seconds = seconds.parse().map_err(|error| format!("--under `{seconds}`: {error}"))?;
                question.under = Duration::from_secs(seconds);
            }
            ("--within", Some(part)) => question.within = part,
            (package, _) if !package.starts_with('-') => {
                question.packages.push(package);
                continue;
            }
            (option, _) => {
                return Err(format!(
                    "`{option}` is none of `--jobs N`, `--under SECONDS`, `--within PART` and no crate"
                ));
            }
        }
        arguments.next();
    }
    ask::ask(root, &question)
}

/// Leaves to cargo-mutants what cannot be switched while the program runs.
pub(crate) fn left(root: &Path) -> Result<(), String> {
    left::left(root)
}

/// Writes the table of what the mutants and the breaks found.
pub(crate) fn report(root: &Path) -> Result<(), String> {
    report::report(root)
}

#[expect(clippy::print_stderr, reason = "a task speaks to the person who runs it")]
fn say(text: &str) {
    eprintln!("{text}");
}
