//! `export --svd` of every preset: the best approximation of its update at a rank, or a refusal that says why.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/adapters.rs"]
mod support;

use std::path::Path;

use interop::{
    export::{CutRequest, Reduction, at_rank},
    update,
};
use support::{cache, checkpoint, noisy, plan, saved};
use variants::{capability::Capability, delta::DeltaSpec, preset, spec::VariantSpec};

/// Both sides of the fixture's query.
const SHAPE: [usize; 2] = [24, 24];
/// Of the approximation.
const RANK: usize = 2;

/// The preset at a rank that fits the fixture's map.
fn fitting(preset: &preset::Preset) -> Option<VariantSpec> {
    let fits = |rank: &usize| {
        let spec = (preset.spec)(*rank);
        spec.delta.as_ref().is_some_and(|delta| delta.misfit(*rank, SHAPE).is_none()) && spec.check(None).is_ok()
    };
    [4, 3, 2, 8, 0].iter().find(|rank| fits(rank)).map(|rank| (preset.spec)(*rank))
}

#[test]
fn every_additive_update_is_cut_to_its_best_approximation() {
    let (root, cache) = (tempfile::tempdir().unwrap(), cache());
    let model = checkpoint(root.path(), "bert");
    let mut cut = 0;
    for preset in preset::all() {
        let Some(spec) = fitting(preset) else {
            assert!((preset.spec)(4).delta.is_none(), "`{}` fits at no rank", preset.name);
            continue;
        };
        let recipe = plan(&model, &["query"], preset.name, spec.clone(), false);
        let folder = root.path().join(preset.name);
        let (file, _) =
            saved(&folder, preset.name, &recipe, &cache, |named, values| noisy(&values, 1, &named.name, 0.1));
        let out = folder.join("out");
        let request = |rank, out: &Path| {
            at_rank(&CutRequest { adapter: &file, rank, reduction: Reduction::Svd, out, force: false }, &cache)
        };
        if spec.lacks(&[Capability::Additive]).is_some() {
            let error = request(RANK, &out).unwrap_err().to_string();
            assert!(error.contains("additive") && error.contains(preset.name), "{error}");
            continue;
        }
        if spec.unmergeable().is_some() {
            let error = request(RANK, &out).unwrap_err().to_string();
            assert!(error.contains("is not mergeable") && error.contains(preset.name), "{error}");
            continue;
        }
        request(RANK, &out).unwrap_or_else(|error| panic!("`{}`: {error}", preset.name));
        let (whole, less) = (update::read(&file, &cache).unwrap(), update::read(&out, &cache).unwrap());
        assert_eq!(less.metadata.as_ref().unwrap().plan.variant.delta.as_ref().map(DeltaSpec::kind), Some("low_rank"));
        for (map, own) in &whole.maps {
            let (dense, found) = (own.update.dense(), less.maps[map].update.dense());
            let singular = dense.clone().svd(false, false).singular_values;
            let tail = singular.iter().skip(RANK).map(|value| value * value).sum::<f64>().sqrt();
            let rest = (&dense - &found).norm();
            // Factors in f32.
            assert!(
                (rest - tail).abs() <= 1e-5 * dense.norm().max(1.0),
                "`{}`: {map}: {rest} is not {tail}",
                preset.name
            );
        }
        let error = request(25, &folder.join("wide")).unwrap_err().to_string();
        assert!(error.contains("rank is `25`"), "{error}");
        cut += 1;
    }
    assert!(cut >= 30, "{cut} presets are additive");
}
