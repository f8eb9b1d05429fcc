//! Adapters of PEFT's other tuners: against PEFT's logits on the folders of `scripts/oracle/peft_tuners.py`, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/adapters.rs"]
mod support;

use std::path::{Path, PathBuf};

use interop::peft::{
    export::{self, ExportReport, export},
    import::{self, Imported, Purpose, import},
};
use serde_json::{Value, json};
use support::{Numbers, cache, checkpoint, largest, noisy, numbers, says, write_numbers};
use trainer::model_cache::ModelCache;
use variants::{base::BiasSpec, preset, scaling::Scaling, spec::VariantSpec};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// The folders, and the preset that each becomes.
const CASES: [(&str, &str); 18] = [
    ("bert_loha", "loha"),
    ("bert_ia3", "ia3"),
    ("bert_hra", "hra"),
    ("bert_oft", "oft"),
    ("bert_oft_exact", "oft"),
    ("bert_lokr", "lokr"),
    ("bert_lokr_both", "lokr"),
    ("bert_lokr_whole", "lokr"),
    ("bert_miss", "miss"),
    ("bert_miss_mini", "miss"),
    ("bert_bat", "bone"),
    ("bert_boft", "boft"),
    ("bert_c3a", "c3a"),
    ("bert_gralora", "gralora"),
    ("bert_gralora_four", "gralora"),
    ("bert_hira", "hira"),
    ("bert_delora", "delora"),
    ("bert_vblora", "vb_lora"),
];

/// Of the largest logit: f32 here and in PEFT, as in the tests of LoRA's folders.
const TOLERANCE: f64 = 1e-5;

fn fixture(case: &str) -> PathBuf {
    support::fixture("peft_tuners").join(case)
}

fn said(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(CONFIG)).unwrap()).unwrap()
}

fn purpose() -> Purpose {
    Purpose {
        data: Some("/nowhere".to_owned()),
        max_length: Some(20),
        ..Purpose::of_suite("glue", "mnli") // three classes, as the heads of the fixtures
    }
}

fn take(folder: &Path, model: &str, cache: &ModelCache) -> Result<Imported, String> {
    let request = import::ImportRequest { folder, model: Some(model), purpose: Some(purpose()), max_length: None };
    import(&request, cache).map_err(|error| error.to_string())
}

fn out(adapter: &Path, out: &Path, cache: &ModelCache) -> Result<ExportReport, String> {
    let request = export::ExportRequest { adapter, model: None, rank: None, residual: false, out, force: false };
    export(&request, cache).map_err(|error| error.to_string())
}

#[test]
fn folders_of_peft_give_its_logits_and_come_back() {
    let root = tempfile::tempdir().unwrap();
    let (cache, model) = (cache(), checkpoint(root.path(), "bert"));
    for (case, preset) in CASES {
        let folder = fixture(case);
        let imported = take(&folder, &model, &cache).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(imported.metadata.cell.variant, preset, "{case}");
        let asked = numbers(&folder.join("expected.safetensors"));
        let (found, wanted) = (support::logits(&imported.network, &asked, false), support::wanted(&asked, "logits"));
        assert_eq!(found.len(), wanted.len(), "{case}");
        let far = largest(found.iter().zip(&wanted).map(|(a, b)| a - b));
        let size = largest(wanted.iter().copied());
        assert!(far <= TOLERANCE * size, "{case}: {far:e} of {size}");

        let (taken, again) = (root.path().join("taken").join(case), root.path().join("again").join(case));
        let request =
            import::ImportRequest { folder: &folder, model: Some(&model), purpose: Some(purpose()), max_length: None };
        import::write(imported, &folder, import::output(&request, &taken, false).unwrap()).unwrap();
        out(&taken, &again, &cache).unwrap();
        let [theirs, ours]: [Numbers; 2] = [&folder, &again].map(|folder| numbers(&folder.join(WEIGHTS)));
        assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>(), "{case}");
        for (name, tensor) in &theirs {
            // Norms of the base are summed in another order: a few roundings of f32.
            let is_close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-6 * b.abs();
            let repeats = name.ends_with(".delora_w_norm") && ours[name].1.iter().zip(&tensor.1).all(is_close);
            assert!(repeats || ours[name] == *tensor, "{case}: {name} is not the same to the bit");
        }
        // What has no number in it is written as PEFT writes it, and maps by their full names.
        let [theirs, ours] = [&folder, &again].map(|folder| said(folder));
        let own = ours.as_object().unwrap().iter().filter(|(field, value)| {
            !["base_model_name_or_path", "target_modules", "feedforward_modules", "modules_to_save"]
                .contains(&field.as_str())
                && !value.is_object()
                && theirs.get(field.as_str()).is_some()
        });
        for (field, value) in own {
            let is_number = value.as_f64().is_some() && value.as_f64() == theirs[field].as_f64();
            // C³A's kernels lie in the file, whatever they started at; of two sizes that are as frequent, either may be the one for all.
            let is_other = case == "bert_c3a" && ["init_weights", "block_size"].contains(&field.as_str());
            assert!(
                is_number || is_other || *value == theirs[field],
                "{case}: {field} is {value}, not {}",
                theirs[field]
            );
        }
    }
}

/// A folder with a field or a tensor changed.
fn altered(case: &str, edit: impl FnOnce(&mut Value, &mut Numbers)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (mut config, mut tensors) = (said(&fixture(case)), numbers(&fixture(case).join(WEIGHTS)));
    edit(&mut config, &mut tensors);
    std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
    write_numbers(&folder.path().join(WEIGHTS), &tensors);
    folder
}

#[test]
fn a_field_that_means_another_function_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let (cache, model) = (cache(), checkpoint(root.path(), "bert"));
    for (case, field, value, rule) in [
        ("bert_hra", "apply_GS", json!(true), "`apply_GS` is `true`, but must be `false`"),
        ("bert_hra", "r", json!(0), "`r` is `0`, but must be a whole number of at least 1"),
        ("bert_hra", "bias", json!("hra_only"), "bias is `hra_only`, but must be none"),
        ("bert_oft", "coft", json!(true), "`coft` is `true`, but must be `false`"),
        ("bert_oft", "block_share", json!(true), "`block_share` is `true`"),
        ("bert_oft", "num_cayley_neumann_terms", json!(7), "must be `5`"),
        ("bert_oft", "r", json!(8), "`r` is `8`, but must be `0`"),
        ("bert_loha", "alpha", json!(0), "`alpha` is `0`, but must be a number that is not 0"),
        ("bert_loha", "use_more", json!(true), "is no field of PEFT's LOHA that is known here"),
        ("bert_miss", "miss_dropout", json!(1.0), "`miss_dropout` is `1.0`, but must be in [0, 1)"),
        ("bert_boft", "boft_block_num", json!(6), "`boft_block_num` is `6`, but must be `0`"),
        ("bert_ia3", "feedforward_modules", json!(".*dense"), "must be a list of names"),
    ] {
        let folder = altered(case, |config, _| config[field] = value);
        says(&take(folder.path(), &model, &cache).map(|_| ()).unwrap_err(), &[CONFIG, rule]);
    }
    // Nor is anything left out or read in another shape.
    for (case, _) in CASES {
        let name = |tensors: &Numbers| tensors.keys().find(|name| name.contains("layer.0")).unwrap().clone();
        let lacking = altered(case, |_, tensors| {
            let name = name(tensors);
            tensors.remove(&name);
        });
        says(&take(lacking.path(), &model, &cache).map(|_| ()).unwrap_err(), &[WEIGHTS, "missing: ", "layer.0"]);
        let other = altered(case, |_, tensors| {
            let name = name(tensors);
            tensors.get_mut(&name).unwrap().0.push(1);
        });
        says(&take(other.path(), &model, &cache).map(|_| ()).unwrap_err(), &[WEIGHTS, "layer.0", "` is ["]);
    }
}

/// Preset, architecture, targets, what is changed of the preset, and the rule that it breaks.
type Refused<'a> = (&'a str, &'a str, &'a [&'a str], fn(&mut VariantSpec), &'a str);

/// What an export cannot say is refused before anything is written.
#[test]
fn what_a_tuner_has_no_field_for_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let cache = cache();
    let of = |preset: &str| (preset::find(preset).unwrap().spec)(4);
    let plain = |_: &mut VariantSpec| {};
    let refused: [Refused<'_>; 5] = [
        (
            "hra",
            "bert",
            &["query"],
            |spec| spec.dropout = 0.1,
            "has no dropout of inputs, which is `0.1` here; use `dropout: 0`",
        ),
        (
            "oft",
            "bert",
            &["query"],
            |spec| spec.scaling = Scaling::Constant { value: 2.0 },
            "has no scale, which is `2` here",
        ),
        ("loha", "bert", &["query"], |spec| spec.bias = BiasSpec::All, "trains no biases here; use `bias: none`"),
        ("loha", "gpt2", &["c_attn"], plain, "was not held against PEFT on GPT-2's maps"),
        ("fourierft", "bert", &["query"], plain, "PEFT has no form for the update of `fourierft`"),
    ];
    for (at, (preset, arch, targets, edit, rule)) in refused.into_iter().enumerate() {
        let mut spec = of(preset);
        edit(&mut spec);
        let model = checkpoint(root.path(), arch);
        let plan = support::plan(&model, targets, preset, spec, arch == "gpt2");
        let folder = root.path().join(format!("run_{at}"));
        support::saved(&folder, preset, &plan, &cache, |named, old| noisy(&old, 5, &named.name, 0.1));
        let to = root.path().join(format!("out_{at}"));
        says(&out(&folder, &to, &cache).unwrap_err(), &["adapter.safetensors", preset, rule]);
        assert!(!to.exists());
    }
    // One rank for all maps.
    let model = checkpoint(root.path(), "bert");
    let mut plan = support::plan(&model, &["query", "value"], "hra", of("hra"), false);
    plan.modules.rank_pattern = vec![("value".to_owned(), 2)];
    let folder = root.path().join("ranks");
    support::saved(&folder, "hra", &plan, &cache, |named, old| noisy(&old, 5, &named.name, 0.1));
    let error = out(&folder, &root.path().join("out"), &cache).unwrap_err();
    says(
        &error,
        &["PEFT's HRA", "has one rank for all maps, but they have ranks from `2` to `4`", "leave `rank_pattern` out"],
    );
}
