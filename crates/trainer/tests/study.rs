//! Whole studies on the embedded base: resuming, independence, failures, and that every preset trains.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/study.rs"]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use burn::tensor::DType;
use experiment::{cell::Cell, hyper::Select};
use record::{Routing, RunRecord, Status};
use support::{finish, run as run_in, store, tensors};
use trainer::{
    adapter, calibrate,
    error::TrainError,
    evaluate,
    model_cache::ModelCache,
    sink::{Event, Silent, Sink},
    stop::Stop,
    study,
};
use variants::{
    base::BaseSpec, host::values, layers::layer_of, pass::Active, preset, rank::RankPolicy, role::Role, slot::RunPlan,
};

fn cache() -> ModelCache {
    support::cache(DType::F32)
}

fn grid(variants: &str, seeds: &str) -> String {
    format!(
        "seeds: {seeds}\ntargets: [query, value]\n\
         train: {{steps: 8, batch: 8, max_length: 64, checkpoint_every: 3, learning_rate: 1e-3}}\nvariants: {variants}\n"
    )
}

fn split(overrides: &str) -> Vec<&str> {
    overrides.split(", ").filter(|set| !set.is_empty()).collect()
}

fn cells(variants: &str, seeds: &str, overrides: &str) -> Vec<Cell> {
    let yaml = format!("suite: glue_mini\nmodel: mini_roberta\ntasks: [rte]\n{}", grid(variants, seeds));
    support::cells(&yaml, &split(overrides))
}

/// On tables of few rows: a classification, and a regression where `both`.
fn small_cells(variants: &str, seeds: &str, both: bool, overrides: &str) -> Vec<Cell> {
    support::cells_of_few_rows(&grid(variants, seeds), both, &split(overrides))
}

/// Runs cells into `root`; `cohort` runs at once.
fn run(
    cells: &[Cell],
    root: &Path,
    cohort: usize,
    stop: &AtomicBool,
    sink: &dyn Sink,
) -> Result<Vec<RunRecord>, TrainError> {
    run_in(&cache(), cells, root, cohort, stop, sink)
}

/// Stops the study after a number of steps.
struct StopAfter<'a>(AtomicU64, &'a AtomicBool);

impl Sink for StopAfter<'_> {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Steps { .. }) && self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

const EVERY_KIND: &str = "[full, {preset: adalora, ranks: [3], with: {dropout: 0.1, rank_policy: {target_rank: 2, initial_steps: 1, final_steps: 2, interval: 1}}}, \
    {preset: dylora, ranks: [4], with: {rank_policy: {update: frozen}}}, {preset: dora, ranks: [2], with: {dropout: 0.2}}, {preset: relora, ranks: [2]}, {preset: cola, ranks: [2]}, \
    {preset: delta_lora, ranks: [2], with: {base_update: {start: 3}}}]";

#[test]
fn an_interrupted_study_resumes_to_the_same_bits() {
    let cells = cells(EVERY_KIND, "[3]", "train.accumulate=2, train.evaluate_every=4, train.select=best");
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = finish(&cells, whole.path(), 1);
    // Stops inside the first, second and later cells, at and between checkpoints, and between restarts.
    for steps in [5, 1, 9, 7, 13, 9, 9] {
        let stop = AtomicBool::new(false);
        let stopped = run(&cells, parts.path(), 1, &stop, &StopAfter(AtomicU64::new(steps), &stop));
        assert!(matches!(stopped, Err(TrainError::Interrupted)), "{stopped:?}");
    }
    let got = finish(&cells, parts.path(), 1);
    assert!(got.iter().any(|record| !record.resumed_at.is_empty()));
    for ((cell, wanted), got) in cells.iter().zip(&wanted).zip(&got) {
        assert_eq!(tensors(cell, parts.path()), tensors(cell, whole.path()), "{}", cell.id);
        assert_eq!(got.steps, wanted.steps, "{}", cell.id);
        assert_eq!(got.evaluations, wanted.evaluations, "{}", cell.id);
        assert_eq!(got.measured.final_ranks, wanted.measured.final_ranks, "{}", cell.id);
    }
}

#[test]
fn an_evaluation_is_interrupted_and_made_when_the_study_goes_on() {
    let cells = cells(
        "[{preset: lora, ranks: [2]}, head_only]",
        "[0]",
        "train.evaluate_every=4, train.snapshot_every=4, train.select=best, train.checkpoint_every=100",
    );
    let whole = tempfile::tempdir().unwrap();
    let wanted = finish(&cells, whole.path(), 2);
    // Both evaluate after steps 4 and 8; at the latter the last one of all splits follows.
    for steps in [4, 8] {
        let root = tempfile::tempdir().unwrap();
        let stop = AtomicBool::new(false);
        let stopped = run(&cells, root.path(), 2, &stop, &StopAfter(AtomicU64::new(steps), &stop));
        assert!(matches!(stopped, Err(TrainError::Interrupted)), "{stopped:?}");
        assert!(partial(root.path()).join("checkpoint.safetensors").is_file(), "no step is lost");
        let got = finish(&cells, root.path(), 2);
        for ((cell, wanted), got) in cells.iter().zip(&wanted).zip(&got) {
            assert_eq!(got.resumed_at, [steps], "{}", cell.id);
            assert_eq!((&got.steps, &got.evaluations), (&wanted.steps, &wanted.evaluations), "{}", cell.id);
            assert_eq!(tensors(cell, root.path()), tensors(cell, whole.path()), "{}", cell.id);
        }
    }
}

/// Stops the study once a cell has its record.
struct StopAtRecord<'a>(&'a AtomicBool);

impl Sink for StopAtRecord<'_> {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Finished { .. }) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_cohort_that_is_interrupted_between_its_records_ends_with_all_of_them() {
    // Of two tasks, so that the runs are evaluated one by one.
    let cells = cells("[{preset: lora, ranks: [2]}, head_only]", "[0]", "tasks=[rte,sst2]");
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = finish(&cells, whole.path(), 4);
    let stop = AtomicBool::new(false);
    let stopped = run(&cells, parts.path(), 4, &stop, &StopAtRecord(&stop));
    assert!(matches!(stopped, Err(TrainError::Interrupted)), "{stopped:?}");
    for ((cell, wanted), got) in cells.iter().zip(&wanted).zip(&finish(&cells, parts.path(), 4)) {
        assert_eq!((&got.steps, &got.evaluations), (&wanted.steps, &wanted.evaluations), "{}", cell.id);
        assert_eq!(tensors(cell, parts.path()), tensors(cell, whole.path()), "{}", cell.id);
    }
}

#[test]
fn a_budget_that_is_due_at_once_is_met_after_resuming() {
    // The last allocation comes after step 6 of 8, which observes nothing any more.
    let variants = "[{preset: adalora, ranks: [3], with: {rank_policy: {target_rank: 2, initial_steps: 1, final_steps: 2, interval: 1}}}]";
    let cells = cells(variants, "[0]", "train.checkpoint_every=1");
    let whole = tempfile::tempdir().unwrap();
    let expected = finish(&cells, whole.path(), 1).remove(0).measured.final_ranks;
    assert_eq!(expected.values().sum::<usize>(), 2 * expected.len());
    for steps in [5, 6, 7] {
        let root = tempfile::tempdir().unwrap();
        let stop = AtomicBool::new(false);
        let sink = StopAfter(AtomicU64::new(steps), &stop);
        assert!(matches!(run(&cells, root.path(), 1, &stop, &sink), Err(TrainError::Interrupted)));
        assert_eq!(finish(&cells, root.path(), 1).remove(0).measured.final_ranks, expected, "stopped after {steps}");
    }
}

#[test]
fn a_cohort_resumes_whole() {
    // Tasks are the outer loop of the grid and stacks hold variants, so members are not in the grid's order.
    let cells = cells("[{preset: lora, ranks: [2]}, head_only]", "[0]", "tasks=[rte,sst2]");
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    finish(&cells, whole.path(), 4);
    let stop = AtomicBool::new(false);
    let stopped = run(&cells, parts.path(), 4, &stop, &StopAfter(AtomicU64::new(4), &stop));
    assert!(matches!(stopped, Err(TrainError::Interrupted)), "{stopped:?}");
    let got = finish(&cells, parts.path(), 4);
    for (cell, record) in cells.iter().zip(&got) {
        assert_eq!((record.resumed_at.clone(), record.cohort.members.len()), (vec![4], 4), "{}", cell.id);
        assert_eq!(tensors(cell, parts.path()), tensors(cell, whole.path()), "{}", cell.id);
    }
}

/// Counts started cohorts that begin again.
struct Discarded(AtomicU64);

impl Sink for Discarded {
    fn event(&self, event: &Event<'_>) {
        if let Event::Planned { discarded, .. } = event {
            self.0.store(*discarded as u64, Ordering::Relaxed);
        }
    }
}

#[test]
fn work_of_another_recipe_begins_again_and_damage_is_said() {
    let first = cells("[{preset: lora, ranks: [2]}]", "[0]", "");
    let root = tempfile::tempdir().unwrap();
    let interrupt = || {
        let stop = AtomicBool::new(false);
        let stopped = run(&first, root.path(), 1, &stop, &StopAfter(AtomicU64::new(5), &stop));
        assert!(matches!(stopped, Err(TrainError::Interrupted)), "{stopped:?}");
    };
    interrupt();
    let changed = cells("[{preset: lora, ranks: [2]}]", "[0]", "train.learning_rate=2e-3");
    let sink = Discarded(AtomicU64::new(0));
    let records = run(&changed, root.path(), 1, &AtomicBool::new(false), &sink).unwrap();
    assert_eq!((sink.0.load(Ordering::Relaxed), records[0].resumed_at.len()), (1, 0));
    // A record of another recipe stands where the first one's would go.
    let store = store(root.path());
    assert_eq!(study::replaced(&first, &store).unwrap(), [&first[0].id]);
    study::forget(&first, &store, study::Forget::All).unwrap();
    assert!(study::replaced(&first, &store).unwrap().is_empty());
    // One flipped bit of a checkpoint's tensors is found: its file and what is wrong are said, and the cohort begins afresh.
    interrupt();
    let partial = partial(root.path());
    let checkpoint = partial.join("checkpoint.safetensors");
    let mut bytes = std::fs::read(&checkpoint).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&checkpoint, bytes).unwrap();
    let said = Restarts::default();
    let records = run(&first, root.path(), 1, &AtomicBool::new(false), &said).unwrap();
    let said = said.0.into_inner().unwrap();
    assert!(said.len() == 1 && said[0].contains("checkpoint.safetensors") && said[0].contains("checksum"), "{said:?}");
    assert!(records[0].resumed_at.is_empty() && records[0].steps.len() == 8);
}

/// The folder of the only unfinished cohort.
fn partial(root: &Path) -> std::path::PathBuf {
    let folders = std::fs::read_dir(root.join("test/.partial")).unwrap().map(|entry| entry.unwrap().path());
    folders.into_iter().find(|path| path.is_dir()).unwrap()
}

/// What is said of cohorts that begin afresh.
#[derive(Default)]
struct Restarts(Mutex<Vec<String>>);

impl Sink for Restarts {
    fn event(&self, event: &Event<'_>) {
        if let Event::Restarted { path, reason, .. } = event {
            self.0.lock().unwrap().push(format!("{}: {reason}", path.display()));
        }
    }
}

/// What is left of a journal's text; nothing where its file is gone.
type Damage = dyn Fn(&str) -> Option<String>;

#[test]
fn a_run_whose_journal_is_not_that_of_its_checkpoint_begins_afresh() {
    let cells = cells("[{preset: lora, ranks: [2]}, head_only]", "[0]", "tasks=[wnli], train.evaluate_every=2");
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = finish(&cells, whole.path(), 2);
    let damages: [(&str, &Damage); 4] = [
        ("bytes, but had", &|_| Some(String::new())),
        ("bytes, but had", &|text| Some(text.lines().next().unwrap().to_owned() + "\n")),
        ("is not what it was", &|text| Some(text.replacen("\"task_loss\":", "\"task_loss\":1", 1))),
        ("is gone", &|_| None),
    ];
    for (reason, damage) in damages {
        let stop = AtomicBool::new(false);
        let stopped = run(&cells, parts.path(), 2, &stop, &StopAfter(AtomicU64::new(5), &stop));
        assert!(matches!(stopped, Err(TrainError::Interrupted)), "{stopped:?}");
        let journal = partial(parts.path()).join(format!("{}.jsonl", cells[1].id.slug()));
        match damage(&std::fs::read_to_string(&journal).unwrap()) {
            Some(text) => std::fs::write(&journal, text).unwrap(),
            None => std::fs::remove_file(&journal).unwrap(),
        }
        let said = Restarts::default();
        let got = run(&cells, parts.path(), 2, &AtomicBool::new(false), &said).unwrap();
        let said = said.0.into_inner().unwrap();
        assert!(said.len() == 1 && said[0].contains(reason) && said[0].contains(".jsonl"), "{said:?}");
        for (wanted, got) in wanted.iter().zip(&got) {
            assert_eq!((&got.steps, &got.evaluations), (&wanted.steps, &wanted.evaluations));
            assert!(got.resumed_at.is_empty());
        }
        study::forget(&cells, &store(parts.path()), study::Forget::All).unwrap();
    }
}

/// A tensor that counts components: its rank axis, shape and numbers.
type Ranked = (usize, [usize; 3], Vec<f64>);

#[test]
fn a_masked_step_of_dylora_moves_the_drawn_components_alone() {
    for update in ["frozen", "nested"] {
        let policy = format!("{{update: {update}, r_min: 2, optimizer_state: masked}}");
        let variant = format!("[{{preset: dylora, ranks: [4], with: {{rank_policy: {policy}}}}}]");
        let cells = cells(&variant, "[0]", "train.snapshot_every=1, train.warmup=0.0, train.weight_decay=0.5");
        let root = tempfile::tempdir().unwrap();
        finish(&cells, root.path(), 1);
        let folder = store(root.path()).run_dir(&cells[0].id).join("snapshots");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let cache = cache();
        let states: Vec<BTreeMap<String, Ranked>> = files
            .iter()
            .map(|file| {
                let (_, mut network) = adapter::load(file, &cache).unwrap();
                let ranked = network.parameters(0).into_iter().filter_map(|named| {
                    let axis = named.param.rank_axis?;
                    Some((named.name, (axis, named.param.tensor.dims(), values(&named.param.tensor))))
                });
                ranked.collect()
            })
            .collect();
        let policy = &cells[0].recipe.variant.rank_policy;
        let mut drawn = BTreeSet::new();
        // The state after step `s` (from 0) against the one before it; the last step's rate is small, not zero.
        for step in 1..states.len() {
            let b = policy.draw(4, cells[0].recipe.seeds.rank, step as u64).unwrap();
            drawn.insert(b);
            let touched = policy.touched(b);
            for (name, (axis, [_, rows, cols], after)) in &states[step] {
                let before = &states[step - 1][name].2;
                for index in 0..rows * cols {
                    let component = if *axis == 1 { index / cols } else { index % cols };
                    let moved = after[index] != before[index];
                    assert!(!moved || touched.contains(&component), "{update}, b = {b}: {name}, component {component}");
                }
                let any = |c: usize| {
                    (0..rows * cols)
                        .any(|i| (if *axis == 1 { i / cols } else { i % cols }) == c && after[i] != before[i])
                };
                assert!(touched.clone().all(any), "{update}, b = {b}: {name}: a drawn component stood still");
            }
        }
        assert!(drawn.len() > 1, "several ranks were drawn: {drawn:?}");
    }
}

#[test]
fn a_finished_study_trains_nothing() {
    struct NoSteps(Mutex<u64>);
    impl Sink for NoSteps {
        fn event(&self, event: &Event<'_>) {
            if matches!(event, Event::Steps { .. }) {
                *self.0.lock().unwrap() += 1;
            }
        }
    }
    let cells = cells("[head_only]", "[0, 1]", "");
    let root = tempfile::tempdir().unwrap();
    let first = finish(&cells, root.path(), 1);
    let sink = NoSteps(Mutex::new(0));
    let second = run(&cells, root.path(), 1, &AtomicBool::new(false), &sink).unwrap();
    assert_eq!((*sink.0.lock().unwrap(), first), (0, second));
}

/// Counts the steps that a study plans and those that it says it took.
#[derive(Default)]
struct Count {
    planned: AtomicU64,
    taken: AtomicU64,
}

impl Sink for Count {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Planned { work, .. } => self.planned.store(work.steps, Ordering::Relaxed),
            Event::Steps { taken, .. } => _ = self.taken.fetch_add(*taken as u64, Ordering::Relaxed),
            _ => {}
        }
    }
}

#[test]
fn a_run_in_company_ends_where_it_ends_alone() {
    let cache = support::cache(DType::F64);
    // Where one run uses dropout, its whole cohort is padded; alone, the others are packed.
    for dropout in [0.1, 0.0] {
        // In f64, where other padding and other blocks of the products reorder sums by 1e-16 instead of 1e-7, and Adam,
        // which turns a rounding error in a vanishing gradient into a step, has 1e-8 to stand on.
        let variants = format!(
            "[{{preset: lora, ranks: [4], with: {{dropout: {dropout}}}}}, {{preset: dylora, ranks: [4]}}, \
            {{preset: adalora, ranks: [3], with: {{rank_policy: {{target_rank: 2, initial_steps: 1, final_steps: 2, interval: 1}}}}}}, \
            {{preset: dora, ranks: [2], with: {{dropout: {dropout}}}}}, {{preset: vera, ranks: [8]}}, bitfit, head_only, \
            {{preset: relora, ranks: [4], with: {{dropout: {dropout}}}}}, {{preset: cola, ranks: [2]}}, \
            {{preset: delta_lora, ranks: [4], with: {{base_update: {{start: 2}}}}}}]"
        );
        let cells = small_cells(&variants, if dropout > 0.0 { "[0, 1]" } else { "[0]" }, true, "");
        let (alone, together) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let train = |root: &Path, cohort| {
            let count = Count::default();
            let records = run_in(&cache, &cells, root, cohort, &AtomicBool::new(false), &count).unwrap();
            assert_eq!(count.planned.into_inner(), count.taken.into_inner());
            records
        };
        let (one, many) = (train(alone.path(), 1), train(together.path(), cells.len()));
        assert_eq!(many[0].cohort.members.len(), cells.len(), "one cohort holds tasks, variants, ranks and seeds");
        for ((cell, one), many) in cells.iter().zip(&one).zip(&many) {
            for (a, b) in one.steps.task_loss().iter().zip(many.steps.task_loss()) {
                assert!((a - b).abs() < 1e-9, "{}: {a} {b}", cell.id);
            }
            let (a, b) = (tensors(cell, alone.path()), tensors(cell, together.path()));
            for (name, a) in &a {
                let apart = a.iter().zip(&b[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                // Weights of the order of 0.1 after eight steps of 1e-3.
                assert!(apart < 1e-8, "{}: {name}: {apart}", cell.id);
            }
        }
    }
}

/// Runs of other lengths are at rounds and levels of their own at the same step.
#[test]
fn what_a_run_holds_out_is_its_own_affair() {
    let rounds = "{initial_steps: 0.25, interval: 0.25, rounds: 2}";
    let variants =
        format!("[{{preset: alora, ranks: [2], with: {{rank_policy: {rounds}}}}}, {{preset: autolora, ranks: [4]}}]");
    let mut cells = cells(&variants, "[0, 1]", "targets=[value], train.batch=4, train.max_length=32");
    for cell in &mut cells {
        cell.recipe.train.steps = Some([8, 16][cell.id.seed as usize]);
    }
    let cache = support::cache(DType::F64);
    let (alone, together) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let train = |root: &Path, cohort| run_in(&cache, &cells, root, cohort, &AtomicBool::new(false), &Silent).unwrap();
    let (one, many) = (train(alone.path(), 1), train(together.path(), cells.len()));
    assert_eq!(many[0].cohort.members.len(), cells.len());
    for ((cell, one), many) in cells.iter().zip(&one).zip(&many) {
        assert_eq!(one.measured.final_ranks, many.measured.final_ranks, "{}", cell.id);
        for (a, b) in one.steps.task_loss().iter().zip(many.steps.task_loss()) {
            assert!((a - b).abs() < 1e-9, "{}: {a} {b}", cell.id);
        }
        let (a, b) = (tensors(cell, alone.path()), tensors(cell, together.path()));
        assert!(a.iter().all(|(name, a)| a.iter().zip(&b[name]).all(|(a, b)| (a - b).abs() < 1e-8)), "{}", cell.id);
    }
}

#[test]
fn layers_computed_again_give_the_same_gradients() {
    // f64, and numbers as far apart as sums in another order make them.
    let variants = "[full, bitfit, {preset: lora, ranks: [4], with: {dropout: 0.1}}, {preset: vera, ranks: [8]}, \
        {preset: adalora, ranks: [3], with: {rank_policy: {target_rank: 2, initial_steps: 1, final_steps: 2, interval: 1}}}, \
        {preset: dylora, ranks: [4]}, {preset: dora, ranks: [2], with: {dropout: 0.1}}]";
    let recipe = "train.steps=5, train.backbone_dropout=0.1";
    let cache = support::cache(DType::F64);
    let (kept, again) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let train = |root: &Path, recompute: bool| {
        let cells = cells(variants, "[0]", &format!("{recipe}, train.recompute={recompute}"));
        let records = run_in(&cache, &cells, root, cells.len(), &AtomicBool::new(false), &Silent).unwrap();
        (cells, records)
    };
    let ((cells, kept_records), (_, again_records)) = (train(kept.path(), false), train(again.path(), true));
    for ((cell, one), other) in cells.iter().zip(&kept_records).zip(&again_records) {
        for (a, b) in one.steps.task_loss().iter().zip(other.steps.task_loss()) {
            assert!((a - b).abs() < 1e-12, "{}: {a} {b}", cell.id);
        }
        let (a, b) = (tensors(cell, kept.path()), tensors(cell, again.path()));
        for (name, a) in &a {
            let apart = a.iter().zip(&b[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-9, "{}: {name}: {apart}", cell.id);
        }
    }
}

#[test]
fn evaluations_in_company_are_those_of_each_run_alone() {
    // In f64, for the reasons and with the tolerances of the law above.
    let variants = "[{preset: lora, ranks: [2], readouts: [truncated, svd]}, {preset: dylora, ranks: [2]}]";
    // Each seed trains on examples of its own; the evaluation examples are the same, so that one pass serves all.
    let recipe = "tasks=[wnli], vary=[sample], train.evaluate_every=3, train.select=best, train.warmup=0.0, train.learning_rate=3e-3";
    let mut cells = cells(variants, "[0, 1, 2, 3]", recipe);
    for cell in &mut cells {
        match cell.id.seed {
            1 => cell.recipe.train.steps = Some(7), // done while the others go on, and not at an evaluation of theirs
            2 => cell.recipe.train.select = Select::Last,
            3 => cell.recipe.train.learning_rate = 1e300, // fails, and its tensors are anything from then on
            _ => {}
        }
    }
    let cache = support::cache(DType::F64);
    let (alone, together) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let train = |root: &Path, cohort| run_in(&cache, &cells, root, cohort, &AtomicBool::new(false), &Silent).unwrap();
    let (one, many) = (train(alone.path(), 1), train(together.path(), cells.len()));
    let near = |a: f64, b: f64| (a - b).abs() < 1e-8;
    let mut chosen = 0;
    for ((cell, one), many) in cells.iter().zip(&one).zip(&many) {
        assert_eq!((one.is_finished(), many.is_finished()), (cell.id.seed != 3, cell.id.seed != 3), "{}", cell.id);
        assert_eq!(one.evaluations.len(), many.evaluations.len(), "{}", cell.id);
        for (a, b) in one.evaluations.iter().zip(&many.evaluations) {
            let of = format!("{}: {} of {:?} after {}", cell.id, a.split, a.readout, a.step);
            assert_eq!((a.step, &a.split, &a.readout, a.examples), (b.step, &b.split, &b.readout, b.examples), "{of}");
            assert!(near(a.loss, b.loss), "{of}: loss {} {}", a.loss, b.loss);
            assert_eq!(a.metrics.keys().collect::<Vec<_>>(), b.metrics.keys().collect::<Vec<_>>(), "{of}");
            assert!(a.metrics.values().zip(b.metrics.values()).all(|(a, b)| near(*a, *b)), "{of}");
        }
        assert_eq!(one.best.as_ref().map(|best| best.step), many.best.as_ref().map(|best| best.step), "{}", cell.id);
        // A best state that the run has left behind.
        chosen += usize::from(one.best.as_ref().is_some_and(|best| best.step < one.steps.len() as u64));
        if let (Some(a), Some(b)) = (one.measured.merge_error, many.measured.merge_error) {
            assert!(a < 1e-10 && b < 1e-10, "{}: {a} {b}", cell.id);
            let (a, b) = (tensors(cell, alone.path()), tensors(cell, together.path()));
            for (name, a) in &a {
                assert!(a.iter().zip(&b[name]).all(|(a, b)| near(*a, *b)), "{}: {name}", cell.id);
            }
        }
    }
    assert!(chosen > 0, "some run is read out at an earlier step than its last");
}

#[test]
fn samples_of_a_task_differ_in_their_training_examples_and_have_one_copy_of_the_rest() {
    let cells = cells("[{preset: lora, ranks: [1]}]", "[0, 1]", "vary=[sample]");
    let cache = cache();
    let [one, other] = [0, 1].map(|at| cache.task(&cells[at].recipe).unwrap());
    assert_ne!(one.train, other.train);
    assert!(one.evaluated().count() > 1 && one.evaluated().zip(other.evaluated()).all(|(a, b)| Arc::ptr_eq(a, b)));
    let mut held_out = cells[1].recipe.clone();
    held_out.holdout = Some(data::holdout::Holdout { share: 0.2, seed: 7 });
    let tuned = cache.task(&held_out).unwrap();
    assert!(!tuned.evaluated().any(|split| one.evaluated().any(|other| Arc::ptr_eq(split, other))));
}

#[test]
fn more_runs_than_fit_into_a_pass_are_evaluated_in_parts() {
    let cells = cells("[{preset: lora, ranks: [1]}]", "[0]", "");
    let cache = support::cache(DType::F64);
    let (cell, task) = (&cells[0], cache.task(&cells[0].recipe).unwrap());
    let mut set = task.splits[0].set.clone();
    set.rows.truncate(70); // a batch and a rest
    let pad = cache.base_of(&cell.recipe).unwrap().pad;
    let logits = |seeds: &[u64]| {
        let mut plan = adapter::stack_plan(&cell.recipe, &cell.id, &cache).unwrap();
        let run = plan.runs[0];
        plan.runs = seeds.iter().map(|seed| RunPlan { init_seed: *seed, ..run }).collect();
        let network = cache.network(&cell.recipe, &[(plan, vec![2; seeds.len()])]).unwrap();
        evaluate::score::logits(&network, &vec![&set; seeds.len()], &Active::All, pad)
    };
    let many = logits(&(0..24).collect::<Vec<_>>());
    for seed in [0, 7, 23] {
        let one = &logits(&[seed])[0];
        let of_run = &many[seed as usize];
        assert_eq!((one.len(), of_run.len()), (70, 70));
        let apart = one.iter().flatten().zip(of_run.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-12, "{seed}: {apart}");
    }
}

#[test]
fn a_diverging_run_is_cut_off_and_harms_nobody() {
    let mut cells = cells("[{preset: lora, ranks: [4]}]", "[0, 1]", "");
    let alone = {
        let root = tempfile::tempdir().unwrap();
        finish(&cells[1..], root.path(), 1);
        tensors(&cells[1], root.path())
    };
    cells[0].recipe.train.learning_rate = 1e30;
    let root = tempfile::tempdir().unwrap();
    let records = finish(&cells, root.path(), 2);
    assert!(matches!(records[0].status, Status::Failed { .. }), "{:?}", records[0].status);
    assert_eq!(records[1].status, Status::Finished);
    for (name, wanted) in alone {
        for (a, b) in tensors(&cells[1], root.path())[&name].iter().zip(wanted) {
            assert!((a - b).abs() < 1e-3, "{name}");
        }
    }
}

/// Runs that train at once where every preset does: what they share is computed once.
const COMPANY: usize = 16;

/// Every preset of the registry, at a rank where its policy can work and its blocks fit.
fn every_preset() -> String {
    let entry = |name: &str| support::entry(name, &[&[3], &[4]]);
    format!("[{}]", preset::all().iter().map(|p| entry(p.name)).collect::<Vec<_>>().join(", "))
}

#[test]
fn every_preset_learns_and_merges() {
    let recipe = "tasks=[sst2], train.steps=60, train.batch=16, train.warmup=0.0, train.learning_rate=5e-4, \
                  train.head_learning_rate=3e-3";
    let cells = cells(&every_preset(), "[0]", recipe);
    let root = tempfile::tempdir().unwrap();
    for record in finish(&cells, root.path(), COMPANY) {
        let losses = record.steps.task_loss();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        assert!(losses.iter().all(|loss| loss.is_finite()), "{}", record.cell);
        assert!(mean(&losses[40..]) < mean(&losses[..10]) - 0.1, "{}: {losses:?}", record.cell);
        let spec = (preset::find(&record.cell.variant).unwrap().spec)(3);
        match (record.measured.merge_error, spec.unmergeable()) {
            (Some(error), None) => assert!(error < 1e-4, "{}: {error:?}", record.cell),
            (None, Some(_)) => {
                let is_spread = |of: &Routing| {
                    let sum: f64 = of.weights.iter().sum();
                    (sum - 1.0).abs() < 1e-5 && of.evenness().is_some_and(|share| share > 0.0 && share < 1.0 + 1e-6)
                };
                let routers = &record.measured.routers;
                assert!(!routers.is_empty() && routers.values().all(is_spread), "{}: {routers:?}", record.cell);
            }
            other => panic!("{}: {other:?}", record.cell),
        }
        let trains = spec.roles().into_iter().any(|role| role != Role::Head && spec.train.trains(role));
        assert_eq!(record.measured.trainable_params > 0, trains, "{}", record.cell);
    }
}

/// All at once, stopped between two checkpoints and after policies have observed steps.
#[test]
fn every_preset_resumes_to_the_same_bits() {
    let recipe = "train.warmup=0.0, train.steps=20, train.batch=2, train.max_length=32, train.checkpoint_every=4";
    let mut cells = small_cells(&every_preset(), "[0]", false, recipe);
    // A run that trains its base has no others beside it, and would not have begun.
    cells.retain(|cell| cell.recipe.variant.base != BaseSpec::Trained);
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = finish(&cells, whole.path(), cells.len());
    let stop = AtomicBool::new(false);
    let stopped = run(&cells, parts.path(), cells.len(), &stop, &StopAfter(AtomicU64::new(13), &stop));
    assert!(matches!(stopped, Err(TrainError::Interrupted)), "{stopped:?}");
    for ((cell, wanted), got) in cells.iter().zip(&wanted).zip(&finish(&cells, parts.path(), cells.len())) {
        assert_eq!(got.resumed_at, [13], "{}", cell.id);
        assert_eq!((&got.steps, &got.evaluations), (&wanted.steps, &wanted.evaluations), "{}", cell.id);
        assert_eq!(got.measured.final_ranks, wanted.measured.final_ranks, "{}", cell.id);
        assert_eq!(tensors(cell, parts.path()), tensors(cell, whole.path()), "{}", cell.id);
    }
}

#[test]
fn a_step_changes_what_trains_and_nothing_else() {
    // Long enough for every preset's own policy.
    let cells = small_cells(&every_preset(), "[0]", false, "train.warmup=0.0, train.steps=20");
    let root = tempfile::tempdir().unwrap();
    finish(&cells, root.path(), COMPANY);
    let cache = cache();
    for cell in &cells {
        let mut plan = adapter::stack_plan(&cell.recipe, &cell.id, &cache).unwrap();
        let taken = calibrate::statistics(&cell.recipe, &plan, &cache, Stop::NEVER).unwrap();
        plan.calibrations = taken.into_iter().map(Some).collect();
        let train = plan.variant.spec().train.clone();
        let mut fresh = cache.network(&cell.recipe, &[(plan, vec![2])]).unwrap();
        let trained = tensors(cell, root.path());
        let path = store(root.path()).run_dir(&cell.id).join("adapter.safetensors");
        let (_, network) = adapter::load(&path, &cache).unwrap();
        for (after, before) in network.backbone.linears().into_iter().zip(fresh.backbone.linears()) {
            assert_eq!(values(&after.base().0), values(&before.base().0), "{}: {}", cell.id, after.name());
        }
        let named = fresh.parameters(0);
        let layers = named.iter().filter_map(|named| layer_of(&named.slot)).collect();
        // All twenty steps lie in one period.
        let sampled = cell.recipe.variant.layers.trained(&layers, cell.recipe.seeds.rank, 0);
        let rests = |slot: &str| {
            layer_of(slot).is_some_and(|layer| sampled.as_ref().is_some_and(|sampled| !sampled.contains(&layer)))
        };
        let mut gates_moved = Vec::new();
        for named in named {
            let same = values(&named.param.tensor) == trained[&named.name];
            // Components move from some maps to others, and need not pass by every map.
            if named.param.name == "gate" {
                gates_moved.push(!same);
                continue;
            }
            // A word that no example has keeps its row, a table as a whole does not.
            let moves =
                (train.trains(named.param.role) || named.param.role == Role::Accumulated) && !rests(&named.slot);
            assert_eq!(same, !moves, "{}: {}", cell.id, named.name);
        }
        assert!(gates_moved.is_empty() || gates_moved.contains(&true), "{}: no component moved", cell.id);
    }
}
