//! Specs, seeds and names: what a variant is on paper and on disk.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::Tensor;

use super::{Case, Outcome, UNADAPTED};
use crate::{
    adapted::AdaptedLinear,
    base::{BaseSpec, BiasSpec},
    base_update::BaseUpdate,
    capability::Capability,
    delta::Delta as _,
    host::values,
    pass::Active,
    peft::{PeftForm, TunedMap},
    role::Role,
    slot::{Slot, attach},
    spec::VariantSpec,
};

/// The same seed gives the same bits; another seed gives others, where anything is drawn per run.
pub fn first_values_follow_the_seed(case: &Case) -> Outcome {
    let tensors =
        |mut map: AdaptedLinear| -> Vec<Vec<f64>> { map.parameters(0).iter().map(|o| values(&o.tensor)).collect() };
    assert_eq!(tensors(case.fresh()), tensors(case.fresh()), "same seed, same bits: {case:?}");
    let mut other = case.base();
    let seeds: Vec<u64> = case.seeds().iter().map(|seed| seed + 100).collect();
    attach(&mut [Slot::Linear(&mut other)], &case.plan(&seeds), &case.place())
        .unwrap_or_else(|error| unreachable!("{error}"));
    let drawn = case.spec().delta.is_some_and(|delta| delta.is_drawn());
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
    for mut param in other.parameters(0) {
        let found = saved.parameters(0).into_iter().find(|saved| saved.name == param.name);
        let found = found.unwrap_or_else(|| unreachable!("{case:?}: `{}` was not saved", param.name));
        param.tensor.set(found.tensor.clone());
    }
    for active in case.actives() {
        let outputs = |map: &AdaptedLinear| values(&map.forward(case.input(), &case.pass(&active)));
        assert_eq!(outputs(&other), outputs(&saved), "saved tensors are the adapter: {case:?}, {active:?}");
    }
    Outcome::Applied
}

/// What the parts declare to each other is what they do: capabilities, roles, and the tensors that PEFT's form is written from.
pub fn parts_are_what_they_declare(case: &Case) -> Outcome {
    let (mut map, spec) = (case.random(), case.spec());
    let Some(delta) = &spec.delta else { return UNADAPTED };
    let offers = |capability| delta.declaration().provides.contains(&capability);
    let base = map.base().0.unsqueeze::<3>();
    let tensors: BTreeMap<&str, (Role, Tensor<3>)> =
        map.parameters(0).into_iter().map(|param| (param.name, (param.role, param.tensor.clone()))).collect();
    let declared: Vec<Role> = delta.roles().iter().chain(spec.combine.roles()).copied().collect();
    let more = [Role::Weight, Role::Bias, Role::Accumulated];
    let gated = [Capability::Gated, Capability::SoftGates].into_iter().any(offers);
    assert_eq!(tensors.contains_key("gate"), gated, "gates: {case:?}");
    assert_eq!(
        tensors.iter().any(|(name, (role, _))| *role == Role::Accumulated && *name != "gate"),
        spec.base_update.components(delta.components(case.rank), case.shape) > 0,
        "what is accumulated: {case:?}"
    );
    for (name, (role, _)) in &tensors {
        assert!(declared.contains(role) || more.contains(role), "declared roles: {case:?}: `{name}` is {role:?}");
    }
    let of_delta = |role: &Role| delta.roles().contains(role);
    let names: BTreeSet<&str> = tensors.iter().filter(|(_, (role, _))| of_delta(role)).map(|(name, _)| *name).collect();
    if case.is_routed() {
        return Outcome::Applied;
    }
    let update = map.sum(0, &Active::All) - base.clone();
    if offers(Capability::TwoFactors) {
        assert_eq!(names, BTreeSet::from(["a", "b"]), "two factors: {case:?}");
    }
    if spec.lacks(&[Capability::TwoFactors, Capability::ConstantBase]).is_none() {
        let alphas = case.plan(&case.seeds()).alphas(super::NAME);
        let scales = alphas.into_iter().map(|alpha| spec.scaling.at(alpha, case.rank)).collect();
        let product = tensors["a"].1.clone().matmul(tensors["b"].1.clone());
        case.close("two factors", &update, &(product * case.place().tensor(scales, [case.runs, 1, 1])));
    }
    let has_diagonal = offers(Capability::Prunable);
    let has_lambda = tensors.values().any(|(role, _)| *role == Role::Lambda);
    assert_eq!(has_lambda, has_diagonal || offers(Capability::SoftGates), "prunable: {case:?}");
    let shown = map.delta(0).unwrap_or_else(|| unreachable!("a law is about an adapted map"));
    assert_eq!(!shown.orthonormal().is_empty(), offers(Capability::Orthonormal), "orthonormal: {case:?}");
    assert_eq!(shown.diagonal().is_some(), has_diagonal, "diagonal: {case:?}");
    if spec.lacks(&[Capability::Additive]).is_none() {
        case.close("additive", &(map.weight(0, &Active::All) - base.clone()), &update);
    }
    for mut param in
        map.parameters(0).into_iter().filter(|param| [Role::Lambda, Role::Accumulated].contains(&param.role))
    {
        param.tensor.set(param.tensor.zeros_like());
    }
    if has_diagonal || gated {
        case.close("prunable", &map.sum(0, &Active::All), &base.clone().repeat_dim(0, case.runs));
    }
    let written = match delta.peft() {
        None => return Outcome::Applied,
        Some(PeftForm::Lora) => vec!["a", "b"],
        Some(PeftForm::DoubledLora { .. }) => vec!["a", "b", "start_a", "start_b"],
        Some(PeftForm::AdaLora) => vec!["lambda", "p", "q"],
        Some(PeftForm::Vera(_)) => vec!["lambda_b", "lambda_d"],
        Some(PeftForm::DoubledTuner(_)) => vec!["a", "b", "bound", "start_a", "start_b"],
        Some(PeftForm::Tuner(_)) => {
            let [_, d_in, d_out] = base.dims();
            let map = TunedMap { slot: super::NAME, shape: [d_in, d_out], rank: case.rank };
            delta.peft_tensors(map).into_iter().map(|tensor| tensor.ours).collect()
        }
    };
    for name in written {
        assert!(names.contains(&name), "PEFT's form is written from `{name}`: {case:?}");
    }
    Outcome::Applied
}
