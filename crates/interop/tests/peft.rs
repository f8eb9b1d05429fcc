//! Adapters of PEFT as runs of this program and back: against PEFT's logits on the folders of `scripts/oracle/peft_adapters.py`, every
//! preset that PEFT can express, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "peft/card.rs"]
mod card;
#[path = "support/adapters.rs"]
mod support;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use experiment::cell::Recipe;
use interop::{
    export::{CutRequest, Reduction, at_rank},
    peft::{
        export::{self, ExportReport, export},
        import::{self, Imported, Purpose, import},
    },
};
use models::{
    modules::Modules,
    network::{NamedParam, Network},
    target::Target,
};
use serde_json::{Value, json};
use support::{Numbers, base_fixture, cache, checkpoint, largest, noisy, numbers, says, text_task, write_numbers};
use trainer::{adapter, model_cache::ModelCache};
use variants::{
    delta::DeltaSpec,
    host::values,
    peft::{NoPeftForm, PeftForm},
    preset,
    role::Role,
    spec::VariantSpec,
};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const CASES: [&str; 14] = [
    "bert_lora",
    "bert_rslora",
    "bert_dora",
    "bert_vera",
    "bert_adalora",
    "bert_pissa",
    "bert_everywhere",
    "bert_saved",
    "bert_table",
    "bert_tokens",
    "gpt2_tokens",
    "roberta_dora",
    "gpt2_lora",
    "llama_lora",
];

/// Of the largest logit. f32 here and in PEFT, over sums of at most a hundred terms in another order, two layers deep: a few times
/// 1e-6 at worst, as in `models/tests/oracle.rs`. Every adapter moves its logits by more than 0.1.
const TOLERANCE: f64 = 1e-5;

fn fixture(case: &str) -> PathBuf {
    support::fixture("peft").join(case)
}

fn said(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(CONFIG)).unwrap()).unwrap()
}

fn is_text(arch: &str) -> bool {
    ["gpt2", "llama"].contains(&arch)
}

/// MNLI has three classes, as the heads of the fixtures; a causal model continues text.
fn purpose(arch: &str) -> Purpose {
    let given = is_text(arch).then(text_task);
    let (suite, task) = if is_text(arch) { ("text", "e2e") } else { ("glue", "mnli") };
    let data = Some("/nowhere".to_owned());
    Purpose { suite: suite.to_owned(), data, task: task.to_owned(), given, max_length: Some(20), draws_train: false }
}

fn logits(network: &Network, asked: &Numbers) -> Vec<f64> {
    support::logits(network, asked, asked["logits"].0.len() != 2)
}

fn wanted(asked: &Numbers) -> Vec<f64> {
    support::wanted(asked, "logits")
}

fn inputs(arch: &str) -> Numbers {
    numbers(&base_fixture(arch).join("expected.safetensors"))
}

#[track_caller]
fn agree(what: &str, found: &[f64], wanted: &[f64]) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let far = largest(found.iter().zip(wanted).map(|(a, b)| a - b));
    let size = largest(wanted.iter().copied());
    assert!(far <= TOLERANCE * size, "{what}: {far:e} of {size}");
}

/// Shape and numbers of every tensor of a run's adapter.
fn tensors(network: &mut Network) -> Tensors {
    let params = network.parameters(0).into_iter();
    params.map(|named| (named.name, (named.param.tensor.dims(), values(&named.param.tensor)))).collect()
}

fn plan(model: &str, targets: &[&str], preset: &str, variant: VariantSpec, arch: &str) -> Recipe {
    support::plan(model, targets, preset, variant, is_text(arch))
}

fn spec(preset: &str, rank: usize) -> VariantSpec {
    (preset::find(preset).unwrap().spec)(rank)
}

/// A run's adapter with everything that trains a little away from its start; AdaLoRA's first map has no component left, its others
/// lack the second.
fn saved(root: &Path, name: &str, plan: &Recipe, cache: &ModelCache) -> (PathBuf, Network) {
    let mut is_first = true;
    let folder = root.join("adapters").join(name);
    let (file, _) = support::saved(&folder, name, plan, cache, |NamedParam { name, param, .. }, old| {
        if param.role == Role::Projection {
            return old;
        }
        let mut new = noisy(&old, 5, name, 0.1);
        if name.ends_with(".lambda") {
            new.iter_mut().enumerate().filter(|(at, _)| is_first || *at == 1).for_each(|(_, value)| *value = 0.0);
            is_first = false;
        }
        new
    });
    // As it lies in the file, in f32.
    let network = adapter::load(&file, cache).unwrap().1;
    (folder, network)
}

fn out(adapter: &Path, residual: bool, out: &Path, cache: &ModelCache) -> Result<ExportReport, String> {
    let request = export::ExportRequest { adapter, model: None, rank: None, residual, out, force: false };
    export(&request, cache).map_err(|error| error.to_string())
}

/// An export of this program, taken back by its own account.
fn back(folder: &Path, cache: &ModelCache) -> Result<Imported, String> {
    import(&import::ImportRequest { folder, model: None, purpose: None, max_length: None }, cache)
        .map_err(|error| error.to_string())
}

/// Without what PEFT saves twice or of the base.
fn of_adapter(mut tensors: Numbers) -> Numbers {
    tensors.retain(|name, _| {
        let parts = [".original_module.", ".modules_to_save."];
        !name.ends_with(".default")
            && !name.ends_with(".base_layer.weight")
            && !parts.iter().any(|part| name.contains(part))
    });
    tensors
}

#[test]
fn folders_of_peft_give_its_logits_and_come_back() {
    let root = tempfile::tempdir().unwrap();
    for case in CASES {
        let cache = cache();
        let arch = case.split('_').next().unwrap();
        let model = checkpoint(root.path(), arch);
        let folder = fixture(case);
        let request = import::ImportRequest {
            folder: &folder,
            model: Some(&model),
            purpose: Some(purpose(arch)),
            max_length: None,
        };
        let imported = import(&request, &cache).unwrap();
        let asked = numbers(&folder.join("expected.safetensors"));
        agree(case, &logits(&imported.network, &asked), &wanted(&asked));

        let (taken, again) = (root.path().join("taken").join(case), root.path().join("again").join(case));
        let bytes = import::write(imported, &folder, import::output(&request, &taken, false).unwrap()).unwrap();
        assert_eq!(bytes, std::fs::metadata(taken.join("adapter.safetensors")).unwrap().len());
        out(&taken, case == "bert_pissa", &again, &cache).unwrap();
        let [theirs, ours] = [&folder, &again].map(|folder| of_adapter(numbers(&folder.join(WEIGHTS))));
        assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>(), "{case}");
        for (name, tensor) in &theirs {
            assert!(ours[name] == *tensor, "{case}: {name} is not the same to the bit");
        }
        let [theirs, ours] = [&folder, &again].map(|folder| said(folder));
        // AdaLoRA's rank is `init_r`; its `r` is LoRA's default.
        let rank = if case == "bert_adalora" { "init_r" } else { "r" };
        for field in
            ["peft_type", "task_type", rank, "lora_alpha", "use_rslora", "use_dora", "bias", "init_lora_weights"]
        {
            let one = |said: &Value| if said[field] == json!(false) { Value::Null } else { said[field].clone() };
            assert_eq!(one(&ours), one(&theirs), "{case}: {field}");
        }
    }
}

/// A folder of PEFT with something changed.
fn altered(case: &str, edit: impl FnOnce(&mut Value, &mut Numbers)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (mut config, mut tensors) = (said(&fixture(case)), numbers(&fixture(case).join(WEIGHTS)));
    edit(&mut config, &mut tensors);
    std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
    write_numbers(&folder.path().join(WEIGHTS), &tensors);
    folder
}

#[test]
fn every_tensor_of_a_folder_is_needed_in_its_shape() {
    let root = tempfile::tempdir().unwrap();
    for arch in ["bert", "roberta", "gpt2", "llama"] {
        let cache = cache();
        let model = checkpoint(root.path(), arch);
        let refused = |folder: &Path| {
            let request =
                import::ImportRequest { folder, model: Some(&model), purpose: Some(purpose(arch)), max_length: None };
            import(&request, &cache).map(|_| ()).unwrap_err().to_string()
        };
        for case in CASES.iter().filter(|case| case.starts_with(arch)) {
            for name in of_adapter(numbers(&fixture(case).join(WEIGHTS))).keys() {
                let folder = altered(case, |_, tensors| drop(tensors.remove(name)));
                says(&refused(folder.path()), &[&folder.path().join(WEIGHTS).display().to_string(), name, "missing"]);
                let folder = altered(case, |_, tensors| {
                    let (shape, values) = tensors.get_mut(name).unwrap();
                    values.extend(vec![0.5; values.len() / shape[0]]);
                    shape[0] += 1;
                });
                let error = refused(folder.path());
                if name.ends_with("classifier.weight") || name.ends_with("out_proj.weight") {
                    says(&error, &["its head has 4 outputs, but `mnli` has 3"]);
                } else {
                    says(&error, &[&folder.path().join(WEIGHTS).display().to_string(), name]);
                }
                let folder = altered(case, |_, tensors| tensors.get_mut(name).unwrap().1[0] = f64::NAN);
                says(&refused(folder.path()), &[WEIGHTS, name, "`NaN`", "save the adapter again"]);
            }
            let extra = "base_model.model.encoder.layer.7.query.lora_A.weight";
            let folder = altered(case, |_, tensors| drop(tensors.insert(extra.to_owned(), (vec![1], vec![1.0]))));
            says(&refused(folder.path()), &[WEIGHTS, extra, "belongs to nothing", "check that base and folder"]);
        }
    }
}

/// PEFT opens a folder with names that match nothing; so does an import, and says so.
#[test]
fn names_that_match_nothing_are_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let model = checkpoint(root.path(), "bert");
    let folder = altered("bert_lora", |config, _| {
        config["target_modules"] = json!(["query", "value", "q_proj"]);
        config["exclude_modules"] = json!(["lm_head"]);
        config["rank_pattern"] = json!({"k_proj": 2});
    });
    let request = import::ImportRequest {
        folder: folder.path(),
        model: Some(&model),
        purpose: Some(purpose("bert")),
        max_length: None,
    };
    let imported = import(&request, &cache()).unwrap();
    let notes = imported.notes.join("; ");
    says(&notes, &["target_modules: `q_proj`", "exclude_modules: `lm_head`", "rank_pattern: `k_proj`"]);
    assert!(imported.metadata.plan.modules.is_default());
    // A start that PEFT draws at random cannot be repeated.
    let folder = altered("bert_lora", |config, _| config["init_lora_weights"] = json!("pissa_niter_4"));
    let request = import::ImportRequest { folder: folder.path(), ..request };
    says(
        &import(&request, &cache()).map(|_| ()).unwrap_err().to_string(),
        &["pissa_niter_4", "conversion to plain LoRA"],
    );
}

#[test]
fn heads_come_whole_from_the_folder_or_from_the_base() {
    let root = tempfile::tempdir().unwrap();
    let without = altered("bert_lora", |_, tensors| tensors.retain(|name, _| !name.contains("classifier")));
    let model = checkpoint(root.path(), "bert");
    let request = import::ImportRequest {
        folder: without.path(),
        model: Some(&model),
        purpose: Some(purpose("bert")),
        max_length: None,
    };
    let mut imported = import(&request, &cache()).unwrap();
    says(&imported.notes.join("; "), &["the base's own: the head"]);
    let of_base = numbers(&base_fixture("bert").join("model.safetensors"));
    assert_eq!(tensors(&mut imported.network)["classifier.bias"].1, of_base["classifier.bias"].1);
    // A base without one.
    let weights = Path::new(&model).join("model.safetensors");
    write_numbers(&weights, &of_base.into_iter().filter(|(name, _)| !name.contains("classifier")).collect());
    let error = import(&request, &cache()).map(|_| ()).unwrap_err().to_string();
    says(&error, &["neither the folder nor its base has a head for `mnli`", "save the adapter with its head"]);
}

#[test]
fn what_cannot_be_read_is_one_clear_error() {
    let root = tempfile::tempdir().unwrap();
    let model = checkpoint(root.path(), "bert");
    let cache = cache();
    let refused = |folder: &Path, task: Option<&str>, model: Option<&str>| {
        let purpose = task.map(|task| Purpose { task: task.to_owned(), ..purpose("bert") });
        let request = import::ImportRequest { folder, model, purpose, max_length: None };
        import(&request, &cache).map(|_| ()).unwrap_err().to_string()
    };
    let fields: &[(&str, Value, &[&str])] = &[
        (
            "peft_type",
            json!("WAVEFT"),
            &["peft_type is `WAVEFT`", "LORA, ADALORA, VERA, ", " are read", "convert it to LoRA"],
        ),
        ("lora_bias", json!(true), &["`lora_bias` is `true`", "no counterpart", "convert it with PEFT"]),
        ("layer_replication", json!([[0, 2]]), &["`layer_replication` is `[[0,2]]`", "convert it with PEFT"]),
        ("init_lora_weights", json!("corda"), &["init_lora_weights is `corda`", "path_initial_model_for_weight"]),
        ("bias", json!("some"), &["bias is `some`", "none, all or lora_only"]),
        ("r", json!(0), &["r is missing or 0", "save the adapter again"]),
        ("target_modules", Value::Null, &["target_modules is missing", "current PEFT"]),
        ("target_modules", json!(["qurey"]), &["`qurey`", "did you mean `query`?"]),
        ("layers_to_transform", json!([5]), &["layers_to_transform", "5"]),
        ("rank_pattern", json!({"(": 2}), &["rank_pattern", "`(`", "regular expression"]),
        ("rank_pattern", json!(3), &["rank_pattern"]),
        ("modules_to_save", json!(["poller"]), &["modules_to_save", "`poller`", "`pooler`"]),
    ];
    for (field, value, parts) in fields {
        let folder = altered("bert_lora", |config, _| config[field] = value.clone());
        let error = refused(folder.path(), Some("mnli"), Some(&model));
        says(&error, parts);
        says(&error, &[&folder.path().join(CONFIG).display().to_string()]);
    }
    let both = altered("bert_pissa", |config, _| config["use_dora"] = json!(true));
    says(&refused(both.path(), Some("mnli"), Some(&model)), &["`pissa` beside use_dora"]);

    let good = fixture("bert_lora");
    says(&refused(&good, None, Some(&model)), &[CONFIG, "which task", "--task NAME"]);
    says(&refused(&good, Some("cola"), Some(&model)), &["its head has 3 outputs, but `cola` has 2"]);
    says(&refused(&good, Some("mnly"), Some(&model)), &["task is `mnly`", "mnli", "experiment"]);
    let nowhere = altered("bert_lora", |config, _| config["base_model_name_or_path"] = Value::Null);
    says(&refused(nowhere.path(), Some("mnli"), None), &["base_model_name_or_path is missing", "--model DIR"]);
    let other = checkpoint(root.path(), "roberta");
    says(&refused(&good, Some("mnli"), Some(&other)), &[WEIGHTS, "missing", "check that base and folder"]);

    let folder = altered("bert_lora", |_, _| {});
    let weights = folder.path().join(WEIGHTS);
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 5]).unwrap();
    says(&refused(folder.path(), Some("mnli"), Some(&model)), &[WEIGHTS, "not safetensors"]);
    std::fs::remove_file(&weights).unwrap();
    says(&refused(folder.path(), Some("mnli"), Some(&model)), &[WEIGHTS]);
    std::fs::write(folder.path().join(CONFIG), "{").unwrap();
    says(&refused(folder.path(), Some("mnli"), Some(&model)), &[CONFIG, "not JSON"]);
}

type Tensors = BTreeMap<String, ([usize; 3], Vec<f64>)>;

/// A LoRA of rank 4 minus its start, exported as one of rank 8, `[A - A0, A0]·[B; B - B0]`: the halves of A add up to the trained one, to a
/// rounding of the difference in f32, and the first half of B is the trained one.
#[track_caller]
fn is_doubled(name: &str, config: &Value, old: &Tensors, new: &Tensors) {
    assert_eq!((&config["r"], &config["init_lora_weights"]), (&json!(8), &json!(true)), "{name}");
    let ends = |key: &str, end: &str| key.rsplit('.').next() == Some(end);
    for (key, ([_, rows, _], a)) in new.iter().filter(|(key, _)| ends(key, "a")) {
        let trained = &old[key].1;
        let added: Vec<f64> = a.chunks(8).flat_map(|row| (0..4).map(|at| row[at] + row[at + 4])).collect();
        assert_eq!((added.len(), a.len()), (trained.len(), rows * 8), "{name}: {key}");
        for (added, wanted) in added.iter().zip(trained) {
            assert!((added - wanted).abs() <= 1e-6 * (1.0 + wanted.abs()), "{name}: {key}: {added} is not {wanted}");
        }
    }
    for (key, (_, b)) in new.iter().filter(|(key, _)| ends(key, "b")) {
        let trained = &old[key].1;
        assert!(b.len() == 2 * trained.len() && b[..trained.len()] == trained[..], "{name}: {key}");
    }
}

/// A LoRA of rank 4 with what was accumulated beside its base, exported as one of more components: of merged deltas those behind the delta's
/// own, bit by bit, as long as they are fewer than the map is wide.
#[track_caller]
fn is_widened(name: &str, old: &Tensors, new: &Tensors) {
    assert!(new.keys().all(|key| !key.contains("accumulated")), "{name}");
    let columns = |(values, all): (&[f64], usize), from: usize, n: usize| -> Vec<f64> {
        values.chunks(all).flat_map(|row| row[from..from + n].to_vec()).collect()
    };
    for (key, ([_, d_in, k], a)) in new.iter().filter(|(key, _)| key.rsplit('.').next() == Some("a")) {
        let map = key.strip_suffix(".a").unwrap();
        let ([_, _, more], p) = &old[&format!("{map}.accumulated_a")];
        let ([_, _, d_out], b) = &new[&format!("{map}.b")];
        let widest = *d_in.min(d_out);
        assert_eq!(*k, (4 + more).min(widest), "{name}: {key}");
        if 4 + more <= widest && name != "delta_lora" {
            let q = &old[&format!("{map}.accumulated_b")].1;
            assert_eq!(columns((a, *k), 0, 4), old[key].1, "{name}: {key}");
            assert_eq!(columns((a, *k), 4, *more), *p, "{name}: {key}");
            assert_eq!(*b, [old[&format!("{map}.b")].1.clone(), q.clone()].concat(), "{name}: {map}.b");
        }
    }
}

/// Components whose diagonal is 0 are not in the file, and 0 in what is taken back.
#[track_caller]
fn is_pruned(file: &Numbers, old: &Tensors, new: &Tensors) {
    let mut left: Vec<usize> =
        file.iter().filter(|(key, _)| key.ends_with("lora_E")).map(|(_, (shape, _))| shape[0]).collect();
    left.sort_unstable();
    // PEFT opens no map without a component.
    assert_eq!(left, [1, 3, 3, 3, 3, 3]);
    for (key, (shape, values)) in old {
        let Some(lambda) = key.rsplit_once('.').and_then(|(map, _)| old.get(&format!("{map}.lambda"))) else {
            assert_eq!(new[key].1, *values);
            continue;
        };
        let is_p = key.rsplit('.').next() == Some("p");
        let width = shape[2];
        for (at, value) in values.iter().enumerate() {
            let component = if is_p { at / width } else { at % width };
            let wanted = if lambda.1[component] == 0.0 { 0.0 } else { *value };
            let is_first = lambda.1.iter().all(|value| *value == 0.0) && component == 0;
            assert!(is_first || new[key].1[at] == wanted, "{key} at {at}");
        }
    }
}

#[test]
fn every_preset_is_exported_and_taken_back_or_refused() {
    let root = tempfile::tempdir().unwrap();
    let cache = cache();
    let model = checkpoint(root.path(), "bert");
    let asked = inputs("bert");
    let mut met = BTreeSet::new();
    for preset in preset::all() {
        let (name, mut spec) = (preset.name, (preset.spec)(4));
        if let Some(DeltaSpec::VectorBank(bank)) = &mut spec.delta {
            bank.vector_length = 8; // PEFT has one bank
        }
        let plan = plan(&model, &["query", "value", "intermediate.dense"], name, spec.clone(), "bert");
        let (run, mut network) = saved(root.path(), name, &plan, &cache);
        let [folder, other] = ["exports", "residual"].map(|what| root.path().join(what).join(name));
        let result = out(&run, false, &folder, &cache);
        let form = match spec.peft_form() {
            Ok(form) => form,
            Err(why) => {
                let way_out = match why {
                    NoPeftForm::NoCounterpart if spec.unmergeable().is_some() => "is not mergeable",
                    NoPeftForm::NoAdapter => "`lora-lab merge` writes a whole checkpoint",
                    NoPeftForm::NoCounterpart => "`--svd --rank R`",
                };
                says(&result.unwrap_err(), &["adapter.safetensors", name, way_out]);
                assert!(!folder.exists());
                met.insert("refused");
                continue;
            }
        };
        met.insert(if matches!(form, PeftForm::DoubledLora { .. }) { "doubled" } else { form.peft_type() });
        let report = result.unwrap();
        assert_eq!((report.kind, report.maps, report.outputs), (form.peft_type(), 6, Some(3)), "{name}");
        let mut imported = back(&folder, &cache).unwrap();
        let before = logits(&network, &asked);
        agree(name, &logits(&imported.network, &asked), &before);
        let (old, new) = (tensors(&mut network), tensors(&mut imported.network));
        let residual = out(&run, true, &other, &cache);
        match form {
            PeftForm::DoubledLora { start } => {
                is_doubled(name, &said(&folder), &old, &new);
                let Some(start) = start else {
                    says(&residual.unwrap_err(), &[&format!("no start that `{name}`"), "leave `--residual` out"]);
                    continue;
                };
                residual.unwrap();
                let config = said(&other);
                assert_eq!((&config["r"], &config["init_lora_weights"]), (&json!(4), &json!(start)));
                let mut imported = back(&other, &cache).unwrap();
                assert!(tensors(&mut imported.network) == old, "{name}: not the same to the bit");
                continue;
            }
            PeftForm::AdaLora => is_pruned(&numbers(&folder.join(WEIGHTS)), &old, &new),
            PeftForm::DoubledTuner(_) => assert_eq!((&said(&folder)["r"], new.len()), (&json!(8), old.len() - 12)),
            PeftForm::Lora if old.keys().any(|name| name.ends_with(".accumulated_a")) => {
                is_widened(name, &old, &new);
                met.insert("widened");
            }
            PeftForm::Lora | PeftForm::Vera(_) | PeftForm::Tuner(_) => {
                assert!(new == old, "{name}: not the same to the bit");
                assert_eq!(logits(&imported.network, &asked), before, "{name}");
            }
        }
        says(&residual.unwrap_err(), &["`--residual` is for starts", name, "leave it out"]);
        assert!(!other.exists());
    }
    let all = "ADALORA BOFT C3A DELORA GRALORA HIRA HRA IA3 LOHA LOKR LORA MISS OFT RANDLORA SHIRA VBLORA VERA doubled refused widened";
    assert_eq!(met, all.split(' ').collect(), "a form that no preset has");
    // Another base than the one that it was trained on is found by its hash.
    let folder = root.path().join("exports/lora");
    let roberta = checkpoint(root.path(), "roberta");
    let request = import::ImportRequest { folder: &folder, model: Some(&roberta), purpose: None, max_length: None };
    let error = import(&request, &cache).map(|_| ()).unwrap_err().to_string();
    says(&error, &[CONFIG, "hash", "give the right base with `--model`"]);
    // Nor is a configuration that was changed read by the recipe of the old one.
    let mut config = said(&folder);
    config["lora_alpha"] = json!(config["lora_alpha"].as_f64());
    std::fs::write(folder.join(CONFIG), config.to_string()).unwrap();
    back(&folder, &cache).unwrap();
    config["lora_alpha"] = json!(32);
    std::fs::write(folder.join(CONFIG), config.to_string()).unwrap();
    let error = back(&folder, &cache).map(|_| ()).unwrap_err();
    says(&error, &[CONFIG, "`lora_alpha` is `32`", "`lora-lab export` wrote", "lora_lab.json", "`--task`"]);
    let request =
        import::ImportRequest { folder: &folder, model: None, purpose: Some(purpose("bert")), max_length: None };
    assert_eq!(import(&request, &cache).unwrap().metadata.plan.variant.alpha, 32.0);
    // Nothing is left of what was refused.
    for folder in ["exports", "residual"] {
        let hidden =
            |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().starts_with('.');
        assert!(!std::fs::read_dir(root.path().join(folder)).unwrap().any(hidden));
    }
}

/// VeRA's pair is as wide as the widest map, and lies there twice: PEFT saves it under one name and reads it under the other.
#[test]
fn veras_pair_lies_in_the_file_under_both_names() {
    let root = tempfile::tempdir().unwrap();
    let (cache, model) = (cache(), checkpoint(root.path(), "bert"));
    let plan = plan(&model, &["query", "output.dense", "intermediate.dense"], "vera", spec("vera", 5), "bert");
    let (run, network) = saved(root.path(), "vera", &plan, &cache);
    let folder = root.path().join("out");
    out(&run, false, &folder, &cache).unwrap();
    let file = numbers(&folder.join(WEIGHTS));
    for (name, shape) in [("vera_A", [5, 40]), ("vera_B", [40, 5])] {
        let name = format!("base_model.{name}");
        assert_eq!(file[&name].0, shape, "{name}");
        assert!(file[&name].1.iter().all(|value| *value != 0.0));
        assert!(file[&name] == file[&format!("{name}.default")], "{name}");
    }
    // Read as PEFT's own, it has the pair of the file.
    let request =
        import::ImportRequest { folder: &folder, model: None, purpose: Some(purpose("bert")), max_length: None };
    let imported = import(&request, &cache).unwrap();
    let asked = inputs("bert");
    agree("vera", &logits(&imported.network, &asked), &logits(&network, &asked));
}

#[test]
fn parts_of_gpt2_are_joined_and_parted_again() {
    let root = tempfile::tempdir().unwrap();
    let (cache, model, asked) = (cache(), checkpoint(root.path(), "gpt2"), inputs("gpt2"));
    let parts = ["c_attn.q", "c_attn.v"];
    let plain = Modules::default();
    let ranks = Modules { rank_pattern: vec![("c_attn.v".to_owned(), 2)], ..Modules::default() };
    let alphas = Modules { alpha_pattern: vec![("c_attn.v".to_owned(), 3.0)], ..ranks.clone() };
    for (label, preset, modules) in [
        ("plain", "lora", &plain),
        ("root", "rslora", &plain),
        ("magnitudes", "dora", &plain),
        ("start", "pissa", &plain),
        ("ranks", "lora", &ranks),
        ("alphas", "lora", &alphas),
    ] {
        let mut plan = plan(&model, &parts, preset, spec(preset, 4), "gpt2");
        plan.modules = modules.clone();
        let (run, mut network) = saved(root.path(), label, &plan, &cache);
        let folder = root.path().join(label);
        out(&run, false, &folder, &cache).unwrap();
        let before = logits(&network, &asked);
        let mut imported = back(&folder, &cache).unwrap();
        agree(label, &logits(&imported.network, &asked), &before);
        // As one map, which is what PEFT sees.
        let request =
            import::ImportRequest { folder: &folder, model: None, purpose: Some(purpose("gpt2")), max_length: None };
        agree(label, &logits(&import(&request, &cache).unwrap().network, &asked), &before);

        let config = said(&folder);
        assert_eq!(config["target_modules"], json!(["transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"]));
        let (rank, alpha) = (config["r"].as_f64().unwrap(), config["lora_alpha"].as_f64().unwrap());
        let scale = plan.variant.scaling.at(plan.variant.alpha, 4);
        let found = if preset == "rslora" { alpha / rank.sqrt() } else { alpha / rank };
        assert!((found - scale).abs() < 1e-12 * scale, "{label}: {found} is not {scale}");
        let query_rank = if preset == "pissa" { 8 } else { 4 };
        let (shape, b) = &numbers(&folder.join(WEIGHTS))["base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"];
        assert_eq!((shape[0], shape[1] as f64), (72, rank));
        for (at, value) in b.iter().enumerate() {
            let (row, component) = (at / shape[1], at % shape[1]);
            let is_own = if component < query_rank { row < 24 } else { row >= 48 };
            assert!(is_own == (*value != 0.0), "{label}: row {row}, component {component}: {value}");
        }
        if preset == "pissa" {
            continue;
        }
        let (old, new) = (tensors(&mut network), tensors(&mut imported.network));
        if label == "alphas" {
            // The scale of v lies in B and is taken out again: a rounding to f32 each, of half a unit in 2^-23.
            for (name, (_, values)) in &old {
                let far = values.iter().zip(&new[name].1).any(|(a, b)| (a - b).abs() > a.abs() * 2.0_f64.powi(-22));
                assert!(!far, "{name}");
            }
        } else {
            assert!(new == old, "{label}: not the same to the bit");
        }
    }
    // What PEFT may have trained there is not dropped.
    let folder = root.path().join("plain");
    let path = folder.join(WEIGHTS);
    let mut file = numbers(&path);
    let name = "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight";
    *file.get_mut(name).unwrap().1.last_mut().unwrap() = 1.0; // v's rows, v's component: in its place
    write_numbers(&path, &file);
    back(&folder, &cache).unwrap();
    file.get_mut(name).unwrap().1[7] = 1.0; // q's rows, v's component
    write_numbers(&path, &file);
    says(&back(&folder, &cache).map(|_| ()).unwrap_err(), &[WEIGHTS, name, "mixes its parts", "`--task`"]);

    let folder = root.path().join("magnitudes");
    let path = folder.join(WEIGHTS);
    let mut file = numbers(&path);
    let name = "base_model.model.transformer.h.0.attn.c_attn.lora_magnitude_vector";
    for (at, is_read) in [(0, true), (30, false)] {
        file.get_mut(name).unwrap().1[at] += 0.1; // first of q, then of k, which has no adapter
        write_numbers(&path, &file);
        let found = back(&folder, &cache).map(|_| ());
        assert_eq!(found.is_ok(), is_read);
        if let Err(error) = found {
            says(&error, &[WEIGHTS, name, "`h.0.attn.c_attn.k`", "`--task`"]);
        }
    }

    for preset in ["vera", "adalora"] {
        let plan = plan(&model, &parts, preset, spec(preset, 4), "gpt2");
        let (run, _) = saved(root.path(), preset, &plan, &cache);
        let folder = root.path().join(format!("{preset}.out"));
        let error = out(&run, false, &folder, &cache).unwrap_err();
        says(&error, &[preset, "no form in PEFT", "adapt `c_attn`", "`--svd --rank R`"]);
        assert!(!folder.exists());
    }
}

#[test]
fn dylora_is_exported_at_a_rank() {
    let root = tempfile::tempdir().unwrap();
    let (cache, model, asked) = (cache(), checkpoint(root.path(), "bert"), inputs("bert"));
    let plan = plan(&model, &["query", "value"], "dylora", spec("dylora", 4), "bert");
    let (run, _) = saved(root.path(), "dylora", &plan, &cache);
    let [folder, cut] = ["at_2", "cut"].map(|name| root.path().join(name));
    let request = export::ExportRequest {
        adapter: &run,
        model: None,
        rank: Some(2),
        residual: false,
        out: &folder,
        force: false,
    };
    export(&request, &cache).unwrap();
    let file = run.join("adapter.safetensors");
    let cut_request = CutRequest { adapter: &file, rank: 2, reduction: Reduction::Prefix, out: &cut, force: false };
    at_rank(&cut_request, &cache).unwrap();
    let (_, mut smaller) = adapter::load(&cut.join("adapter.safetensors"), &cache).unwrap();
    let mut imported = back(&folder, &cache).unwrap();
    assert!(tensors(&mut smaller) == tensors(&mut imported.network));
    assert_eq!(logits(&smaller, &asked), logits(&imported.network, &asked));
    let config = said(&folder);
    assert_eq!((&config["r"], config["lora_alpha"].as_f64()), (&json!(2), Some(plan.variant.alpha)));
    let out = root.path().join("at_9");
    let error = export(&export::ExportRequest { rank: Some(9), out: &out, ..request }, &cache).unwrap_err().to_string();
    says(&error, &["rank is `9`", "1, 2, 3, 4"]);
    assert!(!out.exists());
}

#[test]
fn whole_numbers_are_written_whole() {
    let root = tempfile::tempdir().unwrap();
    let (cache, model) = (cache(), checkpoint(root.path(), "bert"));
    for (label, preset, alphas) in [
        ("one", "lora", vec![("value", 5.0)]),
        ("several", "lora", vec![("query", 7.0), ("value", 2.5)]),
        ("adalora", "adalora", vec![]),
    ] {
        let mut plan = plan(&model, &["query", "value", "key"], preset, spec(preset, 4), "bert");
        plan.variant.alpha = 16.0;
        plan.modules.alpha_pattern = alphas.iter().map(|(name, alpha)| ((*name).to_owned(), *alpha)).collect();
        let (run, _) = saved(root.path(), label, &plan, &cache);
        let folder = root.path().join(label);
        out(&run, false, &folder, &cache).unwrap();
        let config = said(&folder);
        assert!(config["lora_alpha"].is_u64(), "{label}: {}", config["lora_alpha"]);
        let found: Vec<&Value> =
            config["alpha_pattern"].as_object().into_iter().flatten().map(|(_, alpha)| alpha).collect();
        assert!(found.iter().all(|alpha| alpha.is_u64() || alpha.as_f64() == Some(2.5)), "{label}: {found:?}");
        assert_eq!(found.is_empty(), alphas.is_empty(), "{label}");
    }
}

#[test]
fn a_tables_scale_is_found_by_its_full_name() {
    let root = tempfile::tempdir().unwrap();
    let (cache, model, asked) = (cache(), checkpoint(root.path(), "bert"), inputs("bert"));
    let table = "bert.embeddings.word_embeddings";
    let mut plan = plan(&model, &["word_embeddings", "value"], "lora", spec("lora", 4), "bert");
    plan.modules.alpha_pattern = vec![(table.to_owned(), 3.0), ("value".to_owned(), 5.0)];
    let (run, network) = saved(root.path(), "table", &plan, &cache);
    let folder = root.path().join("out");
    out(&run, false, &folder, &cache).unwrap();
    let config = said(&folder);
    assert_eq!((&config["lora_alpha"], &config["alpha_pattern"]), (&json!(5), &json!({table: 3})));
    let request =
        import::ImportRequest { folder: &folder, model: None, purpose: Some(purpose("bert")), max_length: None };
    agree("table", &logits(&import(&request, &cache).unwrap().network, &asked), &logits(&network, &asked));
}

#[test]
fn a_folder_is_replaced_only_by_what_wrote_it() {
    let root = tempfile::tempdir().unwrap();
    let (cache, model) = (cache(), checkpoint(root.path(), "bert"));
    let plan = plan(&model, &["query"], "lora", spec("lora", 2), "bert");
    let (run, _) = saved(root.path(), "lora", &plan, &cache);
    let taken = root.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(taken.join("mine.txt"), "mine").unwrap();
    let refused = out(&run, false, &taken, &cache).unwrap_err();
    says(&refused, &["taken", "not an earlier output of `lora-lab export`", "`--out`"]);

    let folder = root.path().join("out");
    out(&run, false, &folder, &cache).unwrap();
    let first = std::fs::read(folder.join(WEIGHTS)).unwrap();
    std::fs::write(folder.join(WEIGHTS), "trained on").unwrap();
    says(&out(&run, false, &folder, &cache).unwrap_err(), &["is not what `lora-lab export` wrote", "`--force`"]);
    assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), b"trained on");
    std::fs::remove_file(folder.join(WEIGHTS)).unwrap();
    out(&run, false, &folder, &cache).unwrap();
    assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), first);

    let request = import::ImportRequest { folder: &folder, model: None, purpose: None, max_length: None };
    let write = |to: &Path| {
        let output = import::output(&request, to, false).map_err(|error| error.to_string())?;
        import::write(back(&folder, &cache).unwrap(), &folder, output).map_err(|error| error.to_string())
    };
    let again = root.path().join("again");
    write(&again).unwrap();
    write(&again).unwrap();
    says(&write(&taken).unwrap_err(), &["not an earlier output of `lora-lab import`", "`--out`"]);
    says(&write(&folder).unwrap_err(), &["is or holds an input of this command", "`--out`"]);
    assert_eq!(std::fs::read_dir(&taken).unwrap().count(), 1);
    assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), first);
    let new = root.path().join("new");
    says(&out(&folder, false, &new, &cache).unwrap_err(), &["is a PEFT folder already", "lora-lab import"]);
}

/// Modules that are saved whole lie in the file as torch has them: a `Linear` as `[d_out, d_in]`, GPT-2's `Conv1D` as here.
#[test]
fn whole_modules_lie_as_torch_has_them() {
    let root = tempfile::tempdir().unwrap();
    let cache = cache();
    for (arch, targets, module, map, shape) in [
        ("gpt2", ["c_attn"], "mlp.c_fc", "transformer.h.1.mlp.c_fc", [24, 44]),
        ("bert", ["query"], "intermediate.dense", "bert.encoder.layer.1.intermediate.dense", [40, 24]),
    ] {
        let model = checkpoint(root.path(), arch);
        let mut plan = plan(&model, &targets, "lora", spec("lora", 2), arch);
        plan.modules.modules_to_save = vec![module.to_owned()];
        let (run, mut network) = saved(root.path(), &format!("{arch}_whole"), &plan, &cache);
        let folder = root.path().join(format!("{arch}_folder"));
        out(&run, false, &folder, &cache).unwrap();
        let file = numbers(&folder.join(WEIGHTS));
        let (found, values) = &file[&format!("base_model.model.{map}.weight")];
        assert_eq!(found, &shape, "{arch}");
        let slot = map.split_once('.').unwrap().1;
        let (_, own) = &tensors(&mut network)[&format!("{slot}.weight")]; // [d_in, d_out]
        let at = |i: usize, o: usize| if arch == "gpt2" { values[i * shape[1] + o] } else { values[o * shape[1] + i] };
        let d_out = if arch == "gpt2" { shape[1] } else { shape[0] };
        assert_eq!((at(1, 2), at(20, 30)), (own[d_out + 2], own[20 * d_out + 30]), "{arch}");
        let saved: Vec<String> = serde_json::from_value(said(&folder)["modules_to_save"].clone()).unwrap();
        assert!(saved.contains(&map.to_owned()), "{saved:?}");
        assert_eq!(
            tensors(&mut back(&folder, &cache).unwrap().network)[&format!("{slot}.weight")].1,
            *own,
            "{arch}: it comes back as it was"
        );
    }
}

/// An export of this program says its own task only as long as its configuration is the one that was written.
#[test]
fn an_edited_export_is_not_taken_for_what_was_written() {
    let root = tempfile::tempdir().unwrap();
    let (cache, model) = (cache(), checkpoint(root.path(), "bert"));
    let plan = plan(&model, &["query", "value"], "lora", spec("lora", 2), "bert");
    let (run, mut network) = saved(root.path(), "lora", &plan, &cache);
    let folder = root.path().join("out");
    out(&run, false, &folder, &cache).unwrap();
    let written = said(&folder);
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut config = written.clone();
        edit(&mut config);
        std::fs::write(folder.join(CONFIG), config.to_string()).unwrap();
        // A cache keeps a base that was moved away.
        back(&folder, &support::cache())
    };
    for (field, value) in [
        ("rank_pattern", json!({"query": 7})),
        ("alpha_pattern", json!({"query": 7})),
        ("bias", json!("all")),
        ("target_modules", json!(["nope"])),
        ("target_modules", json!("query")),
        ("exclude_modules", json!(["value"])),
        ("layers_to_transform", json!([99])),
        ("modules_to_save", json!(["classifier", "score", "pooler"])),
        ("lora_dropout", json!(0.5)),
        ("lora_alpha", json!(3)),
        ("task_type", json!("CAUSAL_LM")),
        ("use_rslora", json!(true)),
        ("r", Value::Null),
    ] {
        let error = edited(&|config| config[field] = value.clone()).map(drop).unwrap_err();
        says(&error, &[CONFIG, &format!("`{field}` is `"), "`lora-lab export` wrote", "lora_lab.json", "`--task`"]);
    }
    // What PEFT makes of it when it saves the folder again asks for nothing else.
    let again = edited(&|config| {
        config["target_modules"].as_array_mut().unwrap().reverse();
        config["lora_alpha"] = json!(written["lora_alpha"].as_f64().unwrap());
        config["inference_mode"] = json!(false);
        config["peft_version"] = json!("0.20.0");
        config["qalora_group_size"] = json!(16);
        config["kasa_config"] = Value::Null;
        config["exclude_modules"] = json!([]);
    });
    assert_eq!(tensors(&mut again.unwrap().network), tensors(&mut network));
    // Weights that are not those that were written are used, and said.
    let weights = std::fs::read(folder.join(WEIGHTS)).unwrap();
    let mut changed = weights.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(folder.join(WEIGHTS), &changed).unwrap();
    let found = edited(&|_| {}).unwrap();
    says(&found.notes.join("; "), &[WEIGHTS, "`lora-lab export` wrote other bytes", "what is there now is used"]);
    std::fs::write(folder.join(WEIGHTS), &weights).unwrap();
    assert!(!edited(&|_| {}).unwrap().notes.join("; ").contains("other bytes"));
    // A base that has moved is the one that the configuration names now, if it is the same.
    let moved = root.path().join("moved");
    std::fs::rename(&model, &moved).unwrap();
    let gone = edited(&|_| {}).map(drop).unwrap_err();
    says(&gone, &["no such folder"]);
    let found = edited(&|config| config["base_model_name_or_path"] = json!(moved.display().to_string())).unwrap();
    assert_eq!(*found.metadata.plan.model, *moved.display().to_string());
    let other = checkpoint(root.path(), "roberta");
    let wrong = edited(&|config| config["base_model_name_or_path"] = json!(other)).map(drop).unwrap_err();
    says(&wrong, &["it was trained on", "give the right base with `--model`"]);
}

/// Rows are as long as somebody says, or as the base allows.
#[test]
fn lengths_are_the_experiments_or_all_that_the_base_allows() {
    let root = tempfile::tempdir().unwrap();
    let (cache, model) = (cache(), checkpoint(root.path(), "bert"));
    let longest = cache.base(&model).unwrap().backbone.config().longest();
    let folder = fixture("bert_lora");
    let length = |known: Option<usize>, asked: Option<usize>| {
        let purpose = Some(Purpose { max_length: known, ..purpose("bert") });
        let request = import::ImportRequest { folder: &folder, model: Some(&model), purpose, max_length: asked };
        import(&request, &cache).map(|found| found.metadata.plan.train.max_length).map_err(|error| error.to_string())
    };
    assert_eq!((length(None, None), length(Some(9), None)), (Ok(longest), Ok(9)));
    assert_eq!((length(Some(9), Some(7)), length(None, Some(longest))), (Ok(7), Ok(longest)));
    says(&length(None, Some(longest + 1)).unwrap_err(), &["max_length is `", &format!("3..={longest}")]);
    // An export keeps the recipe's.
    let plan = plan(&model, &["query"], "lora", spec("lora", 2), "bert");
    let (run, _) = saved(root.path(), "lora", &plan, &cache);
    let exported = root.path().join("out");
    out(&run, false, &exported, &cache).unwrap();
    assert_eq!(back(&exported, &cache).unwrap().metadata.plan.train.max_length, 20);
    let request = import::ImportRequest { folder: &exported, model: None, purpose: None, max_length: Some(11) };
    assert_eq!(import(&request, &cache).unwrap().metadata.plan.train.max_length, 11);
}

/// An expression for names without the model's prefix, and exclusions that VeRA's configuration has no field for, are written out.
#[test]
fn targets_that_peft_would_read_otherwise_are_written_out() {
    let root = tempfile::tempdir().unwrap();
    let (cache, model) = (cache(), checkpoint(root.path(), "bert"));
    let export_of = |name: &str, preset: &str, targets: &str, exclude: Option<&str>| {
        let mut plan = plan(&model, &[], preset, spec(preset, 2), "bert");
        plan.targets = Target::Pattern(targets.to_owned());
        plan.modules.exclude_modules = exclude.map(|pattern| Target::Pattern(pattern.to_owned()));
        let (run, mut network) = saved(root.path(), name, &plan, &cache);
        let folder = root.path().join("out").join(name);
        out(&run, false, &folder, &cache).unwrap();
        // Read as PEFT reads it, without the recipe beside it.
        let request =
            import::ImportRequest { folder: &folder, model: None, purpose: Some(purpose("bert")), max_length: None };
        let wanted = tensors(&mut network);
        let mut taken = tensors(&mut import(&request, &cache).unwrap().network);
        // VeRA's pair, which a run draws and a folder has.
        taken.retain(|tensor, _| wanted.contains_key(tensor) || preset != "vera");
        assert_eq!(taken, wanted, "{name}");
        said(&folder)
    };
    let plain = export_of("plain", "lora", ".*(query|value)", None);
    assert_eq!(plain["target_modules"], json!(r"(?:bert\.)?(?:.*(query|value))"));
    let bare = export_of("bare", "lora", r"^encoder\..*query", None);
    let written = json!(["bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.attention.self.query"]);
    assert_eq!(bare["target_modules"], written);
    let ahead = export_of("ahead", "lora", "(?!bert).*query", None);
    assert_eq!(ahead["target_modules"], json!(r"(?:bert\.)?(?:(?!bert).*query)"));
    let narrowed = export_of("narrowed", "lora", r"^encoder\..*query", Some("encoder.*layer.0.*"));
    assert_eq!((&narrowed["target_modules"], &narrowed["exclude_modules"]), (&json!([written[1]]), &Value::Null));
    let vera = export_of("vera", "vera", ".*(query|value)", Some(".*value"));
    assert_eq!((&vera["target_modules"], vera.get("exclude_modules")), (&written, None));
}
