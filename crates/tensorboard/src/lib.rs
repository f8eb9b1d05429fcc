//! Records as event files, which TensorBoard and the tools around it read.
//!
//! | module | one sentence |
//! |---|---|
//! | [`event`] | the messages of an event file, as far as they are written here |
//! | [`file`] | a sequence of events as the bytes of a file, and back |
//! | [`hparams`] | the messages of the plugin that compares hyperparameters |
//! | [`study`] | the event files of an experiment and of its runs |
//!
//! **Architecture invariant.** No files and no clock: the same records give the same bytes.

pub mod event;
pub mod file;
pub mod hparams;
pub mod study;
