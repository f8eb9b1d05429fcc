//! Readers of experiments, models, adapters and unfinished work. Each function takes any bytes and must return: an error is fine, a panic
//! is not.
//!
//! `fuzz/fuzz_targets` feeds them from libFuzzer, `crates/cli/tests/corpus.rs` from `fuzz/corpus`.

use std::{fs, path::Path};

/// The YAML of an experiment, whole or as one field of a valid one.
pub fn experiment(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = experiment::read(text, "fuzz.yaml", "fuzz", &[]);
    let _ = experiment::read(VALID, "fuzz.yaml", "fuzz", &[text.to_owned()]);
}

const VALID: &str = "\
suite: glue_mini
model: mini_roberta
tasks: [sst2]
seeds: [0]
targets: [query]
ranks: [2]
train: {steps: 2}
variants: [lora]
";

/// A safetensors file as a model's weights, and as an adapter or a checkpoint of this program.
pub fn safetensors(bytes: &[u8]) {
    if let Ok(file) = models::safetensors::read(bytes) {
        for view in file.tensors.values() {
            let _ = (models::safetensors::as_f32(view), models::safetensors::as_f64(view));
        }
    }
    let _ = models::weights::Weights::read(bytes, &["bert."]);
    in_folder(&[("adapter.safetensors", bytes)], |folder| {
        let path = folder.join("adapter.safetensors");
        for key in ["adapter", "checkpoint"] {
            let _ = (assets::tensor_file::read(&path, key), assets::tensor_file::read_own(&path, key));
        }
    });
}

/// A `config.json`, and the tensors and maps that it asks for.
pub fn config(bytes: &[u8]) {
    let Ok(config) = models::config::Config::read(bytes) else { return };
    // A checkpoint's tensors bound the layers of a real model; here nothing does.
    if config.layers() < 100 {
        let _ = (config.maps(), config.longest(), config.wanted(models::config::Purpose::Continue));
    }
}

/// A folder that PEFT wrote: `adapter_config.json`, a byte 0, the weights.
pub fn peft_folder(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (config, weights) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    in_folder(&[("adapter_config.json", config), ("adapter_model.safetensors", weights)], |folder| {
        let _ = interop::peft::read(folder);
    });
}

/// What a run resumes from and what a table is made of: the first byte chooses the share of a journal that a checkpoint knows of, the rest
/// is the journal, and a record.
pub fn resume(bytes: &[u8]) {
    let Some((&share, file)) = bytes.split_first() else { return };
    let known = &file[..file.len() * usize::from(share) / 255];
    let mark = record::JournalMark { bytes: known.len() as u64, sha256: record::sha256_hex(known) };
    let cell = record::CellId { task: "a".to_owned(), variant: "lora".to_owned(), rank: 2, seed: 0 };
    in_folder(&[("journal.jsonl", file), ("a/runs/a-lora-r2-s0/record.json", file)], |folder| {
        let store = record::Store::open(folder, "a").unwrap_or_else(|error| unreachable!("a plain name: {error}"));
        let _ = (store.record(&cell), store.all());
        let _ = record::Journal::reopen(&folder.join("journal.jsonl"), &mark);
    });
}

/// Runs `read` in a folder with these files.
fn in_folder(files: &[(&str, &[u8])], read: impl Fn(&Path)) {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder for temporary files: {error}"));
    for (name, bytes) in files {
        let path = folder.path().join(name);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, bytes));
        made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    read(folder.path());
}
