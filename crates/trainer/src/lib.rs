//! From an experiment's YAML to trained adapters and records: the grid, the cohorts, the one loop.
//!
//! | module | one sentence |
//! |---|---|
//! | [`experiment`] | YAML to a checked grid, every problem found at once |
//! | [`cell`], [`hyper`] | one run of the grid, resolved |
//! | [`source`] | models and data of a folder or the hub |
//! | [`library`] | models and tasks, read once |
//! | [`start`] | runs that begin with the adapter of another |
//! | [`study`] | which cells are left, grouped into cohorts |
//! | [`mod@train`] | the training loop, from a cohort's first step to its records |
//! | [`cohort`] | one optimizer step of runs that train side by side |
//! | [`lesson`] | batches and losses |
//! | [`text`] | losses, perplexity and generation of causal models |
//! | [`optimizer`] | AdamW over stacked tensors |
//! | [`importance`] | importance averages over stacked tensors |
//! | [`footprint`] | what a cohort takes of a device's memory |
//! | [`readout`], [`mod@evaluate`] | predictions and what they are worth |
//! | [`checkpoint`], [`snapshot`], [`adapter`], [`tensor_file`] | cohorts and adapters on disk |
//! | [`update`], [`peft`] | what an adapter does to each map, as plain numbers |
//! | [`export`] | a trained adapter as a smaller plain one |
//! | [`mod@merge`], [`folder`] | a trained adapter folded into its base as a checkpoint of its own; folders that are whole or absent |
//! | [`mod@combine`] | several adapters as one, in the space of `ΔW` |
//! | [`predict`] | logits on rows that somebody asks about |
//! | [`records`] | what a run leaves behind when it ends |
//! | [`matched`] | what a comparison held equal |
//! | [`pretrain`] | masked-language-model pretraining of the embedded base |
//!
//! **Architecture invariant.** The loop names no method: what a variant does differently reaches it as roles, masks
//! and actions. Outside the loop two reference points are named: `pretrain` trains the `full` one, and `records`
//! evaluates a merged model under `head_only`; `merge` and `predict` open a checkpoint's own head under it.

pub mod adapter;
pub mod cell;
pub mod checkpoint;
pub mod cohort;
pub mod combine;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod experiment;
pub mod export;
pub mod folder;
pub mod footprint;
pub mod hyper;
pub mod importance;
pub mod ledger;
pub mod lesson;
pub mod library;
pub mod matched;
pub mod merge;
pub mod optimizer;
pub mod peft;
pub mod predict;
pub mod pretrain;
pub mod readout;
pub mod records;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod start;
pub mod study;
pub mod tensor_file;
pub mod text;
pub mod train;
pub mod update;
