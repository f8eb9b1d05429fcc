//! A scratch folder with a study of its own, and the program run on it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Two tasks on one short table, three methods, two seeds, in cohorts of two; every kind of file that a study writes: checkpoints,
/// journals, snapshots, adapters, records, tables, figures.
pub(crate) const GRID: &str = "\
# A grid that faults are made on.
suite: custom
data: .
model: mini_roberta
tasks:
  - task: {name: mood, train: train.csv, dev: dev.csv, text: text, label: mood}
  - task: {name: size, train: train.csv, dev: dev.csv, text: text, label: size}
seeds: [0, 1]
targets: [query]
layers_to_transform: [0, 1]
ranks: [2]
cohort: 2
train: {steps: 6, batch: 4, max_length: 16, learning_rate: 1e-2, checkpoint_every: 2, evaluate_every: 3, snapshot_every: 3}
variants: [lora, dylora, {preset: adalora, with: {rank_policy: {target_rank: 1, initial_steps: 1, final_steps: 1, interval: 1}}}]
baseline: lora
";

const PARTS: [&str; 6] = [
    "the boy sees a big dog",
    "a girl likes the small cat",
    "no man finds the old house",
    "the woman reads a new book",
    "some birds sing",
    "a child never runs",
];

/// Rows of two sentences each with two labels.
fn rows(shift: usize) -> String {
    let row = |at: usize| {
        let (first, second) = (PARTS[(at * 5 + shift) % 6], PARTS[(at + shift) % 6]);
        let (mood, size) = (["good", "bad"][at % 2], ["big", "small"][at / 2 % 2]);
        format!("{first} {second},{mood},{size}\n")
    };
    (0..24).map(row).fold("text,mood,size\n".to_owned(), |text, row| text + &row)
}

/// The three commands that lead from nothing to figures.
pub(crate) const COMMANDS: [&str; 3] = ["run", "table", "figures"];

/// A folder with `grid.yaml` and `results`.
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::with(GRID)
    }

    pub(crate) fn with(yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("grid.yaml", yaml), ("train.csv", &rows(0)), ("dev.csv", &rows(1))] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `results/grid`.
    pub(crate) fn results(&self) -> PathBuf {
        self.folder().join("results/grid")
    }

    /// The program in this folder.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.folder()).stdin(Stdio::null());
        command
    }

    /// One of [`COMMANDS`] in the background. The number of workers is given, so that a moment means the same on every machine.
    pub(crate) fn start(&self, command: &str) -> Child {
        self.of(command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn of(&self, command: &str) -> Command {
        let mut program = self.program();
        program.args([command, "grid.yaml"]);
        if command == "run" {
            program.args(["--workers", "2"]);
        }
        program
    }

    /// One of [`COMMANDS`] to its end.
    pub(crate) fn output(&self, command: &str) -> Output {
        self.of(command).output().unwrap()
    }

    /// All [`COMMANDS`] to their ends, which must be good; the time that each took.
    #[track_caller]
    pub(crate) fn finish(&self) -> [Duration; 3] {
        COMMANDS.map(|command| self.finish_command(command))
    }

    /// The study to its tables.
    #[track_caller]
    pub(crate) fn finish_tables(&self) {
        self.finish_command("run");
    }

    #[track_caller]
    fn finish_command(&self, command: &str) -> Duration {
        let since = Instant::now();
        let output = self.output(command);
        assert!(output.status.success(), "{command}: {:?}\n{}", output.status, said(&output));
        since.elapsed()
    }

    /// A `run` that has a checkpoint of an unfinished cohort, and is stopped (SIGSTOP) so that it stays there.
    pub(crate) fn at_checkpoint(&self) -> Child {
        let mut child = self.start("run");
        loop {
            assert!(child.try_wait().unwrap().is_none(), "it ended before a checkpoint was seen");
            if !self.unfinished("checkpoint.safetensors").is_empty() {
                signal(&child, "STOP");
                if !self.unfinished("checkpoint.safetensors").is_empty() {
                    return child;
                }
                signal(&child, "CONT");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The same, killed there.
    pub(crate) fn kill_at_checkpoint(&self) {
        let mut child = self.at_checkpoint();
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    }

    /// Files of unfinished cohorts whose names end in `end`.
    pub(crate) fn unfinished(&self, end: &str) -> Vec<PathBuf> {
        let files = crate::outcome::files(&self.results().join(".partial"));
        files.into_iter().filter(|path| path.to_string_lossy().ends_with(end)).collect()
    }
}

pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_lora-lab")
}

/// Sends a signal by its name.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success(), "no process to send {name} to");
}

/// What a command wrote to stderr.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A command that does what no fault excuses: panics, or ends by a signal or a status that the guide does not list.
#[track_caller]
pub(crate) fn failed_well(output: &Output, statuses: &[i32]) {
    let said = said(output);
    assert!(!said.contains("panicked"), "{said}");
    assert!(output.status.code().is_some_and(|code| statuses.contains(&code)), "{:?}\n{said}", output.status);
    assert!(said.contains("error: ") || said.contains("interrupted"), "{said}");
}
