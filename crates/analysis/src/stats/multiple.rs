//! Correction for many comparisons.

use super::StatsError;

/// Holm's step-down adjustment: adjusted p-values, in the order given, that control the chance of any false claim among them.
///
/// The i-th smallest of `m` becomes `max over j <= i of min(1, (m - j + 1) · p_j)`.
///
/// Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, Scandinavian Journal of Statistics 6, 1979.
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>, StatsError> {
    if let Some(index) = p_values.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(StatsError::NotProbability { index, value: p_values[index] });
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|i, j| p_values[*i].total_cmp(&p_values[*j]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut running: f64 = 0.0;
    for (position, index) in order.into_iter().enumerate() {
        let remaining = (p_values.len() - position) as f64;
        running = running.max(remaining * p_values[index]).min(1.0);
        adjusted[index] = running;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_worked_example() {
        // Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04; the running maximum makes the last 0.06.
        let adjusted = holm(&[0.03, 0.01, 0.04, 0.02]).unwrap();
        for (got, want) in adjusted.iter().zip([0.06, 0.04, 0.06, 0.06]) {
            assert!((got - want).abs() < 1e-12, "{adjusted:?}");
        }
        assert_eq!(holm(&[0.9, 0.8]).unwrap(), [1.0, 1.0]);
        assert!(holm(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        assert!(holm(&[0.5, f64::NAN]).is_err());
        assert_eq!(holm(&[1.5]).unwrap_err().to_string(), "p-value 0 is `1.5`, but must lie in 0..=1");
    }

    proptest! {
        #[test]
        fn adjusting_never_lowers_and_keeps_the_order(p_values in prop::collection::vec(0.0..=1.0, 1..10)) {
            let adjusted = holm(&p_values).unwrap();
            for (i, p) in p_values.iter().enumerate() {
                prop_assert!(*p <= adjusted[i] && adjusted[i] <= 1.0);
                prop_assert!(adjusted[i] <= (p * p_values.len() as f64).min(1.0) || p_values.iter().any(|other| other < p));
                for (j, other) in p_values.iter().enumerate() {
                    prop_assert!(p > other || adjusted[i] <= adjusted[j]);
                }
            }
        }
    }
}
