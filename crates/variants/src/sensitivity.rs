//! AdaLoRA's importance of rank-one components, from gradients.
//!
//! `I = |p·∇p|` (Eq. 8), `Ī ← β₁Ī + (1−β₁)I` (Eq. 9), `Ū ← β₂Ū + (1−β₂)|I − Ī|` (Eq. 10), `s = Ī·Ū` (Eq. 11).
//! As in the released codes, `p` is the value *after* the optimizer step and `∇p` the (clipped) gradient
//! that made it.
//!
//! arXiv:2303.10512.

use burn::tensor::{Bool, Tensor};
use kernels::ops::assign;

use crate::{host::values, rank::Smoothing};

/// The two moving averages of one tensor.
#[derive(Clone, Debug)]
pub struct Sensitivity {
    /// `Ī`, `[runs, rows, cols]`.
    pub mean: Tensor<3>,
    /// `Ū`, `[runs, rows, cols]`.
    pub uncertainty: Tensor<3>,
}

impl Sensitivity {
    /// Zero averages for tensors like `like`.
    pub fn new(like: &Tensor<3>) -> Self {
        Self { mean: like.zeros_like(), uncertainty: like.zeros_like() }
    }

    /// One observation. Runs outside `observing` (`[runs, 1, 1]`) keep their averages; `None` means all.
    pub fn observe(
        &mut self,
        value: Tensor<3>,
        gradient: Tensor<3>,
        beta: Smoothing,
        observing: Option<&Tensor<3, Bool>>,
    ) {
        let now = (value * gradient).abs();
        let mean = self.mean.clone() * beta.beta1 + now.clone() * (1.0 - beta.beta1);
        let spread = (now - mean.clone()).abs();
        let uncertainty = self.uncertainty.clone() * beta.beta2 + spread * (1.0 - beta.beta2);
        let select = |old: &Tensor<3>, new: Tensor<3>| match observing {
            Some(mask) => old.clone().mask_where(mask.clone().expand(old.shape()), new),
            None => new,
        };
        let (mean, uncertainty) = (select(&self.mean, mean), select(&self.uncertainty, uncertainty));
        self.uncertainty = assign(self.uncertainty.clone(), uncertainty);
        self.mean = assign(self.mean.clone(), mean);
    }

    /// `mean over the other axis of Ī·Ū` for every component, one row per run.
    pub fn scores(&self, rank_axis: usize) -> Vec<Vec<f64>> {
        let score = (self.mean.clone() * self.uncertainty.clone()).mean_dim(3 - rank_axis);
        let [runs, ..] = score.dims();
        let flat = values(&score);
        flat.chunks(flat.len() / runs).map(<[f64]>::to_vec).collect()
    }
}
