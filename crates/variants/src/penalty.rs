//! Penalties: loss terms beside the task's, each with a weight.
//!
//! The loss of a run is `L + Σ_k w_k·P_k`. A penalty `P_k` is a function of the trained tensors of all maps of a run, and so the same in
//! every micro-batch of a step; records have `Σ_k w_k·P_k` apart from the task's loss. A weight of 0 computes nothing.
//!
//! | penalty | `P` | written as |
//! |---|---|---|
//! | [`orthogonality`] | mean `‖FᵀF − I‖_F` of the factors | `orthogonality: 0.1` |
//! | [`component_variance`] | mean variance of the numbers of a component's vectors, while ranks change | `penalties: {component_variance: 0.1}` |
//! | [`diagonal_l1`] | mean `\|λ\|` of the diagonals | `penalties: {diagonal_l1: 10}` |
//! | [`overlap`] | `Σ \|A_iᵀA\|` with the factors of earlier tasks | `penalties: {overlap: 0.5}` |
//!
//! The first has a field of its own, which is older than the others.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{capability::Requirement, delta::AnyDelta};

/// What a penalty sees of a map.
#[derive(Clone, Copy, Debug)]
pub struct Penalised<'a> {
    /// Its delta.
    pub delta: &'a AnyDelta,
    /// The left factors that are accumulated beside the base, `[runs, d_in, k]`, where there are any.
    pub accumulated: Option<&'a Tensor<3>>,
}

/// A function of the trained tensors of a run.
pub trait Penalty {
    /// What a weight above 0 needs of the composition.
    const REQUIRES: &'static [Requirement];

    /// Whether it is part of the loss only while the rank policy still changes ranks.
    const WHILE_RANKS_CHANGE: bool = false;

    /// `P` of every run, `[runs]`, from what a stack has on all its maps; `None` where they have nothing that it concerns.
    fn of(maps: &[Penalised<'_>]) -> Option<Tensor<1>>;
}

macro_rules! penalties {
    ($($file:ident :: $Penalty:ident),+ $(,)?) => {
        $(pub mod $file;)+

        /// Any penalty.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[expect(missing_docs, reason = "each variant is documented in its own file")]
        pub enum AnyPenalty { $($Penalty),+ }

        impl AnyPenalty {
            /// The YAML name.
            pub fn kind(self) -> &'static str {
                match self { $(Self::$Penalty => stringify!($file)),+ }
            }
            /// What a weight above 0 needs of the composition.
            pub fn requires(self) -> &'static [Requirement] {
                match self { $(Self::$Penalty => <$file::$Penalty as Penalty>::REQUIRES),+ }
            }
            /// Whether it is part of the loss only while the rank policy still changes ranks.
            pub fn ends_with_pruning(self) -> bool {
                match self { $(Self::$Penalty => <$file::$Penalty as Penalty>::WHILE_RANKS_CHANGE),+ }
            }
            /// `P` of every run, `[runs]`.
            pub fn of(self, maps: &[Penalised<'_>]) -> Option<Tensor<1>> {
                match self { $(Self::$Penalty => <$file::$Penalty as Penalty>::of(maps)),+ }
            }
        }

        /// Every penalty.
        pub fn all() -> Vec<AnyPenalty> {
            vec![$(AnyPenalty::$Penalty),+]
        }
    };
}

// Alphabetical.
penalties! {
    component_variance::ComponentVariance,
    diagonal_l1::DiagonalL1,
    orthogonality::Orthogonality,
    overlap::Overlap,
}
