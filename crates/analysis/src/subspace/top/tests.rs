//! The iteration against planted spectra, and its arithmetic by hand.

use lowrank::linalg::product_transposed;

use super::*;

/// A map with these singular values and random directions.
fn planted(seed: u64, (rows, cols): (usize, usize), values: &[f64]) -> DMatrix<f64> {
    let mut gaussian = Gaussian::new(seed);
    let (u, v) = (gaussian.basis(rows, values.len()).unwrap(), gaussian.basis(cols, values.len()).unwrap());
    let scaled = DMatrix::from_fn(rows, values.len(), |row, col| u.directions()[(row, col)] * values[col]);
    product_transposed(&scaled, v.directions())
}

fn is_krylov(found: &Top) -> bool {
    matches!(found.method, Method::Krylov { .. })
}

#[test]
fn the_next_check_is_where_the_line_through_the_last_two_meets_the_target() {
    // From dimension 50 to 100 the residual fell by 10², so 17.5 dimensions more divide it by 5; a fifth of 100 is 20.
    assert_eq!(predict(Some((50, 1e-2)), (100, 1e-4), 2e-5), 17);
    assert_eq!(predict(Some((50, 1e-2)), (100, 1e-4), 1e-5), 20);
    assert_eq!(predict(Some((50, 1e-2)), (100, 1e-4), 0.99e-4), 1);
    // Without a line, or with one that does not fall, it is a fifth, but for one at least.
    for before in [None, Some((50, 1e-5)), Some((50, 1e-4))] {
        assert_eq!(predict(before, (100, 1e-4), 1e-5), 20, "{before:?}");
        assert_eq!(predict(before.map(|(_, residual)| (2, residual)), (4, 1e-4), 1e-5), 1, "{before:?}");
    }
}

#[test]
fn a_power_of_two_scales_the_values_and_nothing_else() {
    let values: Vec<f64> = (1..=90).map(|i| f64::from(i).powi(-2)).collect();
    let w = planted(1, (100, 90), &values);
    let found = top(&w, 3, TopOptions::default()).unwrap();
    assert!(is_krylov(&found) && found.residual < 1e-10);
    for power in [-30, 30] {
        // Every product, sum and quotient rounds as before.
        let by = 2_f64.powi(power);
        let scaled = top(&(&w * by), 3, TopOptions::default()).unwrap();
        assert_eq!((scaled.method, scaled.residual), (found.method, found.residual));
        assert_eq!(scaled.svd.values(), found.svd.values().iter().map(|value| value * by).collect::<Vec<_>>());
        assert_eq!(scaled.svd.basis(Side::Input).directions(), found.svd.basis(Side::Input).directions());
    }
}

#[test]
fn more_copies_than_a_block_has_columns_are_all_found() {
    // A Krylov space holds no more than 8 copies of the largest value. The ninth of its triplets is another one, which the gap behind it
    // makes converge before rounding errors bring in a copy.
    let tail = (0..140).map(|i| if i < 2 { 0.5_f64.powi(i) } else { 0.05 * 0.99_f64.powi(i) });
    let values: Vec<f64> = std::iter::repeat_n(5.0, 12).chain(tail).collect();
    for scale in [1.0, 1e-6, 1e6] {
        let w = planted(2, (160, 170), &values) * scale;
        let found = top(&w, 9, TopOptions { tolerance: 1e-4, seed: 0 }).unwrap();
        assert_eq!(found.method, Method::Full);
        for value in found.svd.values() {
            assert!((value / scale - 5.0).abs() < 1e-12, "{value}");
        }
    }
}

#[test]
fn what_is_not_larger_has_not_been_missed() {
    let equal = vec![1.0; 150];
    // One direction far above the others, which would come back from the rounding errors of its removal.
    let mut dominated: Vec<f64> = (0..150).map(|i| 1e-5 * 0.9_f64.powi(i)).collect();
    dominated[0] = 1.0;
    // Values so close that a loose tolerance leaves the smallest one found below the first one that was not.
    let close: Vec<f64> = (0..150).map(|i| if i < 40 { 1.0 - 1e-4 * f64::from(i) } else { 0.1 }).collect();
    for (name, values, count, tolerance) in [
        ("equal", &equal, 4, 1e-10),
        ("equal to rounding", &equal, 4, SMALLEST_TOLERANCE),
        ("dominated", &dominated, 1, 1e-10),
        ("close", &close, 3, 1e-2),
    ] {
        let found = top(&planted(3, (160, 170), values), count, TopOptions { tolerance, seed: 0 }).unwrap();
        assert!(is_krylov(&found), "{name}");
    }
}

#[test]
fn small_maps_and_slow_spectra_take_the_full_decomposition() {
    // One triplet and the one after it, a second look of 4 blocks and the block to come are 2 + 32 + 8 = 42 directions.
    for (size, method) in
        [(41, Method::Full), (42, Method::Krylov { dimension: 16 }), (43, Method::Krylov { dimension: 16 })]
    {
        let values: Vec<f64> =
            (0..size as i32).map(|i| if i < 2 { 2.0_f64.powi(-i) } else { 1e-6 * 0.9_f64.powi(i) }).collect();
        let w = planted(4, (size, 50), &values);
        assert_eq!(top(&w, 1, TopOptions::default()).unwrap().method, method, "{size}");
    }
    // The iteration gives up at half of the directions.
    let slow = Gaussian::new(5).matrix(80, 70);
    assert_eq!(top(&slow, 3, TopOptions { tolerance: 1e-13, seed: 0 }).unwrap().method, Method::Full);
}

#[test]
fn values_alone_need_a_smaller_space() {
    let values: Vec<f64> = (1..=150).map(|i| f64::from(i).powi(-1)).collect();
    let w = planted(6, (160, 150), &values);
    let dimension = |options| match top(&w, 3, options).unwrap().method {
        Method::Krylov { dimension } => dimension,
        Method::Full => panic!("the full decomposition was taken"),
    };
    assert!(dimension(TopOptions::values()) < dimension(TopOptions::default()));
}
