//! Axis 4: what a tensor is for, and how each role trains.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Deref,
    sync::Arc,
};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{
    capability::{Capability, Declaration},
    error::SpecProblem,
};

/// What a trainable tensor is for. Learning rates, decay and freezing are set per role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Down-projection `A`.
    A,
    /// Up-projection `B`.
    B,
    /// Diagonal between two factors (AdaLoRA's `Λ`).
    Lambda,
    /// What lies between two factors (LoRA-XS' `R`, FLoRA's `G`).
    Core,
    /// Scaling vectors of factors (VeRA's `d` and `b`).
    Vector,
    /// Column magnitudes (DoRA's `m`).
    Magnitude,
    /// Factors of an adapter on an embedding table.
    Embedding,
    /// Rows of a table of embeddings, as a run's own copies.
    Token,
    /// Vectors of which the factors of all maps are mixed (VB-LoRA's bank).
    Bank,
    /// What a softmax makes the weights of such a mixture of.
    Logits,
    /// What a row's product with is the logits of its experts' weights.
    Router,
    /// A run's own copy of a weight of the base.
    Weight,
    /// A run's own copy of a bias of the base.
    Bias,
    /// A run's own copy of a layer norm's gain.
    Norm,
    /// Numbers of a map that turns or reflects the input (skew-symmetric matrices of OFT and BOFT, vectors of HRA).
    Rotation,
    /// Gains of inputs or outputs ((IA)³'s `l`, BOFT's scale).
    Gain,
    /// Numbers of a spectrum (SVDiff's shifts of singular values, FourierFT's coefficients).
    Spectrum,
    /// Entries of `ΔW` itself (SHiRA's, the kernels of C³A).
    Entry,
    /// The bound of an update's size (DeLoRA's `λ`).
    Bound,
    /// A factor that is kept as a tensor but never trains (an imported VeRA pair, the start that PiSSA subtracts).
    Projection,
    /// What steps store into and nothing trains: factors of the change that a run has accumulated beside the base, and the gates of components.
    Accumulated,
    /// The task's head.
    Head,
}

/// How a role trains. Frozen is a state, never a multiplier of zero.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum RoleConfig {
    /// Keeps its first value; no gradient is formed.
    Frozen,
    /// Trains at a multiple of the run's learning rate, or at a rate of its own.
    Trained {
        /// Multiple of the run's learning rate.
        #[serde(default = "one")]
        lr_multiplier: f64,
        /// A peak rate that replaces the run's; it follows the same schedule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        learning_rate: Option<f64>,
        /// Decoupled decay; the run's where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight_decay: Option<f64>,
    },
}

fn one() -> f64 {
    1.0
}

impl RoleConfig {
    /// Trains at the run's own rate and decay.
    pub const DEFAULT: Self = Self::Trained { lr_multiplier: 1.0, learning_rate: None, weight_decay: None };

    /// Rules that its own numbers break, with the field.
    pub fn check(&self) -> Vec<SpecProblem> {
        let Self::Trained { lr_multiplier, learning_rate, weight_decay } = *self else { return Vec::new() };
        let mut problems = Vec::new();
        let mut report = |field: &str, rule: String| problems.push(SpecProblem::new(field, rule));
        if !lr_multiplier.is_finite() || lr_multiplier <= 0.0 {
            report(
                "lr_multiplier",
                format!(
                    "lr_multiplier is `{lr_multiplier}`, but must be positive; to keep a role fixed write `state: frozen`"
                ),
            );
        }
        if learning_rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
            report("learning_rate", format!("learning_rate is `{learning_rate:?}`, but must be positive"));
        }
        if weight_decay.is_some_and(|decay| !decay.is_finite() || decay < 0.0) {
            report("weight_decay", format!("weight_decay is `{weight_decay:?}`, but must be finite and not negative"));
        }
        problems
    }
}

/// What decoupled weight decay pulls a tensor toward, where the tensor does not start at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayToward {
    /// The tensor's first value: `p ← p − η·λ·(p − p₀)`.
    Start,
    /// 0, as in PEFT and the papers' codes: `p ← p − η·λ·p`.
    Zero,
}

impl DecayToward {
    /// The tensor that decay pulls toward, where it is not 0.
    pub fn target(self, start: impl FnOnce() -> Tensor<3>) -> Option<Tensor<3>> {
        (self == Self::Start).then(start)
    }

    /// What a record leaves out: those of the time before this field existed mean `zero`.
    pub fn unrecorded(self) -> &'static [&'static str] {
        match self {
            Self::Start => &[],
            Self::Zero => &["weight_decay_toward"],
        }
    }
}

/// The plan of every role that departs from its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrainConfig(pub BTreeMap<Role, RoleConfig>);

impl TrainConfig {
    /// A plan from pairs.
    pub fn of(rules: impl IntoIterator<Item = (Role, RoleConfig)>) -> Self {
        Self(rules.into_iter().collect())
    }

    /// The plan of `role`; by default it trains, and biases and norms are not decayed, as transformers'
    /// `Trainer.get_decay_parameter_names` has it.
    pub fn of_role(&self, role: Role) -> RoleConfig {
        match (self.0.get(&role), role) {
            (Some(plan), _) => *plan,
            (None, Role::Bias | Role::Norm) => {
                RoleConfig::Trained { lr_multiplier: 1.0, learning_rate: None, weight_decay: Some(0.0) }
            }
            (None, Role::Projection | Role::Accumulated) => RoleConfig::Frozen,
            (None, _) => RoleConfig::DEFAULT,
        }
    }

    /// What it says of itself to the other parts.
    pub fn declaration(&self) -> Declaration {
        let (kind, provides): (_, &[_]) =
            if self.trains(Role::A) { ("trained", &[Capability::TrainedA]) } else { ("frozen", &[Capability::FixedA]) };
        Declaration { kind, provides, lacks: &[], requires: &[] }
    }

    /// Whether `role` receives gradients.
    pub fn trains(&self, role: Role) -> bool {
        self.of_role(role) != RoleConfig::Frozen
    }
}

/// One tensor of a stack, borrowed for reading, stepping or loading.
#[derive(Debug)]
pub struct Param<'a> {
    /// Its name inside the slot, e.g. `a`.
    pub name: &'static str,
    /// Its role.
    pub role: Role,
    /// The axis that counts rank-one components, where there is one.
    pub rank_axis: Option<usize>,
    /// Whether weight decay acts on it where its role's plan says nothing; a head's biases are exempt, as in transformers.
    pub decays: bool,
    /// What weight decay pulls it toward, `[runs or 1, rows, cols]`; 0 where there is none.
    pub decay_target: Option<Tensor<3>>,
    /// Who owns it, where several maps refer to it: see [`Tied`]. Its full name is then the owner's and this one's.
    pub owner: Option<Arc<str>>,
    /// `[runs, rows, cols]`.
    pub tensor: TensorMut<'a>,
}

/// A tensor of a stack, borrowed wherever it is held: reading it reads one of them, and [`set`](Self::set) sets all.
#[derive(Debug)]
pub struct TensorMut<'a> {
    first: &'a mut Tensor<3>,
    /// The same tensor, as other maps hold it.
    others: Vec<&'a mut Tensor<3>>,
}

impl TensorMut<'_> {
    /// Replaces the tensor, for every map that refers to it.
    pub fn set(&mut self, value: Tensor<3>) {
        self.others.iter_mut().for_each(|other| **other = value.clone());
        *self.first = value;
    }
}

impl Deref for TensorMut<'_> {
    type Target = Tensor<3>;

    fn deref(&self) -> &Tensor<3> {
        self.first
    }
}

/// A tensor of which every map that refers to it holds one and the same: it trains once, by the sum of its maps' gradients, and it is
/// counted, clipped and saved once.
#[derive(Clone, Debug)]
pub struct Tied {
    /// What the maps that refer to it have in common, e.g. `tied.encoder.layer.attention.self.query.768x768`.
    pub owner: Arc<str>,
    /// `[runs, rows, cols]`.
    pub value: Tensor<3>,
}

impl<'a> Param<'a> {
    /// A tensor without a rank axis.
    pub fn new(name: &'static str, role: Role, tensor: &'a mut Tensor<3>) -> Self {
        let tensor = TensorMut { first: tensor, others: Vec::new() };
        Self { name, role, rank_axis: None, decays: true, decay_target: None, owner: None, tensor }
    }

    /// A tensor that is not decayed.
    pub fn undecayed(name: &'static str, role: Role, tensor: &'a mut Tensor<3>) -> Self {
        Self { decays: false, ..Self::new(name, role, tensor) }
    }

    /// A tensor whose `axis` counts rank-one components.
    pub fn ranked(name: &'static str, role: Role, axis: usize, tensor: &'a mut Tensor<3>) -> Self {
        Self { rank_axis: Some(axis), ..Self::new(name, role, tensor) }
    }

    /// The same, which other maps refer to as well: what they have in common owns it.
    #[must_use]
    pub fn owned_by(self, owner: &Arc<str>) -> Self {
        Self { owner: Some(Arc::clone(owner)), ..self }
    }

    /// The same, pulled by weight decay toward `target`, or toward 0 where there is none.
    #[must_use]
    pub fn decaying_toward(self, target: Option<Tensor<3>>) -> Self {
        Self { decay_target: target, ..self }
    }
}

/// Joins the parameters of several maps: a tensor that many refer to is there once, where the first of them has it, and setting it sets all.
pub fn join<'a, T>(all: impl IntoIterator<Item = (T, Param<'a>)>) -> Vec<(T, Param<'a>)> {
    let mut joined: Vec<(T, Param<'a>)> = Vec::new();
    let mut tied: HashMap<(Arc<str>, &str), usize> = HashMap::new();
    for (of, param) in all {
        let earlier = param.owner.clone().map(|owner| tied.entry((owner, param.name)).or_insert(joined.len()));
        match earlier.and_then(|at| joined.get_mut(*at)) {
            Some((_, earlier)) => earlier.tensor.others.push(param.tensor.first),
            None => joined.push((of, param)),
        }
    }
    joined
}
