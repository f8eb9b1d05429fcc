//! See [`fuzz::files::peft_folder`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::files::peft_folder(bytes));
