//! Tables of single runs and of a study: spectra, intruders, the random column, seeds, files.

use super::*;
use crate::subspace::projection::random_projections;

/// A run of one map with the base `diag(8, .., 1)` and this for `W0 + ΔW`.
fn tuned(whole: DMatrix<f64>) -> AdapterSample {
    let base = DMatrix::from_diagonal(&nalgebra::DVector::from_fn(8, |at, _| 8.0 - at as f64));
    let mut sample = dense(0);
    let update = Update::Dense(whole - &base);
    sample.maps = BTreeMap::from([("map".to_owned(), Map { base: Some(Arc::new(base)), update })]);
    sample
}

/// Hadamard's matrix of order 8 over `√8`: orthonormal, and every cosine with an axis is `8^-½`, 0.35.
fn hadamard() -> DMatrix<f64> {
    DMatrix::from_fn(8, 8, |i, j| if (i & j).count_ones() % 2 == 0 { 1.0 } else { -1.0 } / 8.0_f64.sqrt())
}

#[test]
fn directions_far_from_those_of_the_base_intrude_unless_they_are_ambiguous() {
    let of = |values: [f64; 8]| DMatrix::from_diagonal(&values.to_vec().into());
    let distinct = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0];
    // Two equal values leave their directions open.
    let tied = [9.0, 7.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0];
    for (whole, want) in [
        (of(distinct) * hadamard(), 8),
        (of(tied) * hadamard(), 6),
        // The same axes in the same order.
        (of(distinct), 0),
    ] {
        let sample = tuned(whole);
        let rows = spectrum::rows(std::slice::from_ref(&sample)).unwrap();
        assert_eq!(rows[0].intruders, Some(want));
        // The squares of 1 to 8 sum to 204.
        let relative = sample.maps["map"].update.dense().norm() / 204.0_f64.sqrt();
        assert!((rows[0].relative_norm.unwrap() - relative).abs() < 1e-12, "{rows:?}");
    }
    let mut unknown = tuned(of(distinct) * hadamard());
    unknown.maps.values_mut().for_each(|map| map.base = None);
    let rows = spectrum::rows(&[unknown]).unwrap();
    assert_eq!((rows[0].intruders, rows[0].relative_norm), (None, None));
}

#[test]
fn directions_are_counted_from_one() {
    let rows = spectrum::directions(&[sample("lora", 3, 0)]).unwrap();
    assert_eq!(rows.iter().map(|row| row.k).collect::<Vec<_>>(), [1, 2, 3].repeat(MAPS.len()));
}

#[test]
fn the_random_column_has_the_standard_error_of_its_mean() {
    let base = sample("lora", 2, 0).maps[MAPS[0]].base.clone().unwrap();
    let rows = random_column::rows(&BTreeMap::from([("map".to_owned(), Arc::clone(&base))])).unwrap();
    // The draws of the table, by their key; their variance as the mean square less the square of the mean.
    let draws = random_projections(&base, 4, random_column::DRAWS, 0x0072_616e).unwrap();
    let n = draws.len() as f64;
    let mean = draws.iter().map(|norm| norm.powi(2)).sum::<f64>() / n;
    let variance = (draws.iter().map(|norm| norm.powi(4)).sum::<f64>() / n - mean.powi(2)) * n / (n - 1.0);
    let want = (variance / n).sqrt();
    assert!((rows[0].mean_square - mean).abs() < 1e-10 * mean, "{rows:?}");
    assert!((rows[0].standard_error - want).abs() < 1e-10 * want, "{rows:?} {want}");
}

#[test]
fn seeds_need_two_runs_and_kinds_are_not_taken_from_themselves() {
    let samples = [sample("lora", 2, 0), sample("lora", 2, 1), sample("dora", 2, 0)];
    let rows = seeds::rows(&samples).unwrap();
    assert!(rows.iter().all(|row| row.variant == "lora"), "one run of dora has no other seed");
    let of_cut: Vec<&str> =
        rows.iter().filter(|row| (row.side, row.k) == ("a", 1)).map(|row| row.kind.as_str()).collect();
    assert_eq!(of_cut, ["query", "value", "query", "value", "query minus value"]);
}

#[test]
fn a_study_of_one_run_has_no_table_of_pairs() {
    let measures = study::Measures::of([sample("lora", 2, 0)]).unwrap();
    let names: Vec<String> = measures.files("probe").unwrap().into_iter().map(|file| file.name).collect();
    let tables = ["random_column", "correlation", "across", "projection", "shape", "movement"];
    assert_eq!(names[3..], tables.map(|name| format!("{name}.csv")));
}

#[test]
fn runs_are_counted_by_task_variant_and_rank() {
    let measures = study::Measures::of([sample("lora", 2, 0), sample("lora", 2, 1), sample("lora", 4, 0)]).unwrap();
    let count = |rank: usize| measures.taken.count("sst2", "lora", rank);
    assert_eq!((count(2), count(4), count(8)), (2, 1, 0));
}
