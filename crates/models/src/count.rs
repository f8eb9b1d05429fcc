//! How many parameters a composition trains on a model, from the configuration alone: no weights are read, and one map of every shape is
//! made at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use burn::tensor::{DType, Device, Tensor};
use variants::{
    adapted::AdaptedLinear,
    base::{BaseSpec, BiasSpec},
    embedding::AdaptedEmbedding,
    error::AttachError,
    host::Placement,
    role::Role,
    slot::{FirstValues, MapPlan, RunPlan, Slot, StackPlan, attach, numberless},
    spec::Variant,
};

use crate::{
    config::{Config, Map, MapKind, Purpose},
    modules::Selected,
};

/// What the count of a map may depend on: its shape, whether it is a table, its own rank, and its name without the layers' numbers, at whose
/// end a delta may look.
type Alike = ([usize; 2], bool, Option<usize>, String);

/// Trained parameters of one run without its head's: adapters, trained biases, and what trains in full.
pub fn trained_parameters(config: &Config, variant: &Variant, selected: &Selected) -> Result<usize, AttachError> {
    let spec = variant.spec();
    let wanted = config.wanted(Purpose::Classify);
    // A norm's gain is the only weight that is a vector.
    let norms: BTreeSet<String> = wanted
        .iter()
        .filter(|tensor| tensor.shape.len() == 1)
        .filter_map(|tensor| tensor.name.strip_suffix(".weight").map(str::to_owned))
        .collect();
    let whole = |name: &str| {
        let by_base = match spec.base {
            BaseSpec::Frozen => false,
            BaseSpec::Norms => norms.contains(name),
            BaseSpec::Trained => true,
        };
        by_base || selected.fully_trained.contains(name)
    };
    let mut count = 0;
    for tensor in wanted {
        let Some((slot, kind)) = tensor.name.rsplit_once('.') else { continue };
        let adapted = || selected.maps.contains_key(slot);
        let trains_bias = match spec.bias {
            BiasSpec::None => false,
            BiasSpec::All => true,
            BiasSpec::LoraOnly => adapted(),
        };
        if whole(slot) || (kind == "bias" && trains_bias && spec.train.trains(Role::Bias)) {
            count += tensor.shape.iter().product::<usize>();
        }
    }
    // Parts of a fused map are no tensors of the file.
    for (name, map) in config.maps().into_iter().filter(|(_, map)| matches!(map.kind, MapKind::Part(_))) {
        let [d_in, d_out] = map.shape;
        if selected.fully_trained.contains(&name) {
            count += (d_in + 1) * d_out;
        } else if spec.bias == BiasSpec::LoraOnly && selected.maps.contains_key(&name) {
            count += d_out;
        }
    }
    let known = config.maps();
    let tokens = spec.train.trains(Role::Token);
    for (table, rows) in selected.trained_rows.iter().filter(|_| tokens) {
        count += rows.len() * known.get(table).map_or(0, |map| map.shape[1]);
    }
    // One of each kind, and how many there are.
    let mut alike: BTreeMap<Alike, (&str, usize)> = BTreeMap::new();
    for (name, map) in &selected.maps {
        let rank = selected.own.get(name).and_then(|own| own.rank);
        let key = (map.shape, map.kind == MapKind::Table, rank, numberless(name));
        alike.entry(key).or_insert((name, 0)).1 += 1;
    }
    let mut tied = BTreeMap::new();
    for ((shape, is_table, rank, _), (name, n)) in alike {
        let kind = if is_table { MapKind::Table } else { MapKind::Linear };
        count += n * of_map(name, &Map { shape, kind }, rank, variant, &mut tied)?;
    }
    Ok(count + tied.values().sum::<usize>())
}

/// Trained parameters that one map's adapter owns alone; what it owns together with others goes to `tied`.
fn of_map(
    name: &str,
    map: &Map,
    rank: Option<usize>,
    variant: &Variant,
    tied: &mut BTreeMap<(Arc<str>, &'static str), usize>,
) -> Result<usize, AttachError> {
    let place = Placement::new(&Device::flex(), DType::F32);
    let plan = StackPlan {
        maps: BTreeMap::from([(name.to_owned(), MapPlan { rank, alpha: None })]),
        first_values: FirstValues::Shapes,
        ..StackPlan::new(variant.clone(), vec![RunPlan { init_seed: 0, alpha: 1.0 }], BTreeSet::from([name.to_owned()]))
    };
    let weight: Tensor<2> = place.zeros([1, 1]).expand(map.shape); // never computed with
    let mut trained = |slot: Slot<'_>| {
        let params = slot.into_parameters(0).into_iter();
        let sizes = params.filter(|param| variant.spec().train.trains(param.role)).map(|param| {
            let [_, rows, cols] = param.tensor.dims();
            let Some(owner) = param.owner else { return rows * cols };
            tied.insert((owner, param.name), rows * cols);
            0
        });
        sizes.sum()
    };
    if map.kind == MapKind::Table {
        let mut table = AdaptedEmbedding::new(name, weight);
        attach(&mut [Slot::Embedding(&mut table)], &plan, &place)?;
        return Ok(trained(Slot::Embedding(&mut table)));
    }
    let mut linear = AdaptedLinear::new(name, weight, None);
    attach(&mut [Slot::Linear(&mut linear)], &plan, &place)?;
    Ok(trained(Slot::Linear(&mut linear)))
}
