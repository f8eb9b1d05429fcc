//! The slots of a backbone, and how a stack's tensors are attached to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use burn::tensor::{DType, FloatDType, Tensor};

use crate::{
    adapted::AdaptedLinear,
    base::BaseSpec,
    calibration::{MapStatistic, RunStatistics},
    delta::Shared,
    embedding::AdaptedEmbedding,
    error::AttachError,
    host::Placement,
    norm::AdaptedNorm,
    pass::{Active, GateKey},
    role::Param,
    spec::Variant,
};

/// What the tensors of a stack depend on, for one of its runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunPlan {
    /// Seed of the `init` stream.
    pub init_seed: u64,
    /// `α` of the scale.
    pub alpha: f64,
}

/// Where the first values of a stack's tensors come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstValues {
    /// From the composition's initialisation.
    #[default]
    Init,
    /// From whoever attaches the stack, who puts every parameter in: they are zeros until then, and nothing is drawn or decomposed.
    Given,
    /// From nowhere: the stack's shapes are read and nothing is computed with it, so nothing is drawn either, what all runs share included.
    Shapes,
}

/// Adapters whose parameters an initialisation has made, in this process.
#[cfg(feature = "testing")]
pub static INITIALISED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Runs that share one composition and one set of stacked tensors.
#[derive(Clone, Debug)]
pub struct StackPlan {
    /// The composition.
    pub variant: Variant,
    /// Its runs, in the order of their rows.
    pub runs: Vec<RunPlan>,
    /// Full names of the adapted maps.
    pub targets: BTreeSet<String>,
    /// Adapted maps with a rank or an `α` of their own, by full name.
    pub maps: BTreeMap<String, MapPlan>,
    /// Full names of the slots that train in full beside the adapters, as per-run copies.
    pub fully_trained: BTreeSet<String>,
    /// Tables of embeddings of which single rows train beside the adapters, as per-run copies: full name and rows, each once.
    pub trained_rows: BTreeMap<String, Vec<usize>>,
    /// Where the first values come from.
    pub first_values: FirstValues,
    /// What every run's training batches say of the maps, where the composition starts from that: one per run, none of a run whose adapter
    /// is put in. Empty where nothing was calibrated.
    pub calibrations: Vec<Option<Arc<RunStatistics>>>,
}

/// One adapted map's own rank and `α`, which replace the stack's rank and the runs' `α`: a map's scale is `s(α_map, r_map)`, `α_map/r_map`
/// for LoRA.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MapPlan {
    /// Rank of the map's update.
    pub rank: Option<usize>,
    /// `α` of the map's scale, for every run.
    pub alpha: Option<f64>,
}

impl StackPlan {
    /// A stack whose maps all have the composition's rank and the runs' `α`, and in which no slot trains in full unless the
    /// composition says so.
    pub fn new(variant: Variant, runs: Vec<RunPlan>, targets: BTreeSet<String>) -> Self {
        Self {
            variant,
            runs,
            targets,
            maps: BTreeMap::new(),
            fully_trained: BTreeSet::new(),
            trained_rows: BTreeMap::new(),
            first_values: FirstValues::default(),
            calibrations: Vec::new(),
        }
    }

    /// The same stack, whose parameters are put in once it is attached.
    #[must_use]
    pub fn with_given_values(self) -> Self {
        Self { first_values: FirstValues::Given, ..self }
    }

    /// Rank of the update of an adapted map.
    pub fn rank(&self, map: &str) -> usize {
        self.maps.get(map).and_then(|own| own.rank).unwrap_or(self.variant.spec().rank)
    }

    /// `α` of every run on an adapted map.
    pub fn alphas(&self, map: &str) -> Vec<f64> {
        let own = self.maps.get(map).and_then(|own| own.alpha);
        self.runs.iter().map(|run| own.unwrap_or(run.alpha)).collect()
    }

    /// What was taken of a map for every run; none where a run lacks it.
    pub(crate) fn statistics(&self, map: &str) -> Option<Vec<Option<&MapStatistic>>> {
        if self.calibrations.len() != self.runs.len() {
            return None;
        }
        let of_run = |run| Option::map_or(run, Some(None), |taken: &Arc<RunStatistics>| taken.get(map).map(Some));
        self.calibrations.iter().map(|run| of_run(run.as_ref())).collect()
    }

    /// Whether every run has its own copy of all tensors of a slot.
    pub fn trains_fully(&self, slot: &str) -> bool {
        self.variant.spec().base == BaseSpec::Trained || self.fully_trained.contains(slot)
    }

    /// Whether the runs of another plan may sit in this one's stack: the same tensors at every slot.
    pub fn is_like(&self, other: &Self) -> bool {
        self.variant.stack_key() == other.variant.stack_key()
            && self.targets == other.targets
            && self.maps == other.maps
            && self.fully_trained == other.fully_trained
            && self.trained_rows == other.trained_rows
    }

    /// The runs' `init` seeds.
    pub fn seeds(&self) -> Vec<u64> {
        self.runs.iter().map(|run| run.init_seed).collect()
    }
}

/// A borrowed slot of a backbone.
#[derive(Debug)]
pub enum Slot<'a> {
    /// A linear map.
    Linear(&'a mut AdaptedLinear),
    /// A layer norm.
    Norm(&'a mut AdaptedNorm),
    /// An embedding table.
    Embedding(&'a mut AdaptedEmbedding),
}

impl<'a> Slot<'a> {
    /// The tensors of stack `stack` here, adapters first.
    pub fn into_parameters(self, stack: usize) -> Vec<Param<'a>> {
        match self {
            Self::Linear(slot) => slot.parameters(stack),
            Self::Norm(slot) => slot.parameters(stack),
            Self::Embedding(slot) => slot.parameters(stack),
        }
    }

    /// Takes all stacks off; the base is as it was.
    pub fn detach(&mut self) {
        match self {
            Self::Linear(slot) => slot.detach(),
            Self::Norm(slot) => slot.detach(),
            Self::Embedding(slot) => slot.detach(),
        }
    }

    /// Replaces the slot by itself with one stack alone.
    pub fn keep_only(&mut self, stack: usize) {
        match self {
            Self::Linear(slot) => **slot = slot.only(stack),
            Self::Norm(slot) => **slot = slot.only(stack),
            Self::Embedding(slot) => **slot = slot.only(stack),
        }
    }

    /// Leaves one run in the settings of the only stack; its parameters are for the caller to slice.
    pub fn keep_run(&mut self, run: usize) {
        match self {
            Self::Linear(slot) => slot.keep_run(run),
            Self::Norm(_) => {}
            Self::Embedding(slot) => slot.keep_run(run),
        }
    }

    /// Folds one run's update into the slot and takes all stacks off.
    pub fn merge(&mut self, stack: usize, run: usize, active: &Active) {
        match self {
            Self::Linear(slot) => **slot = slot.merge(stack, run, active),
            Self::Norm(slot) => **slot = slot.merge(stack, run),
            Self::Embedding(slot) => **slot = slot.merge(stack, run, active),
        }
    }

    /// Replaces a stack's additive update by its best approximation at `rank`.
    pub fn compress(&mut self, stack: usize, rank: usize) {
        match self {
            Self::Linear(slot) => slot.compress(stack, rank),
            Self::Norm(_) => {}
            Self::Embedding(slot) => slot.compress(stack, rank),
        }
    }

    /// What the gate of a pass holds here, `[runs, rank]` row-major, and what it depends on.
    pub fn gate(&self, stack: usize, active: &Active) -> Option<(GateKey, Vec<f64>)> {
        match self {
            Self::Linear(slot) => slot.gate(stack, active),
            Self::Norm(_) => None,
            Self::Embedding(slot) => slot.gate(stack, active),
        }
    }

    /// The slot's full name, as Hugging Face has it.
    pub fn name(&self) -> &str {
        match self {
            Self::Linear(slot) => slot.name(),
            Self::Norm(slot) => slot.name(),
            Self::Embedding(slot) => slot.name(),
        }
    }
}

/// Puts a stack on the slots of a backbone, behind the stacks that are there.
pub fn attach(slots: &mut [Slot<'_>], plan: &StackPlan, place: &Placement) -> Result<(), AttachError> {
    let mut widest = [0, 0];
    for slot in slots.iter() {
        if let Slot::Linear(linear) = slot
            && plan.targets.contains(linear.name())
        {
            let [d_in, d_out] = linear.shape();
            widest = [widest[0].max(d_in), widest[1].max(d_out)];
        }
    }
    let mut shared = Shared::of(plan.first_values, place);
    for slot in slots {
        match slot {
            Slot::Linear(linear) => linear.attach(plan, widest, place, &mut shared)?,
            Slot::Norm(norm) => norm.attach(plan),
            Slot::Embedding(embedding) => embedding.attach(plan, place, &mut shared)?,
        }
    }
    Ok(())
}

/// A map's full name without the numbers of its layers, `encoder.layer.attention.self.query`: what it has in common with the maps in its place in
/// other layers.
pub fn numberless(name: &str) -> String {
    name.split('.').filter(|part| part.parse::<usize>().is_err()).collect::<Vec<_>>().join(".")
}

/// One run's copy of a tensor of the base for each of `runs`, `[runs, rows, cols]`.
///
/// A copy is f32 or wider, whatever the base's precision, because it trains.
pub(crate) fn copies<const D: usize>(tensor: &Tensor<D>, runs: usize) -> Tensor<3> {
    let dims = tensor.dims();
    let wide = if matches!(tensor.dtype(), DType::F32 | DType::F64) {
        tensor.clone()
    } else {
        tensor.clone().cast(FloatDType::F32)
    };
    let (rows, cols) = if D == 1 { (1, dims[0]) } else { (dims[0], dims[1]) };
    wide.reshape([1, rows, cols]).repeat_dim(0, runs)
}
