//! What the tests of whole studies share.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{LazyLock, Mutex, atomic::AtomicBool},
};

use burn::tensor::{DType, Device};
use experiment::cell::Cell;
use record::{CodeIdentity, RunRecord, Store};
use trainer::{
    adapter,
    error::TrainError,
    model_cache::ModelCache,
    sink::{Event, Silent, Sink},
    stop::Stop,
    study::{self, context::StudyContext},
};
use variants::host::{Placement, values};

pub(crate) fn cache(dtype: DType) -> ModelCache {
    ModelCache::new(Placement::new(&Device::flex(), dtype))
}

/// The cells of an experiment under overrides.
pub(crate) fn cells(yaml: &str, overrides: &[&str]) -> Vec<Cell> {
    let overrides: Vec<String> = overrides.iter().map(|set| (*set).to_owned()).collect();
    let experiment = experiment::read(yaml, "test.yaml", "test", &overrides);
    experiment.unwrap_or_else(|errors| panic!("{errors}")).cells().to_vec()
}

/// Tables of few rows, for studies whose runs are many: of the embedded suite, evaluation would take most of the time.
static FEW_ROWS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let (who, what) = (["the boy", "a girl", "no man", "the child", "some birds"], ["likes", "sees", "hates", "fears"]);
    let row = |at: usize| {
        let (subject, verb) = (who[at * 7 % who.len()], at * 3 % what.len());
        let mood = if verb < 2 { "good" } else { "bad" };
        format!("{subject} {} the {} dog,{mood},{}\n", what[verb], ["big", "small", "old"][at % 3], at % 3)
    };
    for (name, rows) in [("train.csv", 0..160), ("dev.csv", 160..200)] {
        fs::write(folder.path().join(name), rows.map(row).fold("text,mood,size\n".to_owned(), |all, row| all + &row))
            .unwrap();
    }
    folder
});

/// The cells of an experiment on [two small tables](FEW_ROWS), `mood` and, where `both`, the regression `size`, under overrides.
pub(crate) fn cells_of_few_rows(rest: &str, both: bool, overrides: &[&str]) -> Vec<Cell> {
    let table = "train: train.csv, dev: dev.csv, text: text, label";
    let size =
        if both { format!("\n  - task: {{name: size, kind: regression, {table}: size}}") } else { String::new() };
    let tasks = format!("\n  - task: {{name: mood, {table}: mood}}{size}");
    let data = FEW_ROWS.path().display();
    cells(&format!("suite: custom\ndata: {data}\nmodel: mini_roberta\ntasks:{tasks}\n{rest}"), overrides)
}

/// The entry of a preset at the first of several lists of ranks that all suit the maps of `mini_roberta`; none where it has no rank.
pub(crate) fn entry(name: &str, lists: &[&[usize]]) -> String {
    let delta = (variants::preset::find(name).unwrap().spec)(lists[0][0]).delta;
    let Some(delta) = delta.filter(variants::delta::DeltaSpec::is_ranked) else { return format!("{{preset: {name}}}") };
    let shapes = [[128, 128], [128, 512], [512, 128]];
    let suits = |rank: &usize| shapes.into_iter().all(|shape| delta.misfit(*rank, shape).is_none());
    let ranks =
        lists.iter().find(|ranks| ranks.iter().all(suits)).unwrap_or_else(|| panic!("`{name}` has no such rank"));
    format!("{{preset: {name}, ranks: {ranks:?}}}")
}

pub(crate) fn store(root: &Path) -> Store {
    Store::open(root, "test").unwrap()
}

/// Trains cells into `root`, `cohort` runs at once.
pub(crate) fn run(
    cache: &ModelCache,
    cells: &[Cell],
    root: &Path,
    cohort: usize,
    stop: &AtomicBool,
    sink: &dyn Sink,
) -> Result<Vec<RunRecord>, TrainError> {
    run_keeping(false, cache, cells, root, cohort, stop, sink)
}

/// [`run`], which keeps finished cells without an adapter where `keeps_records`.
pub(crate) fn run_keeping(
    keeps_records: bool,
    cache: &ModelCache,
    cells: &[Cell],
    root: &Path,
    cohort: usize,
    stop: &AtomicBool,
    sink: &dyn Sink,
) -> Result<Vec<RunRecord>, TrainError> {
    let store = store(root);
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
        keeps_records,
        stop: Stop::on(stop),
    };
    study::run(cells, &context, sink)?;
    study::records(cells, &store)
}

/// What a sink keeps of a study's events, by the function that puts them into words.
struct Said<'a>(&'a (dyn Fn(&Event<'_>) -> Option<String> + Sync), Mutex<Vec<String>>);

impl Sink for Said<'_> {
    fn event(&self, event: &Event<'_>) {
        self.1.lock().unwrap().extend(self.0(event));
    }
}

/// What is said of a cell that is trained again.
pub(crate) fn of_cells(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Renewed { cell, reason } => Some(format!("{cell}: {reason}")),
        Event::WithoutAdapter { cells, first } => Some(format!("{cells} without adapter, first {first}")),
        _ => None,
    }
}

/// Runs cells once more, two at once, and keeps what `tell` says of the events.
pub(crate) fn again(
    cells: &[Cell],
    root: &Path,
    tell: &(dyn Fn(&Event<'_>) -> Option<String> + Sync),
) -> (Result<Vec<RunRecord>, TrainError>, Vec<String>) {
    let said = Said(tell, Mutex::default());
    let records = run(&cache(DType::F32), cells, root, 2, &AtomicBool::new(false), &said);
    (records, said.1.into_inner().unwrap())
}

pub(crate) fn finish(cells: &[Cell], root: &Path, cohort: usize) -> Vec<RunRecord> {
    run(&cache(DType::F32), cells, root, cohort, &AtomicBool::new(false), &Silent).unwrap()
}

/// Every tensor of a cell's saved adapter.
pub(crate) fn tensors(cell: &Cell, root: &Path) -> BTreeMap<String, Vec<f64>> {
    let (_, mut network) = adapter::load(&store(root).adapter_path(&cell.id), &cache(DType::F32)).unwrap();
    network.parameters(0).into_iter().map(|named| (named.name, values(&named.param.tensor))).collect()
}

/// The tiny GPT-2 of the fixtures with a tokenizer of whole words, which they lack.
pub(crate) fn write_decoder(root: &Path) -> String {
    let from = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures/gpt2");
    let folder = root.join("gpt2");
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(file), folder.join(file)).unwrap();
    }
    let words: Vec<String> = (2..72).map(|id| format!("\"w{id}\": {id}")).collect();
    let json = format!(
        r#"{{"version": "1.0", "added_tokens": [{{"id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true}}], "pre_tokenizer": {{"type": "WhitespaceSplit"}},
        "model": {{"type": "WordLevel", "vocab": {{"<|endoftext|>": 0, "<unk>": 1, {}}}, "unk_token": "<unk>"}}}}"#,
        words.join(", ")
    );
    std::fs::write(folder.join("tokenizer.json"), json).unwrap();
    folder.display().to_string()
}
