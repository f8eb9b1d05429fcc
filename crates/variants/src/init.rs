//! Axis 2: first values of the drawn factors.

use std::fmt::Debug;

use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};

use crate::error::SpecProblem;

/// First values of a factor.
pub trait Init: Clone + Debug {
    /// `count` components of `width` values each, `sides` being `[width, count]`: `[count, width]` row-major, of an adapter of rank `rank`.
    /// A factor on the inputs has `rank` components, one on the outputs as many as there are outputs.
    fn components(&self, sides: [usize; 2], rank: usize, rng: &mut ChaCha20Rng) -> Vec<f64>;

    /// Standard deviation of a value of a component of `width` values.
    fn std(&self, width: usize, rank: usize) -> f64;

    /// Rules that its own numbers break, with the field.
    fn check(&self) -> Vec<SpecProblem> {
        Vec::new()
    }
}

macro_rules! inits {
    ($($file:ident :: $Init:ident),+ $(,)?) => {
        $(pub mod $file;)+

        /// Any initialisation, as written in YAML and as used.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[expect(missing_docs, reason = "each variant is documented in its own file")]
        pub enum AnyInit { $($Init($file::$Init)),+ }

        impl Init for AnyInit {
            fn components(&self, sides: [usize; 2], rank: usize, rng: &mut ChaCha20Rng) -> Vec<f64> {
                match self { $(Self::$Init(init) => init.components(sides, rank, rng)),+ }
            }
            fn std(&self, width: usize, rank: usize) -> f64 {
                match self { $(Self::$Init(init) => init.std(width, rank)),+ }
            }
            fn check(&self) -> Vec<SpecProblem> {
                match self { $(Self::$Init(init) => init.check()),+ }
            }
        }

        impl AnyInit {
            /// The YAML name of the kind.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$Init(_) => stringify!($file)),+ }
            }
        }

        /// Every kind at its defaults.
        pub fn defaults() -> Vec<AnyInit> {
            vec![$(AnyInit::$Init($file::$Init::default())),+]
        }
    };
}

// Alphabetical.
inits! {
    gaussian::Gaussian,
    kaiming::Kaiming,
    orthonormal::Orthonormal,
}
