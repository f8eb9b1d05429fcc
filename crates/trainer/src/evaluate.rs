//! Evaluation: what trained runs predict, and how good it is.
//!
//! | module | one sentence |
//! |---|---|
//! | [`batched`] | several runs of a stack in one pass |
//! | [`earlier`] | tasks that led to a run's own |
//! | [`early_stop`] | evaluation during training: the best state, and when a run stops |
//! | [`few_shot`] | the loss on a few training examples |
//! | [`language_model`] | perplexity and generation |
//! | [`readout`] | one run in every way it is read out |
//! | [`routing`] | how routers spread tokens over their experts |
//! | [`score`] | logits of a split, and the metrics that they give |
//! | [`single`] | one run by itself |
//! | [`undefined`] | metrics that a split leaves undefined |

pub mod batched;
pub mod earlier;
pub mod early_stop;
pub mod few_shot;
pub mod language_model;
pub mod readout;
pub mod routing;
pub mod score;
pub mod single;
pub mod undefined;
