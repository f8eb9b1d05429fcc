//! Files of weights: which they are, and whether they are whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{CONFIG, Find, INDEX, WEIGHTS, foreign};
use crate::{
    error::AssetError,
    file::{self, TOKENS},
};

/// model.safetensors.index.json
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files of the weights, in the order of their names.
pub(super) fn shards(
    need: &dyn Fn(&str) -> Result<PathBuf, AssetError>,
    find: &Find,
) -> Result<Vec<PathBuf>, AssetError> {
    if let Some(path) = find(WEIGHTS)? {
        return Ok(vec![path]);
    }
    let Some(path) = find(INDEX)? else {
        return match pickle(find)? {
            Some(path) => Err(foreign(
                &path,
                format!(
                    "is a pickle, which can run any code and is not read, and {WEIGHTS} is missing; open the model with transformers where you \
                     trust it, and write it again by `save_pretrained`"
                ),
            )),
            None => Ok(vec![need(WEIGHTS)?]),
        };
    };
    let index: Index = serde_json::from_slice(&file::bounded(&path, TOKENS)?)
        .map_err(|error| foreign(&path, format!("not an index of shards: {error}")))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    let outside = |name: &String| name.contains('/') || name.contains('\\') || name.contains("..");
    if let Some(name) = names.iter().find(|name| outside(name)) {
        return Err(foreign(&path, format!("names the shard `{name}`, but shards lie beside the index")));
    }
    if let Some(name) = names.iter().find(|name| !name.ends_with(".safetensors")) {
        return Err(foreign(&path, format!("names the shard `{name}`, but a shard is a safetensors file")));
    }
    if names.is_empty() {
        return Err(foreign(&path, "names no shard; download it again"));
    }
    names.iter().map(|name| need(name)).collect()
}

/// Weights that lie beside config.json as torch's own files.
fn pickle(find: &Find) -> Result<Option<PathBuf>, AssetError> {
    let config = find(CONFIG)?;
    let beside = |name: &str| Some(config.as_ref()?.parent()?.join(name)).filter(|path| file::is_there(path));
    Ok(["pytorch_model.bin", "pytorch_model.bin.index.json"].into_iter().find_map(beside))
}

/// Most bytes of a safetensors header; the format's own limit.
const LARGEST_HEADER: u64 = 100_000_000;

/// What the header says of a tensor; of its texts it says something else.
#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    data_offsets: Option<[u64; 2]>,
}

/// A safetensors file, whose header is compared with its length before its content is read.
pub(super) fn tensors(path: &Path) -> Result<Vec<u8>, AssetError> {
    let failed = |source: io::Error| AssetError::Io { path: path.to_owned(), source };
    let (mut file, length) = file::open(path).map_err(failed)?;
    let mut start = [0; 8];
    let too_short = || {
        foreign(
            path,
            format!(
                "it has {length} bytes, but its header says more; the download broke off, or it is no safetensors file"
            ),
        )
    };
    if length < 8 {
        return Err(too_short());
    }
    file.read_exact(&mut start).map_err(failed)?;
    let header = u64::from_le_bytes(start);
    if header > LARGEST_HEADER.min(length - 8) {
        return Err(too_short());
    }
    let mut content = start.to_vec();
    content.resize(8 + header as usize, 0);
    file.read_exact(&mut content[8..]).map_err(failed)?;
    let described: BTreeMap<String, Described> = serde_json::from_slice(&content[8..])
        .map_err(|error| foreign(path, format!("not a safetensors file: its header is not JSON: {error}")))?;
    let end = described.values().filter_map(|tensor| tensor.data_offsets).map(|[_, end]| end).max().unwrap_or(0);
    if (8 + header).checked_add(end) != Some(length) {
        return Err(foreign(
            path,
            format!(
                "its header describes {} bytes, but it has {length}; download it again",
                (8 + header).saturating_add(end)
            ),
        ));
    }
    content.reserve_exact((length - 8 - header) as usize);
    file.read_to_end(&mut content).map_err(failed)?;
    Ok(content)
}
