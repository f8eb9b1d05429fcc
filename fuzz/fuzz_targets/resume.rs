//! See [`fuzz::files::resume`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::files::resume(bytes));
