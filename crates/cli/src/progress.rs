//! Progress on stderr: bars on a terminal, plain lines elsewhere.

use std::{
    io::IsTerminal,
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use record::{CellId, Evaluation, Generated, RunRecord, Status, StepEntry};
use trainer::sink::{Event, Sink, Work};

use crate::terminal::note;

/// A bar of optimizer steps with the time left; hidden where stderr is no terminal.
pub(crate) fn step_bar(steps: u64) -> ProgressBar {
    let plain = !std::io::stderr().is_terminal();
    let target = if plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(steps), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} steps, {msg}, about {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Shows a study's progress.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    plain: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    begun: Instant,
    printed: Instant,
    steps: u64,
    done: u64,
    /// Of `done`, steps of an earlier call; they say nothing of this one's speed.
    before: u64,
    work: Work,
    /// Rows that were evaluated.
    evaluated: u64,
    cells: usize,
    finished: usize,
}

/// Pause between plain progress lines.
const PAUSE: Duration = Duration::from_secs(15);

impl Progress {
    /// A progress display on stderr.
    pub(crate) fn new() -> Self {
        let plain = !std::io::stderr().is_terminal();
        let bar = step_bar(0);
        let now = Instant::now();
        let state = State {
            begun: now,
            printed: now,
            steps: 0,
            done: 0,
            before: 0,
            work: Work::default(),
            evaluated: 0,
            cells: 0,
            finished: 0,
        };
        Self { bar, plain, state: Mutex::new(state) }
    }

    /// Clears the bar.
    pub(crate) fn close(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        if self.plain { note(text) } else { self.bar.println(text) }
    }
}

impl State {
    fn left(&self) -> String {
        HumanDuration(self.remaining(self.begun.elapsed())).to_string()
    }

    /// Time left after so much of it was spent: training rows that are left, and rows that are left to evaluate, which take a third each.
    fn remaining(&self, spent: Duration) -> Duration {
        let rows = self.work.rows as f64 / self.work.steps.max(1) as f64;
        let units = |steps: u64, evaluated: u64| steps as f64 * rows + evaluated as f64 / 3.0;
        let done = units((self.done - self.before).max(1), self.evaluated).max(1.0);
        let left = units(self.steps.saturating_sub(self.done), self.work.evaluated.saturating_sub(self.evaluated));
        Duration::from_secs_f64(spent.as_secs_f64() / done * left)
    }
}

impl Sink for Progress {
    fn event(&self, event: &Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::Planned { cells, finished, discarded, cohorts, work } => {
                let steps = work.steps;
                (state.cells, state.finished, state.steps) = (*cells, *finished, steps);
                (state.work, state.evaluated) = (*work, 0);
                // A tuning plans several times.
                (state.done, state.before) = (0, 0);
                state.begun = Instant::now();
                self.bar.reset();
                self.bar.set_length(steps);
                let cohorts = if *cohorts == 1 { "1 cohort".to_owned() } else { format!("{cohorts} cohorts") };
                self.line(&format!("{cells} cells, {finished} finished before, {steps} steps to do in {cohorts}"));
                if *discarded > 0 {
                    self.line(&format!(
                        "restarting {discarded} unfinished cohorts: their recipe, base, code or device has changed"
                    ));
                }
            }
            Event::WithoutAdapter { cells, first } => self.line(&format!(
                "{cells} finished cells have a record but no adapter, as in a fresh clone (first {first}): they are trained again, and \
                 their records replaced; `--keep-records` would keep them"
            )),
            Event::Renewed { cell, reason } => self.line(&format!("{cell}: {reason}; it is trained again")),
            Event::Restarted { runs, path, reason } => {
                self.line(&format!("{}: {reason}; {runs} unfinished runs restart from step 0", path.display()));
            }
            Event::Halved { runs } => self.line(&format!(
                "out of memory with {runs} runs at once: they restart from step 0 in two halves; `cohort: {}` asks for this from the start",
                runs.div_ceil(2)
            )),
            Event::Started { cells, step, .. } if *step > 0 => {
                state.done += step * cells.len() as u64;
                state.before += step * cells.len() as u64;
                self.bar.set_position(state.done);
                self.line(&format!("{}: resuming at step {step}", cells[0]));
            }
            Event::Started { .. } => {}
            Event::Evaluated { evaluation, .. } => state.evaluated += evaluation.examples as u64,
            Event::Steps { taken, cell, entry, .. } => {
                state.done += *taken as u64;
                self.bar.set_position(state.done);
                self.bar.set_message(format!("{cell}: loss {:.3}", entry.task_loss));
                if self.plain && state.printed.elapsed() > PAUSE {
                    state.printed = Instant::now();
                    note(&state.line(cell, entry));
                }
            }
            Event::EndedElsewhere { cells, steps } => {
                state.finished += cells;
                state.done += steps;
                state.before += steps;
                self.bar.set_position(state.done);
                if self.plain && state.printed.elapsed() > PAUSE {
                    state.printed = Instant::now();
                    note(&format!("{}/{} cells, some by other processes", state.finished, state.cells));
                }
            }
            Event::TakenOver { cells } => self.line(&format!(
                "another process has taken over {cells} cells: this one gave no sign of life for longer than `--patience`"
            )),
            Event::Waiting => self.line("nothing is left to begin; waiting for the runs of other processes"),
            Event::Shared { cohorts, leasing } => {
                self.line(&format!("trained {cohorts} cohorts here; the leases on them took {leasing:.1} s"));
            }
            Event::Finished { record } => {
                state.finished += 1;
                self.line(&state.finished(record));
            }
        }
    }
}

impl State {
    /// Where a study stands after a step of one of its cells.
    fn line(&self, cell: &CellId, entry: &StepEntry) -> String {
        format!(
            "{}/{} steps, {}/{} cells, {cell}: step {} loss {:.3}, about {} left",
            self.done,
            self.steps,
            self.finished,
            self.cells,
            entry.step,
            entry.task_loss,
            self.left()
        )
    }

    /// What a finished run came to.
    fn finished(&self, record: &RunRecord) -> String {
        let name = &record.primary_metric.name;
        // Whoever watches scores of the test split chooses by it, wanted or not.
        let of_cell = |evaluation: &&Evaluation| {
            evaluation.readout.rank == record.cell.rank && !evaluation.split.starts_with("test")
        };
        let result = match (&record.status, record.evaluations.iter().rev().find(of_cell)) {
            (Status::Failed { step, reason }, _) => format!("failed at step {step}: {reason}"),
            (_, Some(evaluation)) => {
                let cut = evaluation.generated.and_then(Generated::note).map(|note| format!(", {note}"));
                let why = evaluation.undefined.get(name).map(|why| format!(" ({why})")).unwrap_or_default();
                let score = evaluation.metrics[name];
                format!("{name} {score:.3}{why} on {}{}", evaluation.split, cut.unwrap_or_default())
            }
            (_, None) => "finished".to_owned(),
        };
        let seconds = record.measured.train_seconds + record.measured.eval_seconds;
        let unmoved = record.note_unmoved().map(|note| format!(", {note}")).unwrap_or_default();
        format!("[{}/{}] {}: {result}{unmoved} ({seconds:.0} s)", self.finished, self.cells, record.cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_counts_evaluation() {
        let now = Instant::now();
        let state = State {
            begun: now,
            printed: now,
            steps: 100,
            done: 100,
            before: 0,
            work: Work { steps: 100, rows: 1600, evaluated: 2400 },
            evaluated: 0,
            cells: 1,
            finished: 0,
        };
        // 1600 training rows took 16 s, so 2400 rows of evaluation take 8 s.
        let left = state.remaining(Duration::from_secs(16));
        assert!((left.as_secs_f64() - 8.0).abs() < 1e-9, "{left:?}");
    }
}
