//! From tensors to slices and back.

use burn::{
    backend::Flex,
    backend::ops::FloatTensorOps,
    tensor::{Bytes, DType, FloatDType, Shape},
};
use burn_flex::{FlexTensor, Layout};

use super::{real::Real, tasks::copied};

/// The precision an operation on tensors of `dtype` computes in.
pub(super) fn compute_dtype(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// A tensor in the precision of `T`, without gaps.
pub(super) fn dense<T: Real>(tensor: FlexTensor) -> FlexTensor {
    let tensor = cast(tensor, T::dtype());
    if tensor.as_slice::<T>().is_some() { tensor } else { tensor.to_contiguous() }
}

/// The values of a [`dense`] tensor.
pub(super) fn values<T: Real>(tensor: &FlexTensor) -> &[T] {
    tensor.as_slice().unwrap_or_else(|| unreachable!("a dense tensor has no gaps"))
}

/// Whether a tensor's storage holds its values in order and nothing else, and nobody else sees it.
pub(super) fn is_own<T: Real>(tensor: &FlexTensor) -> bool {
    let len = tensor.layout().num_elements();
    tensor.is_unique() && tensor.layout().contiguous_offsets() == Some((0, len)) && tensor.storage::<T>().len() == len
}

/// A tensor in the precision of `T` that [is its own](is_own): its [`storage_mut`](FlexTensor::storage_mut) copies nothing.
pub(super) fn unshared<T: Real>(tensor: FlexTensor) -> FlexTensor {
    let tensor = cast(tensor, T::dtype());
    if is_own::<T>(&tensor) {
        tensor
    } else if tensor.is_contiguous() {
        fresh(copied(values::<T>(&tensor)), tensor.layout().shape().clone())
    } else {
        tensor.to_contiguous()
    }
}

/// A tensor of these values.
pub(super) fn fresh<T: Real>(values: Vec<T>, shape: Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), T::dtype())
}

/// `tensor` in another precision, or as it is.
pub(super) fn cast(tensor: FlexTensor, dtype: DType) -> FlexTensor {
    if tensor.dtype() == dtype {
        return tensor;
    }
    let to = match dtype {
        DType::F64 => FloatDType::F64,
        DType::F32 => FloatDType::F32,
        DType::F16 => FloatDType::F16,
        DType::BF16 => FloatDType::BF16,
        other => unreachable!("{other:?} is no float that kernels know"),
    };
    Flex::float_cast(tensor, to)
}
