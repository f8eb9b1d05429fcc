//! A trained adapter as a smaller plain one.

use std::{collections::BTreeMap, path::Path};

use crate::{
    output::{Guard, OutputDir, spare_base},
    peft::export::COMMAND,
    update::mergeable,
};
use burn::tensor::Tensor;
use models::network::{NamedParam, Network};
use record::ADAPTER;
use trainer::{
    adapter::{self, AdapterMetadata},
    error::TrainError,
    model_cache::ModelCache,
};
use variants::{
    capability::Capability,
    combine::{CombineSpec, additive},
    delta::{DeltaSpec, low_rank},
    host::inner,
    rank::{AnyRankPolicy, RankPolicy, constant::Constant},
    scaling::Scaling,
    spec::VariantSpec,
};

/// How a smaller adapter is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The first `b` components at the scale of rank `b`: what an adapter of nested ranks was trained for.
    Prefix,
    /// The best rank-`b` approximation of an additive update, as a plain LoRA of scale 1.
    Svd,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct CutRequest<'a> {
    /// A run's folder, or its `adapter.safetensors`.
    pub adapter: &'a Path,
    /// The rank of the new adapter.
    pub rank: usize,
    /// How it is made.
    pub reduction: Reduction,
    /// The folder to write.
    pub out: &'a Path,
    /// Whether `out` may be a folder of others.
    pub force: bool,
}

/// Writes an adapter at another rank as `out/adapter.safetensors`: a plain adapter of constant rank, which computes what the trained one
/// computes when it is read out there. Returns its size in bytes.
pub fn at_rank(request: &CutRequest<'_>, cache: &ModelCache) -> Result<u64, TrainError> {
    let CutRequest { adapter, rank, reduction, out, force } = *request;
    let output = OutputDir::check(out, COMMAND, &Guard::new([adapter], force))?;
    let (metadata, tensors) = cut_to(&adapter::resolve(adapter)?, None, rank, reduction, cache)?;
    spare_base(&metadata, out)?;
    let bytes = adapter::encode(&metadata, &tensors)?;
    let mut staged = output.begin()?;
    staged.write(ADAPTER, &bytes)?;
    staged.finish(serde_json::json!({ "adapter": adapter, "rank": rank }))?;
    Ok(bytes.len() as u64)
}

/// The metadata and the tensors of [`at_rank`]; the base lies where `model` says, if not where it lay in training.
pub fn cut_to(
    path: &Path,
    model: Option<&str>,
    rank: usize,
    reduction: Reduction,
    cache: &ModelCache,
) -> Result<(AdapterMetadata, BTreeMap<String, Tensor<3>>), TrainError> {
    let (metadata, mut network) = adapter::load_on(path, model, cache)?;
    let refused = |reason: String| TrainError::foreign(path.to_owned(), reason);
    mergeable(&metadata).map_err(refused)?;
    let (variant, tensors) = match reduction {
        Reduction::Prefix => first_components(&metadata, &mut network, rank),
        Reduction::Svd => nearest(&metadata, &mut network, rank),
    }
    .map_err(refused)?;
    let is_product = metadata.plan.variant.lacks(&[Capability::LowRank]).is_none();
    let mut metadata = AdapterMetadata { drawn: None, ..metadata };
    metadata.cell.rank = rank;
    metadata.plan.variant = variant;
    if reduction == Reduction::Svd {
        // Its scale is 1 everywhere, and a map that was narrower stays so.
        metadata.plan.modules.alpha_pattern.clear();
        if is_product {
            metadata.plan.modules.rank_pattern.iter_mut().for_each(|(_, own)| *own = rank.min(*own));
        } else {
            metadata.plan.modules.rank_pattern.clear(); // its numbers were no ranks
        }
    }
    metadata.plan.readouts.clear();
    if reduction == Reduction::Prefix {
        metadata.drawn = adapter::drawn(&network).filter(|_| rank == metadata.plan.variant.rank);
    }
    Ok((metadata, tensors))
}

type Cut = (VariantSpec, BTreeMap<String, Tensor<3>>);

/// The first components, at a rank that the adapter was trained for.
fn first_components(metadata: &AdapterMetadata, network: &mut Network, rank: usize) -> Result<Cut, String> {
    let spec = metadata.plan.variant.clone();
    let mut ranks = spec.rank_policy.readouts(spec.rank);
    if ranks.is_empty() {
        ranks.push(spec.rank);
    }
    if !ranks.contains(&rank) {
        let known: Vec<String> = ranks.iter().map(usize::to_string).collect();
        return Err(format!(
            "rank is `{rank}`, but `{}` was trained to be used at {}; `--svd` approximates it at any rank",
            metadata.cell.variant,
            known.join(", ")
        ));
    }
    let smaller = rank < spec.rank;
    let policy = if smaller { AnyRankPolicy::Constant(Constant {}) } else { spec.rank_policy.clone() };
    // At the full rank nothing is cut, whatever rank a map has of its own.
    let tensors = if smaller { prefix(network, rank) } else { adapter::tensors(network, 0, 0) };
    Ok((VariantSpec { rank, rank_policy: policy, ..spec }, tensors))
}

/// The best approximation of an additive update.
fn nearest(metadata: &AdapterMetadata, network: &mut Network, rank: usize) -> Result<Cut, String> {
    let spec = metadata.plan.variant.clone();
    let is_product = spec.lacks(&[Capability::LowRank]).is_none();
    let widths = network.adapted(0).into_iter().map(|map| map.shape()[0].min(map.shape()[1]));
    let largest = if is_product { metadata.plan.largest_rank() } else { widths.min().unwrap_or(0) };
    if spec.lacks(&[Capability::Additive]).is_some() || rank == 0 || rank > largest {
        return Err(format!(
            "`--svd` cuts an additive update down to a rank in 1..={largest}, but this is `{}` and rank is `{rank}`",
            metadata.cell.variant
        ));
    }
    network.compress(0, rank);
    let plain_lora = VariantSpec {
        rank: if is_product { rank.min(spec.rank) } else { rank },
        delta: Some(DeltaSpec::LowRank(low_rank::Spec::default())),
        combine: CombineSpec::Additive(additive::Spec {}),
        scaling: Scaling::Constant { value: 1.0 },
        rank_policy: AnyRankPolicy::Constant(Constant {}),
        orthogonality: 0.0,
        penalties: std::collections::BTreeMap::new(),
        bilevel: variants::bilevel::Bilevel::None,
        train: variants::role::TrainConfig::default(),
        gradient: variants::gradient::GradientSpec::Plain,
        base_update: variants::base_update::AnyBaseUpdate::default(),
        ..spec
    };
    Ok((plain_lora, adapter::tensors(network, 0, 0)))
}

/// Every tensor, those that count components cut to the first `rank`.
fn prefix(network: &mut Network, rank: usize) -> BTreeMap<String, Tensor<3>> {
    let cut = |NamedParam { name, param, .. }: NamedParam<'_>| {
        let [runs, rows, cols] = param.tensor.dims();
        let tensor = inner(&param.tensor);
        let tensor = match param.rank_axis {
            Some(1) => tensor.slice([0..runs, 0..rank, 0..cols]),
            Some(_) => tensor.slice([0..runs, 0..rows, 0..rank]),
            None => tensor,
        };
        (name, tensor)
    };
    network.parameters(0).into_iter().map(cut).collect()
}
