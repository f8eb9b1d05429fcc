//! A product of block-diagonal rotations of the input, mixed as in a butterfly network, and a gain of the outputs:
//! `W' = B_m ⋯ B_1·W0·diag(g)`, `ΔW = s·(W' − W0)`.
//!
//! Every factor `B_i = P_i·diag(R_{i1}, ..)·P_iᵀ` turns blocks of `b` coordinates that `P_i` brings together: those of factor 1 are adjacent,
//! those of factor `i` are half-blocks of `b/2` that lie `2^{i−1}` half-blocks apart, so `m` factors mix `2^{m−1}·b` coordinates where one
//! rotation of that size would have `2^{m−1}/m` times their numbers. Every `R` is the exact Cayley transform `(I − Q)·(I + Q)⁻¹` of
//! `Q = (D − Dᵀ)/2` with a trained `D [b, b]`: `rotation: [runs, m·d_in/b, b·b]`, factor after factor, starts at 0. The gain
//! `g: [runs, 1, d_out]` starts at 1 and does not touch the bias. The start is the base bit for bit.
//!
//! | field | default | range |
//! |---|---|---|
//! | `butterfly_factors` | 1, as PEFT's `boft_n_butterfly_factor`; OFT's map, with a gain | 1 or more |
//! | `weight_decay_toward` | `start`: the gain's is 1 | PEFT decays the gain toward 0 (`zero`), and `W'` with it, base and all |
//!
//! `rank` is the size `b` of a block. It must divide `d_in`; with more than one factor it is even and `2^{m−1}·b` divides `d_in`.
//!
//! Departures: PEFT falls back to one factor without a word where its CUDA kernel does not build; here the factors are what is written. Its
//! dropout of blocks (`boft_dropout`) is not here.
//!
//! Liu et al., *Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization*, ICLR 2024, arXiv:2311.06243.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Delta, DeltaRecipe, Site, block_rotation};
use crate::{
    capability::{Capability, Requirement},
    cayley,
    error::SpecProblem,
    form::{Blocks, Form, InputMap},
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerTensor},
    role::{DecayToward, Param, Role},
};

/// How many factors there are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Factors `m` of the butterfly.
    #[serde(default = "one")]
    pub butterfly_factors: usize,
    /// What weight decay pulls the gain toward.
    #[serde(default = "toward_start")]
    pub weight_decay_toward: DecayToward,
}

fn one() -> usize {
    1
}

fn toward_start() -> DecayToward {
    DecayToward::Start
}

impl Default for Spec {
    fn default() -> Self {
        Self { butterfly_factors: one(), weight_decay_toward: toward_start() }
    }
}

/// Largest number of factors: more would mix `2^32` blocks.
const MOST: usize = 32;

/// The rotations of every factor and a gain, per run.
#[derive(Clone, Debug)]
pub struct ButterflyRotation {
    /// `D` of every block, `[runs, m·d_in/b, b·b]`.
    pub rotation: Tensor<3>,
    /// `g`, `[runs, 1, d_out]`.
    pub gain: Tensor<3>,
    /// `m`
    factors: usize,
    weight_decay_toward: DecayToward,
}

/// What brings the half-blocks of factor `index` (from 0) together, as [`Blocks`] has it; none where every coordinate stays.
///
/// In groups of `2^index·b` coordinates, the half-blocks of the first half of a group and those of its second half alternate.
fn swap(index: usize, b: usize) -> Option<[usize; 3]> {
    (index > 0).then(|| [2, 1 << index, b / 2])
}

impl DeltaRecipe for Spec {
    type Delta = ButterflyRotation;
    const RANK_BOUNDED: bool = false;
    const LOW_RANK: bool = false;
    const PROVIDES: &'static [Capability] = &[Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] = &[(Capability::DrawnFactors, "which starts at the identity")];
    const REQUIRES: &'static [Requirement] = block_rotation::WHOLE;
    const ROLES: &'static [Role] = &[Role::Rotation, Role::Gain];

    fn check(&self) -> Vec<SpecProblem> {
        if (1..=MOST).contains(&self.butterfly_factors) {
            return Vec::new();
        }
        let rule = format!("butterfly_factors is `{}`, but must lie in 1..={MOST}", self.butterfly_factors);
        vec![SpecProblem::new("butterfly_factors", rule)]
    }

    fn components(&self, _rank: usize) -> usize {
        usize::MAX
    }

    fn misfit(&self, rank: usize, [d_in, _]: [usize; 2]) -> Option<String> {
        let m = self.butterfly_factors;
        if !(1..=MOST).contains(&m) {
            return None; // which has a problem of its own
        }
        if m == 1 {
            return block_rotation::misfit(rank, d_in);
        }
        let fits = |b: usize, m: usize| {
            b.is_multiple_of(2)
                && b > 0
                && 1_usize.checked_shl(m as u32 - 1).is_some_and(|wide| d_in.is_multiple_of(wide * b))
        };
        if fits(rank, m) {
            return None;
        }
        let way_out = (1..m)
            .rev()
            .find(|fewer| *fewer == 1 && block_rotation::misfit(rank, d_in).is_none() || fits(rank, *fewer));
        let way_out = match (way_out, (2..=d_in).rev().filter(|b| *b < rank).find(|b| fits(*b, m))) {
            (Some(m), _) => format!("use `butterfly_factors: {m}`"),
            (None, Some(b)) => format!("use a `rank` of `{b}`"),
            (None, None) => "leave the map out".to_owned(),
        };
        let wide = 1_usize.checked_shl(m as u32 - 1).unwrap_or(usize::MAX);
        Some(format!(
            "`rank` is the size of a block, and with {m} butterfly factors it must be even and `{wide}·rank` divide its width `{d_in}`; {way_out}"
        ))
    }

    /// PEFT's number of factors counts from 1, and of the size and the number of blocks one is 0.
    fn peft(&self) -> Option<PeftForm> {
        let fields = vec![
            ("boft_block_size", Field::Rank),
            ("boft_block_num", Field::Fixed(json!(0))),
            ("boft_n_butterfly_factor", Field::Fixed(json!(self.butterfly_factors))),
            ("boft_dropout", Field::Passive(json!(0.0))),
            ("init_weights", Field::Passive(json!(true))),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "BOFT", fields }))
    }

    fn peft_tensors(&self, TunedMap { shape: [d_in, d_out], rank: b, .. }: TunedMap<'_>) -> Vec<TunerTensor> {
        let blocks = [self.butterfly_factors, d_in / b, b, b];
        vec![TunerTensor::shaped("rotation", "boft_R", blocks), TunerTensor::shaped("gain", "boft_s", [d_out, 1])]
    }

    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        let butterfly_factors = config.count("boft_n_butterfly_factor").unwrap_or(1);
        config.is("BOFT").then(|| Self { butterfly_factors, ..Self::default() })
    }

    fn init(&self, at: &mut Site<'_>) -> ButterflyRotation {
        let ([d_in, d_out], b, m) = (at.shape, at.rank, self.butterfly_factors);
        let gain = at.zeros(1, d_out);
        ButterflyRotation {
            rotation: at.zeros(m * (d_in / b), b * b),
            gain: if at.is_given() { gain } else { gain + 1.0 },
            factors: m,
            weight_decay_toward: self.weight_decay_toward,
        }
    }
}

impl ButterflyRotation {
    /// The factors in the order in which rows pass through them: `x·B_m ⋯ B_1`.
    fn stages(&self) -> Vec<Blocks> {
        let [runs, all, square] = self.rotation.dims();
        let (m, b) = (self.factors, square.isqrt());
        let d = self.rotation.clone().reshape([runs, all, b, b]);
        let rotations = cayley::exact((d.clone() - d.swap_dims(2, 3)) * 0.5);
        let of_factor = |index: usize| rotations.clone().narrow(1, index * (all / m), all / m);
        (0..m).rev().map(|index| Blocks { blocks: of_factor(index), swap: swap(index, b) }).collect()
    }
}

impl Delta for ButterflyRotation {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        let start = self.weight_decay_toward.target(|| self.gain.clone().without_autodiff().slice([0..1]).ones_like());
        vec![
            Param::new("rotation", Role::Rotation, &mut self.rotation),
            Param::new("gain", Role::Gain, &mut self.gain).decaying_toward(start),
        ]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let (map, scale) = (InputMap::Blocks(self.stages()), gate.clone().narrow(2, 0, 1));
        Form::Input { map, gain: Some(self.gain.clone()), scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which coordinates share a block of factor `index`: the permutations of PEFT's `block_butterfly_perm`, written out.
    #[test]
    fn half_blocks_that_lie_apart_share_a_block() {
        let of = |index: usize, b: usize| {
            let [p, q, w] = swap(index, b).unwrap_or([1, 1, 1]);
            let at = |place: usize| {
                let (group, at) = (place / (p * q * w) * (p * q * w), place % (p * q * w));
                group + (at / w % p) * q * w + at / w / p * w + at % w
            };
            (0..8).map(at).collect::<Vec<_>>()
        };
        assert_eq!(of(0, 4), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(of(1, 4), [0, 1, 4, 5, 2, 3, 6, 7]);
        assert_eq!(of(1, 2), [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(of(2, 2), [0, 4, 1, 5, 2, 6, 3, 7]);
    }

    #[test]
    fn a_block_that_does_not_suit_is_refused_with_the_way_out() {
        let of = |butterfly_factors| Spec { butterfly_factors, ..Spec::default() };
        assert_eq!([of(1).misfit(4, [8, 3]), of(2).misfit(4, [8, 3]), of(3).misfit(2, [8, 3])], [None, None, None]);
        assert!(of(3).misfit(4, [8, 3]).is_some_and(|why| why.ends_with("use `butterfly_factors: 2`")));
        assert!(of(2).misfit(3, [9, 3]).is_some_and(|why| why.ends_with("use `butterfly_factors: 1`")));
        assert!(of(2).misfit(6, [8, 3]).is_some_and(|why| why.ends_with("use a `rank` of `4`")));
        assert!(of(2).misfit(4, [7, 3]).is_some_and(|why| why.ends_with("leave the map out")));
    }
}
