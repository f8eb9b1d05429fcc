//! AdaLoRA's importance of rank-one components, from gradients.
//!
//! `I = |p·∇p|` (Eq. 8), `Ī ← β₁Ī + (1−β₁)I` (Eq. 9), `Ū ← β₂Ū + (1−β₂)|I − Ī|` (Eq. 10), `s = Ī·Ū` (Eq. 11).
//! As in the released codes, `p` is the value *after* the optimizer step and `∇p` the (clipped) gradient
//! that made it.
//!
//! arXiv:2303.10512.

use burn::tensor::{Bool, Tensor};
use kernels::ops::assign;

use crate::rank::Smoothing;

/// The two moving averages of one tensor, or of several side by side.
#[derive(Clone, Debug)]
pub struct Sensitivity<const D: usize> {
    /// `Ī`
    pub mean: Tensor<D>,
    /// `Ū`, in the same shape.
    pub uncertainty: Tensor<D>,
}

impl<const D: usize> Sensitivity<D> {
    /// Zero averages for tensors like `like`.
    pub fn new(like: &Tensor<D>) -> Self {
        Self { mean: like.zeros_like(), uncertainty: like.zeros_like() }
    }

    /// One observation of values and their gradients. Runs outside `observing` (`[runs, 1, ..]`) keep their averages; `None` means all.
    pub fn observe(
        &mut self,
        value: Tensor<D>,
        gradient: Tensor<D>,
        beta: Smoothing,
        observing: Option<&Tensor<D, Bool>>,
    ) {
        let now = (value * gradient).abs();
        let mean = self.mean.clone() * beta.beta1 + now.clone() * (1.0 - beta.beta1);
        let spread = (now - mean.clone()).abs();
        let uncertainty = self.uncertainty.clone() * beta.beta2 + spread * (1.0 - beta.beta2);
        let select = |old: &Tensor<D>, new: Tensor<D>| match observing {
            Some(mask) => old.clone().mask_where(mask.clone().expand(old.shape()), new),
            None => new,
        };
        let (mean, uncertainty) = (select(&self.mean, mean), select(&self.uncertainty, uncertainty));
        self.uncertainty = assign(self.uncertainty.clone(), uncertainty);
        self.mean = assign(self.mean.clone(), mean);
    }

    /// `s = Ī·Ū` of every number.
    pub fn scores(&self) -> Tensor<D> {
        self.mean.clone() * self.uncertainty.clone()
    }
}
