//! A cohort on disk: everything a killed run needs to go on to the same bits.

use std::{collections::BTreeMap, path::Path};

use burn::tensor::Tensor;
use models::network::NamedParam;
use record::{sha256_hex, write_atomic};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use variants::{
    host::{Placement, inner, values},
    sensitivity::Sensitivity,
};

use crate::{cohort::Cohort, error::TrainError, optimizer::Moments};

/// A run's best evaluation so far, and its tensors then.
#[derive(Clone, Debug)]
pub struct BestState {
    /// Step of the evaluation.
    pub step: u64,
    /// Its primary metric.
    pub value: f64,
    /// The run's tensors, `[1, rows, cols]`, by name.
    pub tensors: BTreeMap<String, Tensor<3>>,
}

/// What a checkpoint says beside its tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    step: u64,
    /// Seconds since 1970 at the first step.
    started: u64,
    counts: BTreeMap<String, Vec<u64>>,
    members: Vec<Vec<MemberMeta>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct MemberMeta {
    slug: String,
    active: bool,
    failure: Option<(u64, String)>,
    kept: Option<BTreeMap<String, Vec<bool>>>,
    /// Step and the bits of the value, which may be undefined.
    best: Option<(u64, u64)>,
    stale: u64,
    train_seconds: f64,
    eval_seconds: f64,
    tokens: u64,
}

/// What the study knows of a run beside the cohort's state.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The best evaluation so far.
    pub best: Option<BestState>,
    /// Evaluations since.
    pub stale: u64,
    /// Seconds spent in steps.
    pub train_seconds: f64,
    /// Seconds spent in evaluation.
    pub eval_seconds: f64,
    /// Real tokens seen.
    pub tokens: u64,
}

/// f32 and f64 tensors as they are, so that a resumed run has the same bits.
fn view_bytes(tensor: &Tensor<3>) -> (Dtype, Vec<usize>, Vec<u8>) {
    let numbers = values(&inner(tensor));
    let shape = tensor.dims().to_vec();
    if tensor.dtype() == burn::tensor::DType::F64 {
        (Dtype::F64, shape, numbers.iter().flat_map(|v| v.to_le_bytes()).collect())
    } else {
        (Dtype::F32, shape, numbers.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect())
    }
}

/// Tensors as a safetensors file with one string of metadata.
pub fn encode(tensors: &BTreeMap<String, Tensor<3>>, key: &str, text: &str) -> Result<Vec<u8>, TrainError> {
    let raw: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), view_bytes(tensor))).collect();
    let views = raw
        .iter()
        .map(|(name, (dtype, shape, bytes))| Ok((name.clone(), TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(models::error::ModelError::from)?;
    let sum = checksum(raw.iter().map(|(name, (_, _, bytes))| (name.as_str(), bytes.as_slice())));
    // One entry, so that the order of a hash map decides nothing.
    let metadata = std::collections::HashMap::from([(key.to_owned(), with_checksum(text, &sum))]);
    Ok(safetensors::serialize(views, Some(metadata)).map_err(models::error::ModelError::from)?)
}

/// The field that holds the checksum.
const CHECKSUM: &str = "sha256";

/// A JSON object with the checksum as one more field.
fn with_checksum(text: &str, sum: &str) -> String {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(mut object)) => {
            object.insert(CHECKSUM.to_owned(), sum.into());
            serde_json::Value::Object(object).to_string()
        }
        _ => unreachable!("what a file says of itself is a JSON object"),
    }
}

/// A hash over names and bytes in the order of the names.
fn checksum<'a>(tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let parts: Vec<String> = tensors.map(|(name, bytes)| format!("{name} {}", sha256_hex(bytes))).collect();
    sha256_hex(parts.join("\n").as_bytes())
}

/// The inverse of [`encode`].
pub fn decode(path: &Path, key: &str, place: &Placement) -> Result<(BTreeMap<String, Tensor<3>>, String), TrainError> {
    let damaged = |reason: String| TrainError::Damaged { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|source| TrainError::Io { path: path.to_owned(), source })?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
    let text = header.metadata().as_ref().and_then(|m| m.get(key)).cloned();
    let text = text.ok_or_else(|| damaged(format!("it has no `{key}` entry")))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
    let views: BTreeMap<String, _> = file.tensors().into_iter().collect();
    let sum = checksum(views.iter().map(|(name, view)| (name.as_str(), view.data())));
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if object.remove(CHECKSUM).is_some_and(|wanted| wanted != sum) {
        return Err(damaged("its tensors are not those that were written (checksum)".to_owned()));
    }
    let text = serde_json::Value::Object(object).to_string();
    let mut tensors = BTreeMap::new();
    for (name, view) in views {
        let shape: [usize; 3] = view.shape().try_into().map_err(|_| damaged(format!("`{name}` has not three axes")))?;
        let data = view.data();
        let numbers: Vec<f64> = match view.dtype() {
            Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
            Dtype::F64 => data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            other => return Err(damaged(format!("`{name}` is {other:?}, but f32 or f64 was written"))),
        };
        tensors.insert(name, place.tensor(numbers, shape));
    }
    Ok((tensors, text))
}

/// Writes a checkpoint, whole or not at all.
pub fn save(cohort: &mut Cohort, progress: &[Vec<Progress>], started: u64, path: &Path) -> Result<(), TrainError> {
    let mut tensors = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for index in 0..cohort.stacks.len() {
        for NamedParam { name, param, .. } in cohort.network.parameters(index) {
            tensors.insert(format!("{index}/value/{name}"), inner(param.tensor));
        }
        let stack = &cohort.stacks[index];
        for (name, moments) in &stack.optimizer.moments() {
            tensors.insert(format!("{index}/first/{name}"), moments.first.clone());
            tensors.insert(format!("{index}/second/{name}"), moments.second.clone());
            counts.insert(format!("{index}/{name}"), moments.counts.clone());
        }
        for (name, averages) in &stack.importance.averages(&stack.optimizer) {
            tensors.insert(format!("{index}/mean/{name}"), averages.mean.clone());
            tensors.insert(format!("{index}/uncertainty/{name}"), averages.uncertainty.clone());
        }
        for (run, progress) in progress[index].iter().enumerate() {
            for (name, tensor) in progress.best.iter().flat_map(|best| &best.tensors) {
                tensors.insert(format!("{index}/best{run}/{name}"), tensor.clone());
            }
        }
    }
    let members = cohort
        .stacks
        .iter()
        .zip(progress)
        .map(|(stack, progress)| {
            stack
                .members
                .iter()
                .zip(progress)
                .map(|(member, progress)| MemberMeta {
                    slug: member.cell.id.slug(),
                    active: member.active,
                    failure: member.failure.clone(),
                    kept: member.kept.clone(),
                    best: progress.best.as_ref().map(|best| (best.step, best.value.to_bits())),
                    stale: progress.stale,
                    train_seconds: progress.train_seconds,
                    eval_seconds: progress.eval_seconds,
                    tokens: progress.tokens,
                })
                .collect()
        })
        .collect();
    let meta = serde_json::to_string(&Meta { step: cohort.step, started, counts, members })
        .unwrap_or_else(|error| unreachable!("numbers and strings are JSON: {error}"));
    Ok(write_atomic(path, &encode(&tensors, "checkpoint", &meta)?)?)
}

/// Puts a checkpoint's state into a freshly built cohort of the same make-up; returns when its first step was.
pub fn load(cohort: &mut Cohort, progress: &mut [Vec<Progress>], path: &Path) -> Result<u64, TrainError> {
    let damaged = |reason: String| TrainError::Damaged { path: path.to_owned(), reason };
    let place = cohort.network.backbone.place().clone();
    let (mut tensors, text) = decode(path, "checkpoint", &place)?;
    let meta: Meta = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    let mut take = |key: String| tensors.remove(&key).ok_or_else(|| damaged(format!("`{key}` is missing")));
    cohort.step = meta.step;
    for index in 0..cohort.stacks.len() {
        for NamedParam { name, param, .. } in cohort.network.parameters(index) {
            let value = take(format!("{index}/value/{name}"))?;
            if value.dims() != param.tensor.dims() {
                return Err(damaged(format!(
                    "`{name}` is {:?}, but the run's is {:?}",
                    value.dims(),
                    param.tensor.dims()
                )));
            }
            *param.tensor = value;
        }
    }
    for (key, counts) in meta.counts {
        let (index, name) = key.split_once('/').ok_or_else(|| damaged(format!("`{key}` names no stack")))?;
        let stack = index.parse::<usize>().ok().and_then(|i| cohort.stacks.get_mut(i));
        let stack = stack.ok_or_else(|| damaged(format!("`{key}` names no stack of this cohort")))?;
        let (first, second) = (take(format!("{index}/first/{name}"))?, take(format!("{index}/second/{name}"))?);
        stack.optimizer.restore(name.to_owned(), Moments { first, second, counts });
    }
    let names: Vec<String> = tensors.keys().filter(|key| key.contains("/mean/")).cloned().collect();
    for key in names {
        let Some((index, name)) = key.split_once("/mean/") else { continue };
        let twin = format!("{index}/uncertainty/{name}");
        let mean = tensors.remove(&key).unwrap_or_else(|| unreachable!("just listed"));
        let uncertainty = tensors.remove(&twin).ok_or_else(|| damaged(format!("`{twin}` is missing")))?;
        let stack = index.parse::<usize>().ok().and_then(|i| cohort.stacks.get_mut(i));
        let stack = stack.ok_or_else(|| damaged(format!("`{key}` names no stack of this cohort")))?;
        stack.importance.restore(name.to_owned(), Sensitivity { mean, uncertainty });
    }
    for (index, metas) in meta.members.into_iter().enumerate() {
        for (run, meta) in metas.into_iter().enumerate() {
            let member = cohort.stacks.get_mut(index).and_then(|stack| stack.members.get_mut(run));
            let member = member.filter(|member| member.cell.id.slug() == meta.slug);
            let member = member.ok_or_else(|| damaged(format!("`{}` is not in this cohort", meta.slug)))?;
            member.active = meta.active;
            member.failure = meta.failure;
            member.kept = meta.kept;
            let prefix = format!("{index}/best{run}/");
            let best = meta.best.map(|(step, value)| BestState {
                step,
                value: f64::from_bits(value),
                tensors: tensors
                    .iter()
                    .filter_map(|(key, t)| Some((key.strip_prefix(&prefix)?.to_owned(), t.clone())))
                    .collect(),
            });
            progress[index][run] = Progress {
                best,
                stale: meta.stale,
                train_seconds: meta.train_seconds,
                eval_seconds: meta.eval_seconds,
                tokens: meta.tokens,
            };
        }
    }
    Ok(meta.started)
}
