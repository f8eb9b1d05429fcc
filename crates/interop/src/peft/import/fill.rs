//! The numbers of a file of PEFT, tensor by tensor of a network.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use models::{
    config::{Config, MapKind},
    network::{NamedParam, Network},
    safetensors::{self, as_f32},
};
use variants::{adapted::AdaptedLinear, base::BiasSpec, host::values, role::Role};

use super::{
    super::{
        WRAPPED, bytes,
        export::{LOADED, PAIR, column_norms},
        layout::{Kind, Layout, Matrix, key, place},
    },
    recipe::Said,
};
use trainer::{adapter::AdapterMetadata, error::TrainError, model_cache::BaseModel};

/// The file of weights.
pub(super) struct Stored {
    pub(super) tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    used: BTreeSet<String>,
}

impl Stored {
    pub(super) fn read(path: &Path) -> Result<Self, TrainError> {
        let bytes = bytes(path)?;
        let foreign = |reason: String| TrainError::foreign(path.to_owned(), reason);
        let file = safetensors::read(&bytes).map_err(|error| foreign(format!("not safetensors: {error}")))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors {
            let Some(numbers) = as_f32(&view) else {
                let reason = format!("`{name}` is {:?}, but an adapter is f64, f32, f16 or bf16", view.dtype());
                return Err(foreign(reason));
            };
            if let Some(bad) = numbers.iter().find(|value| !value.is_finite()) {
                return Err(foreign(format!(
                    "`{name}` holds `{bad}`, but every number must be finite; save the adapter again"
                )));
            }
            tensors.insert(name, (view.shape().to_vec(), numbers.into_iter().map(f64::from).collect()));
        }
        Ok(Self { tensors, used: BTreeSet::new() })
    }

    /// A tensor of a slot, under the name of a model with a head or of one without.
    fn find(&mut self, config: &Config, slot: &str, suffix: &str) -> Option<(String, Vec<usize>, Vec<f64>)> {
        let names = [key(config, slot, suffix), format!("{WRAPPED}{slot}.{suffix}")];
        let name = names.into_iter().find(|name| self.tensors.contains_key(name))?;
        self.used.insert(name.clone());
        let (shape, values) = self.tensors[&name].clone();
        Some((name, shape, values))
    }

    fn unused(&self) -> Vec<&str> {
        self.tensors.keys().filter(|name| !self.used.contains(*name)).map(String::as_str).collect()
    }
}

/// VeRA's pair, `A [r, d_in]` and `B [d_out, r]`.
pub(super) fn pair(said: &Said, stored: &mut Stored) -> Result<Option<[Matrix; 2]>, String> {
    if said.peft_type != "VERA" {
        return Ok(None);
    }
    let mut read = |name: &str| {
        let (shape, values) = stored.tensors.get(name).cloned().ok_or_else(|| {
            let why = if said.save_projection {
                "the file is not whole"
            } else {
                "save_projection was false, and torch's generator is not built in"
            };
            format!("`{name}` is missing: {why}; save the adapter with save_projection = True")
        })?;
        stored.used.extend([name.to_owned(), format!("{name}{LOADED}")]);
        Layout::Same
            .read(Role::Projection, &shape, values)
            .ok_or_else(|| format!("`{name}` is {shape:?}, not a matrix"))
    };
    Ok(Some([read(PAIR[0])?, read(PAIR[1])?]))
}

/// What was met on the way.
#[derive(Default)]
struct Found {
    missing: Vec<String>,
    wrong: Vec<String>,
    /// What the base has and the file need not have.
    old: BTreeSet<&'static str>,
    /// Tensors of the head.
    heads: usize,
    /// Those that the file lacks, and whether the base has them.
    lacking: Vec<(String, bool)>,
    /// Largest `d_in` and `d_out` that a pair was cut to.
    widest: [usize; 2],
    /// Magnitudes of joined maps by their name in the file, with the maps' parts.
    joined: BTreeMap<String, ([String; 3], Matrix)>,
}

impl Found {
    /// A map's part `[rows, cols]` of VeRA's pair.
    fn of_pair(&mut self, [a, b]: &[Matrix; 2], short: &str, slot: &str, [rows, cols]: [usize; 2]) -> Option<Matrix> {
        let (name, source, fits) = if short == "a" {
            self.widest[0] = self.widest[0].max(rows);
            (PAIR[0], a, a.shape[0] == cols && a.shape[1] >= rows)
        } else {
            self.widest[1] = self.widest[1].max(cols);
            (PAIR[1], b, b.shape[1] == rows && b.shape[0] >= cols)
        };
        if !fits {
            self.wrong.push(format!("`{name}` is {:?}, which has no part for `{slot}`", source.shape));
            return None;
        }
        Some(source.transposed().rows(0, rows).columns(0, cols))
    }

    /// Finds parts without an adapter whose magnitudes are not the base's.
    fn check_joined(&mut self, network: &Network, adapted: &BTreeMap<String, (usize, f64)>) {
        for (key, (parts, magnitude)) in &self.joined {
            let third = magnitude.shape[1] / 3;
            for (index, part) in parts.iter().enumerate().filter(|(_, part)| !adapted.contains_key(*part)) {
                let own = magnitude.columns(index * third, (index + 1) * third).values;
                // Exports put the base's norms there; another machine may sum their f32 in another order.
                let is_norm = |(found, norm): (&f64, f64)| (found - norm).abs() <= 1e-5 * norm;
                if !own.iter().zip(column_norms(network, part)).all(is_norm) {
                    self.wrong.push(format!(
                        "`{key}` changes `{part}`, which has no adapter, as after training in PEFT; give `--task`, and it is read as one map"
                    ));
                }
            }
        }
    }

    /// Holds the base's own tables, which PEFT saves with `save_embedding_layers`, against the base's.
    fn check_tables(&mut self, network: &Network, stored: &Stored, notes: &mut Vec<String>) {
        let (config, word) = (network.backbone.config(), network.backbone.word());
        let mut found = Vec::new();
        for name in stored.unused() {
            let Some(table) = table_of(name, &config) else { continue };
            found.push(name);
            let own = if table == word.name() {
                word.table(0)
            } else if table == PROJECTION {
                network.backbone.output(0)
            } else {
                continue;
            };
            if stored.tensors[name].1 != values(&own) {
                self.wrong.push(format!(
                    "`{name}` is not the base's table, as after training it or adding words; only the base's own is read"
                ));
            }
        }
        if !found.is_empty() {
            notes.push(format!("tables of the base in the file, which are not read again: {}", found.join(", ")));
        }
    }

    /// What to say of it all.
    fn report(
        mut self,
        config: &Config,
        stored: &Stored,
        pair: Option<&[Matrix; 2]>,
        notes: &mut Vec<String>,
    ) -> Result<(), String> {
        // A head is taken whole: of the file, or of the base.
        if self.lacking.len() == self.heads && self.lacking.iter().all(|(_, is_of_base)| *is_of_base) {
            self.old.extend((self.heads > 0).then_some("the head"));
        } else {
            self.missing.extend(self.lacking.into_iter().map(|(key, _)| key));
        }
        let mut wrong = self.wrong;
        // A pair that is drawn from a seed has no tensors of its own, and nothing is asked of it.
        if let Some([a, b]) = pair.filter(|_| wrong.is_empty() && self.widest != [0, 0])
            && [a.shape[1], b.shape[0]] != self.widest
        {
            wrong.push(format!(
                "`{}` is {:?} and `{}` {:?}, but the widest of the adapted maps is {:?}",
                PAIR[0], a.shape, PAIR[1], b.shape, self.widest
            ));
        }
        // With `bias="all"` PEFT saves the biases of a wrapped head three times.
        let is_copy = |name: &&str| name.contains(".original_module.") || name.contains(".modules_to_save.");
        let extra = stored.unused().into_iter().filter(|name| !is_copy(name) && table_of(name, config).is_none());
        wrong.extend(extra.map(|name| format!("`{name}` belongs to nothing in its configuration")));
        if !self.missing.is_empty() {
            wrong.push(format!("missing: {}", self.missing.join(", ")));
        }
        if !wrong.is_empty() {
            return Err(format!("{}; check that base and folder belong together", wrong.join("; ")));
        }
        if !self.old.is_empty() {
            let list: Vec<&str> = self.old.into_iter().collect();
            notes.push(format!("not in the file, so the base's own: {}", list.join(", ")));
        }
        Ok(())
    }
}

/// Gives every tensor of the network its numbers.
pub(super) fn fill(
    network: &mut Network,
    metadata: &AdapterMetadata,
    base: &BaseModel,
    stored: &mut Stored,
    kept: Option<&BTreeMap<String, Vec<bool>>>,
    pair: Option<&[Matrix; 2]>,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let config = network.backbone.config();
    let known = config.maps();
    let scaling = metadata.plan.variant.scaling;
    let own = |map: &&AdaptedLinear| {
        let (rank, alpha) = (map.rank(0)?, *map.alphas(0)?.first()?);
        Some((map.name().to_owned(), (rank, scaling.at(alpha, rank))))
    };
    let adapted: BTreeMap<String, (usize, f64)> = network.adapted(0).iter().filter_map(own).collect();
    let mut found = Found::default();
    let place_of = network.backbone.place().clone();
    for NamedParam { slot, name, param, .. } in network.parameters(0) {
        let short = if slot.is_empty() { name.as_str() } else { param.name };
        let [_, rows, cols] = param.tensor.dims();
        if param.role == Role::Projection {
            // The start of a residual-init method is that of the base; VeRA's pair is the file's.
            if let Some(part) = pair.and_then(|pair| found.of_pair(pair, short, &slot, [rows, cols])) {
                *param.tensor = place_of.tensor(part.values, [1, rows, cols]);
            }
            continue;
        }
        let whole = match known.get(&slot).map(|map| &map.kind) {
            Some(MapKind::Part(whole)) => Some(whole),
            _ => None,
        };
        let (at, kind) = match whole {
            Some(whole) => (whole.as_str(), Kind::Conv),
            None => (slot.as_str(), Kind::of(&slot, &config)),
        };
        let is_adapted = adapted.contains_key(&slot);
        let Some((suffix, layout)) = place(kind, short, is_adapted) else { continue };
        found.heads += usize::from(slot.is_empty());
        let Some((key, shape, values)) = stored.find(&config, at, &suffix) else {
            let key = format!("`{}`", key(&config, at, &suffix));
            if slot.is_empty() {
                found.lacking.push((key, base.head.find(short).is_some()));
            } else if short == "bias" && is_adapted && metadata.plan.variant.bias == BiasSpec::LoraOnly {
                // PEFT's `lora_only` looks for the biases under a name that they do not have, and saves none.
                found.old.insert("biases of adapted maps");
            } else {
                found.missing.push(key);
            }
            continue;
        };
        let Some(mut matrix) = layout.read(param.role, &shape, values) else {
            found.wrong.push(format!("`{key}` is {shape:?}"));
            continue;
        };
        if let Some(parts) = whole.and_then(|whole| config.parts(whole)) {
            if short == "magnitude" {
                found.joined.insert(key.clone(), (parts.clone(), matrix.clone()));
            }
            matrix = match of_part(&matrix, short, &slot, &parts, &adapted) {
                Ok(part) => part,
                Err(why) => {
                    found.wrong.push(format!("`{key}`, which is {shape:?}, {why}"));
                    continue;
                }
            };
        }
        matrix = spread(matrix, short, &slot, kept);
        if matrix.shape != [rows, cols] {
            let [found_rows, found_cols] = matrix.shape;
            found.wrong.push(format!(
                "`{key}` is {shape:?}, so `{slot}` would be {found_rows}x{found_cols} and not {rows}x{cols}"
            ));
            continue;
        }
        *param.tensor = place_of.tensor(matrix.values, [1, rows, cols]);
    }
    found.check_joined(network, &adapted);
    found.check_tables(network, stored, notes);
    found.report(&config, stored, pair, notes)
}

/// Zeros where AdaLoRA dropped a component.
fn spread(matrix: Matrix, short: &str, slot: &str, kept: Option<&BTreeMap<String, Vec<bool>>>) -> Matrix {
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

/// The table that has a name as its weight.
fn table_of(name: &str, config: &Config) -> Option<String> {
    let maps = config.maps();
    let is_table = |(_, map): &(&String, &models::config::Map)| map.kind == MapKind::Table;
    let means = |slot: &String| {
        [".weight", ".base_layer.weight"].iter().any(|end| name == format!("{WRAPPED}{}{end}", config.full(slot)))
    };
    let found = maps.iter().filter(is_table).map(|(slot, _)| slot).find(|slot| means(slot)).cloned();
    found.or_else(|| (name == format!("{WRAPPED}{PROJECTION}.weight")).then(|| PROJECTION.to_owned()))
}

/// A decoder's output projection.
const PROJECTION: &str = "lm_head";

/// The part's share of a joined factor, or what forbids one.
fn of_part(
    matrix: &Matrix,
    name: &str,
    slot: &str,
    parts: &[String],
    adapted: &BTreeMap<String, (usize, f64)>,
) -> Result<Matrix, &'static str> {
    let misfit = "is not what its parts need";
    let index = parts.iter().position(|part| part == slot).ok_or(misfit)?;
    let ranks: Vec<usize> = parts.iter().map(|part| adapted.get(part).map_or(0, |(rank, _)| *rank)).collect();
    let (before, own) = (ranks[..index].iter().sum::<usize>(), ranks[index]);
    let third = matrix.shape[1] / 3;
    if name != "a" && !matrix.shape[1].is_multiple_of(3) {
        return Err(misfit);
    }
    match name {
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
