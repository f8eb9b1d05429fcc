//! AdaLoRA's importance of rank-one components, from gradients.
//!
//! `I = |p·∇p|` (Eq. 8), `Ī ← β₁Ī + (1−β₁)I` (Eq. 9), `Ū ← β₂Ū + (1−β₂)|I − Ī|` (Eq. 10), `s = Ī·Ū` (Eq. 11).
//! As in the released codes, `p` is the value *after* the optimizer step and `∇p` the (clipped) gradient
//! that made it.
//!
//! arXiv:2303.10512.

use burn::tensor::Tensor;

/// `Ī` and `Ū` after one observation of values and their gradients, at `β₁` and `β₂`.
pub fn observe(
    [mean, uncertainty]: [&Tensor<2>; 2],
    value: Tensor<2>,
    gradient: Tensor<2>,
    [beta1, beta2]: [f64; 2],
) -> [Tensor<2>; 2] {
    let now = (value * gradient).abs();
    let mean = mean.clone() * beta1 + now.clone() * (1.0 - beta1);
    let spread = (now - mean.clone()).abs();
    let uncertainty = uncertainty.clone() * beta2 + spread * (1.0 - beta2);
    [mean, uncertainty]
}

/// `s = Ī·Ū` of every number.
pub fn scores(mean: &Tensor<2>, uncertainty: &Tensor<2>) -> Tensor<2> {
    mean.clone() * uncertainty.clone()
}
