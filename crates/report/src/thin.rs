//! Fewer points of a curve, and fewer digits of a number, without changing what a reader sees.
//!
//! A curve of more points than the limit is cut into buckets of equally many points. Of each the least and the greatest stay, at their own
//! steps, and so do the first and the last point of all: no spike is lost, and no value is made up. A value that is not finite counts as the
//! greatest, so that a divergence stays too.

/// Most points of one curve.
const MOST: usize = 400;
/// Most points of all curves of a file together, as far as [`LEAST`] allows.
const MOST_IN_ALL: usize = 1_000_000;
/// Fewest points that a long curve keeps.
const LEAST: usize = 32;
/// Curves of a run that count: loss and gradient norm.
const CURVES: usize = 2;

/// Most points of each curve, where so many runs are shown.
pub(crate) fn limit(runs: usize) -> usize {
    (MOST_IN_ALL / (CURVES * runs.max(1))).clamp(LEAST, MOST)
}

/// Places of the points that stay.
pub(crate) fn kept(values: &[f64], most: usize) -> Vec<usize> {
    if values.len() <= most {
        return (0..values.len()).collect();
    }
    let (first, last) = (0, values.len() - 1);
    let buckets = (most.max(4) - 2) / 2;
    let mut kept = vec![first];
    for bucket in 0..buckets {
        // The points between first and last, as even as whole numbers allow.
        let inner = last - 1;
        let (from, to) = (1 + bucket * inner / buckets, 1 + (bucket + 1) * inner / buckets);
        let order = |a: &usize, b: &usize| key(values[*a]).total_cmp(&key(values[*b]));
        let (low, high) = ((from..to).min_by(order), (from..to).max_by(order));
        let mut ends: Vec<usize> = low.into_iter().chain(high).collect();
        ends.sort_unstable();
        ends.dedup();
        kept.extend(ends);
    }
    kept.push(last);
    kept
}

/// Finite values in their order, the others above them.
fn key(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::INFINITY }
}

/// Five significant digits, which no screen can tell from more; what is not finite becomes `null` in JSON.
pub(crate) fn short(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 4 - value.abs().log10().floor() as i32;
    // A power of ten above 1e22 is no exact number.
    if digits.abs() > 22 {
        return value;
    }
    let scale = 10_f64.powi(digits.abs());
    if digits >= 0 { (value * scale).round() / scale } else { (value / scale).round() * scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_curve_stays_as_it_is() {
        assert_eq!(kept(&[1.0, 5.0, 2.0], 3), [0, 1, 2]);
        assert!(kept(&[], 3).is_empty());
    }

    #[test]
    fn a_long_curve_keeps_its_ends_its_spikes_and_its_divergence() {
        let mut values: Vec<f64> = (0..1000).map(|at| (f64::from(at) / 7.0).sin()).collect();
        values[333] = 50.0;
        values[334] = -50.0;
        values[700] = f64::NAN;
        for most in [4, 32, 100, 999] {
            let kept = kept(&values, most);
            assert!(kept.len() <= most && kept.len() > most / 2, "{most}: {}", kept.len());
            assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!((kept[0], kept[kept.len() - 1]), (0, 999));
            if most > 4 {
                assert!([333, 334, 700].iter().all(|at| kept.contains(at)), "{most}");
            }
        }
    }

    #[test]
    fn many_runs_share_a_budget_of_points() {
        assert_eq!([1, 1000, 1250, 10_000, 1_000_000].map(limit), [400, 400, 400, 50, 32]);
    }

    #[test]
    fn five_digits_stay() {
        let cases = [(0.123_456_789, 0.123_46), (-98_765.4, -98_765.0), (1.234_567e-7, 1.234_6e-7), (0.0, 0.0)];
        for (value, want) in cases {
            assert_eq!(short(value), want);
        }
        assert_eq!(short(1.234_567e9), 1.234_6e9);
        assert!(short(f64::NAN).is_nan() && short(1e-300) == 1e-300);
        assert_eq!(serde_json::to_string(&short(0.7_f64.sqrt())).unwrap(), "0.83666");
    }
}
