//! Frozen backbones whose linear maps are [`AdaptedLinear`](variants::adapted::AdaptedLinear) slots.
//!
//! A [`network::Network`] is one backbone with the adapters and heads of every stack of a cohort. Weights
//! come as bytes; this crate opens no file.

mod attention;
pub mod backbone;
pub mod catalog;
pub mod config;
pub mod count;
pub mod encoder;
pub mod error;
pub mod gpt2;
pub mod head;
pub mod llama;
pub mod modules;
pub mod network;
pub mod pattern;
pub mod safetensors;
pub mod target;
pub mod tokens;
pub mod weights;
