//! Methods as named points in the space of compositions.

pub mod table;

use crate::spec::VariantSpec;

/// A method, published or not, as a composition at every rank.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name in YAML, file names and tables.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// The composition at a rank.
    pub spec: fn(rank: usize) -> VariantSpec,
    /// Trained parameters per adapted `[d_in, d_out]` map at a rank, as the paper counts them. `None` where
    /// what trains is not adapters.
    pub parameters: Option<fn(d_in: usize, d_out: usize, rank: usize) -> usize>,
    /// The fields that are worth tuning beside the learning rate, at a rank.
    pub knobs: fn(rank: usize) -> Vec<Knob>,
    /// Whether its steps are held against another implementation.
    pub parity: Parity,
}

/// A field of a composition that moves a method's score as the learning rate does, with the values that are worth a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Knob {
    /// Its path below `with`, such as `rank_policy.target_rank`.
    pub path: &'static str,
    /// Numbers above 0 in rising order, the preset's own among them.
    pub values: Vec<f64>,
}

impl Knob {
    /// `α` at half of, once and twice the preset's own. Under Adam the scale changes how far a step goes as the learning rate does, and how far
    /// weight decay pulls back, which the rate does not.
    pub fn alpha(own: f64) -> Self {
        Self { path: "alpha", values: vec![own / 2.0, own, 2.0 * own] }
    }
}

/// Of a preset that has its learning rate alone.
pub fn no_knobs(_: usize) -> Vec<Knob> {
    Vec::new()
}

impl Preset {
    /// The composition at a rank, for a preset that starts from this one: `VariantSpec { .., ..dora::PRESET.at(rank) }`.
    pub fn at(&self, rank: usize) -> VariantSpec {
        (self.spec)(rank)
    }
}

/// What a preset's steps are held against, in `crates/trainer/tests/parity.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// PEFT's modules and optimizers.
    Peft,
    /// The paper's equations in torch, where PEFT computes in f32 alone or starts otherwise; PEFT's own code must agree with them.
    EquationsAndPeft,
    /// The paper's equations in torch: PEFT does not have the method.
    Equations,
    /// Nothing of their own, and why that is enough.
    Untested(&'static str),
}

/// Every preset, by name.
pub fn all() -> Vec<&'static Preset> {
    let mut presets: Vec<_> = crate::presets::PRESETS.iter().collect();
    presets.sort_by_key(|preset| preset.name);
    presets
}

/// The preset called `name`, or the nearest name.
pub fn find(name: &str) -> Result<&'static Preset, Option<&'static str>> {
    let presets = all();
    let found = presets.iter().find(|preset| preset.name == name).copied();
    found.ok_or_else(|| suggest::nearest(name, presets.iter().map(|preset| preset.name)))
}
