//! Adapters that Hugging Face PEFT wrote: a folder with `adapter_config.json` and `adapter_model.safetensors`.
//!
//! A LoRA in that format has per map `lora_A.weight` `[r, d_in]` and `lora_B.weight` `[d_out, r]` under
//! `base_model.model.<map>`, and the scale is `lora_alpha/r`, or `lora_alpha/√r` with `use_rslora`; `rank_pattern` and
//! `alpha_pattern` replace both for maps whose name ends in the key or matches it as a regular expression; the first key of the file that
//! does counts.

use std::{collections::BTreeMap, fmt, path::Path};

use models::modules::ending;
use regex::Regex;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use crate::update::{Change, MapUpdate, Updates};
use trainer::error::TrainError;

pub mod export;
pub mod import;
mod layout;
pub mod write;

pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

/// Starts that subtract their first product from the base: `s·B·A` of such an adapter is not the change of the weights.
const RESIDUAL_STARTS: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

/// A map whose order counts.
#[derive(Debug)]
struct Ordered<T>(Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Ordered<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from names or expressions")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Ordered(pairs))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Ordered(Vec::new()))
            }
        }
        deserializer.deserialize_any(Pairs(std::marker::PhantomData))
    }
}

/// What of `adapter_config.json` decides the update.
#[derive(Debug, Deserialize)]
struct Config {
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    /// `true`, `false`, or the name of a start.
    #[serde(default)]
    init_lora_weights: serde_json::Value,
    #[serde(default)]
    rank_pattern: Ordered<usize>,
    #[serde(default)]
    alpha_pattern: Ordered<f64>,
}

/// Whether PEFT wrote this folder.
pub fn is_folder(path: &Path) -> bool {
    path.join(CONFIG).is_file()
}

/// The update of every map.
pub fn read(folder: &Path) -> Result<Updates, TrainError> {
    let config_path = folder.join(CONFIG);
    let foreign = |path: &Path, reason: String| TrainError::foreign(path.to_owned(), reason);
    let text = bytes(&config_path)?;
    let said: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| foreign(&config_path, format!("not JSON: {error}")))?;
    if said["peft_type"] != "LORA" {
        let kind = said["peft_type"].as_str().unwrap_or("missing");
        let reason = format!(
            "peft_type is `{kind}`, but only plain LoRA and rsLoRA adapters are read as they lie; make it a run's adapter with `lora-lab \
             import` first"
        );
        return Err(foreign(&config_path, reason));
    }
    let config: Config = serde_json::from_slice(&text)
        .map_err(|error| foreign(&config_path, format!("not a LoRA configuration: {error}")))?;
    if config.use_dora {
        let reason = "use_dora is `true`, but only plain LoRA and rsLoRA adapters are read as they lie; make it a run's adapter with \
                      `lora-lab import` first";
        return Err(foreign(&config_path, reason.to_owned()));
    }
    if let Some(start) = config.init_lora_weights.as_str()
        && RESIDUAL_STARTS.iter().any(|residual| start.starts_with(residual))
    {
        let reason = format!(
            "init_lora_weights is `{start}`, which changed the base at the start, so the factors alone are not the update; save \
             it with PEFT's conversion to plain LoRA (path_initial_model_for_weight_conversion) first"
        );
        return Err(foreign(&config_path, reason));
    }
    let in_pattern = |reason: String| foreign(&config_path, format!("pattern {reason}"));
    let ranks = compile(config.rank_pattern).map_err(in_pattern)?;
    let alphas = compile(config.alpha_pattern).map_err(in_pattern)?;
    let path = folder.join(WEIGHTS);
    let bytes = bytes(&path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| foreign(&path, format!("not safetensors: {error}")))?;
    let mut maps = BTreeMap::new();
    for (name, a) in file.tensors() {
        let Some(map) = name.strip_suffix(".lora_A.weight") else { continue };
        let partner = format!("{map}.lora_B.weight");
        let b =
            file.tensor(&partner).map_err(|_| foreign(&path, format!("`{name}` is there, but `{partner}` is not")))?;
        let (&[rank, d_in], &[d_out, rank_b]) = (a.shape(), b.shape()) else {
            return Err(foreign(
                &path,
                format!("`{map}`: the factors are {:?} and {:?}, not matrices", a.shape(), b.shape()),
            ));
        };
        let r = ranks.iter().find(|(key, _)| key.is_match(map)).map_or(config.r, |(_, r)| *r);
        let alpha = alphas.iter().find(|(key, _)| key.is_match(map)).map_or(config.lora_alpha, |(_, alpha)| *alpha);
        if rank != rank_b || rank != r || r == 0 {
            let reason = format!("`{map}`: A has rank {rank}, B {rank_b}, the configuration says {r}; they must agree");
            return Err(foreign(&path, reason));
        }
        let scale = if config.use_rslora { alpha / (r as f64).sqrt() } else { alpha / r as f64 };
        let (a, b) = (numbers(&a, &name, &path)?, numbers(&b, &partner, &path)?);
        let change = Change::LowRank {
            rank,
            down: transposed(&a, rank, d_in).into_iter().map(|v| v * scale).collect(),
            up: transposed(&b, d_out, rank),
        };
        maps.insert(plain_name(map).to_owned(), MapUpdate { d_in, d_out, base: None, change });
    }
    if maps.is_empty() {
        return Err(foreign(&path, "it has no `lora_A.weight`; is it an adapter of another kind?".to_owned()));
    }
    Ok(Updates { name: folder.display().to_string(), metadata: None, maps })
}

fn bytes(path: &Path) -> Result<Vec<u8>, TrainError> {
    std::fs::read(path).map_err(|source| TrainError::io(path.to_owned(), source))
}

/// The keys as expressions, in their order.
fn compile<T>(patterns: Ordered<T>) -> Result<Vec<(Regex, T)>, String> {
    patterns.0.into_iter().map(|(pattern, value)| Ok((ending(&pattern)?, value))).collect()
}

/// The map's name without what PEFT and a model with a head put in front.
fn plain_name(map: &str) -> &str {
    let map = map.strip_prefix("base_model.model.").unwrap_or(map);
    ["roberta.", "bert.", "model.", "transformer."].iter().find_map(|prefix| map.strip_prefix(prefix)).unwrap_or(map)
}

fn numbers(tensor: &TensorView<'_>, name: &str, path: &Path) -> Result<Vec<f64>, TrainError> {
    let data = tensor.data();
    Ok(match tensor.dtype() {
        Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        Dtype::F32 => data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::F16 => data.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f64()).collect(),
        Dtype::BF16 => data.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f64()).collect(),
        other => {
            let reason = format!("`{name}` is {other:?}, but an adapter is f64, f32, f16 or bf16");
            return Err(TrainError::foreign(path.to_owned(), reason));
        }
    })
}

/// `[rows, cols]` to `[cols, rows]`, both row-major.
fn transposed(values: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| values[r * cols + c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "base_model.model.roberta.encoder.layer.0.attention.self.query";

    /// A folder with one map: A `[2, 3]` of 1..6, B `[4, 2]` of 1..8.
    fn folder(config: &serde_json::Value, with_b: bool) -> tempfile::TempDir {
        let bytes = |count: usize| -> Vec<u8> { (1..=count).flat_map(|v| (v as f32).to_le_bytes()).collect() };
        let (a, b) = (bytes(6), bytes(8));
        let mut tensors = vec![(format!("{MAP}.lora_A.weight"), TensorView::new(Dtype::F32, vec![2, 3], &a).unwrap())];
        if with_b {
            tensors.push((format!("{MAP}.lora_B.weight"), TensorView::new(Dtype::F32, vec![4, 2], &b).unwrap()));
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
        std::fs::write(folder.path().join(WEIGHTS), safetensors::serialize(tensors, None).unwrap()).unwrap();
        folder
    }

    fn read_one(config: &serde_json::Value) -> MapUpdate {
        let folder = folder(config, true);
        assert!(is_folder(folder.path()));
        let updates = read(folder.path()).unwrap();
        updates.maps["encoder.layer.0.attention.self.query"].clone()
    }

    #[test]
    fn factors_are_turned_and_scaled() {
        let update = read_one(&serde_json::json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4}));
        assert_eq!((update.d_in, update.d_out), (3, 4));
        let (down, up) = (vec![2.0, 8.0, 4.0, 10.0, 6.0, 12.0], vec![1.0, 3.0, 5.0, 7.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(update.change, Change::LowRank { rank: 2, down, up });
    }

    #[test]
    fn scale_follows_rslora_and_patterns() {
        let first = |config: serde_json::Value| match read_one(&config).change {
            Change::LowRank { down, .. } => down[0],
            Change::Dense(_) => unreachable!("LoRA has factors"),
        };
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
            let Change::LowRank { down, .. } = read(folder.path()).unwrap().maps.into_values().next().unwrap().change
            else {
                unreachable!("LoRA has factors")
            };
            assert_eq!(down[0], scale, "{ranks}, {alphas}");
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
        let start =
            serde_json::json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "init_lora_weights": "pissa_niter_4"});
        assert!(refused(start, true).contains("`pissa_niter_4`"));
        let pattern = serde_json::json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {"(": 2}});
        assert!(refused(pattern, true).contains("pattern `(`"));
    }
}
