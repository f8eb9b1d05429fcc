//! A base that reads seven words.

use std::{fs, path::Path};

/// Makes a folder with a tiny GPT-2 whose tokenizer frames nothing.
pub(crate) fn write(base: &Path) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures/gpt2");
    fs::create_dir(base).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(fixture.join(name), base.join(name)).unwrap();
    }
    let words = ["good", "bad", "film", "plot", "a", "the", "."];
    let vocab: Vec<String> = (1..).zip(words).map(|(id, word)| format!("\"{word}\": {id}")).collect();
    let tokenizer = format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {{"type": "Whitespace"}}, "post_processor": null, "decoder": null,
        "model": {{"type": "WordLevel", "vocab": {{"<|endoftext|>": 0, {}}}, "unk_token": "<|endoftext|>"}}}}"#,
        vocab.join(", ")
    );
    fs::write(base.join("tokenizer.json"), tokenizer).unwrap();
    fs::write(base.join("tokenizer_config.json"), r#"{"bos_token": "<|endoftext|>", "eos_token": "."}"#).unwrap();
}
