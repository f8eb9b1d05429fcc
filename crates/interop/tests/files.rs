//! Studies whose models and data are files: GLUE's folders, a user's own tables, texts for a decoder.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/adapters.rs"]
mod support;

use std::path::{Path, PathBuf};

use data::{glue, holdout::Holdout};
use experiment::{Experiment, cell::Recipe, tasks::load_for};
use interop::{
    dtype::Dtype,
    merge::{self, MergeRequest},
    peft::import::Purpose,
    predict,
    predict::run::{Request, Rows, Source},
};
use record::{RunRecord, Store};
use support::{base_fixture as fixture, cache, write_tokenizer};
use trainer::{adapter, evaluate::score::predictions};

fn read(yaml: &str) -> Experiment {
    experiment::read(yaml, "test.yaml", "test", &[]).unwrap_or_else(|errors| panic!("{errors}"))
}

#[track_caller]
fn refused(yaml: &str, parts: &[&str]) {
    let message = experiment::read(yaml, "test.yaml", "test", &[]).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "`{message}` lacks `{part}`");
    }
}

fn run(experiment: &Experiment, root: &Path) -> Vec<RunRecord> {
    support::run_study(experiment.cells(), root, experiment.name(), &cache(), 2)
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// RTE as the benchmark ships it, of the words that the embedded tokenizer has.
fn glue_folder(root: &Path) {
    let rows = |n: usize, labelled: bool| -> String {
        (0..n)
            .map(|i| {
                let animal = ["dog", "cat", "bird"][i % 3];
                let label = if i % 2 == 0 { "entailment" } else { "not_entailment" };
                let last = if labelled { format!("\t{label}") } else { String::new() };
                format!("{i}\tthe {animal} slept .\tthe {} slept .{last}\n", ["dog", "cat"][i % 2])
            })
            .collect()
    };
    write(root, "RTE/train.tsv", &format!("index\tsentence1\tsentence2\tlabel\n{}", rows(24, true)));
    write(root, "RTE/dev.tsv", &format!("index\tsentence1\tsentence2\tlabel\n{}", rows(10, true)));
    write(root, "RTE/test.tsv", &format!("index\tsentence1\tsentence2\n{}", rows(6, false)));
}

fn glue_yaml(data: &Path, model: &str, targets: &str) -> String {
    format!(
        "suite: glue\ndata: {}\nmodel: {model}\ntasks: [rte]\nseeds: [0, 1]\ntargets: {targets}\nranks: [2]\n\
         train: {{steps: 3, batch: 4, max_length: 32}}\nvariants: [lora]\n",
        data.display()
    )
}

#[test]
fn a_task_of_the_benchmark_is_trained_predicted_and_handed_in() {
    let root = tempfile::tempdir().unwrap();
    glue_folder(root.path());
    let experiment = read(&glue_yaml(root.path(), "mini_roberta", "[query]"));
    let records = run(&experiment, &root.path().join("results"));
    assert_eq!(records.len(), 2);
    let record = &records[0];
    assert!(record.is_finished() && record.evaluations.iter().all(|e| e.split == "dev" && e.examples == 10));
    assert!(record.measured.merge_error.unwrap() < 1e-4);

    let store = Store::open(&root.path().join("results"), "test").unwrap();
    let cache = cache();
    let path = store.run_dir(&record.cell).join("adapter.safetensors");
    let (metadata, network) = adapter::load(&path, &cache).unwrap();
    let base = cache.base(&metadata.plan.model).unwrap();
    let objective = glue::tasks().into_iter().find(|info| info.name == "rte").unwrap().objective;
    // The dev rows of the run and of its file are the same rows.
    let of_split = predict::split(&metadata.plan, "dev").unwrap();
    assert_eq!(of_split, predict::rows(&metadata.plan, &objective, &root.path().join("RTE/dev.tsv")).unwrap());
    let found = predict::predict(&network, &base, &of_split, 32).unwrap();
    let hits =
        predictions(&found.logits, &objective).iter().zip(&found.labels).filter(|(p, l)| **p == f64::from(**l)).count();
    assert!((hits as f64 / 10.0 - record.evaluations.last().unwrap().metrics["accuracy"]).abs() < 1e-12);
    let test = predict::split(&metadata.plan, "test").unwrap();
    let found = predict::predict(&network, &base, &test, 32).unwrap();
    assert!(found.labels.iter().all(|label| label.is_nan()));
    let (name, bytes) = glue::submission("rte", "test", &predictions(&found.logits, &objective)).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!((name.as_str(), text.lines().count()), ("RTE.tsv", 7));
    assert!(text.starts_with("index\tprediction\n0\t") && text.contains("entailment"), "{text}");
    let error = predict::split(&metadata.plan, "tset").unwrap_err().to_string();
    assert!(error.contains("no split `tset`") && error.contains("`dev`"), "{error}");
}

#[test]
fn a_table_of_the_user_is_a_task() {
    let root = tempfile::tempdir().unwrap();
    let rows: String =
        (0..30).map(|i| format!("\"the {} slept .\",{}\n", ["dog", "cat"][i % 2], ["calm", "wild"][i % 2])).collect();
    write(root.path(), "mood/train.csv", &format!("text,mood\n{rows}"));
    write(root.path(), "mood/dev.csv", &format!("text,mood\n{rows}"));
    let yaml = |task: &str| {
        format!(
            "suite: custom\ndata: {}\nmodel: mini_roberta\ntasks:\n  - task: {task}\n    train: {{steps: 40}}\nseeds: [0]\ntargets: [query, value]\n\
             ranks: [2]\ntrain: {{batch: 8, max_length: 16, learning_rate: 2e-3, warmup: 0.0}}\nvariants: [lora]\n",
            root.path().display()
        )
    };
    let experiment = read(&yaml("{name: mood, train: mood/train.csv, dev: mood/dev.csv, text: text, label: mood}"));
    // Before it was called custom, the suite was called own: either word is the same recipe, and records keep theirs.
    let former = read(
        &yaml("{name: mood, train: mood/train.csv, dev: mood/dev.csv, text: text, label: mood}")
            .replace("custom", "own"),
    );
    assert_eq!(former.cells(), experiment.cells());
    let recorded = serde_json::to_value(&experiment.cells()[0].recipe).unwrap();
    assert_eq!((&recorded["suite"], recorded["given"].get("own").is_some()), (&"own".into(), true));
    let results = root.path().join("results");
    let records = run(&experiment, &results);
    let accuracy = records[0].evaluations.last().unwrap().metrics["accuracy"];
    assert!(accuracy > 0.95, "one word tells the two apart: {accuracy}");
    // Its merged checkpoint predicts as the adapter does, for whoever says which task it is.
    let (adapter, merged) = (results.join("test/runs/mood-lora-r2-s0"), root.path().join("merged"));
    let request = MergeRequest {
        adapter: &adapter,
        model: None,
        rank: None,
        dtype: Dtype::F32,
        rows: merge::Rows::Split("dev".to_owned()),
        most: 30,
        out: &merged,
        force: false,
    };
    merge::merge(&request, &cache()).unwrap();
    let plan = &experiment.cells()[0].recipe;
    let purpose = Purpose {
        suite: plan.suite.clone(),
        data: plan.data.as_ref().map(ToString::to_string),
        task: plan.task.clone(),
        given: plan.given.clone(),
        max_length: Some(plan.train.max_length),
        draws_train: false,
    };
    let merged = merged.display().to_string();
    let scores = |source: Source<'_>| {
        let request = Request { source, rows: Rows::Split("dev"), max_length: None, submission: None, form: None };
        predict::run::run(&request, &cache()).unwrap().scores.unwrap()
    };
    let of_merged = scores(Source::Checkpoint { model: &merged, purpose: &purpose });
    assert_eq!(of_merged, scores(Source::Adapter { path: &adapter, model: None, purpose: None }));
    let unknown = Purpose::of_suite("glue", "mood");
    let error = predict::checkpoint(&merged, unknown, None, &cache()).unwrap_err().to_string();
    assert!(error.contains("task is `mood`, but must be one of cola, ") && error.contains("an experiment"), "{error}");
    refused(&yaml("mood"), &["tasks[0].task", "is described"]);
    refused(&yaml("{name: mood, train: a.csv, text: t, label: l}"), &["tasks[0].task", "dev"]);
    refused(&yaml("{name: mood, trian: a.csv, text: t, label: l}"), &["tasks[0].task", "trian"]);
}

/// The split of a run is the one that it trained and was judged on: the sample that its seed draws, and what a tuning cut off.
#[test]
fn a_split_is_the_runs_own() {
    let yaml = "suite: glue_mini\nmodel: mini_roberta\ntasks: [rte]\nseeds: [0]\ntargets: [query]\nranks: [2]\nvariants: [lora]\n\
                train: {steps: 1, batch: 2, max_length: 32}\n";
    let mut plan = read(yaml).cells()[0].recipe.clone();
    let rows = |plan: &Recipe, split: &str| predict::split(plan, split);
    let all = rows(&plan, "train").unwrap();
    plan.seeds.sample = Some(7);
    let drawn = rows(&plan, "train").unwrap();
    assert_eq!(drawn, load_for(&plan).unwrap().dataset.train);
    assert_ne!(drawn, all);
    plan.seeds.sample = None;
    plan.holdout = Some(Holdout { share: 0.25, seed: 3 });
    let (kept, tune) = (rows(&plan, "train").unwrap(), rows(&plan, "tune").unwrap());
    assert_eq!((kept.len() + tune.len(), tune.is_empty()), (all.len(), false));
    assert!(tune.iter().all(|row| all.contains(row)));
    assert!(rows(&plan, "tset").unwrap_err().to_string().contains("it has `train`, `tune`"));
}

#[test]
fn data_is_asked_for_where_it_is_needed_and_looked_for() {
    let base = "suite: glue\nmodel: mini_roberta\ntasks: [rte]\nseeds: [0]\nvariants: [head_only]\n";
    refused(base, &["data", "suite `glue` is read from files", "hf://"]);
    // Without its folder an experiment can be read, as for a table of its results, and not be run.
    let read_only = read(&format!("data: /nowhere\n{base}"));
    let plan = &read_only.cells()[0].recipe;
    let error = assets::source::absent(&plan.model, plan.data.as_deref()).unwrap().to_string();
    assert!(error.contains("/nowhere: no such folder"), "{error}");
    refused(
        &base.replace("glue", "glue_mini").replace("suite", "data: .\nsuite"),
        &["comes with the build", "leave `data` out"],
    );
    refused(&base.replace("suite: glue", "suite: glue\ndata: .").replace("[rte]", "[rtf]"), &["did you mean `rte`"]);
    // A repository of the hub is not downloaded by a check.
    read(&format!("data: hf://nyu-mll/glue\n{base}").replace("[head_only]", "[bitfit]"));
}

/// A tiny decoder of the fixtures with a tokenizer of as many words.
fn decoder(root: &Path, arch: &str, vocabulary: usize) -> PathBuf {
    let folder = root.join(arch);
    std::fs::create_dir_all(&folder).unwrap();
    for file in std::fs::read_dir(fixture(arch)).unwrap().map(|entry| entry.unwrap().path()) {
        if file.is_file() {
            std::fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
        }
    }
    write_tokenizer(&folder, vocabulary);
    folder
}

fn pairs(n: usize) -> String {
    (0..n)
        .map(|i| format!("w{} w{}||w{} w{} w40 w41 w42 w43\n", 5 + i % 7, 12 + i % 5, 20 + i % 7, 30 + i % 5))
        .collect()
}

#[test]
fn a_decoder_learns_texts_and_writes_some() {
    let root = tempfile::tempdir().unwrap();
    for (arch, vocabulary, targets) in [("gpt2", 72, "[c_attn.q, c_attn.v]"), ("llama", 80, "all-linear")] {
        let model = decoder(root.path(), arch, vocabulary);
        write(root.path(), "e2e/train.txt", &pairs(64));
        write(root.path(), "e2e/dev.txt", &pairs(20));
        let experiment = read(&format!(
            "name: {arch}\nsuite: text\ndata: {}\nmodel: {}\nseeds: [0]\ntargets: {targets}\nranks: [4]\n\
             train: {{steps: 80, batch: 8, max_length: 24, learning_rate: 2e-2, warmup: 0.0, backbone_dropout: 0.0}}\n\
             tasks:\n  - task: {{name: e2e, form: pairs, train: e2e/train.txt, dev: e2e/dev.txt, metrics: [perplexity, bleu], \
             decoding: {{max_new_tokens: 8, beams: 3}}}}\n\
             variants: [lora, {{preset: lora, label: untrained, train: {{steps: 1}}}}]\n",
            root.path().display(),
            model.display()
        ));
        let records = run(&experiment, &root.path().join("results"));
        let last = |label: &str| {
            let record = records.iter().find(|record| record.cell.variant == label).unwrap();
            assert!(record.is_finished() && record.measured.merge_error.unwrap() < 1e-3, "{arch}: {record:?}");
            record.evaluations.last().unwrap().clone()
        };
        let (trained, untrained) = (last("lora"), last("untrained"));
        assert!((trained.metrics["perplexity"] - trained.loss.exp()).abs() < 1e-9 * trained.metrics["perplexity"]);
        assert!(
            trained.metrics["perplexity"] < 0.5 * untrained.metrics["perplexity"],
            "{arch}: {trained:?} {untrained:?}"
        );
        assert!(trained.metrics["bleu"] > untrained.metrics["bleu"], "{arch}: {trained:?} {untrained:?}");
        assert_eq!(records[0].primary_metric.goal, record::Goal::Minimise);
    }
    refused(
        &format!(
            "suite: text\ndata: {}\nmodel: mini_roberta\nseeds: [0]\ntasks:\n  - task: {{name: e2e, form: pairs, train: a, dev: b}}\nvariants: [head_only]\n",
            root.path().display()
        ),
        &["model", "is an encoder", "GPT-2 or Llama"],
    );
}

#[test]
fn a_decoders_layers_computed_again_give_the_same_losses() {
    let root = tempfile::tempdir().unwrap();
    for (arch, vocabulary) in [("gpt2", 72), ("llama", 80)] {
        let model = decoder(root.path(), arch, vocabulary);
        write(root.path(), "e2e/train.txt", &pairs(64));
        write(root.path(), "e2e/dev.txt", &pairs(20));
        let losses = [false, true].map(|recompute| {
            let experiment = read(&format!(
                "name: {arch}_{recompute}\nsuite: text\ndata: {}\nmodel: {}\nseeds: [0]\ntargets: all-linear\nranks: [4]\n\
                 train: {{steps: 8, batch: 8, max_length: 24, learning_rate: 2e-3, recompute: {recompute}}}\n\
                 tasks:\n  - task: {{name: e2e, form: pairs, train: e2e/train.txt, dev: e2e/dev.txt, metrics: [perplexity]}}\n\
                 variants: [lora, full]\n",
                root.path().display(),
                model.display()
            ));
            let records = run(&experiment, &root.path().join("results"));
            records.iter().flat_map(|record| record.steps.task_loss().to_vec()).collect::<Vec<f64>>()
        });
        assert_eq!(losses[0].len(), 16);
        for (kept, again) in losses[0].iter().zip(&losses[1]) {
            // f32, where sums come in another order.
            assert!((kept - again).abs() < 1e-5, "{arch}: {kept} {again}");
        }
    }
}

#[test]
fn a_decoder_classifies_by_its_last_token() {
    let root = tempfile::tempdir().unwrap();
    glue_folder(root.path());
    let model = decoder(root.path(), "llama_tied", 66);
    let experiment = read(&glue_yaml(root.path(), &model.display().to_string(), "[q_proj]"));
    let records = run(&experiment, &root.path().join("results"));
    assert!(records.iter().all(|record| record.is_finished() && record.measured.head_params == 24 * 2));
}

/// A fine-tuned checkpoint is asked with its own head.
#[test]
fn a_checkpoint_with_a_head_predicts_by_itself() {
    let cache = cache();
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("bert");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture("bert").join(name), folder.join(name)).unwrap();
    }
    let words: Vec<String> = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", "the", "dog", "slept"]
        .iter()
        .enumerate()
        .map(|(id, word)| format!("\"{word}\": {id}"))
        .collect();
    let json = format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer": {{"type": "WhitespaceSplit"}},
        "post_processor": {{"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}}, "decoder": null,
        "model": {{"type": "WordLevel", "vocab": {{{}}}, "unk_token": "[UNK]"}}}}"#,
        words.join(", ")
    );
    std::fs::write(folder.join("tokenizer.json"), json).unwrap();
    let model = folder.display().to_string();
    let (plan, network, _) = predict::checkpoint(&model, Purpose::of_suite("glue", "mnli"), None, &cache).unwrap();
    let row =
        |first: &str| data::task::Example { first: first.into(), second: Some("the dog".into()), label: f32::NAN };
    let base = cache.base(&model).unwrap();
    // Every position of the base, where nobody says how long a row is.
    assert_eq!(plan.train.max_length, base.backbone.config().longest());
    let rows = [row("the dog slept"), row("slept")];
    let found = predict::predict(&network, &base, &rows, plan.train.max_length).unwrap();
    assert_eq!(found.cut, None);
    let short = predict::predict(&network, &base, &rows, 7).unwrap();
    assert_eq!(short.cut.unwrap(), "1 of 2 rows (50.0%) are longer than max_length 7 and were cut");
    assert!(short.logits[0] != found.logits[0] && short.logits[1] == found.logits[1]);
    assert!(found.logits.len() == 2 && found.logits[0].len() == 3 && found.logits[0] != found.logits[1]);
    let error = predict::checkpoint(&model, Purpose::of_suite("glue", "rte"), None, &cache).unwrap_err().to_string();
    assert!(error.contains("`classifier.weight` has 3 outputs, but `rte` has 2"), "{error}");
}
