//! Progress and failures on stderr. Bars on a terminal, plain lines elsewhere.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    process::ExitCode,
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use trainer::{
    error::TrainError,
    sink::{Event, Sink},
};

/// How a command ends when it does not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The input is wrong; exit status 2.
    Input(String),
    /// A run failed; exit status 1.
    Run(anyhow::Error),
    /// Stopped by the user; exit status 130.
    Interrupted,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Run(error.into())
    }
}

/// One line to stderr. A closed stderr is no reason to stop.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Text to stdout; a closed pipe ends the output quietly, any other refusal is an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(anyhow::anyhow!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// What cannot be written, as on a full disk, is no fault of the input.
pub(crate) fn unwritten(error: TrainError) -> Failure {
    match error {
        TrainError::Record(error) => Failure::Run(error.into()),
        other => Failure::Input(other.to_string()),
    }
}

/// Makes a folder and those above it.
pub(crate) fn create_folder(path: &std::path::Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path)
        .map_err(|error| Failure::Input(format!("{}: cannot create the folder: {error}", path.display())))
}

/// Says what went wrong and with which status the process ends.
pub(crate) fn report(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Input(message) => {
            note(&format!("error: {message}"));
            ExitCode::from(2)
        }
        Failure::Run(error) => {
            note(&format!("error: {error:#}"));
            ExitCode::from(1)
        }
        Failure::Interrupted => {
            note("interrupted; everything is saved, and the same command continues where it stopped");
            ExitCode::from(130)
        }
    }
}

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
    cells: usize,
    finished: usize,
    losses: BTreeMap<String, f64>,
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
            cells: 0,
            finished: 0,
            losses: BTreeMap::new(),
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
        let rate = self.begun.elapsed().as_secs_f64() / (self.done - self.before).max(1) as f64;
        HumanDuration(Duration::from_secs_f64(rate * self.steps.saturating_sub(self.done) as f64)).to_string()
    }
}

impl Sink for Progress {
    fn event(&self, event: &Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::Planned { cells, finished, discarded, steps } => {
                (state.cells, state.finished, state.steps) = (*cells, *finished, *steps);
                state.begun = Instant::now();
                self.bar.set_length(*steps);
                self.line(&format!("{cells} cells, {finished} finished before, {steps} steps to do"));
                if *discarded > 0 {
                    self.line(&format!(
                        "{discarded} started before with another recipe, base, code or device: these begin again"
                    ));
                }
            }
            Event::Started { cells, step, .. } if *step > 0 => {
                state.done += step * cells.len() as u64;
                state.before += step * cells.len() as u64;
                self.bar.set_position(state.done);
                self.line(&format!("{}: goes on from step {step}", cells[0]));
            }
            Event::Started { .. } | Event::Evaluated { .. } => {}
            Event::Steps { taken, cell, entry, .. } => {
                state.done += *taken as u64;
                state.losses.insert(cell.slug(), entry.task_loss);
                self.bar.set_position(state.done);
                self.bar.set_message(format!("{cell}: loss {:.3}", entry.task_loss));
                if self.plain && state.printed.elapsed() > PAUSE {
                    state.printed = Instant::now();
                    note(&format!(
                        "{}/{} steps, {}/{} cells, {cell}: step {} loss {:.3}, about {} left",
                        state.done,
                        state.steps,
                        state.finished,
                        state.cells,
                        entry.step,
                        entry.task_loss,
                        state.left()
                    ));
                }
            }
            Event::Finished { record } => {
                state.finished += 1;
                let name = &record.primary_metric.name;
                let result = match (
                    &record.status,
                    record.evaluations.iter().rev().find(|e| e.readout.rank == record.cell.rank),
                ) {
                    (record::Status::Failed { step, reason }, _) => format!("failed at step {step}: {reason}"),
                    (_, Some(evaluation)) => format!("{name} {:.3} on {}", evaluation.metrics[name], evaluation.split),
                    (_, None) => "finished".to_owned(),
                };
                self.line(&format!(
                    "[{}/{}] {}: {result} ({:.0} s)",
                    state.finished,
                    state.cells,
                    record.cell,
                    record.measured.train_seconds + record.measured.eval_seconds
                ));
            }
        }
    }
}
