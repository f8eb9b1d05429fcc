//! The model card of an export, and the fields of its configuration.

use interop::peft::{card::Reported, export::export_with};

use super::*;

fn reported(metric: &str, is_primary: bool, seeds: &[u64]) -> Reported {
    let interval = (seeds.len() > 1).then_some([0.7812, 0.8388]);
    let (split, metric) = ("dev_matched".to_owned(), metric.to_owned());
    Reported { split, metric, is_primary, mean: 0.81, interval, seeds: seeds.to_vec(), own: Some(0.8125) }
}

/// `scripts/readers/read_back.py` reads the fixture and such cards with the hub's own library.
#[test]
fn an_export_has_a_card_with_the_results_of_its_group() {
    let root = tempfile::tempdir().unwrap();
    let (cache, model) = (cache(), checkpoint(root.path(), "bert"));
    let plan = plan(&model, &["query", "value"], "lora", spec("lora", 4), "bert");
    let (run, _) = saved(root.path(), "lora", &plan, &cache);
    let folder = root.path().join("out");
    let request =
        export::ExportRequest { adapter: &run, model: None, rank: None, residual: false, out: &folder, force: false };
    let card = |reported: &[Reported]| {
        export_with(&request, reported, &cache).unwrap();
        std::fs::read_to_string(folder.join("README.md")).unwrap()
    };
    let group = card(&[reported("accuracy", true, &[0, 1, 2]), reported("f1", false, &[0, 1, 2])]);
    says(
        &group,
        &[
            "---\nlibrary_name: peft\npipeline_tag: text-classification\ntags:\n- \"lora\"\n- \"lora-lab\"\nmetrics:\n- accuracy\n- f1\n",
            "- name: \"mnli-lora-r4-s0\"",
            "\"config\":\"mnli\"",
            "\"split\":\"validation_matched\"",
            "\"type\":\"nyu-mll/glue\"",
            "\"value\":0.81",
            "\"interval\":[0.7812,0.8388]",
            "\"n\":3",
            "| dev_matched | **accuracy** | 0.8100 | [0.7812, 0.8388] | 3 | 0.8125 |",
            "| dev_matched | f1 |",
            "num_labels=3",
            "The adapter in this folder is one of them.",
        ],
    );
    let results = std::fs::read_to_string(folder.join(".eval_results/glue-mnli.yaml")).unwrap();
    assert_eq!(results, std::fs::read_to_string(support::fixture("eval_results.yaml")).unwrap());
    // The same command replaces its own output, the folder of results included, and nothing that another put there.
    let single = card(&[reported("accuracy", true, &[0])]);
    says(&single, &["| – | 1 | 0.8125 |", "a single seed"]);
    let foreign = folder.join(".eval_results/other.yaml");
    std::fs::write(&foreign, "[]\n").unwrap();
    let error = export_with(&request, &[], &cache).unwrap_err().to_string();
    says(&error, &["`.eval_results/other.yaml`", "would delete"]);
    std::fs::remove_file(foreign).unwrap();
    let none = card(&[]);
    says(&none, &["No record of this run was beside it"]);
    assert!(!none.contains("model-index") && !folder.join(".eval_results").exists());
}

/// A field that a kind does not have is a warning of PEFT's.
#[test]
fn a_configuration_has_the_fields_of_its_kind_alone() {
    let releases: Value =
        serde_json::from_slice(&std::fs::read(support::fixture("peft_defaults.json")).unwrap()).unwrap();
    let root = tempfile::tempdir().unwrap();
    let (cache, model) = (cache(), checkpoint(root.path(), "bert"));
    for preset in ["lora", "dora", "rslora", "adalora", "vera", "pissa"] {
        let plan = plan(&model, &["query", "value"], preset, spec(preset, 4), "bert");
        let (run, _) = saved(root.path(), preset, &plan, &cache);
        let folder = root.path().join(preset);
        out(&run, false, &folder, &cache).unwrap();
        let config = said(&folder);
        let kind = config["peft_type"].as_str().unwrap();
        let known: BTreeSet<&String> = releases[kind]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|release| release["new"].as_object().unwrap().keys())
            .collect();
        let unknown: Vec<&String> = config
            .as_object()
            .unwrap()
            .keys()
            .filter(|field| *field != "peft_type" && !known.contains(field))
            .collect();
        assert!(unknown.is_empty(), "{preset}: PEFT's {kind} has no {unknown:?}");
    }
}
