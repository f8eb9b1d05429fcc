//! Updates as a LoRA in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Per map `lora_A.weight` `[r, d_in]` and `lora_B.weight` `[d_out, r]` under `base_model.model.<prefix><map>`, in f32. The scale is in
//! the factors: `lora_alpha = r` for every map, so that PEFT's `lora_alpha/r` is 1.

use std::collections::BTreeMap;

use lowrank::LowRank;
use models::{
    error::ModelError,
    safetensors::{self, Stored, TORCH},
};
use nalgebra::DMatrix;
use serde_json::{Value, json};

use super::{
    CONFIG, WEIGHTS, WRAPPED,
    config::{self, Base, Common, Lora},
};
use crate::head::WholeTensor;
use trainer::error::TrainError;

/// What is said beside the factors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What it is an adapter of.
    pub base: Base,
    /// PEFT's name of the kind of task, such as `SEQ_CLS` or `CAUSAL_LM`.
    pub task_type: Option<String>,
    /// What the architecture puts in front of the maps' names, such as `bert.`.
    pub prefix: String,
    /// Whether the base keeps its maps as `[d_in, d_out]` (GPT-2's `Conv1D`).
    pub fan_in_fan_out: bool,
}

/// Both files by name, for a folder that exists.
pub fn encode(
    config: &Config,
    maps: &BTreeMap<String, LowRank>,
    whole: &[WholeTensor],
) -> Result<[(&'static str, Vec<u8>); 2], TrainError> {
    let mut tensors = Vec::new();
    for (map, update) in maps {
        let name = format!("{WRAPPED}{}{map}", config.prefix);
        // Column-major here, [d_in, r] and [r, d_out], is row-major there, [r, d_in] and [d_out, r].
        for (factor, matrix) in [("A", update.down()), ("B", update.up())] {
            if matrix.iter().any(|value| !(*value as f32).is_finite()) {
                let reason = format!("the factors of `{map}` hold numbers beyond f32's largest; use smaller weights");
                return Err(TrainError::foreign(WEIGHTS, reason));
            }
            tensors.push(turned(format!("{name}.lora_{factor}.weight"), matrix));
        }
    }
    tensors.extend(whole.iter().map(|one| {
        let numbers = one.values.iter().map(|value| *value as f32);
        Stored::of(format!("{WRAPPED}{}", one.name), one.shape.clone(), numbers)
    }));
    let weights = safetensors::write(&tensors, Some(TORCH)).map_err(ModelError::from)?;
    Ok([(CONFIG, configuration(config, maps, whole)), (WEIGHTS, weights)])
}

/// `matrix: [m, n]` as the file's `[n, m]`, in f32.
fn turned(name: String, matrix: &DMatrix<f64>) -> Stored {
    Stored::of(name, vec![matrix.ncols(), matrix.nrows()], matrix.iter().map(|value| *value as f32))
}

/// `adapter_config.json`
fn configuration(config: &Config, maps: &BTreeMap<String, LowRank>, whole: &[WholeTensor]) -> Vec<u8> {
    let mut counts = BTreeMap::<usize, usize>::new();
    for map in maps.values() {
        *counts.entry(map.width()).or_default() += 1;
    }
    // The rank of most maps; of two that are as frequent, the smaller.
    let rank =
        counts.iter().rev().max_by_key(|(rank, count)| (**count, std::cmp::Reverse(**rank))).map_or(1, |(r, _)| *r);
    let full = |map: &String| format!("{}{map}", config.prefix);
    let others: serde_json::Map<String, Value> = maps
        .iter()
        .filter(|(_, map)| map.width() != rank)
        .map(|(name, map)| (full(name), json!(map.width())))
        .collect();
    let mut saved: Vec<String> = whole.iter().filter_map(|one| Some(one.name.split('.').next()?.to_owned())).collect();
    saved.dedup();
    let common = Common {
        kind: "LORA",
        task_type: config.task_type.clone(),
        base: config.base.clone(),
        // Full names: an ending might select more maps of the model than there are factors.
        targets: maps.keys().map(full).collect(),
        exclude: None,
        layers: Vec::new(),
        layers_pattern: Vec::new(),
        saved,
        tokens: Vec::new(),
        bias: "none",
        fan_in_fan_out: config.fan_in_fan_out,
    };
    let lora = Lora {
        rank,
        alpha: rank as f64,
        ranks: others.clone(),
        alphas: others,
        dropout: 0.0,
        rank_stabilized: false,
        decomposed: false,
        start: json!(true),
    };
    config::encode(&config::configuration(&common, &lora.fields()))
}

#[cfg(test)]
mod tests {
    use lowrank::Update;

    use super::*;
    use crate::peft;

    /// Maps of unlike ranks come back as they were, in f32.
    #[test]
    fn what_is_written_is_read_again() {
        let map = |rank: usize, from: f64| {
            let a = DMatrix::from_vec(3, rank, (0..rank * 3).map(|i| from + i as f64).collect());
            let b = DMatrix::from_vec(rank, 4, (0..4 * rank).map(|i| from - i as f64).collect());
            LowRank::new(a, b).unwrap()
        };
        let maps: BTreeMap<String, LowRank> =
            [("layer.0.query", map(2, 0.5)), ("layer.0.value", map(2, 1.5)), ("layer.1.query", map(1, 2.5))]
                .map(|(name, map)| (name.to_owned(), map))
                .into();
        let head = WholeTensor { name: "classifier.weight".to_owned(), shape: vec![2, 3], values: vec![1.0; 6] };
        let config = Config { task_type: Some("SEQ_CLS".to_owned()), prefix: "bert.".to_owned(), ..Config::default() };
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in encode(&config, &maps, &[head]).unwrap() {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let read = peft::read(folder.path()).unwrap();
        assert_eq!(read.maps.len(), 3);
        for (name, update) in &maps {
            assert_eq!(read.maps[name].update, Update::LowRank(update.clone()), "{name}");
        }
        let text = std::fs::read_to_string(folder.path().join(CONFIG)).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["r"], &json["lora_alpha"]), (&json!(2), &json!(2)));
        assert_eq!(json["rank_pattern"], json!({"bert.layer.1.query": 1}));
        assert_eq!(json["modules_to_save"], json!(["classifier"]));
    }
}
