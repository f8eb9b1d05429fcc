//! Folders of one map.

use models::safetensors::{self, Stored};

use super::{
    super::{CONFIG, WEIGHTS, is_folder},
    *,
};

const MAP: &str = "base_model.model.roberta.encoder.layer.0.attention.self.query";

/// A folder with one map: A `[2, 3]` of 1..6, B `[4, 2]` of 1..8.
fn folder(config: &serde_json::Value, with_b: bool) -> tempfile::TempDir {
    let numbers = |count: usize| (1..=count).map(|number| number as f32);
    let mut tensors = vec![Stored::of(format!("{MAP}.lora_A.weight"), vec![2, 3], numbers(6))];
    if with_b {
        tensors.push(Stored::of(format!("{MAP}.lora_B.weight"), vec![4, 2], numbers(8)));
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
    std::fs::write(folder.path().join(WEIGHTS), safetensors::write(&tensors, None).unwrap()).unwrap();
    folder
}

fn read_one(config: &serde_json::Value) -> Update {
    let folder = folder(config, true);
    assert!(is_folder(folder.path()));
    let updates = read(folder.path()).unwrap();
    updates.maps["encoder.layer.0.attention.self.query"].update.clone()
}

/// The first number of the scaled factor.
fn scaled(update: &Update) -> f64 {
    match update {
        Update::LowRank(update) => update.down()[(0, 0)],
        Update::Dense(_) => unreachable!("LoRA has factors"),
    }
}

#[test]
fn factors_are_turned_and_scaled() {
    let update = read_one(&serde_json::json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4}));
    let down = DMatrix::from_row_slice(3, 2, &[2.0, 8.0, 4.0, 10.0, 6.0, 12.0]);
    let up = DMatrix::from_row_slice(2, 4, &[1.0, 3.0, 5.0, 7.0, 2.0, 4.0, 6.0, 8.0]);
    assert_eq!(update, Update::LowRank(LowRank::new(down, up).unwrap()));
}

#[test]
fn scale_follows_rslora_and_patterns() {
    let first = |config: serde_json::Value| scaled(&read_one(&config));
    let rslora = serde_json::json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": true});
    assert!((first(rslora) - 4.0 / 2.0_f64.sqrt()).abs() < 1e-12);
    let patterns = serde_json::json!({"peft_type": "LORA", "r": 8, "lora_alpha": 4,
        "rank_pattern": {"query": 2}, "alpha_pattern": {"attention.self.query": 10.0}});
    assert_eq!(first(patterns), 5.0);
}

/// Two keys match; neither the order of letters nor the longer key decides, but the order in the file.
#[test]
fn first_pattern_of_the_file_counts() {
    for (ranks, alphas, scale) in [
        (r#"{"query": 2, "attention.self.query": 7}"#, r#"{"self.query": 6, "query": 10}"#, 3.0),
        (r#"{"self.query": 2, "query": 7}"#, r#"{"query": 10, "attention.self.query": 6}"#, 5.0),
    ] {
        let folder = folder(&serde_json::Value::Null, true);
        let text = format!(
            r#"{{"peft_type": "LORA", "r": 8, "lora_alpha": 4, "rank_pattern": {ranks}, "alpha_pattern": {alphas}}}"#
        );
        std::fs::write(folder.path().join(CONFIG), text).unwrap();
        let update = read(folder.path()).unwrap().maps.into_values().next().unwrap().update;
        assert_eq!(scaled(&update), scale, "{ranks}, {alphas}");
    }
}

#[test]
fn what_is_no_lora_is_refused_by_file_and_reason() {
    let refused =
        |config: serde_json::Value, with_b: bool| read(folder(&config, with_b).path()).unwrap_err().to_string();
    let lora = serde_json::json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4});
    assert!(refused(lora, false).contains("lora_B.weight` is not"));
    let rank = serde_json::json!({"peft_type": "LORA", "r": 3, "lora_alpha": 4});
    assert!(refused(rank, true).contains("the configuration says 3"));
    let dora = serde_json::json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_dora": true});
    assert!(refused(dora, true).contains("use_dora"));
    assert!(refused(serde_json::json!({"peft_type": "VERA"}), true).contains(CONFIG));
    let start = serde_json::json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "init_lora_weights": "pissa_niter_4"});
    assert!(refused(start, true).contains("`pissa_niter_4`"));
    let pattern = serde_json::json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {"(": 2}});
    assert!(refused(pattern, true).contains("pattern `(`"));
}

/// Half a pair, or two pairs of one map, is no update that could be read.
#[test]
fn factors_without_a_partner_and_factors_twice_are_refused() {
    let config = serde_json::json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4});
    let pair = |map: &str| {
        let numbers = |count: usize| (1..=count).map(|number| number as f32);
        [
            Stored::of(format!("{map}.lora_A.weight"), vec![2, 3], numbers(6)),
            Stored::of(format!("{map}.lora_B.weight"), vec![4, 2], numbers(8)),
        ]
    };
    let error = |tensors: Vec<Stored>| {
        let folder = folder(&config, true);
        std::fs::write(folder.path().join(WEIGHTS), safetensors::write(&tensors, None).unwrap()).unwrap();
        read(folder.path()).unwrap_err().to_string()
    };
    let key = "base_model.model.roberta.encoder.layer.0.attention.self.key";
    let [_, lone] = pair(key);
    let found = error([pair(MAP).to_vec(), vec![lone]].concat());
    assert!(found.contains(&format!("`{key}.lora_B.weight` is there, but `{key}.lora_A.weight` is not")), "{found}");
    let [lone, _] = pair(key);
    let found = error([pair(MAP).to_vec(), vec![lone]].concat());
    assert!(found.contains(&format!("`{key}.lora_A.weight` is there, but `{key}.lora_B.weight` is not")), "{found}");
    let bare = MAP.replace("roberta.", "");
    let found = error([pair(MAP).to_vec(), pair(&bare).to_vec()].concat());
    assert!(found.contains("`encoder.layer.0.attention.self.query` under two names"), "{found}");
}
