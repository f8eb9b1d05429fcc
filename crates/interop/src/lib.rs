//! Adapters that leave the study: to PEFT and back, into their base, into one another, onto new rows.
//!
//! | module | one sentence |
//! |---|---|
//! | [`update`] | what an adapter does to each linear map, as matrices on the host |
//! | [`peft`] | adapters in PEFT's format: import and export |
//! | [`export`] | a trained adapter as a plain one of a smaller rank |
//! | [`mod@merge`] | a trained adapter folded into its base, as a checkpoint of its own |
//! | [`model_merging`] | several adapters as one, in the space of `ΔW` |
//! | [`approximate`] | any update as a plain LoRA in PEFT's format |
//! | [`mod@evaluate`] | an adapter on its task's evaluation splits or on given rows, at any of its ranks |
//! | [`run_updates`] | the updates of a run with its snapshots, or of all runs of an experiment |
//! | [`predict`] | logits of a trained adapter on given rows |
//! | [`head`] | a trained head as transformers has it |
//! | [`dtype`] | the types of the numbers of a checkpoint |
//! | [`length`] | how many tokens of a row are read |
//! | [`output`] | what a command writes, and what it may replace |

pub mod approximate;
pub mod dtype;
pub mod evaluate;
pub mod export;
pub mod head;
pub mod length;
pub mod merge;
pub mod model_merging;
mod opened;
pub mod output;
pub mod peft;
pub mod predict;
pub mod run_updates;
pub mod update;
