//! LoRAHub: weights of adapters that a search without gradients finds on a few examples of another task.
//!
//! Over `w ∈ [-1.5, 1.5]ⁿ`, from 0, the search minimises
//!
//! `L(w) + 0.05·Σ_i|w_i|/n`
//!
//! where `L` is the mean loss on a few training examples of the target task. The adapter at `w` is
//!
//! | mix | `ΔW` |
//! |---|---|
//! | `factors` | `(Σ_i w_i·A_i)·(Σ_i w_i·B_i)`: with cross terms, of the adapters' own rank, which they share |
//! | `deltas` | `Σ_i w_i·ΔW_i`: without, at the sum of the ranks |
//!
//! The paper mixes factors. So one adapter at `w` is `w²·ΔW`, and all at 0 is the base. Scales are in `A_i`.
//!
//! The search is a (1+1) evolution strategy with the one-fifth rule: a step of `N(0, σ²)` in every weight, cut to the bounds; `σ` starts at a
//! third of the bound and is multiplied by `e^{0.8/n'}` after a step that is no worse and by `e^{-0.2/n'}` after another, `n' = √(n + 1)`. It is seeded, and
//! its number of evaluations is given; the first is that of the base.
//!
//! Departures. The authors' code calls Nevergrad's `NGOpt`, which picks a search by the number of weights and evaluations; the paper names
//! CMA-ES. This search is a few lines whose stream is seeded as every other here; a CMA-ES library would bring its own linear algebra and
//! generator for a handful of weights. A head for classification has no part in the paper, whose models write texts: here it is the target's, as it is.
//!
//! Huang et al., *LoraHub: Efficient Cross-Task Generalization via Dynamic LoRA Composition*, 2023, arXiv:2307.13269; bounds, start, penalty and
//! the number of 40 evaluations from the authors' code (sail-sg/lorahub, `algorithm.py`). Rechenberg, *Evolutionsstrategie*, 1973.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use lowrank::{LowRank, Truncated, Update};
use models::network::Network;
use nalgebra::DMatrix;
use trainer::{adapter, error::TrainError, evaluate::few_shot::FewShot, model_cache::ModelCache};
use variants::{
    host::Placement,
    presets,
    scaling::Scaling,
    slot::{MapPlan, RunPlan, StackPlan},
    spec::VariantSpec,
    stream::{self, Stream},
};

use super::{foreign, member::Member};
use crate::{
    head::{self, WholeTensor},
    peft,
};

/// What weights are within, in magnitude.
pub const BOUND: f64 = 1.5;
/// What the mean magnitude of the weights counts.
const PENALTY: f64 = 0.05;

/// How adapters become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Factor by factor.
    Factors,
    /// Update by update.
    Deltas,
}

/// What is searched.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// A run on the target task, whose examples and head are used.
    pub target: &'a Path,
    /// How adapters become one.
    pub mix: Mix,
    /// Training examples of the target.
    pub examples: usize,
    /// How often the loss is computed.
    pub evaluations: usize,
    /// Of the search.
    pub seed: u64,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// By map.
    pub(super) maps: BTreeMap<String, Truncated>,
    /// The target's.
    pub(super) head: Vec<WholeTensor>,
    /// What a reader should know.
    pub(super) notes: Vec<String>,
}

/// The adapter at the best weights that the search finds.
pub(super) fn search(members: &[Member], search: &Search<'_>, cache: &ModelCache) -> Result<Found, TrainError> {
    let names: BTreeSet<&String> = members.iter().flat_map(|member| member.maps.keys()).collect();
    let updates: BTreeMap<&String, Vec<Option<&Update>>> =
        names.into_iter().map(|name| (name, members.iter().map(|member| member.maps.get(name)).collect())).collect();
    if search.mix == Mix::Factors {
        same_ranks(&updates, members)?;
    }
    let mut target = Target::new(&updates, search, members, cache)?;
    let mut best = Searched { weights: vec![0.0; members.len()], value: f64::INFINITY, loss: f64::NAN };
    let mut base = f64::NAN;
    let loss = |weights: &[f64]| {
        let loss = target.loss(&updates, weights, search.mix)?;
        if base.is_nan() {
            base = loss;
        }
        Ok(loss)
    };
    minimise(&mut best, search.evaluations, search.seed, loss)?;
    let maps = updates
        .iter()
        .map(|(name, updates)| {
            let mixed = mixed(updates, &best.weights, search.mix);
            let found = match (search.mix, mixed) {
                // Factors are kept as they are.
                (Mix::Factors, Update::LowRank(update)) => Ok(Truncated { norm: update.norm(), update, lost: 0.0 }),
                (_, mixed) => mixed.truncated(None).map_err(|error| error.to_string()),
            };
            let found = found.map_err(|reason| foreign(search.target, format!("`{name}`: {reason}")))?;
            Ok(((*name).clone(), found))
        })
        .collect::<Result<_, TrainError>>()?;
    let shown = members.iter().zip(&best.weights).map(|(member, weight)| format!("{weight:.6} of {}", member.shown));
    let notes = vec![
        format!("weights: {}", shown.collect::<Vec<_>>().join(", ")),
        format!(
            "loss on {} training examples of `{}`: {base:.4} of the base with the target's head, {:.4} of the adapter, after {} evaluations",
            target.shots.examples, target.task, best.loss, search.evaluations
        ),
    ];
    Ok(Found { maps, head: target.head, notes })
}

/// Factors of unlike ranks have no sum.
fn same_ranks(updates: &BTreeMap<&String, Vec<Option<&Update>>>, members: &[Member]) -> Result<(), TrainError> {
    for (name, updates) in updates {
        let mut first: Option<(usize, &Member)> = None;
        for (update, member) in updates.iter().zip(members) {
            let rank = match update {
                None => continue,
                Some(Update::LowRank(update)) => update.down().ncols(),
                Some(Update::Dense(_)) => {
                    let reason = format!("its update of `{name}` has no factors to mix; use `--mix deltas`");
                    return Err(foreign(Path::new(&member.shown), reason));
                }
            };
            match first {
                Some((other, of)) if other != rank => {
                    let reason = format!(
                        "`{name}` has rank {rank}, but in {} it has {other}, and factors of unlike ranks cannot be added; use `--mix deltas`",
                        of.shown
                    );
                    return Err(foreign(Path::new(&member.shown), reason));
                }
                _ => first = Some((rank, member)),
            }
        }
    }
    Ok(())
}

/// The update of one map at weights; at least one adapter has it.
fn mixed(updates: &[Option<&Update>], weights: &[f64], mix: Mix) -> Update {
    let given: Vec<(f64, &Update)> =
        weights.iter().zip(updates).filter_map(|(weight, update)| Some((*weight, (*update)?))).collect();
    if mix == Mix::Deltas {
        return Update::weighted_sum(&given);
    }
    let sum = |factor: &dyn Fn(&LowRank) -> DMatrix<f64>| {
        let terms = given.iter().map(|(weight, update)| match update {
            Update::LowRank(update) => factor(update) * *weight,
            Update::Dense(_) => unreachable!("every update has factors, as asked above"),
        });
        terms.reduce(|sum, term| sum + term).unwrap_or_else(|| unreachable!("an adapter has the map"))
    };
    let (down, up) = (sum(&|update| update.down().clone()), sum(&|update| update.up().clone()));
    Update::LowRank(LowRank::new(down, up).unwrap_or_else(|_| unreachable!("sums of factors are factors")))
}

/// The target's model with room for the adapter, and its examples.
struct Target {
    network: Network,
    place: Placement,
    /// Components that every map has room for.
    room: BTreeMap<String, usize>,
    shots: FewShot,
    head: Vec<WholeTensor>,
    task: String,
}

impl Target {
    fn new(
        updates: &BTreeMap<&String, Vec<Option<&Update>>>,
        search: &Search<'_>,
        members: &[Member],
        cache: &ModelCache,
    ) -> Result<Self, TrainError> {
        let wrong = |reason: &str| foreign(search.target, reason.to_owned());
        if peft::is_folder(search.target) {
            return Err(wrong(
                "is a PEFT folder, which does not say what it was trained on; give a run on the target task",
            ));
        }
        let (metadata, mut trained) = adapter::load(&adapter::resolve(search.target)?, cache)?;
        if let Some(other) =
            members.iter().find(|member| member.hash.as_ref().is_some_and(|hash| *hash != metadata.model_hash))
        {
            return Err(wrong(&format!("is a run of another base than that of {}", other.shown)));
        }
        let linears: BTreeMap<&str, [usize; 2]> =
            trained.backbone.linears().into_iter().map(|map| (map.name(), map.shape())).collect();
        let mut room = BTreeMap::new();
        for (name, updates) in updates {
            let Some([d_in, d_out]) = linears.get(name.as_str()) else {
                return Err(wrong(&format!(
                    "has the parts of `{name}` apart, on which the whole map's update is not put; merge with another method"
                )));
            };
            let widths = updates.iter().flatten().map(|update| match update {
                Update::LowRank(update) => update.down().ncols(),
                Update::Dense(_) => (*d_in).min(*d_out),
            });
            let width: usize = if search.mix == Mix::Factors { widths.max().unwrap_or(1) } else { widths.sum() };
            room.insert((*name).clone(), width.clamp(1, (*d_in).min(*d_out)));
        }
        let spec =
            VariantSpec { scaling: Scaling::Constant { value: 1.0 }, dropout: 0.0, ..presets::lora::PRESET.at(1) };
        let variant = spec.check(None).unwrap_or_else(|_| unreachable!("LoRA without a scale is valid"));
        let own = |rank: &usize| MapPlan { rank: Some(*rank), alpha: None };
        let plan = StackPlan {
            maps: room.iter().map(|(name, rank)| (name.clone(), own(rank))).collect(),
            ..StackPlan::new(variant, vec![RunPlan { init_seed: 0, alpha: 1.0 }], room.keys().cloned().collect())
        };
        let mut network = cache.network(&metadata.plan, &[(plan.with_given_values(), vec![metadata.outputs])])?;
        network = network.with_head_of(&trained);
        let shots = FewShot::new(&metadata.plan, search.examples, &network, cache)?;
        let place = network.backbone.place().clone();
        let mut head = head::tensors(&mut trained);
        head.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { network, place, room, shots, head, task: metadata.plan.task })
    }

    /// The loss of the adapter at weights.
    fn loss(
        &mut self,
        updates: &BTreeMap<&String, Vec<Option<&Update>>>,
        weights: &[f64],
        mix: Mix,
    ) -> Result<f64, TrainError> {
        let mut factors = BTreeMap::new();
        for (name, updates) in updates {
            let room = self.room[*name];
            let update = match mixed(updates, weights, mix) {
                Update::LowRank(update) if update.down().ncols() <= room => update,
                wide => {
                    wide.truncated(Some(room)).map_err(|error| foreign(Path::new(*name), error.to_string()))?.update
                }
            };
            factors.insert((*name).clone(), update);
        }
        for mut named in self.network.parameters(0) {
            let Some(update) = factors.get(&named.slot) else { continue };
            let [_, rows, cols] = named.param.tensor.dims();
            let factor = if named.param.name == "a" { update.down() } else { update.up() };
            let mut padded = DMatrix::zeros(rows, cols);
            padded.view_mut((0, 0), factor.shape()).copy_from(factor);
            let values = padded.transpose().as_slice().to_vec();
            named.param.tensor.set(self.place.tensor(values, [1, rows, cols]));
        }
        Ok(self.shots.loss(&self.network))
    }
}

/// The best weights so far.
#[derive(Clone, Debug, PartialEq)]
struct Searched {
    weights: Vec<f64>,
    /// What is minimised, there.
    value: f64,
    /// The loss alone.
    loss: f64,
}

/// Minimises the loss and the penalty from 0, by so many evaluations; losses that are not finite are no better than any.
fn minimise(
    best: &mut Searched,
    evaluations: usize,
    seed: u64,
    mut loss: impl FnMut(&[f64]) -> Result<f64, TrainError>,
) -> Result<(), TrainError> {
    let n = best.weights.len();
    let rng = &mut stream::generator(seed, Stream::Data, "lorahub");
    let (mut size, damping) = (BOUND / 3.0, ((n + 1) as f64).sqrt());
    for evaluation in 0..evaluations {
        let weights: Vec<f64> = if evaluation == 0 {
            best.weights.clone()
        } else {
            let steps = stream::normal(rng, n, size);
            best.weights.iter().zip(steps).map(|(weight, step)| (weight + step).clamp(-BOUND, BOUND)).collect()
        };
        let found = loss(&weights)?;
        let value = found + PENALTY * weights.iter().map(|weight| weight.abs()).sum::<f64>() / n as f64;
        let is_better = value <= best.value;
        if evaluation > 0 {
            size *= ((if is_better { 0.8 } else { -0.2 }) / damping).exp();
        }
        if is_better {
            *best = Searched { weights, value, loss: found };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn searched(seed: u64, evaluations: usize, centre: [f64; 3]) -> (Searched, usize) {
        let mut best = Searched { weights: vec![0.0; 3], value: f64::INFINITY, loss: f64::NAN };
        let mut asked = 0;
        let loss = |weights: &[f64]| {
            asked += 1;
            assert!(weights.iter().all(|weight| weight.abs() <= BOUND), "{weights:?}");
            Ok(weights.iter().zip(centre).map(|(weight, centre)| 100.0 * (weight - centre).powi(2)).sum())
        };
        minimise(&mut best, evaluations, seed, loss).unwrap_or_else(|error| panic!("{error}"));
        (best, asked)
    }

    /// A bowl whose least value lies within the bounds, and one whose lies outside: near it, at the bound. The penalty moves it by 8e-5.
    #[test]
    fn the_search_finds_the_bottom_of_a_bowl() {
        for (centre, wanted) in [([0.5, -1.0, 0.0], [0.5, -1.0, 0.0]), ([3.0, 0.2, -0.3], [BOUND, 0.2, -0.3])] {
            let (best, asked) = searched(1, 400, centre);
            assert_eq!(asked, 400);
            for (found, wanted) in best.weights.iter().zip(wanted) {
                assert!((found - wanted).abs() < 1e-2, "{best:?}");
            }
        }
    }

    #[test]
    fn a_search_is_seeded_and_never_worse_than_the_base() {
        let centre = [0.5, -1.0, 0.3];
        assert_eq!(searched(3, 40, centre), searched(3, 40, centre));
        assert_ne!(searched(3, 40, centre), searched(4, 40, centre));
        let (base, _) = searched(3, 1, centre);
        assert_eq!((base.weights.as_slice(), base.loss), ([0.0; 3].as_slice(), 134.0));
        assert!((0..20).all(|seed| searched(seed, 40, centre).0.value <= base.value));
    }

    #[test]
    fn a_loss_that_is_no_number_is_never_chosen() {
        let mut best = Searched { weights: vec![0.0], value: f64::INFINITY, loss: f64::NAN };
        let loss = |weights: &[f64]| Ok(if weights[0] == 0.0 { 1.0 } else { f64::NAN });
        minimise(&mut best, 20, 0, loss).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(best, Searched { weights: vec![0.0], value: 1.0, loss: 1.0 });
    }

    /// `(w·A)·(w·B)` is `w²·ΔW`; two adapters have cross terms; deltas have none; nothing is left at 0.
    #[test]
    fn factors_have_cross_terms_and_deltas_have_none() {
        let of = |a: [f64; 2], b: [f64; 2]| {
            let (down, up) = (DMatrix::from_row_slice(2, 1, &a), DMatrix::from_row_slice(1, 2, &b));
            Update::LowRank(LowRank::new(down, up).unwrap_or_else(|error| panic!("{error}")))
        };
        let (one, two) = (of([1.0, 2.0], [3.0, -1.0]), of([0.0, 1.0], [1.0, 1.0]));
        let both = [Some(&one), Some(&two)];
        let close = |found: Update, wanted: DMatrix<f64>| assert!((found.dense() - wanted).amax() < 1e-14);
        close(mixed(&both, &[0.5, 0.0], Mix::Factors), one.dense() * 0.25);
        close(mixed(&both, &[0.5, 0.0], Mix::Deltas), one.dense() * 0.5);
        // [1, 3]·[4, 0] at weights of 1.
        close(mixed(&both, &[1.0, 1.0], Mix::Factors), DMatrix::from_row_slice(2, 2, &[4.0, 0.0, 12.0, 0.0]));
        close(mixed(&both, &[1.0, 1.0], Mix::Deltas), one.dense() + two.dense());
        close(mixed(&[None, Some(&two)], &[1.0, 2.0], Mix::Factors), two.dense() * 4.0);
        close(mixed(&both, &[0.0, 0.0], Mix::Factors), DMatrix::zeros(2, 2));
    }
}
