//! Checkpoints as transformers and others write them: what their configurations say is honoured, what their files lack or call otherwise
//! is found, drawn or said, and what cannot be read is named as what it is.
//!
//! Logits are transformers' own, see `fixtures/checkpoints/expected.json`; they have four places, so that they differ by up to 5e-5.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/adapters.rs"]
mod support;

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use interop::{
    dtype,
    merge::{self, MergeRequest, merge},
    peft::import::{ImportRequest, Purpose, import},
    predict::run::{Prediction, Request, Rows, Source, run},
};
use models::safetensors::{self, Dtype, Stored};
use serde_json::{Value, json};
use trainer::model_cache::ModelCache;
use variants::host::Placement;

const TOLERANCE: f64 = 1e-4;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints")
}

/// A copy of a fixture that a test may change.
struct Copy {
    root: tempfile::TempDir,
}

impl Copy {
    fn of(name: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(fixtures().join(name)).unwrap().map(|entry| entry.unwrap().path()) {
            std::fs::write(root.path().join(file.file_name().unwrap()), std::fs::read(&file).unwrap()).unwrap();
        }
        Self { root }
    }

    fn name(&self) -> String {
        self.root.path().display().to_string()
    }

    fn edit(self, file: &str, change: impl Fn(&mut Value)) -> Self {
        let path = self.root.path().join(file);
        let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(path, value.to_string()).unwrap();
        self
    }

    fn config(self, field: &str, value: &Value) -> Self {
        self.edit("config.json", |config| config[field] = value.clone())
    }

    fn without(self, field: &str) -> Self {
        self.edit("config.json", |config| drop(config.as_object_mut().unwrap().remove(field)))
    }

    fn tensors(self, change: impl Fn(Stored) -> Option<Stored>) -> Self {
        let path = self.root.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let all: Vec<Stored> =
            safetensors::read(&bytes).unwrap().into_stored().into_iter().filter_map(change).collect();
        std::fs::write(path, safetensors::write(&all, None).unwrap()).unwrap();
        self
    }

    fn predict(&self, task: &str) -> Result<Prediction, String> {
        self.predict_rows(task, &fixtures().join(format!("{task}.tsv")))
    }

    fn predict_rows(&self, task: &str, rows: &Path) -> Result<Prediction, String> {
        let cache = ModelCache::new(Placement::new(&Device::flex(), DType::F32));
        let request = Request {
            source: Source::Checkpoint { model: &self.name(), purpose: &Purpose::of_suite("glue", task) },
            rows: Rows::File(rows),
            max_length: None,
            submission: None,
            form: None,
        };
        run(&request, &cache).map_err(|error| error.to_string())
    }

    /// Logits of the rows of cola.tsv, and what was said.
    #[track_caller]
    fn logits(&self) -> (Vec<f64>, Vec<String>) {
        let found = self.predict("cola").unwrap_or_else(|error| panic!("{error}"));
        let bytes = found.to_bytes(interop::predict::form::Form::Safetensors).unwrap();
        let file = safetensors::read(&bytes).unwrap();
        (safetensors::as_f64(&file.tensors["logits"]).unwrap(), found.notes)
    }

    #[track_caller]
    fn gives(&self, expected: &str) -> Vec<String> {
        let (found, notes) = self.logits();
        let all: Value = serde_json::from_slice(&std::fs::read(fixtures().join("expected.json")).unwrap()).unwrap();
        let wanted: Vec<Vec<f64>> = serde_json::from_value(all[expected].clone()).unwrap();
        let wanted = wanted.concat();
        assert_eq!(found.len(), wanted.len());
        for (a, b) in found.iter().zip(&wanted) {
            assert!((a - b).abs() < TOLERANCE, "{expected}: {found:?}, not {wanted:?}");
        }
        notes
    }

    #[track_caller]
    fn refuses(&self, parts: &[&str]) {
        let Err(error) = self.predict("cola") else { panic!("it is opened") };
        for part in parts {
            assert!(error.contains(part), "`{error}` lacks `{part}`");
        }
    }
}

#[test]
fn configurations_give_the_logits_of_transformers() {
    assert!(Copy::of("llama").gives("llama").is_empty(), "rope_parameters");
    let old = Copy::of("llama").without("rope_parameters");
    assert!(old.config("rope_theta", &json!(100.0)).gives("llama").is_empty());
    let scaled = json!({"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 32,
        "rope_theta": 500.0, "rope_type": "llama3", "type": "llama3"});
    Copy::of("llama").config("rope_parameters", &scaled).gives("llama3");
    Copy::of("gpt2").gives("gpt2_unscaled");
    Copy::of("bert").gives("bert");
    Copy::of("bert").config("is_decoder", &json!(true)).gives("bert_decoder");
    Copy::of("llama_classifier").gives("llama_classifier");
    assert!(Copy::of("qwen2").gives("qwen2").is_empty(), "no window unless use_sliding_window says so");
}

#[test]
fn what_the_configuration_says_beside_it_is_said() {
    let notes = Copy::of("qwen2").config("use_sliding_window", &json!(true)).config("max_window_layers", &json!(0));
    let said = notes.logits().1;
    assert!(said[0].contains("sliding window of 8 tokens") && said[1].contains("were cut"), "{said:?}");
    let said = Copy::of("bert").config("embedding_scale", &json!(2)).gives("bert");
    assert!(said[0].contains("`embedding_scale`"), "{said:?}");
}

#[test]
fn a_metric_that_the_rows_leave_undefined_says_why() {
    let copy = Copy::of("bert");
    let rows = std::fs::read_to_string(fixtures().join("cola.tsv")).unwrap();
    let one_class: String = rows
        .lines()
        .map(|row| {
            let mut fields: Vec<&str> = row.split('\t').collect();
            fields[1] = "1";
            fields.join("\t") + "\n"
        })
        .collect();
    let path = copy.root.path().join("rows.tsv");
    std::fs::write(&path, one_class).unwrap();
    let found = copy.predict_rows("cola", &path).unwrap();
    let scores = found.scores.unwrap();
    assert!(scores[0].0 == "matthews" && scores[0].1.is_nan(), "{scores:?}");
    assert!(
        found.notes.iter().any(|note| note.starts_with("matthews is undefined: every label is")),
        "{:?}",
        found.notes
    );
}

#[test]
fn outputs_are_taken_by_name() {
    let accuracy = |copy: &Copy| {
        let found = copy.predict("mnli").unwrap();
        (found.scores.unwrap()[0].1, found.notes)
    };
    // The labels of the rows are the model's own answers by name; by position 3 of 8 would be right.
    let (right, said) = accuracy(&Copy::of("roberta"));
    assert!((right - 1.0).abs() < 1e-9, "{right}");
    assert!(said[0].contains("CONTRADICTION, NEUTRAL, ENTAILMENT") && said[0].contains("in the order of"), "{said:?}");
    let (right, _) = accuracy(&Copy::of("roberta").without("id2label"));
    assert!((right - 1.0).abs() < 1e-9, "by label2id: {right}");
    let generic = json!({"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"});
    let (right, said) = accuracy(&Copy::of("roberta").config("id2label", &generic));
    assert!((right - 0.375).abs() < 1e-9 && said.is_empty(), "{right} {said:?}");
    let (right, said) =
        accuracy(&Copy::of("roberta").config("id2label", &json!({"0": "bad", "1": "soso", "2": "good"})));
    assert!((right - 0.375).abs() < 1e-9, "{right}");
    assert!(said[0].contains("bad, soso, good, which are not the task's labels entailment"), "{said:?}");
}

/// A folder of PEFT without a head of its own, on a base that has one, for a task whose labels its data names.
#[test]
fn outputs_are_taken_by_name_for_a_task_of_ones_own() {
    let base = Copy::of("roberta");
    let root = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(root.path().join(name), bytes).unwrap();
    let rows = "text,label\nw3,neutral\nw4,entailment\nw5,contradiction\n";
    put("train.csv", rows.as_bytes());
    put("dev.csv", rows.as_bytes());
    let yaml = format!(
        "suite: custom\nname: own\nmodel: {}\ndata: {}\nseeds: [0]\ntargets: [query]\nranks: [2]\nvariants: [lora]\n\
         train: {{steps: 1, batch: 2, max_length: 16}}\ntasks:\n  - task: {{name: t, train: train.csv, dev: dev.csv, text: text, label: label}}\n",
        base.name(),
        root.path().display()
    );
    let experiment = experiment::read(&yaml, "t.yaml", "t", &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let plan = &experiment.cells()[0].recipe;
    let bytes = std::fs::read(base.root.path().join("model.safetensors")).unwrap();
    let stored = safetensors::read(&bytes).unwrap();
    let query = "roberta.encoder.layer.0.attention.self.query";
    let d = stored.tensors[&format!("{query}.weight")].shape()[0];
    let zeros = |name: &str, shape: Vec<usize>| {
        Stored::of(format!("base_model.model.{query}.{name}.weight"), shape, std::iter::repeat_n(0.0, 2 * d))
    };
    let factors = [zeros("lora_A", vec![2, d]), zeros("lora_B", vec![d, 2])];
    put("adapter_model.safetensors", &safetensors::write(&factors, None).unwrap());
    let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "task_type": "SEQ_CLS", "layers_to_transform": [0],
        "target_modules": ["query"], "base_model_name_or_path": base.name()});
    put("adapter_config.json", config.to_string().as_bytes());
    let purpose = Purpose {
        suite: plan.suite.clone(),
        data: plan.data.as_ref().map(ToString::to_string),
        task: plan.task.clone(),
        given: plan.given.clone(),
        max_length: None,
        draws_train: false,
    };
    let request = ImportRequest { folder: root.path(), model: None, purpose: Some(purpose), max_length: None };
    let mut found = import(&request, &support::cache()).unwrap_or_else(|error| panic!("{error}"));
    let said = "put in the order of the task's labels contradiction, entailment, neutral";
    assert!(found.notes.iter().any(|note| note.contains(said)), "{:?}", found.notes);
    // The file has contradiction, neutral, entailment.
    let theirs = safetensors::as_f64(&stored.tensors["classifier.out_proj.bias"]).unwrap();
    let ours = found.network.parameters(0).into_iter().find(|named| named.name == "classifier.out_proj.bias");
    let ours = variants::host::values(&variants::host::inner(&ours.unwrap().param.tensor));
    assert_eq!(ours, [theirs[0], theirs[2], theirs[1]]);
}

#[test]
fn a_head_that_is_not_there_or_not_whole_is_named() {
    let renamed = |stored: Stored| Some(Stored { name: stored.name.replace("classifier.", "my_head."), ..stored });
    Copy::of("bert").tensors(renamed).refuses(&[
        "no classification head",
        "`classifier.weight`",
        "nothing here uses my_head.bias",
    ]);
    let one_map = |stored: Stored| (!stored.name.contains("classifier.dense")).then_some(stored);
    let copy = Copy::of("roberta").tensors(one_map);
    copy.refuses(&["cannot be used", "`classifier.dense.weight` is missing, `classifier.dense.bias` is missing"]);
    Copy::of("roberta").refuses(&["`classifier.out_proj.weight` has 3 outputs, but `cola` has 2"]);
    // Logits of any number of labels are no answer to a question with one.
    let many = Copy::of("bert").config("problem_type", &json!("multi_label_classification"));
    many.refuses(&["cannot be used", "problem_type `multi_label_classification`", "one label or one score"]);
    let one = Copy::of("bert").config("problem_type", &json!("single_label_classification"));
    assert_eq!(one.logits().0, Copy::of("bert").logits().0);
}

/// What a head cannot be used for is said where it is read and where a new one is drawn, and its tensors are among those that nothing uses.
#[test]
fn a_head_that_cannot_be_read_names_the_checkpoint() {
    let changed = |name: &str, change: &dyn Fn(Stored) -> Stored| {
        Copy::of("bert").tensors(|stored| Some(if stored.name == name { change(stored) } else { stored }))
    };
    let integers = |stored: Stored| Stored { dtype: Dtype::I8, data: vec![1; stored.shape.iter().product()], ..stored };
    let narrow = |stored: Stored| Stored { dtype: Dtype::F8_E4M3, ..integers(stored) };
    let damaged = |number: f32| {
        move |stored: Stored| {
            let mut values = stored.as_f32().unwrap();
            values[1] = number;
            Stored::of(stored.name, stored.shape, values)
        }
    };
    for (copy, part) in [
        (changed("classifier.weight", &integers), "`classifier.weight` is of type I8 [2, 16], but must be F64, F32,"),
        (
            changed("classifier.weight", &narrow),
            "`classifier.weight` is of type F8_E4M3 [2, 16], but must be F64, F32,",
        ),
        (
            changed("classifier.bias", &integers),
            "`classifier.bias` is of type I8 [2], but must be F64, F32, F16 or BF16 [2]",
        ),
        (
            changed("classifier.weight", &damaged(f32::NAN)),
            "`classifier.weight` has the value NaN at 1; the checkpoint is",
        ),
        (
            changed("classifier.bias", &damaged(f32::INFINITY)),
            "`classifier.bias` has the value inf at 1; the checkpoint is",
        ),
    ] {
        copy.refuses(&["classification head cannot be used", part]);
        let yaml = format!(
            "suite: glue_mini\nmodel: {}\ntasks: [rte]\nseeds: [0]\ntargets: [query]\nranks: [2]\nvariants: [lora]\n\
             train: {{steps: 1, batch: 2, max_length: 32}}\n",
            copy.name()
        );
        let experiment = experiment::read(&yaml, "t.yaml", "t", &[]).unwrap_or_else(|errors| panic!("{errors}"));
        let cache = support::cache();
        let task = cache.task(&experiment.cells()[0].recipe).unwrap();
        let drawn = format!("the checkpoint's head is not used, and a new one is drawn: {part}");
        assert!(task.notes.iter().any(|note| note.contains(&drawn)), "{:?} lacks `{drawn}`", task.notes);
        assert_eq!(task.head.find("classifier.weight"), None);
        let base = cache.base(&copy.name()).unwrap();
        assert_eq!(base.unused, ["classifier.bias", "classifier.weight"]);
        assert!(base.notes.iter().any(|note| note.contains("2 tensors are not used: classifier.bias, ")));
    }
    // A name under which two files have tensors of different types.
    let twice = Copy::of("bert");
    let path = twice.root.path().join("model.safetensors");
    let mut all = safetensors::read(&std::fs::read(&path).unwrap()).unwrap().into_stored();
    let head = all.iter().find(|stored| stored.name == "classifier.weight").unwrap().clone();
    all.push(Stored { name: "module.classifier.weight".to_owned(), ..integers(head) });
    std::fs::write(&path, safetensors::write(&all, None).unwrap()).unwrap();
    twice.refuses(&["`classifier.weight` is there twice"]);
}

#[test]
fn names_of_wrappers_and_of_old_files_are_taken_off() {
    let wrapped = |prefix: &'static str| {
        move |stored: Stored| Some(Stored { name: format!("{prefix}{}", stored.name), ..stored })
    };
    for prefix in ["_orig_mod.", "module.", "module._orig_mod."] {
        assert!(Copy::of("bert").tensors(wrapped(prefix)).gives("bert").is_empty());
    }
    let bare = |stored: Stored| Some(Stored { name: stored.name.replace("model.", ""), ..stored });
    assert!(Copy::of("llama_classifier").tensors(bare).gives("llama_classifier").is_empty());
    let twice = Copy::of("bert");
    let path = twice.root.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let mut all = safetensors::read(&bytes).unwrap().into_stored();
    let norm = all.iter().find(|stored| stored.name.ends_with("embeddings.LayerNorm.gamma")).unwrap().clone();
    all.push(Stored { name: "bert.embeddings.LayerNorm.weight".to_owned(), ..norm });
    std::fs::write(&path, safetensors::write(&all, None).unwrap()).unwrap();
    twice.refuses(&["`embeddings.LayerNorm.weight` is there twice", "leave one of them out"]);
}

#[test]
fn types_are_read_or_named_as_what_they_are() {
    let wide = |stored: Stored| Some(Stored::of(stored.name.clone(), stored.shape.clone(), stored.as_f64().unwrap()));
    Copy::of("bert").tensors(wide).gives("bert");
    for (dtype, bytes) in [(Dtype::I8, 1), (Dtype::U8, 1), (Dtype::F8_E4M3, 1), (Dtype::I32, 4)] {
        let query = move |stored: Stored| {
            let data = vec![0; stored.shape.iter().product::<usize>() * bytes];
            Some(if stored.name.ends_with("layer.0.attention.self.query.weight") {
                Stored { dtype, data, ..stored }
            } else {
                stored
            })
        };
        Copy::of("bert").tensors(query).refuses(&[
            "1 tensors do not fit",
            &format!("`encoder.layer.0.attention.self.query.weight` is of type {dtype} [16, 16]"),
            "must be F64, F32, F16 or BF16",
        ]);
    }
    let ungathered = |stored: Stored| Some(Stored { shape: vec![0], data: Vec::new(), ..stored });
    Copy::of("bert").tensors(ungathered).refuses(&["word_embeddings.weight` is [0], but", "ZeRO-3", "gathered"]);
    let quantised = json!({"quant_method": "gptq", "bits": 4});
    Copy::of("bert").config("quantization_config", &quantised).refuses(&[
        "config.json",
        "quantised (gptq)",
        "dequantize()",
    ]);
}

#[test]
fn a_bert_without_pooler_gets_one_that_is_the_same_every_time() {
    let without = |stored: Stored| (!stored.name.contains("pooler")).then_some(stored);
    let (logits, said) = Copy::of("bert").tensors(without).logits();
    assert!(said[0].contains("no pooler") && said[0].contains("modules_to_save"), "{said:?}");
    assert_eq!(Copy::of("bert").tensors(without).logits().0, logits);
    assert!(logits.iter().all(|logit| logit.is_finite()));
    // Half a pooler is a broken file.
    let half = |stored: Stored| (!stored.name.contains("pooler.dense.bias")).then_some(stored);
    Copy::of("bert").tensors(half).refuses(&["`pooler.dense.bias` [16] is missing"]);
}

#[test]
fn tokens_beyond_the_table_are_named() {
    let refuses = |name: &str, change: &dyn Fn(&mut Value), parts: &[&str]| {
        Copy::of(name).edit("tokenizer.json", change).refuses(parts);
    };
    // As many tokens as before, one with an id far beyond.
    let far = |file: &mut Value| {
        let vocabulary = file["model"]["vocab"].as_object_mut().unwrap();
        let last = vocabulary.iter().max_by_key(|(_, id)| id.as_u64()).map(|(token, _)| token.clone()).unwrap();
        vocabulary.insert(last, json!(2_000_000));
    };
    refuses("bert", &far, &["the id 2000000", "vocab_size 261", "ids end at 260", "saved with the model"]);
    let added = |file: &mut Value| {
        file["added_tokens"].as_array_mut().unwrap().push(json!({"id": 300, "content": "<new>", "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true}));
    };
    refuses("llama", &added, &["`<new>` the id", "vocab_size 259"]);
    let framed = |file: &mut Value| {
        file["post_processor"] = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 777],
            "trim_offsets": true, "add_prefix_space": false});
    };
    refuses("bert", &framed, &["`<s>` the id 777", "vocab_size 261"]);
    let typed = |file: &mut Value| {
        file["post_processor"] = json!({"type": "TemplateProcessing", "special_tokens": {},
            "single": [{"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 7}}]});
    };
    refuses("bert", &typed, &["the type 7", "type_vocab_size 2"]);
}

#[test]
fn a_decoder_without_output_projection_classifies_and_is_refused_for_texts_by_name() {
    let copy = Copy::of("llama_classifier");
    let text = |file: &str, content: &str| std::fs::write(copy.root.path().join(file), content).unwrap();
    text("a.txt", "one||two\nthree||four\n");
    text("b.txt", "five||six\n");
    let yaml = format!(
        "suite: text\nname: acc\nmodel: {0}\ndata: {0}\nseeds: [0]\ntargets: [q_proj]\nranks: [2]\nvariants: [lora]\n\
         train: {{steps: 1, batch: 2, max_length: 16}}\ntasks:\n  - task: {{name: t, form: pairs, train: a.txt, dev: b.txt}}\n",
        copy.name()
    );
    let experiment = experiment::read(&yaml, "t.yaml", "t", &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let cache = ModelCache::new(Placement::new(&Device::flex(), DType::F32));
    let plan = &experiment.cells()[0].recipe;
    for error in [cache.task(plan).map(drop).unwrap_err(), cache.network(plan, &[]).map(drop).unwrap_err()] {
        let error = error.to_string();
        for part in [&copy.name()[..], "no output projection (`lm_head.weight`)", "not continue texts", "ForCausalLM"] {
            assert!(error.contains(part), "`{error}` lacks `{part}`");
        }
    }
    // With a table that is the projection too there is nothing to miss.
    let tied = Copy::of("llama_classifier").config("tie_word_embeddings", &json!(true));
    assert!(cache.base(&tied.name()).unwrap().purpose == models::config::Purpose::Continue);
}

#[test]
fn conversations_are_rendered_by_the_file_of_the_template() {
    let copy = Copy::of("llama");
    let put = |file: &str, content: &str| std::fs::write(copy.root.path().join(file), content).unwrap();
    let line = r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so"}]}"#;
    put("a.jsonl", line);
    put("b.jsonl", &line.replace("hi", "you"));
    let yaml = format!(
        "suite: text\nname: acc\nmodel: {0}\ndata: {0}\nseeds: [0]\ntargets: [q_proj]\nranks: [2]\nvariants: [lora]\n\
         train: {{steps: 1, batch: 1, max_length: 40}}\ntasks:\n  - task: {{name: t, form: instructions, train: a.jsonl, dev: b.jsonl}}\n",
        copy.name()
    );
    let experiment = experiment::read(&yaml, "t.yaml", "t", &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let plan = &experiment.cells()[0].recipe;
    let task = || ModelCache::new(Placement::new(&Device::flex(), DType::F32)).task(plan).map_err(|e| e.to_string());
    let error = task().unwrap_err();
    assert!(error.contains("tokenizer_config.json: chat_template: is absent"), "{error}");
    put("chat_template.jinja", "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ eos_token }}{% endfor %}");
    let found = task().unwrap();
    let base = ModelCache::new(Placement::new(&Device::flex(), DType::F32)).base(&copy.name()).unwrap();
    assert_eq!(base.tokenizer.decode(&found.train.rows[0].ids, false).unwrap(), "user:hi</s>assistant:so</s>");
    assert!(found.notes.iter().any(|note| note.contains("head `score.weight` is not used")), "{:?}", found.notes);
}

#[test]
fn what_merge_writes_of_them_opens_again_and_is_whole() {
    let without_pooler = |stored: Stored| (!stored.name.contains("pooler")).then_some(stored);
    for (copy, map, tensor) in [
        (Copy::of("llama_classifier"), "q_proj", "score.weight"),
        (Copy::of("llama"), "q_proj", "score.weight"),
        (Copy::of("bert").tensors(without_pooler), "query", "bert.pooler.dense.weight"),
        (Copy::of("bert"), "query", "bert.embeddings.LayerNorm.weight"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let rows = |words: [&str; 2]| {
            format!(
                "text,label\n{}",
                (0..8).map(|at| format!("{} {at},{}\n", words[at % 2], at % 2)).collect::<String>()
            )
        };
        std::fs::write(root.path().join("train.csv"), rows(["good", "bad"])).unwrap();
        std::fs::write(root.path().join("dev.csv"), rows(["fine", "poor"])).unwrap();
        let yaml = format!(
            "suite: custom\nname: kept\nmodel: {}\ndata: {}\nseeds: [0]\ntargets: [{map}]\nranks: [2]\nvariants: [lora]\n\
             train: {{steps: 2, batch: 4, max_length: 32}}\ntasks:\n  - task: {{name: t, train: train.csv, dev: dev.csv, text: text, label: label}}\n",
            copy.name(),
            root.path().display()
        );
        let experiment = experiment::read(&yaml, "t.yaml", "t", &[]).unwrap_or_else(|errors| panic!("{errors}"));
        let cache = support::cache();
        support::run_study(experiment.cells(), root.path(), experiment.name(), &cache, 1);
        let runs = root.path().join("kept/runs");
        let adapter =
            std::fs::read_dir(&runs).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
        let out = root.path().join("merged");
        let request = MergeRequest {
            adapter: &adapter,
            model: None,
            rank: None,
            dtype: dtype::Dtype::F32,
            out: &out,
            force: false,
            rows: merge::Rows::Any,
            most: 8,
        };
        let report = merge(&request, &cache).unwrap_or_else(|error| panic!("{error}"));
        assert!(report.checks[0].difference < 1e-4 * report.largest_logit.max(1.0), "{:?}", report.checks);
        let bytes = std::fs::read(out.join("model.safetensors")).unwrap();
        let file = safetensors::read(&bytes).unwrap();
        assert!(file.tensors.contains_key(tensor), "{tensor} of {:?}", file.tensors.keys());
        assert!(!file.tensors.keys().any(|name| name.contains("gamma") || name.contains("lm_head")));
        let opened = support::cache().base(&out.display().to_string()).unwrap();
        assert_eq!(opened.head.outputs().map(|(_, outputs)| outputs), Some(2));
        assert!(opened.notes.is_empty(), "{:?}", opened.notes);
    }
}
