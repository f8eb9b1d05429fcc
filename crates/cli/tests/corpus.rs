//! The fuzzer's corpus, replayed and mutated: every input that is worth keeping, and random changes of it, go through the function that the
//! fuzzer feeds, without a panic.
//!
//! The mutations know nothing of the code's branches, as libFuzzer's do, but need no nightly compiler: `just mutate` makes a million per kind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{env, fs, panic, path::Path, thread};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

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

/// What readers of numbers, brackets and lengths stumble over.
const WORDS: [&[u8]; 16] = [
    b"18446744073709551615",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"\"\"",
    b"\xff\xfe",
    b"\\ud800",
    b"\0\0\0\0\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"{{{{{{{{",
    b"[[[[[[[[",
    b"\n",
];

/// Deeper than any reader may follow.
const DEEP: usize = 20_000;

/// One to eight changes of an input of the corpus.
fn mutated(corpus: &[Vec<u8>], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut input = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..rng.random_range(1..=8) {
        let at = rng.random_range(0..=input.len());
        let end = rng.random_range(at..=input.len().min(at + 64));
        match rng.random_range(0..8) {
            0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            1 if at < input.len() => input[at] = rng.random(),
            2 => drop(input.drain(at..end)),
            3 => drop(input.splice(at..at, input[at..end].to_vec())),
            4 => drop(input.splice(at..end, WORDS[rng.random_range(0..WORDS.len())].to_vec())),
            5 => {
                let other = &corpus[rng.random_range(0..corpus.len())];
                let from = rng.random_range(0..=other.len());
                input.splice(at..end, other[from..other.len().min(from + 256)].to_vec());
            }
            6 => drop(input.splice(at..at, vec![b"[{("[rng.random_range(0..3)]; DEEP])),
            _ => input.truncate(at),
        }
    }
    input
}

#[test]
fn mutations_of_the_corpus_are_read_without_a_panic() {
    let number = |name: &str, or: u64| env::var(name).map_or(or, |text| text.parse().unwrap());
    let (inputs, seed) = (number("LORA_LAB_MUTATIONS", 200), number("LORA_LAB_SEED", 0));
    let feed = |kind: &str, read: Read| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(kind);
        let corpus: Vec<Vec<u8>> = names(&folder).iter().map(|name| fs::read(folder.join(name)).unwrap()).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("last_{kind}"));
        for _ in 0..inputs {
            let input = mutated(&corpus, &mut rng);
            // Before it is read: nothing catches a stack that overflows, and the file is what is left then.
            fs::write(&kept, &input).unwrap();
            if panic::catch_unwind(|| read(&input)).is_err() {
                return Some(kept);
            }
        }
        println!("{kind}: {inputs} mutations");
        None
    };
    let found: Vec<_> = thread::scope(|scope| {
        let feed = &feed;
        // Named, so that a thread that overflows its stack, which nothing catches, says of what kind its input was.
        let start = |(kind, read): &(&'static str, Read)| {
            let (kind, read) = (*kind, *read);
            thread::Builder::new().name(kind.to_owned()).spawn_scoped(scope, move || feed(kind, read)).unwrap()
        };
        let started: Vec<_> = TARGETS.iter().map(start).collect();
        started.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found.is_empty(), "inputs that panic: {found:?}; put them into fuzz/corpus");
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

/// What libFuzzer found beyond the corpus, minimised by the parts of the code that it reaches: see `fuzz/found.py`.
#[test]
fn what_the_fuzzer_found_is_read_without_a_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/found");
    let mut inputs = 0;
    for file in names(&folder) {
        let kind = file.strip_suffix(".safetensors").unwrap();
        let (_, read) = TARGETS.iter().find(|(name, _)| *name == kind).unwrap();
        let bytes = fs::read(folder.join(&file)).unwrap();
        for (name, input) in models::safetensors::read(&bytes).unwrap().tensors {
            println!("{kind}/{name}");
            read(input.data());
            inputs += 1;
        }
    }
    assert!(inputs >= 2_000, "{inputs} inputs");
}
