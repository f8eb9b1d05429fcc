//! Two hundred random compositions of the axes: each obeys every law, or is refused for a reason that is true.

use std::collections::{BTreeMap, BTreeSet};

use variants::{
    delta::DeltaSpec,
    laws::{
        LAWS, Outcome,
        compositions::{cases, drawn, refusals},
    },
    presets::lora,
};

/// Whether descent finds a teacher is a matter of the landscape, which two mechanisms together may make rugged; presets have to find it.
const OF_PRESETS: &str = "a planted update is recovered";

#[test]
fn random_compositions_obey_the_laws_or_are_refused_for_a_true_reason() {
    let (mut legal, mut refused, mut laws) = (0, 0, 0);
    let (mut kinds, mut reasons) = (BTreeSet::new(), BTreeMap::<String, usize>::new());
    for seed in 0..200 {
        let spec = Box::leak(Box::new(drawn(seed)));
        let found = refusals(spec, 1000);
        for problem in &found {
            *reasons.entry(problem.field.clone()).or_default() += 1;
        }
        if !found.is_empty() {
            refused += 1;
            continue;
        }
        legal += 1;
        kinds.extend(spec.delta.as_ref().map(DeltaSpec::kind));
        let cases = cases(spec);
        // LoRA itself is no other composition.
        if cases.is_empty() && *spec != lora::spec(spec.rank) {
            let misfit = spec.delta.as_ref().and_then(|delta| delta.misfit(spec.rank, [12, 12]));
            assert!(misfit.is_some_and(|why| why.contains("rank")), "it fits no shape: {spec:?}");
        }
        for (_, law) in LAWS.iter().filter(|(name, _)| *name != OF_PRESETS) {
            laws += cases.iter().filter(|case| law(case) == Outcome::Applied).count();
        }
    }
    println!("{legal} legal, with {laws} laws applied, of the deltas {kinds:?}; {refused} refused, at {reasons:?}");
    // Neither side is empty, or the draws say little.
    assert!(legal >= 60 && refused >= 60, "{legal} legal, {refused} refused");
}
