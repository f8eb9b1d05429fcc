//! See [`fuzz::files::experiment`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::files::experiment(bytes));
