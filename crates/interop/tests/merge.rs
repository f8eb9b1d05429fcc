//! Merged checkpoints: against PEFT's `merge_and_unload` on the fixtures of `scripts/oracle/models.py`, every preset on the embedded
//! base, and what is refused.
//!
//! `LORA_LAB_MERGED=DIR cargo test --release --workspace --test merge` keeps the checkpoints of the fixtures in DIR, with the unmerged
//! logits beside each, for `scripts/oracle/merged.py DIR`, which opens them with transformers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/adapters.rs"]
mod support;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use assets::source;
use burn::tensor::DType;
use experiment::cell::Recipe;
use interop::{
    dtype::Dtype,
    export::{CutRequest, Reduction, at_rank},
    merge::{MergeReport, MergeRequest, Rows, checkpoint::backbone_tensors, merge},
    peft::export::{ExportRequest, export},
};
use models::{
    backbone::Backbone,
    config::{Config, Purpose},
    head::{Classifier, Head},
    network::{NamedParam, Network},
    weights::Weights,
};
use safetensors::{SafeTensors, tensor::TensorView};
use support::{
    Numbers, base_fixture as fixture, checkpoint, difference, largest, logits, noisy, numbers, place, wanted,
};
use trainer::model_cache::ModelCache;
use variants::{
    base::{BaseSpec, BiasSpec},
    pass::Active,
    preset,
    rank::RankPolicy,
    slot::{RunPlan, Slot, StackPlan},
    spec::VariantSpec,
};

fn plan(model: &str, targets: &[&str], variant: VariantSpec, is_text: bool) -> Recipe {
    support::plan(model, targets, "lora", variant, is_text)
}

/// An adapter under `root` whose tensors `fill` sets.
fn saved(
    root: &Path,
    name: &str,
    plan: &Recipe,
    cache: &ModelCache,
    mut fill: impl FnMut(&str, [usize; 3], Vec<f64>) -> Vec<f64>,
) -> (PathBuf, Network) {
    let fill = |named: &NamedParam<'_>, values: Vec<f64>| fill(&named.name, named.param.tensor.dims(), values);
    support::saved(&root.join("adapters").join(name), name, plan, cache, fill)
}

/// Everything a little away from its start, so that nothing is merged as a zero.
fn moved(seed: u64) -> impl FnMut(&str, [usize; 3], Vec<f64>) -> Vec<f64> {
    move |name, _, values| noisy(&values, seed, name, 0.05)
}

fn request<'a>(adapter: &'a Path, out: &'a Path, dtype: Dtype) -> MergeRequest<'a> {
    MergeRequest { adapter, model: None, rank: None, dtype, out, force: false, rows: Rows::Any, most: 16 }
}

/// A checkpoint as it lies in a folder, with its own head and no adapter.
fn reopened(folder: &Path, is_text: bool) -> Network {
    let files = source::open(&folder.display().to_string()).unwrap();
    let purpose = if is_text { Purpose::Continue } else { Purpose::Classify };
    let mut network = Network::new(Backbone::new(&files.config, &files.weights, purpose, &place(DType::F32)).unwrap());
    let plan = StackPlan::new(
        (preset::find("head_only").unwrap().spec)(0).check(None).unwrap(),
        vec![RunPlan { init_seed: 0, alpha: 1.0 }],
        BTreeSet::new(),
    );
    let head = if is_text {
        Head::Causal
    } else {
        let stored = files.weights.only(files.config.head_names());
        Head::Classifier(Classifier::new(&network.backbone, &plan, &[3], &stored))
    };
    network.attach(&plan, head).unwrap();
    network
}

/// The adapters that PEFT wrote, merged by this program and by PEFT: the same logits within 1e-5 of the largest (f32, as
/// `models/tests/oracle.rs`). Then the adapter is taken off: every tensor of the base is its file's, bit for bit.
#[test]
fn merged_fixtures_are_pefts_and_taking_the_adapter_off_gives_the_base_back() {
    let root = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("LORA_LAB_MERGED").map(PathBuf::from);
    let out_root = kept.clone().unwrap_or_else(|| root.path().join("merged"));
    for (arch, targets, is_text) in [
        ("bert", &["query", "value"][..], false),
        ("roberta", &["query", "value"], false),
        ("gpt2", &["c_attn"], true),
        ("llama", &["q_proj", "v_proj"], true),
        ("llama_tied", &["q_proj", "v_proj"], true),
    ] {
        let cache = ModelCache::new(place(DType::F32));
        let model = checkpoint(root.path(), arch);
        let mut variant = (preset::find("lora").unwrap().spec)(4);
        variant.alpha = 8.0;
        let prefix = cache.base(&model).unwrap().backbone.config().prefixes()[0];
        let of_peft: Numbers = numbers(&fixture(arch).join("adapter/adapter_model.safetensors"))
            .into_iter()
            .map(|(name, tensor)| {
                let name = name.strip_prefix("base_model.model.").unwrap();
                let name = name.strip_prefix(prefix).unwrap_or(name);
                (name.replace(".lora_A.weight", ".a").replace(".lora_B.weight", ".b"), tensor)
            })
            .collect();
        let fill = |name: &str, [_, rows, cols]: [usize; 3], _: Vec<f64>| {
            let (shape, stored) = &of_peft[name];
            if shape.len() == 1 {
                return stored.clone();
            }
            assert_eq!(*shape, [cols, rows], "{name}");
            (0..rows).flat_map(|i| (0..cols).map(move |o| stored[o * rows + i])).collect()
        };
        let (file, mut network) = saved(root.path(), arch, &plan(&model, targets, variant, is_text), &cache, fill);
        let out = out_root.join(arch);
        let report = merge(&request(&file, &out, Dtype::F32), &cache).unwrap();
        assert!(report.left_out.is_empty() && report.compared_on.contains("drawn at random"), "{report:?}");

        let expected = numbers(&fixture(arch).join("expected.safetensors"));
        let (found, unmerged) =
            (logits(&reopened(&out, is_text), &expected, is_text), logits(&network, &expected, is_text));
        let of_peft = wanted(&expected, "merged.logits");
        let tolerance = 1e-5 * largest(of_peft.iter().copied());
        assert!(difference(&found, &of_peft) < tolerance, "{arch}: {:e}", difference(&found, &of_peft));
        assert!(difference(&found, &unmerged) < tolerance, "{arch}: {:e}", difference(&found, &unmerged));
        if let Some(folder) = &kept {
            keep(folder, arch, &expected, &unmerged);
        }

        // Off again.
        let config = network.backbone.config();
        let merged = backbone_tensors(&mut network.clone().backbone, &Active::All, &config);
        network.backbone.slots().into_iter().for_each(|slot| match slot {
            Slot::Linear(map) => map.detach(),
            Slot::Norm(norm) => norm.detach(),
            Slot::Embedding(table) => table.detach(),
        });
        let restored = backbone_tensors(&mut network.backbone, &Active::All, &config);
        let stored = source::open(&model).unwrap().weights;
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        let (mut same, mut other) = (0, 0);
        for wanted in config.wanted(Purpose::Classify) {
            assert_eq!(bits(&restored[&wanted.name]), bits(stored.get(&wanted.name)), "{arch}: {}", wanted.name);
            same += 1;
            other += usize::from(bits(&merged[&wanted.name]) != bits(stored.get(&wanted.name)));
        }
        assert!(same > 10 && other == 2 * targets.len(), "{arch}: {same} restored, {other} merged");
    }
}

/// Unmerged logits and their rows, for transformers.
fn keep(folder: &Path, arch: &str, expected: &Numbers, unmerged: &[f64]) {
    let raw: Vec<(&str, Vec<usize>, Vec<u8>)> = ["input_ids", "type_ids", "lengths"]
        .into_iter()
        .filter_map(|name| {
            let (shape, values) = expected.get(name)?;
            Some((name, shape.clone(), values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()))
        })
        .chain([("logits", vec![unmerged.len()], unmerged.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect())])
        .collect();
    let views = raw.iter().map(|(name, shape, bytes)| {
        ((*name).to_owned(), TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    std::fs::write(folder.join(format!("{arch}.safetensors")), safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A checkpoint of the encoder alone gets the prefix of the class with a head, keeps its pooler and its position ids.
#[test]
fn a_bare_encoder_gets_prefix_and_head() {
    let root = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("LORA_LAB_MERGED").map(PathBuf::from);
    let cache = ModelCache::new(place(DType::F32));
    let model = checkpoint(root.path(), "bert_bare");
    let plan = plan(&model, &["query"], (preset::find("lora").unwrap().spec)(4), false);
    let (file, network) = saved(root.path(), "bert_bare", &plan, &cache, moved(1));
    let out = kept.clone().unwrap_or_else(|| root.path().to_owned()).join("bert_bare");
    let report = merge(&request(&file, &out, Dtype::F32), &cache).unwrap();
    assert!(report.left_out.is_empty() && report.checks[0].difference < 1e-5, "{report:?}");
    let bytes = std::fs::read(out.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let outside: Vec<&str> = file.names().into_iter().filter(|name| !name.starts_with("bert.")).collect();
    assert_eq!(BTreeSet::from_iter(outside), BTreeSet::from(["classifier.bias", "classifier.weight"]));
    assert!(file.tensor("bert.pooler.dense.weight").is_ok());
    assert_eq!(file.tensor("bert.embeddings.position_ids").unwrap().dtype(), safetensors::Dtype::I64);
    let expected = numbers(&fixture("bert_bare").join("expected.safetensors"));
    let unmerged = logits(&network, &expected, false);
    assert!(difference(&logits(&reopened(&out, false), &expected, false), &unmerged) < 1e-5);
    if let Some(folder) = &kept {
        keep(folder, "bert_bare", &expected, &unmerged);
    }
}

/// Decoders: the thirds of GPT-2's fused map, every weight trained, and a head that classifies by the last token.
#[test]
fn decoders_merge_parts_wholes_and_heads() {
    let root = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("LORA_LAB_MERGED").map(PathBuf::from);
    let out_root = kept.clone().unwrap_or_else(|| root.path().join("merged"));
    let all = ["q_proj", "v_proj"];
    for (name, arch, preset, targets, is_text) in [
        ("gpt2_parts", "gpt2", "lora", &["c_attn.q", "c_attn.v", "mlp.c_proj"][..], true),
        ("gpt2_full", "gpt2", "full", &[], true),
        ("llama_full", "llama", "full", &[], true),
        ("llama_tied_full", "llama_tied", "full", &[], true),
        ("gpt2_classifier", "gpt2", "lora", &["c_attn.v"], false),
        ("llama_classifier", "llama", "dora", &all, false),
    ] {
        let cache = ModelCache::new(place(DType::F32));
        let model = checkpoint(root.path(), arch);
        let rank = if preset == "full" { 0 } else { 4 };
        let plan = plan(&model, targets, (preset::find(preset).unwrap().spec)(rank), is_text);
        let (file, network) = saved(root.path(), name, &plan, &cache, moved(5));
        let out = out_root.join(name);
        let report = merge(&request(&file, &out, Dtype::F32), &cache).unwrap();
        let left_out = if name == "llama_classifier" { vec!["lm_head.weight"] } else { vec![] };
        assert!(report.left_out == left_out && report.checks[0].difference < 1e-4, "{name}: {report:?}");
        let expected = numbers(&fixture(arch).join("expected.safetensors"));
        let unmerged = logits(&network, &expected, is_text);
        let found = logits(&reopened(&out, is_text), &expected, is_text);
        let tolerance = 1e-5 * largest(unmerged.iter().copied());
        assert!(difference(&found, &unmerged) < tolerance, "{name}: {:e}", difference(&found, &unmerged));
        if let Some(folder) = &kept {
            keep(folder, name, &expected, &unmerged);
        }
    }
}

/// A run on text is compared on the tokens that its own dev split learns, where that is at hand.
#[test]
fn texts_are_compared_on_their_own_split() {
    let root = tempfile::tempdir().unwrap();
    let cache = ModelCache::new(place(DType::F32));
    let model = checkpoint(root.path(), "llama");
    for name in ["train.txt", "dev.txt"] {
        std::fs::write(root.path().join(name), "w5 w6||w7 w8 w9\nw10||w11 w12\n".repeat(10)).unwrap();
    }
    let dora = (preset::find("dora").unwrap().spec)(2);
    let plan = Recipe { data: Some(root.path().display().to_string().into()), ..plan(&model, &["q_proj"], dora, true) };
    let (file, _) = saved(root.path(), "text", &plan, &cache, moved(6));
    let out = root.path().join("out");
    let of = |rows| merge(&MergeRequest { rows, ..request(&file, &out, Dtype::F32) }, &cache);
    let report = of(Rows::Any).unwrap();
    assert!(report.compared_on == "dev of `e2e`" && report.checks[0].difference < 1e-4, "{report:?}");
    assert!((16..=16 * 5).contains(&report.compared), "positions of 16 rows: {report:?}");
    let error = of(Rows::Split("tset".into())).unwrap_err().to_string();
    assert!(error.contains("no split `tset`; it has `dev`"), "{error}");
}

/// Every preset on the embedded base in every type. Tolerances: f32 1e-4, a few rounding errors of five layers; f16 and bf16 keep 11
/// and 8 bits of every weight, which moves logits of size 1 by less than 0.02 and 0.2.
#[test]
fn every_variant_merges_and_a_rank_of_dylora_is_one_more() {
    let root = tempfile::tempdir().unwrap();
    let cache = ModelCache::new(place(DType::F32));
    let merged = |file: &Path, name: &str, rank: Option<usize>, dtype: Dtype| -> MergeReport {
        let out = root.path().join(name);
        merge(&MergeRequest { rank, ..request(file, &out, dtype) }, &cache)
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    for preset in preset::all() {
        let spec = (preset.spec)(4);
        let plan = plan("mini_roberta", &["query", "value"], spec.clone(), false);
        let (file, mut network) = saved(root.path(), preset.name, &plan, &cache, moved(2));
        if spec.unmergeable().is_some() {
            let out = root.path().join("out");
            let error = merge(&request(&file, &out, Dtype::F32), &cache).unwrap_err().to_string();
            assert!(error.contains("is not mergeable") && !out.exists(), "{}: {error}", preset.name);
            continue;
        }
        let report = merged(&file, preset.name, None, Dtype::Bf16);
        let found: Vec<f64> = report.checks.iter().map(|check| check.difference).collect();
        assert!(found[0] < 1e-4 && found[1] < 0.02 && found[2] < 0.2, "{}: {found:?}", preset.name);
        assert!(report.left_out.iter().all(|name| name.starts_with("lm_head.")) && report.left_out.len() == 5);
        if spec.rank_policy.readouts(4).contains(&2) {
            let two = format!("{}_2", preset.name);
            let report_of_two = merged(&file, &two, Some(2), Dtype::F32);
            assert!(report_of_two.checks[0].difference < 1e-4 && report_of_two.largest_logit != report.largest_logit);
            let weights = numbers(&root.path().join(two).join("model.safetensors"));
            let map = "encoder.layer.0.attention.self.query.weight";
            let config = network.backbone.config();
            let cut = backbone_tensors(&mut network.backbone, &Active::Prefix(vec![2]), &config);
            let cut: Vec<f64> = cut[map].iter().map(|v| f64::from(*v)).collect();
            assert_eq!(weights[&format!("roberta.{map}")].1, cut);
        }
        if spec.base == BaseSpec::Trained || spec.bias == BiasSpec::All {
            let base = source::open("mini_roberta").unwrap().weights;
            let weights = numbers(&root.path().join(preset.name).join("model.safetensors"));
            let moved = |name: &str| {
                let stored: Vec<f64> = base.get(name).iter().map(|v| f64::from(*v)).collect();
                difference(&weights[&format!("roberta.{name}")].1, &stored) > 0.03 // bf16 rounds by less, the noise is 0.05
            };
            assert!(moved("embeddings.LayerNorm.bias") && moved("encoder.layer.3.output.dense.bias"));
            let trained = spec.base == BaseSpec::Trained;
            assert_eq!(moved("embeddings.word_embeddings.weight"), trained);
            assert_eq!(moved("encoder.layer.1.output.LayerNorm.weight"), trained);
        }
    }
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(root.path().join("lora/config.json")).unwrap()).unwrap();
    assert_eq!(config["id2label"]["0"], "entailment");
    assert_eq!(config["torch_dtype"], "bfloat16");
    assert!(root.path().join("lora/tokenizer_config.json").is_file());
}

#[test]
fn what_cannot_be_merged_is_refused_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let cache = ModelCache::new(place(DType::F32));
    let out = root.path().join("out");
    let refused = |request: &MergeRequest<'_>, part: &str| {
        let error = merge(request, &cache).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        let left: Vec<_> = std::fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().contains("out")), "{left:?}");
    };
    let lora = (preset::find("lora").unwrap().spec)(2);
    let of = |model: &str, targets: &[&str], is_text: bool, name: &str| {
        saved(root.path(), name, &plan(model, targets, lora.clone(), is_text), &cache, moved(3)).0
    };
    let plain = of("mini_roberta", &["query"], false, "plain");
    refused(
        &MergeRequest { rank: Some(1), ..request(&plain, &out, Dtype::F32) },
        "rank is `1`, but `plain` was trained to be used at 2",
    );
    refused(&request(&root.path().join("nowhere"), &out, Dtype::F32), "no adapter here");
    refused(&request(&fixture("bert").join("adapter"), &out, Dtype::F32), "PEFT folder");
    refused(&MergeRequest { rows: Rows::Split("dev".into()), ..request(&plain, &out, Dtype::F32) }, "/nowhere");
    // A tied table can be trained, not adapted; of a classifier it is no output projection.
    let tied = checkpoint(root.path(), "llama_tied");
    refused(&request(&of(&tied, &["embed_tokens"], true, "tied"), &out, Dtype::F32), "also the output projection");
    let classifier = of(&tied, &["embed_tokens"], false, "tied_classifier");
    let report = merge(&request(&classifier, &root.path().join("classifier"), Dtype::F32), &cache).unwrap();
    assert!(report.checks[0].difference < 1e-4, "{report:?}");
    // Beyond f16's range, and not a number.
    let huge = saved(
        root.path(),
        "huge",
        &plan("mini_roberta", &["query"], lora.clone(), false),
        &cache,
        |name, _, values| {
            if name == "classifier.dense.bias" { vec![1e5; values.len()] } else { values }
        },
    );
    refused(&request(&huge.0, &out, Dtype::F16), "`classifier.dense.bias` holds a number beyond float16's largest");
    let broken =
        saved(root.path(), "broken", &plan("mini_roberta", &["query"], lora.clone(), false), &cache, |_, _, values| {
            vec![f64::NAN; values.len()]
        });
    refused(&request(&broken.0, &out, Dtype::F32), "not finite");
    // The base of the adapter, which is known once it is read.
    let base = checkpoint(root.path(), "bert");
    let adapter = of(&base, &["query"], false, "on_disk");
    for force in [false, true] {
        let request = MergeRequest { force, ..request(&adapter, Path::new(&base), Dtype::F32) };
        let error = merge(&request, &cache).unwrap_err().to_string();
        let part = if force { "is or holds an input of this command" } else { "not an earlier output" };
        assert!(error.contains(part), "{error}");
    }
    let error = at_rank(
        &CutRequest { adapter: &adapter, rank: 2, reduction: Reduction::Prefix, out: Path::new(&base), force: true },
        &cache,
    );
    assert!(error.unwrap_err().to_string().contains("is or holds an input of this command"));
    let exported = ExportRequest {
        adapter: &adapter,
        model: None,
        rank: None,
        residual: false,
        out: Path::new(&base),
        force: true,
    };
    let error = export(&exported, &cache).unwrap_err().to_string();
    assert!(error.contains("is or holds an input of this command"), "{error}");
    let files = std::fs::read_dir(&base).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert!(files.iter().all(|name| !name.to_string_lossy().contains("adapter")), "{files:?}");
    assert!(Path::new(&base).join("config.json").is_file());
    // What lies in the folder already.
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("mine.txt"), "mine").unwrap();
    let error = merge(&request(&plain, &out, Dtype::F32), &cache).unwrap_err().to_string();
    assert!(error.contains("not an earlier output") && out.join("mine.txt").is_file(), "{error}");
}

/// A folder that was merged once is written again by the same command.
#[test]
fn merging_again_replaces_the_checkpoint_by_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let cache = ModelCache::new(place(DType::F32));
    let spec = (preset::find("dora").unwrap().spec)(2);
    let (file, _) = saved(root.path(), "dora", &plan("mini_roberta", &["value"], spec, false), &cache, moved(4));
    let out = root.path().join("out");
    let once = |dtype| {
        merge(&request(&file, &out, dtype), &cache).unwrap();
        ["model.safetensors", "config.json", "lora_lab.json"].map(|name| std::fs::read(out.join(name)).unwrap())
    };
    let (first, half, again) = (once(Dtype::F32), once(Dtype::F16), once(Dtype::F32));
    assert!(first == again && first != half && half[0].len() < first[0].len());
    let _: (Config, Weights) =
        source::open(&out.display().to_string()).map(|files| (files.config, files.weights)).unwrap();
}
