//! LoRA and rsLoRA folders as they lie: the update of every map, without the base.

use std::{collections::BTreeMap, path::Path};

use lowrank::{LowRank, Update};
use models::{
    pattern::{BadPattern, Pattern},
    safetensors::{TensorView, as_f32, as_f64},
};
use nalgebra::DMatrix;

use super::{
    WRAPPED,
    config::{Base, Ordered},
    fields::residual_start,
    said::{Opened, Said},
    weights::WeightsFile,
    write::Config,
};
use crate::{
    head::WholeTensor,
    update::{MapUpdate, Updates, no_update},
};
use trainer::error::TrainError;

/// A LoRA folder: what it does to every map, and what it has beside.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) updates: Updates,
    /// What the folder says of its base and task.
    pub(crate) config: Config,
    /// In the order of the names.
    pub(crate) head: Vec<WholeTensor>,
    /// What is neither a map's update nor a head, in the order of the names.
    pub(crate) left_out: Vec<String>,
}

/// Rank and scale of every map.
struct Scales {
    rank: usize,
    alpha: f64,
    is_rank_stabilized: bool,
    ranks: Vec<(Pattern, usize)>,
    alphas: Vec<(Pattern, f64)>,
}

impl Scales {
    /// Rank and scale of a map, by its name in the model that PEFT wrapped.
    fn of(&self, map: &str) -> Result<(usize, f64), BadPattern> {
        let rank = first(&self.ranks, map)?.unwrap_or(self.rank);
        let alpha = first(&self.alphas, map)?.unwrap_or(self.alpha);
        let divisor = if self.is_rank_stabilized { (rank as f64).sqrt() } else { rank as f64 };
        Ok((rank, alpha / divisor))
    }
}

/// The value of the first key that matches a name.
fn first<T: Copy>(patterns: &[(Pattern, T)], name: &str) -> Result<Option<T>, BadPattern> {
    for (pattern, value) in patterns {
        if pattern.is_match(name)? {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

/// The update of every map.
pub fn read(folder: &Path) -> Result<Updates, TrainError> {
    let Read { mut updates, left_out, .. } = read_whole(folder)?;
    if !left_out.is_empty() {
        let all = left_out.join(", ");
        updates.notes.push(format!("in the file and no update of a linear map, so not looked at: {all}"));
    }
    Ok(updates)
}

/// The whole folder.
pub(crate) fn read_whole(folder: &Path) -> Result<Read, TrainError> {
    let mut opened = Opened::read(folder)?;
    let scales = scales(&opened)?;
    let mut notes = std::mem::take(&mut opened.notes);
    let file = WeightsFile::read(folder)?;
    let tensors = file.tensors(&mut notes)?;
    let mut maps = BTreeMap::new();
    let mut prefix = "";
    for name in tensors.keys() {
        let Some(map) = name.strip_suffix(A) else { continue };
        let update = product(&tensors, map, &scales, &opened, &file.path)?;
        let plain = plain_name(map);
        prefix = theirs(map).strip_suffix(plain).unwrap_or_default();
        if maps.insert(plain.to_owned(), MapUpdate { base: None, update: Update::LowRank(update) }).is_some() {
            let reason =
                format!("has the factors of `{plain}` under two names, `{name}` among them; keep those that count");
            return Err(TrainError::foreign(file.path.clone(), reason));
        }
    }
    if let Some(lone) = tensors.keys().find(|name| lacks_partner(name, &tensors)) {
        let partner = lone.replace(B, A);
        return Err(TrainError::foreign(file.path.clone(), format!("`{lone}` is there, but `{partner}` is not")));
    }
    if maps.is_empty() {
        let reason = "it has no `lora_A.weight`; is it an adapter of another kind?".to_owned();
        return Err(TrainError::foreign(file.path.clone(), reason));
    }
    let (head, left_out) = beside(&tensors);
    if let Some(extra) = left_out.iter().find(|name| name.contains(".lora_") && !name.contains(".lora_embedding_")) {
        let reason = format!(
            "{extra} belongs to no plain LoRA, whose maps have `lora_A.weight` and `lora_B.weight` alone, so the update is another than \
             their product; convert it with PEFT first, to plain LoRA"
        );
        return Err(TrainError::foreign(file.path.clone(), reason));
    }
    notes.extend(biases(&opened, &left_out)?);
    let config = config(&opened.said, prefix);
    let updates = Updates { name: folder.display().to_string(), metadata: None, maps, notes };
    Ok(Read { updates, config, head, left_out })
}

/// What `bias` says that the file does not have: PEFT saves those of `all`, and never those of `lora_only`.
fn biases(opened: &Opened, left_out: &[String]) -> Result<Option<String>, TrainError> {
    let has_biases = left_out.iter().any(|name| name.trim_matches('`').rsplit('.').next() == Some("bias"));
    match opened.said.bias.as_deref() {
        Some("all") if !has_biases => Err(opened.refused(
            "bias is `all`, but the file has no bias of the base, so what was trained is not whole; save the adapter again".to_owned(),
        )),
        Some("lora_only") if !has_biases => {
            Ok(Some("bias is `lora_only`, which PEFT does not save: the biases are the base's".to_owned()))
        }
        _ => Ok(None),
    }
}

/// Whether it is a `B` without its `A`, of which no product was made.
fn lacks_partner(name: &str, tensors: &BTreeMap<String, TensorView<'_>>) -> bool {
    name.strip_suffix(B).is_some_and(|map| !tensors.contains_key(&format!("{map}{A}")))
}

/// Ends of the names of the factors.
const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// `s·B·A` of a map, with the scale on the inputs' side.
fn product(
    tensors: &BTreeMap<String, TensorView<'_>>,
    map: &str,
    scales: &Scales,
    opened: &Opened,
    path: &Path,
) -> Result<LowRank, TrainError> {
    let foreign = |reason: String| TrainError::foreign(path, reason);
    let (name, partner) = (format!("{map}{A}"), format!("{map}{B}"));
    let a = &tensors[&name];
    let b = tensors.get(&partner);
    let b = b.ok_or_else(|| foreign(format!("`{name}` is there, but `{partner}` is not")))?;
    let (&[rank, d_in], &[d_out, rank_b]) = (a.shape(), b.shape()) else {
        return Err(foreign(format!("`{map}`: the factors are {:?} and {:?}, not matrices", a.shape(), b.shape())));
    };
    let (r, scale) = scales.of(theirs(map)).map_err(|bad| opened.refused(format!("pattern {bad}")))?;
    if rank != rank_b || rank != r || r == 0 {
        let reason = format!("`{map}`: A has rank {rank}, B {rank_b}, the configuration says {r}; they must agree");
        return Err(foreign(reason));
    }
    if !opened.said.adapts(theirs(map)).map_err(|bad| opened.refused(bad.to_string()))? {
        return Err(foreign(format!(
            "`{name}` belongs to nothing in its configuration: target_modules, exclude_modules, layers_to_transform and modules_to_save \
             leave that map out"
        )));
    }
    // What is row-major there, [r, d_in] and [d_out, r], is column-major here, [d_in, r] and [r, d_out].
    let down = DMatrix::from_vec(d_in, rank, numbers(a, &name, path)?) * scale;
    let up = DMatrix::from_vec(rank, d_out, numbers(b, &partner, path)?);
    LowRank::new(down, up).map_err(|error| no_update(path, map, &error))
}

/// The head's tensors, and the names of what is left out.
fn beside(tensors: &BTreeMap<String, TensorView<'_>>) -> (Vec<WholeTensor>, Vec<String>) {
    let (mut head, mut left_out) = (Vec::new(), Vec::new());
    for (name, view) in tensors.iter().filter(|(name, _)| !name.ends_with(A) && !name.ends_with(B)) {
        let plain = theirs(name);
        let is_head = ["classifier.", "score."].iter().any(|start| plain.starts_with(start));
        match as_f32(view).filter(|_| is_head) {
            Some(numbers) => head.push(WholeTensor {
                name: plain.to_owned(),
                shape: view.shape().to_vec(),
                values: numbers.into_iter().map(f64::from).collect(),
            }),
            None => left_out.push(format!("`{plain}`")),
        }
    }
    head.sort_by(|a, b| a.name.cmp(&b.name));
    left_out.sort();
    (head, left_out)
}

/// What the folder says of its base and task.
fn config(said: &Said, prefix: &str) -> Config {
    Config {
        base: Base { name: said.base_model_name_or_path.clone(), revision: said.revision.clone() },
        task_type: said.task_type.clone(),
        prefix: prefix.to_owned(),
        fan_in_fan_out: said.fan_in_fan_out,
    }
}

/// What the configuration says of ranks and scales; refuses what is not the update that it seems.
fn scales(opened: &Opened) -> Result<Scales, TrainError> {
    let said = &opened.said;
    let import = "but only plain LoRA and rsLoRA adapters are read as they lie; make it a run's adapter with `lora-lab import` first";
    if said.peft_type != "LORA" {
        return Err(opened.refused(format!("peft_type is `{}`, {import}", said.peft_type)));
    }
    if said.use_dora {
        return Err(opened.refused(format!("use_dora is `true`, {import}")));
    }
    if said.trainable_token_indices.as_ref().is_some_and(|rows| !rows.is_empty()) {
        return Err(opened.refused(format!("trainable_token_indices has rows of a table, {import}")));
    }
    if let Some(start) = residual_start(&said.init_lora_weights) {
        return Err(opened.refused(format!(
            "init_lora_weights is `{start}`, which changed the base at the start, so the factors alone are not the update; save \
             it with PEFT's conversion to plain LoRA (path_initial_model_for_weight_conversion) first"
        )));
    }
    let rank = said.r.ok_or_else(|| opened.refused("r is missing; save the adapter again".to_owned()))?;
    let patterns = opened.patterns()?;
    let in_pattern = |bad: BadPattern| opened.refused(format!("pattern {bad}"));
    Ok(Scales {
        rank,
        alpha: said.lora_alpha,
        is_rank_stabilized: said.use_rslora,
        ranks: compile(patterns.rank_pattern).map_err(in_pattern)?,
        alphas: compile(patterns.alpha_pattern).map_err(in_pattern)?,
    })
}

/// The keys as expressions, in their order.
fn compile<T>(patterns: Ordered<T>) -> Result<Vec<(Pattern, T)>, BadPattern> {
    patterns.0.into_iter().map(|(pattern, value)| Ok((Pattern::ending(&pattern)?, value))).collect()
}

/// A name in the model that PEFT wrapped.
fn theirs(name: &str) -> &str {
    name.strip_prefix(WRAPPED).unwrap_or(name)
}

/// The map's name without what PEFT and a model with a head put in front.
fn plain_name(map: &str) -> &str {
    let map = theirs(map);
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
