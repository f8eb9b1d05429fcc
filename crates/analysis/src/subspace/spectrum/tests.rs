//! Which directions are new to a base, and the bounds by which one knows it without a decomposition, by hand.

use nalgebra::DMatrix;

use super::*;

/// A map whose directions are the first axes of `R^dimension`, on both sides.
fn on_axes(dimension: usize, values: &[f64]) -> Svd {
    let axes = DMatrix::identity(dimension, values.len());
    Svd::from_parts(axes.clone(), values.to_vec(), axes, 0.0)
}

/// An update of rank 1 and norm `change`, of whose directions the base's have the squares `input` and `output`; the rest lies in an axis
/// of its own, the last.
fn along(dimension: usize, change: f64, input: &[f64], output: &[f64]) -> Svd {
    let direction = |squares: &[f64]| {
        let mut direction = DMatrix::zeros(dimension, 1);
        for (entry, square) in direction.iter_mut().zip(squares) {
            *entry = square.sqrt();
        }
        direction[dimension - 1] = (1.0 - squares.iter().sum::<f64>()).sqrt();
        direction
    };
    Svd::from_parts(direction(input), vec![change], direction(output), 0.0)
}

#[track_caller]
fn close(got: f64, want: f64) {
    assert!((got - want).abs() < 1e-12, "{got} is not {want}");
}

#[test]
fn a_direction_as_like_as_asked_is_no_intruder_and_one_beside_a_clustered_cut_is_ambiguous() {
    let map = on_axes(5, &[3.0, 2.0, 2.0, 1.0]);
    let found = intruders(&map, &map, Side::Output, 4, 1.0).unwrap();
    assert!(found.iter().all(|one| one.cosine == 1.0 && !one.is_intruder));
    assert_eq!(found.iter().map(|one| one.is_ambiguous).collect::<Vec<_>>(), [false, true, true, false]);
}

#[test]
fn a_value_shifts_by_what_its_block_and_the_rest_can_add() {
    // The first direction has a = 0.3 and b = 0.4, so e a b = 0.24 with e = 2; the first two have a = 0.4 and b = 0.5. Of the values 10
    // and s, the first is a block of its own for s + 2 <= 9.76, and then moves by e (0.12 + 0.4); with the second, by e (0.2 + 0.5).
    let update = along(6, 2.0, &[0.09, 0.07], &[0.16, 0.09]);
    // Where no block is far enough from the rest, and where it says less, Weyl's bound for the whole update is left.
    let (large, aligned) = (along(6, 20.0, &[0.09, 0.07], &[0.16, 0.09]), along(6, 2.0, &[1.0], &[1.0]));
    for (values, update, at, want) in [
        ([10.0, 7.7, 3.0], &update, 0, 1.04),
        ([10.0, 7.8, 3.0], &update, 0, 1.4),
        ([10.0, 7.8, 3.0], &update, 1, 1.4),
        ([10.0, 9.9, 3.0], &large, 0, 20.0),
        ([10.0, 5.0, 3.0], &aligned, 0, 2.0),
    ] {
        let base = on_axes(6, &values);
        let aligned = Aligned { rounding: 0.25, ..Aligned::new(&base, update).unwrap() };
        close(aligned.shift(at), want + 0.25);
    }
}

#[test]
fn what_far_directions_hold_is_the_sum_of_their_bounds() {
    // Squares of 0, 0.25 and 0.25 in the base's directions, input and output together, and 0.75 of the output outside of them.
    let (base, update) = (on_axes(6, &[10.0, 8.0, 4.0]), along(6, 1.0, &[0.0, 0.09, 0.16], &[0.0, 0.16, 0.09]));
    let aligned = Aligned { rounding: 0.5, ..Aligned::new(&base, &update).unwrap() };
    let outside = 0.75_f64.sqrt() + 1.0;
    // The first value shifts by the rounding alone, and the others are 2 and 6 away; twice the rounding adds 1 to each numerator.
    let squares = |terms: &[f64]| terms.iter().map(|term| term * term).sum::<f64>();
    close(aligned.far(0, 1), squares(&[1.5 / 1.5, 1.5 / 5.5, outside / 9.5]));
    close(aligned.far(0, 2), squares(&[1.5 / 5.5, outside / 9.5]));
    // The second one shifts by 0.3 · 0.4 + 0.4 and the rounding; the first is 2 away, the third 4.
    close(aligned.far(1, 1), squares(&[1.0 / 0.98, 1.5 / 2.98, outside / 6.98]));
    close(aligned.far(1, 2), squares(&[1.5 / 2.98, outside / 6.98]));
    close(aligned.far(1, 3), squares(&[outside / 6.98]));
    // Its own distance is none, and bounds nothing.
    assert_eq!(aligned.far(1, 0), f64::INFINITY);
}

#[test]
fn an_update_may_intrude_where_no_few_directions_hold_their_share() {
    // An update outside of a single direction of size 1 leaves it 1 - e², of which (0.5 + 0.001)² = 0.251 is wanted.
    let single = on_axes(4, &[1.0]);
    for (square, want) in [(0.7485_f64, false), (0.7495, true)] {
        assert_eq!(may_intrude(&single, &along(4, square.sqrt(), &[], &[]), 1, 0.5).unwrap(), want, "{square}");
    }
    // Of two near ones, each may be left half: (1 - (0.5 · 0.9798 / 0.88)²) / 2 = 0.345, but with 0.66 only 0.205.
    let pair = on_axes(4, &[1.0, 0.9]);
    for (change, want) in [(0.5, false), (0.66, true)] {
        let update = along(4, change, &[0.0, 0.04], &[0.0, 0.04]);
        assert_eq!(may_intrude(&pair, &update, 1, 0.5).unwrap(), want, "{change}");
    }
}
