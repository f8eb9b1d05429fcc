//! A Kronecker product of two small matrices: `ΔW = s·W₁ ⊗ W₂`.
//!
//! Both widths of the map are split in two, `d_in = m·n` and `d_out = l·k` with `m ≤ n` and `l ≤ k`, and
//!
//! ```text
//! ΔW[i·n + i', j·k + j'] = s·W₁[i, j]·W₂[i', j'],   W₁: [m, l], W₂: [n, k]
//! ```
//!
//! `W₂` is a product `[n, rank]·[rank, k]` where `rank < max(n, k)/2`, and a matrix of its own elsewhere; so is `W₁` where
//! `decompose_both` is set and `rank < max(m, l)/2`. The rank of `ΔW` is that of `W₁` times that of `W₂`.
//!
//! A width is split as near to its root as its divisors allow, or at `decompose_factor`: the factor itself if it divides the width, else the
//! largest divisor below it that comes nearest to the root. A prime width is `1·width`.
//!
//! The form is dense: `ΔW` is formed once a step, number by number without a product, and the rows pass `x·(W0 + ΔW)`. Beside LoRA a step
//! pays the gradient of a dense weight, half of what the map's own two products cost.
//!
//! `W₁` starts at zero (its right factor where it has two), the rest is drawn from `init` with torch's fan-ins, PEFT's `U(±1/√n)` and
//! `U(±1/√rank)` with `kaiming`. LyCORIS starts `W₂` at zero instead.
//!
//! Yeh et al., *Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation*, ICLR 2024, arXiv:2309.14859, Section 3.3.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Delta, DeltaRecipe, Site, scale};
use crate::{
    capability::{Capability, Requirement},
    error::SpecProblem,
    form::Form,
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerTensor},
    role::{Param, Role},
};

/// How the widths are split and which part is a product of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Where a width is split; as near to its root as can be where absent (PEFT's -1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decompose_factor: Option<usize>,
    /// Whether `W₁` is a product of two factors as well.
    #[serde(default)]
    pub decompose_both: bool,
}

/// A part of the product.
#[derive(Clone, Debug)]
pub enum Part {
    /// `[runs, rows, cols]`
    Whole(Tensor<3>),
    /// `[runs, rows, rank]` and `[runs, rank, cols]`.
    Thin(Tensor<3>, Tensor<3>),
}

impl Part {
    /// `[runs, rows, cols]`
    fn matrix(&self) -> Tensor<3> {
        match self {
            Self::Whole(matrix) => matrix.clone(),
            Self::Thin(down, up) => down.clone().matmul(up.clone()),
        }
    }
}

/// Two parts per run.
#[derive(Clone, Debug)]
pub struct Kronecker {
    /// `W₁`, `[runs, m, l]`.
    pub left: Part,
    /// `W₂`, `[runs, n, k]`.
    pub right: Part,
}

/// Two numbers whose product is `width`, the smaller one first: `factor` and the rest where it divides the width, else the pair of least sum
/// whose smaller number is at most `factor`, found as PEFT and LyCORIS do, from small divisors on.
pub fn split(width: usize, factor: Option<usize>) -> [usize; 2] {
    if let Some(factor) = factor.filter(|factor| width.is_multiple_of(*factor)) {
        // In this order, whichever is the smaller.
        return [factor, width / factor];
    }
    let most = factor.unwrap_or(width);
    let (mut small, mut large) = (1, width);
    while small < large {
        let next = (small + 1..=width).find(|by| width.is_multiple_of(*by)).unwrap_or(width);
        if next + width / next > small + large || next > most {
            break;
        }
        (small, large) = (next, width / next);
    }
    if small > large { [large, small] } else { [small, large] }
}

/// Shapes of the two parts `[m, l]` and `[n, k]`, and whether each is a product of two factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// Of `W₁`.
    pub left: ([usize; 2], bool),
    /// Of `W₂`.
    pub right: ([usize; 2], bool),
}

impl Spec {
    /// The parts of a map `[d_in, d_out]` at `rank`.
    pub fn shapes(&self, [d_in, d_out]: [usize; 2], rank: usize) -> Shapes {
        let ([m, n], [l, k]) = (split(d_in, self.decompose_factor), split(d_out, self.decompose_factor));
        let is_thin = |rows: usize, cols: usize| 2 * rank < rows.max(cols);
        Shapes { left: ([m, l], self.decompose_both && is_thin(m, l)), right: ([n, k], is_thin(n, k)) }
    }

    /// Trained numbers per map.
    pub fn parameters(&self, shape: [usize; 2], rank: usize) -> usize {
        let of = |([rows, cols], thin): ([usize; 2], bool)| if thin { rank * (rows + cols) } else { rows * cols };
        let shapes = self.shapes(shape, rank);
        of(shapes.left) + of(shapes.right)
    }
}

impl DeltaRecipe for Spec {
    type Delta = Kronecker;
    const RANK_BOUNDED: bool = false;
    const PROVIDES: &'static [Capability] = &[Capability::DrawnFactors, Capability::OwnRanks];
    const REQUIRES: &'static [Requirement] = &[Requirement {
        needs: Capability::ConstantRank,
        rule: "the rank of `kronecker` is that of a part of it; use it with `rank_policy: {kind: constant}`",
    }];
    const LOW_RANK: bool = false;
    const ROLES: &'static [Role] = &[Role::A, Role::B];

    fn check(&self) -> Vec<SpecProblem> {
        match self.decompose_factor {
            Some(0) => vec![SpecProblem::new(
                "decompose_factor",
                "decompose_factor is `0`, but must be at least 1; leave it out to split at the root",
            )],
            _ => Vec::new(),
        }
    }

    /// Of full rank where both parts are.
    fn components(&self, _rank: usize) -> usize {
        usize::MAX
    }

    /// PEFT's parts are `[l, m]` and `[k, n]`.
    fn peft(&self) -> Option<PeftForm> {
        let factor = self.decompose_factor.map_or_else(|| json!(-1), |factor| json!(factor));
        let fields = vec![
            ("r", Field::Rank),
            ("rank_pattern", Field::RankPattern),
            ("alpha", Field::Alpha),
            ("alpha_pattern", Field::AlphaPattern),
            ("decompose_both", Field::Fixed(json!(self.decompose_both))),
            ("decompose_factor", Field::Fixed(factor)),
            ("rank_dropout", Field::Passive(json!(0.0))),
            ("rank_dropout_scale", Field::Passive(json!(false))),
            ("module_dropout", Field::Passive(json!(0.0))),
            ("use_effective_conv2d", Field::Passive(json!(false))),
            ("init_weights", Field::Passive(json!(true))),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "LOKR", fields }))
    }

    fn peft_tensors(&self, map: TunedMap<'_>) -> Vec<TunerTensor> {
        let Shapes { left: (_, left_thin), right: (_, right_thin) } = self.shapes(map.shape, map.rank);
        let mut found =
            if left_thin { vec![("w1_down", "lokr_w1_b"), ("w1_up", "lokr_w1_a")] } else { vec![("w1", "lokr_w1")] };
        found.extend(if right_thin {
            vec![("w2_down", "lokr_w2_b"), ("w2_up", "lokr_w2_a")]
        } else {
            vec![("w2", "lokr_w2")]
        });
        found.into_iter().map(|(ours, theirs)| TunerTensor::transposed(ours, theirs)).collect()
    }

    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        config.is("LOKR").then(|| Self {
            decompose_factor: config.count("decompose_factor"),
            decompose_both: config.switch("decompose_both").unwrap_or(false),
        })
    }

    fn init(&self, at: &mut Site<'_>) -> Kronecker {
        let Shapes { left: ([m, l], left_thin), right: ([n, k], right_thin) } = self.shapes(at.shape, at.rank);
        let left = if left_thin {
            Part::Thin(at.drawn("w1_down", m), at.zeros(at.rank, l))
        } else {
            Part::Whole(at.zeros(m, l))
        };
        let right = if right_thin {
            Part::Thin(at.drawn("w2_down", n), at.drawn_up("w2_up", k))
        } else {
            Part::Whole(at.drawn_matrix("w2", [n, k]))
        };
        Kronecker { left, right }
    }
}

impl Delta for Kronecker {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        let mut params = match &mut self.left {
            Part::Whole(matrix) => vec![Param::new("w1", Role::B, matrix)],
            Part::Thin(down, up) => vec![Param::new("w1_down", Role::B, down), Param::new("w1_up", Role::B, up)],
        };
        params.extend(match &mut self.right {
            Part::Whole(matrix) => vec![Param::new("w2", Role::A, matrix)],
            Part::Thin(down, up) => vec![Param::new("w2_down", Role::A, down), Param::new("w2_up", Role::A, up)],
        });
        params
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let (left, right) = (self.left.matrix() * scale(gate, 1), self.right.matrix());
        let ([runs, m, l], [_, n, k]) = (left.dims(), right.dims());
        // Row `i·n + i'`, column `j·k + j'`: places in the order (i, i', j, j').
        let (left, right) = (left.reshape([runs, m, 1, l, 1]), right.reshape([runs, 1, n, 1, k]));
        Form::Dense((left * right).reshape([runs, m * n, l * k]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PEFT's documented examples, and factors that do not divide.
    #[test]
    fn a_width_is_split_as_peft_splits_it() {
        for (width, factor, wanted) in [
            (256, None, [16, 16]),
            (128, None, [8, 16]),
            (127, None, [1, 127]),
            (768, None, [24, 32]),
            (128, Some(4), [4, 32]),
            (12, Some(5), [3, 4]),
            (128, Some(5), [4, 32]),
            (12, Some(6), [6, 2]),
            (1, None, [1, 1]),
        ] {
            assert_eq!(split(width, factor), wanted, "{width} at {factor:?}");
        }
    }

    /// `rank < max/2`, as PEFT asks.
    #[test]
    fn a_part_is_thin_below_half_of_its_longer_side() {
        let spec = Spec { decompose_both: true, ..Spec::default() };
        let thin = |rank| {
            let shapes = spec.shapes([64, 128], rank); // [8, 8] and [8, 16]
            (shapes.left.1, shapes.right.1)
        };
        assert_eq!([3, 4, 7, 8].map(thin), [(true, true), (false, true), (false, true), (false, false)]);
        assert_eq!(spec.parameters([64, 128], 3), 3 * 16 + 3 * 24);
        assert_eq!(Spec::default().parameters([64, 128], 8), 64 + 128);
    }
}
