//! safetensors files that lie about themselves, and shards that are not where their index says.

use std::fs;

use serde_json::{Value, json};

use crate::{
    base::{Base, INDEX, PREDICT, SHARDS},
    case::Case,
    tensors::{Tensor, file, joined, parts},
};

const QUERY: &str = "bert.encoder.layer.0.attention.self.query.weight";

fn bytes(name: &str, bytes: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> Case {
    Case::new(format!("weights: {name}"), PREDICT, move |place| {
        let base = Base::new();
        base.put_description(place);
        place.write("base/model.safetensors", bytes(file(&base.tensors)));
    })
}

fn header(name: &str, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Case {
    Case::new(format!("weights: {name}"), PREDICT, move |place| {
        let base = Base::new();
        base.put_description(place);
        let (mut header, data) = parts(&base.tensors);
        edit(&mut header);
        place.write("base/model.safetensors", joined(&header.to_string(), &data));
    })
}

fn tensors(name: &str, edit: impl Fn(&mut Base) + Send + Sync + 'static) -> Case {
    Case::new(format!("weights: {name}"), PREDICT, move |place| {
        let mut base = Base::new();
        edit(&mut base);
        base.put(place);
    })
}

fn shards(name: &str, edit: impl Fn(&mut Value, &crate::place::Place) + Send + Sync + 'static) -> Case {
    Case::new(format!("shards: {name}"), PREDICT, move |place| {
        Base::new().put_in_shards(place);
        let mut index: Value = serde_json::from_slice(&fs::read(place.inside().join(INDEX)).unwrap()).unwrap();
        edit(&mut index, place);
        place.json(INDEX, &index);
    })
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = vec![
        bytes("an empty file", |_| Vec::new()),
        bytes("seven bytes", |all| all[..7].to_vec()),
        bytes("the header's length alone", |all| all[..8].to_vec()),
        bytes("cut inside the header", |all| all[..200].to_vec()),
        bytes("cut inside the numbers", |all| all[..all.len() - 100].to_vec()),
        bytes("bytes behind the end", |all| [all, vec![0; 64]].concat()),
        bytes("a header of 2^64 - 1 bytes", |all| [&u64::MAX.to_le_bytes()[..], &all[8..]].concat()),
        bytes("a header of 90 megabytes", |all| [&90_000_000_u64.to_le_bytes()[..], &all[8..]].concat()),
        bytes("a header of 0 bytes", |all| [&0_u64.to_le_bytes()[..], &all[8..]].concat()),
        bytes("a page of HTML", |_| b"<!DOCTYPE html><html><body>Repository not found</body></html>".to_vec()),
        bytes("a pointer of Git LFS", |_| {
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n".to_vec()
        }),
        bytes("a pickle", |_| {
            b"\x80\x02}q\x00(X\x05\x00\x00\x00modelq\x01cos\nsystem\nq\x02X\x05\x00\x00\x00touchq\x03\x85R.".to_vec()
        }),
        bytes("a header that is no JSON", |_| joined("{tensors", &[])),
        bytes("a header that is a list", |_| joined("[1, 2]", &[])),
        bytes("a header of lists in lists", |_| {
            joined(&format!("{{\"a\": {{\"dtype\": \"F32\", \"more\": {}", "[".repeat(50_000)), &[])
        }),
        header("a tensor of petabytes", |header| {
            header[QUERY] = json!({"dtype": "F32", "shape": [1_u64 << 40, 1 << 10], "data_offsets": [0, 1_u64 << 52]});
        }),
        header("a shape that overflows", |header| header[QUERY]["shape"] = json!([u64::MAX, u64::MAX])),
        header("a shape of 0", |header| header[QUERY]["shape"] = json!([0, 16])),
        header("a shape below 0", |header| header[QUERY]["shape"] = json!([-16, -16])),
        header("tensors that overlap", |header| {
            let of_key = header[QUERY.replace("query", "key")]["data_offsets"].clone();
            header[QUERY]["data_offsets"] = of_key;
        }),
        header("offsets that run backwards", |header| {
            let offsets = header[QUERY]["data_offsets"].clone();
            header[QUERY]["data_offsets"] = json!([offsets[1], offsets[0]]);
        }),
        header("offsets behind the end", |header| {
            header[QUERY]["data_offsets"] = json!([1_u64 << 40, (1_u64 << 40) + 1024]);
        }),
        header("offsets of 2^64 - 1", |header| header[QUERY]["data_offsets"] = json!([u64::MAX - 1024, u64::MAX])),
        header("a hole between tensors", |header| {
            header.as_object_mut().map(|tensors| tensors.remove(QUERY));
        }),
        header("an unknown type", |header| header[QUERY]["dtype"] = json!("F7")),
        header("a type of other size", |header| header[QUERY]["dtype"] = json!("BF16")),
        header("no shape", |header| header[QUERY] = json!({"dtype": "F32", "data_offsets": [0, 1024]})),
        header("metadata that is a number", |header| header["__metadata__"] = json!(3)),
        tensors("a tensor that is missing", |base| base.tensors.retain(|tensor| tensor.name != QUERY)),
        tensors("a tensor of another shape", |base| *base.tensor(QUERY) = Tensor::new(QUERY, &[16, 8])),
        tensors("whole numbers", |base| *base.tensor(QUERY) = Tensor::new(QUERY, &[16, 16]).typed("I32", 4)),
        tensors("eight bits", |base| *base.tensor(QUERY) = Tensor::new(QUERY, &[16, 16]).typed("F8_E4M3", 1)),
        tensors("not a number", |base| *base.tensor(QUERY) = Tensor::filled(QUERY, &[16, 16], f32::NAN)),
        tensors("without end", |base| *base.tensor(QUERY) = Tensor::filled(QUERY, &[16, 16], f32::INFINITY)),
        tensors("a name with and without its prefix", |base| {
            base.tensors.push(Tensor::new(QUERY.trim_start_matches("bert."), &[16, 16]));
        }),
        tensors("a head of three classes", |base| {
            *base.tensor("classifier.weight") = Tensor::new("classifier.weight", &[3, 16]);
            *base.tensor("classifier.bias") = Tensor::new("classifier.bias", &[3]);
        }),
        tensors("no head", |base| base.tensors.retain(|tensor| !tensor.name.starts_with("classifier"))),
        Case::new("weights: none", PREDICT, |place| Base::new().put_description(place)),
        Case::new("weights: a folder", PREDICT, |place| {
            Base::new().put_description(place);
            place.write("base/model.safetensors/inside", "");
        }),
        Case::new("weights: of torch alone", PREDICT, |place| {
            Base::new().put_description(place);
            place.write("base/pytorch_model.bin", b"\x80\x02}q\x00.");
        }),
    ];
    all.extend(of_shards());
    all
}

fn of_shards() -> Vec<Case> {
    let mut all = vec![
        shards("an index that is no JSON", |index, _| *index = json!("weight_map")),
        shards("an index without a map", |index, _| *index = json!({"metadata": {}})),
        shards("an empty map", |index, _| index["weight_map"] = json!({})),
        shards("a shard that climbs", |index, _| index["weight_map"][QUERY] = json!("../../neighbour.safetensors")),
        shards("a shard from the root", |index, _| index["weight_map"][QUERY] = json!("/etc/passwd")),
        shards("a shard that climbs by backslashes", |index, _| {
            index["weight_map"][QUERY] = json!("..\\..\\neighbour.safetensors");
        }),
        shards("a shard that is not there", |index, _| {
            index["weight_map"][QUERY] = json!("model-00003-of-00002.safetensors");
        }),
        shards("an index that names itself", |index, _| {
            index["weight_map"][QUERY] = json!("model.safetensors.index.json");
        }),
        shards("a shard with no name", |index, _| index["weight_map"][QUERY] = json!("")),
        shards("a shard that is the folder", |index, _| index["weight_map"][QUERY] = json!(".")),
        shards("a shard with a NUL", |index, _| index["weight_map"][QUERY] = json!("a\0b")),
        shards("a shard cut short", |_, place| {
            let path = place.inside().join("base").join(SHARDS[1]);
            let all = fs::read(&path).unwrap();
            fs::write(path, &all[..all.len() / 2]).unwrap();
        }),
        shards("a shard that is the other's copy", |_, place| {
            let of = |name| place.inside().join("base").join(name);
            fs::copy(of(SHARDS[0]), of(SHARDS[1])).unwrap();
        }),
    ];
    #[cfg(unix)]
    all.push(shards("links that lead round in a circle", |_, place| {
        let path = place.inside().join("base").join(SHARDS[1]);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(SHARDS[1], &path).unwrap();
    }));
    all
}
