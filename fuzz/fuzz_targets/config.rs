//! See [`fuzz::files::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::files::config(bytes));
