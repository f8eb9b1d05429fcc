//! See [`fuzz::texts::chat_template`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::texts::chat_template(bytes));
