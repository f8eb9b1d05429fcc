//! Which tensors the optimizer lays out: those whose role trains, and these are the ones that the loss gives gradients to.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/cohort.rs"]
mod support;

use std::collections::BTreeSet;

use data::task::Objective;
use support::{Batches, classes, cohort};
use trainer::{
    batch::{BatchSource, forward},
    cohort::Cohort,
    step::optimizer::ParamSlice,
};
use variants::{
    pass::Pass,
    preset::{self, Preset},
    role::Role,
    spec::VariantSpec,
};

/// The tensors that get a gradient from one backward pass, in the order in which the optimizer lays tensors out: diagonals, then what else
/// has components, then the rest.
fn reached(cohort: &mut Cohort, batches: &Batches) -> Vec<String> {
    cohort.network.track();
    let place = cohort.network.backbone.place().clone();
    let batch = batches.batch(&cohort.network, 0).upload(&place);
    let loss = forward::losses(&cohort.network, &batch, &Pass::evaluation(2)).remove(0).sum();
    let mut gradients = loss.backward();
    let mut found: Vec<_> = cohort.network.parameters(0);
    found.retain(|named| named.param.tensor.grad_remove(&mut gradients).is_some());
    found.sort_by_key(|named| (named.param.role != Role::Lambda, named.param.rank_axis.is_none()));
    found.into_iter().map(|named| named.name).collect()
}

/// Of one run.
fn numbers(slice: &ParamSlice) -> usize {
    slice.shape.iter().product()
}

#[track_caller]
fn check(what: &str, arch: &str, objective: &Objective, spec: &VariantSpec, endings: &[&str]) {
    for recomputes in [false, true] {
        let mut cohort = cohort(arch, objective, spec, endings);
        cohort.recomputes = recomputes;
        let batches = Batches::new(objective.clone(), 2);
        let reached = reached(&mut cohort, &batches);
        cohort.advance(&batches);
        let slices = cohort.stacks[0].optimizer.slices();
        let laid_out: Vec<&String> = slices.iter().map(|slice| &slice.name).collect();
        assert_eq!(laid_out, reached.iter().collect::<Vec<_>>(), "{what} on {arch}");
        let ends: BTreeSet<usize> = slices.iter().map(|slice| slice.start + numbers(slice)).collect();
        assert!(slices.iter().all(|slice| slice.start == 0 || ends.contains(&slice.start)), "{what}: no gap");
    }
}

fn spec(preset: &Preset) -> VariantSpec {
    (preset.spec)(4)
}

#[test]
fn every_preset_lays_out_what_the_loss_reaches() {
    for preset in preset::all() {
        for (arch, endings) in [
            ("roberta", ["query", "value"].as_slice()),
            ("bert", &["query", "output.dense"]),
            ("gpt2", &["attn.c_attn", "mlp.c_fc"]),
            ("llama", &["q_proj", "down_proj"]),
        ] {
            check(preset.name, arch, &classes(), &spec(preset), endings);
        }
    }
}

/// Text has no head, so some presets have nothing to train: biases on an architecture without any, and the head alone.
#[test]
fn every_preset_lays_out_what_the_loss_of_a_text_reaches() {
    let mut untrained = Vec::new();
    for preset in preset::all() {
        for (arch, endings) in [("gpt2", ["attn.c_attn"].as_slice()), ("llama", &["q_proj", "v_proj"])] {
            let spec = spec(preset);
            let mut cohort = cohort(arch, &Objective::Text, &spec, endings);
            if cohort.network.tensors(0).iter().any(|param| spec.train.trains(param.role)) {
                check(preset.name, arch, &Objective::Text, &spec, endings);
            } else {
                untrained.push((preset.name, arch));
            }
        }
    }
    assert_eq!(untrained, [("bitfit", "llama"), ("head_only", "gpt2"), ("head_only", "llama")]);
}

/// GPT-2's query, key and value are one map, or three slots of which some are adapted.
#[test]
fn parts_of_a_fused_map_and_embeddings_are_laid_out_where_they_are_used() {
    let lora = preset::find("lora").unwrap();
    check("parts", "gpt2", &classes(), &spec(lora), &["c_attn.q", "c_attn.v"]);
    check("an embedding", "gpt2", &Objective::Text, &spec(lora), &["wte", "attn.c_attn"]);
    check("an embedding", "roberta", &classes(), &spec(lora), &["word_embeddings", "query"]);
    let bias = VariantSpec { bias: variants::base::BiasSpec::All, ..spec(lora) };
    check("biases", "gpt2", &Objective::Text, &bias, &["c_attn.q"]);
}
