//! Tensors of three axes on disk, in the files of [`assets::tensor_file`].

use std::{collections::BTreeMap, path::Path};

use assets::tensor_file;
use burn::tensor::Tensor;
use models::safetensors::Stored;
use variants::host::{Placement, inner, values};

use crate::error::TrainError;

/// f32 and f64 tensors as they are, so that a resumed run has the same bits.
fn stored(name: &str, tensor: &Tensor<3>) -> Stored {
    let (shape, numbers) = (tensor.dims().to_vec(), values(&inner(tensor)));
    if tensor.dtype() == burn::tensor::DType::F64 {
        Stored::of(name, shape, numbers)
    } else {
        Stored::of(name, shape, numbers.into_iter().map(|number| number as f32))
    }
}

/// Tensors as a safetensors file with one string of metadata.
pub fn encode(tensors: &BTreeMap<String, Tensor<3>>, key: &str, text: &str) -> Result<Vec<u8>, TrainError> {
    let all: Vec<_> = tensors.iter().map(|(name, tensor)| stored(name, tensor)).collect();
    Ok(tensor_file::encode(&all, key, text)?)
}

/// Tensors by name, and what their file says of them.
pub type Decoded = (BTreeMap<String, Tensor<3>>, String);

/// The inverse of [`encode`].
pub fn decode(path: &Path, key: &str, place: &Placement) -> Result<Decoded, TrainError> {
    placed(path, tensor_file::read(path, key)?, place)
}

/// The same of a file that no earlier build wrote.
pub fn decode_own(path: &Path, key: &str, place: &Placement) -> Result<Decoded, TrainError> {
    placed(path, tensor_file::read_own(path, key)?, place)
}

fn placed(path: &Path, (all, text): (Vec<Stored>, String), place: &Placement) -> Result<Decoded, TrainError> {
    let tensor = |one: Stored| {
        let found = tensor_of(&one, place);
        let found = found.map_err(|reason| TrainError::damaged(path, format!("`{}` {reason}", one.name)))?;
        Ok((one.name, found))
    };
    Ok((all.into_iter().map(tensor).collect::<Result<_, TrainError>>()?, text))
}

fn tensor_of(stored: &Stored, place: &Placement) -> Result<Tensor<3>, String> {
    let shape: [usize; 3] = stored.shape.clone().try_into().map_err(|_| "has not three axes".to_owned())?;
    let numbers = stored.as_f64().ok_or_else(|| format!("is {:?}, but f32 or f64 was written", stored.dtype))?;
    Ok(place.tensor(numbers, shape))
}
