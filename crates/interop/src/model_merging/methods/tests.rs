//! Identities of the combinations, and a second derivation of TIES by sets.

use lowrank::LowRank;

use super::*;

const SHAPE: [usize; 2] = [9, 7];
/// f64, a few hundred sums and one decomposition: far above their rounding, far below any mistake.
const TOLERANCE: f64 = 1e-12;

fn normal(name: &str, rows: usize, cols: usize) -> DMatrix<f64> {
    let rng = &mut stream::generator(7, Stream::Init, name);
    DMatrix::from_row_slice(rows, cols, &stream::normal(rng, rows * cols, 1.0))
}

fn low_rank(name: &str, rank: usize) -> Update {
    let [d_in, d_out] = SHAPE;
    let (down, up) = (normal(&format!("{name}.a"), d_in, rank), normal(&format!("{name}.b"), rank, d_out));
    Update::LowRank(LowRank::new(down, up).unwrap())
}

fn dense_of(found: &Truncated) -> DMatrix<f64> {
    found.update.dense()
}

#[track_caller]
fn close(found: &DMatrix<f64>, wanted: &DMatrix<f64>) {
    assert_eq!(found.shape(), wanted.shape());
    let gap = (found - wanted).amax();
    assert!(gap <= TOLERANCE * wanted.norm().max(1.0), "{gap:e}");
}

fn every(rank: usize, density: f64) -> [Method; 7] {
    [
        Method::Linear,
        Method::Cat,
        Method::Svd { rank },
        Method::Ties { rank, density, election: SignElection::Total },
        Method::Ties { rank, density, election: SignElection::Frequency },
        Method::Dare { rank, density, seed: 3 },
        Method::MagnitudePrune { rank, density },
    ]
}

#[test]
fn one_adapter_of_weight_one_is_reproduced_by_every_method() {
    for update in [low_rank("one", 3), Update::Dense(normal("full", SHAPE[0], SHAPE[1]))] {
        for method in every(7, 1.0) {
            if method == Method::Cat && matches!(update, Update::Dense(_)) {
                continue;
            }
            let found = combine(&[(1.0, Some(&update))], method, "map").unwrap();
            close(&dense_of(&found), &update.dense());
            let own = if matches!(update, Update::Dense(_)) { 7 } else { 3 };
            assert!(
                found.update.width() == own && found.lost <= TOLERANCE,
                "{method:?}: {} {:e}",
                found.update.width(),
                found.lost
            );
        }
    }
}

#[test]
fn sums_have_no_cross_terms_and_follow_their_weights() {
    let (a, b) = (low_rank("a", 2), low_rank("b", 3));
    let full = Update::Dense(normal("c", SHAPE[0], SHAPE[1]));
    let wanted =
        |w: &[f64], of: &[&Update]| weighted_sum(w.iter().copied().zip(of.iter().map(|update| update.dense())));
    for (first, second) in [(0.7, 1.9), (0.5, -2.0), (-1.0, -0.25)] {
        for method in
            [Method::Linear, Method::Cat, Method::Svd { rank: 5 }, Method::Dare { rank: 7, density: 1.0, seed: 0 }]
        {
            let found = combine(&[(first, Some(&a)), (second, Some(&b))], method, "map").unwrap();
            close(&dense_of(&found), &wanted(&[first, second], &[&a, &b]));
            assert_eq!(found.update.width(), 5);
        }
        // A missing map counts as zero, a dense one joins.
        let found = combine(&[(first, Some(&a)), (9.0, None), (second, Some(&full))], Method::Linear, "map").unwrap();
        close(&dense_of(&found), &wanted(&[first, second], &[&a, &full]));
        // Twice the weights, twice the result.
        for method in every(7, 0.4).into_iter().filter(|method| *method != Method::Cat) {
            let once = combine(&[(first, Some(&a)), (second, Some(&full))], method, "map").unwrap();
            let twice = combine(&[(2.0 * first, Some(&a)), (2.0 * second, Some(&full))], method, "map").unwrap();
            close(&dense_of(&twice), &weighted_sum([(2.0, dense_of(&once))].into_iter()));
        }
    }
    let error = combine(&[(1.0, Some(&full))], Method::Cat, "map").unwrap_err();
    assert!(error.contains("without factors"), "{error}");
    // Adding an adapter and taking it away leaves nothing.
    let nothing = combine(&[(1.0, Some(&a)), (-1.0, Some(&a))], Method::Linear, "map").unwrap();
    assert!(dense_of(&nothing).norm() < TOLERANCE && nothing.update.width() >= 1);
}

/// No other pair of factors of this rank is nearer: those of the first components of either input are not.
#[test]
fn a_smaller_rank_is_nearer_than_either_input() {
    let (a, b) = (low_rank("a", 3), low_rank("b", 3));
    let updates = [(1.0, Some(&a)), (1.0, Some(&b))];
    let three = combine(&updates, Method::Svd { rank: 3 }, "map").unwrap();
    assert!(three.lost < a.dense().norm().min(b.dense().norm()), "each input is a rival of rank 3");
    assert_eq!(three.update.width(), 3);
    let six = combine(&updates, Method::Svd { rank: 6 }, "map").unwrap();
    close(&six.update.dense(), &weighted_sum(dense(&updates).into_iter()));
}

#[test]
fn trimming_keeps_the_largest_and_the_first_of_equals() {
    let of = |values: [f64; 6]| DMatrix::from_row_slice(2, 3, &values);
    let matrix = of([1.0, -5.0, 2.0, -2.0, 0.5, 4.0]);
    assert_eq!(trim(matrix.clone(), 0.5), of([0.0, -5.0, 2.0, 0.0, 0.0, 4.0]), "of 2 and −2 the first");
    assert_eq!(trim(matrix.clone(), 0.34), of([0.0, -5.0, 0.0, 0.0, 0.0, 4.0]));
    assert_eq!(trim(matrix.clone(), 0.1), of([0.0; 6]));
    assert_eq!(trim(matrix.clone(), 1.0), matrix);
}

/// By hand: two of six values stay, as signs of the size of the standard deviation of all six.
#[test]
fn compeft_keeps_signs_of_one_size() {
    let of = |values: [f64; 6]| DMatrix::from_row_slice(2, 3, &values);
    let matrix = of([1.0, -5.0, 2.0, -2.0, 0.0, 4.0]);
    // The mean is 0, the mean square 50/6.
    let size = (50.0_f64 / 6.0).sqrt();
    close(&ternary(matrix.clone(), 0.34), &of([0.0, -size, 0.0, 0.0, 0.0, size]));
    close(&ternary(matrix.clone(), 1.0), &of([size, -size, size, -size, 0.0, size]));
    let updates = [(0.5, Some(&Update::Dense(matrix.clone()))), (9.0, None)];
    let found = combine(&updates, Method::Compeft { rank: 2, density: 0.34 }, "map").unwrap();
    close(&dense_of(&found), &(ternary(matrix, 0.34) * 0.5));
}

/// By hand, from the paper's three steps: at every place the adapters with a value, their sign, the mean of those that agree.
#[test]
fn ties_elects_by_mass_or_by_number() {
    let of = |values: [f64; 4]| DMatrix::from_row_slice(2, 2, &values);
    let matrices = [[3.0, 1.0, -4.0, 0.0], [-1.0, 1.0, 1.0, 0.0], [-1.0, -1.5, 2.0, 7.0]].map(of);
    let ties = |election| elect_and_mean(&[1.0, 10.0, 100.0], &matrices, election);
    // Mass: 3−1−1 = +1, 1+1−1.5 = +0.5, −4+1+2 = −1, 7; then 3, (1+10)/2, −4, 7·100.
    assert_eq!(ties(SignElection::Total), of([3.0, 5.5, -4.0, 700.0]));
    // Number: two of three are negative, positive, positive; (−10−100)/2, (1+10)/2, (10+200)/2.
    assert_eq!(ties(SignElection::Frequency), of([-55.0, 5.5, 105.0, 700.0]));
    // A balance of exactly nothing is positive.
    let even = [2.0, -2.0].map(|value| DMatrix::repeat(1, 1, value));
    assert_eq!(elect_and_mean(&[1.0, 1.0], &even, SignElection::Total)[(0, 0)], 2.0);
}

/// TIES again from its definition over sets, on many draws.
#[test]
fn ties_is_its_definition_over_sets() {
    for draw in 0..20 {
        let matrices: Vec<DMatrix<f64>> = (0..4).map(|at| trim(normal(&format!("{draw}.{at}"), 6, 5), 0.4)).collect();
        let weights = [0.5, -1.0, 2.0, 1.0];
        let found = elect_and_mean(&weights, &matrices, SignElection::Total);
        for place in 0..30 {
            let (mut positive, mut negative) = (Vec::new(), Vec::new());
            for (matrix, weight) in matrices.iter().zip(weights) {
                let value = matrix[place];
                if value > 0.0 {
                    positive.push((value, weight));
                } else if value < 0.0 {
                    negative.push((-value, weight));
                }
            }
            let mass = |side: &[(f64, f64)]| side.iter().map(|(value, _)| value).sum::<f64>();
            let mean = |side: &[(f64, f64)]| {
                if side.is_empty() { 0.0 } else { side.iter().map(|(v, w)| v * w).sum::<f64>() / side.len() as f64 }
            };
            let wanted = if mass(&positive) >= mass(&negative) { mean(&positive) } else { -mean(&negative) };
            assert!((found[place] - wanted).abs() < TOLERANCE, "{} {wanted}", found[place]);
        }
    }
}

/// Over `n` seeds the mean of a dropped value `v` is `v` with variance `v²(1−p)/(p·n)`. Of 63 values the largest departure stays below
/// five standard errors with a probability of 1 − 63·6e-7; the seeds are fixed, so the test is too.
#[test]
fn dare_is_unbiased_and_reproducible() {
    let (matrix, n, p) = (normal("dare", SHAPE[0], SHAPE[1]), 4000_u64, 0.3);
    let mut mean = vec![0.0; 63];
    let mut kept = 0;
    for seed in 0..n {
        let dropped = drop(matrix.clone(), p, seed, 0, "map");
        for (place, value) in dropped.iter().enumerate() {
            assert!(*value == 0.0 || *value == matrix[place] / p);
            mean[place] += value / n as f64;
            kept += u32::from(*value != 0.0);
        }
    }
    for (mean, value) in mean.iter().zip(matrix.iter()) {
        let error = value.abs() * ((1.0 - p) / (p * n as f64)).sqrt();
        assert!((mean - value).abs() < 5.0 * error, "{mean} {value} {error}");
    }
    let (share, error) = (f64::from(kept) / (63.0 * n as f64), (p * (1.0 - p) / (63.0 * n as f64)).sqrt());
    assert!((share - p).abs() < 5.0 * error, "{share}");
    let once = |seed, at, key| drop(matrix.clone(), p, seed, at, key);
    assert_eq!(once(1, 0, "map"), once(1, 0, "map"));
    assert!([once(2, 0, "map"), once(1, 1, "map"), once(1, 0, "pam")].iter().all(|other| *other != once(1, 0, "map")));
}
