//! The fuzzer's corpus, replayed: every input that is worth keeping goes through the function that the fuzzer feeds, without a panic.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{fs, path::Path};

#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../fuzz/src/files.rs"]
mod files;
#[allow(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../../../fuzz/src/texts.rs"]
mod texts;

/// Takes any bytes and returns.
type Read = fn(&[u8]);

/// Kinds of input with their functions, as `fuzz/fuzz_targets` has them.
const TARGETS: [(&str, Read); 8] = [
    ("chat_template", texts::chat_template),
    ("config", files::config),
    ("experiment", files::experiment),
    ("peft_folder", files::peft_folder),
    ("resume", files::resume),
    ("safetensors", files::safetensors),
    ("table", texts::table),
    ("tokenizer", texts::tokenizer),
];

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_corpus_is_read_without_a_panic() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let kinds: Vec<String> = TARGETS.iter().map(|(kind, _)| (*kind).to_owned()).collect();
    assert_eq!(names(&fuzz.join("corpus")), kinds, "a corpus without a function, or the other way about");
    let targets: Vec<String> = kinds.iter().map(|kind| format!("{kind}.rs")).collect();
    assert_eq!(names(&fuzz.join("fuzz_targets")), targets);
    let mut inputs = 0;
    for (kind, read) in TARGETS {
        for name in names(&fuzz.join("corpus").join(kind)) {
            let bytes = fs::read(fuzz.join("corpus").join(kind).join(&name)).unwrap();
            println!("{kind}/{name}"); // the last one that is shown is the one that panics
            read(&bytes);
            inputs += 1;
        }
    }
    assert!(inputs >= 40, "{inputs} inputs");
}
