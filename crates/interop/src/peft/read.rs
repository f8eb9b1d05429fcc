//! LoRA and rsLoRA folders as they lie: the update of every map, without the base.

use std::{collections::BTreeMap, path::Path};

use lowrank::{LowRank, Update};
use models::{
    modules::ending,
    safetensors::{self, TensorView, as_f64},
};
use nalgebra::DMatrix;
use regex::Regex;
use serde::Deserialize;

use super::{CONFIG, RESIDUAL_STARTS, WEIGHTS, WRAPPED, bytes, config::Ordered};
use crate::update::{MapUpdate, Updates, no_update};
use trainer::error::TrainError;

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

/// Rank and scale of every map.
struct Scales {
    rank: usize,
    alpha: f64,
    is_rank_stabilized: bool,
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
}

impl Scales {
    fn rank(&self, map: &str) -> usize {
        self.ranks.iter().find(|(key, _)| key.is_match(map)).map_or(self.rank, |(_, rank)| *rank)
    }

    fn scale(&self, map: &str) -> f64 {
        let alpha = self.alphas.iter().find(|(key, _)| key.is_match(map)).map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = self.rank(map) as f64;
        if self.is_rank_stabilized { alpha / rank.sqrt() } else { alpha / rank }
    }
}

/// The update of every map.
pub fn read(folder: &Path) -> Result<Updates, TrainError> {
    let scales = scales(&folder.join(CONFIG))?;
    let path = folder.join(WEIGHTS);
    let bytes = bytes(&path)?;
    let foreign = |reason: String| TrainError::foreign(path.clone(), reason);
    let file = safetensors::read(&bytes).map_err(|error| foreign(format!("not safetensors: {error}")))?;
    let mut maps = BTreeMap::new();
    for (name, a) in &file.tensors {
        let Some(map) = name.strip_suffix(".lora_A.weight") else { continue };
        let partner = format!("{map}.lora_B.weight");
        let b = file.tensors.get(&partner);
        let b = b.ok_or_else(|| foreign(format!("`{name}` is there, but `{partner}` is not")))?;
        let (&[rank, d_in], &[d_out, rank_b]) = (a.shape(), b.shape()) else {
            return Err(foreign(format!("`{map}`: the factors are {:?} and {:?}, not matrices", a.shape(), b.shape())));
        };
        let r = scales.rank(map);
        if rank != rank_b || rank != r || r == 0 {
            let reason = format!("`{map}`: A has rank {rank}, B {rank_b}, the configuration says {r}; they must agree");
            return Err(foreign(reason));
        }
        // What is row-major there, [r, d_in] and [d_out, r], is column-major here, [d_in, r] and [r, d_out].
        let down = DMatrix::from_vec(d_in, rank, numbers(a, name, &path)?) * scales.scale(map);
        let up = DMatrix::from_vec(rank, d_out, numbers(b, &partner, &path)?);
        let update = LowRank::new(down, up).map_err(|error| no_update(&path, map, &error))?;
        maps.insert(plain_name(map).to_owned(), MapUpdate { base: None, update: Update::LowRank(update) });
    }
    if maps.is_empty() {
        return Err(foreign("it has no `lora_A.weight`; is it an adapter of another kind?".to_owned()));
    }
    Ok(Updates { name: folder.display().to_string(), metadata: None, maps })
}

/// What the configuration says of ranks and scales; refuses what is not the update that it seems.
fn scales(path: &Path) -> Result<Scales, TrainError> {
    let foreign = |reason: String| TrainError::foreign(path.to_owned(), reason);
    let text = bytes(path)?;
    let said: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| foreign(format!("not JSON: {error}")))?;
    if said["peft_type"] != "LORA" {
        let kind = said["peft_type"].as_str().unwrap_or("missing");
        return Err(foreign(format!(
            "peft_type is `{kind}`, but only plain LoRA and rsLoRA adapters are read as they lie; make it a run's adapter with `lora-lab \
             import` first"
        )));
    }
    let config: Config =
        serde_json::from_slice(&text).map_err(|error| foreign(format!("not a LoRA configuration: {error}")))?;
    if config.use_dora {
        let reason = "use_dora is `true`, but only plain LoRA and rsLoRA adapters are read as they lie; make it a run's adapter with \
                      `lora-lab import` first";
        return Err(foreign(reason.to_owned()));
    }
    if let Some(start) = config.init_lora_weights.as_str()
        && RESIDUAL_STARTS.iter().any(|residual| start.starts_with(residual))
    {
        return Err(foreign(format!(
            "init_lora_weights is `{start}`, which changed the base at the start, so the factors alone are not the update; save \
             it with PEFT's conversion to plain LoRA (path_initial_model_for_weight_conversion) first"
        )));
    }
    let in_pattern = |reason: String| foreign(format!("pattern {reason}"));
    Ok(Scales {
        rank: config.r,
        alpha: config.lora_alpha,
        is_rank_stabilized: config.use_rslora,
        ranks: compile(config.rank_pattern).map_err(in_pattern)?,
        alphas: compile(config.alpha_pattern).map_err(in_pattern)?,
    })
}

/// The keys as expressions, in their order.
fn compile<T>(patterns: Ordered<T>) -> Result<Vec<(Regex, T)>, String> {
    patterns.0.into_iter().map(|(pattern, value)| Ok((ending(&pattern)?, value))).collect()
}

/// The map's name without what PEFT and a model with a head put in front.
fn plain_name(map: &str) -> &str {
    let map = map.strip_prefix(WRAPPED).unwrap_or(map);
    ["roberta.", "bert.", "model.", "transformer."].iter().find_map(|prefix| map.strip_prefix(prefix)).unwrap_or(map)
}

fn numbers(tensor: &TensorView<'_>, name: &str, path: &Path) -> Result<Vec<f64>, TrainError> {
    as_f64(tensor).ok_or_else(|| {
        let reason = format!("`{name}` is {:?}, but an adapter is f64, f32, f16 or bf16", tensor.dtype());
        TrainError::foreign(path, reason)
    })
}

#[cfg(test)]
mod tests;
