//! A base that changes during training: nothing in the program does that, so it is planted.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use burn::tensor::{DType, Tensor};
use models::{
    head::Head,
    network::{NamedParam, Network},
};
use variants::pass::Active;

use crate::{
    cohort::Cohort,
    error::TrainError,
    sink::Silent,
    support::{cache, cells, finish, run, store, tensors},
};

/// The run whose base changes.
const CHANGED: &str = "changed";

/// The step after which the base changes.
static PLANTED: AtomicU64 = AtomicU64::new(u64::MAX);

/// Folds the first run's update into the base, where that is planted after this step; the runs keep their tensors.
pub(super) fn plant(cohort: &mut Cohort) {
    // Tests beside this one train as well.
    let is_meant = cohort.stacks.iter().flat_map(|stack| &stack.runs).any(|run| run.cell.id.variant == CHANGED);
    if !is_meant || cohort.step != PLANTED.load(Ordering::Relaxed) {
        return;
    }
    let of = |named: NamedParam<'_>| (named.name, named.param.tensor.clone());
    let kept: BTreeMap<String, Tensor<3>> = cohort.network.parameters(0).into_iter().map(of).collect();
    let mut backbone = cohort.network.backbone.clone();
    backbone.merge(0, 0, &Active::All);
    let mut changed = Network::new(backbone);
    changed.attach(&cohort.stacks[0].plan, Head::Causal).unwrap();
    for mut named in changed.parameters(0) {
        named.param.tensor.set(kept[&named.name].clone());
    }
    cohort.network.backbone = changed.backbone;
}

const YAML: &str = "suite: glue_mini\nmodel: mini_roberta\ntasks: [rte]\nseeds: [0]\ntargets: [query, value]\nranks: [2]\n\
train: {steps: 6, batch: 4, max_length: 64, checkpoint_every: 2, learning_rate: 1e-3}\nvariants: [{preset: lora, label: changed}]\n";

#[test]
fn a_base_that_changed_is_recorded_neither_at_once_nor_by_the_next_session() {
    let cells = cells(YAML, &[]);
    let whole = tempfile::tempdir().unwrap();
    finish(&cells, whole.path(), 1);
    // At a checkpoint, between two, and after the last step.
    for step in [2, 3, 6] {
        let root = tempfile::tempdir().unwrap();
        PLANTED.store(step, Ordering::Relaxed);
        let ended = run(&cache(DType::F32), &cells, root.path(), 1, &AtomicBool::new(false), &Silent);
        PLANTED.store(u64::MAX, Ordering::Relaxed);
        assert!(matches!(ended, Err(TrainError::BaseChanged { .. })), "step {step}: {ended:?}");
        assert!(store(root.path()).record(&cells[0].id).unwrap().is_none());
        let left = std::fs::read_dir(store(root.path()).partial_dir()).unwrap();
        let left = left.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
        assert_eq!(left, 0, "no checkpoint that the next session would go on from");
        let again = finish(&cells, root.path(), 1);
        assert!(again[0].is_finished() && again[0].resumed_at.is_empty());
        assert_eq!(tensors(&cells[0], root.path()), tensors(&cells[0], whole.path()));
    }
}
