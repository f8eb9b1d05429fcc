//! See [`fuzz::texts::table`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::texts::table(bytes));
