//! 100,000 cells over 1,000 workers, with what runs of the committed studies took: does the last worker end near the bound?
//!
//! `just scale-out` writes what it prints to `bench/scale_out.md`, which the guide shows.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should panic, and prints what it found"
)]

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use schedule::{Fleet, Group, Simulated, longest_first, split};
use serde_json::Value;

const WORKERS: usize = 1_000;
const CELLS: usize = 100_000;

/// A run of a committed study.
struct Run {
    /// Study and task: what may share a cohort on a card.
    group: String,
    /// The row that it is a seed of.
    row: String,
    seconds: f64,
    is_on_card: bool,
}

fn runs() -> Vec<Run> {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results");
    let mut found = Vec::new();
    let mut studies: Vec<_> = fs::read_dir(results).unwrap().map(|entry| entry.unwrap().path()).collect();
    studies.sort();
    for study in studies {
        let mut folders: Vec<_> =
            fs::read_dir(study.join("runs")).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        for folder in folders {
            let record: Value = serde_json::from_slice(&fs::read(folder.join("record.json")).unwrap()).unwrap();
            let (cell, measured) = (&record["cell"], &record["measured"]);
            let seconds = |field: &str| measured[field].as_f64().unwrap();
            let group = format!("{} {}", study.display(), cell["task"]);
            found.push(Run {
                row: format!("{group} {} {}", cell["variant"], cell["rank"]),
                group,
                seconds: seconds("train_seconds") + seconds("eval_seconds"),
                is_on_card: record["device"].as_str().unwrap().contains("cuda"),
            });
        }
    }
    found
}

/// Mean seconds by a name of each run.
fn means<'a>(runs: &'a [&Run], name: impl Fn(&'a Run) -> &'a str) -> BTreeMap<&'a str, f64> {
    let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for run in runs {
        let sum = sums.entry(name(run)).or_default();
        *sum = (sum.0 + run.seconds, sum.1 + 1.0);
    }
    sums.into_iter().map(|(name, (sum, runs))| (name, sum / runs)).collect()
}

/// One of a fleet's cohorts: what it is estimated to take, and what it takes.
#[derive(Clone, Copy)]
struct Cohort {
    estimated: f64,
    taken: f64,
}

/// Every run in a cohort of its own, as CPU workers train them; a run is estimated at the mean of its row.
fn single(runs: &[&Run], random: &mut ChaCha8Rng) -> Vec<Cohort> {
    let means = means(runs, |run| &run.row);
    // A grid of the same rows, each with more seeds: rows come one after another, as an experiment has them.
    let mut cohorts = Vec::new();
    for at in 0..CELLS {
        let row = &runs[at * runs.len() / CELLS].row;
        let seeds: Vec<&&Run> = runs.iter().filter(|run| run.row == *row).collect();
        let taken = seeds[random.random_range(0..seeds.len())].seconds;
        cohorts.push(Cohort { estimated: means[row.as_str()], taken });
    }
    cohorts
}

/// Cohorts as cards train them, of up to 100 runs of one study and task, each run estimated at the mean of all of its group.
fn shared(runs: &[&Run], random: &mut ChaCha8Rng) -> Vec<Cohort> {
    let means = means(runs, |run| &run.group);
    let sizes: BTreeMap<&str, usize> = means
        .keys()
        .map(|group| (*group, runs.iter().filter(|run| run.group == *group).count() * CELLS / runs.len()))
        .collect();
    let groups: Vec<Group> =
        sizes.iter().map(|(group, runs)| Group { runs: *runs, once: 0.0, each: means[group], capacity: 100 }).collect();
    let mut cohorts = Vec::new();
    for (group, sizes) in sizes.keys().zip(split(&groups, WORKERS)) {
        let own: Vec<&&Run> = runs.iter().filter(|run| run.group == *group).collect();
        for runs in sizes {
            let taken = (0..runs).map(|_| own[random.random_range(0..own.len())].seconds).sum();
            cohorts.push(Cohort { estimated: means[group] * runs as f64, taken });
        }
    }
    cohorts
}

fn in_order(cohorts: &[Cohort], fleet: Fleet) -> Simulated {
    fleet.run(cohorts.iter().map(|cohort| cohort.taken))
}

fn longest(cohorts: &[Cohort], fleet: Fleet) -> Simulated {
    let estimates: Vec<f64> = cohorts.iter().map(|cohort| cohort.estimated).collect();
    fleet.run(longest_first(&estimates).into_iter().map(|index| cohorts[index].taken))
}

#[test]
fn a_thousand_workers_end_near_the_bound() {
    let runs = runs();
    let (cards, cores): (Vec<&Run>, Vec<&Run>) = runs.iter().partition(|run| run.is_on_card);
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut said = "| workers | runs measured | cohorts | work, hours | bound, minutes | shuffled | longest first | and with deaths | deaths | work repeated |\n\
                    |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for (name, runs, cohorts) in
        [("1,000 cores", &cores, single(&cores, &mut random)), ("1,000 cards", &cards, shared(&cards, &mut random))]
    {
        let work: f64 = cohorts.iter().map(|cohort| cohort.taken).sum();
        // A worker opens its model in 10 s and gets a lease in 20 ms; one dies for each ten that the study takes, and what it has not saved for a
        // minute is lost.
        let fleet = Fleet { workers: WORKERS, start: 10.0, between: 0.02, ..Fleet::default() };
        let mut shuffled = cohorts.clone();
        shuffled.shuffle(&mut random);
        let (plain, sorted) = (in_order(&shuffled, fleet), longest(&cohorts, fleet));
        let mortal = Fleet { lifetime: Some(10.0 * sorted.makespan), ..fleet };
        let faulty = longest(&cohorts, mortal);
        let over = |of: Simulated| format!("{:.1}% over", 100.0 * (of.makespan / of.bound - 1.0));
        let _ = writeln!(
            said,
            "| {name} | {} | {} | {:.0} | {:.1} | {} | {} | {} | {} | {:.1}% |",
            runs.len(),
            cohorts.len(),
            work / 3600.0,
            sorted.bound / 60.0,
            over(plain),
            over(sorted),
            over(faulty),
            faulty.deaths,
            100.0 * faulty.repeated / work,
        );
        assert!(sorted.makespan <= 1.1 * sorted.bound, "{name}: {sorted:?}");
    }
    println!("{said}");
    if let Some(path) = std::env::var_os("LORA_LAB_SCALE_OUT") {
        fs::write(path, said).unwrap();
    }
}
