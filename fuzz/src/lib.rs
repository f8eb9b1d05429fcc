//! What the fuzzer feeds: one function per kind of input, and the same functions for the test that replays the corpus.

#[cfg(feature = "readers")]
pub mod files;
pub mod texts;
