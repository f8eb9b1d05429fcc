//! Which adapters and layers are compared, and what the rows of a comparison say.

use std::collections::BTreeSet;

use super::*;

/// A run of [`sample`] with its first map alone.
fn one_map(variant: &str, rank: usize, seed: u64) -> AdapterSample {
    let mut sample = sample(variant, rank, seed);
    sample.maps.retain(|name, _| name == MAPS[0]);
    sample.snapshots.clear();
    sample
}

/// An adapter with one map, whose factor on the inputs has these columns `[d_in, r]`, longest first.
fn planes(name: &str, down: DMatrix<f64>) -> AdapterSample {
    let mut sample = one_map("lora", down.ncols(), 0);
    name.clone_into(&mut sample.name);
    let up = DMatrix::identity(down.ncols(), down.nrows());
    let map = Map { base: None, update: Update::LowRank(LowRank::new(down, up).unwrap()) };
    sample.maps = BTreeMap::from([("map".to_owned(), map)]);
    sample
}

#[test]
fn two_planes_have_the_overlap_and_the_angles_that_they_were_made_with() {
    let angle = 0.3_f64;
    let columns = |values: [f64; 8]| DMatrix::from_column_slice(4, 2, &values);
    let one = columns([3.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
    let other = columns([3.0 * angle.cos(), 0.0, 3.0 * angle.sin(), 0.0, 0.0, 0.0, 0.0, 2.0]);
    let (one, other) = (planes("one", one), planes("other", other));
    let phi = pair::phi_rows(&one, &other, Directions::A).unwrap();
    let square = angle.cos().powi(2);
    let want = [(1, 1, square), (1, 2, square), (2, 1, square), (2, 2, square / 2.0)];
    assert_eq!(phi.iter().map(|row| (row.i, row.j)).collect::<Vec<_>>(), want.map(|(i, j, _)| (i, j)));
    assert!(phi.iter().zip(want).all(|(row, (_, _, phi))| row.module == "map" && (row.phi - phi).abs() < 1e-12));
    let angles = pair::angle_rows(&one, &other, Directions::A).unwrap();
    assert_eq!(angles.iter().map(|row| row.k).collect::<Vec<_>>(), [1, 2]);
    let distance = (angle.sin().powi(2) + 1.0).sqrt();
    for (row, angle) in angles.iter().zip([angle, std::f64::consts::FRAC_PI_2]) {
        assert!((row.angle - angle).abs() < 1e-12 && (row.distance - distance).abs() < 1e-12, "{row:?}");
    }
}

#[test]
fn rows_as_json_have_the_fields_of_the_columns() {
    let rows = [pair::PhiRow { module: "query".to_owned(), i: 1, j: 2, phi: 0.25 }];
    let text = frame::json(&rows).unwrap();
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found, serde_json::json!([{"module": "query", "i": 1, "j": 2, "phi": 0.25}]));
    assert!(text.ends_with("]\n"));
}

#[test]
fn only_two_bases_with_a_name_can_differ() {
    for (first, second, is_refused) in [("x", "x", false), ("x", "", false), ("", "x", false), ("x", "y", true)] {
        let (mut one, mut other) = (one_map("lora", 2, 0), one_map("lora", 2, 1));
        first.clone_into(&mut one.base_hash);
        second.clone_into(&mut other.base_hash);
        assert_eq!(pair::between(&one, &other, Directions::A).is_err(), is_refused, "`{first}` `{second}`");
    }
}

#[test]
fn messages_name_both_adapters_and_three_maps() {
    let (mut one, mut other) = (sample("lora", 2, 0), sample("lora", 2, 1));
    one.maps = ["a", "b", "c"].map(|name| (name.to_owned(), one.maps[MAPS[0]].clone())).into();
    other.maps = ["d", "e", "f", "g"].map(|name| (name.to_owned(), other.maps[MAPS[0]].clone())).into();
    "one".clone_into(&mut one.name);
    "other".clone_into(&mut other.name);
    let message = pair::between(&one, &other, Directions::A).unwrap_err().to_string();
    assert_eq!(
        message,
        "`one` and `other` share no map; `one` has `a`, `b`, `c`, `other` has `d`, `e`, `f` and 1 more"
    );
    let nothing = planes("nothing", DMatrix::zeros(40, 2));
    let message = pair::between(&planes("all", DMatrix::identity(40, 2)), &nothing, Directions::A).unwrap_err();
    assert!(message.to_string().starts_with("`all and nothing`, map `map`: "), "{message}");
}

#[test]
fn overlaps_say_what_differs_and_what_is_shared_at_every_cut_of_a_table() {
    let mut full = dense(2);
    "lora".clone_into(&mut full.cell.variant);
    full.cell.rank = 8;
    let samples = [
        one_map("lora", 2, 0),
        one_map("lora", 8, 0),
        one_map("lora", 8, 1),
        one_map("lora_fa", 8, 0),
        one_map("lora_fa", 8, 1),
        full,
    ];
    let pair = |between, one, other| overlap::Pair { between, one, other, shared_start: false };
    // A full update has no directions of its own number, and variants are not mixed.
    assert_eq!(
        overlap::pairs(&samples),
        [pair(overlap::Between::Ranks, 0, 2), pair(overlap::Between::Seeds, 1, 2), pair(overlap::Between::Seeds, 3, 4)]
    );
    let rows = overlap::rows(&samples).unwrap();
    for row in &rows {
        assert_eq!(row.between, if row.first_rank == row.second_rank { "seeds" } else { "ranks" }, "{row:?}");
        // Only what never trains is the same at two seeds.
        assert_eq!(row.shared_start, row.variant == "lora_fa" && row.side == "a", "{row:?}");
    }
    let cuts = |rank: usize| -> Vec<(usize, usize)> {
        let own = rows.iter().filter(|row| row.first_rank == rank && row.variant == "lora" && row.side == "b");
        own.map(|row| (row.i, row.j)).collect()
    };
    // Beside the powers of two, the first direction against up to a tenth of the 40.
    assert_eq!(cuts(2), [(1, 1), (1, 2), (1, 3), (1, 4), (1, 8), (2, 2), (2, 4), (2, 8)]);
    assert_eq!(cuts(8), [&cuts(2)[..], &[(4, 4), (4, 8), (8, 8)]].concat());
}

#[test]
fn runs_meet_the_next_seed_of_one_rank_and_one_base() {
    let of_task = |task: &str, rank: usize, seed: u64| {
        let mut sample = one_map("lora", rank, seed);
        task.clone_into(&mut sample.cell.task);
        sample
    };
    let mut elsewhere = of_task("wnli", 2, 5);
    "another".clone_into(&mut elsewhere.base_hash);
    let mut samples: Vec<AdapterSample> =
        ["sst2", "wnli"].into_iter().flat_map(|task| [0, 1, 2].map(|seed| of_task(task, 2, seed))).collect();
    samples.extend([of_task("wnli", 3, 5), elsewhere]);
    let rows = across::rows(&samples).unwrap();
    let found: Vec<(&str, &str)> = rows
        .iter()
        .filter(|row| row.side == "a" && row.k == 1)
        .map(|row| (row.first.as_str(), row.second.as_str()))
        .collect();
    let slug = |at: usize| samples[at].cell.slug();
    let want = [(slug(0), slug(4)), (slug(1), slug(5)), (slug(2), slug(3))];
    assert_eq!(found, want.iter().map(|(one, other)| (one.as_str(), other.as_str())).collect::<Vec<_>>());
}

#[test]
fn layers_are_compared_within_their_kind_and_frozen_factors_need_no_training() {
    let samples = [sample("lora", 2, 1), sample("lora_fa", 2, 0)];
    let rows = across::rows(&samples).unwrap();
    let of = |between: &'static str| rows.iter().filter(move |row| row.between == between);
    for row in of("layers") {
        assert_eq!(place(&row.first_map).1, place(&row.second_map).1, "{row:?}");
        assert_eq!(row.shared_start, row.side == "a" && row.first == samples[1].cell.slug(), "{row:?}");
    }
    // One of the two is frozen, and their seeds are not the same.
    for row in of("variants") {
        assert_eq!(row.shared_start, row.side == "a", "{row:?}");
    }
    let sides: BTreeSet<(&str, &str)> = rows.iter().map(|row| (row.between, row.side)).collect();
    assert!(
        ["layers", "variants"]
            .iter()
            .all(|kind| sides.contains(&(*kind, "a")) && sides.contains(&(*kind, "delta-input")))
    );
}
