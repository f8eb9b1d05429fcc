//! Every variant against the implementation that its authors shipped, over twenty steps of the real cohort.
//!
//! The fixtures are made by `scripts/oracle/variants.py`: PEFT 0.18.1 where it has the method, and the papers' equations in plain torch
//! where it has not (DyLoRA; AdaLoRA's allocator runs both ways). Each run has weight decay 0.1, another rate for the head, a falling
//! schedule and a clipping norm that some of its steps exceed; adapters start away from their first values, so that no gradient is 0.
//!
//! Where a definition departs from the reference on purpose, a test pins both sides.
//!
//! | tolerance | of what | reason |
//! |---|---|---|
//! | `EXACT`, 1e-9 | the largest value of the tensor, f64 | sums in another order, some hundred operations a step: 1e-12 is usual |
//! | `FLOOR`, 1e-13 | the largest value of all tensors, f64 | what is 0 in exact arithmetic (a key's bias has no gradient) is rounding on both sides |
//! | `SINGLE`, 1e-5 | the largest logit, f32 | some hundred roundings of 6e-8 |
//! | `MOVEMENT`, 1e-3 | `‖w20 − w0‖` of each tensor, f32 | Adam divides by √v, so the error of a small gradient is not small in its step |
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(clippy::disallowed_methods, reason = "fixtures are files")]

#[path = "parity/reference.rs"]
mod reference;

use burn::tensor::DType;
use reference::{Bench, Named64, Reference, ours};
use trainer::optimizer::clip_coefficient;
use variants::{
    delta::{DeltaSpec, shared_random},
    host::values,
    pass::Active,
    rank::{AnyRankPolicy, budget::Budget, nested_sampling::NestedSampling, nested_sampling::Update},
    role::{Role, RolePlan, TrainPlan},
    slot::{RunPlan, Slot, StackPlan},
    spec::VariantSpec,
};

const EXACT: f64 = 1e-9;
const FLOOR: f64 = 1e-13;
const SINGLE: f64 = 1e-5;
const MOVEMENT: f64 = 1e-3;

/// A fixture and the variant that must repeat it.
struct Case {
    fixture: &'static str,
    variant: fn(&Reference) -> VariantSpec,
}

/// One line per variant.
const CASES: &[Case] = &[
    Case { fixture: "adalora", variant: adalora },
    Case { fixture: "bitfit", variant: |reference| reference.preset("bitfit") },
    Case { fixture: "dora", variant: |reference| reference.preset("dora") },
    Case { fixture: "dylora", variant: |reference| dylora(reference, Update::Nested) },
    Case { fixture: "dylora_frozen", variant: |reference| dylora(reference, Update::Frozen) },
    Case { fixture: "full", variant: |reference| reference.preset("full") },
    Case { fixture: "lora", variant: |reference| reference.preset("lora") },
    Case { fixture: "lora_fa", variant: |reference| reference.preset("lora_fa") },
    Case { fixture: "lora_fa_preconditioned", variant: |reference| reference.preset("lora_fa_preconditioned") },
    Case { fixture: "lora_plus", variant: lora_plus },
    Case { fixture: "rslora", variant: |reference| reference.preset("rslora") },
    Case { fixture: "vera", variant: |reference| vera(reference, shared_random::Keep::Seed) },
];

impl Case {
    fn named(fixture: &str) -> (Reference, VariantSpec) {
        CASES.iter().find(|case| case.fixture == fixture).unwrap().open()
    }

    fn open(&self) -> (Reference, VariantSpec) {
        let reference = Reference::read(self.fixture);
        let spec = (self.variant)(&reference);
        (reference, spec)
    }
}

/// PEFT divides by `r + 1e-5` (see [`adaloras_scale_departs_from_pefts_by_its_epsilon`]); this alpha makes the scales equal.
fn adalora(reference: &Reference) -> VariantSpec {
    let plain = reference.preset("adalora");
    VariantSpec {
        alpha: reference.number("scale") * plain.rank as f64,
        orthogonality: reference.number("orthogonality"),
        rank_policy: AnyRankPolicy::Budget(budget(reference)),
        ..plain
    }
}

fn budget(reference: &Reference) -> Budget {
    Budget {
        target_rank: reference.count("target_rank"),
        initial_steps: reference.number("initial_steps"),
        final_steps: reference.number("final_steps"),
        interval: reference.count("interval") as u64,
        beta1: reference.number("beta1"),
        beta2: reference.number("beta2"),
    }
}

fn dylora(reference: &Reference, update: Update) -> VariantSpec {
    let sampling = NestedSampling { update, ..NestedSampling::default() };
    VariantSpec { rank_policy: AnyRankPolicy::NestedSampling(sampling), ..reference.preset("dylora") }
}

/// The preset, whose ratio is the fixture's, with a rate of the embedding's factors that moves them.
fn lora_plus(reference: &Reference) -> VariantSpec {
    let mut spec = reference.preset("lora_plus");
    let embedding = RolePlan::Trained {
        lr_multiplier: 1.0,
        learning_rate: Some(reference.number("embedding_rate")),
        weight_decay: None,
    };
    spec.train.0.insert(Role::Embedding, embedding);
    spec
}

fn vera(reference: &Reference, pair: shared_random::Keep) -> VariantSpec {
    let projection_seed = reference.count("projection_seed") as u64;
    let form = shared_random::Spec { projection_seed, pair, ..shared_random::Spec::default() };
    VariantSpec { delta: Some(DeltaSpec::SharedRandom(form)), ..reference.preset("vera") }
}

fn largest<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().fold(0.0, |most, value| value.abs().max(most))
}

/// The same tensors, each within `EXACT` of its largest value and `FLOOR` of the largest of all.
#[track_caller]
fn same(what: &str, found: &Named64, wanted: &Named64) {
    assert!(found.keys().eq(wanted.keys()), "{what}: {:?} but {:?}", found.keys(), wanted.keys());
    let floor = FLOOR * largest(wanted.values().flatten());
    for (name, wanted) in wanted {
        close(&format!("{what} of {name}"), &found[name], wanted, floor);
    }
}

#[track_caller]
fn close(what: &str, found: &[f64], wanted: &[f64], floor: f64) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let (error, scale) = (apart(found, wanted), largest(wanted));
    assert!(error <= EXACT * scale + floor, "{what}: off by {error:e} at a scale of {scale:e}");
}

/// The largest difference; NaN where there is one.
fn apart(found: &[f64], wanted: &[f64]) -> f64 {
    found
        .iter()
        .zip(wanted)
        .map(|(f, w)| (f - w).abs())
        .fold(0.0, |most, e| if e > most || e.is_nan() { e } else { most })
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// What trains of a run's tensors.
fn of(mut all: Named64, wanted: &Named64) -> Named64 {
    all.retain(|name, _| wanted.contains_key(name));
    all
}

/// Merged weights by map.
fn merged(bench: &Bench, maps: &Named64, active: &Active) -> Named64 {
    let mut backbone = bench.cohort.network.frozen().backbone;
    let of_slot = |slot: &Slot<'_>| match slot {
        Slot::Linear(map) => Some(values(&map.weight(0, active))),
        Slot::Embedding(table) => Some(values(&table.merged(0, 0, active))),
        Slot::Norm(_) => None,
    };
    let slots = backbone.slots();
    let chosen = slots.iter().filter(|slot| maps.contains_key(slot.name()));
    chosen.map(|slot| (slot.name().to_owned(), of_slot(slot).unwrap())).collect()
}

/// Logits of the first batch by the merged model.
fn merged_logits(bench: &Bench, active: &Active) -> Vec<f64> {
    let plain = StackPlan {
        variant: (variants::preset::find("head_only").unwrap().spec)(0).check(None).unwrap(),
        runs: vec![RunPlan { init_seed: 0, alpha: 1.0 }],
        targets: std::collections::BTreeSet::new(),
    };
    let network = bench.cohort.network.merged(0, 0, active, &plain).unwrap();
    values(&bench.lesson.logits(&network, 0, &variants::pass::Pass::plain(1)))
}

#[test]
fn logits_and_every_gradient_are_theirs() {
    for case in CASES {
        let (reference, spec) = case.open();
        let mut bench = Bench::new(&reference, &spec, DType::F64);
        close(&format!("{}: logits", reference.name), &bench.logits(bench.active(0)), reference.all("logits"), 0.0);
        let wanted = reference.packed("grad");
        same(&format!("{}: gradient", reference.name), &bench.gradients(), &wanted);
        let silent = wanted.iter().filter(|(_, values)| largest(*values) < 1e-12).map(|(name, _)| name);
        let silent: Vec<_> = silent.filter(|name| !name.ends_with("key.bias")).collect();
        assert!(silent.is_empty(), "{}: {silent:?} have no gradient to compare", reference.name);
    }
}

#[test]
fn one_and_twenty_steps_end_where_theirs_do() {
    for case in CASES {
        let (reference, spec) = case.open();
        twenty_steps(&reference, &mut Bench::new(&reference, &spec, DType::F64));
    }
}

/// Loss, penalty, norm and rate of every step; weights and moments after the first and the last.
fn twenty_steps(reference: &Reference, bench: &mut Bench) {
    let steps = reference.count("steps");
    for step in 0..steps {
        let entry = bench.cohort.advance(&bench.lesson).runs[0].entry;
        let at = format!("{} step {step}", reference.name);
        let floor = FLOOR;
        close(&format!("{at}: loss"), &[entry.task_loss], &reference.all("losses")[step..=step], floor);
        close(&format!("{at}: norm"), &[entry.gradient_norm], &reference.all("norms")[step..=step], floor);
        let penalty = entry.penalty.unwrap_or(0.0);
        close(&format!("{at}: penalty"), &[penalty], &reference.all("penalties")[step..=step], floor);
        let rate = reference.number("learning_rate") * (steps - step) as f64 / steps as f64;
        close(&format!("{at}: rate"), &[entry.learning_rate], &[rate], floor);
        let clipped = clip_coefficient(entry.gradient_norm, Some(reference.number("clip"))) < 1.0;
        assert_eq!(clipped, reference.all("norms")[step] > reference.number("clip"), "{at}");
        if step == 0 || step + 1 == steps {
            let mark = step + 1;
            let wanted = reference.packed(&format!("w{mark}"));
            same(&format!("{at}: weights"), &of(bench.tensors(), &wanted), &wanted);
            for (key, found) in ["m", "v"].into_iter().zip(bench.moments()) {
                same(&format!("{at}: {key}"), &found, &reference.packed(&format!("{key}{mark}")));
            }
        }
    }
    let frozen = reference.frozen();
    assert_eq!(of(bench.tensors(), &frozen), frozen, "{}: what is frozen stays, bit by bit", reference.name);
}

#[test]
fn merged_weights_are_theirs_and_compute_the_same() {
    for case in CASES {
        let (reference, spec) = case.open();
        let mut bench = Bench::new(&reference, &spec, DType::F64);
        (0..reference.count("steps")).for_each(|_| drop(bench.cohort.advance(&bench.lesson)));
        let readouts = match spec.rank_policy {
            AnyRankPolicy::NestedSampling(_) => (1..=spec.rank).map(|b| Active::Prefix(vec![b])).collect(),
            _ => vec![Active::All],
        };
        for (part, active) in readouts.iter().enumerate() {
            if reference.has("maps") {
                let wanted = reference.merged(part);
                assert!(!wanted.is_empty());
                same(&format!("{} merged {part}", reference.name), &merged(&bench, &wanted, active), &wanted);
            }
            let key = match active {
                Active::Prefix(b) => format!("merged_logits{}", b[0]),
                _ if reference.has("maps") => "merged_logits".to_owned(),
                _ => "last_logits".to_owned(),
            };
            close(&format!("{} {key}", reference.name), &merged_logits(&bench, active), reference.all(&key), 0.0);
            close(&format!("{} un{key}", reference.name), &bench.logits(active.clone()), reference.all(&key), 0.0);
        }
    }
}

/// The f64 reference is the judge of the f32 run too: both start from the same numbers.
#[test]
fn an_f32_run_stays_beside_them() {
    for case in CASES {
        let (reference, spec) = case.open();
        let mut bench = Bench::new(&reference, &spec, DType::F32);
        let (found, wanted) = (bench.logits(bench.active(0)), reference.all("logits"));
        let (error, scale) = (apart(&found, wanted), largest(wanted));
        assert!(error <= SINGLE * scale, "{}: logits off by {error:e} of {scale}", reference.name);
        (0..reference.count("steps")).for_each(|_| drop(bench.cohort.advance(&bench.lesson)));
        let (start, end) = (reference.packed("start"), reference.packed("w20"));
        let found = bench.tensors();
        for (name, end) in &end {
            // Its gradient is 0 in exact arithmetic, because a softmax does not see what all keys share: Adam makes steps of rounding.
            if name.ends_with("key.bias") {
                continue;
            }
            let error = norm(found[name].iter().zip(end).map(|(f, w)| f - w));
            let movement = norm(start[name].iter().zip(end).map(|(s, w)| s - w));
            assert!(error <= MOVEMENT * movement, "{} {name}: {error:e} of {movement:e}", reference.name);
        }
    }
}
