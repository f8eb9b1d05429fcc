//! No code: its dependencies turn on, for every selection of packages, the features that the workspace as a whole turns on.
//!
//! Cargo compiles a dependency again where a selection asks for other features. With these, `cargo build`, `cargo test --workspace`
//! and `cargo test -p variants` share one build of Burn and of everything under it.
