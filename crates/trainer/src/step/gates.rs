//! Gates of components: what the rank policy asks for where components open, close or end a search.

use std::collections::BTreeMap;

use kernels::ops;
use models::network::Network;
use variants::{
    base_update::Moments,
    host::{inner, values},
    pass::Pass,
    rank::{Gating, Observed, RankPolicy, Renewed},
    role::Role,
};

use crate::{
    batch::{BatchSource, DeviceBatch, forward},
    cohort::Cohort,
};

/// The name of a delta's gates, `[runs, 1, rank]`.
const GATE: &str = "gate";

/// Numbers of every component of a map, by map, then run.
type ByMap = BTreeMap<String, Vec<Vec<f64>>>;

/// The gates of a stack's deltas.
fn gates_of(network: &mut Network, stack: usize) -> ByMap {
    let mut all = ByMap::new();
    for named in network.parameters(stack) {
        if named.param.role == Role::Accumulated && named.param.name == GATE {
            let [_, _, rank] = named.param.tensor.dims();
            let of_run = values(&inner(&named.param.tensor)).chunks(rank).map(<[f64]>::to_vec).collect();
            all.insert(named.slot, of_run);
        }
    }
    all
}

/// Puts gates in place, where recorded steps read them.
fn put_gates(network: &mut Network, stack: usize, gates: &ByMap) {
    let place = network.backbone.place().clone();
    for mut named in network.parameters(stack) {
        let Some(gates) = gates.get(&named.slot).filter(|_| named.param.name == GATE) else { continue };
        let old = inner(&named.param.tensor);
        let new = place.tensor(gates.iter().flatten().copied().collect(), old.dims());
        named.param.tensor.set(ops::assign(old, new));
    }
}

/// The mean losses of the runs of a network's only stack under these gates, on one batch.
struct Losses<'a> {
    network: &'a Network,
    batch: DeviceBatch,
    runs: usize,
}

impl Losses<'_> {
    fn under(&self, gates: &ByMap) -> Vec<f64> {
        // A copy of its own: what is put in place stays apart from what trains.
        let mut network = self.network.clone();
        let place = network.backbone.place().clone();
        for mut named in network.parameters(0) {
            let Some(gates) = gates.get(&named.slot).filter(|_| named.param.name == GATE) else { continue };
            let numbers = gates.iter().flatten().copied().collect();
            let shape = named.param.tensor.dims();
            named.param.tensor.set(place.tensor(numbers, shape));
        }
        values(&inner(&forward::losses(&network, &self.batch, &Pass::evaluation(self.runs)).swap_remove(0)))
    }
}

impl Cohort {
    /// Sets gates where the rank policies ask for it after this step. `source` has the examples that are held out.
    pub(super) fn set_gates(&mut self, source: &dyn BatchSource) {
        for index in 0..self.stacks.len() {
            let due: Vec<Option<Gating>> =
                self.stacks[index].actions(self.step).into_iter().map(|action| action.gate).collect();
            if due.iter().all(Option::is_none) {
                continue;
            }
            let now = gates_of(&mut self.network, index);
            let scores = self.scores(index, &now, &due, source);
            let mut after = now.clone();
            let policy = self.stacks[index].variant().spec().rank_policy.clone();
            for (run, gating) in due.iter().enumerate().filter_map(|(run, gating)| Some((run, (*gating)?))) {
                let maps: Vec<&String> = now.keys().filter(|map| scores.contains_key(*map)).collect();
                let of_run = |all: &ByMap| maps.iter().map(|map| all[*map][run].clone()).collect::<Vec<_>>();
                let new = policy.gates(&of_run(&scores), &of_run(&now));
                for (map, gates) in maps.iter().zip(new) {
                    after.get_mut(*map).unwrap_or_else(|| unreachable!("a map of the same list"))[run] = gates;
                }
                let is_open = |gate: &f64| *gate != 0.0;
                let kept = after.iter().map(|(map, runs)| (map.clone(), runs[run].iter().map(is_open).collect()));
                self.stacks[index].runs[run].kept = Some(kept.collect());
                self.renew(index, run, gating, &now, &after);
            }
            put_gates(&mut self.network, index, &after);
            self.bind_views(index);
        }
    }

    /// What every component of a stack is judged by.
    fn scores(&self, index: usize, now: &ByMap, due: &[Option<Gating>], source: &dyn BatchSource) -> ByMap {
        let stack = &self.stacks[index];
        let policy = &stack.variant().spec().rank_policy;
        if policy.averages_of() != Observed::Ablations {
            return stack.importance.scores(policy, &stack.optimizer);
        }
        let network = self.network.only(index).frozen();
        // Runs of other lengths are at rounds of their own; what a run that is not due sees counts for nothing.
        let numbers: Vec<u64> = due.iter().map(|due| due.map_or(0, |gating| gating.round - 1)).collect();
        let batch = source.held_out(&network, index, &numbers).upload(network.backbone.place());
        ablate(&Losses { network: &network, batch, runs: stack.runs.len() }, now)
    }

    /// Begins anew what a run's new gates say.
    fn renew(&mut self, index: usize, run: usize, gating: Gating, now: &ByMap, after: &ByMap) {
        if gating.renewed == Renewed::Factors {
            let renewed = self.begin_anew(index, run, gating.round, &|role| role != Role::Lambda);
            self.stacks[index].treat_moments(run, Moments::Fresh, &renewed);
            return;
        }
        for (slot, name, value) in self.network.drawn_anew(index, &self.stacks[index].plan, run, gating.round) {
            let (Some(before), Some(after)) = (now.get(&slot), after.get(&slot)) else { continue };
            let opened = |at: &usize| before[run][*at] == 0.0 && after[run][*at] != 0.0;
            let opened: Vec<usize> = (0..before[run].len()).filter(opened).collect();
            let optimizer = &mut self.stacks[index].optimizer;
            if let Some(slice) =
                optimizer.find(&slot, name).filter(|slice| !opened.is_empty() && slice.rank_axis.is_some())
            {
                optimizer.renew(run, &slice, &opened, &value);
            }
        }
    }
}

/// The importance of every open component, `S(M) − S(M∖i) + S(Mᵢ)` with `S` the negative loss; 0 of closed ones.
fn ablate(losses: &Losses<'_>, now: &ByMap) -> ByMap {
    let whole = losses.under(now);
    let none: ByMap =
        now.iter().map(|(map, runs)| (map.clone(), runs.iter().map(|g| vec![0.0; g.len()]).collect())).collect();
    let mut scores = none.clone();
    for (map, runs) in now {
        for component in 0..runs.first().map_or(0, Vec::len) {
            let is_open: Vec<bool> = runs.iter().map(|gates| gates[component] != 0.0).collect();
            if !is_open.contains(&true) {
                continue;
            }
            let (mut without, mut alone) = (now.clone(), none.clone());
            for (run, gates) in runs.iter().enumerate() {
                set(&mut without, map, run, component, 0.0);
                set(&mut alone, map, run, component, gates[component]);
            }
            let (without, alone) = (losses.under(&without), losses.under(&alone));
            for run in (0..runs.len()).filter(|run| is_open[*run]) {
                set(&mut scores, map, run, component, without[run] - whole[run] - alone[run]);
            }
        }
    }
    scores
}

/// Sets one number.
fn set(all: &mut ByMap, map: &str, run: usize, component: usize, value: f64) {
    if let Some(runs) = all.get_mut(map) {
        runs[run][component] = value;
    }
}
