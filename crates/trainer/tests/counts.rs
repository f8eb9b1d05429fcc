//! Parameters that are counted from a configuration, against those of networks that are built.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/study.rs"]
mod support;

use burn::tensor::DType;
use experiment::matching::counted;
use trainer::adapter;
use variants::preset;

/// Counts of every cell of a file, and of the network that the trainer would build for it.
fn check(yaml: &str) -> usize {
    let (cells, cache) = (support::cells(yaml, &[]), support::cache(DType::F32));
    let counts = counted(&cells);
    assert_eq!(counts.len(), cells.len());
    for (cell, count) in cells.iter().zip(&counts) {
        let plan = adapter::stack_plan(&cell.recipe, &cell.id, &cache).unwrap().with_given_values();
        let mut network = cache.network(&cell.recipe, &[(plan, vec![2])]).unwrap();
        assert_eq!(count.parameters, Some(network.trained_parameters(0).0), "{} of {}", cell.id, cell.recipe.model);
    }
    cells.len()
}

#[test]
fn every_preset_trains_as_many_parameters_as_its_configuration_says() {
    let entry = |name: &str| match name {
        // Two ranks of one that is read out at every rank would be rows of one name.
        "dylora" => support::entry(name, &[&[5]]),
        _ => support::entry(name, &[&[3, 5], &[4, 8]]),
    };
    let entries = preset::all().iter().map(|preset| entry(preset.name)).collect::<Vec<_>>().join(", ");
    for targets in ["[query, value]", "all-linear"] {
        let n = check(&format!(
            "suite: glue_mini\nmodel: mini_roberta\ntasks: [rte]\nseeds: [0]\ntargets: {targets}\nvariants: [{entries}]\n"
        ));
        assert!(n > preset::all().len());
    }
}

#[test]
fn ranks_of_maps_tables_biases_and_modules_in_full_count() {
    let head = "suite: glue_mini\ntasks: [rte]\nseeds: [0]\nranks: [4]\n";
    let more = [
        "model: mini_roberta\ntargets: [query, intermediate.dense]\nrank_pattern: {'layer.0.*query': 9}\nvariants: [lora, {preset: lora, label: b, \
         with: {bias: lora_only}}, {preset: dora, label: c, with: {bias: all}}]\n",
        "model: mini_roberta\ntargets: [query, word_embeddings]\nvariants: [lora]\n",
        "model: mini_roberta\ntargets: [query]\nmodules_to_save: [value, LayerNorm]\nvariants: [lora, {preset: lora, label: b, with: {bias: all}}, \
         {preset: head_only}]\n",
        "model: mini_roberta\ntargets: [query]\ntrainable_token_indices: [5, 9, 11]\nvariants: [lora, {preset: head_only}]\n",
    ];
    for rest in more {
        check(&format!("{head}{rest}"));
    }
    let root = tempfile::tempdir().unwrap();
    let model = support::write_decoder(root.path());
    check(&format!(
        "{head}model: {model}\ntargets: [c_attn.q, c_attn.v, c_fc]\nvariants: [lora, {{preset: lora, label: b, with: {{bias: lora_only}}}}, \
         {{preset: vera, ranks: [64]}}, full, bitfit]\n"
    ));
    check(&format!("{head}model: {model}\ntargets: [c_fc]\nmodules_to_save: [c_attn.q]\nvariants: [lora]\n"));
}
