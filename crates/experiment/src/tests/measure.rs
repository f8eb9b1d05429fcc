//! The block `measure`.

use serde_json::json;

use super::{check, good};
use crate::cell::HeldOutText;

#[test]
fn forgetting_is_measured_where_it_is_asked_for() {
    let of = |rest: &str| good(rest, &[]).cells()[0].recipe.clone();
    let plain = of("");
    assert!(plain.forgetting.is_none());
    assert!(json!(plain).get("forgetting").is_none(), "the hash of a recipe without it is what it was");
    assert_eq!(of("measure: {forgetting: false}\n"), plain);
    let own = HeldOutText { text: None, documents: 512 };
    assert_eq!(of("measure: {forgetting: true}\n").forgetting, Some(own.clone()));
    assert_eq!(of("measure: {forgetting: {}}\n").forgetting, Some(own));
    let given = of("model: ./some/folder\nmeasure: {forgetting: {text: held_out.txt, documents: 64}}\n");
    assert_eq!(given.forgetting, Some(HeldOutText { text: Some("held_out.txt".into()), documents: 64 }));
    let trial = good("tune: {space: {train.learning_rate: [1e-3]}}\nmeasure: {forgetting: true}\n", &[]);
    let trials =
        trial.trials(&[(trial.groups()[0].clone(), trial.tune().unwrap().settings("lora")[0].clone())]).unwrap();
    assert!(trials[0][0].recipe.forgetting.is_none(), "nothing is chosen by it");
}

#[test]
fn what_cannot_be_read_of_it_is_reported() {
    check("measure: {forget: true}\n", &["unknown key `forget`, did you mean `forgetting`?"]);
    check("measure: {forgetting: stories}\n", &["forgetting is `stories`, but must be `true`, `false` or a map"]);
    check("measure: {forgetting: {documents: 0}}\n", &["documents is `0`"]);
    check(
        "model: ./some/folder\nmeasure: {forgetting: true}\n",
        &["`experiments/some/folder` (of `lora`) does not come with the build"],
    );
}
