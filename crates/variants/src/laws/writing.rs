//! Specs, seeds and names: what a variant is on paper and on disk.

use std::collections::BTreeSet;

use super::{Case, Outcome};
use crate::{
    adapted::AdaptedLinear,
    base::{BaseSpec, BiasSpec},
    host::values,
    role::Role,
    slot::{Slot, attach},
    spec::VariantSpec,
};

/// The same seed gives the same bits; another seed gives others, where anything is drawn per run.
pub fn first_values_follow_the_seed(case: &Case) -> Outcome {
    let tensors =
        |mut map: AdaptedLinear| -> Vec<Vec<f64>> { map.parameters(0).iter().map(|o| values(o.tensor)).collect() };
    assert_eq!(tensors(case.fresh()), tensors(case.fresh()), "same seed, same bits: {case:?}");
    let mut other = case.base();
    let seeds: Vec<u64> = case.seeds().iter().map(|seed| seed + 100).collect();
    attach(&mut [Slot::Linear(&mut other)], &case.plan(&seeds), &case.place())
        .unwrap_or_else(|error| unreachable!("{error}"));
    let by_seed = case.spec().delta.is_some_and(|delta| delta.is_drawn());
    let drawn = by_seed && case.fresh().parameters(0).iter().any(|param| param.role == Role::A);
    assert_eq!(tensors(other) != tensors(case.fresh()), drawn, "another seed, other bits: {case:?}");
    Outcome::Applied
}

/// A composition survives YAML, and a key that means nothing is refused.
pub fn the_spec_survives_yaml(case: &Case) -> Outcome {
    let spec = case.spec();
    let text = serde_yaml::to_string(&spec).unwrap_or_else(|error| unreachable!("{error}"));
    let back: VariantSpec =
        serde_yaml::from_str(&text).unwrap_or_else(|error| unreachable!("{case:?}: {error}\n{text}"));
    assert_eq!(back, spec, "the spec survives YAML: {case:?}");
    let extra = format!("{text}colour: blue\n");
    assert!(serde_yaml::from_str::<VariantSpec>(&extra).is_err(), "unknown keys are refused: {case:?}");
    Outcome::Applied
}

/// What trains is what the spec says about the base: copies exist exactly where they are declared.
pub fn the_base_has_the_declared_copies(case: &Case) -> Outcome {
    let (mut map, spec) = (case.fresh(), case.spec());
    let roles: BTreeSet<Role> = map.parameters(0).iter().map(|param| param.role).collect();
    assert_eq!(roles.contains(&Role::Weight), spec.base == BaseSpec::Trained, "copies of weights: {case:?}");
    let biases = spec.base == BaseSpec::Trained || spec.bias != BiasSpec::None;
    assert_eq!(roles.contains(&Role::Bias), biases, "copies of biases: {case:?}");
    Outcome::Applied
}

/// The tensors that a variant owns, by name, are all of it: put onto an adapter of other seeds they give the same function.
pub fn saved_tensors_are_the_adapter(case: &Case) -> Outcome {
    let mut saved = case.random();
    let mut other = case.base();
    let seeds: Vec<u64> = case.seeds().iter().map(|seed| seed + 500).collect();
    attach(&mut [Slot::Linear(&mut other)], &case.plan(&seeds), &case.place())
        .unwrap_or_else(|error| unreachable!("{error}"));
    let names: BTreeSet<&str> = saved.parameters(0).iter().map(|param| param.name).collect();
    assert_eq!(names.len(), saved.parameters(0).len(), "names are unique: {case:?}");
    for param in other.parameters(0) {
        let found = saved.parameters(0).into_iter().find(|saved| saved.name == param.name);
        let found = found.unwrap_or_else(|| unreachable!("{case:?}: `{}` was not saved", param.name));
        *param.tensor = found.tensor.clone();
    }
    for active in case.actives() {
        let outputs = |map: &AdaptedLinear| values(&map.forward(case.input(), &case.pass(&active)));
        assert_eq!(outputs(&other), outputs(&saved), "saved tensors are the adapter: {case:?}, {active:?}");
    }
    Outcome::Applied
}
