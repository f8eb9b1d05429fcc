//! What the tests of adapters share: checkpoints of the fixtures with a tokenizer, saved adapters, small studies, tensors of files.
#![allow(dead_code, reason = "each test file uses some")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Device};
use experiment::{
    cell::{Cell, Recipe, TaskSource},
    hyper::Hyper,
};
use models::{
    modules::Modules,
    network::{NamedParam, Network},
    safetensors::as_f32,
    target::Target,
};
use record::{CellId, CodeIdentity, RunRecord, Store};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use trainer::{
    adapter::{self, AdapterMetadata},
    model_cache::ModelCache,
    sink::Silent,
    stop::Stop,
    study::{self, context::StudyContext},
};
use variants::{
    host::{Placement, values},
    pass::Pass,
    spec::VariantSpec,
    stream::{self, Seeds, Stream},
};

pub(crate) fn place(dtype: DType) -> Placement {
    Placement::new(&Device::flex(), dtype)
}

pub(crate) fn cache() -> ModelCache {
    ModelCache::new(place(DType::F32))
}

/// A file or folder of this crate's fixtures.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A checkpoint of the fixtures of `models`.
pub(crate) fn base_fixture(arch: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures").join(arch)
}

/// Shape and numbers of tensors, by name.
pub(crate) type Numbers = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

pub(crate) fn numbers(path: &Path) -> Numbers {
    let bytes = std::fs::read(path).unwrap();
    let one = |(name, view): (String, TensorView<'_>)| {
        let numbers = match view.dtype() {
            Dtype::I64 => view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            _ => as_f32(&view).unwrap().into_iter().map(f64::from).collect(),
        };
        (name, (view.shape().to_vec(), numbers))
    };
    SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().map(one).collect()
}

pub(crate) fn write_numbers(path: &Path, tensors: &Numbers) {
    let narrow = |values: &[f64]| values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect::<Vec<u8>>();
    let raw: Vec<_> = tensors.iter().map(|(name, (shape, values))| (name, shape.clone(), narrow(values))).collect();
    let views =
        raw.iter().map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A tokenizer of whole words: `<|endoftext|>`, `<unk>`, `w2`, `w3`, ..
pub(crate) fn write_tokenizer(folder: &Path, words: usize) {
    let words: Vec<String> = (0..words)
        .map(|id| match id {
            0 => "\"<|endoftext|>\": 0".to_owned(),
            1 => "\"<unk>\": 1".to_owned(),
            id => format!("\"w{id}\": {id}"),
        })
        .collect();
    let json = format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{{"id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true}}],
        "pre_tokenizer": {{"type": "WhitespaceSplit"}}, "post_processor": null, "decoder": null,
        "model": {{"type": "WordLevel", "vocab": {{{}}}, "unk_token": "<unk>"}}}}"#,
        words.join(", ")
    );
    std::fs::write(folder.join("tokenizer.json"), json).unwrap();
}

/// A checkpoint of the fixtures with a tokenizer of whole words, which they lack.
pub(crate) fn checkpoint(root: &Path, arch: &str) -> String {
    let folder = root.join("base").join(arch);
    std::fs::create_dir_all(&folder).unwrap();
    for file in std::fs::read_dir(base_fixture(arch)).unwrap().map(|entry| entry.unwrap().path()) {
        if file.file_name().unwrap().to_string_lossy().starts_with("model") || file.ends_with("config.json") {
            std::fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
        }
    }
    write_tokenizer(&folder, 60);
    folder.display().to_string()
}

/// A task on text whose files are nowhere.
pub(crate) fn text_task() -> TaskSource {
    let task = r#"{"name": "e2e", "form": "pairs", "train": "train.txt", "dev": "dev.txt"}"#;
    TaskSource::Text(serde_json::from_str(task).unwrap())
}

/// A recipe for MNLI, whose three classes are those of the fixtures' heads, or for text.
pub(crate) fn plan(model: &str, targets: &[&str], preset: &str, variant: VariantSpec, is_text: bool) -> Recipe {
    Recipe {
        suite: if is_text { "text" } else { "glue" }.to_owned(),
        data: Some("/nowhere".into()),
        task: if is_text { "e2e" } else { "mnli" }.to_owned(),
        given: is_text.then(text_task),
        model: model.into(),
        start_from: None,
        targets: Target::Endings(targets.iter().map(|t| (*t).to_owned()).collect()),
        modules: Modules::default(),
        preset: preset.to_owned(),
        variant,
        train: Hyper { max_length: 20, ..Hyper::default() },
        readouts: Vec::new(),
        holdout: None,
        forgetting: None,
        seeds: Seeds::all(0),
    }
}

/// An adapter whose tensors `fill` sets, saved in `folder` as a run would; its file and its network.
pub(crate) fn saved(
    folder: &Path,
    name: &str,
    plan: &Recipe,
    cache: &ModelCache,
    mut fill: impl FnMut(&NamedParam<'_>, Vec<f64>) -> Vec<f64>,
) -> (PathBuf, Network) {
    let cell = CellId { task: plan.task.clone(), variant: name.to_owned(), rank: plan.variant.rank, seed: 0 };
    let stack = adapter::stack_plan(plan, &cell, cache).unwrap();
    // A start from training batches is not made here; `fill` puts other values in any case.
    let is_calibrated = plan.variant.delta.as_ref().is_some_and(|delta| delta.calibration().is_some());
    let stack = if is_calibrated { stack.with_given_values() } else { stack };
    let outputs = match plan.suite.as_str() {
        "text" => 0,
        "glue_mini" => 2,
        _ => 3,
    };
    let mut network = cache.network(plan, &[(stack, vec![outputs])]).unwrap();
    for mut named in network.parameters(0) {
        let new = fill(&named, values(&named.param.tensor));
        named.param.tensor.set(cache.place().tensor(new, named.param.tensor.dims()));
    }
    let metadata = AdapterMetadata {
        cell,
        plan: plan.clone(),
        outputs,
        model_hash: cache.base(&plan.model).unwrap().hash.clone(),
        drawn: adapter::drawn(&network),
        step: None,
    };
    std::fs::create_dir_all(folder).unwrap();
    let file = folder.join("adapter.safetensors");
    adapter::save(&file, &metadata, &adapter::tensors(&mut network, 0, 0)).unwrap();
    (file, network)
}

/// A tensor a little away from its start: `size` times normal noise of a seed and a name.
pub(crate) fn noisy(values: &[f64], seed: u64, name: &str, size: f64) -> Vec<f64> {
    let noise = stream::normal(&mut stream::generator(seed, Stream::Init, name), values.len(), size);
    values.iter().zip(noise).map(|(value, noise)| value + noise).collect()
}

/// Logits of a fixture's rows: `[rows][outputs]`, or of every real position of a text.
pub(crate) fn logits(network: &Network, asked: &Numbers, is_text: bool) -> Vec<f64> {
    let whole = |name: &str| -> Vec<u32> {
        asked.get(name).map(|(_, v)| v.iter().map(|v| *v as u32).collect()).unwrap_or_default()
    };
    let lengths: Vec<usize> = asked["lengths"].1.iter().map(|v| *v as usize).collect();
    let tokens = network.backbone.tokens(&whole("input_ids"), &whole("type_ids"), &lengths);
    let pass = Pass::evaluation(1);
    if !is_text {
        return values(&network.classify(&tokens, &pass)[0]);
    }
    let seq = asked["input_ids"].0[1];
    let real: Vec<u32> =
        lengths.iter().enumerate().flat_map(|(row, n)| (0..*n).map(move |at| (row * seq + at) as u32)).collect();
    values(
        &network.continue_at(
            &network.backbone.forward(&tokens, &pass),
            &[models::head::index(&real, network.backbone.place())],
            &pass,
        )[0],
    )
}

/// The logits of a fixture at the same places.
pub(crate) fn wanted(asked: &Numbers, name: &str) -> Vec<f64> {
    let (shape, all) = &asked[name];
    if shape.len() == 2 {
        return all.clone();
    }
    let (seq, width) = (shape[1], shape[2]);
    let lengths = asked["lengths"].1.iter().map(|v| *v as usize);
    lengths.enumerate().flat_map(|(row, n)| all[row * seq * width..][..n * width].to_vec()).collect()
}

pub(crate) fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(f64::abs).fold(0.0, f64::max)
}

/// The largest difference.
#[track_caller]
pub(crate) fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    largest(a.iter().zip(b).map(|(a, b)| a - b))
}

/// Trains cells into the results folder `root`.
pub(crate) fn run_study(cells: &[Cell], root: &Path, name: &str, cache: &ModelCache, cohort: usize) -> Vec<RunRecord> {
    let store = Store::open(root, name).unwrap();
    let code = CodeIdentity { code_hash: "test".into(), commit: "test".into(), dirty: true };
    let context = StudyContext {
        cache,
        store: &store,
        code: &code,
        versions: &BTreeMap::new(),
        device: "flex",
        cohort: Some(cohort),
        workers: 1,
        among: 1,
        stays: true,
        lease: None,
        keeps_records: false,
        stop: Stop::NEVER,
    };
    study::run(cells, &context, &Silent).unwrap_or_else(|error| panic!("{error}"));
    study::records(cells, &store).unwrap()
}

/// Fails where a message lacks a part.
#[track_caller]
pub(crate) fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}
