//! A safetensors file that this program wrote: tensors, one JSON object that describes them, and a checksum over all of it.

use std::path::Path;

use models::{
    error::ModelError,
    safetensors::{self, Stored},
};
use record::{canonical_json, sha256_hex};
use serde_json::{Map, Value};

use crate::error::AssetError;

/// The field of the description that holds the checksum over the rest of it and over every tensor's name, type, shape and bytes.
const CHECKSUM: &str = "checksum";

/// The same of earlier builds, over names and bytes alone.
const OF_BYTES: &str = "sha256";

/// A file's bytes: `text`, a JSON object, lies under `key` in the metadata, with the checksum as one more field.
pub fn encode(tensors: &[Stored], key: &str, text: &str) -> Result<Vec<u8>, AssetError> {
    let Ok(Value::Object(mut object)) = serde_json::from_str(text) else {
        unreachable!("what a file says of itself is a JSON object")
    };
    let sum = checksum(&object, tensors);
    object.insert(CHECKSUM.to_owned(), sum.into());
    let text = Value::Object(object).to_string();
    Ok(safetensors::write(tensors, Some((key, &text))).map_err(ModelError::from)?)
}

/// Reads a file's tensors, in the order of their names, and its description without the checksum, which has to be right. Files of earlier
/// builds may have the one over names and bytes, or none.
pub fn read(path: &Path, key: &str) -> Result<(Vec<Stored>, String), AssetError> {
    let (tensors, mut object) = open(path, key)?;
    let is_right = match (object.remove(CHECKSUM), object.remove(OF_BYTES)) {
        (Some(wanted), _) => wanted == checksum(&object, &tensors),
        (None, Some(wanted)) => wanted == of_bytes(&tensors),
        (None, None) => true,
    };
    finish(path, tensors, object, is_right)
}

/// The same of a file that no earlier build wrote: the checksum is there.
pub fn read_own(path: &Path, key: &str) -> Result<(Vec<Stored>, String), AssetError> {
    let (tensors, mut object) = open(path, key)?;
    let is_right = object.remove(CHECKSUM).is_some_and(|wanted| wanted == checksum(&object, &tensors));
    finish(path, tensors, object, is_right)
}

fn damaged(path: &Path, reason: String) -> AssetError {
    AssetError::Damaged { path: path.to_owned(), reason }
}

/// A file's tensors and its description as they are.
fn open(path: &Path, key: &str) -> Result<(Vec<Stored>, Map<String, Value>), AssetError> {
    let bytes = crate::file::read(path).map_err(|source| AssetError::Io { path: path.to_owned(), source })?;
    let file = safetensors::read(&bytes).map_err(|error| damaged(path, error.to_string()))?;
    let text = file.texts.get(key).ok_or_else(|| damaged(path, format!("it has no `{key}` entry")))?;
    let object = serde_json::from_str(text).map_err(|error| damaged(path, error.to_string()))?;
    Ok((file.into_stored(), object))
}

fn finish(
    path: &Path,
    tensors: Vec<Stored>,
    object: Map<String, Value>,
    is_right: bool,
) -> Result<(Vec<Stored>, String), AssetError> {
    if is_right {
        Ok((tensors, Value::Object(object).to_string()))
    } else {
        Err(damaged(path, "it is not what was written (checksum)".to_owned()))
    }
}

/// A hash over a description, and over name, type, shape and bytes of every tensor, by name.
fn checksum(description: &Map<String, Value>, tensors: &[Stored]) -> String {
    let mut parts: Vec<String> = tensors
        .iter()
        .map(|t| format!("{} {:?} {:?} {}", Value::from(t.name.as_str()), t.dtype, t.shape, sha256_hex(&t.data)))
        .collect();
    parts.sort();
    parts.push(canonical_json(&Value::Object(description.clone())));
    sha256_hex(parts.join("\n").as_bytes())
}

/// A hash over names and bytes, by name.
fn of_bytes(tensors: &[Stored]) -> String {
    let parts: Vec<String> = tensors.iter().map(|t| format!("{} {}", t.name, sha256_hex(&t.data))).collect();
    sha256_hex(parts.join("\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> Vec<Stored> {
        vec![Stored::of("a", vec![2, 3], [0.5_f32; 6]), Stored::of("b", vec![1], [2.0_f64])]
    }

    type Reader = fn(&Path, &str) -> Result<(Vec<Stored>, String), AssetError>;

    fn read_back(bytes: &[u8], reader: Reader) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.safetensors");
        std::fs::write(&path, bytes).unwrap();
        reader(&path, "adapter").map(drop).map_err(|error| error.to_string())
    }

    /// A file with a description as it stands.
    fn plain(tensors: &[Stored], text: &str) -> Vec<u8> {
        safetensors::write(tensors, Some(("adapter", text))).unwrap()
    }

    #[test]
    fn whatever_changes_in_a_file_is_noticed() {
        let text = r#"{"step": 7, "rate": 0.1, "names": {"b": 1, "a": [1e-300]}}"#;
        let bytes = encode(&tensors(), "adapter", text).unwrap();
        read_back(&bytes, read).unwrap();
        read_back(&bytes, read_own).unwrap();
        let written = safetensors::read(&bytes).unwrap().texts["adapter"].clone();
        assert_eq!(plain(&tensors(), &written), bytes);
        let refused = |tensors: &[Stored], text: &str| {
            for reader in [read, read_own] {
                let message = read_back(&plain(tensors, text), reader).unwrap_err();
                assert!(message.contains("checksum"), "{message}");
            }
        };
        refused(&tensors(), &written.replace(r#""step":7"#, r#""step":8"#));
        let other = |change: fn(&mut Vec<Stored>)| {
            let mut all = tensors();
            change(&mut all);
            all
        };
        refused(&other(|all| all[0].shape = vec![3, 2]), &written);
        refused(&other(|all| all[0].shape = vec![6]), &written);
        refused(&other(|all| all[1] = Stored::of("b", vec![2], [0.0_f32, 2.0])), &written);
        refused(&other(|all| all[0].name = "c".to_owned()), &written);
        refused(&other(|all| all[0].data[0] ^= 1), &written);
        refused(&other(|all| drop(all.pop())), &written);
    }

    #[test]
    fn a_file_of_an_earlier_build_opens_where_one_may_be() {
        // The checksum over names and bytes, or none.
        let sum = of_bytes(&tensors());
        for text in [format!(r#"{{"step": 7, "sha256": "{sum}"}}"#), r#"{"step": 7}"#.to_owned()] {
            let bytes = plain(&tensors(), &text);
            read_back(&bytes, read).unwrap();
            assert!(read_back(&bytes, read_own).unwrap_err().contains("checksum"));
        }
        let mut changed = tensors();
        changed[0].data[0] ^= 1;
        let text = format!(r#"{{"step": 7, "sha256": "{sum}"}}"#);
        assert!(read_back(&plain(&changed, &text), read).unwrap_err().contains("checksum"));
    }
}
