//! Warm starts: order, what is taken over, what is drawn afresh, and when a dependent is trained again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{collections::BTreeMap, path::Path};

use burn::tensor::{DType, Device};
use experiment::cell::Cell;
use record::{CodeIdentity, RunRecord, Store, sha256_hex};
use trainer::{
    adapter,
    model_cache::ModelCache,
    sink::Silent,
    stop::Stop,
    study::{self, context::StudyContext, plan::CohortPlan},
};
use variants::{
    host::{Placement, values},
    role::Role,
};

fn cache() -> ModelCache {
    ModelCache::new(Placement::new(&Device::flex(), DType::F32))
}

fn yaml(tasks: &str, steps: usize) -> String {
    format!(
        "suite: glue_mini\nmodel: mini_roberta\ntasks: {tasks}\nseeds: [0, 1]\ntargets: [query]\nranks: [2]\n\
         train: {{steps: {steps}, batch: 4, max_length: 48, learning_rate: 1e-3}}\nvariants: [lora, dora]\n"
    )
}

fn cells(tasks: &str, steps: usize) -> Vec<Cell> {
    experiment::read(&yaml(tasks, steps), "test.yaml", "test", &[]).unwrap_or_else(|e| panic!("{e}")).cells().to_vec()
}

fn with<T>(root: &Path, act: impl FnOnce(&StudyContext<'_>) -> T) -> T {
    let store = Store::open(root, "test").unwrap();
    let code = CodeIdentity { code_hash: "test".into(), commit: "test".into(), dirty: true };
    act(&StudyContext {
        cache: &cache(),
        store: &store,
        code: &code,
        versions: &BTreeMap::new(),
        device: "flex",
        cohort: Some(2),
        workers: 2,
        among: 1,
        stays: true,
        lease: None,
        keeps_records: false,
        stop: Stop::NEVER,
    })
}

fn run(cells: &[Cell], root: &Path) -> Vec<RunRecord> {
    with(root, |context| {
        study::run(cells, context, &Silent).unwrap();
        study::records(cells, context.store).unwrap()
    })
}

fn file(root: &Path, slug: &str) -> Vec<u8> {
    std::fs::read(root.join("test/runs").join(slug).join("adapter.safetensors")).unwrap()
}

/// The dependent task stands first in the file, and is trained after its source all the same.
#[test]
fn a_run_starts_where_another_ended() {
    let root = tempfile::tempdir().unwrap();
    let all = cells("[{task: qnli, start_from: rte}, {task: rte, start_from: mnli}, mnli]", 3);
    let records = run(&all, root.path());
    assert_eq!(records.len(), 12);
    for record in &records {
        let slug = record.cell.slug();
        match (&record.start, record.cell.task.as_str()) {
            (None, "mnli") => {}
            (Some(start), _) => {
                let source = slug.replace("rte", "mnli").replace("qnli", "rte");
                assert_eq!(
                    (start.name.as_str(), &start.hash),
                    (source.as_str(), &sha256_hex(&file(root.path(), &source)))
                );
            }
            other => panic!("{slug}: {other:?}"),
        }
    }
    // Before its first step a run has the tensors of its source; the head where the classes are the same.
    with(root.path(), |context| {
        for (task, source, keeps_head) in [("rte", "mnli", false), ("qnli", "rte", true)] {
            let members: Vec<Cell> = all.iter().filter(|cell| cell.id.task == task).cloned().collect();
            let plan = CohortPlan::new(&members[..2], context).unwrap();
            let mut cohort = plan.build(context).unwrap();
            for (run, cell) in members[..2].iter().enumerate() {
                let path = root
                    .path()
                    .join("test/runs")
                    .join(cell.id.slug().replace(task, source))
                    .join("adapter.safetensors");
                let (_, mut network) = adapter::load(&path, context.cache).unwrap();
                let ended = adapter::tensors(&mut network, 0, 0);
                let (mut kept, mut fresh) = (0, 0);
                for named in cohort.network.parameters(0) {
                    let [_, rows, cols] = named.param.tensor.dims();
                    let ours = values(&named.param.tensor.clone().slice([run..run + 1, 0..rows, 0..cols]));
                    let theirs = values(&ended[&named.name]);
                    if named.param.role == Role::Head && !keeps_head {
                        fresh += usize::from(ours != theirs);
                    } else {
                        assert_eq!(ours, theirs, "{}: {}", cell.id, named.name);
                        kept += 1;
                    }
                }
                assert!(kept >= 8 && (fresh > 0) != keeps_head, "{}: {kept} kept, {fresh} fresh", cell.id);
            }
        }
    });
}

#[test]
fn a_new_source_makes_its_dependents_new() {
    let root = tempfile::tempdir().unwrap();
    let all = cells("[mnli, {task: rte, start_from: mnli}]", 2);
    run(&all, root.path());
    let times = |root: &Path| file(root, "rte-lora-r2-s0");
    let before = times(root.path());
    run(&all, root.path());
    assert_eq!(before, times(root.path()), "nothing changed, nothing ran");
    // Another recipe of the source alone.
    let longer = yaml("[{task: mnli, train: {steps: 4}}, {task: rte, start_from: mnli}]", 2);
    let again = experiment::read(&longer, "test.yaml", "test", &[]).unwrap_or_else(|e| panic!("{e}")).cells().to_vec();
    let records = run(&again, root.path());
    assert_ne!(before, times(root.path()));
    let rte = records.iter().find(|record| record.cell.slug() == "rte-lora-r2-s0").unwrap();
    assert_eq!(rte.start.as_ref().unwrap().hash, sha256_hex(&file(root.path(), "mnli-lora-r2-s0")));
}

#[test]
fn starts_that_cannot_be_are_refused_by_check() {
    #[track_caller]
    fn refused(tasks: &str, parts: &[&str]) {
        let message = experiment::read(&yaml(tasks, 2), "test.yaml", "test", &[]).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "`{message}` lacks `{part}`");
        }
    }
    refused("[{task: rte, start_from: rte}]", &["tasks[0].start_from", "leads back to itself"]);
    refused(
        "[{task: rte, start_from: mnli}, {task: mnli, start_from: rte}]",
        &["tasks[0].start_from", "tasks[1].start_from", "leads back to itself"],
    );
    refused("[{task: rte, start_from: mnlo}]", &["`mnlo`, which is no task of this experiment (`rte`)"]);
    // An adapter of another rank.
    let root = tempfile::tempdir().unwrap();
    run(&cells("[mnli]", 1), root.path());
    let adapter = root.path().join("test/runs/mnli-lora-r2-s0");
    let tasks = format!("[{{task: rte, start_from: {}}}]", adapter.display());
    let other = yaml(&tasks, 2).replace("ranks: [2]", "ranks: [3]");
    let message = experiment::read(&other, "test.yaml", "test", &[]).unwrap_err().to_string();
    assert!(message.contains("`lora` cannot start there") && message.contains("its rank is 2"), "{message}");
    // And one that fits, for the variant that it is of.
    let fits = yaml(&tasks, 2).replace("[lora, dora]", "[lora]");
    let good = experiment::read(&fits, "test.yaml", "test", &[]).unwrap_or_else(|e| panic!("{e}"));
    let records = run(good.cells(), root.path());
    assert!(records.iter().all(|record| record.start.is_some()));
}
