//! The subspace measures against independent values, their laws, and their errors.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::BTreeMap;

use analysis::subspace::basis::Basis;
use analysis::subspace::factored::{SingularDirections as _, Svd, factor_basis, svd_with};
use analysis::subspace::grassmann::{Phi, phi, principal_angles, projection_distance};
use analysis::subspace::projection::{projections, random_projections, table};
use analysis::subspace::random::{Gaussian, band, mean_captured_energy, mean_phi, root_mean_square_projection};
use analysis::subspace::spectrum::{intruders, may_intrude, spectrum};
use analysis::subspace::top::{Method, TopOptions, top};
use analysis::subspace::{Side, SubspaceError, captured_energy, decomposition, overlap, trajectory};
use lowrank::error::UpdateError;
use lowrank::linalg::{Backend, product, product_transposed, transposed_product};
use lowrank::{LowRank, Update};
use nalgebra::DMatrix;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

/// numpy's and our values differ by rounding, amplified by the gaps of the planted spectra (relative 1e-3 at the smallest).
const TOLERANCE: f64 = 1e-8;

const CASES: &[(&str, &str)] = &[
    ("random", include_str!("fixtures/subspace/random.json")),
    ("wide", include_str!("fixtures/subspace/wide.json")),
    ("tall", include_str!("fixtures/subspace/tall.json")),
    ("tiny", include_str!("fixtures/subspace/tiny.json")),
    ("over_complete", include_str!("fixtures/subspace/over_complete.json")),
    ("deficient", include_str!("fixtures/subspace/deficient.json")),
    ("planted", include_str!("fixtures/subspace/planted.json")),
];

/// A file of `scripts/oracle/subspace.py`.
#[derive(Deserialize)]
struct Case {
    w: Vec<Vec<f64>>,
    updates: Vec<Factors>,
    expected: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Factors {
    a: Vec<Vec<f64>>,
    b: Vec<Vec<f64>>,
    scale: f64,
}

fn matrix(rows: &[Vec<f64>]) -> DMatrix<f64> {
    DMatrix::from_fn(rows.len(), rows[0].len(), |row, col| rows[row][col])
}

/// Numbers of a scalar, a list or a list of rows, in reading order.
fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

/// Every `φ(i, j)`, `j` fastest; NaN where a cut is not determined, which no comparison takes.
fn rows(phi: &Phi) -> Vec<f64> {
    phi.entries().map(|entry| if entry.ambiguous { f64::NAN } else { entry.phi }).collect()
}

/// Compares everything measured on a case with its expected numbers.
#[track_caller]
fn agree(case: &str, expected: &BTreeMap<String, Value>, measured: &[(&str, Vec<f64>)]) {
    let mut left: Vec<&String> = expected.keys().collect();
    for (name, got) in measured {
        let want = flat(&expected[*name]);
        assert_eq!(got.len(), want.len(), "{case}.{name}: number of values");
        for (index, (got, want)) in got.iter().zip(&want).enumerate() {
            let off = (got - want).abs() / want.abs().max(1.0);
            assert!(
                off < TOLERANCE || got.is_nan() && name.starts_with("phi"),
                "{case}.{name}[{index}]: {got} is not {want}"
            );
        }
        left.retain(|other| other != name);
    }
    assert!(left.is_empty(), "{case}: not measured: {left:?}");
}

#[test]
fn every_measure_agrees_with_numpy_and_scipy() {
    for (name, text) in CASES {
        let case: Case = serde_json::from_str(text).unwrap();
        let w = matrix(&case.w);
        let low: Vec<LowRank> = case
            .updates
            .iter()
            .map(|factors| LowRank::new(matrix(&factors.a) * factors.scale, matrix(&factors.b)).unwrap())
            .collect();
        let dense: Vec<Update> = low.iter().map(|update| Update::Dense(update.dense())).collect();
        let factored: Vec<Update> = low.iter().cloned().map(Update::LowRank).collect();
        let (first, last) = (&low[0], &low[low.len() - 1]);
        let factors = |side| phi(&factor_basis(first, side).unwrap(), &factor_basis(last, side).unwrap()).unwrap();
        let factors = [("phi_a", rows(&factors(Side::Input))), ("phi_b", rows(&factors(Side::Output)))];
        for updates in [factored, dense] {
            agree(name, &case.expected, &[measured(&w, &updates, last), factors.to_vec()].concat());
        }
    }
}

/// `updates` are the checkpoints of one map `w`, factored or dense; `frozen` has the factors of the last.
fn measured(w: &DMatrix<f64>, updates: &[Update], frozen: &LowRank) -> Vec<(&'static str, Vec<f64>)> {
    let (first, last) = (updates[0].svd().unwrap(), updates[updates.len() - 1].svd().unwrap());
    let base = Svd::full(w).unwrap();
    let tuned = Svd::full(&(w + updates[0].dense())).unwrap();
    let (input, output) = (first.basis(Side::Input), first.basis(Side::Output));
    let directions = (first.directions(Side::Input), first.directions(Side::Output));
    let ranks: Vec<usize> = (1..=first.rank()).collect();
    // A base of lower rank than the update has no further directions of its own.
    let ends = top(w, first.rank(), TopOptions::default()).unwrap().svd;
    let table = table(w, &first, &base, &ranks[..ends.rank().min(ranks.len())]).unwrap();
    let mut onto_base: Vec<f64> = table.iter().map(|row| row.onto_base).collect();
    onto_base.resize(ranks.len(), base.norm());
    let onto_update = projections(w, directions.0, directions.1).unwrap();
    for (row, projection) in table.iter().zip(&onto_update) {
        assert!((row.amplification.unwrap() - first.norm() / projection).abs() < TOLERANCE * row.update_norm);
    }
    let spectrum = spectrum(&first);
    let likeness = |side| intruders(&base, &tuned, side, tuned.rank(), 0.6).unwrap();
    let change = decomposition::change(w, &updates[0]).unwrap();
    let dynamics = decomposition::dynamics(w, updates).unwrap();
    let moments = trajectory::trajectory(updates, Side::Input).unwrap();
    assert_eq!(moments[0].phi_final, Some(phi(&input, &last.basis(Side::Input)).unwrap()));
    let reach = |side| {
        captured_energy::captured_energy(
            &updates[0],
            if side == Side::Input { frozen.down() } else { frozen.up() },
            side,
        )
        .unwrap()
    };
    vec![
        ("values", first.values().to_vec()),
        ("phi_input", rows(&phi(&input, &last.basis(Side::Input)).unwrap())),
        ("phi_output", rows(&phi(&output, &last.basis(Side::Output)).unwrap())),
        ("angles", principal_angles(&input, &last.basis(Side::Input)).unwrap()),
        ("distance", vec![projection_distance(&input, &last.basis(Side::Input)).unwrap()]),
        ("amplification", onto_update.iter().map(|projection| first.norm() / projection).collect()),
        ("onto_update", onto_update),
        ("onto_base", onto_base),
        ("base_values", base.values().to_vec()),
        ("heat_input", rows(&phi(&base.basis(Side::Input), &input).unwrap())),
        ("heat_output", rows(&phi(&base.basis(Side::Output), &output).unwrap())),
        ("norm", vec![updates[0].norm()]),
        ("stable_rank", vec![spectrum.stable_rank]),
        ("effective_rank", vec![spectrum.effective_rank]),
        ("energy", spectrum.energy),
        ("likeness_input", likeness(Side::Input).iter().map(|one| one.cosine).collect()),
        ("likeness_output", likeness(Side::Output).iter().map(|one| one.cosine).collect()),
        ("intruders_output", vec![likeness(Side::Output).iter().filter(|one| one.is_intruder).count() as f64]),
        ("magnitude_columns", change.magnitude),
        ("direction_columns", change.direction),
        ("correlation", vec![dynamics.correlation().unwrap().unwrap()]),
        ("magnitude", dynamics.magnitude),
        ("direction", dynamics.direction),
        ("reach_input", vec![reach(Side::Input)]),
        ("reach_output", vec![reach(Side::Output)]),
        ("steps", moments.iter().map(|moment| moment.step).collect()),
        ("to_final", moments.iter().map(|moment| moment.to_final).collect()),
    ]
}

fn gaussian(seed: u64, rows: usize, cols: usize) -> DMatrix<f64> {
    Gaussian::new(seed).matrix(rows, cols)
}

fn frame(seed: u64, dimension: usize, k: usize) -> Basis {
    Gaussian::new(seed).basis(dimension, k).unwrap()
}

/// `U diag(values) Vᵀ` with random frames, `[rows, cols]`.
fn spectral(seed: u64, rows: usize, cols: usize, values: &[f64]) -> (DMatrix<f64>, DMatrix<f64>, DMatrix<f64>) {
    let mut gaussian = Gaussian::new(seed);
    let u = gaussian.basis(rows, values.len()).unwrap().directions().clone();
    let v = gaussian.basis(cols, values.len()).unwrap().directions().clone();
    let scaled = DMatrix::from_fn(rows, values.len(), |row, col| u[(row, col)] * values[col]);
    (product_transposed(&scaled, &v), u, v)
}

#[track_caller]
fn close(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "{got} is not {want} to {tolerance}");
}

#[test]
fn libraries_agree_on_products_and_maps() {
    for (d_in, rank, d_out) in [(1, 1, 1), (40, 6, 30), (12, 5, 90), (90, 5, 12), (4, 9, 6)] {
        let low = LowRank::new(gaussian(1, d_in, rank) * 0.7, gaussian(2, rank, d_out)).unwrap();
        let dense = low.dense();
        let oracle = Svd::full_with(&dense, Backend::Nalgebra).unwrap();
        for backend in Backend::ALL {
            for svd in [svd_with(&low, *backend).unwrap(), Svd::full_with(&dense, *backend).unwrap()] {
                assert_eq!(svd.rank(), oracle.rank(), "{backend:?}");
                for (one, other) in svd.values().iter().zip(oracle.values()) {
                    close(*one, *other, 1e-11 * oracle.values()[0]);
                }
                for side in [Side::Input, Side::Output] {
                    let phi = phi(&svd.basis(side), &oracle.basis(side)).unwrap();
                    close(phi.at(svd.rank(), svd.rank()), 1.0, 1e-11);
                    close(phi.at(1, 1), 1.0, 1e-11);
                }
            }
        }
    }
}

#[test]
fn singular_values_beyond_the_numerical_rank_are_no_directions() {
    // Terms that cancel: the product is zero, its factors are not.
    let (a, b) = (gaussian(3, 30, 4), gaussian(4, 4, 20));
    let low = LowRank::new(&a * 2.0, b.clone()).unwrap();
    assert_eq!(low.minus(&low).svd().unwrap_err(), SubspaceError::RankZero { name: "ΔW" });
    let other = LowRank::new(a.clone(), gaussian(5, 4, 20)).unwrap();
    assert_eq!(low.minus(&other).svd().unwrap().rank(), 4);
    // An untrained b has no directions, though its a does.
    let untrained = LowRank::new(a.clone(), DMatrix::zeros(4, 20)).unwrap();
    assert_eq!(untrained.svd().unwrap_err(), SubspaceError::RankZero { name: "ΔW" });
    assert_eq!(factor_basis(&untrained, Side::Output).unwrap_err(), SubspaceError::RankZero { name: "b" });
    assert_eq!(factor_basis(&untrained, Side::Input).unwrap().rank(), 4);
    assert_eq!(untrained.norm(), 0.0);
    assert_eq!(LowRank::new(a * 0.0, b).unwrap().svd().unwrap_err(), SubspaceError::RankZero { name: "ΔW" });
}

#[test]
fn cuts_inside_clusters_are_flagged() {
    let values = [3.0, 2.0, 2.0 - 1e-9, 1.0, 0.5];
    let (matrix, ..) = spectral(6, 20, 30, &values);
    let svd = Svd::full(&matrix).unwrap();
    for side in [Side::Input, Side::Output] {
        let basis = svd.basis(side);
        let flags: Vec<bool> = (1..=5).map(|i| basis.is_ambiguous(i)).collect();
        assert_eq!(flags, [false, true, false, false, false]);
        let phi = phi(&basis, &frame(7, basis.dimension(), 3)).unwrap();
        assert!(phi.entries().all(|entry| entry.ambiguous == (entry.i == 2)));
    }
    // A cut keeps its flag when the rest is left out, by the full SVD and by the iteration.
    assert!(svd.first(2).unwrap().basis(Side::Input).is_ambiguous(2));
    let mut values: Vec<f64> = (0..150).map(|i| 0.9_f64.powi(i)).collect();
    values[4] = values[3] * (1.0 - 1e-8);
    let (matrix, ..) = spectral(8, 200, 170, &values);
    let leading = top(&matrix, 4, TopOptions::default()).unwrap();
    assert!(matches!(leading.method, Method::Krylov { .. }));
    assert!(leading.svd.basis(Side::Output).is_ambiguous(4));
    assert!(!leading.svd.basis(Side::Output).is_ambiguous(3));
}

#[test]
fn pairs_with_ambiguous_cuts_are_left_out_of_an_overlap() {
    let (clustered, ..) = spectral(9, 20, 12, &[2.0, 2.0, 1.0]);
    let (clear, ..) = spectral(10, 20, 12, &[3.0, 2.0, 1.0]);
    let (other, ..) = spectral(11, 20, 12, &[3.0, 2.0, 1.0, 0.5]);
    let bases: Vec<Basis> =
        [&clustered, &clear, &other].map(|matrix| Svd::full(matrix).unwrap().basis(Side::Input)).into();
    let overlap = overlap::overlap(&bases).unwrap();
    let pairs: Vec<(usize, usize)> = overlap.pairs.iter().map(|pair| (pair.first, pair.second)).collect();
    assert_eq!((pairs, overlap.rank), (vec![(0, 1), (0, 2), (1, 2)], 3));
    let want = phi(&bases[1], &bases[2]).unwrap().at(1, 1);
    assert_eq!(overlap.values(1, 1), [(1, 2, want)]);
    assert_eq!(overlap.mean(1, 1), Some(want));
    let all: Vec<f64> = overlap.values(2, 2).iter().map(|(_, _, phi)| *phi).collect();
    close(overlap.mean(2, 2).unwrap(), all.iter().sum::<f64>() / 3.0, 1e-15);
    assert_eq!(overlap.values(3, 4).len(), 2);
    assert_eq!(overlap.mean(5, 5), None);
}

#[test]
fn appendix_g_holds_with_its_sign_put_right() {
    for (seed, (k_a, k_b)) in [(1, (3, 3)), (2, (2, 5)), (3, (5, 2))] {
        let (a, b) = (frame(seed, 11, k_a), frame(seed + 10, 11, k_b));
        let p = k_a.min(k_b) as f64;
        let distance = projection_distance(&a, &b).unwrap();
        let phi = phi(&a, &b).unwrap().at(k_a, k_b);
        close(phi, 1.0 - distance * distance / p, 1e-12);
        // What is printed, (1 - d²)/p, differs for every p > 1.
        assert!((phi - (1.0 - distance * distance) / p).abs() > 0.1);
    }
}

#[test]
fn principal_angles_are_those_planted() {
    // The second plane is the first turned by these angles into fresh axes.
    let angles = [1e-9_f64, 0.3, 1.1, std::f64::consts::FRAC_PI_2];
    let axes = frame(12, 12, 8);
    let turned = DMatrix::from_fn(12, 4, |row, l| {
        angles[l].cos() * axes.directions()[(row, l)] + angles[l].sin() * axes.directions()[(row, 4 + l)]
    });
    let (one, two) = (axes.first(4).unwrap(), Basis::orthonormal(turned).unwrap());
    for (got, want) in principal_angles(&one, &two).unwrap().iter().zip(&angles) {
        close(*got, *want, 1e-14);
    }
    let squares: f64 = angles.iter().map(|angle| angle.sin().powi(2)).sum();
    close(projection_distance(&one, &two).unwrap(), squares.sqrt(), 1e-14);
}

#[test]
fn random_subspaces_overlap_as_the_closed_form_says() {
    let (dimension, k_a, k_b, draws) = (40, 3, 8, 400);
    let mut gaussian = Gaussian::new(13);
    let samples: Vec<DMatrix<f64>> = (0..draws)
        .map(|_| {
            let (a, b) = (gaussian.basis(dimension, k_a).unwrap(), gaussian.basis(dimension, k_b).unwrap());
            phi(&a, &b).unwrap().values().clone()
        })
        .collect();
    let simulated = band(dimension, (k_a, k_b), 2000, 14).unwrap();
    for i in 1..=k_a {
        for j in 1..=k_b {
            let (mean, error) = moments(samples.iter().map(|sample| sample[(i - 1, j - 1)]));
            let want = mean_phi(dimension, i, j);
            close(mean, want, 4.0 * error);
            close(simulated.mean[(i - 1, j - 1)], want, 4.0 * error * (f64::from(draws) / 2000.0).sqrt());
            // The band holds 95% of independent draws, within 4 standard errors of that share and of the band's own ends.
            let (low, high) = (simulated.low[(i - 1, j - 1)], simulated.high[(i - 1, j - 1)]);
            let inside = samples.iter().filter(|sample| (low..=high).contains(&sample[(i - 1, j - 1)])).count();
            close(inside as f64 / f64::from(draws), 0.95, 4.0 * (0.95 * 0.05 / 400.0_f64).sqrt());
        }
    }
}

#[test]
fn bands_also_hold_where_the_axes_are_most_of_the_space() {
    // The unseen rows are fewer than the columns, or none.
    for (dimension, k_a, k_b) in [(5, 4, 3), (5, 3, 5), (3, 1, 1), (6, 6, 6)] {
        let band = band(dimension, (k_a, k_b), 4000, 15).unwrap();
        for i in 1..=k_a {
            for j in 1..=k_b {
                let (low, high) = (band.low[(i - 1, j - 1)], band.high[(i - 1, j - 1)]);
                assert!((0.0..=1.0).contains(&low) && low <= high && high <= 1.0);
                // The spread of one φ is below 1/2, so four standard errors are below 0.032.
                close(band.mean[(i - 1, j - 1)], mean_phi(dimension, i, j), 0.032);
            }
        }
    }
    let band = band(50, (2, 2), 200, 16).unwrap();
    let one = frame(17, 50, 2);
    let own = phi(&one, &one).unwrap();
    assert!(!own.is_ambiguous(1, 1) && own.at(1, 1) > band.high[(0, 0)]);
}

fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

#[test]
fn random_projections_have_the_mean_square_of_the_closed_form() {
    // The papers' own figures: GPT-3's W_q, LoRA table 7.
    close(root_mean_square_projection(61.95, (12_288, 12_288), 4), 0.0202, 5e-5);
    close(root_mean_square_projection(61.95, (12_288, 12_288), 64), 0.3227, 5e-5);
    let (w, ..) = spectral(18, 30, 22, &[9.0, 4.0, 1.0, 0.5]);
    for r in [1, 3, 8] {
        let samples = random_projections(&w, r, 600, 19).unwrap();
        let (mean, error) = moments(samples.iter().map(|value| value * value));
        let want = root_mean_square_projection(w.norm(), w.shape(), r);
        close(mean, want * want, 4.0 * error);
        // Its root is not the mean norm.
        assert!(moments(samples.iter().copied()).0 < want);
    }
}

#[test]
fn table_7_is_what_planted_spectra_make_it() {
    // W and ΔW share the singular vectors 3 and 1; ΔW amplifies direction 3, which W hardly uses.
    let values: Vec<f64> = (0..6).map(|i| 10.0 / f64::from(1 << i)).collect();
    let (w, u, v) = spectral(20, 16, 14, &values);
    let scaled =
        |columns: [usize; 2], by: [f64; 2]| DMatrix::from_fn(16, 2, |row, col| u[(row, columns[col])] * by[col]);
    let b = DMatrix::from_fn(2, 14, |row, col| v[(col, [3, 1][row])]);
    let update = LowRank::new(scaled([3, 1], [6.0, 2.0]), b).unwrap().svd().unwrap();
    let base = top(&w, 2, TopOptions::default()).unwrap().svd;
    let rows = table(&w, &update, &base, &[1, 2]).unwrap();
    for (row, (onto_update, onto_base)) in rows.iter().zip([(1.25, 10.0), (1.25_f64.hypot(5.0), 10.0_f64.hypot(5.0))]) {
        close(row.onto_update, onto_update, 1e-12);
        close(row.onto_base, onto_base, 1e-12);
        close(row.update_norm, 40.0_f64.sqrt(), 1e-12);
        close(row.amplification.unwrap(), 40.0_f64.sqrt() / onto_update, 1e-11);
        close(row.onto_random, row.rank as f64 * w.norm() / (16.0_f64 * 14.0).sqrt(), 1e-12);
    }
    // The heat map of appendix H.3: ΔW's first direction is W's fourth.
    let heat = phi(&Svd::full(&w).unwrap().basis(Side::Input), &update.basis(Side::Input)).unwrap();
    let column: Vec<f64> = (1..=6).map(|i| heat.at(i, 1)).collect();
    for (got, want) in column.iter().zip([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) {
        close(*got, want, 1e-12);
    }
    // Directions outside of W have no amplification.
    let outside = spectral(20, 16, 14, &[1.0; 6]).0;
    let low = LowRank::new(gaussian(21, 16, 1), gaussian(22, 1, 14)).unwrap().dense();
    let removed = &low - product(&u, &transposed_product(&u, &low));
    let update = Svd::full(&removed).unwrap();
    let base = Svd::full(&outside).unwrap();
    assert_eq!(table(&w, &update, &base, &[1]).unwrap()[0].amplification, None);
}

#[test]
fn leading_triplets_agree_with_the_full_decomposition() {
    let power: Vec<f64> = (1..=180).map(|i| f64::from(i).powf(-0.5)).collect();
    let steep: Vec<f64> = (0..180).map(|i| 0.8_f64.powi(i)).collect();
    let low: Vec<f64> = vec![4.0, 3.0, 2.0, 1.0, 0.5];
    let repeated: Vec<f64> = (0..180).map(|i| if i < 9 { 5.0 } else { 4.0 / f64::from(i) }).collect();
    let equal = vec![1.0; 180];
    for (values, (rows, cols)) in [
        (&power, (200, 180)),
        (&power, (180, 240)),
        (&steep, (200, 190)),
        (&low, (200, 190)),
        (&repeated, (190, 200)),
        (&equal, (180, 190)),
    ] {
        for count in [1, 4, 12] {
            let (w, ..) = spectral(23, rows, cols, values);
            let full = Svd::full(&w).unwrap();
            let leading = top(&w, count, TopOptions::default()).unwrap();
            assert!(leading.residual <= 1e-10, "{}", leading.residual);
            assert_eq!(leading.svd.rank(), count.min(full.rank()));
            for (got, want) in leading.svd.values().iter().zip(full.values()) {
                close(*got, *want, 1e-10 * full.values()[0]);
            }
            let gap = full.values()[count.min(full.rank()) - 1] - full.values().get(count).copied().unwrap_or(0.0);
            if gap > 1e-3 * full.values()[0] {
                for side in [Side::Input, Side::Output] {
                    let (one, other) = (leading.svd.basis(side), full.first(leading.svd.rank()).unwrap().basis(side));
                    let sine = principal_angles(&one, &other).unwrap().last().unwrap().sin();
                    // Wedin's bound, with the rounding of the full decomposition.
                    let root = (count as f64).sqrt();
                    assert!(sine <= (leading.residual + 1e-14) * root * full.values()[0] / gap * 4.0, "{sine}");
                }
            }
        }
    }
}

#[test]
fn values_alone_are_exact_at_a_loose_residual() {
    let mut gaussian = Gaussian::new(21);
    let mut w = gaussian.matrix(300, 260);
    for (j, mut column) in w.column_iter_mut().enumerate() {
        column *= (j as f64 + 1.0).powf(-0.5);
    }
    let found = top(&w, 16, TopOptions::values()).unwrap();
    assert!(matches!(found.method, Method::Krylov { .. }), "{:?}", found.method);
    let full = w.singular_values();
    for (value, wanted) in found.svd.values().iter().zip(full.iter()) {
        // The square of the residual over the gaps of this spectrum.
        assert!((value - wanted).abs() < 1e-9 * full[0], "{value} {wanted}");
    }
}

#[test]
fn a_large_share_of_the_directions_takes_the_full_decomposition() {
    let w = gaussian(24, 40, 30);
    let leading = top(&w, 30, TopOptions::default()).unwrap();
    assert_eq!((leading.method, leading.svd.rank()), (Method::Full, 30));
    assert_eq!(top(&w, 31, TopOptions::default()), Err(SubspaceError::TooManyDirections { asked: 31, available: 30 }));
    let options = TopOptions { tolerance: 0.5, ..TopOptions::default() };
    assert!(matches!(top(&w, 3, options), Err(SubspaceError::Setting { .. })));
    let zero = DMatrix::zeros(300, 300);
    assert_eq!(top(&zero, 3, TopOptions::default()), Err(SubspaceError::RankZero { name: "W" }));
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let w = gaussian(25, 220, 180);
    let twice = [0, 1].map(|_| top(&w, 5, TopOptions::default()).unwrap());
    assert_eq!(twice[0], twice[1]);
    assert_eq!(band(30, (3, 4), 50, 7).unwrap(), band(30, (3, 4), 50, 7).unwrap());
}

#[test]
fn intruders_are_directions_new_to_the_base() {
    let base_values: Vec<f64> = (0..10).map(|i| 10.0 - f64::from(i)).collect();
    let mut gaussian = Gaussian::new(26);
    let (u, v) = (gaussian.basis(24, 11).unwrap(), gaussian.basis(24, 11).unwrap());
    let (u, v) = (u.directions(), v.directions());
    let scaled = DMatrix::from_fn(24, 10, |row, col| u[(row, col)] * base_values[col]);
    let w = product_transposed(&scaled, &v.columns(0, 10).into_owned());
    // A direction orthogonal to all of the base, between the second and third in size.
    let tuned = &w + u.column(10) * v.column(10).transpose() * 8.5;
    let (base, tuned) = (Svd::full(&w).unwrap(), Svd::full(&tuned).unwrap());
    let found = intruders(&base, &tuned, Side::Output, 5, 0.6).unwrap();
    let indices: Vec<usize> = found.iter().filter(|one| one.is_intruder).map(|one| one.index).collect();
    assert_eq!(indices, [3]);
    close(found[2].cosine, 0.0, 1e-12);
    close(found[1].cosine, 1.0, 1e-12);
    assert!(intruders(&base, &base, Side::Input, 5, 1.0 - 1e-9).unwrap().iter().all(|one| !one.is_intruder));
    assert!(matches!(intruders(&base, &tuned, Side::Input, 5, 0.0), Err(SubspaceError::Setting { .. })));
    let change = |size: f64| Svd::full(&(u.column(10) * v.column(10).transpose() * size)).unwrap();
    assert!(may_intrude(&base, &change(8.5), 5, 0.6).unwrap() && !may_intrude(&base, &change(0.2), 5, 0.6).unwrap());
    // Of directions that the base lacks, nothing is certain.
    assert!(may_intrude(&base, &change(1e-9), 11, 0.6).unwrap());
    assert!(may_intrude(&base, &Svd::full(&matrix(&[vec![1.0, 2.0]])).unwrap(), 5, 0.6).is_err());
}

#[test]
fn ranks_of_known_spectra() {
    let (flat, ..) = spectral(27, 12, 10, &[2.0; 5]);
    let flat = spectrum(&Svd::full(&flat).unwrap());
    close(flat.stable_rank, 5.0, 1e-12);
    close(flat.effective_rank, 5.0, 1e-12);
    let (single, ..) = spectral(28, 12, 10, &[2.0]);
    let single = spectrum(&Svd::full(&single).unwrap());
    close(single.stable_rank, 1.0, 1e-12);
    close(single.effective_rank, 1.0, 1e-12);
}

#[test]
fn magnitudes_and_directions_change_as_equations_3_and_4_say() {
    // Column 0 grows by half, column 1 turns by 60 degrees, column 2 stays.
    let base = DMatrix::from_row_slice(2, 3, &[2.0, 1.0, 0.0, 0.0, 0.0, 3.0]);
    let tuned = DMatrix::from_row_slice(2, 3, &[3.0, 0.5, 0.0, 0.0, 0.75_f64.sqrt(), 3.0]);
    let update = Update::Dense(&tuned - &base);
    let change = decomposition::change(&base, &update).unwrap();
    for (got, want) in change.magnitude.iter().zip([1.0, 0.0, 0.0]) {
        close(*got, want, 1e-15);
    }
    for (got, want) in change.direction.iter().zip([0.0, 0.5, 0.0]) {
        close(*got, want, 1e-15);
    }
    let dynamics = decomposition::dynamics(&base, &[update]).unwrap();
    close(dynamics.magnitude[0], 1.0 / 3.0, 1e-15);
    close(dynamics.direction[0], 0.5 / 3.0, 1e-15);
    assert!(matches!(dynamics.correlation(), Err(SubspaceError::TooFew { .. })));
    // A change of 1e-9 turns by its square: the difference of two cosines would only see rounding.
    let small = DMatrix::from_row_slice(2, 3, &[0.0, 0.0, 0.0, 2e-9, 0.0, 0.0]);
    let turned = decomposition::change(&base, &Update::Dense(small)).unwrap().direction[0];
    close(turned / 5e-19, 1.0, 1e-9);
    close(decomposition::pearson(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]).unwrap().unwrap(), 1.0, 1e-15);
    close(decomposition::pearson(&[1.0, 2.0, 4.0], &[-1.0, -2.0, -4.0]).unwrap().unwrap(), -1.0, 1e-15);
    assert_eq!(decomposition::pearson(&[0.1, 0.1, 0.1], &[1.0, 2.0, 3.0]).unwrap(), None);
}

#[test]
fn a_frozen_factor_reaches_its_own_updates_and_a_share_of_others() {
    let a = gaussian(29, 30, 5);
    let own = Update::LowRank(LowRank::new(a.clone(), gaussian(30, 5, 20)).unwrap());
    close(captured_energy::captured_energy(&own, &a, Side::Input).unwrap(), 1.0, 1e-12);
    let shares = (0..300).map(|seed| {
        let dense = Update::Dense(gaussian(1000 + seed, 30, 20));
        captured_energy::captured_energy(&dense, &a, Side::Input).unwrap()
    });
    let shares: Vec<f64> = shares.collect();
    let (mean, error) = moments(shares.iter().copied());
    close(mean, mean_captured_energy(30, 5), 4.0 * error);
    assert!(matches!(
        captured_energy::captured_energy(&own, &gaussian(1, 7, 2), Side::Input),
        Err(SubspaceError::Dimensions { .. })
    ));
}

#[test]
fn an_update_before_its_first_step_has_moved_nowhere() {
    let a = gaussian(31, 12, 3);
    let at = |b: DMatrix<f64>| Update::LowRank(LowRank::new(&a * 2.0, b).unwrap());
    let end = gaussian(32, 3, 9);
    let checkpoints = [at(DMatrix::zeros(3, 9)), at(&end * 0.5), at(end)];
    let moments = trajectory::trajectory(&checkpoints, Side::Output).unwrap();
    assert_eq!((moments[0].norm, moments[0].step, &moments[0].phi_final), (0.0, 0.0, &None));
    close(moments[0].to_final, 1.0, 1e-12);
    close(moments[1].to_final, 0.5, 1e-12);
    close(moments[1].phi_final.as_ref().unwrap().at(1, 1), 1.0, 1e-12);
    close(moments[2].to_final, 0.0, 1e-12);
    assert_eq!(
        trajectory::trajectory(&checkpoints[..1], Side::Input).unwrap_err(),
        SubspaceError::RankZero { name: "ΔW" }
    );
}

#[test]
fn what_cannot_be_measured_is_one_clear_error() {
    let (a, b) = (gaussian(33, 6, 2), gaussian(34, 2, 5));
    let with = |matrix: &DMatrix<f64>, value: f64| {
        let mut changed = matrix.clone();
        changed[(1, 0)] = value;
        changed
    };
    let base = gaussian(35, 6, 4);
    let update = Update::LowRank(LowRank::new(a.clone(), b.clone()).unwrap());
    let refused = |a: DMatrix<f64>, b: DMatrix<f64>| SubspaceError::from(LowRank::new(a, b).unwrap_err());
    let errors: Vec<(SubspaceError, &str)> = vec![
        (
            refused(with(&a, f64::NAN), b.clone()),
            "`a` holds `NaN` at row 1, column 0, but directions need finite numbers; leave failed runs out",
        ),
        (
            refused(a.clone(), with(&b, f64::INFINITY)),
            "`b` holds `inf` at row 1, column 0, but directions need finite numbers; leave failed runs out",
        ),
        (
            refused(&a * f64::NAN, b.clone()),
            "`a` holds `NaN` at row 0, column 0, but directions need finite numbers; leave failed runs out",
        ),
        (
            refused(DMatrix::zeros(0, 2), b.clone()),
            "`a` is `[0, 2]`, but a matrix needs at least one row and one column; leave the map out",
        ),
        (
            refused(a.clone(), gaussian(1, 3, 5)),
            "`a` is `[6, 2]` and `b` is `[3, 5]`, but `a` must have as many columns as `b` has rows; take both factors from one map",
        ),
        (
            LowRank::new(a.clone(), DMatrix::zeros(2, 5)).unwrap().svd().unwrap_err(),
            "`ΔW` has rank 0, so it has no directions; an update with `b` at zero is untrained: take a later checkpoint, or compare `a`",
        ),
        (
            decomposition::change(&base, &update).unwrap_err(),
            "`ΔW` is `[6, 5]`, but `W0` is `[6, 4]`; compare an adapter with its own base and map",
        ),
        (
            table(&base, &update.svd().unwrap(), &Svd::full(&base).unwrap(), &[1]).unwrap_err(),
            "`W` is `[6, 4]`, but `U Vᵀ` is `[6, 5]`; compare an adapter with its own base and map",
        ),
        (
            phi(&frame(1, 6, 2), &frame(2, 7, 2)).unwrap_err(),
            "the directions live in 6 and 7 dimensions, but only directions of one space can be compared; choose one map and one side",
        ),
        (frame(1, 6, 2).first(3).unwrap_err(), "3 directions are asked for, but there are 2; use 1..=2"),
        (overlap::overlap(&[frame(1, 6, 2)]).unwrap_err(), "1 subspaces, but at least 2 are needed; add some"),
        (band(6, (2, 2), 10, 0).unwrap_err(), "10 draws, but a 95% band needs at least 40; draw more"),
        (
            decomposition::change(&DMatrix::zeros(6, 5), &update).unwrap_err(),
            "column 0 of `W0` is zero, so it has no direction; leave the map out",
        ),
    ];
    for (error, message) in errors {
        assert_eq!(error.to_string(), message);
    }
    assert!(matches!(Basis::orthonormal(a), Err(SubspaceError::NotOrthonormal { .. })));
    assert!(matches!(Svd::full(&with(&base, f64::NAN)), Err(SubspaceError::Update(UpdateError::NotFinite { .. }))));
    assert!(matches!(projections(&base, &a_frame(), &a_frame()), Err(SubspaceError::Shapes { .. })));
}

fn a_frame() -> DMatrix<f64> {
    frame(3, 5, 2).directions().clone()
}

/// Two updates on one map, of any small shape and rank.
fn pair() -> impl Strategy<Value = (LowRank, LowRank)> {
    (1_usize..9, 1_usize..9, 1_usize..5, 1_usize..5, any::<u64>()).prop_map(|(d_in, d_out, first, second, seed)| {
        let mut gaussian = Gaussian::new(seed);
        let mut update = |rank| {
            let (a, b) = (gaussian.matrix(d_in, rank), gaussian.matrix(rank, d_out));
            LowRank::new(a * 0.5, b).unwrap()
        };
        (update(first), update(second))
    })
}

proptest! {
    #[test]
    fn phi_is_a_similarity((one, other) in pair(), side in prop_oneof![Just(Side::Input), Just(Side::Output)]) {
        let (first, second) = (one.svd().unwrap().basis(side), other.svd().unwrap().basis(side));
        let there = phi(&first, &second).unwrap();
        let back = phi(&second, &first).unwrap();
        for entry in there.entries() {
            prop_assert!((0.0..=1.0).contains(&entry.phi));
            prop_assert!((entry.phi - back.at(entry.j, entry.i)).abs() < 1e-12);
            // The definition, one norm per pair of cuts.
            let (u, v) = (first.first(entry.i).unwrap(), second.first(entry.j).unwrap());
            let norm = transposed_product(u.directions(), v.directions()).norm_squared();
            prop_assert!((entry.phi - norm / entry.i.min(entry.j) as f64).abs() < 1e-12);
        }
    }

    #[test]
    fn phi_does_not_see_rotations_signs_or_scale((one, other) in pair(), seed in any::<u64>()) {
        let (d_in, _) = one.shape();
        let (first, second) = (one.svd().unwrap().basis(Side::Input), other.svd().unwrap().basis(Side::Input));
        let want = phi(&first, &second).unwrap();
        let rotation = frame(seed, d_in, d_in).directions().clone();
        let turned = phi(&first.rotated(&rotation).unwrap(), &second.rotated(&rotation).unwrap()).unwrap();
        let signs = DMatrix::from_fn(d_in, first.rank(), |row, col| {
            if seed >> (col % 64) & 1 == 1 { -first.directions()[(row, col)] } else { first.directions()[(row, col)] }
        });
        let flipped = phi(&Basis::orthonormal(signs).unwrap(), &second).unwrap();
        let scaled = LowRank::new(one.down() * -3.0, one.up().clone()).unwrap();
        let scaled = phi(&scaled.svd().unwrap().basis(Side::Input), &second).unwrap();
        for got in [turned, flipped, scaled] {
            prop_assert!((got.values() - want.values()).amax() < 1e-9);
        }
    }

    #[test]
    fn nested_spaces_overlap_fully(seed in any::<u64>(), dimension in 1_usize..12, k in 1_usize..12) {
        prop_assume!(k <= dimension);
        let basis = frame(seed, dimension, k);
        let phi = phi(&basis, &basis).unwrap();
        for entry in phi.entries() {
            prop_assert!((entry.phi - 1.0).abs() < 1e-12);
        }
        // So does a rotation within the space, at its full rank.
        let within = product(basis.directions(), frame(seed ^ 1, k, k).directions());
        let turned = Basis::orthonormal(within).unwrap();
        prop_assert!((self::phi(&basis, &turned).unwrap().at(k, k) - 1.0).abs() < 1e-12);
        prop_assert!(projection_distance(&basis, &turned).unwrap() < 1e-12);
    }

    #[test]
    fn products_decompose_as_their_dense_matrix((one, other) in pair()) {
        let (dense, factored) = (Svd::full(&one.dense()).unwrap(), one.svd().unwrap());
        prop_assert_eq!(dense.rank(), factored.rank());
        for (got, want) in factored.values().iter().zip(dense.values()) {
            prop_assert!((got - want).abs() < 1e-12 * dense.values()[0]);
        }
        prop_assert!((factored.norm() - one.norm()).abs() < 1e-12 * one.norm());
        let (first, second) = (Update::LowRank(one.clone()), Update::LowRank(other.clone()));
        let distance = (one.dense() - other.dense()).norm();
        prop_assert!((first.distance(&second) - distance).abs() < 1e-12 * (1.0 + distance));
    }

    #[test]
    fn ranks_lie_between_one_and_the_numerical_rank((one, _) in pair()) {
        let spectrum = spectrum(&one.svd().unwrap());
        let range = 1.0 - 1e-12..=spectrum.rank as f64 + 1e-12;
        prop_assert!(range.contains(&spectrum.stable_rank) && range.contains(&spectrum.effective_rank));
        prop_assert!((spectrum.energy.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_intrude_does_not(seed in any::<u64>(), size in -4.0..1.0_f64, rank in 1_usize..4, wide in 12_usize..28) {
        let mut gaussian = Gaussian::new(seed);
        let w = gaussian.matrix(24, wide);
        let update = product(&gaussian.matrix(24, rank), &gaussian.matrix(rank, wide)) * 10_f64.powf(size);
        let change = Svd::full(&update).unwrap();
        let (base, tuned) = (Svd::full(&w).unwrap(), Svd::full(&(&w + &update)).unwrap());
        for (count, epsilon) in [(1, 0.5), (5, 0.5), (10, 0.5), (10, 0.9)] {
            let found = intruders(&base, &tuned, Side::Output, count, epsilon).unwrap();
            prop_assert!(may_intrude(&base, &change, count, epsilon).unwrap() || found.iter().all(|one| !one.is_intruder));
        }
        // An update far below the gaps is certain.
        prop_assert!(!may_intrude(&base, &Svd::full(&(update * 1e-9)).unwrap(), 1, 0.5).unwrap());
    }
}
