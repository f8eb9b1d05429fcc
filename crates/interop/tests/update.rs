//! What an adapter does to every map, read from its file, against the network that holds it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/adapters.rs"]
mod support;

use interop::update;
use record::Store;
use trainer::adapter;
use variants::{host::values, pass::Active};

#[test]
fn an_adapters_update_is_the_change_of_its_maps() {
    let variants = "[{preset: lora, ranks: [3]}, {preset: dora, ranks: [3]}, full, head_only]";
    let yaml = format!(
        "suite: glue_mini\nmodel: mini_roberta\ntasks: [rte]\nseeds: [0]\ntargets: [query, value]\n\
         train: {{steps: 8, batch: 8, max_length: 64, checkpoint_every: 3, learning_rate: 1e-3, snapshot_every: 4}}\n\
         variants: {variants}\n"
    );
    let experiment = experiment::read(&yaml, "test.yaml", "test", &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), "test").unwrap();
    let cache = support::cache();
    support::run_study(experiment.cells(), root.path(), "test", &cache, 1);
    for cell in experiment.cells() {
        let folder = store.run_dir(&cell.id);
        let updates = update::read(&folder, &cache).unwrap();
        let (_, network) = adapter::load(&folder.join("adapter.safetensors"), &cache).unwrap();
        let mut changed = 0;
        for map in network.backbone.linears() {
            let (before, after) = (values(&map.base().0), values(&map.weight(0, &Active::All)));
            let Some(update) = updates.maps.get(map.name()) else {
                assert_eq!(before, after, "{}: {}", cell.id, map.name());
                continue;
            };
            changed += 1;
            let [d_in, d_out] = map.shape();
            assert_eq!(**update.base.as_ref().unwrap(), update::matrix(d_in, d_out, &before));
            let change = update.update.dense();
            for at in [(0, 0), (1, 5), (d_in - 1, d_out - 1)] {
                let flat = at.0 * d_out + at.1;
                let told = before[flat] + change[at];
                // One rounding of a product and a sum in f32.
                assert!((told - after[flat]).abs() < 1e-6, "{}: {} {at:?}", cell.id, map.name());
            }
        }
        let expected = match cell.id.variant.as_str() {
            "head_only" => 0,
            "full" => network.backbone.linears().len(),
            _ => 8,
        };
        assert_eq!(changed, expected, "{}", cell.id);
        let snapshots: Vec<_> =
            std::fs::read_dir(folder.join("snapshots")).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(snapshots.len(), 2, "{}", cell.id);
        // The last snapshot is the adapter itself, and says its step.
        let tensors = |path: &std::path::Path| {
            let (all, text) = assets::tensor_file::read(path, "adapter").unwrap();
            let step = serde_json::from_str::<serde_json::Value>(&text).unwrap()["step"].as_u64();
            (step, all.into_iter().map(|one| (one.name, one.shape, one.data)).collect::<Vec<_>>())
        };
        let (last, whole) = (tensors(snapshots.iter().max().unwrap()), tensors(&folder.join("adapter.safetensors")));
        assert_eq!((last.1, whole.0), (whole.1, None));
        assert!(last.0.is_some_and(|step| step > 0));
    }
    let message = update::read(root.path(), &cache).unwrap_err().to_string();
    assert!(message.contains("no adapter here") && message.contains("adapter_config.json"), "{message}");
}
