//! Checkpoints that do not fit their cohort, though their checksums are right: each is said, and the cohort begins afresh.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/study.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use assets::tensor_file;
use burn::tensor::DType;
use experiment::cell::Cell;
use models::safetensors::Stored;
use serde_json::Value;
use support::{cache, cells, finish, run, store, tensors};
use trainer::{
    error::TrainError,
    sink::{Event, Sink},
};

// Everything that a checkpoint may hold: a best state, and averages, allocations and diagonals of a budget.
const YAML: &str = "suite: glue_mini\nmodel: mini_roberta\ntasks: [rte]\nseeds: [0]\ntargets: [query]\n\
train: {steps: 8, batch: 4, max_length: 64, learning_rate: 1e-3, evaluate_every: 2, select: best}\n\
variants: [{preset: adalora, ranks: [3], with: {rank_policy: {target_rank: 2, initial_steps: 1, final_steps: 3, interval: 1}}}]\n";

/// Stops a study after a number of steps.
struct StopAfter<'a>(AtomicU64, &'a AtomicBool);

impl Sink for StopAfter<'_> {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Steps { .. }) && self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

/// The checkpoint of a study that was stopped after seven steps.
fn interrupted(cells: &[Cell], root: &Path) -> PathBuf {
    let stop = AtomicBool::new(false);
    let ended = run(&cache(DType::F32), cells, root, 1, &stop, &StopAfter(AtomicU64::new(7), &stop));
    assert!(matches!(ended, Err(TrainError::Interrupted)), "{ended:?}");
    checkpoint(root)
}

fn checkpoint(root: &Path) -> PathBuf {
    let mut folders = fs::read_dir(store(root).partial_dir()).unwrap().map(|entry| entry.unwrap().path());
    folders.find(|path| path.is_dir()).unwrap().join("checkpoint.safetensors")
}

/// An interrupted study once more, and its checkpoint: it need not be trained for every damage.
fn copy_of(study: &Path) -> (tempfile::TempDir, PathBuf) {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
            let at = to.join(entry.file_name().unwrap());
            if entry.is_dir() {
                copy(&entry, &at);
            } else {
                fs::copy(&entry, &at).unwrap();
            }
        }
    }
    let root = tempfile::tempdir().unwrap();
    copy(study, root.path());
    let path = checkpoint(root.path());
    (root, path)
}

/// Why cohorts begin afresh.
#[derive(Default)]
struct Restarts(Mutex<Vec<String>>);

impl Sink for Restarts {
    fn event(&self, event: &Event<'_>) {
        if let Event::Restarted { reason, .. } = event {
            self.0.lock().unwrap().push((*reason).to_owned());
        }
    }
}

type Change = fn(&mut Vec<Stored>, &mut Value);

fn named<'a>(all: &'a mut [Stored], prefix: &str) -> &'a mut Stored {
    all.iter_mut().find(|one| one.name.starts_with(prefix)).unwrap_or_else(|| panic!("no tensor is called {prefix}"))
}

/// A tensor of a checkpoint without its last row.
fn shorten(stored: &mut Stored) {
    let rows = stored.shape[1];
    stored.data.truncate(stored.data.len() / rows * (rows - 1));
    stored.shape[1] = rows - 1;
}

fn first_of(object: &mut Value) -> &mut Value {
    object.as_object_mut().unwrap().values_mut().next().unwrap()
}

const CHANGES: [(&str, Change); 16] = [
    ("is missing", |all, _| all.retain(|one| !one.name.starts_with("0/best0/"))),
    ("but the run's is", |all, _| shorten(named(all, "0/best0/"))),
    ("but the run's is", |all, _| shorten(named(all, "0/value/"))),
    ("but the run's is", |all, _| shorten(named(all, "0/first/"))),
    ("but the run's is", |all, _| shorten(named(all, "0/second/"))),
    ("is missing", |all, _| {
        let name = named(all, "0/second/").name.clone();
        all.retain(|one| one.name != name);
    }),
    ("has 0 counts, not 1", |_, meta| *first_of(&mut meta["counts"]) = Value::Array(Vec::new())),
    ("names nothing that trains", |_, meta| meta["counts"]["0/nobody"] = Value::from(vec![1])),
    ("belongs to nothing in this cohort", |all, _| all.push(Stored::of("7/value/x", vec![1, 1, 1], [0.0_f32]))),
    ("belongs to nothing in this cohort", |_, meta| meta["members"][0][0]["best"] = Value::Null),
    ("its runs are not those of this cohort", |_, meta| meta["members"][0] = Value::Array(Vec::new())),
    ("is not in this cohort", |_, meta| meta["members"][0][0]["slug"] = "another".into()),
    ("keeps other components", |_, meta| {
        *first_of(&mut meta["members"][0][0]["kept"]) = Value::Array(Vec::new());
    }),
    ("it is at step 9, but its runs have 8", |_, meta| meta["step"] = 9.into()),
    ("it is of the cohort `other`, not of `", |_, meta| meta["cohort"] = "other".into()),
    ("of the frozen base is not what it was", |_, meta| *first_of(&mut meta["base"]) = "0".into()),
];

#[test]
fn a_checkpoint_that_does_not_fit_restarts_its_cohort() {
    let cells = cells(YAML, &[]);
    let whole = tempfile::tempdir().unwrap();
    let wanted = finish(&cells, whole.path(), 1).remove(0);
    let parts = tempfile::tempdir().unwrap();
    let path = interrupted(&cells, parts.path());
    let averages: Vec<String> = {
        let (all, _) = tensor_file::read_own(&path, "checkpoint").unwrap();
        let kinds = ["value", "first", "second", "best0"].map(|of| format!("0/{of}/"));
        all.into_iter().map(|one| one.name).filter(|name| !kinds.iter().any(|of| name.starts_with(of))).collect()
    };
    assert!(!averages.is_empty(), "a budget keeps averages");
    for (wanted_reason, change) in CHANGES {
        let (root, path) = copy_of(parts.path());
        let (mut all, text) = tensor_file::read_own(&path, "checkpoint").unwrap();
        let mut meta: Value = serde_json::from_str(&text).unwrap();
        change(&mut all, &mut meta);
        fs::write(&path, tensor_file::encode(&all, "checkpoint", &meta.to_string()).unwrap()).unwrap();
        restarts(&cells, root.path(), wanted_reason);
        assert_eq!(tensors(&cells[0], root.path()), tensors(&cells[0], whole.path()));
    }
    // An average that is not there.
    let (all, text) = tensor_file::read_own(&path, "checkpoint").unwrap();
    let bytes = |all: &[Stored]| tensor_file::encode(all, "checkpoint", &text).unwrap();
    let whole_bytes = fs::read(&path).unwrap();
    assert_eq!(bytes(&all), whole_bytes);
    let (root, path) = copy_of(parts.path());
    let (mut all, text) = tensor_file::read_own(&path, "checkpoint").unwrap();
    all.retain(|one| one.name != averages[0]);
    fs::write(&path, tensor_file::encode(&all, "checkpoint", &text).unwrap()).unwrap();
    restarts(&cells, root.path(), "is missing");
    // And one that is whole goes on.
    let records = run(&cache(DType::F32), &cells, parts.path(), 1, &AtomicBool::new(false), &Restarts::default());
    let got = records.unwrap().remove(0);
    assert_eq!((got.resumed_at, got.steps, got.evaluations), (vec![7], wanted.steps, wanted.evaluations));
    assert_eq!(tensors(&cells[0], parts.path()), tensors(&cells[0], whole.path()));
}

/// The next session says why a cohort begins afresh, and ends.
#[track_caller]
fn restarts(cells: &[Cell], root: &Path, reason: &str) {
    let said = Restarts::default();
    let records = run(&cache(DType::F32), cells, root, 1, &AtomicBool::new(false), &said).unwrap();
    let said = said.0.into_inner().unwrap();
    assert!(said.len() == 1 && said[0].contains(reason), "`{reason}`: {said:?}");
    assert!(records[0].is_finished() && records[0].resumed_at.is_empty());
}

#[test]
fn a_checkpoint_without_checksum_or_with_another_description_restarts_its_cohort() {
    let cells = cells(YAML, &[]);
    let edits: [fn(&mut Value); 3] = [
        |meta| drop(meta.as_object_mut().unwrap().remove("checksum")),
        |meta| meta["step"] = 3.into(),
        |meta| meta["members"][0][0]["stale"] = 1.into(),
    ];
    let parts = tempfile::tempdir().unwrap();
    interrupted(&cells, parts.path());
    for edit in edits {
        let (root, path) = copy_of(parts.path());
        let bytes = fs::read(&path).unwrap();
        let file = models::safetensors::read(&bytes).unwrap();
        let mut meta: Value = serde_json::from_str(&file.texts["checkpoint"]).unwrap();
        edit(&mut meta);
        let all = file.into_stored();
        fs::write(&path, models::safetensors::write(&all, Some(("checkpoint", &meta.to_string()))).unwrap()).unwrap();
        restarts(&cells, root.path(), "checksum");
    }
}
