//! Every law over every preset of the registry, over shapes, ranks and numbers of runs.

use variants::{
    laws::{Case, LAWS},
    preset,
};

/// Square, wide, tall and prime.
const SHAPES: [[usize; 2]; 4] = [[6, 6], [4, 9], [9, 4], [7, 11]];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for preset in preset::all() {
        for shape in SHAPES {
            let full = shape[0].min(shape[1]);
            let spec = (preset.spec)(4);
            let bounded = spec.delta.as_ref().is_some_and(variants::delta::DeltaSpec::rank_bounded);
            let mut ranks = match &spec.delta {
                None => vec![0],
                Some(_) if bounded => vec![1, 4, full],
                Some(_) => vec![1, 4, full, 3 * full],
            };
            ranks.dedup();
            // A preset whose policy cannot work at a rank (a budget needs something to prune) is not a case.
            for rank in ranks.into_iter().filter(|rank| (preset.spec)(*rank).check(Some(1000)).is_ok()) {
                cases.extend([1, 3].map(|runs| Case { preset, shape, rank, runs }));
            }
        }
    }
    cases
}

#[track_caller]
fn check(law: &str) {
    let (_, holds) = LAWS.iter().find(|(name, _)| *name == law).expect("a law of that name");
    cases().iter().for_each(holds);
}

macro_rules! laws {
    ($($test:ident = $law:literal),+ $(,)?) => {
        $(#[test] fn $test() { check($law); })+

        #[test]
        fn no_law_is_left_out() {
            assert_eq!([$($law),+].len(), LAWS.len());
            for (name, _) in LAWS {
                assert!([$($law),+].contains(name), "{name} is not run");
            }
        }
    };
}

laws! {
    start = "the start is the base",
    forward = "forward is the dense product",
    merge = "merging preserves outputs",
    detach = "detaching restores the base",
    roles = "gradients reach the declared roles",
    differences = "gradients are finite differences",
    rank = "the rank is bounded",
    canonical = "the canonical form is the update",
    parameters = "parameters follow the formula",
    scaling = "the update scales as declared",
    seeds = "first values follow the seed",
    independence = "runs are independent",
    yaml = "the spec survives yaml",
    copies = "the base has the declared copies",
}

#[test]
fn every_preset_has_cases() {
    for preset in preset::all() {
        assert!(cases().iter().filter(|case| case.preset.name == preset.name).count() >= 8, "{}", preset.name);
    }
}
