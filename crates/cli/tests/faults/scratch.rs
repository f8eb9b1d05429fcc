//! A scratch folder with a study of its own, and the program run on it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Two tasks, three methods, two seeds in cohorts of two; every kind of file that a study writes: checkpoints, journals, snapshots,
/// adapters, records, tables, figures.
const GRID: &str = "\
# A grid that faults are made on.
suite: glue_mini
model: mini_roberta
tasks: [sst2, rte]
seeds: [0, 1]
targets: [query, value]
ranks: [2]
cohort: 2
train: {steps: 6, batch: 4, learning_rate: 1e-3, checkpoint_every: 2, evaluate_every: 3, snapshot_every: 3}
variants: [lora, dylora, {preset: adalora, with: {rank_policy: {target_rank: 1, warmup: 1, final_steps: 1}}}]
baseline: lora
";

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
        fs::write(folder.path().join("grid.yaml"), yaml).unwrap();
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
        COMMANDS.map(|command| {
            let since = Instant::now();
            let output = self.output(command);
            assert!(output.status.success(), "{command}: {:?}\n{}", output.status, said(&output));
            since.elapsed()
        })
    }

    /// Waits until an unfinished cohort has a checkpoint, or the process has ended.
    pub(crate) fn await_checkpoint(&self, child: &mut Child) -> Vec<PathBuf> {
        loop {
            let found = self.unfinished("checkpoint.safetensors");
            if !found.is_empty() || child.try_wait().unwrap().is_some() {
                return found;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
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
