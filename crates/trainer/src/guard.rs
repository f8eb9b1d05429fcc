//! Guards of training: what trains has moved, and what is frozen has not. Both compare hashes of values at the first step with those at
//! the end; the base is compared at checkpoints too, which keep its hashes for the sessions that follow, as often as a twentieth of the time
//! allows.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use burn::tensor::Tensor;
use models::{
    backbone::Backbone,
    network::{NamedParam, Network},
};
use record::sha256_hex;
use serde::{Deserialize, Serialize};
use variants::{
    host::{inner, values},
    role::{Role, TrainConfig},
    slot::Slot,
};

use crate::error::TrainError;

/// A run's own tensors, hashed map by map. The head counts as a map without a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnTensors {
    /// Those that train.
    trained: BTreeMap<String, String>,
    /// The others.
    frozen: BTreeMap<String, String>,
}

impl OwnTensors {
    /// Those of a run of a stack as they are now, or as they were `chosen`, by name. `roles` says what trains.
    pub fn of(
        network: &mut Network,
        [stack, run]: [usize; 2],
        chosen: Option<&BTreeMap<String, Tensor<3>>>,
        roles: &TrainConfig,
    ) -> Self {
        let mut texts = [BTreeMap::<String, String>::new(), BTreeMap::new()];
        for NamedParam { slot, name, param } in network.parameters(stack) {
            // Neither trained nor frozen: steps store into it.
            if param.role == Role::Accumulated {
                continue;
            }
            let tensor = match chosen {
                Some(best) => inner(&best[&name]),
                None => inner(&param.tensor).slice([run..run + 1]),
            };
            let of_kind = &mut texts[usize::from(!roles.trains(param.role))];
            *of_kind.entry(slot).or_default() += &format!("{name} {}\n", hash(&tensor));
        }
        let [trained, frozen] =
            texts.map(|all| all.into_iter().map(|(slot, text)| (slot, sha256_hex(text.as_bytes()))).collect());
        Self { trained, frozen }
    }

    /// Maps of which nothing that trains has another value than at the start, and the number of maps that train.
    pub fn unmoved<'a>(&'a self, start: &Self) -> (Vec<&'a str>, usize) {
        let same = |(slot, hash): &(&String, &String)| start.trained.get(*slot) == Some(*hash);
        (self.trained.iter().filter(same).map(|(slot, _)| slot.as_str()).collect(), self.trained.len())
    }

    /// A map of which something that is frozen has another value than at the start.
    pub fn thawed<'a>(&'a self, start: &Self) -> Option<&'a str> {
        let other = |(slot, hash): &(&String, &String)| start.frozen.get(*slot).is_some_and(|old| old != *hash);
        self.frozen.iter().find(other).map(|(slot, _)| slot.as_str())
    }
}

/// Maps of a run that have a tensor which trains and is all zeros. Where a factor or a diagonal starts there, any gradient moves it; weight
/// decay does not, though it changes the other factor of a map that no gradient reaches. What a restart has set to 0 says nothing where
/// the map has accumulated a change before.
pub fn zeros(
    network: &mut Network,
    [stack, run]: [usize; 2],
    chosen: Option<&BTreeMap<String, Tensor<3>>>,
    roles: &TrainConfig,
) -> BTreeSet<String> {
    let (mut zeros, mut accumulated, mut nothing) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for NamedParam { slot, name, param } in network.parameters(stack) {
        let is_accumulated = param.role == Role::Accumulated;
        if !is_accumulated && !roles.trains(param.role) {
            continue;
        }
        let tensor = match chosen {
            Some(best) => inner(&best[&name]),
            None => inner(&param.tensor).slice([run..run + 1]),
        };
        let is_zero = values(&tensor).iter().all(|value| *value == 0.0);
        match (is_accumulated, is_zero) {
            (false, false) => {}
            (false, true) => _ = zeros.insert(slot),
            (true, false) => _ = accumulated.insert(slot),
            (true, true) => _ = nothing.insert(slot),
        }
    }
    // A product of two factors of which neither is 0.
    &zeros - &(&accumulated - &nothing)
}

/// A base's tensors, hashed one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BaseTensors(BTreeMap<String, String>);

impl BaseTensors {
    /// Those that the runs of a network share.
    pub fn of(network: &Network) -> Self {
        let mut backbone = network.backbone.clone();
        let mut all = BTreeMap::new();
        if let Backbone::Llama(_) = backbone
            && network.stacks() > 0
            && !backbone.config().is_tied()
        {
            all.insert("lm_head.weight".to_owned(), hash(&backbone.output(0)));
        }
        for slot in backbone.slots() {
            let name = slot.name().to_owned();
            let (weight, bias) = match slot {
                Slot::Linear(map) => {
                    let (weight, bias) = map.base();
                    (hash(&weight), bias.map(|bias| hash(&bias)))
                }
                Slot::Norm(norm) => {
                    let (gamma, beta) = norm.base();
                    (hash(&gamma), beta.map(|beta| hash(&beta)))
                }
                Slot::Embedding(table) => (hash(&table.base()), None),
            };
            all.extend(bias.map(|bias| (format!("{name}.bias"), bias)));
            all.insert(format!("{name}.weight"), weight);
        }
        Self(all)
    }

    /// An error where a tensor is not what it was.
    pub fn check(&self, now: &Self) -> Result<(), TrainError> {
        self.changed(now).map_or(Ok(()), |name| Err(TrainError::BaseChanged { name: name.to_owned() }))
    }

    /// The first tensor that is not what it was.
    pub fn changed<'a>(&'a self, now: &Self) -> Option<&'a str> {
        self.0.iter().find(|(name, hash)| now.0.get(*name) != Some(*hash)).map(|(name, _)| name.as_str())
    }
}

/// The base of a cohort, held to what it was at the first step.
#[derive(Debug)]
pub struct BaseGuard {
    /// As they were at the first step, in whichever session that was.
    start: BaseTensors,
    /// How long the last look took.
    took: Duration,
    /// When it ended.
    looked: Instant,
}

impl BaseGuard {
    /// Looks take at most one part in so many of the time: hashing a base of some billion numbers takes as long as many steps.
    const SHARE: u32 = 20;

    /// Of a base as it was at the first step.
    pub fn new(start: BaseTensors) -> Self {
        Self { start, took: Duration::ZERO, looked: Instant::now() }
    }

    /// The tensors at the first step.
    pub fn start(&self) -> &BaseTensors {
        &self.start
    }

    /// An error where a tensor is not what it was.
    pub fn check(&mut self, network: &Network) -> Result<(), TrainError> {
        let begun = Instant::now();
        let now = BaseTensors::of(network);
        self.looked = Instant::now();
        self.took = self.looked - begun;
        self.start.check(&now)
    }

    /// As [`check`](Self::check), where the last look is long enough ago.
    pub fn check_in_passing(&mut self, network: &Network) -> Result<(), TrainError> {
        if self.looked.elapsed() < self.took * Self::SHARE { Ok(()) } else { self.check(network) }
    }
}

/// SHA-256 of a tensor's values.
fn hash<const D: usize>(tensor: &Tensor<D>) -> String {
    sha256_hex(inner(tensor).into_data().as_bytes())
}
