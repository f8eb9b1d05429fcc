//! Tensors on disk: a safetensors file with one string of metadata and a checksum.

use std::{collections::BTreeMap, path::Path};

use burn::tensor::Tensor;
use record::sha256_hex;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use variants::host::{Placement, inner, values};

use crate::error::TrainError;

/// f32 and f64 tensors as they are, so that a resumed run has the same bits.
fn view_bytes(tensor: &Tensor<3>) -> (Dtype, Vec<usize>, Vec<u8>) {
    let numbers = values(&inner(tensor));
    let shape = tensor.dims().to_vec();
    if tensor.dtype() == burn::tensor::DType::F64 {
        (Dtype::F64, shape, numbers.iter().flat_map(|v| v.to_le_bytes()).collect())
    } else {
        (Dtype::F32, shape, numbers.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect())
    }
}

/// Tensors as a safetensors file with one string of metadata.
pub fn encode(tensors: &BTreeMap<String, Tensor<3>>, key: &str, text: &str) -> Result<Vec<u8>, TrainError> {
    let raw: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), view_bytes(tensor))).collect();
    let views = raw
        .iter()
        .map(|(name, (dtype, shape, bytes))| Ok((name.clone(), TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(models::error::ModelError::from)?;
    let sum = checksum(raw.iter().map(|(name, (_, _, bytes))| (name.as_str(), bytes.as_slice())));
    // One entry, so that the order of a hash map decides nothing.
    let metadata = std::collections::HashMap::from([(key.to_owned(), with_checksum(text, &sum))]);
    Ok(safetensors::serialize(views, Some(metadata)).map_err(models::error::ModelError::from)?)
}

/// The field that holds the checksum.
const CHECKSUM: &str = "sha256";

/// A JSON object with the checksum as one more field.
fn with_checksum(text: &str, sum: &str) -> String {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(mut object)) => {
            object.insert(CHECKSUM.to_owned(), sum.into());
            serde_json::Value::Object(object).to_string()
        }
        _ => unreachable!("what a file says of itself is a JSON object"),
    }
}

/// A hash over names and bytes in the order of the names.
fn checksum<'a>(tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let parts: Vec<String> = tensors.map(|(name, bytes)| format!("{name} {}", sha256_hex(bytes))).collect();
    sha256_hex(parts.join("\n").as_bytes())
}

/// The inverse of [`encode`].
pub fn decode(path: &Path, key: &str, place: &Placement) -> Result<(BTreeMap<String, Tensor<3>>, String), TrainError> {
    let damaged = |reason: String| TrainError::Damaged { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|source| TrainError::Io { path: path.to_owned(), source })?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
    let text = header.metadata().as_ref().and_then(|m| m.get(key)).cloned();
    let text = text.ok_or_else(|| damaged(format!("it has no `{key}` entry")))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
    let views: BTreeMap<String, _> = file.tensors().into_iter().collect();
    let sum = checksum(views.iter().map(|(name, view)| (name.as_str(), view.data())));
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if object.remove(CHECKSUM).is_some_and(|wanted| wanted != sum) {
        return Err(damaged("its tensors are not those that were written (checksum)".to_owned()));
    }
    let text = serde_json::Value::Object(object).to_string();
    let tensor = |(name, view): (String, TensorView<'_>)| {
        let tensor = tensor_of(&view, place).map_err(|reason| damaged(format!("`{name}` {reason}")))?;
        Ok((name, tensor))
    };
    Ok((views.into_iter().map(tensor).collect::<Result<_, TrainError>>()?, text))
}

fn tensor_of(view: &TensorView<'_>, place: &Placement) -> Result<Tensor<3>, String> {
    let shape: [usize; 3] = view.shape().try_into().map_err(|_| "has not three axes".to_owned())?;
    let data = view.data();
    let numbers: Vec<f64> = match view.dtype() {
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::F64 => data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        other => return Err(format!("is {other:?}, but f32 or f64 was written")),
    };
    Ok(place.tensor(numbers, shape))
}
