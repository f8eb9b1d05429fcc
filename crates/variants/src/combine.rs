//! Axis 1b: how `ΔW` meets `W0`.

use std::fmt::Debug;

use burn::tensor::Tensor;
use kernels::ops;
use serde::{Deserialize, Serialize};

use crate::{
    delta::{AnyDelta, Chain, Delta, Factors},
    host::Place,
    role::{Owned, Role},
};

/// What a combination may see of one forward pass over one map.
#[derive(Debug)]
pub struct Meeting<'a> {
    /// `x·W0`, `[runs, n, d_out]`, without bias.
    pub product: Tensor<3>,
    /// The frozen weight the product used, `[d_in, d_out]`.
    pub base: &'a Tensor<2>,
    /// The delta, in the width it trains in.
    pub delta: &'a AnyDelta,
    /// The pass's gate, `[runs, 1, rank]`, in that width.
    pub gate: &'a Tensor<3>,
    /// The adapter's input after dropout, `[runs, n, d_in]`.
    pub input: Tensor<3>,
    /// Whether dropout changed the input in this pass.
    pub dropped: bool,
}

impl Meeting<'_> {
    /// `x·ΔW`, `[runs, n, d_out]`, in the input's width.
    pub fn change(&self) -> Tensor<3> {
        self.delta.chain(self.gate).cast(self.input.dtype()).forward(self.input.clone())
    }

    /// `x·W0 + x·ΔW`, `[runs, n, d_out]`, in the input's width.
    pub fn sum(self) -> Tensor<3> {
        let Chain { down, middle, up } = self.delta.chain(self.gate).cast(self.input.dtype());
        ops::add_product(self.product, self.input.matmul(down) * middle, up)
    }
}

/// How `ΔW` meets `W0`.
pub trait Combine: Clone + Debug + Send {
    /// The tensors this combination owns.
    fn owned(&mut self) -> Vec<Owned<'_>>;

    /// `x·W'` without bias, `[runs, n, d_out]`.
    fn forward(&self, meeting: Meeting<'_>) -> Tensor<3>;

    /// `W'`, `[runs, d_in, d_out]`.
    fn weight(&self, base: &Tensor<2>, factors: Factors) -> Tensor<3>;
}

/// As written in YAML: builds the combination on one map.
pub trait CombineRecipe {
    /// The combination this recipe builds.
    type Combine: Combine;

    /// Whether `W' - W0` is the delta itself.
    const ADDITIVE: bool;

    /// Roles of the tensors that it owns.
    const ROLES: &'static [Role] = &[];

    /// First values; `start` is the delta at the start.
    fn init(&self, base: &Tensor<2>, start: Factors, place: &Place) -> Self::Combine;
}

macro_rules! combines {
    ($($file:ident :: $Combine:ident),+ $(,)?) => {
        $(pub mod $file;)+

        /// Any combination.
        #[derive(Clone, Debug)]
        #[expect(missing_docs, reason = "each variant is documented in its own file")]
        pub enum AnyCombine { $($Combine($file::$Combine)),+ }

        /// A combination as written in YAML.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[expect(missing_docs, reason = "each variant is documented in its own file")]
        pub enum CombineSpec { $($Combine($file::Spec)),+ }

        impl CombineSpec {
            /// First values on one map.
            pub fn init(&self, base: &Tensor<2>, start: Factors, place: &Place) -> AnyCombine {
                match self { $(Self::$Combine(spec) => AnyCombine::$Combine(spec.init(base, start, place))),+ }
            }
            /// Whether `W' - W0` is the delta itself.
            pub fn is_additive(&self) -> bool {
                match self { $(Self::$Combine(_) => <$file::Spec as CombineRecipe>::ADDITIVE),+ }
            }
            /// Roles of the tensors that it owns.
            pub fn roles(&self) -> &'static [Role] {
                match self { $(Self::$Combine(_) => <$file::Spec as CombineRecipe>::ROLES),+ }
            }
            /// The YAML name of the kind.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$Combine(_) => stringify!($file)),+ }
            }
        }

        impl Combine for AnyCombine {
            fn owned(&mut self) -> Vec<Owned<'_>> {
                match self { $(Self::$Combine(combine) => combine.owned()),+ }
            }
            fn forward(&self, meeting: Meeting<'_>) -> Tensor<3> {
                match self { $(Self::$Combine(combine) => combine.forward(meeting)),+ }
            }
            fn weight(&self, base: &Tensor<2>, factors: Factors) -> Tensor<3> {
                match self { $(Self::$Combine(combine) => combine.weight(base, factors)),+ }
            }
        }
    };
}

// Alphabetical.
combines! {
    additive::Additive,
    weight_decomposed::WeightDecomposed,
}
