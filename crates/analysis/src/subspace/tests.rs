//! What lies at the limits of the measures, by hand.

use lowrank::LowRank;
use lowrank::linalg::{product, transposed_product};
use nalgebra::DMatrix;

use super::basis::{Basis, CLUSTER, ORTHONORMAL};
use super::decomposition::pearson;
use super::factored::{SingularDirections as _, Svd};
use super::frame::Frame;
use super::grassmann::principal_angles;
use super::projection::table;
use super::random::Gaussian;
use super::{Side, SubspaceError};

/// A map whose directions are the first axes of `R^dimension`, on both sides.
fn on_axes(dimension: usize, values: &[f64]) -> Svd {
    let axes = DMatrix::identity(dimension, values.len());
    Svd::from_parts(axes.clone(), values.to_vec(), axes, 0.0)
}

#[test]
fn directions_are_orthonormal_up_to_the_limit_and_with_it() {
    // UᵀU has this cosine beside its diagonal, whose square is below the rounding error of 1.
    let pair = |cosine: f64| Basis::orthonormal(DMatrix::from_row_slice(2, 2, &[1.0, cosine, 0.0, 1.0]));
    assert!(pair(ORTHONORMAL).is_ok());
    let deviation = ORTHONORMAL * (1.0 + 1e-12);
    assert_eq!(pair(deviation), Err(SubspaceError::NotOrthonormal { deviation, limit: ORTHONORMAL }));
}

#[test]
fn a_cluster_is_closer_than_its_width_and_turns_with_its_directions() {
    let first = 1e6;
    let width = CLUSTER * first;
    assert_eq!(width, 1.0);
    for (gap, want) in [(width, false), (width * 0.75, true)] {
        let basis = on_axes(3, &[first, first - gap]).basis(Side::Input);
        let rotation = Gaussian::new(1).basis(3, 3).unwrap();
        let turned = basis.rotated(rotation.directions()).unwrap();
        for basis in [basis, turned] {
            assert_eq!([1, 2].map(|i| basis.is_ambiguous(i)), [want, false], "{gap}");
        }
    }
}

#[test]
fn two_points_that_differ_lie_on_a_line() {
    for (second, want) in [([3.0, 5.0], 1.0), ([5.0, 3.0], -1.0)] {
        let found = pearson(&[1.0, 2.0], &second).unwrap().unwrap();
        assert!((found - want).abs() < 1e-15, "{found}");
    }
    assert!(matches!(pearson(&[1.0], &[5.0]), Err(SubspaceError::TooFew { found: 1, needed: 2, .. })));
}

#[test]
fn the_rank_of_a_product_does_not_depend_on_which_factor_has_its_size() {
    let mut gaussian = Gaussian::new(2);
    let (a, b) = (gaussian.matrix(9, 3), gaussian.matrix(3, 7));
    for (down, up) in [(1.0, 1.0), (1e-20, 1.0), (1.0, 1e-20), (1e-12, 1e12)] {
        let low = LowRank::new(&a * down, &b * up).unwrap();
        assert_eq!(low.svd().unwrap().rank(), 3, "{down} {up}");
    }
}

#[test]
fn no_measure_takes_no_directions_or_more_than_there_are() {
    let (w, svd) = (DMatrix::identity(4, 4), on_axes(4, &[3.0, 2.0]));
    for asked in [0, 3] {
        let refused = SubspaceError::TooManyDirections { asked, available: 2 };
        assert_eq!(svd.first(asked), Err(refused.clone()));
        assert_eq!(svd.basis(Side::Input).first(asked), Err(refused.clone()));
        assert_eq!(table(&w, &svd, &svd, &[1, asked]), Err(refused));
    }
}

#[test]
fn an_update_of_a_map_that_is_zero_has_no_amplification() {
    let svd = on_axes(4, &[3.0, 2.0]);
    let rows = table(&DMatrix::zeros(4, 4), &svd, &svd, &[1, 2]).unwrap();
    assert!(rows.iter().all(|row| row.onto_update == 0.0 && row.amplification.is_none()));
}

#[test]
fn angles_close_to_a_right_one_are_as_exact_as_small_ones() {
    // In R², the sine of the first angle and the cosine of the second one do not see its last ten digits.
    for angle in [1e-9, 0.7, 0.9, std::f64::consts::FRAC_PI_2 - 1e-5] {
        let axis = Basis::orthonormal(DMatrix::from_column_slice(2, 1, &[1.0, 0.0])).unwrap();
        let turned = Basis::orthonormal(DMatrix::from_column_slice(2, 1, &[f64::cos(angle), f64::sin(angle)])).unwrap();
        let found = principal_angles(&axis, &turned).unwrap();
        assert!((found[0] - angle).abs() < 1e-15, "{angle}: {}", found[0]);
    }
}

#[test]
fn columns_stay_orthonormal_whatever_is_left_of_a_block() {
    let mut gaussian = Gaussian::new(3);
    let older = gaussian.matrix(40, 8);
    let fresh = gaussian.matrix(40, 4);
    // Two columns that differ by 1e-9 of their size: what QR makes of the difference keeps rounding errors along the older columns.
    let mut close = gaussian.matrix(40, 4) * 1e3;
    let near = close.column(0) + gaussian.matrix(40, 1).column(0) * 1e-6;
    close.set_column(1, &near);
    // Blocks of the older columns' span leave nothing but rounding errors, all of one size.
    let within = product(&older, &gaussian.matrix(8, 4));
    let axes = DMatrix::identity(40, 8);
    for (name, older, block, rounding) in [
        ("fresh", &older, &fresh, 1e-12),
        ("close", &older, &close, 1e-12),
        ("within", &older, &within, 1e-12),
        ("zero", &axes, &DMatrix::zeros(40, 4), 0.0),
    ] {
        let mut frame = Frame::new(40, 12);
        let first = frame.append(older, rounding, &mut gaussian);
        assert!((frame.combine(&first) - older).amax() < 1e-13, "{name}");
        let mut rest = block.clone();
        let above = frame.project_out(&mut rest);
        let own = frame.append(&rest, rounding, &mut gaussian);
        // Noise is no part of the block.
        assert_eq!(own.amax() == 0.0, ["within", "zero"].contains(&name), "{name}");
        let mut coefficients = DMatrix::zeros(12, 4);
        coefficients.rows_mut(0, 8).copy_from(&above);
        coefficients.rows_mut(8, 4).copy_from(&own);
        assert!((frame.combine(&coefficients) - block).amax() < 1e-12 * (1.0 + block.amax()), "{name}");
        let columns = frame.last(12);
        let off = (transposed_product(&columns, &columns) - DMatrix::identity(12, 12)).amax();
        assert!(off < 1e-13, "{name}: {off}");
    }
}
