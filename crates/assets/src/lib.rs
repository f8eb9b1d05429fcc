//! What lies outside the program: models and data in folders or on the Hugging Face hub, files of tensors, devices.
//!
//! | module | one sentence |
//! |---|---|
//! | [`source`] | a model or data set by its name: embedded, a folder, or a repository of the hub |
//! | [`mod@file`] | whole regular files |
//! | [`tensor_file`] | a safetensors file of this program, with a JSON description and a checksum |
//! | [`device`] | which devices this build and this machine have, and how each is opened |

pub mod device;
pub mod error;
pub mod file;
pub mod source;
pub mod tensor_file;
