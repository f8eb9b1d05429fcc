//! The tensors of a merged checkpoint: the base's with an adapter folded in, and the trained head.

use std::collections::{BTreeMap, BTreeSet};

use models::{
    backbone::Backbone,
    config::{Config, Purpose},
    error::ModelError,
    network::Network,
    safetensors::{self, Stored, TORCH},
    weights::Weights,
};
use trainer::evaluate::score::spread;
use variants::{host::values, pass::Active, slot::Slot};

use crate::{dtype::Dtype, head};

/// A tensor of the new file.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    name: String,
    shape: Vec<usize>,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// Numbers, which take the type asked for.
    Numbers(Vec<f32>),
    /// Anything else, such as `position_ids`.
    AsStored(Stored),
}

impl Tensor {
    /// A tensor of the base under its name in the new file.
    fn of(name: String, stored: Stored) -> Self {
        let (shape, numbers) = (stored.shape.clone(), stored.as_f32());
        let content =
            numbers.map_or_else(|| Content::AsStored(Stored { name: name.clone(), ..stored }), Content::Numbers);
        Self { name, shape, content }
    }
}

/// The tensors of the new file, and the names of those of the base that it does not have.
pub(super) fn assemble(
    stored: Vec<Stored>,
    network: &mut Network,
    active: &Active,
    config: &Config,
    is_causal: bool,
) -> (Vec<Tensor>, Vec<String>) {
    let prefix = config.base_prefix();
    let wanted = config.wanted(Purpose::Classify);
    // transformers gives RoBERTa's classifier no pooler, and no decoder has one.
    let pools = wanted.iter().any(|wanted| wanted.name.starts_with("pooler."));
    let of_backbone: BTreeSet<&str> =
        wanted.iter().filter_map(|wanted| wanted.name.split('.').next()).chain(["pooler"]).collect();
    let mut replaced = backbone_tensors(&mut network.frozen().backbone, active, config);
    let (mut tensors, mut left_out) = (Vec::new(), Vec::new());
    for stored in stored {
        let name = stored.name.clone();
        let first = name.split('.').next().unwrap_or_default();
        let plain = name.strip_prefix(prefix).or_else(|| of_backbone.contains(first).then_some(name.as_str()));
        let Some(plain) = plain.filter(|plain| pools || !plain.starts_with("pooler.")) else {
            if is_causal && !config.is_tied() && name == "lm_head.weight" {
                tensors.push(Tensor::of(name, stored));
            } else if !config.head_names().contains(&name.as_str()) || is_causal {
                left_out.push(name); // the base's own head makes room for the trained one
            }
            continue;
        };
        let full = format!("{prefix}{plain}");
        tensors.push(match replaced.remove(plain) {
            Some(numbers) => Tensor { name: full, shape: stored.shape, content: Content::Numbers(numbers) },
            None => Tensor::of(full, stored),
        });
    }
    // What the base's files lack was drawn here, and would be drawn otherwise elsewhere.
    for wanted in wanted {
        if let Some(numbers) = replaced.remove(&wanted.name) {
            let name = format!("{prefix}{}", wanted.name);
            tensors.push(Tensor { name, shape: wanted.shape, content: Content::Numbers(numbers) });
        }
    }
    tensors.extend(head::tensors(network).into_iter().map(|one| Tensor {
        name: one.name,
        shape: one.shape,
        content: Content::Numbers(narrow(one.values)),
    }));
    (tensors, left_out)
}

fn narrow(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}

/// Every tensor of a backbone with its first run folded in, by name without prefix, in the file's layout. Without stacks it is the
/// base's own.
pub fn backbone_tensors(backbone: &mut Backbone, active: &Active, config: &Config) -> BTreeMap<String, Vec<f32>> {
    let inputs_first = config.stores_inputs_first();
    if backbone.linears().iter().any(|map| map.stacks() > 0) {
        backbone.merge(0, 0, &spread(active, 1));
    }
    let mut all = BTreeMap::new();
    for slot in backbone.slots() {
        let name = slot.name().to_owned();
        let mut put = |end: &str, numbers: Vec<f32>| all.insert(format!("{name}.{end}"), numbers);
        match slot {
            Slot::Linear(map) => {
                let (weight, bias) = map.base();
                put("weight", narrow(values(&if inputs_first { weight } else { weight.transpose() })));
                if let Some(bias) = bias {
                    put("bias", narrow(values(&bias)));
                }
            }
            Slot::Norm(norm) => {
                let (gamma, beta) = norm.base();
                put("weight", narrow(values(&gamma)));
                if let Some(beta) = beta {
                    put("bias", narrow(values(&beta)));
                }
            }
            Slot::Embedding(table) => {
                put("weight", narrow(values(&table.base())));
            }
        }
    }
    all
}

/// The first tensor with a number that the type cannot hold.
pub(super) fn overflow(tensors: &[Tensor], dtype: Dtype) -> Option<&str> {
    let beyond = |tensor: &&Tensor| match &tensor.content {
        Content::Numbers(numbers) => numbers.iter().any(|v| v.is_finite() && !dtype.round(*v).is_finite()),
        Content::AsStored(_) => false,
    };
    tensors.iter().find(beyond).map(|tensor| tensor.name.as_str())
}

/// A safetensors file that transformers reads.
pub(super) fn encode(tensors: &[Tensor], dtype: Dtype) -> Result<Vec<u8>, ModelError> {
    let all: Vec<Stored> = tensors
        .iter()
        .map(|Tensor { name, shape, content }| match content {
            Content::Numbers(numbers) => dtype.store(name, shape, numbers),
            Content::AsStored(stored) => stored.clone(),
        })
        .collect();
    Ok(safetensors::write(&all, Some(TORCH))?)
}

/// What a file of this type would be read as.
pub(super) fn rounded(tensors: &[Tensor], dtype: Dtype, config: &Config) -> Weights {
    let mut weights = Weights::default();
    for Tensor { name, shape, content } in tensors {
        if let Content::Numbers(numbers) = content {
            let name = name.strip_prefix(config.base_prefix()).unwrap_or(name);
            weights.insert(name, shape.clone(), numbers.iter().map(|v| dtype.round(*v)).collect());
        }
    }
    weights
}
