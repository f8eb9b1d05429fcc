//! Where tensors are and in which precision, and the way between host numbers and device tensors.

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

/// The device and the precisions of a stack's tensors.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The device, without autodiff: a tensor gains autodiff when it trains.
    pub device: Device,
    /// Precision of what trains, of its gradients and moments, of logits and losses: `F32` in training, `F64` in gradient checks.
    pub dtype: DType,
    /// Precision of the frozen base and of activations: that of what trains, or `BF16`.
    pub base: DType,
}

impl Placement {
    /// A placement on `device` with every float in `dtype`.
    pub fn new(device: &Device, dtype: DType) -> Self {
        Self { device: device.clone().without_autodiff(), dtype, base: dtype }
    }

    /// The same placement with another precision of the frozen base and of activations.
    #[must_use]
    pub fn with_base(self, base: DType) -> Self {
        Self { base, ..self }
    }

    /// `values` as a tensor of `shape`, rounded once from f64.
    pub fn tensor<const D: usize>(&self, values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
        self.rounded(values, shape, self.dtype)
    }

    /// `values` as a tensor of the frozen base.
    pub fn frozen<const D: usize>(&self, values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
        self.rounded(values, shape, self.base)
    }

    fn rounded<const D: usize>(&self, values: Vec<f64>, shape: [usize; D], dtype: DType) -> Tensor<D> {
        let data = TensorData::new(values, shape).convert_dtype(dtype);
        Tensor::from_data(data, (&self.device, dtype))
    }

    /// Zeros of `shape`.
    pub fn zeros<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        Tensor::zeros(shape, (&self.device, self.dtype))
    }
}

/// The identity `[1, k, k]`, on the device and in the precision of `like`, without autodiff.
pub fn identity<const D: usize>(k: usize, like: &Tensor<D>) -> Tensor<3> {
    cast(&Tensor::<2>::eye(k, &like.device().without_autodiff()), like.dtype()).unsqueeze::<3>()
}

/// The values of `tensor`, widened to f64, row-major.
pub fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor
        .to_data()
        .convert_dtype(DType::F64)
        .try_to_vec()
        .unwrap_or_else(|error| unreachable!("f64 data reads as f64: {error:?}"))
}

/// `tensor` without its autodiff wrapper, whether it has one or not.
pub fn inner<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    tensor.clone().without_autodiff()
}

/// `tensor` in a precision: a cast that differentiates, or the tensor itself if it has that precision.
pub fn cast<const D: usize>(tensor: &Tensor<D>, dtype: DType) -> Tensor<D> {
    if tensor.dtype() == dtype { tensor.clone() } else { tensor.clone().cast(dtype) }
}

/// `tensor` in f32, or f64 where it is: sums of squares lose too much in half precision.
pub fn wide<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if matches!(tensor.dtype(), DType::F32 | DType::F64) { tensor } else { tensor.cast(FloatDType::F32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that bf16, f32 and f64 round differently.
    const THIRD: f64 = 1.0 / 3.0;

    #[test]
    fn the_frozen_base_has_a_precision_of_its_own() {
        let place = Placement::new(&Device::flex(), DType::F32);
        let of = |place: &Placement| {
            let (own, frozen) = (place.tensor::<1>(vec![THIRD], [1]), place.frozen::<1>(vec![THIRD], [1]));
            (own.dtype(), values(&own)[0], frozen.dtype(), values(&frozen)[0])
        };
        let f32 = f64::from(THIRD as f32);
        assert_eq!(of(&place), (DType::F32, f32, DType::F32, f32));
        assert_eq!(of(&place.with_base(DType::F64)), (DType::F32, f32, DType::F64, THIRD));
    }

    #[test]
    fn a_cast_rounds_to_the_precision_and_leaves_what_has_it() {
        let tensor = Placement::new(&Device::flex(), DType::F64).tensor::<1>(vec![THIRD], [1]);
        for (dtype, wanted) in [(DType::F64, THIRD), (DType::F32, f64::from(THIRD as f32))] {
            let cast = cast(&tensor, dtype);
            assert_eq!((cast.dtype(), values(&cast)), (dtype, vec![wanted]));
        }
    }
}
