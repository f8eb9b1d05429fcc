//! Runs that are made again: what an earlier one has left is neither taken for the new one's nor lost unasked.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/study.rs"]
mod support;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use burn::tensor::DType;
use experiment::{cell::Cell, start::StartFrom};
use record::RunRecord;
use support::{cache, cells, finish, run, store};
use trainer::{
    adapter,
    error::TrainError,
    sink::{Event, Silent, Sink},
    study::{self, Forget},
};

const YAML: &str = "suite: glue_mini\nmodel: mini_roberta\ntasks: [rte]\nseeds: [0, 1]\ntargets: [query, value]\nranks: [2]\n\
train: {steps: 4, batch: 4, max_length: 64, checkpoint_every: 2, learning_rate: 1e-3}\nvariants: [lora]\n";

/// Runs cells once more; what is said of them and where their cohorts start.
fn again(cells: &[Cell], root: &Path) -> (Result<Vec<RunRecord>, TrainError>, Vec<String>) {
    support::again(cells, root, &|event| match event {
        Event::Started { step, .. } => Some(format!("started at {step}")),
        other => support::of_cells(other),
    })
}

/// Stops a study once a cohort has started and made a step.
struct StopAtOnce<'a>(&'a AtomicBool);

impl Sink for StopAtOnce<'_> {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Steps { .. }) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn interrupt(cells: &[Cell], root: &Path) {
    let stop = AtomicBool::new(false);
    let ended = run(&cache(DType::F32), cells, root, 2, &stop, &StopAtOnce(&stop));
    assert!(matches!(ended, Err(TrainError::Interrupted)), "{ended:?}");
}

#[test]
fn the_adapter_of_an_earlier_training_is_nobodys() {
    let cells = cells(YAML, &["seeds=[0]"]);
    let root = tempfile::tempdir().unwrap();
    finish(&cells, root.path(), 1);
    let path = store(root.path()).adapter_path(&cells[0].id);
    let old = fs::read(&path).unwrap();
    // The same cell under another recipe, which fails: nothing moves at a rate that is 0 in the numbers' precision.
    let mut failing = cells.clone();
    failing[0].recipe.train.learning_rate = 1e-300;
    let records = finish(&failing, root.path(), 1);
    assert!(!records[0].is_finished() && !path.exists());
    let load = || adapter::load(&path, &cache(DType::F32)).unwrap_err().to_string();
    assert!(load().contains("adapter.safetensors"));
    // One that is there all the same, from a copy or a kill, is refused by whoever reads it.
    fs::write(&path, &old).unwrap();
    let message = load();
    assert!(message.contains("failed at step 4 (no tensor that trains has moved"), "{message}");
    let folder = store(root.path()).run_dir(&cells[0].id);
    let tasks = format!("[{{task: rte, start_from: {}}}]", folder.display());
    let starting = support::cells(&YAML.replace("[rte]", &tasks), &["seeds=[0]"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let message = again(&starting, elsewhere.path()).0.unwrap_err().to_string();
    assert!(message.contains("failed at step 4"), "{message}");
    // Training removes it at its first step, so that a kill leaves none either.
    fs::write(&path, &old).unwrap();
    study::forget(&cells, &store(root.path()), Forget::Failed).unwrap();
    fs::create_dir_all(&folder).unwrap();
    fs::write(&path, &old).unwrap();
    interrupt(&failing, root.path());
    assert!(!path.exists());
}

#[test]
fn a_fresh_clone_is_trained_again_and_says_so() {
    let cells = cells(YAML, &[]);
    let root = tempfile::tempdir().unwrap();
    finish(&cells, root.path(), 2);
    let path = |seed: usize| store(root.path()).adapter_path(&cells[seed].id);
    let old = fs::read(path(0)).unwrap();
    fs::remove_file(path(0)).unwrap();
    fs::remove_file(path(1)).unwrap();
    let (records, said) = again(&cells, root.path());
    assert_eq!(said, ["2 without adapter, first rte/lora rank 2 seed 0", "started at 0"]);
    assert_eq!((records.unwrap().len(), fs::read(path(0)).unwrap()), (2, old));
    // An interrupted one of these runs has removed the adapter itself, which is nothing to say.
    fs::remove_file(path(0)).unwrap();
    interrupt(&cells, root.path());
    let (records, said) = again(&cells, root.path());
    assert_eq!(said, ["started at 1"]);
    assert!(records.unwrap()[0].resumed_at == [1]);
}

/// A clone that keeps its records trains what was added, and what another run starts from.
#[test]
fn a_clone_may_keep_its_records() {
    let both = cells(YAML, &[]);
    let root = tempfile::tempdir().unwrap();
    finish(&both[..1], root.path(), 1);
    let store = store(root.path());
    let bytes = |cell: &Cell| fs::read(store.record_path(&cell.id)).unwrap();
    let (old, path) = (bytes(&both[0]), store.adapter_path(&both[0].id));
    fs::remove_file(&path).unwrap();
    let kept = |cells: &[Cell]| {
        let stop = AtomicBool::new(false);
        support::run_keeping(true, &cache(DType::F32), cells, root.path(), 2, &stop, &Silent).unwrap()
    };
    assert_eq!(kept(&both).len(), 2);
    assert!(bytes(&both[0]) == old && !path.exists(), "it stays as it is");
    let mut starting = both.clone();
    starting[1].recipe.start_from = Some(StartFrom::Cell(both[0].id.clone()));
    study::forget(&starting[1..], &store, Forget::All).unwrap();
    kept(&starting);
    assert!(path.exists(), "what a run starts from is trained again");
}

/// A table of texts with a label, as a task of one's own.
fn custom(folder: &Path, labels: [&str; 2], task: &str) -> Vec<Cell> {
    let rows: String = (0..8).map(|n| format!("the dog runs {n},{}\n", labels[n % 2])).collect();
    for file in ["train.csv", "dev.csv"] {
        fs::write(folder.join(file), format!("sentence,mood\n{rows}")).unwrap();
    }
    let yaml = format!(
        "suite: custom\ndata: {}\nmodel: mini_roberta\nseeds: [0]\ntargets: [query]\nranks: [2]\n\
         tasks: [{{task: {{name: mood, train: train.csv, dev: dev.csv, text: sentence, label: mood, metrics: [accuracy]}}{task}}}]\n\
         train: {{steps: 2, batch: 4, learning_rate: 1e-3}}\nvariants: [lora]\n",
        folder.display()
    );
    support::cells(&yaml, &[])
}

/// A run is refused for a reason, before anything is trained; what is on disk stays as it is.
#[track_caller]
fn refused(cells: &[Cell], root: &Path, reason: &str) {
    let files = |id| (fs::read(store(root).record_path(id)).unwrap(), fs::read(store(root).adapter_path(id)).unwrap());
    let before = files(&cells[0].id);
    let (ended, said) = again(cells, root);
    let Err(TrainError::WouldReplace { cells: 1, what, .. }) = &ended else { panic!("{ended:?}") };
    assert!(what.contains(reason), "{what}");
    let message = ended.unwrap_err().to_string();
    assert!(message.contains("`--force` replaces them") && message.contains(&cells[0].id.to_string()), "{message}");
    assert_eq!((said.len(), files(&cells[0].id)), (0, before));
}

#[test]
fn a_record_of_other_data_another_base_or_another_start_is_not_replaced_unasked() {
    let (data, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cells = custom(data.path(), ["neg", "pos"], "");
    let first = finish(&cells, root.path(), 1).remove(0);
    custom(data.path(), ["pos", "neg"], "");
    refused(&cells, root.path(), "its data, `mood`, is another now");
    // As `--force` does.
    study::forget(&cells, &store(root.path()), Forget::All).unwrap();
    let mut second = finish(&cells, root.path(), 1).remove(0);
    assert_ne!(first.data_hash, second.data_hash);
    // The record of a run on another base of the same name.
    second.model_hash = "another".to_owned();
    store(root.path()).write(&second).unwrap();
    refused(&cells, root.path(), "its base, `mini_roberta`, is another now");
    // A run that starts from the adapter of another, which is trained again with another seed.
    study::forget(&cells, &store(root.path()), Forget::All).unwrap();
    finish(&cells, root.path(), 1);
    let folder = store(root.path()).run_dir(&cells[0].id);
    let later = tempfile::tempdir().unwrap();
    let starting = custom(data.path(), ["pos", "neg"], &format!(", start_from: {}", folder.display()));
    finish(&starting, later.path(), 1);
    study::forget(&cells, &store(root.path()), Forget::All).unwrap();
    let mut other = cells.clone();
    other[0].recipe.seeds.data = 7;
    finish(&other, root.path(), 1);
    refused(&starting, later.path(), "its start, `");
}

#[test]
fn a_cell_whose_source_was_trained_again_follows_it_and_says_so() {
    let yaml = YAML.replace("[rte]", "[mnli, {task: rte, start_from: mnli}]");
    let cells = cells(&yaml, &["seeds=[0]"]);
    let root = tempfile::tempdir().unwrap();
    finish(&cells, root.path(), 1);
    // The source alone, in a session that ended before its dependent: another file, as another machine makes it.
    let mut source = cells[..1].to_vec();
    source[0].recipe.seeds.data = 7;
    let mut record = finish(&source, root.path(), 1).remove(0);
    let planned = study::identity::spec_of(&cells[0]);
    (record.spec_hash, record.spec) = (record::spec_hash(&planned), planned);
    store(root.path()).write(&record).unwrap();
    let (records, said) = again(&cells, root.path());
    assert_eq!(
        said,
        [
            "rte/lora rank 2 seed 0: it starts from mnli/lora rank 2 seed 0, whose adapter is another now",
            "started at 0"
        ]
    );
    assert_eq!(records.unwrap()[1].start.as_ref().unwrap().hash, record.adapter_hash.unwrap());
}

#[test]
fn an_unfinished_cohort_whose_list_of_runs_cannot_be_read_is_kept() {
    let cells = cells(YAML, &[]);
    let root = tempfile::tempdir().unwrap();
    interrupt(&cells, root.path());
    let all = || fs::read_dir(store(root.path()).partial_dir()).unwrap().map(|entry| entry.unwrap().path());
    let folders = || all().filter(|path| path.is_dir());
    let folder = folders().next().unwrap();
    let (list, checkpoint) = (folder.join("members.json"), folder.join("checkpoint.safetensors"));
    let (whole, saved) = (fs::read(&list).unwrap(), fs::read(&checkpoint).unwrap());
    // A folder in its place is refused by the system, for the superuser too.
    fs::remove_file(&list).unwrap();
    fs::create_dir(&list).unwrap();
    let message = again(&cells, root.path()).0.unwrap_err().to_string();
    assert!(message.contains("members.json"), "{message}");
    assert_eq!(fs::read(&checkpoint).unwrap(), saved);
    fs::remove_dir(&list).unwrap();
    fs::write(&list, &whole).unwrap();
    let (records, said) = again(&cells, root.path());
    assert!(records.is_ok() && said == ["started at 1"], "{said:?}");
    // One that is torn names nobody.
    study::forget(&cells, &store(root.path()), Forget::All).unwrap();
    interrupt(&cells, root.path());
    fs::write(&list, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(again(&cells, root.path()).1, ["started at 0"]);
    assert_eq!(folders().count(), 0);
    // Whoever wants everything to go needs no list.
    study::forget(&cells, &store(root.path()), Forget::All).unwrap();
    interrupt(&cells, root.path());
    fs::remove_file(&list).unwrap();
    fs::create_dir(&list).unwrap();
    study::forget(&cells, &store(root.path()), Forget::All).unwrap();
    assert_eq!(folders().count(), 0);
}
