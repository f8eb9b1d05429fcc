//! The tables of a study over made-up adapters.

use lowrank::{LowRank, Update};
use nalgebra::DMatrix;

use super::*;
use crate::subspace::random::Gaussian;

mod pairs;
mod runs;

pub(crate) const MAPS: [&str; 4] = [
    "encoder.layer.0.attention.self.query",
    "encoder.layer.0.attention.self.value",
    "encoder.layer.1.attention.self.query",
    "encoder.layer.1.attention.self.value",
];

/// A run whose first direction of `A` is the first axis at every rank and seed; the others are random.
pub(crate) fn sample(variant: &str, rank: usize, seed: u64) -> AdapterSample {
    let dimension = 40;
    let mut gaussian = Gaussian::new(1000 * rank as u64 + seed);
    let mut map = || {
        let mut a = gaussian.matrix(dimension, rank);
        a.row_mut(0).fill(0.0);
        a.column_mut(0).fill(0.0);
        a[(0, 0)] = 100.0;
        let b = gaussian.matrix(rank, dimension);
        let update = Update::LowRank(LowRank::new(a * 0.1, b).unwrap());
        Map { base: Some(Arc::new(gaussian.matrix(dimension, dimension))), update }
    };
    let maps: BTreeMap<String, Map> = MAPS.iter().map(|name| ((*name).to_owned(), map())).collect();
    let scaled = |share: f64| {
        let shrunk = |map: &Map| match &map.update {
            Update::LowRank(product) => {
                Update::LowRank(LowRank::new(product.down() * share, product.up().clone()).unwrap())
            }
            Update::Dense(matrix) => Update::Dense(matrix * share),
        };
        maps.iter().map(|(name, map)| (name.clone(), shrunk(map))).collect()
    };
    let snapshots = BTreeMap::from([(10, scaled(0.5)), (20, scaled(1.0))]);
    let cell = CellId { task: "sst2".to_owned(), variant: variant.to_owned(), rank, seed };
    AdapterSample {
        name: cell.to_string(),
        cell,
        frozen_inputs: variant == "lora_fa",
        trains_base: false,
        base_hash: "base".to_owned(),
        snapshots,
        maps,
    }
}

/// A run whose update is a full matrix.
pub(crate) fn dense(seed: u64) -> AdapterSample {
    let mut sample = sample("full", 3, seed);
    sample.cell.rank = 0;
    sample.trains_base = true;
    for map in sample.maps.values_mut() {
        map.update = Update::Dense(map.update.dense());
    }
    sample
}

#[test]
fn a_maps_name_tells_its_layer_and_kind() {
    assert_eq!(place("encoder.layer.3.attention.self.query"), (Some(3), "query".to_owned()));
    assert_eq!(place("encoder.layer.3.attention.output.dense"), (Some(3), "attention.output.dense".to_owned()));
    assert_eq!(place("encoder.layer.3.output.dense"), (Some(3), "output.dense".to_owned()));
    assert_eq!(place("classifier"), (None, "classifier".to_owned()));
}

#[test]
fn a_planted_direction_is_found_between_ranks_and_between_seeds() {
    let samples: Vec<AdapterSample> =
        [2, 4].into_iter().flat_map(|rank| [0, 1].map(|seed| sample("lora", rank, seed))).collect();
    let pair = |between, one, other| overlap::Pair { between, one, other, shared_start: false };
    assert_eq!(
        overlap::pairs(&samples),
        [
            pair(overlap::Between::Ranks, 0, 3),
            pair(overlap::Between::Seeds, 0, 1),
            pair(overlap::Between::Ranks, 1, 2),
            pair(overlap::Between::Seeds, 2, 3)
        ]
    );
    // One seed alone: its ranks share their first values, and the rows say so.
    let one_seed = [sample("lora", 2, 0), sample("lora", 4, 0)];
    assert!(
        overlap::pairs(&one_seed)[0].shared_start && overlap::rows(&one_seed).unwrap().iter().all(|r| r.shared_start)
    );
    let rows = overlap::rows(&samples).unwrap();
    let of_a: Vec<_> = rows.iter().filter(|row| row.side == "a").collect();
    // Cuts of ranks 2 and 2: (1,1) (1,2) (2,2); twice of 2 and 4: these and (1,3) (1,4) (2,4); of 4 and 4: (4,4) as well.
    assert_eq!(of_a.len(), MAPS.len() * (3 + 2 * 6 + 7));
    for row in of_a.iter().filter(|row| (row.i, row.j) == (1, 1)) {
        assert!(row.phi > 1.0 - 1e-12, "{row:?}");
        assert!(row.phi > row.random_high && row.random_high > row.random_mean, "{row:?}");
    }
    // On the other side nothing is shared, and nearly all pairs stay within the band.
    let of_b: Vec<_> = rows.iter().filter(|row| row.side == "b" && (row.i, row.j) == (1, 1)).collect();
    assert!(of_b.iter().filter(|row| row.phi > row.random_high).count() <= of_b.len() / 4, "{of_b:?}");
    let csv = frame::csv(&rows).unwrap();
    assert_eq!(csv.lines().count(), rows.len() + 1);
    assert!(csv.starts_with("task,variant,between,map,side,first_rank,first_seed,second_rank,second_seed,i,j,phi,"));
}

#[test]
fn table_7_has_a_row_per_run_and_map() {
    let samples = [sample("lora", 2, 0), dense(0)];
    let rows = projection::rows(&samples).unwrap();
    assert_eq!(rows.len(), MAPS.len(), "a full update has no directions of its own number");
    for row in &rows {
        assert_eq!((row.directions, row.rank), (2, 2));
        assert!(row.onto_base > row.onto_update && row.onto_base > row.onto_random, "{row:?}");
        let factor = row.amplification.unwrap();
        assert!((factor - row.update_norm / row.onto_update).abs() < 1e-12 * factor);
    }
}

#[test]
fn shapes_and_movement_cover_factored_and_dense_updates_alike() {
    let samples = [sample("lora", 3, 0), dense(0)];
    let shapes = spectrum::rows(&samples).unwrap();
    assert_eq!(shapes.len(), 2 * MAPS.len());
    let (one, other) = shapes.split_at(MAPS.len());
    for (one, other) in one.iter().zip(other) {
        assert_eq!(one.numerical_rank, other.numerical_rank);
        assert!((one.stable_rank - other.stable_rank).abs() < 1e-9, "{one:?} {other:?}");
    }
    let moves = magnitude_direction::rows(&samples).unwrap();
    assert_eq!(moves.len(), 2 * 2 * MAPS.len());
    for row in &moves {
        assert!((row.to_final - if row.step == 10 { 0.5 } else { 0.0 }).abs() < 1e-9, "{row:?}");
        assert!((row.first_direction.unwrap() - 1.0).abs() < 1e-9);
        assert!(row.delta_direction.unwrap() > 0.0);
    }
}

#[test]
fn a_full_update_within_the_frozen_factors_span_is_reached_whole() {
    let frozen = sample("lora_fa", 3, 0);
    let mut full = dense(0);
    for (name, map) in &mut full.maps {
        map.update = Update::Dense(frozen.maps[name].update.dense());
    }
    let rows = captured_energy::rows(&[frozen, full]).unwrap();
    assert_eq!(rows.len(), MAPS.len());
    assert!(rows.iter().all(|row| (row.captured - 1.0).abs() < 1e-9 && row.random_mean == 3.0 / 40.0), "{rows:?}");
}

#[test]
fn what_cannot_be_compared_is_said_by_name() {
    let (one, mut other) = (sample("lora", 2, 0), sample("lora", 2, 1));
    other.maps = other.maps.into_iter().map(|(name, map)| (format!("other.{name}"), map)).collect();
    let message = pair::between(&one, &other, Directions::A).unwrap_err().to_string();
    assert!(
        message.contains("share no map") && message.contains("other.encoder") && message.contains("1 more"),
        "{message}"
    );
    let message = pair::between(&one, &dense(0), Directions::B).unwrap_err().to_string();
    assert!(message.contains("has no factors") && message.contains("delta-input"), "{message}");
    let mut untrained = sample("lora", 2, 2);
    let map = untrained.maps.get_mut(MAPS[0]).unwrap();
    map.update = Update::LowRank(LowRank::new(DMatrix::identity(40, 2), DMatrix::zeros(2, 40)).unwrap());
    let message = pair::between(&one, &untrained, Directions::DeltaInput).unwrap_err().to_string();
    assert!(message.contains(MAPS[0]), "{message}");
}

#[test]
fn overlaps_of_seeds_have_intervals_and_differences() {
    let samples: Vec<AdapterSample> = (0..4).map(|seed| sample("lora", 8, seed)).collect();
    let rows = seeds::rows(&samples).unwrap();
    let of = |side: &str, kind: &str, k: usize| {
        rows.iter().filter(|r| (r.side, r.kind.as_str(), r.k) == (side, kind, k)).collect::<Vec<_>>()
    };
    // The first direction of A is planted at every seed: full overlap, no spread.
    for row in of("a", "query", 1) {
        assert!((row.mean - 1.0).abs() < 1e-12 && row.n == 4, "{row:?}");
        assert!(row.ci_high.unwrap() - row.ci_low.unwrap() < 1e-9);
        assert_eq!(row.random_mean, Some(1.0 / 40.0));
    }
    let [difference] = of("a", "query minus value", 8)[..] else { panic!("one row per cut") };
    let mean = |kind: &str| of("a", kind, 8).iter().map(|row| row.mean).sum::<f64>() / 2.0;
    assert!((difference.mean - (mean("query") - mean("value"))).abs() < 1e-12);
    assert!(difference.ci_low.unwrap() < difference.mean && difference.layer.is_none());
}

#[test]
fn the_random_column_agrees_with_its_closed_form() {
    let maps = sample("lora", 2, 0).maps;
    let bases = maps.into_iter().map(|(name, map)| (name, map.base.unwrap())).collect();
    let rows = random_column::rows(&bases).unwrap();
    assert_eq!(rows.len(), MAPS.len(), "64 directions do not fit into 40");
    for row in &rows {
        assert!((row.mean_square - row.expected).abs() < 4.0 * row.standard_error, "{row:?}");
    }
}

#[test]
fn correlations_are_those_of_the_maps_that_all_variants_change() {
    let mut wider = dense(0);
    let extra = wider.maps[MAPS[0]].clone();
    wider.maps.insert("encoder.layer.0.output.dense".to_owned(), extra);
    for maps in wider.snapshots.values_mut() {
        let update = maps[MAPS[0]].clone();
        maps.insert("encoder.layer.0.output.dense".to_owned(), update);
    }
    let rows = magnitude_direction::rows(&[sample("lora", 3, 0), wider]).unwrap();
    let found = magnitude_direction::correlations(&rows);
    assert_eq!(found.iter().map(|c| (c.variant.as_str(), c.points)).collect::<Vec<_>>(), [("full", 8), ("lora", 8)]);
    assert!(found.iter().all(|c| c.pearson.is_some_and(|r| r.abs() <= 1.0 + 1e-12)), "{found:?}");
}

#[test]
fn the_base_contains_an_update_made_of_its_own_directions() {
    let mut run = sample("lora", 2, 0);
    for map in run.maps.values_mut() {
        // The update is the base's own two leading triplets.
        let svd = DMatrix::clone(map.base.as_ref().unwrap()).svd(true, true);
        let (u, v_t) = (svd.u.unwrap(), svd.v_t.unwrap());
        let a = u.columns(0, 2) * DMatrix::from_diagonal(&nalgebra::DVector::from_vec(vec![2.0, 1.0]));
        map.update = Update::LowRank(LowRank::new(a, v_t.rows(0, 2).into_owned()).unwrap());
    }
    let rows = heatmap::rows(&run, crate::subspace::Side::Input, 5).unwrap();
    assert_eq!(rows.len(), MAPS.len() * 5 * 2);
    for row in rows.iter().filter(|row| row.i >= row.j) {
        assert!((row.phi - 1.0).abs() < 1e-9, "{row:?}");
    }
}

#[test]
fn layers_tasks_variants_and_checkpoints_are_compared() {
    let other_task = |seed| {
        let mut sample = sample("lora", 3, seed);
        sample.cell.task = "wnli".to_owned();
        sample
    };
    let samples = [sample("lora", 3, 0), sample("lora", 3, 1), other_task(1), sample("dylora", 3, 1)];
    let rows = across::rows(&samples).unwrap();
    let count = |kind: &str| rows.iter().filter(|row| row.between == kind && row.side == "a" && row.k == 1).count();
    // One pair of layers per kind and run; every snapshot with the end; both lora runs with the one of the other task; dylora's with
    // the lora run of another seed.
    assert_eq!(count("layers"), 2 * samples.len());
    assert_eq!(count("checkpoints"), 2 * MAPS.len() * samples.len());
    assert_eq!((count("tasks"), count("variants")), (2 * MAPS.len(), MAPS.len()));
    for row in &rows {
        let shared = row.between == "checkpoints" || (row.between == "tasks" && row.first.ends_with("s1"));
        assert_eq!(row.shared_start, shared, "{row:?}");
        if row.side == "a" && row.k == 1 {
            assert!(row.phi > 1.0 - 1e-12 && row.random_high < 0.5, "the planted direction: {row:?}");
        }
        if row.between == "checkpoints" {
            assert!(row.phi > 1.0 - 1e-10, "a shrunken update keeps its directions: {row:?}");
        }
    }
}

#[test]
fn layers_of_one_adapter_have_every_cut() {
    let sample = sample("lora", 3, 0);
    let rows = across::layers(&sample, Directions::A).unwrap();
    assert_eq!(rows.len(), 2 * 9);
    assert!(rows.iter().all(|row| (row.first_layer, row.second_layer) == (0, 1) && row.phi <= 1.0 + 1e-12));
    assert!(rows.iter().filter(|row| (row.i, row.j) == (1, 1)).all(|row| row.phi > 1.0 - 1e-12));
}

#[test]
fn directions_carry_the_energy_of_their_map() {
    let samples = [sample("lora", 3, 0)];
    let rows = spectrum::directions(&samples).unwrap();
    assert_eq!(rows.len(), 3 * MAPS.len());
    for map in rows.chunks(3) {
        assert!((map[2].cumulative - 1.0).abs() < 1e-12 && map[0].value >= map[1].value, "{map:?}");
        let norm = samples[0].maps[&map[0].map].update.norm();
        assert!((map[0].value.powi(2) / norm.powi(2) - map[0].energy).abs() < 1e-12);
    }
}

#[test]
fn reach_of_a_pair_is_one_for_its_own_update_and_refuses_other_bases() {
    let (one, full) = (sample("lora", 3, 0), dense(1));
    let own = captured_energy::between(&one, &one).unwrap();
    assert!(own.len() == MAPS.len() && own.iter().all(|row| (row.captured - 1.0).abs() < 1e-12 && row.rank == 3));
    let rows = captured_energy::between(&one, &full).unwrap();
    assert!(
        rows.iter().all(|row| row.captured > row.random_mean && row.captured < 1.0),
        "they share the planted direction"
    );
    assert!(matches!(captured_energy::between(&full, &one), Err(MeasureError::NoFactors { .. })));
    let mut other = sample("lora", 3, 1);
    other.base_hash = "another".to_owned();
    assert!(matches!(captured_energy::between(&one, &other), Err(MeasureError::OtherBase { .. })));
}

/// The adapters of one base share its maps, and what is computed of them.
fn on_one_base(mut samples: Vec<AdapterSample>) -> Vec<AdapterSample> {
    let bases: Vec<_> = samples[0].maps.values().map(|map| map.base.clone()).collect();
    for sample in &mut samples {
        sample.maps.values_mut().zip(&bases).for_each(|(map, base)| map.base.clone_from(base));
    }
    samples
}

#[test]
fn adapters_that_come_one_at_a_time_have_the_rows_of_those_that_come_together() {
    let kinds = |seed| [sample("lora", 2, seed), sample("lora", 4, seed), sample("lora_fa", 2, seed), dense(seed)];
    let samples = on_one_base((0..3).flat_map(kinds).collect());
    let measures = study::Measures::of(samples.clone()).unwrap();
    assert_eq!(measures.left_out(), 0);
    let files = measures.files("probe").unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "table7.txt",
            "table7.md",
            "table7.tex",
            "seeds.csv",
            "random_column.csv",
            "correlation.csv",
            "overlap.csv",
            "across.csv",
            "projection.csv",
            "shape.csv",
            "movement.csv",
            "span.csv"
        ]
    );
    let text = |name: &str| files.iter().find(|file| file.name == name).map(|file| file.text.clone());
    // Every base a memory of its own, so that nothing is shared.
    let apart: Vec<AdapterSample> = samples
        .iter()
        .map(|sample| {
            let mut sample = sample.clone();
            for map in sample.maps.values_mut() {
                map.base = map.base.as_ref().map(|base| Arc::new(DMatrix::clone(base)));
            }
            sample
        })
        .collect();
    assert_eq!(text("projection.csv"), frame::csv(&projection::rows(&apart).unwrap()).ok());
    assert_eq!(text("shape.csv"), frame::csv(&spectrum::rows(&apart).unwrap()).ok());
    assert_eq!(text("movement.csv"), frame::csv(&magnitude_direction::rows(&apart).unwrap()).ok());
    assert_eq!(text("seeds.csv"), frame::csv(&seeds::rows(&apart).unwrap()).ok());
    assert_eq!(text("span.csv"), frame::csv(&captured_energy::rows(&apart).unwrap()).ok());
}

#[test]
fn what_grows_with_the_square_of_the_seeds_is_made_of_the_first_ones() {
    let many = study::MOST_COMPARED + 3;
    let samples = on_one_base((0..many as u64).map(|seed| sample("lora", 2, seed)).collect());
    let measures = study::Measures::of(samples.clone()).unwrap();
    assert_eq!(measures.left_out(), 3);
    let files = measures.files("probe").unwrap();
    let rows = |name: &str| files.iter().find(|file| file.name == name).and_then(|file| file.rows).unwrap();
    assert_eq!((rows("projection.csv"), rows("shape.csv")), (many * MAPS.len(), many * MAPS.len()));
    let first = &samples[..study::MOST_COMPARED];
    assert_eq!(rows("overlap.csv"), overlap::rows(first).unwrap().len());
    assert!(measures.seeds == seeds::rows(first).unwrap() && measures.seeds.iter().all(|row| row.n == first.len()));
}
