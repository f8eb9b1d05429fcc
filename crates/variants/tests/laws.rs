//! Every law over every preset of the registry, over shapes, ranks and numbers of runs.

use std::collections::{BTreeMap, BTreeSet};

use variants::{
    laws::{LAWS, Outcome, axes, cases},
    preset,
};

#[track_caller]
#[expect(clippy::print_stdout, reason = "a test's output says which law says nothing of which preset, and why")]
#[expect(clippy::disallowed_methods, reason = "`just laws` asks for the counts by a folder")]
fn check(law: &str) {
    let (_, holds) = LAWS.iter().find(|(name, _)| *name == law).expect("a law of that name");
    let mut applied = BTreeSet::new();
    let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    // Of one thread, and the test in it: to hand products of some dozen numbers to a pool takes longer than to compute them.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| {
        for case in cases() {
            match holds(&case) {
                Outcome::Applied => _ = applied.insert(case.preset.name),
                Outcome::NotApplicable(reason) => _ = reasons.entry(case.preset.name).or_default().insert(reason),
            }
        }
    });
    if let Ok(folder) = std::env::var("LORA_LAB_LAWS") {
        let of_preset = |preset: &&str| format!("{preset}\n");
        let path = std::path::Path::new(&folder).join(law);
        std::fs::write(path, applied.iter().map(of_preset).collect::<String>()).expect("the folder is there");
    }
    assert!(!applied.is_empty(), "the law `{law}` applies to no preset: {reasons:?}");
    for (preset, reasons) in reasons.iter().filter(|(preset, _)| !applied.contains(**preset)) {
        println!(
            "the law `{law}` says nothing of `{preset}`: {}",
            reasons.iter().copied().collect::<Vec<_>>().join("; ")
        );
    }
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
    mixtures = "rows mix their experts",
    merge = "merging preserves outputs",
    detach = "detaching restores the base",
    rank = "the rank is bounded",
    canonical = "the canonical form is the update",
    parameters = "parameters follow the formula",
    scaling = "the update scales as declared",
    dropout = "dropout acts where declared",
    roles = "gradients reach the declared roles",
    differences = "gradients are finite differences",
    penalties = "penalties have their gradients",
    inputs = "input gradients are finite differences",
    inputs_among_stacks = "input gradients hold among stacks",
    shared_inputs = "maps that share an input sum its gradient",
    fused_inputs = "fused maps and their parts pass gradients on",
    norm_inputs = "norms pass gradients on",
    planted = "a planted update is recovered",
    independence = "runs are independent",
    stacks = "stacks are independent",
    nan = "nan stays in its run",
    tables = "tables obey the laws of maps",
    table_differences = "gradients of tables are finite differences",
    kept_tables = "tables keep what they are told to",
    compressed_tables = "tables are compressed to the best approximation",
    norms = "norms obey the laws of maps",
    carried = "a map says what it carries",
    gate = "the gate is the scale of active components",
    kept = "what is kept is as it was",
    fused = "a stack lies on one side of a fused map",
    seeds = "first values follow the seed",
    yaml = "the spec survives yaml",
    copies = "the base has the declared copies",
    saved = "saved tensors are the adapter",
    declarations = "parts are what they declare",
}

#[test]
fn every_preset_has_cases() {
    for preset in preset::all() {
        assert!(cases().iter().filter(|case| case.preset.name == preset.name).count() >= 12, "{}", preset.name);
    }
}

#[test]
fn every_axis_value_has_cases() {
    for axis in axes() {
        assert!(cases().iter().any(|case| case.axis.name == axis.name), "{}", axis.name);
    }
}
