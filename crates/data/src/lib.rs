//! Data of the project: the suite `glue_mini`, the language it is made of, tokens, batches, order, metrics.
//!
//! Everything here is a pure function of seeds: no file is read, no clock, no network, no thread-local generator.
//!
//! | module | one sentence |
//! |---|---|
//! | [`language`] | words, scenes and sentences of a small English-like language |
//! | [`suite`] | the tasks, and how their splits are made |
//! | [`task`] | what a task is: objective, metrics, examples |
//! | [`corpus`] | pretraining text |
//! | [`tokenize`] | text to token ids |
//! | [`batch`] | token ids to padded rows |
//! | [`mask`] | targets of masked language modelling |
//! | [`order`] | seeded, length-bucketed epochs |
//! | [`metric`] | accuracy, F1, Matthews, Pearson, Spearman |
//! | [`error`] | what can go wrong |
//! | [`bleu`] | corpus BLEU |
//! | [`causal`] | text for causal language models: pairs, blocks, instructions |

pub mod batch;
pub mod bleu;
pub mod causal;
pub mod corpus;
pub mod error;
pub mod language;
pub mod mask;
pub mod metric;
pub mod order;
pub mod suite;
pub mod task;
pub mod tokenize;
