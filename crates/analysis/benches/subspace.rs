//! The subspace study of a RoBERTa-base-sized set of adapters, and of a few maps of width 4096; `bench/subspace.md` has the figures.
//!
//! ```text
//! cargo bench -p analysis --bench subspace
//! python bench/subspace_numpy.py
//! ```

use std::hint::black_box;
use std::time::Duration;

use analysis::subspace::Side;
use analysis::subspace::factored::{SingularDirections as _, Svd, factor_basis, svd_with};
use analysis::subspace::grassmann::{Phi, phi};
use analysis::subspace::parallel::map;
use analysis::subspace::projection::{Projection, table};
use analysis::subspace::random::Gaussian;
use analysis::subspace::top::{TopOptions, top};
use criterion::{Criterion, criterion_group, criterion_main};
use lowrank::LowRank;
use lowrank::linalg::Backend;
use nalgebra::DMatrix;

/// One adapted map: the base and two adapters of it.
struct Map {
    w: DMatrix<f64>,
    low: LowRank,
    high: LowRank,
}

/// How the singular values of the base fall.
#[derive(Clone, Copy)]
enum Decay {
    /// Column `j` scaled by `(j + 1)^-½`: a heavy-tailed spectrum, as trained maps have.
    Power,
    /// Gaussian entries: no gaps, the hardest case for leading directions.
    None,
}

fn maps(count: u64, d: usize, decay: Decay) -> Vec<Map> {
    let seeds: Vec<u64> = (0..count).collect();
    map(&seeds, |seed| {
        let mut gaussian = Gaussian::new(*seed);
        let mut w = gaussian.matrix(d, d) / (d as f64).sqrt();
        if let Decay::Power = decay {
            for (j, mut column) in w.column_iter_mut().enumerate() {
                column /= ((j + 1) as f64).sqrt();
            }
        }
        let mut adapter = |rank| LowRank::new(gaussian.matrix(d, rank) * 2.0, gaussian.matrix(rank, d));
        let (Ok(low), Ok(high)) = (adapter(8), adapter(64)) else { unreachable!("Gaussian factors are finite") };
        Map { w, low, high }
    })
}

/// All `φ` of r = 8 against r = 64, for both sides of `ΔW` and for A and B.
fn overlaps(map: &Map, low: &Svd, high: &Svd) -> Option<[Phi; 4]> {
    let delta = |side| phi(&low.basis(side), &high.basis(side)).ok();
    let factor = |side| phi(&factor_basis(&map.low, side).ok()?, &factor_basis(&map.high, side).ok()?).ok();
    Some([delta(Side::Input)?, delta(Side::Output)?, factor(Side::Input)?, factor(Side::Output)?])
}

fn phi_only(map: &Map) -> Option<[Phi; 4]> {
    overlaps(map, &map.low.svd().ok()?, &map.high.svd().ok()?)
}

/// All `φ`, and table 7 at r = 4 and 64 with `W`'s own leading 64 directions.
fn everything(map: &Map) -> Option<([Phi; 4], [Vec<Projection>; 2])> {
    let (low, high) = (map.low.svd().ok()?, map.high.svd().ok()?);
    let base = top(&map.w, 64, TopOptions::values()).ok()?.svd;
    let rows = [table(&map.w, &low, &base, &[4]).ok()?, table(&map.w, &high, &base, &[64]).ok()?];
    Some((overlaps(map, &low, &high)?, rows))
}

fn study(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("study");
    group.sample_size(10).warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
    for (name, count, d, decay) in [
        ("12 layers x 2 maps, d = 768", 24, 768, Decay::Power),
        ("12 layers x 2 maps, d = 768, no decay", 24, 768, Decay::None),
        ("2 maps, d = 4096", 2, 4096, Decay::Power),
    ] {
        let maps = maps(count, d, decay);
        group.bench_function(format!("phi: {name}"), |b| b.iter(|| black_box(map(&maps, phi_only))));
        group.bench_function(format!("phi and amplification: {name}"), |b| {
            b.iter(|| black_box(map(&maps, everything)));
        });
    }
    group.finish();
}

fn backends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("backend");
    group.sample_size(10).warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
    let mut maps = maps(1, 768, Decay::Power);
    let Some(Map { w, high, .. }) = maps.pop() else { unreachable!("one map was made") };
    let small = w.view((0, 0), (256, 256)).into_owned();
    for backend in Backend::ALL {
        group
            .bench_function(format!("{backend:?}: product, d = 768, r = 64"), |b| b.iter(|| svd_with(&high, *backend)));
        for matrix in [&small, &w] {
            let name = format!("{backend:?}: full, d = {}", matrix.nrows());
            group.bench_function(name, |b| b.iter(|| Svd::full_with(matrix, *backend)));
        }
    }
    group.finish();
}

criterion_group!(benches, study, backends);
criterion_main!(benches);
