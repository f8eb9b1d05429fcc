//! The numbers of a file of PEFT, tensor by tensor of a network.

use models::{
    config::{Config, MapKind},
    network::{NamedParam, Network},
};
use trainer::{adapter::AdapterMetadata, model_cache::BaseModel};
use variants::{adapted::AdaptedLinear, base::BiasSpec, delta::TIED_OWNER, host::Placement, peft::TunedMap};

use super::{
    super::{
        layout::{Kind, Layout, Matrix, key, place, tuned_place},
        said::Kept,
    },
    found::{Adapted, Found},
    stored::Stored,
};
use variants::role::Role;

/// What a network is filled from.
pub(super) struct Source<'a> {
    pub(super) metadata: &'a AdapterMetadata,
    pub(super) base: &'a BaseModel,
    /// Which components an AdaLoRA map has kept.
    pub(super) kept: Option<Kept>,
    /// VeRA's pair.
    pub(super) pair: Option<[Matrix; 2]>,
}

/// Gives every tensor of the network its numbers.
pub(super) fn fill(
    network: &mut Network,
    source: &Source<'_>,
    stored: &mut Stored,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let config = network.backbone.config();
    let adapted = adapted(network, source.metadata);
    let (mut found, at) = (Found::default(), network.backbone.place().clone());
    for named in network.parameters(0) {
        let mut filler = Filler { source, config: &config, adapted: &adapted, found: &mut found, at: &at };
        filler.fill(named, stored);
    }
    check_constants(network, source, &config, &adapted, &mut found, stored);
    found.check_joined(network, &adapted);
    found.check_tables(network, stored, notes);
    found.report(&config, stored, source.pair.as_ref(), notes)
}

/// Rank and scale of every adapted map.
fn adapted(network: &Network, metadata: &AdapterMetadata) -> Adapted {
    let scaling = metadata.plan.variant.scaling;
    let own = |map: &&AdaptedLinear| {
        let (rank, alpha) = (map.rank(0)?, *map.alphas(0)?.first()?);
        Some((map.name().to_owned(), (rank, scaling.at(alpha, rank))))
    };
    network.adapted(0).iter().filter_map(own).collect()
}

/// Where a tensor of the network lies in the file.
struct Wanted<'a> {
    slot: &'a str,
    /// Its name in the slot.
    short: &'a str,
    /// The fused map that the slot is a part of.
    whole: Option<&'a str>,
    suffix: String,
    layout: Layout,
    role: Role,
    shape: [usize; 2],
}

struct Filler<'a> {
    source: &'a Source<'a>,
    config: &'a Config,
    adapted: &'a Adapted,
    found: &'a mut Found,
    at: &'a Placement,
}

impl Filler<'_> {
    fn fill(&mut self, named: NamedParam<'_>, stored: &mut Stored) {
        let NamedParam { slot, name, mut param, .. } = named;
        let short = if slot.is_empty() { name.as_str() } else { param.name };
        let [_, rows, cols] = param.tensor.dims();
        let matrix = if param.role == Role::Projection {
            // The start of a residual-init method is that of the base; VeRA's pair is the file's.
            self.source.pair.as_ref().and_then(|pair| self.found.of_pair(pair, short, &slot, [rows, cols]))
        } else {
            let known = self.config.maps();
            let whole = match known.get(&slot).map(|map| &map.kind) {
                Some(MapKind::Part(whole)) => Some(whole.as_str()),
                _ => None,
            };
            let kind = if whole.is_some() { Kind::Conv } else { Kind::of(&slot, self.config) };
            // What all maps own together is declared by each of them.
            let of = if slot.starts_with(TIED_OWNER) { self.adapted.keys().next().unwrap_or(&slot) } else { &slot };
            let map = self.adapted.get(of).zip(known.get(of));
            let tuned = map.and_then(|((rank, _), map)| {
                let map = TunedMap { slot: of, shape: map.shape, rank: *rank };
                tuned_place(self.source.metadata.plan.variant.delta.as_ref(), map, short, [rows, cols])
            });
            let is_adapted = self.adapted.contains_key(&slot);
            let Some((suffix, layout)) = tuned.or_else(|| place(kind, short, is_adapted)) else { return };
            let wanted = Wanted { slot: &slot, short, whole, suffix, layout, role: param.role, shape: [rows, cols] };
            self.of_file(&wanted, stored)
        };
        if let Some(matrix) = matrix {
            param.tensor.set(self.at.tensor(matrix.values, [1, rows, cols]));
        }
    }

    /// A tensor of the file in the network's shape; none where it is missing or does not fit, which is noted.
    fn of_file(&mut self, wanted: &Wanted<'_>, stored: &mut Stored) -> Option<Matrix> {
        let Wanted { slot, short, whole, suffix, layout, role, shape: [rows, cols] } = wanted;
        let at = whole.unwrap_or(slot);
        self.found.heads += usize::from(slot.is_empty());
        let Some((key, shape, values)) = stored.find(self.config, at, suffix) else {
            self.lacks(wanted, format!("`{}`", key(self.config, at, suffix)));
            return None;
        };
        let Some(mut matrix) = layout.read(*role, &shape, values) else {
            self.found.wrong.push(format!("`{key}` is {shape:?}"));
            return None;
        };
        if let Some(parts) = whole.and_then(|whole| self.config.parts(whole)) {
            if *short == "magnitude" {
                self.found.joined.insert(key.clone(), (parts.clone(), matrix.clone()));
            }
            match of_part(&matrix, wanted, &parts, self.adapted) {
                Ok(part) => matrix = part,
                Err(why) => {
                    self.found.wrong.push(format!("`{key}`, which is {shape:?}, {why}"));
                    return None;
                }
            }
        }
        let matrix = spread(matrix, short, slot, self.source.kept.as_ref());
        if matrix.shape != [*rows, *cols] {
            let [found_rows, found_cols] = matrix.shape;
            self.found.wrong.push(format!(
                "`{key}` is {shape:?}, so `{slot}` would be {found_rows}x{found_cols} and not {rows}x{cols}"
            ));
            return None;
        }
        Some(matrix)
    }

    /// Notes a tensor that the file does not have.
    fn lacks(&mut self, wanted: &Wanted<'_>, key: String) {
        let is_adapted = self.adapted.contains_key(wanted.slot);
        let trains_own = self.source.metadata.plan.variant.bias == BiasSpec::LoraOnly;
        if wanted.slot.is_empty() {
            self.found.lacking.push((key, self.source.base.head.find(wanted.short).is_some()));
        } else if wanted.short == "bias" && is_adapted && trains_own {
            // PEFT's `lora_only` looks for the biases under a name that they do not have, and saves none.
            self.found.old.insert("biases of adapted maps");
        } else {
            self.found.missing.push(key);
        }
    }
}

/// Holds what a tuner's file has beside the tensors of the delta against what the recipe draws.
fn check_constants(
    network: &Network,
    source: &Source<'_>,
    config: &Config,
    adapted: &Adapted,
    found: &mut Found,
    stored: &mut Stored,
) {
    let Some(delta) = source.metadata.plan.variant.delta.as_ref() else { return };
    let known = config.maps();
    let told = |(slot, (rank, _)): (&'_ String, &(usize, f64))| Some((slot.clone(), known.get(slot)?.shape, *rank));
    let maps: Vec<(String, [usize; 2], usize)> = adapted.iter().filter_map(told).collect();
    let maps: Vec<TunedMap<'_>> =
        maps.iter().map(|(slot, shape, rank)| TunedMap { slot, shape: *shape, rank: *rank }).collect();
    let of_map = |map: &TunedMap<'_>| {
        let slot = map.slot.to_owned();
        delta.peft_constants(*map).into_iter().map(move |own| (slot.clone(), own)).collect::<Vec<_>>()
    };
    let shared = delta.peft_shared(&maps).into_iter().map(|own| (String::new(), own));
    for (slot, own) in maps.iter().flat_map(of_map).chain(shared) {
        match stored.find(config, &slot, own.theirs) {
            None => found.missing.push(format!("`{}`", key(config, &slot, own.theirs))),
            // The file is f32.
            Some((_, shape, numbers)) if shape == own.shape && numbers.iter().zip(&own.numbers).all(|(a, b)| *a == f64::from(*b as f32)) => {}
            Some((name, ..)) => found.wrong.push(format!(
                "`{name}` is not what this recipe draws, as in a folder that PEFT trained, whose draws are torch's; merge it with PEFT's own \
                 `merge_and_unload`"
            )),
        }
    }
    // What follows from the base is taken from the base.
    for map in network.adapted(0) {
        for own in delta.peft_of_base(&map.base().0) {
            let _ = stored.find(config, map.name(), own.theirs);
        }
    }
}

/// Zeros where AdaLoRA dropped a component.
fn spread(matrix: Matrix, short: &str, slot: &str, kept: Option<&Kept>) -> Matrix {
    let is_of_slot = |name: &str| name.strip_suffix(".lora_E").is_some_and(|name| name.ends_with(slot));
    let Some((_, keep)) = kept.and_then(|kept| kept.iter().find(|(name, _)| is_of_slot(name))) else { return matrix };
    // A folder that was saved before its file was cut holds every component.
    let left = keep.iter().filter(|k| **k).count();
    match short {
        "q" | "lambda" if matrix.shape[1] == left => matrix.spread_columns(keep),
        "p" if matrix.shape[0] == left => matrix.transposed().spread_columns(keep).transposed(),
        _ => matrix,
    }
}

/// The part's share of a joined factor, or what forbids one.
fn of_part(matrix: &Matrix, wanted: &Wanted<'_>, parts: &[String], adapted: &Adapted) -> Result<Matrix, &'static str> {
    let misfit = "is not what its parts need";
    let index = parts.iter().position(|part| part == wanted.slot).ok_or(misfit)?;
    let ranks: Vec<usize> = parts.iter().map(|part| adapted.get(part).map_or(0, |(rank, _)| *rank)).collect();
    let (before, own) = (ranks[..index].iter().sum::<usize>(), ranks[index]);
    let third = matrix.shape[1] / 3;
    if wanted.short != "a" && !matrix.shape[1].is_multiple_of(3) {
        return Err(misfit);
    }
    match wanted.short {
        "a" if matrix.shape[1] == ranks.iter().sum::<usize>() => Ok(matrix.columns(before, before + own)),
        "b" if matrix.shape[0] == ranks.iter().sum::<usize>() => {
            // The joined map has the scale of its first part; the others' departure from it lies in B.
            let scale = |part: &String| adapted.get(part).map(|(_, scale)| *scale);
            let share = parts.iter().find_map(scale).ok_or(misfit)? / scale(&parts[index]).ok_or(misfit)?;
            let rows = matrix.rows(before, before + own);
            let is_elsewhere = |at: usize| (at % rows.shape[1]) / third.max(1) != index;
            if rows.values.iter().enumerate().any(|(at, value)| is_elsewhere(at) && *value != 0.0) {
                return Err("mixes its parts, as after training in PEFT; give `--task`, and it is read as one map");
            }
            let mut part = rows.columns(index * third, (index + 1) * third);
            part.values.iter_mut().for_each(|value| *value *= share);
            Ok(part)
        }
        "magnitude" => Ok(matrix.columns(index * third, (index + 1) * third)),
        _ => Err(misfit),
    }
}
