//! Axis 1a: how `ΔW` is formed.
//!
//! Most deltas are a product of two factors with a diagonal gate between them, `ΔW = down · diag(gate) · up`, where the gate carries the
//! scale `s` and, for nested ranks, the prefix in use. The gate belongs to the pass, not to the delta, so one checkpoint serves every rank.
//! A delta of another [form](crate::form) takes the scale from the gate and nothing else; it may be a function of `W0`.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use burn::tensor::Tensor;
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};

use crate::{
    calibration::{Calibration, MapStatistic},
    capability::{Capability, Declaration, Requirement},
    error::SpecProblem,
    form::Form,
    host::Placement,
    init::{AnyInit, Init},
    peft::{PeftForm, TunedMap, TunerConfig, TunerConstant, TunerTensor},
    penalty::orthogonality::Factor,
    role::{Param, Role, Tied},
    slot::{FirstValues, numberless},
    stream::{self, Stream},
};

/// How `ΔW` is formed.
pub trait Delta: Clone + Debug + Send {
    /// The tensors this delta owns; frozen ones too, since they are saved.
    fn parameters(&mut self) -> Vec<Param<'_>>;

    /// `ΔW` with the gate `[runs, 1, rank]` of a pass in it; `base` is `W0` `[d_in, d_out]`.
    fn form(&self, gate: &Tensor<3>, base: &Tensor<2>) -> Form;

    /// What the map's bias is multiplied by, `[runs, 1, d_out]`, in a method that scales a map's outputs with their bias.
    fn bias_gain(&self, _gate: &Tensor<3>) -> Option<Tensor<3>> {
        None
    }

    /// The factors whose components are to be orthonormal, where the form has any.
    fn orthonormal(&self) -> Vec<Factor> {
        Vec::new()
    }

    /// The factors of which each component is a vector of its own, where the form has a diagonal between them.
    fn vectors(&self) -> Vec<Factor> {
        self.orthonormal()
    }

    /// The diagonal between two factors, `[runs, 1, rank]`, where the form has one.
    fn diagonal(&self) -> Option<Tensor<3>> {
        None
    }

    /// A hash of frozen tensors that are drawn anew from a seed and not saved.
    fn checksum(&self) -> Option<String> {
        None
    }
}

/// As written in YAML: builds the delta of one map.
pub trait DeltaRecipe {
    /// The delta this recipe builds.
    type Delta: Delta;

    /// Whether the rank is bounded by the map's widths. A shared random pair's is not.
    const RANK_BOUNDED: bool = true;

    /// What it offers to the other parts.
    const PROVIDES: &'static [Capability];

    /// Why it lacks what it does not offer, where its kind alone does not tell: the words that follow the kind in a message.
    const LACKS: &'static [(Capability, &'static str)] = &[];

    /// What it needs of the other parts.
    const REQUIRES: &'static [Requirement] = &[];

    /// Width of the factors in ranks: the rank of `ΔW` is at most `WIDTH·rank`.
    const WIDTH: usize = 1;

    /// Whether its form is [`LowRank`](Form::LowRank), so that its rows can be batched with those of other stacks.
    const LOW_RANK: bool = true;

    /// Whether its form is [`Routed`](Form::Routed): every row has an update of its own.
    const ROUTED: bool = false;

    /// Whether it has a rank, in whatever unit its file says. One that has none trains the same numbers at every `rank`.
    const RANKED: bool = true;

    /// Whether first values depend on the run's seed by a distribution of its own, which `init` does not change.
    const DRAWS: bool = false;

    /// Whether the dense weight of the start is `W0` bit by bit; else it is `W0` to rounding.
    const EXACT_START: bool = true;

    /// Whether maps refer to tensors that they own together: see [`Site::tied`].
    const TIED: bool = false;

    /// Roles of the tensors that it owns; what trains of them is the train plan's to say.
    const ROLES: &'static [Role];

    /// How far the start may be from `W0`, where its first values are drawn next to 0 and not at it: `‖ΔW/s‖` as a share of `‖W0‖`.
    fn start_share(&self, _init: &AnyInit, _rank: usize) -> f64 {
        0.0
    }

    /// Rules that its own numbers break, with the field.
    fn check(&self) -> Vec<SpecProblem> {
        Vec::new()
    }

    /// The largest rank that `ΔW` of a map `[d_in, d_out]` can have; `usize::MAX` where only the map's widths bound it.
    fn components(&self, rank: usize) -> usize {
        Self::WIDTH * rank
    }

    /// Why it cannot be put on a map `[d_in, d_out]` at `rank`, with the way out, where the widths alone do not forbid the rank.
    fn misfit(&self, _rank: usize, _shape: [usize; 2]) -> Option<String> {
        None
    }

    /// The form in which PEFT has it; `None` where PEFT has no such update.
    fn peft(&self) -> Option<PeftForm> {
        None
    }

    /// Where a [`PeftForm::Tuner`] has the tensors of one map: each of them once.
    fn peft_tensors(&self, _map: TunedMap<'_>) -> Vec<TunerTensor> {
        Vec::new()
    }

    /// The recipe as a tuner has it for these maps, which is the same function of the tensors that its form writes; or why it has none, with
    /// the way out, in words that follow the variant's name.
    fn for_peft(&self, _maps: &[TunedMap<'_>]) -> Result<Self, String>
    where
        Self: Sized + Clone,
    {
        Ok(self.clone())
    }

    /// What a tuner's file holds of a map beside the tensors of the delta.
    fn peft_constants(&self, _map: TunedMap<'_>) -> Vec<TunerConstant> {
        Vec::new()
    }

    /// What it holds once for all maps.
    fn peft_shared(&self, _maps: &[TunedMap<'_>]) -> Vec<TunerConstant> {
        Vec::new()
    }

    /// What it holds of a map that follows from the base's weight `[d_in, d_out]`. A reader passes over it.
    fn peft_of_base(&self, _weight: &Tensor<2>) -> Vec<TunerConstant> {
        Vec::new()
    }

    /// The recipe that a tuner's configuration means, where it is this delta's; what [`peft`](Self::peft) then declares is held against the
    /// configuration field by field.
    fn of_peft(_config: TunerConfig<'_>) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }

    /// Expected norm of the change of `ΔW/s` per unit of a number that starts at 0, where the other factors are drawn: root of the mean
    /// square. `None` where nothing starts so.
    fn start_norm(&self, _init: &AnyInit, _rank: usize, _shape: [usize; 2]) -> Option<f64> {
        None
    }

    /// What its first values need of training batches: [`Site::statistics`] has it then.
    fn calibration(&self) -> Option<Calibration> {
        None
    }

    /// How many components of a map are in use at the start, where steps set their gates.
    fn open(&self, rank: usize) -> usize {
        rank
    }

    /// Fields that a plan leaves out when it is written, because their value is what records from before the field meant.
    fn unrecorded(&self) -> &'static [&'static str] {
        &[]
    }

    /// First values on one map.
    fn init(&self, at: &mut Site<'_>) -> Self::Delta;
}

/// What every delta needs of the rest of its composition.
pub(crate) const REQUIRES: &[Requirement] = &[Requirement {
    needs: Capability::FrozenBase,
    rule: "base is `{kind}` beside an adapter; train the base (`delta: null`) or the adapter",
}];

/// How the name of an owner begins whose tensors several maps refer to.
pub const TIED_OWNER: &str = "tied.";

/// The map that a recipe is attached to, and what its first values may depend on.
#[derive(Debug)]
pub struct Site<'a> {
    /// Full name of the map, the key of its random draws.
    pub slot: &'a str,
    /// `[d_in, d_out]` of the map.
    pub shape: [usize; 2],
    /// `W0`, `[d_in, d_out]`.
    pub weight: &'a Tensor<2>,
    /// Largest `[d_in, d_out]` over all adapted maps of the stack.
    pub widest: [usize; 2],
    /// Rank of the update.
    pub rank: usize,
    /// First values of drawn factors.
    pub init: &'a AnyInit,
    /// The runs' `init` seeds.
    pub seeds: &'a [u64],
    /// The runs' scales `s` at this rank.
    pub scales: &'a [f64],
    /// Where tensors live.
    pub place: &'a Placement,
    /// Whether parameters start at first values or are put in later.
    pub first_values: FirstValues,
    /// What every run's training batches say of the map, where the recipe [asks](DeltaRecipe::calibration) for it; none of a run whose
    /// adapter is put in later.
    pub statistics: Vec<Option<&'a MapStatistic>>,
    /// Tensors that several maps share.
    pub shared: &'a mut Shared,
}

impl Site<'_> {
    /// One drawn factor per run, `[runs, width, rank]`.
    ///
    /// Values are drawn component by component, so the first `b` components are the same at every rank.
    pub fn drawn(&self, name: &str, width: usize) -> Tensor<3> {
        self.drawn_matrix(name, [width, self.rank])
    }

    /// One drawn factor per run on the outputs, `[runs, rank, width]`, whose fan-in is the rank.
    pub fn drawn_up(&self, name: &str, width: usize) -> Tensor<3> {
        self.drawn_matrix(name, [self.rank, width])
    }

    /// One drawn matrix per run, `[runs, rows, cols]`, whose fan-in is `rows`, column by column.
    pub fn drawn_matrix(&self, name: &str, [rows, cols]: [usize; 2]) -> Tensor<3> {
        self.drawn_of(self.slot, name, [rows, cols])
    }

    /// The same of whoever owns it.
    pub fn drawn_of(&self, owner: &str, name: &str, [rows, cols]: [usize; 2]) -> Tensor<3> {
        let draw = |rng: &mut ChaCha20Rng, _| self.init.components([rows, cols], self.rank, rng); // [cols, rows]
        self.drawn_by(&format!("{owner}.{name}"), [cols, rows], draw).swap_dims(1, 2)
    }

    /// Numbers per run, `[runs, rows, cols]`, by a distribution of the delta's own; `name` is the key of the draws.
    pub fn drawn_by(
        &self,
        name: &str,
        [rows, cols]: [usize; 2],
        draw: impl Fn(&mut ChaCha20Rng, usize) -> Vec<f64>,
    ) -> Tensor<3> {
        if self.is_given() {
            return self.zeros(rows, cols);
        }
        let of_run = |seed: &u64| draw(&mut stream::generator(*seed, Stream::Init, name), rows * cols);
        self.place.tensor(self.seeds.iter().flat_map(of_run).collect(), [self.seeds.len(), rows, cols])
    }

    /// Whether the caller puts every parameter in, so that zeros will do.
    pub fn is_given(&self) -> bool {
        self.first_values != FirstValues::Init
    }

    /// Whether shapes alone are read, so that nothing need be computed.
    pub fn is_shape(&self) -> bool {
        self.first_values == FirstValues::Shapes
    }

    /// What `make` makes of every run's statistic; none of a run without one. Runs in a row that share a
    /// statistic share what is made of it.
    pub(crate) fn of_statistics<T>(&self, make: impl Fn(&MapStatistic) -> T) -> Vec<Option<Arc<T>>> {
        let mut last: Option<(MapStatistic, Arc<T>)> = None;
        let of_run = |statistic: Option<&MapStatistic>| {
            let statistic = statistic?;
            let made = match &last {
                Some((earlier, made)) if earlier.is_copy_of(statistic) => Arc::clone(made),
                _ => Arc::new(make(statistic)),
            };
            last = Some((statistic.clone(), Arc::clone(&made)));
            Some(made)
        };
        self.statistics.iter().copied().map(of_run).collect()
    }

    /// What owns the tensors of this map and of those in its place in other layers, where they have one shape.
    pub fn kindred(&self) -> String {
        format!("{TIED_OWNER}{}.{}x{}", numberless(self.slot), self.shape[0], self.shape[1])
    }

    /// The tensor called `name` of which `owner` has one for all the maps that refer to it; `make` makes it for the first of them.
    pub fn tied(&mut self, owner: &str, name: &'static str, make: impl FnOnce(&Self) -> Tensor<3>) -> Tied {
        let key = (owner.to_owned(), name);
        if let Some(tied) = self.shared.tied.get(&key) {
            return tied.clone();
        }
        let tied = Tied { owner: Arc::from(owner), value: make(self) };
        self.shared.tied.insert(key, tied.clone());
        tied
    }

    /// Zeros, `[runs, rows, cols]`.
    pub fn zeros(&self, rows: usize, cols: usize) -> Tensor<3> {
        self.place.zeros([self.seeds.len(), rows, cols])
    }
}

/// The scale `s` of a pass, `[runs, 1, k]`, for a form whose `k` components are not those that the gate counts.
pub(crate) fn scale(gate: &Tensor<3>, k: usize) -> Tensor<3> {
    let [runs, ..] = gate.dims();
    gate.clone().slice([0..runs, 0..1, 0..1]).repeat_dim(2, k)
}

/// Tensors referenced by many maps of a stack, made once.
#[derive(Debug, Default)]
pub struct Shared {
    /// Frozen ones, the same for every run.
    made: BTreeMap<String, Tensor<2>>,
    /// Those of which every run trains its own, by owner and name.
    tied: BTreeMap<(String, &'static str), Tied>,
    /// Where tensors are of which the shapes alone are read.
    shapes_on: Option<Placement>,
}

impl Shared {
    /// Those of a stack with such first values.
    pub(crate) fn of(first_values: FirstValues, place: &Placement) -> Self {
        let shapes_on = (first_values == FirstValues::Shapes).then(|| place.clone());
        Self { shapes_on, ..Self::default() }
    }

    /// The tensor `shape` called `key`, made on first use; one zero seen from everywhere where its shape alone is read.
    pub fn get(&mut self, key: &str, shape: [usize; 2], make: impl FnOnce() -> Tensor<2>) -> Tensor<2> {
        match &self.shapes_on {
            Some(place) => place.zeros([1, 1]).expand(shape),
            None => self.made.entry(key.to_owned()).or_insert_with(make).clone(),
        }
    }
}

macro_rules! deltas {
    ($($(#[$names:meta])? $file:ident :: $Delta:ident),+ $(,)?) => {
        $(pub mod $file;)+

        /// Any delta of the axis.
        #[derive(Clone, Debug)]
        #[expect(missing_docs, reason = "each variant is documented in its own file")]
        pub enum AnyDelta { $($Delta($file::$Delta)),+ }

        /// A delta as written in YAML.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[expect(missing_docs, reason = "each variant is documented in its own file")]
        pub enum DeltaSpec { $($(#[$names])? $Delta($file::Spec)),+ }

        impl DeltaSpec {
            /// First values on one map.
            pub fn init(&self, at: &mut Site<'_>) -> AnyDelta {
                match self { $(Self::$Delta(spec) => AnyDelta::$Delta(spec.init(at))),+ }
            }
            /// The YAML name of the kind.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$Delta(_) => stringify!($file)),+ }
            }
            /// Whether the rank is bounded by the map's widths.
            pub fn rank_bounded(&self) -> bool {
                match self { $(Self::$Delta(_) => <$file::Spec as DeltaRecipe>::RANK_BOUNDED),+ }
            }
            /// What its first values need of training batches.
            pub fn calibration(&self) -> Option<Calibration> {
                match self { $(Self::$Delta(spec) => spec.calibration()),+ }
            }
            /// The largest rank that `ΔW` can have; `usize::MAX` where only the map's widths bound it.
            pub fn components(&self, rank: usize) -> usize {
                match self { $(Self::$Delta(spec) => spec.components(rank)),+ }
            }
            /// Whether its form is low-rank.
            pub fn is_low_rank(&self) -> bool {
                match self { $(Self::$Delta(_) => <$file::Spec as DeltaRecipe>::LOW_RANK),+ }
            }
            /// Whether it has a rank.
            pub fn is_ranked(&self) -> bool {
                match self { $(Self::$Delta(_) => <$file::Spec as DeltaRecipe>::RANKED),+ }
            }
            /// Whether the dense weight of the start is `W0` bit by bit.
            pub fn starts_exactly(&self) -> bool {
                match self { $(Self::$Delta(_) => <$file::Spec as DeltaRecipe>::EXACT_START),+ }
            }
            /// Whether every row has an update of its own.
            pub fn is_routed(&self) -> bool {
                match self { $(Self::$Delta(_) => <$file::Spec as DeltaRecipe>::ROUTED),+ }
            }
            /// Whether maps refer to tensors that they own together.
            pub fn is_tied(&self) -> bool {
                match self { $(Self::$Delta(_) => <$file::Spec as DeltaRecipe>::TIED),+ }
            }
            /// Why it cannot be put on a map at a rank.
            pub fn misfit(&self, rank: usize, shape: [usize; 2]) -> Option<String> {
                match self { $(Self::$Delta(spec) => spec.misfit(rank, shape)),+ }
            }
            /// How far the start may be from `W0`, as a share of it.
            pub fn start_share(&self, init: &AnyInit, rank: usize) -> f64 {
                match self { $(Self::$Delta(spec) => spec.start_share(init, rank)),+ }
            }
            /// Whether it has a capability that the delta decides.
            pub fn offers(&self, capability: Capability) -> bool {
                match capability {
                    Capability::LowRank => self.is_low_rank(),
                    Capability::ExactStart => self.starts_exactly(),
                    Capability::OwnTensors => !self.is_tied(),
                    Capability::Mergeable => !self.is_routed(),
                    declared => self.declaration().provides.contains(&declared),
                }
            }
            /// Whether first values depend on the run's seed.
            pub fn is_drawn(&self) -> bool {
                let own = match self { $(Self::$Delta(_) => <$file::Spec as DeltaRecipe>::DRAWS),+ };
                own || self.declaration().provides.contains(&Capability::DrawnFactors)
            }
            /// Roles of the tensors that it owns.
            pub fn roles(&self) -> &'static [Role] {
                match self { $(Self::$Delta(_) => <$file::Spec as DeltaRecipe>::ROLES),+ }
            }
            /// Rules that its own numbers break.
            pub fn check(&self) -> Vec<SpecProblem> {
                match self { $(Self::$Delta(spec) => spec.check()),+ }
            }
            /// What it says of itself to the other parts.
            pub fn declaration(&self) -> Declaration {
                match self { $(Self::$Delta(_) => Declaration {
                    kind: stringify!($file),
                    provides: <$file::Spec as DeltaRecipe>::PROVIDES,
                    lacks: <$file::Spec as DeltaRecipe>::LACKS,
                    requires: <$file::Spec as DeltaRecipe>::REQUIRES,
                }),+ }
            }
            /// Expected norm of the change of `ΔW/s` per unit of a number that starts at 0.
            pub fn start_norm(&self, init: &AnyInit, rank: usize, shape: [usize; 2]) -> Option<f64> {
                match self { $(Self::$Delta(spec) => spec.start_norm(init, rank, shape)),+ }
            }
            /// How many components of a map are in use at the start.
            pub fn open(&self, rank: usize) -> usize {
                match self { $(Self::$Delta(spec) => spec.open(rank)),+ }
            }
            /// Fields that a plan leaves out when it is written.
            pub fn unrecorded(&self) -> &'static [&'static str] {
                match self { $(Self::$Delta(spec) => spec.unrecorded()),+ }
            }
            /// The form in which PEFT has it.
            pub fn peft(&self) -> Option<PeftForm> {
                match self { $(Self::$Delta(spec) => spec.peft()),+ }
            }
            /// Where a tuner of PEFT has the tensors of one map.
            pub fn peft_tensors(&self, map: TunedMap<'_>) -> Vec<TunerTensor> {
                match self { $(Self::$Delta(spec) => spec.peft_tensors(map)),+ }
            }
            /// The recipe as a tuner has it for these maps.
            pub fn for_peft(&self, maps: &[TunedMap<'_>]) -> Result<Self, String> {
                match self { $(Self::$Delta(spec) => spec.for_peft(maps).map(Self::$Delta)),+ }
            }
            /// What a tuner's file holds of a map beside the tensors of the delta.
            pub fn peft_constants(&self, map: TunedMap<'_>) -> Vec<TunerConstant> {
                match self { $(Self::$Delta(spec) => spec.peft_constants(map)),+ }
            }
            /// What it holds once for all maps.
            pub fn peft_shared(&self, maps: &[TunedMap<'_>]) -> Vec<TunerConstant> {
                match self { $(Self::$Delta(spec) => spec.peft_shared(maps)),+ }
            }
            /// What it holds of a map that follows from the base's weight.
            pub fn peft_of_base(&self, weight: &Tensor<2>) -> Vec<TunerConstant> {
                match self { $(Self::$Delta(spec) => spec.peft_of_base(weight)),+ }
            }
            /// The delta that a tuner's configuration means.
            pub fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
                let mut found = None;
                $(found = found.or_else(|| <$file::Spec as DeltaRecipe>::of_peft(config).map(Self::$Delta));)+
                found
            }
        }

        impl Delta for AnyDelta {
            fn parameters(&mut self) -> Vec<Param<'_>> {
                match self { $(Self::$Delta(delta) => delta.parameters()),+ }
            }
            fn form(&self, gate: &Tensor<3>, base: &Tensor<2>) -> Form {
                match self { $(Self::$Delta(delta) => delta.form(gate, base)),+ }
            }
            fn bias_gain(&self, gate: &Tensor<3>) -> Option<Tensor<3>> {
                match self { $(Self::$Delta(delta) => delta.bias_gain(gate)),+ }
            }
            fn orthonormal(&self) -> Vec<Factor> {
                match self { $(Self::$Delta(delta) => delta.orthonormal()),+ }
            }
            fn vectors(&self) -> Vec<Factor> {
                match self { $(Self::$Delta(delta) => delta.vectors()),+ }
            }
            fn diagonal(&self) -> Option<Tensor<3>> {
                match self { $(Self::$Delta(delta) => delta.diagonal()),+ }
            }
            fn checksum(&self) -> Option<String> {
                match self { $(Self::$Delta(delta) => delta.checksum()),+ }
            }
        }

        /// Every kind at its defaults.
        pub fn defaults() -> Vec<DeltaSpec> {
            vec![$(DeltaSpec::$Delta($file::Spec::default())),+]
        }
    };
}

// Alphabetical. One line per file; the file's module doc is its documentation.
deltas! {
    block_affine::BlockAffine,
    block_circulant::BlockCirculant,
    block_diagonal::BlockDiagonal,
    block_rotation::BlockRotation,
    bounded_low_rank::BoundedLowRank,
    butterfly_rotation::ButterflyRotation,
    core::Core,
    covariance_init::CovarianceInit,
    diagonal::Diagonal,
    drawn_init::DrawnInit,
    elementwise::Elementwise,
    fourier::Fourier,
    gain::Gain,
    gated::Gated,
    gradient_init::GradientInit,
    granular::Granular,
    hadamard::Hadamard,
    input_init::InputInit,
    kronecker::Kronecker,
    low_rank::LowRank,
    mixed_bases::MixedBases,
    orthogonal_init::OrthogonalInit,
    random_bases::RandomBases,
    reflections::Reflections,
    // Records have the old name.
    #[serde(rename = "anchored", alias = "residual_init")]
    residual_init::ResidualInit,
    routed_gain::RoutedGain,
    routed_low_rank::RoutedLowRank,
    shard_sharing::ShardSharing,
    shared_random::SharedRandom,
    singular_core::SingularCore,
    softmax_gated::SoftmaxGated,
    sparse::Sparse,
    spectral_shift::SpectralShift,
    svd_form::SvdForm,
    tied_low_rank::TiedLowRank,
    vector_bank::VectorBank,
}
