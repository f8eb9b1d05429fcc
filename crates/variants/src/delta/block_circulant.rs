//! Blocks that are circular convolutions: `ΔW` of square blocks `[b, b]`, each circulant.
//!
//! The block between the inputs `n·b..(n+1)·b` and the outputs `m·b..(m+1)·b` has one trained kernel `w [b]`,
//!
//! ```text
//! ΔW[n·b + j, m·b + t] = s·w_{mn}[(j − t) mod b]/d_in
//! ```
//!
//! so `ΔW` has a `b`-th of its numbers and, unlike a low-rank one, any rank. `kernel: [runs, d_out/b·d_in/b, b]`, the blocks of one output
//! after the other, starts at 0. `ΔW` is formed, which is a permutation of repeated numbers and no product; PEFT convolves each row by a fast
//! Fourier transform, and divides by `d_in` as is done here.
//!
//! `rank` is the size `b` of a block, which must divide both widths: a larger one trains fewer numbers. It bounds nothing.
//!
//! Departure: PEFT draws first kernels (`init_weights: xavier_uniform`), by which its start is not the base; here they are 0, PEFT's
//! `init_weights: true`.
//!
//! Chen et al., *Parameter-Efficient Fine-Tuning via Circular Convolution*, 2024, arXiv:2407.19342.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Delta, DeltaRecipe, Site, block_rotation::WHOLE};
use crate::{
    capability::{Capability, Requirement},
    form::Form,
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerTensor},
    role::{Param, Role},
};

/// No parameters of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

/// One kernel per block and run.
#[derive(Clone, Debug)]
pub struct BlockCirculant {
    /// `[runs, d_out/b·d_in/b, b]`
    pub kernel: Tensor<3>,
    /// Which number of its kernel each entry of a block is, `[b·b]`.
    entries: Tensor<1, Int>,
    shape: [usize; 2],
}

/// Which number of its kernel each entry of a block is, `[b·b]`: row `j` is an input, column `t` an output.
fn entries(b: usize, device: &Device) -> Tensor<1, Int> {
    let entries: Vec<i64> = (0..b * b).map(|at| ((at / b + b - at % b) % b) as i64).collect();
    Tensor::from_data(TensorData::new(entries, [b * b]), (device, DType::I64))
}

impl DeltaRecipe for Spec {
    type Delta = BlockCirculant;
    const RANK_BOUNDED: bool = false;
    const LOW_RANK: bool = false;
    const PROVIDES: &'static [Capability] = &[Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] = &[(Capability::DrawnFactors, "which starts at 0")];
    const REQUIRES: &'static [Requirement] = WHOLE;
    const ROLES: &'static [Role] = &[Role::Entry];

    fn components(&self, _rank: usize) -> usize {
        usize::MAX
    }

    fn misfit(&self, rank: usize, [d_in, d_out]: [usize; 2]) -> Option<String> {
        let divides = |b: &usize| d_in.is_multiple_of(*b) && d_out.is_multiple_of(*b);
        if divides(&rank) {
            return None;
        }
        let largest = (1..=d_in.min(d_out)).rev().find(divides).unwrap_or(1);
        Some(format!(
            "`rank` is the size of a block and must divide both of its widths, `{d_in}` and `{d_out}`; the largest that does is `{largest}`"
        ))
    }

    fn peft(&self) -> Option<PeftForm> {
        let fields = vec![
            ("block_size", Field::Rank),
            ("block_size_pattern", Field::RankPattern),
            ("init_weights", Field::Passive(json!(true))),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "C3A", fields }))
    }

    fn peft_tensors(&self, TunedMap { shape: [d_in, d_out], rank: b, .. }: TunedMap<'_>) -> Vec<TunerTensor> {
        vec![TunerTensor::shaped("kernel", "c3a_kernel", [d_out / b, d_in / b, b])]
    }

    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        config.is("C3A").then(Self::default)
    }

    fn init(&self, at: &mut Site<'_>) -> BlockCirculant {
        let (shape @ [d_in, d_out], b) = (at.shape, at.rank);
        BlockCirculant { kernel: at.zeros(d_out / b * (d_in / b), b), entries: entries(b, &at.place.device), shape }
    }
}

impl Delta for BlockCirculant {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::new("kernel", Role::Entry, &mut self.kernel)]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let ([runs, _, b], [d_in, d_out]) = (self.kernel.dims(), self.shape);
        let kernel = self.kernel.clone() * (gate.clone().narrow(2, 0, 1) / d_in as f64);
        let blocks = kernel.select(2, self.entries.clone()).reshape([runs, d_out / b, d_in / b, b, b]);
        // [runs, m, n, j, t] -> [runs, n, j, m, t]
        Form::Dense(blocks.permute([0, 2, 3, 1, 4]).reshape([runs, d_in, d_out]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Placement, values};

    /// Two blocks of outputs, three of inputs: every one is a circulant matrix, each row the one above it shifted by one.
    #[test]
    fn every_block_is_circulant_with_its_own_kernel() {
        let place = Placement::new(&Device::flex(), DType::F64);
        let (b, shape @ [d_in, d_out]) = (4, [12, 8]);
        let base = place.zeros(shape);
        let kernels: Vec<f64> = (0..24).map(f64::from).collect();
        let kernel = place.tensor(kernels.clone(), [1, 6, b]);
        let delta = BlockCirculant { kernel, entries: entries(b, &place.device), shape };
        let found = values(&delta.form(&(place.zeros([1, 1, b]) + 12.0), &base).dense(&base));
        for (n, m) in (0..3).flat_map(|n| (0..2).map(move |m| (n, m))) {
            let at = |j: usize, t: usize| found[(n * b + j) * d_out + m * b + t];
            let kernel = &kernels[(m * (d_in / b) + n) * b..][..b];
            for (j, t) in (0..b).flat_map(|j| (0..b).map(move |t| (j, t))) {
                assert_eq!(at(j, t), at((j + 1) % b, (t + 1) % b), "block {n}, {m}");
                assert_eq!(at(j, 0), kernel[j], "block {n}, {m}: its first column is the kernel");
            }
        }
    }
}
