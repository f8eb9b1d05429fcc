//! Sequences of tasks: what a run keeps of the tasks before it, and how it is judged on them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/study.rs"]
mod support;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use burn::tensor::DType;
use experiment::cell::Cell;
use record::{CellId, CodeIdentity, RunRecord};
use support::{finish, run, store, tensors};
use trainer::{
    adapter,
    error::TrainError,
    sink::{Event, Sink},
    stop::Stop,
    study::{context::StudyContext, plan::CohortPlan},
};
use variants::{base_update::AnyBaseUpdate, host::values, pass::Active};

const RANK: usize = 2;

fn yaml(tasks: &str, variants: &str) -> String {
    format!(
        "suite: glue_mini\nmodel: mini_roberta\ntasks: {tasks}\nseeds: [0, 1]\ntargets: [query, value]\nranks: [{RANK}]\n\
         train: {{steps: 6, batch: 4, max_length: 48, learning_rate: 3e-3, checkpoint_every: 2}}\nvariants: {variants}\n"
    )
}

const TASKS: &str = "[mnli, {task: rte, start_from: mnli}, {task: sst2, start_from: rte}]";

fn cells(tasks: &str, variants: &str) -> Vec<Cell> {
    support::cells(&yaml(tasks, variants), &[])
}

fn id(task: &str, variant: &str, seed: u64) -> CellId {
    CellId { task: task.to_owned(), variant: variant.to_owned(), rank: RANK, seed }
}

fn of<'a>(cells: &'a [Cell], id: &CellId) -> &'a Cell {
    cells.iter().find(|cell| cell.id == *id).unwrap()
}

/// The tensors of a run that end in `.name`, by map.
fn named(all: &BTreeMap<String, Vec<f64>>, name: &str) -> BTreeMap<String, Vec<f64>> {
    let end = format!(".{name}");
    let of = |(full, values): (&String, &Vec<f64>)| Some((full.strip_suffix(&end)?.to_owned(), values.clone()));
    all.iter().filter_map(of).collect()
}

/// The columns of row-major matrices, concatenated.
fn columns(parts: &[&Vec<f64>], rows: usize) -> Vec<f64> {
    let row = |at: usize| parts.iter().flat_map(move |part| part.chunks(part.len() / rows).nth(at).unwrap().to_vec());
    (0..rows).flat_map(row).collect()
}

#[test]
fn adapters_of_earlier_tasks_stay_beside_the_base_bit_for_bit() {
    let root = tempfile::tempdir().unwrap();
    let all = cells(TASKS, "[lora, inc_lora, o_lora]");
    finish(&all, root.path(), 6);
    let read = |id: &CellId| tensors(of(&all, id), root.path());
    for seed in [0, 1] {
        // The first task has nothing before it.
        let first = read(&id("mnli", "lora", seed));
        for variant in ["inc_lora", "o_lora"] {
            assert_eq!(read(&id("mnli", variant, seed)), first, "{variant}");
            let [one, two, three] = ["mnli", "rte", "sst2"].map(|task| read(&id(task, variant, seed)));
            let [a1, b1] = ["a", "b"].map(|name| named(&one, name));
            let [a2, b2] = ["a", "b"].map(|name| named(&two, name));
            assert!(named(&one, "accumulated_a").is_empty() && !a1.is_empty());
            for (map, a1) in &a1 {
                let d = a1.len() / RANK;
                assert_eq!(named(&two, "accumulated_a")[map], *a1, "{variant}: {map}");
                assert_eq!(named(&two, "accumulated_b")[map], b1[map], "{variant}: {map}");
                assert_eq!(named(&three, "accumulated_a")[map], columns(&[a1, &a2[map]], d), "{variant}: {map}");
                assert_eq!(named(&three, "accumulated_b")[map], [b1[map].clone(), b2[map].clone()].concat());
                assert!(b1[map].iter().any(|value| *value != 0.0), "it has learnt something");
            }
        }
        // One adapter for all tasks.
        assert!(named(&read(&id("sst2", "lora", seed)), "accumulated_a").is_empty());
        assert_ne!(read(&id("sst2", "o_lora", seed)), read(&id("sst2", "inc_lora", seed)), "the penalty acts");
    }
    let counts: Vec<usize> = ["mnli", "rte", "sst2"]
        .map(|task| of(&all, &id(task, "o_lora", 0)).recipe.variant.base_update.adapters())
        .to_vec();
    assert_eq!(counts, [0, 1, 2]);
}

/// Before its first step a run has the update that its source ended with, and factors that no task before it began with.
#[test]
fn a_task_begins_at_the_update_that_the_last_one_ended_with() {
    let root = tempfile::tempdir().unwrap();
    let all = cells(TASKS, "[inc_lora]");
    finish(&all, root.path(), 2);
    let (cache, store) = (support::cache(DType::F32), store(root.path()));
    let code = CodeIdentity { code_hash: "test".into(), commit: "test".into(), dirty: true };
    let context = &StudyContext {
        cache: &cache,
        store: &store,
        code: &code,
        versions: &BTreeMap::new(),
        device: "flex",
        cohort: Some(2),
        workers: 1,
        among: 1,
        stays: true,
        lease: None,
        keeps_records: false,
        stop: Stop::NEVER,
    };
    let mut starts: Vec<Vec<f64>> = Vec::new();
    for (task, source) in [("mnli", None), ("rte", Some("mnli")), ("sst2", Some("rte"))] {
        let members: Vec<Cell> = all.iter().filter(|cell| cell.id.task == task).cloned().collect();
        let mut cohort = CohortPlan::new(&members, context).unwrap().build(context).unwrap();
        for (run, cell) in members.iter().enumerate() {
            let Some(source) = source else { continue };
            let path = context.store.adapter_path(&CellId { task: source.to_owned(), ..cell.id.clone() });
            let (_, ended) = adapter::load(&path, context.cache).unwrap();
            for (ours, theirs) in cohort.network.backbone.linears().into_iter().zip(ended.backbone.linears()) {
                let dims = ours.weight(0, &Active::All).dims();
                let [rows, cols] = [dims[1], dims[2]];
                let here = values(&ours.weight(0, &Active::All).slice([run..run + 1, 0..rows, 0..cols]));
                for (here, there) in here.iter().zip(values(&theirs.weight(0, &Active::All))) {
                    // Sums of products in f32 in another order.
                    assert!((here - there).abs() < 1e-6, "{}: {}: {here} is not {there}", cell.id, ours.name());
                }
            }
        }
        let params = cohort.network.parameters(0);
        let [a, b] = ["query.a", "query.b"].map(|name| {
            let found = params.iter().find(|named| named.name.ends_with(name)).unwrap();
            values(&found.param.tensor)
        });
        assert!(b.iter().all(|value| *value == 0.0), "{task}");
        starts.push(a);
    }
    assert!(starts[0] != starts[1] && starts[1] != starts[2] && starts[0] != starts[2]);
}

/// What a run scores on earlier tasks is what their own adapters score as long as nothing has changed, and something else once it has.
#[test]
fn earlier_tasks_are_judged_by_the_heads_that_they_were_trained_with() {
    let last = |record: &RunRecord, task: &str| {
        let earlier = record.measured.earlier.iter().find(|earlier| earlier.task == task).unwrap();
        (earlier.evaluations[0].metrics.clone(), earlier.evaluations[0].loss)
    };
    let still = "[mnli, {task: rte, start_from: mnli, train: {learning_rate: 1e-9}}, {task: sst2, start_from: rte}]";
    for variant in ["lora", "o_lora"] {
        let root = tempfile::tempdir().unwrap();
        let all = cells(still, &format!("[{variant}]"));
        let records = finish(&all, root.path(), 2);
        let of = |task: &str| records.iter().find(|record| record.cell == id(task, variant, 0)).unwrap();
        let own = of("mnli").evaluations.iter().find(|own| own.step == 6).unwrap(); // of the first split
        assert!(of("mnli").measured.earlier.is_empty());
        let tasks =
            |task: &str| of(task).measured.earlier.iter().map(|earlier| earlier.task.clone()).collect::<Vec<_>>();
        assert_eq!((tasks("rte"), tasks("sst2")), (vec!["mnli".to_owned()], vec!["mnli".to_owned(), "rte".to_owned()]));
        let (metrics, loss) = last(of("rte"), "mnli");
        assert_eq!(metrics, own.metrics, "{variant}: nothing has moved");
        assert!((loss - own.loss).abs() < 1e-5, "{variant}: {loss} is not {}", own.loss);
        let (_, loss) = last(of("sst2"), "mnli");
        assert!((loss - own.loss).abs() > 1e-4, "{variant}: {loss} is still {}", own.loss);
        assert_eq!(of("sst2").measured.earlier[1].primary_metric, of("rte").primary_metric);
    }
}

/// Stops a study after a number of steps.
struct StopAfter<'a>(AtomicU64, &'a AtomicBool);

impl Sink for StopAfter<'_> {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Steps { .. }) && self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_sequence_that_was_stopped_ends_at_the_same_bits() {
    let all = cells(TASKS, "[o_lora]");
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = finish(&all, whole.path(), 2);
    let stop = AtomicBool::new(false);
    // In the middle of the second task.
    let stopped = run(&support::cache(DType::F32), &all, parts.path(), 2, &stop, &StopAfter(AtomicU64::new(9), &stop));
    assert!(matches!(stopped, Err(TrainError::Interrupted)), "{stopped:?}");
    let got = finish(&all, parts.path(), 2);
    for ((cell, wanted), got) in all.iter().zip(&wanted).zip(&got) {
        assert_eq!((&got.steps, &got.evaluations), (&wanted.steps, &wanted.evaluations), "{}", cell.id);
        assert_eq!(got.measured.earlier, wanted.measured.earlier, "{}", cell.id);
        assert_eq!(tensors(cell, parts.path()), tensors(cell, whole.path()), "{}", cell.id);
    }
    assert!(got.iter().any(|record| record.resumed_at == [3]), "the second task was resumed");
}

#[test]
fn an_entry_may_start_every_task_from_the_base() {
    let all = cells(TASKS, "[lora, {preset: lora, label: alone, start_from: base}]");
    let starts = |variant: &str| {
        all.iter().filter(|cell| cell.id.variant == variant && cell.recipe.start_from.is_some()).count()
    };
    assert_eq!((starts("lora"), starts("alone")), (4, 0));
    let message =
        |variants: &str| experiment::read(&yaml(TASKS, variants), "test.yaml", "test", &[]).unwrap_err().to_string();
    let wrong = message("[{preset: lora, start_from: mnli}]");
    assert!(wrong.contains("variants[0].start_from") && wrong.contains("can only start from `base`"), "{wrong}");
    let counted = message("[{preset: inc_lora, with: {base_update: {adapters: 2}}}]");
    assert!(counted.contains("adapters is `2`") && counted.contains("leave it out"), "{counted}");
}

/// An adapter of another experiment counts, with all that it is beside.
#[test]
fn a_sequence_goes_on_in_another_experiment() {
    let root = tempfile::tempdir().unwrap();
    let all = cells(TASKS, "[inc_lora]");
    finish(&all, root.path(), 2);
    let folder = store(root.path()).run_dir(&id("sst2", "inc_lora", 0));
    let more = cells(
        &format!("[{{task: qnli, start_from: {}}}, {{task: wnli, start_from: qnli}}]", folder.display()),
        "[inc_lora, o_lora]",
    );
    let counts: Vec<usize> =
        more.iter().filter(|cell| cell.id.seed == 0).map(|cell| cell.recipe.variant.base_update.adapters()).collect();
    assert_eq!(counts, [3, 3, 4, 4]);
    let other = tempfile::tempdir().unwrap();
    let records = finish(&more, other.path(), 2);
    let wnli = records.iter().find(|record| record.cell == id("wnli", "inc_lora", 0)).unwrap();
    let tasks: Vec<&str> = wnli.measured.earlier.iter().map(|earlier| earlier.task.as_str()).collect();
    assert_eq!(tasks, ["qnli"], "the data of another experiment need not be here");
    // What restarts accumulate is of one run.
    let message = experiment::read(
        &yaml(
            &format!("[{{task: qnli, start_from: {}}}]", folder.display()),
            "[lora, {preset: relora, with: {base_update: {restarts: 1}}}]",
        ),
        "test.yaml",
        "test",
        &[],
    );
    let message = message.unwrap_err().to_string();
    assert!(message.contains("base_update: {kind: previous}") && message.contains("lora-lab merge"), "{message}");
    assert!(matches!(all[0].recipe.variant.base_update, AnyBaseUpdate::Previous(_)));
}
