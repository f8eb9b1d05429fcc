//! Hashes of specs and bytes.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Keys of a resolved spec that hold what differs between the seeds of one group.
const SEED_KEYS: [&str; 2] = ["seed", "seeds"];

/// The SHA-256 of `bytes` in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

/// The SHA-256 of bytes that come in parts, none of which is kept.
#[derive(Clone, Debug, Default)]
pub struct PartsHash(Sha256);

impl PartsHash {
    /// The next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// What [`sha256_hex`] gives for all of them in one.
    pub fn finish(self) -> String {
        hex(self.0.finalize().as_slice())
    }
}

pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// JSON without spaces and with the keys of every object sorted: equal values give equal text.
///
/// Keys are sorted here because the map type of `serde_json` keeps insertion order when any crate of the build asks for it.
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

/// The hash of a resolved spec: SHA-256 over its [`canonical_json`].
pub fn spec_hash(spec: &Value) -> String {
    sha256_hex(canonical_json(spec).as_bytes())
}

/// [`sha256_hex`] of a file, which is read in parts.
pub fn file_sha256(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher, mut part) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hex(hasher.finalize().as_slice())),
            read => hasher.update(&part[..read]),
        }
    }
}

/// A resolved spec without what differs between the seeds of one group: its top-level `seed` and `seeds`, and the seed of the run that it
/// starts from, which is its own.
pub fn seedless(spec: &Value) -> Value {
    let Value::Object(map) = spec else { return spec.clone() };
    let kept = map.iter().filter(|(key, _)| !SEED_KEYS.contains(&key.as_str()));
    let mut kept: Map<String, Value> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    let source = kept.get_mut("start_from").and_then(|start| start.get_mut("cell")).and_then(Value::as_object_mut);
    if let Some(source) = source {
        source.remove("seed");
    }
    Value::Object(kept)
}

/// The hash of a resolved spec that is [`seedless`]: equal for the runs that are averaged over seeds.
pub fn seedless_spec_hash(spec: &Value) -> String {
    spec_hash(&seedless(spec))
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            text.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                text.push_str(&Value::String(key.clone()).to_string());
                text.push(':');
                write_canonical(&map[key], text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn empty_input_has_the_published_digest() {
        // FIPS 180-4 test vector.
        assert_eq!(sha256_hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let value = json!({"b": [{"d": 1, "c": "x\"y"}], "a": null});
        assert_eq!(canonical_json(&value), r#"{"a":null,"b":[{"c":"x\"y","d":1}]}"#);
        // printf '{"a":1}' | sha256sum
        assert_eq!(spec_hash(&json!({"a": 1})), "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862");
    }

    #[test]
    fn only_the_top_level_seeds_are_left_out() {
        let one = json!({"seed": 1, "seeds": {"data": 4}, "optimizer": {"seed": 3}});
        let two = json!({"seed": 2, "optimizer": {"seed": 3}});
        let three = json!({"seed": 2, "optimizer": {"seed": 4}});
        assert_eq!(seedless_spec_hash(&one), seedless_spec_hash(&two));
        assert_ne!(seedless_spec_hash(&two), seedless_spec_hash(&three));
        assert_ne!(spec_hash(&one), spec_hash(&two));
    }

    /// A run of seed 2 starts from the run of seed 2; that of another task or variant is another start.
    #[test]
    fn runs_of_one_group_start_from_runs_of_their_own_seeds() {
        let of = |seed: u64, task: &str| {
            seedless_spec_hash(&json!({"seeds": {"init": seed}, "start_from": {"cell": {"task": task, "seed": seed}}}))
        };
        assert_eq!(of(1, "mnli"), of(2, "mnli"));
        assert_ne!(of(1, "mnli"), of(1, "sst2"));
        let adapter = |path: &str| seedless_spec_hash(&json!({"start_from": {"adapter": path}}));
        assert_ne!(adapter("one"), adapter("two"));
    }
}
