//! Combinations of adapters: against PEFT's functions (`scripts/oracle/combine.py`), of this program's own runs, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/adapters.rs"]
mod support;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use experiment::{cell::Recipe, hyper::Hyper};
use interop::{
    model_merging::{
        self, CombineReport, CombineRequest, Input, combine,
        lorahub::Mix,
        methods::{Method, SignElection},
    },
    peft, update,
};
use safetensors::SafeTensors;
use support::{cache, checkpoint, noisy};
use variants::preset;

fn fixture(name: &str) -> PathBuf {
    support::fixture("combine").join(name)
}

fn inputs(weighted: &[(PathBuf, f64)]) -> Vec<Input> {
    weighted.iter().map(|(path, weight)| Input { path: path.clone(), weight: *weight }).collect()
}

fn run(inputs: &[Input], method: Method, out: &Path, head: Option<&Path>) -> Result<CombineReport, String> {
    combine(
        &CombineRequest { inputs, method, head, target: None, out, force: false, command: model_merging::COMMAND },
        &cache(),
    )
    .map_err(|error| error.to_string())
}

/// `ΔW` of every map, `[d_in, d_out]` row-major.
fn deltas(path: &Path) -> BTreeMap<String, (usize, Vec<f64>)> {
    let one = |(name, map): (String, update::MapUpdate)| {
        let (_, d_out) = map.update.shape();
        (name, (d_out, map.update.dense().transpose().as_slice().to_vec()))
    };
    update::read(path, &cache()).unwrap().maps.into_iter().map(one).collect()
}

#[track_caller]
fn close(found: &[f64], wanted: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let largest = wanted.iter().map(|v| v.abs()).fold(0.0, f64::max);
    let gap = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(gap <= tolerance * largest, "{what}: {gap:e} of {largest}");
}

const ADAPTERS: [(&str, f64); 3] = [("first", 0.7), ("second", -0.4), ("third", 1.2)];

fn of_peft() -> Vec<Input> {
    inputs(&ADAPTERS.map(|(name, weight)| (fixture(name), weight)))
}

/// Tolerance 1e-6 of the largest: the written factors are f32, whose products err by 2^-23 and a few times that.
#[test]
fn combinations_are_those_of_peft_with_rslora_patterns_and_negative_weights() {
    let root = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(fixture("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let (rank, density) = (24, 0.3);
    for (name, method) in [
        ("linear", Method::Linear),
        ("linear", Method::Cat),
        ("svd", Method::Svd { rank: 3 }),
        ("ties_total", Method::Ties { rank, density, election: SignElection::Total }),
        ("ties_frequency", Method::Ties { rank, density, election: SignElection::Frequency }),
        ("magnitude_prune", Method::MagnitudePrune { rank, density }),
    ] {
        let out = root.path().join("out");
        let report = run(&of_peft(), method, &out, None).unwrap();
        assert!(
            report
                .notes
                .iter()
                .any(|note| note.contains("third: counts as zero on `encoder.layer.0.attention.self.value`"))
        );
        let found = deltas(&out);
        assert_eq!(found.len(), 2);
        for (map, (d_out, delta)) in found {
            let tensor = expected.tensor(&format!("{name}.{map}")).unwrap();
            let stored: Vec<f64> = tensor.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
            let d_in = delta.len() / d_out;
            let wanted: Vec<f64> =
                (0..d_in).flat_map(|i| (0..d_out).map(move |o| (i, o))).map(|(i, o)| stored[o * d_in + i]).collect();
            close(&delta, &wanted, 1e-6, &format!("{name}.{map}"));
            let told = report.maps.iter().find(|told| told.map == map).unwrap();
            let exact = name != "svd";
            assert!((told.lost < 1e-9 * told.norm) == exact, "{name}: {told:?}");
        }
    }
}

/// One adapter of weight 1 comes back whatever the method, and twice the weight is twice the update, rsLoRA and patterns included.
#[test]
fn one_adapter_comes_back_and_weights_scale_it() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    for (name, _) in ADAPTERS {
        let own = deltas(&fixture(name));
        for method in [
            Method::Linear,
            Method::Cat,
            Method::Svd { rank: 4 },
            Method::Ties { rank: 4, density: 1.0, election: SignElection::Total },
            Method::Dare { rank: 4, density: 1.0, seed: 5 },
            Method::MagnitudePrune { rank: 4, density: 1.0 },
        ] {
            for weight in [1.0, -2.0] {
                run(&inputs(&[(fixture(name), weight)]), method, &out, None).unwrap();
                let found = deltas(&out);
                assert_eq!(found.keys().collect::<Vec<_>>(), own.keys().collect::<Vec<_>>());
                for (map, (_, delta)) in &own {
                    let wanted: Vec<f64> = delta.iter().map(|v| weight * v).collect();
                    close(&found[map].1, &wanted, 1e-6, &format!("{name} {method:?} {weight}"));
                }
            }
        }
    }
}

#[test]
fn dare_is_a_function_of_its_seed() {
    let root = tempfile::tempdir().unwrap();
    let written = |seed| {
        let out = root.path().join("out");
        run(&of_peft(), Method::Dare { rank: 6, density: 0.5, seed }, &out, None).unwrap();
        std::fs::read(out.join("adapter_model.safetensors")).unwrap()
    };
    let first = written(1);
    assert!(first == written(1) && first != written(2));
}

#[test]
fn a_head_is_taken_along_where_it_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let report = run(&of_peft(), Method::Linear, &out, None).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("`--head ADAPTER`")), "{:?}", report.notes);
    let config = |out: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(out.join("adapter_config.json")).unwrap()).unwrap()
    };
    assert!(config(&out)["modules_to_save"].is_null() && config(&out)["task_type"].is_null());
    run(&of_peft(), Method::Linear, &out, Some(&fixture("second"))).unwrap();
    assert_eq!(config(&out)["modules_to_save"], serde_json::json!(["classifier"]));
    assert_eq!(config(&out)["task_type"], "SEQ_CLS");
    let tensor = |folder: &Path| {
        let bytes = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        file.tensor("base_model.model.classifier.weight").unwrap().data().to_vec()
    };
    assert_eq!(tensor(&out), tensor(&fixture("second")));
    let error = run(&of_peft(), Method::Linear, &out, Some(Path::new("elsewhere"))).unwrap_err();
    assert!(error.contains("`elsewhere`") && error.contains("none of the adapters"), "{error}");
}

/// An adapter of this program, everything in it a little away from its start.
fn own(root: &Path, model: &str, preset: &str, targets: &[&str], rank: usize) -> PathBuf {
    let variant = (preset::find(preset).unwrap().spec)(rank);
    let plan = Recipe {
        suite: "glue_mini".to_owned(),
        data: None,
        task: "sst2".to_owned(),
        train: Hyper::default(),
        ..support::plan(model, targets, preset, variant, false)
    };
    let folder = root.join(format!("{}-{preset}-r{rank}", Path::new(model).file_name().unwrap().to_string_lossy()));
    support::saved(&folder, preset, &plan, &cache(), |named, old| {
        noisy(&old, 1, &format!("{preset}.{}", named.name), 0.1)
    });
    folder
}

/// LoRA, DoRA, VeRA and full fine-tuning of one base: the dense updates are added, whatever they are made of.
#[test]
fn runs_of_any_method_are_added_as_what_they_do_to_the_weights() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let of = |preset, rank| own(root.path(), "mini_roberta", preset, &["query", "value"], rank);
    let all = [(of("lora", 4), 1.0), (of("dora", 2), 0.5), (of("vera", 8), -1.0), (of("rslora", 3), 2.0)];
    let summed = |all: &[(PathBuf, f64)]| {
        let mut sum: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (path, weight) in all {
            for (map, (_, delta)) in deltas(path) {
                let entry = sum.entry(map).or_insert_with(|| vec![0.0; delta.len()]);
                entry.iter_mut().zip(delta).for_each(|(sum, value)| *sum += weight * value);
            }
        }
        sum
    };
    run(&inputs(&all), Method::Linear, &out, Some(&all[0].0)).unwrap();
    let found = deltas(&out);
    assert_eq!(found.len(), 8);
    for (map, wanted) in summed(&all) {
        close(&found[&map].1, &wanted, 1e-6, &map);
    }
    // DoRA's update has no factors to put beside others.
    let error = run(&inputs(&all), Method::Cat, &out, None).unwrap_err();
    assert!(error.contains("without factors"), "{error}");
    run(&inputs(&[all[0].clone(), all[2].clone()]), Method::Cat, &out, None).unwrap();
    assert!(peft::is_folder(&out));

    // All maps, norms, biases and tables of full fine-tuning: the maps are combined, the rest is named.
    let full = [(of("full", 0), 1.0), (all[0].0.clone(), 1.0)];
    let report = run(&inputs(&full), Method::Svd { rank: 8 }, &out, None).unwrap();
    assert!(
        report.notes.iter().any(|note| note.contains("no place for them") && note.contains("LayerNorm")),
        "{:?}",
        report.notes
    );
    assert!(report.notes.iter().any(|note| note.contains("counts as zero on")));
    let (norm, lost) = report.total();
    let wanted = summed(&full);
    let found = deltas(&out);
    let residual: f64 =
        wanted.iter().flat_map(|(map, delta)| delta.iter().zip(&found[map].1)).map(|(a, b)| (a - b).powi(2)).sum();
    assert!((residual.sqrt() - lost).abs() < 1e-5 * norm && lost < norm, "{lost} {norm}");
}

/// Query and value apart become columns of the fused map, which PEFT knows.
#[test]
fn parts_of_a_fused_map_go_to_their_columns() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let model = checkpoint(root.path(), "gpt2");
    let apart = own(root.path(), &model, "lora", &["c_attn.q", "c_attn.v"], 2);
    run(&inputs(&[(apart.clone(), 0.5)]), Method::Linear, &out, None).unwrap();
    let (found, parts) = (deltas(&out), deltas(&apart));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["h.0.attn.c_attn", "h.1.attn.c_attn"]);
    for (map, (width, delta)) in found {
        assert_eq!(width, 72);
        let wanted: Vec<f64> = (0..24)
            .flat_map(|i| (0..72).map(move |o| (i, o)))
            .map(|(i, o)| match o / 24 {
                0 => 0.5 * parts[&format!("{map}.q")].1[i * 24 + o],
                1 => 0.0,
                _ => 0.5 * parts[&format!("{map}.v")].1[i * 24 + o - 48],
            })
            .collect();
        close(&delta, &wanted, 1e-6, &map);
    }
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&config["fan_in_fan_out"], &config["r"]), (&serde_json::json!(true), &serde_json::json!(4)));
    assert_eq!(config["target_modules"][0], "transformer.h.0.attn.c_attn");
}

/// The maps of the first layer are given the same in both runs, and so are merged to the mean; behind them each run has inputs of its own.
#[test]
fn a_regression_takes_the_inputs_of_every_run() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let of = |preset, rank| own(root.path(), "mini_roberta", preset, &["query", "value"], rank);
    let (lora, hira) = (of("lora", 4), of("hira", 2));
    let regression = |rank| Method::RegMean { rank, batches: 8, off_diagonal: 0.9 };
    run(&inputs(&[(lora.clone(), 1.0), (hira.clone(), 1.0)]), regression(128), &out, None).unwrap();
    let (found, a, b) = (deltas(&out), deltas(&lora), deltas(&hira));
    assert_eq!(found.len(), 8);
    let mut apart = 0;
    for (map, (_, found)) in &found {
        let mean: Vec<f64> = a[map].1.iter().zip(&b[map].1).map(|(a, b)| 0.5 * (a + b)).collect();
        let gap = found.iter().zip(&mean).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / support::largest(mean);
        if map.contains("layer.0.") {
            // The moments are sums of f32 that differ by nothing; the factors are written in f32.
            assert!(gap < 1e-5, "{map}: {gap:e}");
        } else {
            apart += usize::from(gap > 1e-2);
        }
    }
    assert_eq!(apart, 6, "of three layers, two maps each");
    // One run comes back, also from a fused map that it has in parts.
    let model = checkpoint(root.path(), "gpt2");
    let gpt2 = own(root.path(), &model, "lora", &["c_attn.q", "c_attn.v"], 2);
    run(&inputs(&[(gpt2.clone(), 1.0)]), Method::Linear, &out, None).unwrap();
    let wanted = deltas(&out);
    run(&inputs(&[(gpt2, 1.0)]), regression(24), &out, None).unwrap();
    for (map, (_, found)) in deltas(&out) {
        close(&found, &wanted[&map].1, 1e-3, &map);
    }

    let refused = |inputs: &[Input], method: Method, parts: &[&str]| {
        let error = run(inputs, method, &root.path().join("none"), None).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "`{error}` lacks `{part}`");
        }
        assert!(!root.path().join("none").exists());
    };
    refused(&of_peft()[..1], regression(2), &["first", "PEFT folder", "measures every adapter"]);
    let wrong = Method::RegMean { rank: 2, batches: 0, off_diagonal: 1.5 };
    refused(&inputs(&[(lora, -1.0)]), wrong, &["batches is `0`", "off_diagonal is `1.5`", "must be above 0"]);
}

/// A run by itself comes back, and two meet between each other at every entry, away from their plain mean.
#[test]
fn fisher_weighs_entries_by_their_squared_gradients() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let of = |preset, rank| own(root.path(), "mini_roberta", preset, &["query", "value"], rank);
    let (lora, hira) = (of("lora", 4), of("hira", 2));
    let fisher = |examples| Method::Fisher { rank: 128, examples };
    let (a, b) = (deltas(&lora), deltas(&hira));
    run(&inputs(&[(lora.clone(), 1.0)]), fisher(2), &out, None).unwrap();
    for (map, (_, found)) in deltas(&out) {
        close(&found, &a[&map].1, 1e-5, &map);
    }
    run(&inputs(&[(lora.clone(), 1.0), (hira, 1.0)]), fisher(3), &out, None).unwrap();
    // Between the two at every entry.
    let mut moved = 0;
    for (map, (_, found)) in deltas(&out) {
        let (a, b) = (&a[&map].1, &b[&map].1);
        let scale = support::largest(a.iter().chain(b).map(|v| v.abs()));
        for (found, (a, b)) in found.iter().zip(a.iter().zip(b)) {
            assert!(a.min(*b) - 1e-5 * scale <= *found && *found <= a.max(*b) + 1e-5 * scale, "{map}");
            moved += usize::from((found - 0.5 * (a + b)).abs() > 1e-3 * scale);
        }
    }
    assert!(moved > 1000, "it is not the plain mean: {moved}");
    let error = run(&inputs(&[(lora, 1.0)]), fisher(0), &root.path().join("none"), None).unwrap_err();
    assert!(error.contains("examples is `0`"), "{error}");
}

#[test]
fn what_does_not_fit_together_is_refused_and_nothing_is_written() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let lora = own(root.path(), "mini_roberta", "lora", &["query"], 2);
    let other = own(root.path(), "mini_roberta_random", "lora", &["query"], 2);
    let refused = |weighted: &[(PathBuf, f64)], method: Method, parts: &[&str]| {
        let error = run(&inputs(weighted), method, &out, None).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "`{error}` lacks `{part}`");
        }
        assert!(!out.exists());
    };
    refused(&[(lora.clone(), 1.0), (other, 1.0)], Method::Linear, &["base with hash", "cannot be added"]);
    refused(
        &[(lora.clone(), 1.0), (fixture("first"), 1.0)],
        Method::Linear,
        &["attention.self.query`", "different models"],
    );
    let gpt2 = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft/gpt2_lora");
    refused(&[(lora.clone(), 1.0), (gpt2, 1.0)], Method::Linear, &["h.0.attn.c_attn`", "does not have"]);
    refused(&[(fixture("first"), 3e38)], Method::Cat, &["beyond f32", "smaller weights"]);
    refused(&[(fixture("first"), 1e300)], Method::Cat, &["weight of", "`1e300`", "range of single precision"]);
    refused(&[(lora.clone(), f64::NAN)], Method::Svd { rank: 0 }, &["`NaN`", "rank is `0`"]);
    let ties = Method::Ties { rank: 2, density: 1.5, election: SignElection::Total };
    refused(&[(lora.clone(), 1.0)], ties, &["density is `1.5`", "at most 1"]);
    refused(&[(lora, 1.0), (root.path().join("nowhere"), 1.0)], Method::Linear, &["nowhere", "no adapter here"]);
    let bitfit = own(root.path(), "mini_roberta", "bitfit", &[], 0);
    refused(&[(bitfit, 1.0)], Method::Linear, &["changes no linear map"]);
    refused(&[], Method::Linear, &["no adapter is given"]);
}

#[test]
fn an_update_of_which_nothing_is_left_is_said() {
    let root = tempfile::tempdir().unwrap();
    let inputs = inputs(&[(fixture("first"), 1.0)]);
    let of = |density: f64, name: &str| {
        run(&inputs, Method::MagnitudePrune { rank: 2, density }, &root.path().join(name), None).unwrap().notes
    };
    let said = |notes: &[String]| notes.iter().any(|note| note.starts_with("nothing is left"));
    assert!(said(&of(1e-30, "none")) && !said(&of(0.5, "half")));
}

/// A search over two runs for a third one's task: weights as said give the update as written; never worse than the base; the head is the
/// target's.
#[test]
fn lorahub_searches_weights_for_another_task() {
    let root = tempfile::tempdir().unwrap();
    let cache = cache();
    let of = |name: &str, task: &str, rank: usize, seed: u64| {
        let spec = (preset::find("lora").unwrap().spec)(rank);
        let plan = Recipe {
            suite: "glue_mini".to_owned(),
            data: None,
            task: task.to_owned(),
            ..support::plan("mini_roberta", &["query"], name, spec, false)
        };
        support::saved(&root.path().join(name), name, &plan, &cache, |named, values| {
            noisy(&values, seed, &named.name, 0.1)
        })
        .0
    };
    let (one, two) = (of("one", "rte", 2, 1), of("two", "sst2", 2, 2));
    let (wide, target) = (of("wide", "rte", 3, 3), of("target", "rte", 2, 4));
    let search = |weighted: &[(PathBuf, f64)], method: Method, target: Option<&Path>, out: &Path| {
        let inputs = inputs(weighted);
        let command = model_merging::COMMAND;
        combine(&CombineRequest { inputs: &inputs, method, head: None, target, out, force: false, command }, &cache)
            .map_err(|error| error.to_string())
    };
    let of_method = |mix, evaluations| Method::LoraHub { mix, examples: 24, evaluations, seed: 1 };
    let both = [(one.clone(), 1.0), (two.clone(), 1.0)];
    let out = root.path().join("out");
    for mix in [Mix::Factors, Mix::Deltas] {
        let report = search(&both, of_method(mix, 30), Some(&target), &out).unwrap();
        let numbers =
            |note: &str| -> Vec<f64> { note.split([' ', ',']).filter_map(|word| word.parse().ok()).collect() };
        let note = |start: &str| report.notes.iter().find(|note| note.starts_with(start)).unwrap().clone();
        let [w1, w2] = numbers(&note("weights: "))[..] else { panic!("{:?}", report.notes) };
        let [examples, before, after, evaluations] = numbers(&note("loss on "))[..] else {
            panic!("{:?}", report.notes)
        };
        assert_eq!((examples, evaluations), (24.0, 30.0));
        assert!(after <= before && w1.abs() <= 1.5 && w2.abs() <= 1.5, "{:?}", report.notes);
        assert!(
            w1 != 0.0 && w2 != 0.0,
            "noise is no good adapter, but another sign or size of it is: {:?}",
            report.notes
        );
        let (found, [one, two]) = (deltas(&out), [&one, &two].map(|path| update::read(path, &cache).unwrap().maps));
        assert_eq!(report.maps.iter().map(|map| map.rank).max(), Some(if mix == Mix::Factors { 2 } else { 4 }));
        for (map, (_, found)) in found {
            let wanted = match (&one[&map].update, &two[&map].update) {
                (lowrank::Update::LowRank(a), lowrank::Update::LowRank(b)) if mix == Mix::Factors => {
                    (a.down() * w1 + b.down() * w2) * (a.up() * w1 + b.up() * w2)
                }
                (a, b) => a.dense() * w1 + b.dense() * w2,
            };
            // Weights are said to six digits, and factors are written in f32.
            close(&found, wanted.transpose().as_slice(), 1e-4, &map);
        }
        let (_, mut network) = trainer::adapter::load(&target, &cache).unwrap();
        let written = support::numbers(&out.join("adapter_model.safetensors"));
        for wanted in interop::head::tensors(&mut network) {
            let found = written.iter().find(|(name, _)| name.ends_with(&wanted.name)).unwrap();
            close(&found.1.1, &wanted.values, 1e-6, &wanted.name);
        }
        assert_eq!(search(&both, of_method(mix, 30), Some(&target), &out).unwrap().notes, report.notes, "it is seeded");
    }
    let base = search(&both, of_method(Mix::Factors, 1), Some(&target), &out).unwrap();
    assert!(base.maps.iter().all(|map| map.norm == 0.0), "one evaluation is that of the base");

    let refused = |weighted: &[(PathBuf, f64)], method, target: Option<&Path>, part: &str| {
        let error = search(weighted, method, target, &root.path().join("none")).unwrap_err();
        assert!(error.contains(part), "`{error}` lacks `{part}`");
    };
    let method = of_method(Mix::Factors, 4);
    refused(&both, method, None, "no target is given");
    refused(&[(one.clone(), 0.5)], method, Some(&target), "weights are what is searched");
    refused(&both, of_method(Mix::Factors, 0), Some(&target), "evaluations is `0`");
    refused(&[(one, 1.0), (wide.clone(), 1.0)], method, Some(&target), "use `--mix deltas`");
    refused(&[(wide, 1.0)], method, Some(&fixture("first")), "is a PEFT folder");
}
