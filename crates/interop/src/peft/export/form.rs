//! The form in which PEFT holds an adapter.

use std::collections::BTreeMap;

use models::{
    config::{Config, MapKind},
    network::Network,
    pattern::Pattern,
};
use trainer::adapter::AdapterMetadata;
use variants::{
    adapted::AdaptedLinear,
    base::BiasSpec,
    base_update::AnyBaseUpdate,
    capability::Capability,
    delta::{
        DeltaSpec, low_rank,
        shared_random::{self, Save},
    },
    form::Factors,
    host::values,
    peft::{Field, NoPeftForm, PeftForm, TunedMap, Tuner, TunerConstant},
    penalty::AnyPenalty,
    role::Role,
    scaling::Scaling,
};

use super::{
    super::layout::{Matrix, Slots, gather},
    join::join,
};
use crate::update::mergeable;

/// An adapter in the form in which it is written.
pub(super) struct Form {
    pub(super) metadata: AdapterMetadata,
    /// [`PeftForm::DoubledLora`] where the factors are written without their start, for PEFT to take it off the base.
    pub(super) peft: PeftForm,
    pub(super) slots: Slots,
    /// Rank and `α` of every adapted map, as PEFT names maps.
    pub(super) maps: BTreeMap<String, (usize, f64)>,
    pub(super) architecture: Config,
    /// Whether parts of a fused map were joined, so that names are not those of the plan.
    pub(super) joined: bool,
    /// VeRA's pair, `A [r, d_in]` and `B [d_out, r]`.
    pub(super) pair: Option<[(Vec<usize>, Vec<f64>); 2]>,
    /// AdaLoRA's components.
    pub(super) kept: BTreeMap<String, Vec<bool>>,
    /// What follows from the base, by map.
    pub(super) of_base: Vec<(String, TunerConstant)>,
    /// Whether maps have ranks that are not the plan's, because what was accumulated beside the base is in their factors.
    pub(super) widened: bool,
}

/// Brings an adapter into a form that PEFT has, or says why there is none and what to do.
pub(super) fn form(metadata: AdapterMetadata, network: &mut Network, residual: bool) -> Result<Form, String> {
    mergeable(&metadata)?;
    let label = metadata.cell.variant.clone();
    let peft = metadata.plan.variant.peft_form().map_err(|why| match why {
        NoPeftForm::NoAdapter => {
            format!("`{label}` adapts no map, so PEFT has no form for it; `lora-lab merge` writes a whole checkpoint")
        }
        NoPeftForm::NoCounterpart => format!("PEFT has no form for the update of `{label}`; {APPROXIMATE}"),
    })?;
    let architecture = network.backbone.config();
    let mut maps = BTreeMap::new();
    for map in network.adapted(0) {
        if let (Some(rank), Some(&[alpha, ..])) = (map.rank(0), map.alphas(0)) {
            maps.insert(map.name().to_owned(), (rank, alpha));
        }
    }
    let slots = gather(network);
    for (table, own) in adapter_ranks(&metadata, &slots, &architecture) {
        maps.entry(table).or_insert(own);
    }
    let mut form = Form {
        metadata,
        peft,
        slots,
        maps,
        architecture,
        joined: false,
        pair: None,
        kept: BTreeMap::new(),
        of_base: Vec::new(),
        widened: false,
    };
    form.check_tied(network)?;
    form.widen(network);
    if residual {
        form.take_starts_off()?;
    } else {
        form.shape()?;
        form.of_base = form.of_base(network);
    }
    join(&mut form, network)?;
    if residual && form.joined {
        return Err(format!(
            "PEFT decomposes a fused map as one, but `{label}` started from its parts; leave `--residual` out"
        ));
    }
    Ok(form)
}

/// What can be done where PEFT has no form.
const APPROXIMATE: &str = "`--svd --rank R` approximates its update by a LoRA";

impl Form {
    /// The adapted maps, for what a tuner's file holds of them.
    pub(super) fn tuned(&self) -> Vec<TunedMap<'_>> {
        let known = self.architecture.maps();
        let shape = |slot: &String| known.get(slot).map(|map| map.shape);
        self.maps
            .iter()
            .filter_map(|(slot, (rank, _))| Some(TunedMap { slot, shape: shape(slot)?, rank: *rank }))
            .collect()
    }

    /// What a tuner's file holds of every map that follows from the base.
    fn of_base(&self, network: &Network) -> Vec<(String, TunerConstant)> {
        let Some(delta) = self.metadata.plan.variant.delta.as_ref() else { return Vec::new() };
        let of_map = |map: &AdaptedLinear| {
            let constants = delta.peft_of_base(&map.base().0).into_iter();
            constants.map(|own| (map.name().to_owned(), own)).collect::<Vec<_>>()
        };
        network.adapted(0).into_iter().flat_map(of_map).collect()
    }

    /// Gives the recipe the form that a tuner has for these maps.
    fn fit_tuner(&mut self) -> Result<(), String> {
        let label = &self.metadata.cell.variant;
        let variant = &self.metadata.plan.variant;
        let Some(delta) = &variant.delta else { unreachable!("a tuner's form has a delta") };
        let fitted = delta.for_peft(&self.tuned()).map_err(|why| format!("`{label}` {why}"))?;
        let Some(PeftForm::Tuner(tuner)) = fitted.peft() else { unreachable!("the form of a tuner stays one") };
        self.check_tuner(&tuner)?;
        self.metadata.plan.variant.delta = Some(fitted);
        self.peft = PeftForm::Tuner(tuner);
        Ok(())
    }

    /// Refuses what a tuner's configuration has no field for.
    fn check_tuner(&self, tuner: &Tuner) -> Result<(), String> {
        let (label, variant) = (&self.metadata.cell.variant, &self.metadata.plan.variant);
        let (kind, lacks) = (tuner.peft_type, |field: Field| tuner.field(|own| *own == field).is_none());
        let scales = || self.maps.values().map(|(rank, alpha)| variant.scaling.at(*alpha, *rank));
        let known = self.architecture.maps();
        let problem = if self.architecture.stores_inputs_first() {
            Some("was not held against PEFT on GPT-2's maps, which are kept inputs first".to_owned())
        } else if let Some(table) =
            self.maps.keys().find(|map| known.get(*map).is_none_or(|map| map.kind == MapKind::Table))
        {
            Some(format!("has no form for `{table}`, which is a table"))
        } else if variant.bias != BiasSpec::None {
            Some("trains no biases here; use `bias: none`".to_owned())
        } else if lacks(Field::Dropout) && variant.dropout != 0.0 {
            Some(format!("has no dropout of inputs, which is `{}` here; use `dropout: 0`", variant.dropout))
        } else if let Some(scale) = scales().find(|scale| lacks(Field::Alpha) && *scale != 1.0) {
            Some(format!("has no scale, which is `{scale}` here; use `scaling: {{kind: constant, value: 1}}`"))
        } else if let Some([least, most]) =
            spread(self.maps.values().map(|(rank, _)| *rank as f64)).filter(|_| lacks(Field::RankPattern))
        {
            Some(format!(
                "has one rank for all maps, but they have ranks from `{least}` to `{most}`; leave `rank_pattern` out"
            ))
        } else {
            None
        };
        problem.map_or(Ok(()), |problem| Err(format!("PEFT's {kind}, the form of `{label}`, {problem}")))
    }

    /// Refuses a table that trains on both ways.
    fn check_tied(&self, network: &Network) -> Result<(), String> {
        let (label, word) = (&self.metadata.cell.variant, network.backbone.word().name().to_owned());
        let trains = self.slots.get(&word).is_some_and(|own| own.contains_key("weight"));
        if self.metadata.plan.text().is_some() && self.architecture.is_tied() && trains {
            return Err(format!(
                "`{label}` trains `{word}`, which is also the output projection; PEFT would train a copy of it on the way in alone, so it \
                 has no form there; `lora-lab merge` writes a whole checkpoint"
            ));
        }
        Ok(())
    }

    /// Puts what was accumulated beside the base into the factors, `s·[A, P]·[B; Q]`: a LoRA of more components and the same scale.
    fn widen(&mut self, network: &Network) {
        let variant = &mut self.metadata.plan.variant;
        if variant.base_update.is_none() {
            return;
        }
        self.widened = true;
        variant.base_update = AnyBaseUpdate::default();
        // A penalty on what is now part of the factors has nothing left that it concerns.
        let plain = variant.clone();
        let holds = |penalty: &AnyPenalty| penalty.requires().iter().all(|rule| plain.lacks(&[rule.needs]).is_none());
        variant.penalties.retain(|penalty, _| holds(penalty));
        for map in network.adapted(0) {
            let Some(Factors { down, up }) = map.whole(0) else { continue };
            let ([_, d_in, k], [_, _, d_out]) = (down.dims(), up.dims());
            let (Some((rank, alpha)), Some(own)) = (self.maps.get_mut(map.name()), self.slots.get_mut(map.name()))
            else {
                continue;
            };
            let share = k as f64 / *rank as f64;
            *alpha *= match variant.scaling {
                Scaling::AlphaOverRank => share,
                Scaling::AlphaOverSqrtRank => share.sqrt(),
                Scaling::Constant { .. } => 1.0,
            };
            *rank = k;
            own.retain(|_, matrix| matrix.role != Role::Accumulated);
            own.insert("a".to_owned(), Matrix { role: Role::A, shape: [d_in, k], values: values(&down) });
            own.insert("b".to_owned(), Matrix { role: Role::B, shape: [k, d_out], values: values(&up) });
        }
        let AdapterMetadata { plan, cell, .. } = &mut self.metadata;
        // Maps that are narrower than the others, by name.
        let Some((most, alpha)) = self.maps.values().max_by_key(|(rank, _)| *rank).copied() else { return };
        let others = |(_, own): &(&String, &(usize, f64))| own.0 != most;
        plan.modules.rank_pattern = self.maps.iter().filter(others).map(|(map, own)| (map.clone(), own.0)).collect();
        let others = |(_, own): &(&String, &(usize, f64))| own.1 != alpha;
        plan.modules.alpha_pattern = self.maps.iter().filter(others).map(|(map, own)| (map.clone(), own.1)).collect();
        (plan.variant.rank, plan.variant.alpha, cell.rank) = (most, alpha, most);
        plan.readouts.clear();
    }

    /// Leaves the starts out, which PEFT takes off the base again.
    fn take_starts_off(&mut self) -> Result<(), String> {
        let label = &self.metadata.cell.variant;
        let PeftForm::DoubledLora { start } = self.peft else {
            return Err(format!(
                "`--residual` is for starts that are taken off the base, but `{label}` has none; leave it out"
            ));
        };
        let decomposed = self.metadata.plan.variant.lacks(&[Capability::Additive]).is_some();
        let Some(start) = start.filter(|_| !decomposed) else {
            return Err(format!(
                "PEFT has no start that `{label}` could be taken off the base by; leave `--residual` out"
            ));
        };
        if start == "olora" && self.architecture.stores_inputs_first() {
            // PEFT 0.18 decomposes `Conv1D` as if it lay as `[d_out, d_in]`, and then cannot hold the factors.
            return Err("PEFT cannot take OLoRA's start off GPT-2's maps; leave `--residual` out".to_owned());
        }
        for slot in self.maps.keys() {
            if let Some(own) = self.slots.get_mut(slot) {
                own.retain(|name, _| !name.starts_with("start_"));
            }
        }
        Ok(())
    }

    /// Gives the tensors the shape of PEFT's own.
    fn shape(&mut self) -> Result<(), String> {
        let (label, plan) = (&self.metadata.cell.variant, &self.metadata.plan);
        if !plan.modules.trainable_token_indices.is_empty()
            && matches!(self.peft, PeftForm::Tuner(_) | PeftForm::DoubledTuner(_) | PeftForm::Vera(_))
        {
            let kind = self.peft.peft_type();
            return Err(format!(
                "PEFT's {kind}, the form of `{label}`, has no rows of a table that train, as LoRA has; `lora-lab merge` writes a whole checkpoint"
            ));
        }
        match &self.peft {
            PeftForm::Lora => {}
            PeftForm::Tuner(_) => self.fit_tuner()?,
            PeftForm::DoubledTuner(_) => {
                double_bounded(&mut self.metadata, &mut self.slots, &mut self.maps);
                self.fit_tuner()?;
            }
            PeftForm::DoubledLora { .. } => {
                double(&mut self.metadata, &mut self.slots, &mut self.maps);
                self.peft = PeftForm::Lora;
            }
            PeftForm::AdaLora => {
                if !plan.modules.rank_pattern.is_empty() || !plan.modules.alpha_pattern.is_empty() {
                    return Err(format!(
                        "PEFT's AdaLoRA has one rank and alpha for all maps, but `{label}` has patterns; {APPROXIMATE}"
                    ));
                }
                self.kept = prune(&self.maps, &mut self.slots);
            }
            PeftForm::Vera(own) => {
                if plan.variant.scaling != (Scaling::Constant { value: 1.0 }) {
                    return Err(format!("PEFT's VeRA has no scale, but `{label}` has one; {APPROXIMATE}"));
                }
                let rank = plan.variant.rank;
                self.pair = Some(vera_pair(own, rank, &self.maps, &self.architecture, &mut self.slots));
            }
        }
        Ok(())
    }
}

/// Ranks or alphas as a message names them.
fn spread(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    (least < most).then_some([least, most])
}

/// Rank and `α` of adapted tables, which are no linear maps.
fn adapter_ranks(metadata: &AdapterMetadata, slots: &Slots, config: &Config) -> Vec<(String, (usize, f64))> {
    let alpha = |slot: &str| {
        let full = config.full(slot);
        let is_met = |pattern: &Pattern, name: &str| pattern.is_match(name).is_ok_and(|is_match| is_match);
        // The plan's patterns were tried on these names when its maps were selected, so none of them fails now.
        let matches =
            |pattern: &str| Pattern::ending(pattern).is_ok_and(|own| is_met(&own, &full) || is_met(&own, slot));
        let found = metadata.plan.modules.alpha_pattern.iter().find(|(pattern, _)| matches(pattern));
        found.map_or(metadata.plan.variant.alpha, |(_, alpha)| *alpha)
    };
    let table = |(slot, own): (&String, &BTreeMap<String, Matrix>)| {
        let a = own.get("a").filter(|a| a.role == Role::Embedding)?;
        Some((slot.clone(), (a.shape[1], alpha(slot))))
    };
    slots.iter().filter_map(table).collect()
}

/// `s·(A·B − A₀·B₀)` as a LoRA of twice the rank, `s·[A − A₀, A₀]·[B; B − B₀]`: its terms do not cancel where a reader rounds the factors.
fn double(metadata: &mut AdapterMetadata, slots: &mut Slots, maps: &mut BTreeMap<String, (usize, f64)>) {
    let variant = &mut metadata.plan.variant;
    // The scale stays while the rank doubles.
    let factor = match variant.scaling {
        Scaling::AlphaOverRank => 2.0,
        Scaling::AlphaOverSqrtRank => 2.0_f64.sqrt(),
        Scaling::Constant { .. } => 1.0,
    };
    variant.delta = Some(DeltaSpec::LowRank(low_rank::Spec::default()));
    variant.rank *= 2;
    variant.alpha *= factor;
    metadata.plan.modules.rank_pattern.iter_mut().for_each(|(_, rank)| *rank *= 2);
    metadata.plan.modules.alpha_pattern.iter_mut().for_each(|(_, alpha)| *alpha *= factor);
    metadata.plan.readouts.clear();
    metadata.cell.rank *= 2;
    for (slot, (rank, alpha)) in maps.iter_mut() {
        let Some(own) = slots.get_mut(slot) else { continue };
        if let (Some(start_a), Some(start_b)) = (own.remove("start_a"), own.remove("start_b")) {
            (*rank, *alpha) = (*rank * 2, *alpha * factor);
            own.entry("a".to_owned()).and_modify(|a| {
                a.values.iter_mut().zip(&start_a.values).for_each(|(a, start)| *a -= start);
                *a = a.beside(&start_a);
            });
            own.entry("b".to_owned()).and_modify(|b| {
                let moved: Vec<_> = b.values.iter().zip(&start_b.values).map(|(b, start)| b - start).collect();
                b.values.extend(moved);
                b.shape[0] += start_b.shape[0];
            });
        }
    }
}

/// A start that is subtracted as components beside the others, `[A, A₀]`, `[B; −B₀]` and twice the bound: PEFT's DeLoRA of twice the rank.
fn double_bounded(metadata: &mut AdapterMetadata, slots: &mut Slots, maps: &mut BTreeMap<String, (usize, f64)>) {
    metadata.plan.variant.rank *= 2;
    metadata.plan.modules.rank_pattern.iter_mut().for_each(|(_, rank)| *rank *= 2);
    metadata.plan.readouts.clear();
    metadata.cell.rank *= 2;
    for (slot, (rank, _)) in maps.iter_mut() {
        let Some(own) = slots.get_mut(slot) else { continue };
        if let (Some(start_a), Some(start_b)) = (own.remove("start_a"), own.remove("start_b")) {
            *rank *= 2;
            own.entry("a".to_owned()).and_modify(|a| *a = a.beside(&start_a));
            own.entry("b".to_owned()).and_modify(|b| {
                b.values.extend(start_b.values.iter().map(|value| -value));
                b.shape[0] += start_b.shape[0];
            });
            own.entry("bound".to_owned()).and_modify(|bound| bound.values.iter_mut().for_each(|value| *value *= 2.0));
        }
    }
}

/// Takes components off whose `λ` is 0, and says which are left. PEFT cannot open a map without any, so the first stays there.
fn prune(maps: &BTreeMap<String, (usize, f64)>, slots: &mut Slots) -> BTreeMap<String, Vec<bool>> {
    let mut all = BTreeMap::new();
    for map in maps.keys() {
        let Some(own) = slots.get_mut(map) else { continue };
        let mut keep: Vec<bool> = own["lambda"].values.iter().map(|value| *value != 0.0).collect();
        if !keep.contains(&true) {
            keep[0] = true;
        }
        own.entry("q".to_owned()).and_modify(|q| *q = q.chosen_columns(&keep));
        own.entry("lambda".to_owned()).and_modify(|lambda| *lambda = lambda.chosen_columns(&keep));
        own.entry("p".to_owned()).and_modify(|p| *p = p.transposed().chosen_columns(&keep).transposed());
        all.insert(map.clone(), keep);
    }
    all
}

/// The pair for the widest map, of which every map uses the first rows and columns.
fn vera_pair(
    spec: &shared_random::Spec,
    rank: usize,
    maps: &BTreeMap<String, (usize, f64)>,
    config: &Config,
    slots: &mut Slots,
) -> [(Vec<usize>, Vec<f64>); 2] {
    let known = config.maps();
    let shapes: Vec<(&String, [usize; 2])> = maps.keys().map(|map| (map, known[map].shape)).collect();
    let widest = [0, 1].map(|axis| shapes.iter().map(|(_, shape)| shape[axis]).max().unwrap_or(0));
    let own = |name: &str, axis: usize| {
        let slot = shapes.iter().find(|(_, shape)| shape[axis] == widest[axis]).map(|(map, _)| *map)?;
        Some(slots.get(slot)?.get(name)?.transposed())
    };
    let found = if let (Save::Yes, Some(a), Some(b)) = (spec.pair, own("a", 0), own("b", 1)) {
        [(a.shape.to_vec(), a.values), (b.shape.to_vec(), b.values)]
    } else {
        let [a, b] = shared_random::pair(spec.projection_seed, rank, widest);
        [(vec![rank, widest[0]], a), (vec![widest[1], rank], b)]
    };
    for map in maps.keys() {
        if let Some(own) = slots.get_mut(map) {
            own.retain(|_, matrix| matrix.role != Role::Projection);
        }
    }
    found
}
