//! A block-diagonal rotation of the input: `W' = M·W0`, `M = diag(R₁, .., R_{d_in/b})`, `ΔW = s·(M·W0 − W0)`.
//!
//! Every block `R_i: [b, b]` is the Cayley transform of a trained skew-symmetric `Q_i`, whose strict upper triangle is
//! `rotation: [runs, d_in/b, b(b−1)/2]`, row by row. It starts at 0, where `R_i = I` and the start is the base bit for bit. `x·M` costs
//! `b·d_in` multiplications a row, so no weight is formed.
//!
//! `rank` is the size `b` of a block. It must divide `d_in`, and be 2 at least: a block of one has nothing to turn. It bounds nothing: `ΔW`
//! can have the rank of the map.
//!
//! | `cayley` | `R` | |
//! |---|---|---|
//! | `neumann`, PEFT's default (`use_cayley_neumann`) | `I + 2Q + 2Q² + 2Q³ + Q⁴` | orthogonal up to the fourth order of `Q` |
//! | `exact`, the paper's | `(I − Q)·(I + Q)⁻¹` | orthogonal to rounding |
//!
//! PEFT's series is that of `(I + Q)·(I − Q)⁻¹`, so the two kinds turn in opposite ways from the same numbers. Both are kept as PEFT has them.
//!
//! Departures: the constrained form (`coft`), shared blocks (`block_share`) and the dropout of blocks (`module_dropout`) are not here.
//!
//! Qiu et al., *Controlling Text-to-Image Diffusion by Orthogonal Finetuning*, NeurIPS 2023, arXiv:2306.07280; the series is that of Qiu et
//! al., *Orthogonal Finetuning Made Scalable*, 2025, arXiv:2506.19847.

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::{Capability, Requirement},
    cayley,
    form::{Blocks, Form, InputMap},
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerTensor},
    role::{Param, Role},
};

/// How a rotation is made of its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The Cayley transform.
    #[serde(default)]
    pub cayley: Cayley,
}

/// How the Cayley transform is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cayley {
    /// By five terms of its Neumann series.
    #[default]
    Neumann,
    /// By the inverse.
    Exact,
}

/// One rotation per block and run.
#[derive(Clone, Debug)]
pub struct BlockRotation {
    /// Strict upper triangles of the blocks, `[runs, d_in/b, b(b−1)/2]`.
    pub rotation: Tensor<3>,
    /// Where a block's entries are found in them, `[b·b]`.
    places: Tensor<1, Int>,
    cayley: Cayley,
}

/// Why blocks of `b` do not suit a map, with the way out.
pub(super) fn misfit(b: usize, d_in: usize) -> Option<String> {
    if b < 2 {
        return Some("a block of 1 has nothing to turn; use a `rank` of 2 or more".to_owned());
    }
    let divides = |b: &usize| d_in.is_multiple_of(*b);
    if divides(&b) {
        return None;
    }
    let [below, above] = [(2..b).rev().find(divides), (b + 1..=d_in).find(divides)];
    let near: Vec<String> = [below, above].into_iter().flatten().map(|b| format!("`{b}`")).collect();
    Some(format!(
        "`rank` is the size of a block and must divide its width `{d_in}`; the nearest are {}",
        near.join(" and ")
    ))
}

/// What a delta whose numbers are not components needs of the rank policy.
pub(super) const WHOLE: &[Requirement] = &[Requirement {
    needs: Capability::ConstantRank,
    rule: "this delta has no components that could be left out; use it with `rank_policy: {kind: constant}`",
}];

impl DeltaRecipe for Spec {
    type Delta = BlockRotation;
    const RANK_BOUNDED: bool = false;
    const LOW_RANK: bool = false;
    const PROVIDES: &'static [Capability] = &[Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] = &[(Capability::DrawnFactors, "which starts at the identity")];
    const REQUIRES: &'static [Requirement] = WHOLE;
    const ROLES: &'static [Role] = &[Role::Rotation];

    fn components(&self, _rank: usize) -> usize {
        usize::MAX
    }

    fn misfit(&self, rank: usize, [d_in, _]: [usize; 2]) -> Option<String> {
        misfit(rank, d_in)
    }

    /// PEFT's `r`, the number of blocks, is 0 where their size is given.
    fn peft(&self) -> Option<PeftForm> {
        let fields = vec![
            ("r", Field::Fixed(json!(0))),
            ("oft_block_size", Field::Rank),
            ("use_cayley_neumann", Field::Fixed(json!(self.cayley == Cayley::Neumann))),
            ("num_cayley_neumann_terms", Field::Fixed(json!(5))),
            ("coft", Field::Fixed(json!(false))),
            ("block_share", Field::Fixed(json!(false))),
            ("eps", Field::Passive(json!(6e-5))),
            ("module_dropout", Field::Passive(json!(0.0))),
            ("init_weights", Field::Passive(json!(true))),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "OFT", fields }))
    }

    fn peft_tensors(&self, TunedMap { shape: [d_in, _], rank: b, .. }: TunedMap<'_>) -> Vec<TunerTensor> {
        vec![TunerTensor::shaped("rotation", "oft_R.weight", [d_in / b, b * (b - 1) / 2])]
    }

    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        let neumann = config.switch("use_cayley_neumann").unwrap_or(true);
        config.is("OFT").then_some(Self { cayley: if neumann { Cayley::Neumann } else { Cayley::Exact } })
    }

    fn init(&self, at: &mut Site<'_>) -> BlockRotation {
        let ([d_in, _], b) = (at.shape, at.rank);
        BlockRotation {
            rotation: at.zeros(d_in / b, b * (b - 1) / 2),
            places: cayley::upper_places(b, &at.place.device),
            cayley: self.cayley,
        }
    }
}

impl BlockRotation {
    /// The blocks of `M`, `[runs, d_in/b, b, b]`.
    fn blocks(&self) -> Tensor<4> {
        let q = cayley::skew(&self.rotation, &self.places);
        match self.cayley {
            Cayley::Neumann => cayley::neumann(q),
            Cayley::Exact => cayley::exact(q),
        }
    }
}

impl Delta for BlockRotation {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::new("rotation", Role::Rotation, &mut self.rotation)]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let map = InputMap::Blocks(vec![Blocks { blocks: self.blocks(), swap: None }]);
        Form::Input { map, gain: None, scale: gate.clone().narrow(2, 0, 1) }
    }
}
