//! Adapters with what a measure needs to know of their runs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::path::{Path, PathBuf};

use interop::run_updates;
use trainer::model_cache::ModelCache;

/// A folder that PEFT wrote for an encoder of width 24.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/combine/first")
}

#[test]
fn a_foreign_adapter_has_its_name_and_no_base() {
    let run = run_updates::read(&folder(), None, &ModelCache::on_cpu()).unwrap();
    assert_eq!((run.cell.variant.as_str(), run.cell.rank, run.base_hash.as_str()), (run.name.as_str(), 0, ""));
    assert!(!run.frozen_inputs && !run.trains_base && run.snapshots.is_empty());
    assert!(run.maps.len() == 2 && run.maps.values().all(|map| map.base.is_none()));
}

#[test]
fn a_base_that_does_not_fit_is_refused_map_by_map() {
    let error = run_updates::read(&folder(), Some("mini_roberta"), &ModelCache::on_cpu()).unwrap_err().to_string();
    for part in ["`mini_roberta` is not its base", "self.query", "self.value", "[24, 24]", "[128, 128]"] {
        assert!(error.contains(part), "no `{part}` in {error}");
    }
}
