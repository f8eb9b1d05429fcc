//! Tensors of three axes on disk, in the files of [`assets::tensor_file`].

use std::{collections::BTreeMap, path::Path};

use assets::tensor_file::{self, RawTensor};
use burn::tensor::Tensor;
use safetensors::Dtype;
use variants::host::{Placement, inner, values};

use crate::error::TrainError;

/// f32 and f64 tensors as they are, so that a resumed run has the same bits.
fn raw<'a>(name: &'a str, tensor: &Tensor<3>) -> RawTensor<'a> {
    let numbers = values(&inner(tensor));
    let (dtype, bytes): (_, Vec<u8>) = if tensor.dtype() == burn::tensor::DType::F64 {
        (Dtype::F64, numbers.iter().flat_map(|v| v.to_le_bytes()).collect())
    } else {
        (Dtype::F32, numbers.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect())
    };
    RawTensor { name: name.into(), dtype, shape: tensor.dims().to_vec(), bytes: bytes.into() }
}

/// Tensors as a safetensors file with one string of metadata.
pub fn encode(tensors: &BTreeMap<String, Tensor<3>>, key: &str, text: &str) -> Result<Vec<u8>, TrainError> {
    let raw: Vec<_> = tensors.iter().map(|(name, tensor)| raw(name, tensor)).collect();
    Ok(tensor_file::encode(&raw, key, text)?)
}

/// The inverse of [`encode`].
pub fn decode(path: &Path, key: &str, place: &Placement) -> Result<(BTreeMap<String, Tensor<3>>, String), TrainError> {
    let (raw, text) = tensor_file::read(path, key)?;
    let tensor = |raw: RawTensor<'_>| {
        let damaged = |reason: String| TrainError::damaged(path, format!("`{}` {reason}", raw.name));
        Ok((raw.name.to_string(), tensor_of(&raw, place).map_err(damaged)?))
    };
    Ok((raw.into_iter().map(tensor).collect::<Result<_, TrainError>>()?, text))
}

fn tensor_of(raw: &RawTensor<'_>, place: &Placement) -> Result<Tensor<3>, String> {
    let shape: [usize; 3] = raw.shape.clone().try_into().map_err(|_| "has not three axes".to_owned())?;
    let numbers: Vec<f64> = match raw.dtype {
        Dtype::F32 => raw.bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::F64 => raw.bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        other => return Err(format!("is {other:?}, but f32 or f64 was written")),
    };
    Ok(place.tensor(numbers, shape))
}
