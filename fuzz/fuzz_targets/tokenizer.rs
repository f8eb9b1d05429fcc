//! See [`fuzz::texts::tokenizer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::texts::tokenizer(bytes));
