//! A safetensors file that this program wrote: tensors, one JSON object that describes them, and a checksum over both names and bytes.

use std::{borrow::Cow, collections::HashMap, path::Path};

use record::sha256_hex;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Map, Value};

use crate::error::AssetError;

/// The field of the description that holds the checksum.
const CHECKSUM: &str = "sha256";

/// A tensor as it lies in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct RawTensor<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Type of its numbers.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, little endian, the last axis fastest.
    pub bytes: Cow<'a, [u8]>,
}

/// A file's bytes: `text`, a JSON object, lies under `key` in the metadata, with the checksum as one more field.
pub fn encode(tensors: &[RawTensor<'_>], key: &str, text: &str) -> Result<Vec<u8>, AssetError> {
    let views = tensors
        .iter()
        .map(|t| Ok((t.name.to_string(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(models::error::ModelError::from)?;
    // One entry, so that the order of a hash map decides nothing.
    let metadata = HashMap::from([(key.to_owned(), with_checksum(text, &checksum(tensors)))]);
    Ok(safetensors::serialize(views, Some(metadata)).map_err(models::error::ModelError::from)?)
}

/// Reads a file's tensors, in the order of their names, and its description without the checksum, which has to be right.
pub fn read(path: &Path, key: &str) -> Result<(Vec<RawTensor<'static>>, String), AssetError> {
    let damaged = |reason: String| AssetError::Damaged { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|source| AssetError::Io { path: path.to_owned(), source })?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
    let text = header.metadata().as_ref().and_then(|m| m.get(key)).cloned();
    let text = text.ok_or_else(|| damaged(format!("it has no `{key}` entry")))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
    let raw = |(name, view): (String, TensorView<'_>)| RawTensor {
        name: Cow::Owned(name),
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: Cow::Owned(view.data().to_vec()),
    };
    let mut tensors: Vec<RawTensor<'static>> = file.tensors().into_iter().map(raw).collect();
    tensors.sort_by(|one, other| one.name.cmp(&other.name));
    let mut object: Map<String, Value> = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if object.remove(CHECKSUM).is_some_and(|wanted| wanted != checksum(&tensors)) {
        return Err(damaged("its tensors are not those that were written (checksum)".to_owned()));
    }
    Ok((tensors, Value::Object(object).to_string()))
}

/// A JSON object with the checksum as one more field.
fn with_checksum(text: &str, sum: &str) -> String {
    match serde_json::from_str(text) {
        Ok(Value::Object(mut object)) => {
            object.insert(CHECKSUM.to_owned(), sum.into());
            Value::Object(object).to_string()
        }
        _ => unreachable!("what a file says of itself is a JSON object"),
    }
}

/// A hash over names and bytes in the order given.
fn checksum(tensors: &[RawTensor<'_>]) -> String {
    let parts: Vec<String> = tensors.iter().map(|t| format!("{} {}", t.name, sha256_hex(&t.bytes))).collect();
    sha256_hex(parts.join("\n").as_bytes())
}
