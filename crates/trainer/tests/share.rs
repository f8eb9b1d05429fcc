//! A study that two workers share: a run that one has ended is not trained by the other, whenever that looked at it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/study.rs"]
mod support;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use burn::tensor::DType;
use experiment::{cell::Cell, start::StartFrom};
use support::{cache, cells_of_few_rows, run};
use trainer::sink::{Event, Sink};

/// `mood` on two seeds, and `size`, which starts from it.
fn chain() -> Vec<Cell> {
    let rest = "seeds: [0, 1]\ntargets: [query]\nranks: [2]\ntrain: {steps: 3, batch: 4, max_length: 16, learning_rate: 1e-3}\n\
                variants: [lora]\n";
    let mut cells = cells_of_few_rows(rest, true, &[]);
    let first: Vec<_> = cells.iter().filter(|cell| cell.id.task == "mood").map(|cell| cell.id.clone()).collect();
    for cell in cells.iter_mut().filter(|cell| cell.id.task == "size") {
        let from = first.iter().find(|id| id.seed == cell.id.seed).unwrap();
        cell.recipe.start_from = Some(StartFrom::Cell(from.clone()));
    }
    cells
}

/// Counts the runs that ended here, and waits in the first of them until it may go on.
struct Ends<'a> {
    counts: &'a Mutex<BTreeMap<String, usize>>,
    /// Set when the study was planned, when a run ended here, and when it may go on after that.
    planned: &'a AtomicBool,
    ended: &'a AtomicBool,
    goes_on: &'a AtomicBool,
}

fn await_flag(flag: &AtomicBool) {
    let begun = Instant::now();
    while !flag.load(Ordering::Relaxed) {
        assert!(begun.elapsed() < Duration::from_mins(2), "nobody came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Sink for Ends<'_> {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Planned { .. } => self.planned.store(true, Ordering::Relaxed),
            Event::Finished { record } => {
                *self.counts.lock().unwrap().entry(record.cell.slug()).or_insert(0) += 1;
                self.ended.store(true, Ordering::Relaxed);
                await_flag(self.goes_on);
            }
            _ => {}
        }
    }
}

#[track_caller]
fn each_once(counts: &Mutex<BTreeMap<String, usize>>, cells: &[Cell]) {
    let counts = counts.lock().unwrap();
    let wanted: BTreeMap<String, usize> = cells.iter().map(|cell| (cell.id.slug(), 1)).collect();
    assert_eq!(*counts, wanted);
}

/// Two workers; the first stands still when the first run of its cohort has ended. What lets it go on is told by `until`.
fn two(cells: &[Cell], cohort: usize, until_second_is_planned: bool) {
    let root = tempfile::tempdir().unwrap();
    let counts = Mutex::default();
    let [planned, ended, goes_on, second_planned, second_ended] = [const { AtomicBool::new(false) }; 5];
    let free = AtomicBool::new(true);
    let first = Ends { counts: &counts, planned: &planned, ended: &ended, goes_on: &goes_on };
    let second = Ends { counts: &counts, planned: &second_planned, ended: &second_ended, goes_on: &free };
    let train = |sink: &dyn Sink, root: &Path| {
        run(&cache(DType::F32), cells, root, cohort, &AtomicBool::new(false), sink).unwrap();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| train(&first, root.path()));
        await_flag(&ended);
        let other = scope.spawn(|| train(&second, root.path()));
        if until_second_is_planned {
            await_flag(&second_planned);
        } else {
            other.join().unwrap();
        }
        goes_on.store(true, Ordering::Relaxed);
    });
    each_once(&counts, cells);
}

#[test]
fn a_cohort_of_which_one_run_has_ended_is_left_to_its_owner() {
    let cells: Vec<Cell> = chain().into_iter().filter(|cell| cell.id.task == "mood").collect();
    two(&cells, 2, true);
}

#[test]
fn what_another_trained_of_the_next_level_is_not_trained_again() {
    // The first stands still after one of its runs, whose record is there, while the second trains all others, and what starts from them.
    two(&chain(), 1, false);
}

/// Counts the runs that ended here; when the first did, it moves the unfinished work away, as a process does that takes it over.
struct Robbed<'a> {
    counts: &'a Mutex<BTreeMap<String, usize>>,
    root: &'a Path,
    robs: AtomicBool,
}

impl Sink for Robbed<'_> {
    fn event(&self, event: &Event<'_>) {
        let Event::Finished { record } = event else { return };
        *self.counts.lock().unwrap().entry(record.cell.slug()).or_insert(0) += 1;
        if self.robs.swap(false, Ordering::Relaxed) {
            let partial = self.root.join("test/.partial");
            let entries = std::fs::read_dir(&partial).unwrap().map(|entry| entry.unwrap().path());
            let work = entries
                .into_iter()
                .find(|path| path.is_dir() && path.file_name().unwrap().to_string_lossy().starts_with("cohort-"));
            let work = work.unwrap();
            std::fs::rename(&work, work.with_extension("taken")).unwrap();
        }
    }
}

#[test]
fn nothing_is_written_of_work_that_was_taken_over_and_what_was_written_stays() {
    let cells: Vec<Cell> = chain().into_iter().filter(|cell| cell.id.task == "mood").collect();
    let root = tempfile::tempdir().unwrap();
    let counts = Mutex::default();
    let train = |robs: bool| {
        let sink = Robbed { counts: &counts, root: root.path(), robs: AtomicBool::new(robs) };
        run(&cache(DType::F32), &cells, root.path(), 2, &AtomicBool::new(false), &sink)
    };
    // The first loses its cohort between the records of its two runs.
    train(true).unwrap_err();
    assert_eq!(counts.lock().unwrap().len(), 1);
    // The second goes on from the checkpoint, in which both runs are.
    train(false).unwrap();
    each_once(&counts, &cells);
}
