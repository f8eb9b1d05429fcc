//! A chain of Householder reflections of the input: `W' = H_r ⋯ H_1·W0`, `H_i = I − 2·u_i·u_iᵀ/‖u_i‖²`.
//!
//! Trained are the vectors `u: [runs, d_in, r]`. No reflection is applied one by one: with `V` the columns at length 1, the compact WY form of
//! the chain is `H_1 ⋯ H_r = I − V·T·Vᵀ` with an upper triangular `T [r, r]` (Schreiber and Van Loan, 1989), so that
//!
//! ```text
//! ΔW = s·(H_r ⋯ H_1·W0 − W0) = V·(−s·Tᵀ·Vᵀ·W0)      down = V [d_in, r],  up [r, d_out]
//! ```
//!
//! is of rank `r` and costs a row what LoRA costs. `T` is built of pairs: that of two chains one after the other has `−T₁·(V₁ᵀ·V₂)·T₂` between
//! theirs, which takes `log₂ r` products of `[r, r]`.
//!
//! The vectors come in equal pairs, `u_1 = u_2`, `u_3 = u_4`, .., whose reflections cancel: the start is the base to rounding. So `rank` must be
//! even. They are drawn as PEFT draws them, `U(±1/√(r/2))`; the length of a vector does nothing but to set how far a step turns it.
//!
//! Departures: PEFT takes an odd `r` and then does not start at the base; here it is refused. Its `apply_GS`, vectors made orthogonal by Gram
//! and Schmidt, is not here: PEFT's own start of equal pairs has 0/0 in it.
//!
//! Yuan, Liu and Xu, *Bridging The Gap between Low-rank and Orthogonal Adaptation via Householder Reflection Adaptation*, NeurIPS 2024,
//! arXiv:2405.17484.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Delta, DeltaRecipe, Site, block_rotation::WHOLE};
use crate::{
    capability::{Capability, Requirement},
    form::{Chain, Form},
    host::{Placement, cast, identity},
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerTensor},
    role::{Param, Role},
    stream::{self, Stream},
};

/// No parameters of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

/// The vectors of each run's reflections.
#[derive(Clone, Debug)]
pub struct Reflections {
    /// `[runs, d_in, rank]`
    pub u: Tensor<3>,
    /// Where products of two adjacent chains of 1, 2, 4, .. reflections stand in `T`, `[1, rank, rank]` each.
    adjacent: Vec<Tensor<3>>,
}

/// 1 where the row is of the first and the column of the second of two adjacent chains, for every length of chain below `rank`.
fn adjacent(rank: usize, place: &Placement) -> Vec<Tensor<3>> {
    let of = |length: usize| {
        let is_pair = |row: usize, column: usize| {
            let (row, column) = (row / length, column / length);
            row.is_multiple_of(2) && column == row + 1
        };
        let ones = (0..rank * rank).map(|at| f64::from(u8::from(is_pair(at / rank, at % rank))));
        place.tensor(ones.collect(), [1, rank, rank])
    };
    std::iter::successors(Some(1), |length| Some(2 * length)).take_while(|length| *length < rank).map(of).collect()
}

impl DeltaRecipe for Spec {
    type Delta = Reflections;
    const PROVIDES: &'static [Capability] = &[Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::DrawnFactors, "whose vectors are drawn in pairs, by a distribution of their own")];
    const REQUIRES: &'static [Requirement] = WHOLE;
    const ROLES: &'static [Role] = &[Role::Rotation];
    const DRAWS: bool = true;
    const EXACT_START: bool = false;

    fn misfit(&self, rank: usize, _shape: [usize; 2]) -> Option<String> {
        let odd = !rank.is_multiple_of(2);
        odd.then(|| {
            format!("`rank` is the number of reflections, which cancel in pairs at the start; use `{}`", rank + 1)
        })
    }

    fn peft(&self) -> Option<PeftForm> {
        let fields = vec![
            ("r", Field::Rank),
            ("apply_GS", Field::Fixed(json!(false))),
            ("init_weights", Field::Passive(json!(true))),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "HRA", fields }))
    }

    fn peft_tensors(&self, TunedMap { shape: [d_in, _], rank, .. }: TunedMap<'_>) -> Vec<TunerTensor> {
        vec![TunerTensor::shaped("u", "hra_u", [d_in, rank])]
    }

    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        config.is("HRA").then(Self::default)
    }

    fn init(&self, at: &mut Site<'_>) -> Reflections {
        let ([d_in, _], rank) = (at.shape, at.rank);
        let adjacent = adjacent(rank, at.place);
        if at.is_given() {
            return Reflections { u: at.zeros(d_in, rank), adjacent };
        }
        let half = rank / 2;
        let mut values = Vec::with_capacity(at.seeds.len() * d_in * rank);
        for &seed in at.seeds {
            let rng = &mut stream::generator(seed, Stream::Init, &format!("{}.u", at.slot));
            let drawn = stream::uniform(rng, half * d_in, 1.0 / (half as f64).sqrt());
            let vectors: Vec<&[f64]> = drawn.chunks(d_in).collect();
            values.extend(
                (0..d_in).flat_map(|row| (0..rank).map(move |of| (row, of))).map(|(row, of)| vectors[of / 2][row]),
            );
        }
        Reflections { u: at.place.tensor(values, [at.seeds.len(), d_in, rank]), adjacent }
    }
}

impl Reflections {
    /// `V [runs, d_in, r]` and `T [runs, r, r]` of `H_1 ⋯ H_r = I − V·T·Vᵀ`.
    fn compact(&self) -> [Tensor<3>; 2] {
        let [_, _, rank] = self.u.dims();
        let v = self.u.clone() / self.u.clone().square().sum_dim(1).sqrt();
        let gram = v.clone().swap_dims(1, 2).matmul(v.clone());
        let start = identity(rank, &self.u) * 2.0; // of each reflection alone
        let t = self
            .adjacent
            .iter()
            .fold(start, |t, between| t.clone() - t.clone().matmul(gram.clone() * between.clone()).matmul(t));
        [v, t]
    }
}

impl Delta for Reflections {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::ranked("u", Role::Rotation, 2, &mut self.u)]
    }

    fn form(&self, gate: &Tensor<3>, base: &Tensor<2>) -> Form {
        let [v, t] = self.compact();
        let read = v.clone().swap_dims(1, 2).matmul(cast(base, v.dtype()).unsqueeze::<3>()); // Vᵀ·W0 [runs, r, d_out]
        let up = -t.swap_dims(1, 2).matmul(read);
        let ([runs, d_in, rank], [_, _, d_out]) = (v.dims(), up.dims());
        if !rank.is_multiple_of(2) {
            return Form::LowRank(Chain { down: v, middle: gate.clone(), up });
        }
        // v₁·u₁ + v₂·u₂ = (v₁ − v₂)·u₁ + v₂·(u₁ + u₂): the vectors of a pair start equal and their rows opposite, and what is cast to a lower
        // precision afterwards no longer cancels.
        let v = v.reshape([runs, d_in, rank / 2, 2]);
        let of = |index: usize| v.clone().narrow(3, index, 1).reshape([runs, d_in, rank / 2]);
        let up = up.reshape([runs, rank / 2, 2, d_out]);
        let row = |index: usize| up.clone().narrow(2, index, 1).reshape([runs, rank / 2, d_out]);
        Form::LowRank(Chain {
            down: Tensor::cat(vec![of(0) - of(1), of(1)], 2),
            middle: gate.clone(),
            up: Tensor::cat(vec![row(0), row(0) + row(1)], 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};
    use nalgebra::DMatrix;

    use super::*;
    use crate::host::values;

    /// `H_r ⋯ H_1·W0 − W0` by the reflections' matrices one by one.
    fn chained(u: &DMatrix<f64>, w0: &DMatrix<f64>) -> DMatrix<f64> {
        let of = |w: DMatrix<f64>, u: nalgebra::DVectorView<'_, f64>| {
            let turned = 2.0 / u.norm_squared() * u * (u.transpose() * &w);
            w - turned
        };
        u.column_iter().fold(w0.clone(), of) - w0
    }

    /// Vectors of pairs that have moved apart by 1%, as after some steps: what rows of bf16 pass is the update to its own rounding.
    #[test]
    fn eight_bits_are_enough_for_a_small_update() {
        let place = Placement::new(&Device::flex(), DType::F32);
        let (d_in, d_out, rank) = (24, 16, 8);
        let drawn = |name: &str, n: usize, std| stream::normal(&mut stream::generator(6, Stream::Data, name), n, std);
        let pairs = drawn("pairs", d_in * rank / 2, 1.0);
        let moved = drawn("moved", d_in * rank, 0.01);
        let u: Vec<f64> = (0..d_in * rank).map(|at| pairs[at / 2] * (1.0 + moved[at])).collect();
        let base = drawn("base", d_in * d_out, 1.0);
        let delta = Reflections { u: place.tensor(u.clone(), [1, d_in, rank]), adjacent: adjacent(rank, &place) };
        let w0 = place.tensor(base.clone(), [d_in, d_out]);
        let wanted =
            chained(&DMatrix::from_row_slice(d_in, rank, &u), &DMatrix::from_row_slice(d_in, d_out, &base));
        let error = |down: &Tensor<3>, up: &Tensor<3>| {
            let [down, up] = [down, up].map(|factor| {
                let [_, rows, cols] = factor.dims();
                DMatrix::from_row_slice(rows, cols, &values(&cast(factor, DType::BF16)))
            });
            (down * up - &wanted).norm() / wanted.norm()
        };
        let Form::LowRank(chain) = delta.form(&(place.zeros([1, 1, rank]) + 1.0), &w0) else { panic!("low-rank") };
        let factors = chain.row_factors();
        let found = error(&factors.down, &factors.up);
        let [v, t] = delta.compact();
        let read = v.clone().swap_dims(1, 2).matmul(w0.unsqueeze::<3>());
        let plain = error(&v, &-t.swap_dims(1, 2).matmul(read));
        // Two roundings to eight bits, of 2⁻⁹ at most and a third of that on average.
        assert!(found < 0.004, "{found}");
        assert!(plain > 10.0 * found, "the error that this form avoids is there: {plain} against {found}");
    }

    /// Any number of reflections, powers of two and others, against their matrices multiplied one by one.
    #[test]
    fn the_chain_is_the_product_of_its_reflections() {
        let place = Placement::new(&Device::flex(), DType::F64);
        let (d_in, d_out) = (7, 5);
        let drawn = |name: &str, n: usize| stream::normal(&mut stream::generator(4, Stream::Data, name), n, 1.0);
        let base = drawn("base", d_in * d_out);
        for rank in [1, 2, 3, 4, 6, 7] {
            let u = drawn("u", d_in * rank);
            let delta = Reflections { u: place.tensor(u.clone(), [1, d_in, rank]), adjacent: adjacent(rank, &place) };
            let gate = place.zeros([1, 1, rank]) + 1.0;
            let w0 = place.tensor(base.clone(), [d_in, d_out]);
            let found = values(&delta.form(&gate, &w0).dense(&w0));
            let (u, w0) = (DMatrix::from_row_slice(d_in, rank, &u), DMatrix::from_row_slice(d_in, d_out, &base));
            let found = DMatrix::from_row_slice(d_in, d_out, &found);
            assert!((found - chained(&u, &w0)).abs().max() < 1e-12, "rank {rank}"); // some dozen operations on numbers near 1
        }
    }
}
