//! The event files of committed records hold the records' numbers at their steps.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{collections::BTreeMap, path::Path};

use prost::Message;
use record::RunRecord;
use tensorboard::{
    event::{Event, Value},
    file::decode,
    hparams::{Data, Kind, PluginData},
    study::{EventFile, Study, files, is_own},
};

fn record(study: &str, run: &str) -> RunRecord {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results").join(study).join("runs").join(run);
    RunRecord::from_json(&std::fs::read(path.join("record.json")).unwrap()).unwrap()
}

const YAML: &str = "suite: glue_mini\n# `fences` ``` and all\nseeds: [0, 1]\n";

fn made(records: &[RunRecord]) -> Vec<EventFile> {
    files(&Study { name: "dylora_glue", title: "One run", yaml: YAML }, records)
}

/// Steps, wall times and numbers by tag.
fn scalars(events: &[Event]) -> BTreeMap<String, Vec<(i64, f64, f32)>> {
    let mut found: BTreeMap<String, Vec<(i64, f64, f32)>> = BTreeMap::new();
    for event in events {
        for Value { tag, simple_value, .. } in event.summary.iter().flat_map(|summary| &summary.value) {
            if let Some(value) = simple_value {
                found.entry(tag.clone()).or_default().push((event.step, event.wall_time, *value));
            }
        }
    }
    found
}

fn messages(events: &[Event]) -> Vec<Data> {
    let values = events.iter().flat_map(|event| &event.summary).flat_map(|summary| &summary.value);
    let plugin = |value: &Value| {
        let data = value.metadata.as_ref()?.plugin_data.as_ref()?;
        (data.plugin_name == "hparams").then(|| PluginData::decode(data.content.as_slice()).unwrap().data.unwrap())
    };
    values.filter_map(plugin).collect()
}

#[test]
fn every_number_of_a_record_is_at_its_step() {
    let record = record("dylora_glue", "cola-dylora-r8-s0");
    let all = made(std::slice::from_ref(&record));
    assert_eq!(all.iter().map(|file| file.folder.as_str()).collect::<Vec<_>>(), ["", "cola-dylora-r8-s0"]);
    assert!(all.iter().all(|file| is_own(&file.name) && file.name.contains(&record.started.to_string())));
    let events = decode(&all[1].bytes).unwrap();
    let found = scalars(&events);
    let losses = &found["train/loss"];
    assert_eq!(losses.iter().map(|(step, ..)| *step as u64).collect::<Vec<_>>(), record.steps.step());
    assert!(losses.iter().zip(record.steps.task_loss()).all(|((.., one), other)| *one == *other as f32));
    // Between beginning and end, never backwards.
    let [start, end] = [record.started, record.finished].map(|at| at as f64);
    assert!(
        losses.iter().all(|(_, at, _)| (start..=end).contains(at)) && losses.is_sorted_by(|one, next| one.1 <= next.1)
    );
    assert!(losses.last().is_some_and(|(_, at, _)| (end - at).abs() < 1e-3));
    assert!(!found.contains_key("train/penalty"));
    // Eight readouts, of which the one at the run's own rank has the plain name.
    assert_eq!(found.keys().filter(|tag| tag.starts_with("dev/matthews")).count(), 8);
    for evaluation in &record.evaluations {
        let readout = &evaluation.readout;
        let tag = if readout.rank == 8 {
            "dev/matthews".to_owned()
        } else {
            format!("dev/matthews/dylora-r{}", readout.rank)
        };
        assert_eq!(found[&tag][0].2, evaluation.metrics["matthews"] as f32, "{tag}");
    }
    assert_eq!(found["reported/dev/matthews"].len(), 1);
    assert_eq!(found["reported/dev/matthews"][0].2, found["dev/matthews"][0].2);
}

#[test]
fn settings_are_flat_and_seeds_are_one_group() {
    let records = [0, 1].map(|seed| record("dylora_glue", &format!("cola-dylora-r8-s{seed}")));
    let all = made(&records);
    let starts: Vec<_> = all[1..]
        .iter()
        .map(|file| match messages(&decode(&file.bytes).unwrap()).swap_remove(0) {
            Data::Start(start) => start,
            other => unreachable!("{other:?}"),
        })
        .collect();
    assert_eq!((starts[0].group.as_str(), &starts[0].hparams), ("cola-dylora-r8", &starts[1].hparams));
    let setting = |name: &str| starts[0].hparams[name].kind.clone().unwrap();
    assert_eq!(setting("train.learning_rate"), Kind::Number(0.001));
    assert_eq!(setting("variant.rank_policy.kind"), Kind::Text("nested_sampling".to_owned()));
    assert_eq!(setting("targets"), Kind::Text("query, value".to_owned()));
    assert!(starts[0].hparams.keys().all(|name| !name.starts_with("seed")));
    let ends = messages(&decode(&all[1].bytes).unwrap());
    assert!(
        matches!(&ends[..], [Data::Start(_), Data::End(end)] if end.status == 1 && end.ended == records[0].finished as f64)
    );
    // The experiment lists what the sessions have.
    let top = decode(&all[0].bytes).unwrap();
    let Data::Experiment(experiment) = messages(&top).swap_remove(0) else {
        unreachable!("the experiment comes first")
    };
    let listed: Vec<&String> = experiment.hparams.iter().map(|own| &own.name).collect();
    assert_eq!(listed, starts[0].hparams.keys().collect::<Vec<_>>());
    let tags: Vec<String> = experiment.metrics.iter().map(|metric| metric.name.clone().unwrap().tag).collect();
    assert_eq!(tags, ["reported/dev/matthews"]);
    let text =
        top[1].summary.iter().flat_map(|summary| &summary.value).find(|value| value.tag == "experiment").unwrap();
    let said = String::from_utf8(text.tensor.as_ref().unwrap().strings[0].clone()).unwrap();
    assert_eq!(said, "    suite: glue_mini\n    # `fences` ``` and all\n    seeds: [0, 1]\n");
}

#[test]
fn the_same_records_are_the_same_bytes() {
    let records = [record("dylora_glue", "cola-dylora-r8-s0")];
    assert_eq!(made(&records), made(&records));
}
