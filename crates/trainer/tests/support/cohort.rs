//! Cohorts of two runs on small random weights, for tests of single steps.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use burn::tensor::{DType, Device};
use data::{batch::Encoded, task::Objective};
use experiment::{
    cell::{Cell, Recipe},
    hyper::Hyper,
};
use models::{
    backbone::Backbone,
    config::{Config, Purpose},
    head::{Classifier, Head},
    modules::Modules,
    network::Network,
    target::Target,
    weights::Weights,
};
use record::CellId;
use trainer::{
    batch::{BatchSource, HostBatch, Padding, RunRows, collate},
    cohort::{Cohort, Stack},
    step::optimizer::Adam,
    study::run_state::RunState,
};
use variants::{
    host::Placement,
    laws::calibrated,
    slot::{RunPlan, StackPlan},
    spec::VariantSpec,
    stream::Seeds,
};

const STEPS: u64 = 100;

/// The same two rows for every run, of four and two tokens.
pub(crate) struct Batches {
    rows: Vec<Encoded>,
    objective: Objective,
    runs: usize,
}

impl Batches {
    pub(crate) fn new(objective: Objective, runs: usize) -> Self {
        let row = |ids: &[u32]| Encoded {
            ids: ids.to_vec(),
            targets: if objective == Objective::Text { vec![true; ids.len()] } else { Vec::new() },
            ..Encoded::default()
        };
        Self { rows: vec![row(&[5, 6, 7, 8]), row(&[9, 10])], objective, runs }
    }
}

impl BatchSource for Batches {
    fn batch(&self, network: &Network, _micro: u64) -> HostBatch {
        let run = RunRows::new(self.rows.iter().collect(), 2, &self.objective);
        collate(network, &[vec![run; self.runs]], Padding { token: 1, bucket: 1, at_least: 0 })
    }
}

/// A cohort of two runs of a composition on small random weights.
pub(crate) fn cohort(arch: &str, objective: &Objective, spec: &VariantSpec, endings: &[&str]) -> Cohort {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures").join(arch);
    let config = Config::read(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let purpose = if config.is_causal() { Purpose::Continue } else { Purpose::Classify };
    let place = Placement::new(&Device::flex(), DType::F32);
    let weights = Weights::random(&config.wanted(purpose), 3);
    let mut network = Network::new(Backbone::new(&config, &weights, purpose, &place).unwrap());
    let variant = spec.check(Some(STEPS)).unwrap();
    let targets = Target::Endings(endings.iter().map(|ending| (*ending).to_owned()).collect());
    let maps = Modules::default().select(variant.adapts().then_some(&targets), &config).unwrap().maps;
    let shapes: Vec<(&str, [usize; 2])> = maps.iter().map(|(name, map)| (name.as_str(), map.shape)).collect();
    let runs: Vec<RunPlan> = (0..2).map(|seed| RunPlan { init_seed: seed, alpha: spec.alpha }).collect();
    let plan = calibrated(StackPlan::new(variant, runs, maps.keys().cloned().collect()), &shapes);
    let head = match objective {
        Objective::Text => Head::Causal,
        other => {
            Head::Classifier(Classifier::new(&network.backbone, &plan, &[other.n_outputs(); 2], &Weights::default()))
        }
    };
    network.attach(&plan, head).unwrap();
    let train = Hyper { steps: Some(STEPS), batch: 2, ..Hyper::default() };
    let run = |seed: u64| {
        let id = CellId { task: "given".into(), variant: "given".into(), rank: spec.rank, seed };
        let plan = Recipe {
            suite: "given".into(),
            data: None,
            task: "given".into(),
            given: None,
            model: "given".into(),
            start_from: None,
            targets: targets.clone(),
            modules: Modules::default(),
            preset: "given".into(),
            variant: spec.clone(),
            train: train.clone(),
            readouts: Vec::new(),
            holdout: None,
            forgetting: None,
            seeds: Seeds::all(seed),
        };
        let cell = Cell { id, recipe: plan, diff: serde_json::Value::Null };
        RunState::new(cell, STEPS)
    };
    let adam = Adam { beta1: train.beta1, beta2: train.beta2, epsilon: train.epsilon };
    Cohort::new(network, vec![Stack::new((0..2).map(run).collect(), plan)], 1, adam)
}

pub(crate) fn classes() -> Objective {
    Objective::Classification { labels: vec!["no".into(), "yes".into()] }
}
