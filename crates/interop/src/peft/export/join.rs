//! Adapters on the parts of a fused map, as one on the map.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::Tensor;
use models::{config::MapKind, network::Network};
use variants::{host::values, role::Role, scaling::Scaling};

use super::{super::layout::Matrix, form::Form};

/// Puts adapters of the parts of a fused map together.
pub(super) fn join(form: &mut Form, network: &Network) -> Result<(), String> {
    let known = form.architecture.maps();
    let whole_of = |slot: &String| match known.get(slot).map(|map| &map.kind) {
        Some(MapKind::Part(whole)) => Some(whole.clone()),
        _ => None,
    };
    let wholes: BTreeSet<String> = form.slots.keys().filter_map(whole_of).collect();
    let (label, scaling) = (form.metadata.cell.variant.clone(), form.metadata.plan.variant.scaling);
    for whole in wholes {
        let Some(parts) = form.architecture.parts(&whole) else { continue };
        let found: Vec<Option<Tensors>> = parts.iter().map(|part| form.slots.remove(part)).collect();
        let plain = |own: &Tensors| own.keys().all(|name| ["a", "b", "magnitude"].contains(&name.as_str()));
        if form.peft.peft_type() != "LORA" || !found.iter().flatten().all(plain) {
            return Err(format!(
                "`{label}` on parts of `{whole}` has no form in PEFT, which has one map there; adapt `c_attn`, or let `--svd --rank R` \
                 approximate its update by a LoRA"
            ));
        }
        let scale = |part: &String| form.maps.remove(part).map(|(rank, alpha)| scaling.at(alpha, rank));
        let scales: Vec<Option<f64>> = parts.iter().map(scale).collect();
        let first = scales.iter().find_map(|scale| *scale).unwrap_or(1.0);
        let Some(mut own) = factors(&found, &scales, first, known[&parts[0]].shape[1]) else { continue };
        let rank = own["a"].shape[1];
        let alpha = match scaling {
            Scaling::AlphaOverSqrtRank => first * (rank as f64).sqrt(),
            Scaling::AlphaOverRank | Scaling::Constant { .. } => first * rank as f64,
        };
        own.extend(magnitude(&found, &parts, network).map(|matrix| ("magnitude".to_owned(), matrix)));
        form.maps.insert(whole.clone(), (rank, alpha));
        form.slots.insert(whole, own);
        form.joined = true;
    }
    Ok(())
}

/// The tensors of a slot.
type Tensors = BTreeMap<String, Matrix>;

/// The factors of all parts: `A` beside one another, each `B [r, d_out]` in its own columns; a scale other than the first part's lies
/// in `B`.
fn factors(found: &[Option<Tensors>], scales: &[Option<f64>], first: f64, d_out: usize) -> Option<Tensors> {
    let (mut a, mut b): (Option<Matrix>, Vec<f64>) = (None, Vec::new());
    for (index, own) in found.iter().enumerate() {
        let Some((left, right)) = own.as_ref().and_then(|own| Some((own.get("a")?, own.get("b")?))) else { continue };
        a = Some(a.map_or_else(|| left.clone(), |a| a.beside(left)));
        let share = scales[index].unwrap_or(first) / first;
        for row in right.values.chunks(d_out) {
            b.extend((0..3 * d_out).map(|c| if c / d_out == index { row[c - index * d_out] * share } else { 0.0 }));
        }
    }
    let a = a?;
    let b = Matrix { role: Role::B, shape: [a.shape[1], 3 * d_out], values: b };
    Some(BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]))
}

/// The magnitudes of all parts, where one has any; that of a part without is the base's column norm.
fn magnitude(found: &[Option<Tensors>], parts: &[String; 3], network: &Network) -> Option<Matrix> {
    let own = |own: &Option<Tensors>| own.as_ref().and_then(|own| own.get("magnitude")).map(|own| own.values.clone());
    let own: Vec<Option<Vec<f64>>> = found.iter().map(own).collect();
    if own.iter().all(Option::is_none) {
        return None;
    }
    let values: Vec<f64> =
        own.into_iter().zip(parts).flat_map(|(own, part)| own.unwrap_or_else(|| column_norms(network, part))).collect();
    Some(Matrix { role: Role::Magnitude, shape: [1, values.len()], values })
}

/// Norms of a map's frozen columns, `[d_out]`.
pub(in crate::peft) fn column_norms(network: &Network, name: &str) -> Vec<f64> {
    let map = network.backbone.linears().into_iter().find(|map| map.name() == name);
    let Some((weight, _)) = map.map(variants::adapted::AdaptedLinear::base) else { return Vec::new() };
    let norms: Tensor<2> = weight.square().sum_dim(0).sqrt();
    values(&norms)
}
