//! Which adapters a run may start from.

use super::good;
use crate::{cell::Recipe, start::fits};

fn recipe(rest: &str) -> Recipe {
    good(rest, &[]).cells()[0].recipe.clone()
}

#[track_caller]
fn refused(source: &str, plan: &str, parts: &[&str]) {
    let error = fits(&recipe(source), &recipe(plan)).unwrap_err();
    for part in parts {
        assert!(error.contains(part), "`{error}` lacks `{part}`");
    }
}

#[test]
fn a_run_that_would_begin_at_another_scale_is_refused() {
    let of = |with: &str| format!("variants: [{{preset: lora, with: {{{with}}}}}]\n");
    let lora = of("alpha: 16");
    refused(
        &lora,
        &of("alpha: 32"),
        &[
            "its scale of `encoder.layer.0.attention.self.query` at rank 4 is 4 (alpha 16), but the run that starts from it has 8 (alpha 32)",
            "give both the same alpha, scaling and alpha_pattern",
        ],
    );
    refused(&lora, &of("alpha: 16, scaling: {kind: alpha_over_sqrt_rank}"), &["is 4 (alpha 16)", "has 8 (alpha 16)"]);
    refused(&lora, &of("scaling: {kind: constant, value: 3}"), &["has 3"]);
    let pattern = "alpha_pattern: {value: 2}\n";
    refused(&lora, &format!("{lora}{pattern}"), &["self.value` at rank 4 is 4 (alpha 16)", "has 0.5 (alpha 2)"]);
    refused(&format!("{lora}{pattern}"), &lora, &["self.value` at rank 4 is 0.5"]);
    // A map's own rank and scale: 8 over 4 as 4 over 2, but not 8 over 2.
    let ranks = "rank_pattern: {value: 2}\n";
    refused(&format!("{lora}{ranks}"), &format!("{}{ranks}", of("alpha: 8")), &["self.query` at rank 4 is 4"]);
    // Where ranks change, one rank is not enough to tell.
    let nested = |scaling: &str| format!("variants: [{{preset: dylora, with: {{alpha: 16, scaling: {scaling}}}}}]\n");
    refused(&nested("{kind: alpha_over_rank}"), &nested("{kind: constant, value: 4}"), &["at rank 1 is 16", "has 4"]);
}

#[test]
fn what_a_run_has_accumulated_beside_its_base_is_no_start() {
    let of = |preset: &str| format!("variants: [{{preset: {preset}}}]\n");
    for (kind, preset) in [("restart", "relora"), ("follow", "delta_lora")] {
        let [has, way_out] = [format!("has `base_update: {{kind: {kind}}}`"), "`lora-lab merge`".to_owned()];
        refused(&of(preset), &of(preset), &[&format!("it {has}"), &way_out]);
        refused(&of("lora"), &of(preset), &[&format!("the run that starts from it {has}"), &way_out]);
    }
}

#[test]
fn another_way_to_the_same_scale_fits() {
    let of = |with: &str| format!("variants: [{{preset: lora, with: {{{with}}}}}]\n");
    let lora = of("alpha: 16");
    for (source, plan) in [
        (lora.clone(), lora.clone()),
        (lora.clone(), of("alpha: 8, scaling: {kind: alpha_over_sqrt_rank}")),
        (lora.clone(), of("alpha: 3, scaling: {kind: constant, value: 4}")),
        (lora.clone(), format!("{lora}alpha_pattern: {{value: 16}}\n")),
        (lora.clone(), format!("{}alpha_pattern: {{query: 16, value: 16}}\n", of("alpha: 1"))),
        ("variants: [vera]\n".to_owned(), "variants: [{preset: vera, with: {alpha: 3}}]\n".to_owned()),
        ("variants: [bitfit]\n".to_owned(), "variants: [{preset: bitfit, with: {alpha: 3}}]\n".to_owned()),
    ] {
        assert_eq!(fits(&recipe(&source), &recipe(&plan)), Ok(()), "{source}{plan}");
    }
}
