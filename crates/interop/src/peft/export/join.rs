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
        let found: Vec<_> = parts.iter().map(|part| form.slots.remove(part)).collect();
        let plain =
            |own: &BTreeMap<String, Matrix>| own.keys().all(|name| ["a", "b", "magnitude"].contains(&name.as_str()));
        if form.peft.peft_type() != "LORA" || !found.iter().flatten().all(plain) {
            return Err(format!(
                "`{label}` on parts of `{whole}` has no form in PEFT, which has one map there; adapt `c_attn`, or let `--svd --rank R` \
                 approximate its update by a LoRA"
            ));
        }
        let d_out = known[&parts[0]].shape[1];
        let scales: Vec<Option<(usize, f64)>> = parts.iter().map(|part| form.maps.remove(part)).collect();
        let scale = |own: Option<(usize, f64)>| own.map(|(rank, alpha)| scaling.at(alpha, rank));
        let first = scales.iter().find_map(|own| scale(*own)).unwrap_or(1.0);
        let (mut a, mut b, mut magnitude): (Option<Matrix>, Vec<f64>, Vec<f64>) = (None, Vec::new(), Vec::new());
        let decomposed = found.iter().flatten().any(|own| own.contains_key("magnitude"));
        for (index, own) in found.iter().enumerate() {
            if let Some(own) = own
                && let (Some(left), Some(right)) = (own.get("a"), own.get("b"))
            {
                a = Some(a.map_or_else(|| left.clone(), |a| a.beside(left)));
                let share = scale(scales[index]).unwrap_or(first) / first;
                for row in right.values.chunks(d_out) {
                    b.extend(
                        (0..3 * d_out).map(|c| if c / d_out == index { row[c - index * d_out] * share } else { 0.0 }),
                    );
                }
            }
            if decomposed {
                match own.as_ref().and_then(|own| own.get("magnitude")) {
                    Some(found) => magnitude.extend(&found.values),
                    None => magnitude.extend(column_norms(network, &parts[index])),
                }
            }
        }
        let Some(a) = a else { continue };
        let rank = a.shape[1];
        let alpha = match scaling {
            Scaling::AlphaOverSqrtRank => first * (rank as f64).sqrt(),
            Scaling::AlphaOverRank | Scaling::Constant { .. } => first * rank as f64,
        };
        let mut own = BTreeMap::from([
            ("b".to_owned(), Matrix { role: Role::B, shape: [rank, 3 * d_out], values: b }),
            ("a".to_owned(), a),
        ]);
        if decomposed {
            let matrix = Matrix { role: Role::Magnitude, shape: [1, 3 * d_out], values: magnitude };
            own.insert("magnitude".to_owned(), matrix);
        }
        form.maps.insert(whole.clone(), (rank, alpha));
        form.slots.insert(whole, own);
        form.joined = true;
    }
    Ok(())
}

/// Norms of a map's frozen columns, `[d_out]`.
pub(in crate::peft) fn column_norms(network: &Network, name: &str) -> Vec<f64> {
    let map = network.backbone.linears().into_iter().find(|map| map.name() == name);
    let Some((weight, _)) = map.map(variants::adapted::AdaptedLinear::base) else { return Vec::new() };
    let norms: Tensor<2> = weight.square().sum_dim(0).sqrt();
    values(&norms)
}
