//! Axis 5: rank over time. A policy decides, from step numbers alone; the trainer acts.

use std::{fmt::Debug, ops::Range};

use serde::{Deserialize, Serialize};

use crate::error::SpecProblem;

/// What the trainer does with a stack's importance scores after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// Update the importance averages from this step's gradients.
    pub observe: bool,
    /// Keep this many components over all maps, by importance, and prune the rest.
    pub allocate: Option<usize>,
    /// Prune again what the last allocation pruned.
    pub hold: bool,
}

/// Smoothing of the importance scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoothing {
    /// Of the sensitivity.
    pub beta1: f64,
    /// Of its uncertainty.
    pub beta2: f64,
}

/// Rank over time. Pure: a function of the step, the seed and the written parameters.
pub trait RankPolicy: Clone + Debug {
    /// Every broken rule. `has_diagonal`: the delta can be pruned; `steps`: length of the run, where known.
    fn check(&self, rank: usize, has_diagonal: bool, steps: Option<u64>) -> Vec<SpecProblem>;

    /// Components in use at `step`: the first `b`. `None` means all.
    fn draw(&self, _rank: usize, _seed: u64, _step: u64) -> Option<usize> {
        None
    }

    /// Components that a step with the first `active` in use may change.
    fn touched(&self, active: usize) -> Range<usize> {
        0..active
    }

    /// What to do after optimizer step `step` (counted from 0) of `steps`, over `maps` adapted maps.
    fn after_step(&self, _rank: usize, _maps: usize, _step: u64, _steps: u64) -> Action {
        Action::default()
    }

    /// The first step after which the ranks no longer change: earlier checkpoints are not what was asked for, and are not
    /// selected.
    fn settled(&self, _steps: u64) -> u64 {
        0
    }

    /// Smoothing, where the policy keeps importance scores.
    fn smoothing(&self) -> Option<Smoothing> {
        None
    }

    /// Ranks at which one checkpoint is evaluated; empty where only the full rank means anything.
    fn readouts(&self, _rank: usize) -> Vec<usize> {
        Vec::new()
    }
}

macro_rules! rank_policies {
    ($($file:ident :: $Policy:ident),+ $(,)?) => {
        $(pub mod $file;)+

        /// Any policy, as written in YAML and as used.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[expect(missing_docs, reason = "each variant is documented in its own file")]
        pub enum AnyRankPolicy { $($Policy($file::$Policy)),+ }

        impl RankPolicy for AnyRankPolicy {
            fn check(&self, rank: usize, has_diagonal: bool, steps: Option<u64>) -> Vec<SpecProblem> {
                match self { $(Self::$Policy(policy) => policy.check(rank, has_diagonal, steps)),+ }
            }
            fn draw(&self, rank: usize, seed: u64, step: u64) -> Option<usize> {
                match self { $(Self::$Policy(policy) => policy.draw(rank, seed, step)),+ }
            }
            fn touched(&self, active: usize) -> Range<usize> {
                match self { $(Self::$Policy(policy) => policy.touched(active)),+ }
            }
            fn after_step(&self, rank: usize, maps: usize, step: u64, steps: u64) -> Action {
                match self { $(Self::$Policy(policy) => policy.after_step(rank, maps, step, steps)),+ }
            }
            fn settled(&self, steps: u64) -> u64 {
                match self { $(Self::$Policy(policy) => policy.settled(steps)),+ }
            }
            fn smoothing(&self) -> Option<Smoothing> {
                match self { $(Self::$Policy(policy) => policy.smoothing()),+ }
            }
            fn readouts(&self, rank: usize) -> Vec<usize> {
                match self { $(Self::$Policy(policy) => policy.readouts(rank)),+ }
            }
        }

        /// YAML names of the axis.
        pub const KINDS: &[&str] = &[$(stringify!($file)),+];
    };
}

// Alphabetical.
rank_policies! {
    budget::Budget,
    constant::Constant,
    nested_sampling::NestedSampling,
}
