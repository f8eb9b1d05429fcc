//! Runs whose maps have ranks and scales of their own and whose modules train in full: trained, recorded, saved, loaded, cut.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/adapters.rs"]
mod support;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::tensor::DType;
use experiment::{SpecErrors, cell::Cell, controls};
use interop::{
    export::{CutRequest, Reduction, at_rank},
    update,
};
use lowrank::Update;
use record::{RunRecord, Store};
use trainer::{adapter, model_cache::ModelCache};
use variants::host::values;

fn cache() -> ModelCache {
    ModelCache::new(support::place(DType::F64))
}

fn read(tasks: &str, variants: &str) -> Result<Vec<Cell>, SpecErrors> {
    let yaml = format!(
        "suite: glue_mini\nmodel: mini_roberta\ntasks: {tasks}\nseeds: [0, 1]\ntargets: [query, value]\nranks: [4]\n\
         train: {{steps: 3, batch: 4, max_length: 48, learning_rate: 1e-3}}\nvariants: {variants}\n"
    );
    experiment::read(&yaml, "test.yaml", "test", &[]).map(|experiment| experiment.cells().to_vec())
}

/// Layers 1 to 3, query at rank 4 with alpha 4, value at rank 2, and the end of the last layer in full; beside it plain LoRA.
const BOTH: &str = "[{preset: lora, label: own, exclude_modules: '.*layer\\.0\\..*', rank_pattern: {value: 2}, \
     alpha_pattern: {query: 4}, modules_to_save: [encoder.layer.3.output], readouts: [truncated, svd]}, lora]";

fn run(cells: &[Cell], root: &Path, cohort: usize) -> Vec<RunRecord> {
    support::run_study(cells, root, "test", &cache(), cohort)
}

fn file(cell: &Cell, root: &Path) -> PathBuf {
    Store::open(root, "test").unwrap().run_dir(&cell.id).join("adapter.safetensors")
}

/// Shape and values of every tensor of an adapter.
fn tensors(path: &Path) -> BTreeMap<String, ([usize; 3], Vec<f64>)> {
    let (_, mut network) = adapter::load(path, &cache()).unwrap();
    let params = network.parameters(0).into_iter();
    params.map(|named| (named.name, (named.param.tensor.dims(), values(&named.param.tensor)))).collect()
}

#[test]
fn patterns_and_whole_modules_train_and_are_recorded_saved_and_cut() {
    let cells = read("[rte]", BOTH).unwrap();
    let (together, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let records = run(&cells, together.path(), 4);
    assert_eq!(records.len(), 4);
    let (own, plain) = (&records[0], &records[2]);
    // Three layers of 128-wide maps; a map of [512, 128] with its bias, and a norm.
    let whole = 512 * 128 + 128 + 2 * 128;
    assert_eq!(own.measured.trainable_params, (3 * (4 + 2) * 256 + whole) as u64);
    assert_eq!(plain.measured.trainable_params, 4 * 2 * 4 * 256);
    let layer = |layer: usize, map: &str| format!("encoder.layer.{layer}.attention.self.{map}");
    let ranks = (1..4).flat_map(|l| [(layer(l, "query"), 4), (layer(l, "value"), 2)]).collect();
    assert_eq!(own.measured.final_ranks, ranks);
    assert!(records.iter().all(|record| record.measured.merge_error.unwrap() < 1e-8));
    let rows: Vec<_> = own.evaluations.iter().map(|e| (e.readout.label.as_str(), e.readout.rank)).collect();
    for row in [("own", 4), ("own_truncated", 1), ("own_truncated", 3), ("own_svd", 3)] {
        assert!(rows.contains(&row), "{row:?} is not in {rows:?}");
    }

    // What is on disk is what trained: each run its own copy, away from the base and from the other run's.
    let [one, other] = [0, 1].map(|run| tensors(&file(&cells[run], together.path())));
    let base = cache().base("mini_roberta").unwrap().backbone.clone();
    let dense = "encoder.layer.3.output.dense";
    let frozen = base.linears().into_iter().find(|map| map.name() == dense).map(|map| values(&map.base().0)).unwrap();
    let saved = |tensors: &BTreeMap<String, ([usize; 3], Vec<f64>)>| tensors[&format!("{dense}.weight")].1.clone();
    assert!(saved(&one) != frozen && saved(&other) != frozen && saved(&one) != saved(&other));
    let copies: Vec<&str> =
        one.keys().filter(|name| name.starts_with("encoder.layer.3.output")).map(String::as_str).collect();
    let wanted = ["LayerNorm.bias", "LayerNorm.weight", "dense.bias", "dense.weight"]
        .map(|end| format!("encoder.layer.3.output.{end}"));
    assert_eq!(copies, wanted);
    assert_eq!(one[&format!("{}.a", layer(1, "value"))].0, [1, 128, 2]);
    assert!(!one.contains_key(&format!("{}.a", layer(0, "query"))));

    // Companions do not matter: in f64 only the order of sums differs.
    run(&cells[..1], alone.path(), 1);
    for cell in &cells[..1] {
        let (here, there) = (tensors(&file(cell, together.path())), tensors(&file(cell, alone.path())));
        assert_eq!(here.keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>());
        for (name, (_, values)) in &here {
            let far = values.iter().zip(&there[name].1).any(|(a, b)| (a - b).abs() > 1e-7);
            assert!(!far, "{}: {name}", cell.id);
        }
    }

    // A cut at 3 takes rank 4 to 3 and leaves rank 2 as it is.
    let (path, out) = (file(&cells[0], together.path()), together.path().join("svd"));
    let cut = |rank: usize, reduction: Reduction| {
        at_rank(&CutRequest { adapter: &path, rank, reduction, out: &out, force: false }, &cache())
    };
    cut(3, Reduction::Svd).unwrap();
    let (whole, reduced) = (update::read(&path, &cache()).unwrap(), update::read(&out, &cache()).unwrap());
    let of = |updates: &update::Updates, map: &str| -> (usize, Vec<f64>) {
        let update = &updates.maps[map].update;
        let width = if let Update::LowRank(product) = update { product.width() } else { 0 };
        (width, update.dense().as_slice().to_vec())
    };
    let far = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let (query, value) = (layer(2, "query"), layer(2, "value"));
    assert_eq!((of(&whole, &query).0, of(&reduced, &query).0, of(&reduced, &value).0), (4, 3, 2));
    assert!(far(&of(&whole, &value).1, &of(&reduced, &value).1) < 1e-12);
    assert!(far(&of(&whole, &query).1, &of(&reduced, &query).1) > 0.0);
    // The modules that train in full are no part of the approximation.
    assert_eq!(saved(&tensors(&out.join("adapter.safetensors"))), saved(&one));
    let refused = cut(2, Reduction::Prefix).unwrap_err().to_string();
    assert!(refused.contains("rank is `2`, but `own` was trained to be used at 4"), "{refused}");
    cut(4, Reduction::Prefix).unwrap();
    assert_eq!(tensors(&out.join("adapter.safetensors")), one);

    // A run with other tensors does not start here.
    let tasks = format!("[{{task: rte, start_from: {}}}]", path.display());
    let errors = read(&tasks, &BOTH.replace("value: 2", "value: 3").replace(", lora]", "]")).unwrap_err().to_string();
    assert!(
        errors.contains(r#"its rank_pattern is `[["value",2]]`, but the run that starts from it has `[["value",3]]`"#),
        "{errors}"
    );
}

#[test]
fn a_comparison_says_what_the_fields_made_unlike() {
    let sentence = |variants: &str| controls::sentence(&read("[rte]", variants).unwrap());
    let unlike = |variants: &str| sentence(variants).split_once("not matched: ").unwrap().1.to_owned();
    assert_eq!(unlike(BOTH), "alpha, modules to save, rank, targets");
    assert!(!sentence("[lora, dora]").contains("modules to save"));
    assert!(!sentence("[lora, dora]").contains("not matched"));
    // A recipe leaves defaults out: what one variant alone sets is not matched by those that have the default.
    let alone = "[lora, {preset: dora, train: {head_learning_rate: 2e-3, precision: bf16}}]";
    assert_eq!(unlike(alone), "head learning rate, precision");
}
