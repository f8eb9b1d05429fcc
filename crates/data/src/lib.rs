//! Data of the project: the suite `glue_mini` and the language it is made of, GLUE and users' own tasks from their files, tokens,
//! batches, order, metrics.
//!
//! Everything here is a pure function of seeds and of bytes that callers bring: no file is opened, no clock, no network, no
//! thread-local generator.
//!
//! | module | one sentence |
//! |---|---|
//! | [`language`] | words, scenes and sentences of a small English-like language |
//! | [`suite`] | the tasks, and how their splits are made |
//! | [`unseen`] | tasks for bases that have read none |
//! | [`glue`] | the nine tasks of GLUE as shipped, and predictions to hand in |
//! | [`own`] | a user's task from YAML alone |
//! | [`source`] | where files come from |
//! | [`table`] | bytes of TSV, CSV, JSON lines or Parquet to rows |
//! | [`audit`] | what should be known of a task's splits before its metrics are trusted |
//! | [`holdout`] | a split cut from the training examples, on which settings are chosen |
//! | [`task`] | what a task is: objective, metrics, examples |
//! | [`corpus`] | pretraining text |
//! | [`tokenize`] | text to token ids |
//! | [`batch`] | token ids to padded rows |
//! | [`mask`] | targets of masked language modelling |
//! | [`order`] | seeded, length-bucketed epochs |
//! | [`metric`] | accuracy, F1, Matthews, Pearson, Spearman, perplexity |
//! | [`error`] | what can go wrong |
//! | [`bleu`] | corpus BLEU |
//! | [`causal`] | text for causal language models: files, tasks, searches, scores |

pub mod audit;
pub mod batch;
pub mod bleu;
pub mod causal;
pub mod corpus;
pub mod error;
mod foreign;
pub mod glue;
pub mod holdout;
pub mod language;
pub mod mask;
pub mod metric;
pub mod order;
pub mod own;
pub mod source;
pub mod suite;
pub mod table;
pub mod task;
pub mod tokenize;
pub mod unseen;
