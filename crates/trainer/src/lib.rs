//! From the cells of an experiment to trained adapters and records: the cohorts and the one loop.
//!
//! | module | one sentence |
//! |---|---|
//! | [`model_cache`] | models and tasks, read once |
//! | [`warm_start`] | runs that begin with the adapter of another |
//! | [`calibrate`] | what first values need of training batches |
//! | [`study`] | which cells are left, grouped into cohorts |
//! | [`mod@train`] | the training loop, from a cohort's first step to its records |
//! | [`cohort`] | runs that train at the same time over one base |
//! | [`step`] | one optimizer step of a cohort, and AdamW over its stacked tensors |
//! | [`rows`], [`batch`] | examples to micro-batches, packed or padded; their losses |
//! | [`objective`] | losses, a file each |
//! | [`footprint`] | what a cohort takes of a device's memory |
//! | [`guard`] | what trains has moved, what is frozen has not |
//! | [`evaluate`] | predictions and metrics |
//! | [`forgetting`] | the base's own loss on held-out text, before and after |
//! | [`checkpoint`], [`snapshot`], [`adapter`], [`tensor_file`] | cohorts and adapters on disk |
//! | [`records`] | what a run leaves behind when it ends |
//! | [`stop`] | whether somebody wants the work to stop |
//! | [`pretrain`] | masked-language-model pretraining of the embedded base |
//!
//! **Architecture invariant.** The loop names no method: what a variant does differently reaches it as roles, masks
//! and actions. Outside the loop two reference points are named: `pretrain` trains the `full` one, and `records`
//! evaluates a merged model under `head_only`.

// The helpers of the integration tests serve the unit tests as well.
#[cfg(test)]
extern crate self as trainer;

pub mod adapter;
pub mod batch;
pub mod calibrate;
pub mod checkpoint;
pub mod cohort;
pub mod error;
pub mod evaluate;
pub mod footprint;
pub mod forgetting;
pub mod guard;
pub mod model_cache;
pub mod objective;
pub mod pretrain;
pub mod records;
pub mod rows;
pub mod sink;
pub mod snapshot;
pub mod step;
pub mod stop;
pub mod study;
pub mod tensor_file;
pub mod train;
pub mod warm_start;

/// What the tests of whole studies share.
#[cfg(test)]
#[path = "../tests/support/study.rs"]
mod support;
