//! The generators against distributions and closed forms.

use super::*;

#[test]
fn chi_squared_numbers_have_their_mean_and_variance() {
    let mut gaussian = Gaussian::new(3);
    for freedom in [1, 2, 3, 10, 700] {
        let n = 20_000;
        let values: Vec<f64> = (0..n).map(|_| gaussian.chi_squared(freedom)).collect();
        let mean = values.iter().sum::<f64>() / f64::from(n);
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / f64::from(n);
        let k = freedom as f64;
        assert!((mean - k).abs() < 4.0 * (2.0 * k / f64::from(n)).sqrt(), "{freedom}: mean {mean}");
        // The variance of the squared deviation is 8k² + 48k.
        let error = ((8.0 * k * k + 48.0 * k) / f64::from(n)).sqrt();
        assert!((variance - 2.0 * k).abs() < 4.0 * error, "{freedom}: variance {variance}");
    }
}

#[test]
fn quantiles_are_numpys() {
    // numpy.quantile([1, 2, 4, 8], [0.025, 0.5, 0.975])
    let sorted = [1.0, 2.0, 4.0, 8.0];
    for (probability, want) in [(0.025, 1.075), (0.5, 3.0), (0.975, 7.7)] {
        assert!((quantile(&sorted, probability) - want).abs() < 1e-12);
    }
    // The ends are the least and the largest, of one number too.
    assert_eq!([0.0, 1.0].map(|probability| quantile(&sorted, probability)), [1.0, 8.0]);
    assert_eq!([0.0, 0.5, 1.0].map(|probability| quantile(&[3.0], probability)), [3.0; 3]);
}

#[test]
fn the_same_seed_gives_the_same_numbers() {
    let draw = |seed| Gaussian::new(seed).matrix(3, 2);
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}

#[test]
fn chi_squared_numbers_have_their_distribution() {
    let mut gaussian = Gaussian::new(4);
    for freedom in [2, 4, 10] {
        let n = 200_000;
        let mut values: Vec<f64> = (0..n).map(|_| gaussian.chi_squared(freedom)).collect();
        values.sort_by(f64::total_cmp);
        // With an even number of degrees, P(X > x) is that of fewer than k/2 events of a Poisson process in x/2.
        let below = |x: f64| {
            let terms = (1..freedom / 2).scan(1.0, |term, i| {
                *term *= x / 2.0 / i as f64;
                Some(*term)
            });
            1.0 - (-x / 2.0).exp() * (1.0 + terms.sum::<f64>())
        };
        let step = 1.0 / f64::from(n);
        let off = |(i, x): (usize, &f64)| {
            let (below, before) = (below(*x), i as f64 * step);
            (below - before).abs().max((before + step - below).abs())
        };
        let distance = values.iter().enumerate().map(off).fold(0.0, f64::max);
        // Kolmogorov's limit distribution leaves one sample in 8000 above this.
        assert!(distance < 2.2 * step.sqrt(), "{freedom}: {distance}");
    }
}

#[test]
fn uniform_numbers_are_the_multiples_above_zero_up_to_one() {
    let (mut gaussian, mut raw) = (Gaussian::new(5), ChaCha20Rng::seed_from_u64(5));
    for _ in 0..100 {
        // 53 bits, counted from 1: zero, whose logarithm is infinite, is left out, and one is in.
        let bits = raw.next_u64() / 2_u64.pow(11);
        assert_eq!(gaussian.uniform() * 2_f64.powi(53) - bits as f64, 1.0);
    }
}

#[test]
fn a_frame_is_what_gram_and_schmidt_make_of_the_gaussian_matrix() {
    // Only then it is uniform: Gram and Schmidt's process keeps the side of every column, so its R has a positive diagonal.
    for seed in 0..5 {
        let numbers = Gaussian::new(seed).matrix(7, 4);
        let mut wanted = numbers.clone();
        for col in 0..4 {
            for _ in 0..2 {
                for before in 0..col {
                    let part = wanted.column(before) * wanted.column(before).dot(&wanted.column(col));
                    wanted.column_mut(col).zip_apply(&part, |value, part| *value -= part);
                }
            }
            wanted.column_mut(col).normalize_mut();
        }
        let frame = Gaussian::new(seed).basis(7, 4).unwrap();
        assert!((frame.directions() - wanted).amax() < 1e-13);
    }
}

#[test]
fn a_subspace_has_at_least_one_direction_and_no_more_than_the_space() {
    for k in [0, 7] {
        let refused = SubspaceError::TooManyDirections { asked: k, available: 6 };
        assert_eq!(Gaussian::new(0).basis(6, k), Err(refused));
    }
    for (sizes, asked) in [((0, 2), 2), ((2, 0), 2), ((2, 7), 7), ((7, 2), 7)] {
        let refused = SubspaceError::TooManyDirections { asked, available: 6 };
        assert_eq!(band(6, sizes, FEWEST_DRAWS, 0), Err(refused));
    }
    assert_eq!(band(6, (6, 6), FEWEST_DRAWS, 0).unwrap().draws, FEWEST_DRAWS);
    assert!(matches!(band(6, (2, 2), FEWEST_DRAWS - 1, 0), Err(SubspaceError::Draws { .. })));
}
