//! A LoRA in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Per map `lora_A.weight` `[r, d_in]` and `lora_B.weight` `[d_out, r]` under `base_model.model.<prefix><map>`, in f32. The scale is in
//! the factors: `lora_alpha = r` for every map, so that PEFT's `lora_alpha/r` is 1.

use std::{collections::BTreeMap, path::Path};

use record::write_atomic;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;

use super::{CONFIG, WEIGHTS};
use trainer::error::TrainError;

/// What PEFT puts in front of a model's own names.
const WRAPPED: &str = "base_model.model.";

/// What is said beside the factors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The base as `from_pretrained` would be given it.
    pub base: Option<String>,
    /// Revision of a base on the hub.
    pub revision: Option<String>,
    /// PEFT's name of the kind of task, such as `SEQ_CLS` or `CAUSAL_LM`.
    pub task_type: Option<String>,
    /// What the architecture puts in front of the maps' names, such as `bert.`.
    pub prefix: String,
    /// Whether the base keeps its maps as `[d_in, d_out]` (GPT-2's `Conv1D`).
    pub fan_in_fan_out: bool,
}

/// The factors of one map, scale folded in.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// `A` row-major, `[r, d_in]`.
    pub a: Vec<f64>,
    /// `B` row-major, `[d_out, r]`.
    pub b: Vec<f64>,
    /// `r`
    pub rank: usize,
}

/// A tensor that is saved whole, such as a head's.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// Its name in the model, such as `classifier.weight`.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f64>,
}

/// Both files by name, for a folder that exists.
pub fn encode(
    config: &Config,
    maps: &BTreeMap<String, Factors>,
    whole: &[Whole],
) -> Result<[(&'static str, Vec<u8>); 2], TrainError> {
    let narrow = |values: &[f64]| values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect::<Vec<u8>>();
    let mut raw: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (map, Factors { a, b, rank }) in maps {
        let name = format!("{WRAPPED}{}{map}", config.prefix);
        raw.push((format!("{name}.lora_A.weight"), vec![*rank, a.len() / rank], narrow(a)));
        raw.push((format!("{name}.lora_B.weight"), vec![b.len() / rank, *rank], narrow(b)));
    }
    if let Some((name, _)) =
        maps.iter().find(|(_, Factors { a, b, .. })| a.iter().chain(b).any(|v| !(*v as f32).is_finite()))
    {
        let reason = format!("the factors of `{name}` hold numbers beyond f32's largest; use smaller weights");
        return Err(TrainError::foreign(WEIGHTS, reason));
    }
    raw.extend(whole.iter().map(|one| (format!("{WRAPPED}{}", one.name), one.shape.clone(), narrow(&one.values))));
    let build = || -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let views = raw
            .iter()
            .map(|(name, shape, bytes)| Ok((name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        safetensors::serialize(views, Some([("format".to_owned(), "pt".to_owned())].into()))
    };
    let weights = build().map_err(models::error::ModelError::from)?;
    Ok([(CONFIG, configuration(config, maps, whole)), (WEIGHTS, weights)])
}

/// Writes both files into a folder that exists.
pub fn write(
    folder: &Path,
    config: &Config,
    maps: &BTreeMap<String, Factors>,
    whole: &[Whole],
) -> Result<(), TrainError> {
    for (name, bytes) in encode(config, maps, whole)? {
        write_atomic(&folder.join(name), &bytes)?;
    }
    Ok(())
}

/// `adapter_config.json`
fn configuration(config: &Config, maps: &BTreeMap<String, Factors>, whole: &[Whole]) -> Vec<u8> {
    let mut counts = BTreeMap::<usize, usize>::new();
    for map in maps.values() {
        *counts.entry(map.rank).or_default() += 1;
    }
    // The rank of most maps; of two that are as frequent, the smaller.
    let rank =
        counts.iter().rev().max_by_key(|(rank, count)| (**count, std::cmp::Reverse(**rank))).map_or(1, |(r, _)| *r);
    let others: BTreeMap<String, usize> = maps
        .iter()
        .filter(|(_, map)| map.rank != rank)
        .map(|(name, map)| (format!("{}{name}", config.prefix), map.rank))
        .collect();
    // Full names: an ending might select more maps of the model than there are factors.
    let targets: Vec<String> = maps.keys().map(|map| format!("{}{map}", config.prefix)).collect();
    let mut saved: Vec<&str> = whole.iter().filter_map(|one| one.name.split('.').next()).collect();
    saved.dedup();
    let value = json!({
        "peft_type": "LORA",
        "task_type": config.task_type,
        "base_model_name_or_path": config.base,
        "revision": config.revision,
        "inference_mode": true,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": targets,
        "modules_to_save": if saved.is_empty() { None } else { Some(saved) },
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": config.fan_in_fan_out,
        "init_lora_weights": true,
        "use_rslora": false,
        "use_dora": false,
    });
    let text = serde_json::to_string_pretty(&value).unwrap_or_else(|error| unreachable!("plain data: {error}"));
    (text + "\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{peft, update::Change};

    /// Maps of unlike ranks come back as they were, in f32.
    #[test]
    fn what_is_written_is_read_again() {
        let map = |rank: usize, from: f64| Factors {
            a: (0..rank * 3).map(|i| from + i as f64).collect(),
            b: (0..4 * rank).map(|i| from - i as f64).collect(),
            rank,
        };
        let maps: BTreeMap<String, Factors> =
            [("layer.0.query", map(2, 0.5)), ("layer.0.value", map(2, 1.5)), ("layer.1.query", map(1, 2.5))]
                .map(|(name, map)| (name.to_owned(), map))
                .into();
        let head = Whole { name: "classifier.weight".to_owned(), shape: vec![2, 3], values: vec![1.0; 6] };
        let config = Config { task_type: Some("SEQ_CLS".to_owned()), prefix: "bert.".to_owned(), ..Config::default() };
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &config, &maps, &[head]).unwrap();
        let read = peft::read(folder.path()).unwrap();
        assert_eq!(read.maps.len(), 3);
        for (name, Factors { a, b, rank }) in &maps {
            let found = &read.maps[name];
            assert_eq!((found.d_in, found.d_out), (3, 4));
            let turned = |values: &[f64], rows: usize, cols: usize| -> Vec<f64> {
                (0..cols).flat_map(|c| (0..rows).map(move |r| values[r * cols + c])).collect()
            };
            let (down, up) = (turned(a, *rank, 3), turned(b, 4, *rank));
            assert_eq!(found.change, Change::LowRank { rank: *rank, down, up }, "{name}");
        }
        let text = std::fs::read_to_string(folder.path().join(CONFIG)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["r"], &json["lora_alpha"]), (&json!(2), &json!(2)));
        assert_eq!(json["rank_pattern"], json!({"bert.layer.1.query": 1}));
        assert_eq!(json["modules_to_save"], json!(["classifier"]));
    }
}
