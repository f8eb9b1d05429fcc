//! Eckart and Young against nalgebra's decomposition of the dense matrix.

use super::*;

const SHAPE: (usize, usize) = (9, 7);
/// f64, a few hundred sums and one decomposition: far above their rounding, far below any mistake.
const TOLERANCE: f64 = 1e-12;

/// Numbers without a pattern: a sine of a square has no addition theorem that would leave a matrix of low rank.
fn matrix(seed: usize, rows: usize, cols: usize) -> DMatrix<f64> {
    DMatrix::from_fn(rows, cols, |row, col| ((seed * 97 + row * 31 + col * 17) as f64).powi(2).sin())
}

fn low_rank(seed: usize, width: usize) -> LowRank {
    LowRank::new(matrix(seed, SHAPE.0, width), matrix(seed + 1, width, SHAPE.1)).unwrap()
}

#[track_caller]
fn close(found: &DMatrix<f64>, wanted: &DMatrix<f64>) {
    let gap = (found - wanted).amax();
    assert!(gap <= TOLERANCE * wanted.norm().max(1.0), "{gap:e}");
}

/// The error that is told is the one there is, and the least possible: that of the first terms of an independent decomposition.
#[test]
fn a_smaller_rank_is_the_best_one_and_says_what_it_costs() {
    let sum = LowRank::weighted_sum(&[(1.0, &low_rank(1, 3)), (-0.5, &low_rank(5, 3))]);
    let whole = sum.dense();
    let oracle = whole.clone().svd(true, true);
    let (u, sigma, v_t) = (oracle.u.unwrap(), oracle.singular_values, oracle.v_t.unwrap());
    for rank in 1..=5 {
        let best = u.columns(0, rank) * DMatrix::from_diagonal(&sigma.rows(0, rank).into_owned()) * v_t.rows(0, rank);
        for update in [Update::LowRank(sum.clone()), Update::Dense(whole.clone())] {
            let found = update.truncated(Some(rank)).unwrap();
            assert_eq!(found.update.width(), rank);
            close(&found.update.dense(), &best);
            assert!((found.lost - (&whole - &best).norm()).abs() < TOLERANCE * whole.norm());
            assert!((found.norm - whole.norm()).abs() < TOLERANCE * whole.norm());
            let factors = update.decompose().unwrap().factors(rank);
            close(&factors.dense(), &best);
            close(&(factors.up() * factors.up().transpose()), &DMatrix::identity(rank, rank));
        }
    }
}

#[test]
fn the_own_rank_loses_nothing_and_directions_that_rounding_left_are_no_terms() {
    let one = low_rank(1, 2);
    for update in [Update::LowRank(one.clone()), Update::Dense(one.dense())] {
        let found = update.truncated(None).unwrap();
        assert_eq!(found.update.width(), 2);
        close(&found.update.dense(), &one.dense());
        assert!(found.lost <= TOLERANCE);
    }
    // Factors wider than the map.
    let wide = low_rank(3, 12);
    close(&Update::LowRank(wide.clone()).truncated(None).unwrap().update.dense(), &wide.dense());
    assert_eq!(wide.decompose().unwrap().factors(12).width(), 7);
    // One component stays of nothing.
    let zero = Update::Dense(DMatrix::zeros(3, 2)).truncated(Some(2)).unwrap();
    assert_eq!((zero.update.width(), zero.norm, zero.lost), (1, 0.0, 0.0));
    assert!(zero.update.down().iter().chain(zero.update.up()).all(|value| value.is_finite()));
    let none = LowRank::new(matrix(1, 9, 2), DMatrix::zeros(2, 7)).unwrap();
    let none = Update::LowRank(none).truncated(None).unwrap();
    assert_eq!((none.update.width(), none.update.dense().amax()), (1, 0.0));
}

#[test]
fn sums_have_no_cross_terms_and_differences_cancel() {
    let (one, two) = (low_rank(1, 2), low_rank(5, 3));
    let wanted = one.dense() * 0.7 + two.dense() * -2.0;
    let terms = [Update::LowRank(one.clone()), Update::LowRank(two.clone()), Update::Dense(two.dense())];
    close(&Update::weighted_sum(&[(0.7, &terms[0]), (-2.0, &terms[1])]).dense(), &wanted);
    let dense = Update::weighted_sum(&[(0.7, &terms[0]), (-2.0, &terms[2])]);
    assert!(matches!(dense, Update::Dense(_)));
    close(&dense.dense(), &wanted);
    close(&one.minus(&two).dense(), &(one.dense() - two.dense()));
    assert!(one.minus(&one).norm() < TOLERANCE);
    let distance = (one.dense() - two.dense()).norm();
    for other in &terms[1..] {
        assert!((terms[0].distance(other) - distance).abs() < TOLERANCE * distance);
    }
}

#[test]
fn what_is_no_update_is_refused() {
    let (a, b) = (matrix(1, 6, 2), matrix(2, 2, 5));
    let broken = |matrix: &DMatrix<f64>| {
        let mut changed = matrix.clone();
        changed[(1, 0)] = f64::NAN;
        changed
    };
    assert!(matches!(
        LowRank::new(broken(&a), b.clone()),
        Err(UpdateError::NotFinite { name: "a", row: 1, col: 0, .. })
    ));
    assert!(matches!(LowRank::new(a.clone(), broken(&b)), Err(UpdateError::NotFinite { name: "b", .. })));
    assert!(matches!(LowRank::new(a.clone(), matrix(1, 3, 5)), Err(UpdateError::Factors { a_cols: 2, b_rows: 3, .. })));
    assert!(matches!(LowRank::new(DMatrix::zeros(0, 2), b), Err(UpdateError::Empty { name: "a", .. })));
    assert!(matches!(Update::Dense(broken(&a)).truncated(None), Err(UpdateError::NotFinite { name: "ΔW", .. })));
}
