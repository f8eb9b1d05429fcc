//! Names that records and users have of a composition: records keep the words they were written with, users may write the clearer ones.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use variants::{delta::DeltaSpec, preset};

/// The JSON that a record has of a delta, and YAML that means the same.
const NAMES: &[(&str, &[&str])] = &[
    (
        r#"{"kind":"anchored","start":"triangular","weight_decay_toward":"start"}"#,
        &[
            "{kind: anchored, start: triangular}",
            "{kind: residual_init, start: qr}",
            "{kind: residual_init, start: triangular}",
        ],
    ),
    (
        r#"{"kind":"anchored","start":"principal","weight_decay_toward":"start"}"#,
        &["{kind: anchored, start: principal}", "{kind: residual_init, start: principal}"],
    ),
    (
        r#"{"kind":"anchored","start":"minor","weight_decay_toward":"start"}"#,
        &["{kind: anchored, start: minor}", "{kind: residual_init, start: minor}"],
    ),
    (
        r#"{"kind":"shared_random","projection_seed":0,"d_initial":0.1,"pair":"kept","weight_decay_toward":"zero"}"#,
        &["{kind: shared_random, pair: kept}", "{kind: shared_random, pair: saved}"],
    ),
];

#[test]
fn records_keep_the_bytes_of_old_names_and_yaml_takes_both() {
    for (json, written) in NAMES {
        for yaml in *written {
            let spec: DeltaSpec = serde_yaml::from_str(yaml).unwrap();
            assert_eq!(serde_json::to_string(&spec).unwrap(), *json, "{yaml}");
        }
        let read: DeltaSpec = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), *json);
    }
}

#[test]
fn presets_keep_the_old_words_in_records_and_say_where_decay_pulls() {
    for (name, start) in [("pissa", "principal"), ("milora", "minor"), ("olora", "triangular")] {
        let spec = (preset::find(name).unwrap().spec)(4);
        let wanted = format!(r#"{{"kind":"anchored","start":"{start}","weight_decay_toward":"start"}}"#);
        assert_eq!(serde_json::to_string(&spec.delta).unwrap(), wanted, "{name}");
        // A record from before decay had a direction opens; what it trained with, decay toward 0, is in no field, and nothing trains by it.
        let old = format!(r#"{{"kind":"anchored","start":"{start}"}}"#);
        assert_eq!(serde_json::from_str::<DeltaSpec>(&old).map(Some).unwrap(), spec.delta, "{name}");
    }
}
