//! The progress of a study that other processes train.

use std::{
    cell::{Cell as Slot, RefCell},
    io::IsTerminal,
    time::{Duration, Instant, SystemTime},
};

use experiment::cell::Cell;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use record::{Store, WORKER, holders};

use super::Lacking;
use crate::terminal::note;

/// Pause between two plain lines of progress.
const PAUSE: Duration = Duration::from_secs(15);

/// When a record was written, and how long it is.
type Stamp = (SystemTime, u64);

/// Progress of a study that others train.
pub(super) struct Watched<'a> {
    cells: &'a [Cell],
    store: &'a Store,
    /// Cells that were to be trained at the last look, each with the record that it had before, which is replaced.
    lacking: RefCell<Vec<(&'a Cell, Option<Stamp>)>>,
    bar: ProgressBar,
    plain: bool,
    begun: Instant,
    before: usize,
    printed: Slot<Option<Instant>>,
}

impl<'a> Watched<'a> {
    /// Of cells of which these are to be trained.
    pub(super) fn new(cells: &'a [Cell], lacking: &Lacking, store: &'a Store) -> Self {
        let plain = !std::io::stderr().is_terminal();
        let target = if plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(cells.len() as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} cells, {msg}") {
            bar.set_style(style);
        }
        let lacks = |cell: &'a Cell| Some((cell, *lacking.get(&cell.id.slug())?));
        let lacking = RefCell::new(cells.iter().filter_map(lacks).collect());
        let begun = Instant::now();
        let mut own = Self { cells, store, lacking, bar, plain, begun, before: 0, printed: Slot::new(None) };
        own.before = cells.len() - own.open();
        own
    }

    /// How many cells are still to be trained.
    pub(super) fn open(&self) -> usize {
        let mut lacking = self.lacking.borrow_mut();
        lacking.retain(|(cell, before)| {
            let now = self.store.record_stamp(&cell.id);
            now.is_none() || now == *before
        });
        lacking.len()
    }

    /// Shows how far it is; `what` is who is at work besides, where there is something to say.
    pub(super) fn show(&self, what: &str) {
        let done = self.cells.len() - self.open();
        let left = match done.saturating_sub(self.before) {
            0 => String::new(),
            _ if done == self.cells.len() => String::new(),
            made => {
                let each = self.begun.elapsed().as_secs_f64() / made as f64;
                let left = Duration::from_secs_f64(each * (self.cells.len() - done) as f64);
                format!(", about {} left", HumanDuration(left))
            }
        };
        let mut at_work = holders(&self.store.leases_dir(), WORKER).unwrap_or_default();
        at_work.retain(|(_, holder)| !holder.is_dead_here());
        let first = at_work.iter().map(|(_, holder)| &holder.note).find(|note| !note.is_empty());
        let doing = first.map(|note| format!(", {note}")).unwrap_or_default();
        let workers = if at_work.len() == 1 { "worker" } else { "workers" };
        let message = format!("{} {workers}{what}{doing}{left}", at_work.len());
        self.bar.set_position(done as u64);
        self.bar.set_message(message.clone());
        // The first look says nothing that the start did not.
        let is_due = self.printed.get().is_none_or(|printed| printed.elapsed() > PAUSE);
        if self.plain && is_due && self.printed.replace(Some(Instant::now())).is_some() {
            note(&format!("{done}/{} cells, {message}", self.cells.len()));
        }
    }

    /// Says something above the progress.
    pub(super) fn line(&self, text: &str) {
        if self.plain { note(text) } else { self.bar.println(text) }
    }

    pub(super) fn close(&self) {
        self.bar.finish_and_clear();
    }
}
