//! A safetensors file that this program wrote: tensors, one JSON object that describes them, and a checksum over both names and bytes.

use std::path::Path;

use models::{
    error::ModelError,
    safetensors::{self, Stored},
};
use record::sha256_hex;
use serde_json::{Map, Value};

use crate::error::AssetError;

/// The field of the description that holds the checksum.
const CHECKSUM: &str = "sha256";

/// A file's bytes: `text`, a JSON object, lies under `key` in the metadata, with the checksum as one more field.
pub fn encode(tensors: &[Stored], key: &str, text: &str) -> Result<Vec<u8>, AssetError> {
    let text = with_checksum(text, &checksum(tensors));
    Ok(safetensors::write(tensors, Some((key, &text))).map_err(ModelError::from)?)
}

/// Reads a file's tensors, in the order of their names, and its description without the checksum, which has to be right.
pub fn read(path: &Path, key: &str) -> Result<(Vec<Stored>, String), AssetError> {
    let damaged = |reason: String| AssetError::Damaged { path: path.to_owned(), reason };
    let bytes = crate::file::read(path).map_err(|source| AssetError::Io { path: path.to_owned(), source })?;
    let file = safetensors::read(&bytes).map_err(|error| damaged(error.to_string()))?;
    let text = file.texts.get(key).ok_or_else(|| damaged(format!("it has no `{key}` entry")))?;
    let mut object: Map<String, Value> = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    let tensors = file.into_stored();
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
fn checksum(tensors: &[Stored]) -> String {
    let parts: Vec<String> = tensors.iter().map(|t| format!("{} {}", t.name, sha256_hex(&t.data))).collect();
    sha256_hex(parts.join("\n").as_bytes())
}
