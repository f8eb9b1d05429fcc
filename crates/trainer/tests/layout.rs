//! Which tensors the optimizer lays out: those whose role trains, and these are the ones that the loss gives gradients to.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;

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
    batch::{BatchSource, HostBatch, Padding, RunRows, collate, forward},
    cohort::{Cohort, Stack},
    step::optimizer::Adam,
    study::run_state::RunState,
};
use variants::{
    host::Placement,
    pass::Pass,
    preset::{self, Preset},
    role::Role,
    slot::{RunPlan, StackPlan},
    spec::VariantSpec,
    stream::Seeds,
};

const STEPS: u64 = 100;

/// The same two rows for every run.
struct Batches {
    rows: Vec<Encoded>,
    objective: Objective,
    runs: usize,
}

impl Batches {
    fn new(objective: Objective, runs: usize) -> Self {
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
fn cohort(arch: &str, objective: &Objective, spec: &VariantSpec, endings: &[&str]) -> Cohort {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures").join(arch);
    let config = Config::read(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let purpose = if config.is_causal() { Purpose::Continue } else { Purpose::Classify };
    let place = Placement::new(&Device::flex(), DType::F32);
    let weights = Weights::random(&config.wanted(purpose), 3);
    let mut network = Network::new(Backbone::new(&config, &weights, purpose, &place).unwrap());
    let variant = spec.check(Some(STEPS)).unwrap();
    let targets = Target::Endings(endings.iter().map(|ending| (*ending).to_owned()).collect());
    let maps = Modules::default().select(variant.adapts().then_some(&targets), &config).unwrap().maps;
    let runs: Vec<RunPlan> = (0..2).map(|seed| RunPlan { init_seed: seed, alpha: spec.alpha }).collect();
    let plan = StackPlan::new(variant, runs, maps.into_keys().collect());
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

/// The tensors that get a gradient from one backward pass, in the order in which the optimizer lays tensors out: diagonals, then what else
/// has components, then the rest.
fn reached(cohort: &mut Cohort, batches: &Batches) -> Vec<String> {
    cohort.network.track();
    let place = cohort.network.backbone.place().clone();
    let batch = batches.batch(&cohort.network, 0).upload(&place);
    let loss = forward::losses(&cohort.network, &batch, &Pass::evaluation(2)).remove(0).sum();
    let mut gradients = loss.backward();
    let mut found: Vec<_> = cohort.network.parameters(0);
    found.retain(|named| named.param.tensor.grad_remove(&mut gradients).is_some());
    found.sort_by_key(|named| (named.param.role != Role::Lambda, named.param.rank_axis.is_none()));
    found.into_iter().map(|named| named.name).collect()
}

#[track_caller]
fn check(what: &str, arch: &str, objective: &Objective, spec: &VariantSpec, endings: &[&str]) {
    for recomputes in [false, true] {
        let mut cohort = cohort(arch, objective, spec, endings);
        cohort.recomputes = recomputes;
        let batches = Batches::new(objective.clone(), 2);
        let reached = reached(&mut cohort, &batches);
        cohort.advance(&batches);
        let slices = cohort.stacks[0].optimizer.slices();
        let laid_out: Vec<&String> = slices.iter().map(|slice| &slice.name).collect();
        assert_eq!(laid_out, reached.iter().collect::<Vec<_>>(), "{what} on {arch}");
        let ends: BTreeSet<usize> = slices.iter().map(|slice| slice.start + slice.len()).collect();
        assert!(slices.iter().all(|slice| slice.start == 0 || ends.contains(&slice.start)), "{what}: no gap");
    }
}

fn classes() -> Objective {
    Objective::Classification { labels: vec!["no".into(), "yes".into()] }
}

fn spec(preset: &Preset) -> VariantSpec {
    (preset.spec)(4)
}

#[test]
fn every_preset_lays_out_what_the_loss_reaches() {
    for preset in preset::all() {
        for (arch, endings) in [
            ("roberta", ["query", "value"].as_slice()),
            ("bert", &["query", "output.dense"]),
            ("gpt2", &["attn.c_attn", "mlp.c_fc"]),
            ("llama", &["q_proj", "down_proj"]),
        ] {
            check(preset.name, arch, &classes(), &spec(preset), endings);
        }
    }
}

/// Text has no head, so some presets have nothing to train: biases on an architecture without any, and the head alone.
#[test]
fn every_preset_lays_out_what_the_loss_of_a_text_reaches() {
    let mut untrained = Vec::new();
    for preset in preset::all() {
        for (arch, endings) in [("gpt2", ["attn.c_attn"].as_slice()), ("llama", &["q_proj", "v_proj"])] {
            let spec = spec(preset);
            let mut cohort = cohort(arch, &Objective::Text, &spec, endings);
            if cohort.network.tensors(0).iter().any(|param| spec.train.trains(param.role)) {
                check(preset.name, arch, &Objective::Text, &spec, endings);
            } else {
                untrained.push((preset.name, arch));
            }
        }
    }
    assert_eq!(untrained, [("bitfit", "llama"), ("head_only", "gpt2"), ("head_only", "llama")]);
}

/// GPT-2's query, key and value are one map, or three slots of which some are adapted.
#[test]
fn parts_of_a_fused_map_and_embeddings_are_laid_out_where_they_are_used() {
    let lora = preset::find("lora").unwrap();
    check("parts", "gpt2", &classes(), &spec(lora), &["c_attn.q", "c_attn.v"]);
    check("an embedding", "gpt2", &Objective::Text, &spec(lora), &["wte", "attn.c_attn"]);
    check("an embedding", "roberta", &classes(), &spec(lora), &["word_embeddings", "query"]);
    let bias = VariantSpec { bias: variants::base::BiasSpec::All, ..spec(lora) };
    check("biases", "gpt2", &Objective::Text, &bias, &["c_attn.q"]);
}
