//! Frozen backbones whose linear maps are [`AdaptedLinear`](variants::adapted::AdaptedLinear) slots.
//!
//! A [`network::Network`] is one backbone with the adapters and heads of every stack of a cohort. Weights
//! come as bytes; this crate opens no file.

pub mod catalog;
pub mod error;
pub mod head;
pub mod network;
pub mod roberta;
pub mod target;
pub mod weights;
