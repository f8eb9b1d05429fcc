//! Every example is run, and a number of each is checked.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(dead_code, reason = "the examples' own `main` is run by whoever reads them")]

#[path = "../add_a_variant.rs"]
mod add_a_variant;
#[path = "../analyse_two_adapters.rs"]
mod analyse_two_adapters;
#[path = "../train_a_variant.rs"]
mod train_a_variant;

use analyse_two_adapters::{adapters, compare};

#[test]
fn a_grid_is_trained_once() {
    let results = tempfile::tempdir().unwrap();
    let summary = train_a_variant::scores(results.path()).unwrap();
    let rows: Vec<(&str, usize, usize)> =
        summary.rows.iter().map(|row| (row.variant.as_str(), row.rank, row.summary.n)).collect();
    assert_eq!(rows, [("dylora", 1, 2), ("dylora", 2, 2), ("lora", 2, 2)]);
    // Two classes of equal size: a run that learnt nothing has 0.5.
    assert!(summary.rows.iter().all(|row| row.summary.mean > 0.6), "{:?}", summary.rows);

    let store = examples::store(results.path()).unwrap();
    let records = store.all().unwrap();
    assert_eq!(train_a_variant::scores(results.path()).unwrap(), summary);
    assert_eq!(store.all().unwrap(), records, "a second call trains nothing");
}

#[test]
fn a_method_from_outside_is_linear_and_trains() {
    // f64, sums of a few dozen products.
    let one = add_a_variant::one_map([7, 6], 3).unwrap();
    assert!(one.departure < 1e-12, "{}", one.departure);
    assert!(one.losses[1] < one.losses[0], "{:?}", one.losses);

    let results = tempfile::tempdir().unwrap();
    let records = add_a_variant::beside_lora(results.path()).unwrap();
    let trained = |variant: &str| {
        let own = records.iter().filter(|record| record.cell.variant == variant);
        own.map(|record| record.measured.trainable_params).collect::<Vec<_>>()
    };
    // Four layers of two [128, 128] maps at rank 4; the method trains B alone.
    assert_eq!(trained("lora"), [4 * 2 * 4 * (128 + 128); 2]);
    assert_eq!(trained("frame_lora"), [4 * 2 * 4 * 128; 2]);
    assert!(records.iter().all(|record| record.unmoved.is_empty()), "every map that trains has moved");
}

#[test]
fn two_adapters_are_measured_on_every_map() {
    let results = tempfile::tempdir().unwrap();
    let both = adapters(results.path()).unwrap();
    let rows = compare(&both).unwrap();
    assert_eq!(rows.len(), 4 * 2, "query and value of four layers");
    for row in &rows {
        assert!(row.phi.iter().all(|phi| (0.0..=1.0).contains(phi)) && row.random == 4.0 / 128.0, "{row:?}");
        assert!(row.amplification.iter().all(|factor| factor.is_finite() && *factor > 0.0), "{row:?}");
    }
    // What the example's documentation says: the outputs share what was learnt.
    let mean = |side: usize| rows.iter().map(|row| row.phi[side]).sum::<f64>() / rows.len() as f64;
    assert!(mean(1) > 2.0 * mean(0), "{rows:?}");
    // An adapter beside itself: 1 to rounding.
    let [first, _] = both;
    let same = compare(&[first.clone(), first]).unwrap();
    assert!(same.iter().flat_map(|row| row.phi).all(|phi| (phi - 1.0).abs() < 1e-12), "{same:?}");
}
