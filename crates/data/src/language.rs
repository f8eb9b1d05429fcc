//! The small English-like language: its words, its scenes, and their surface forms.
//!
//! Everything the project trains on is text of this language. [`lexicon`] holds the words and decides which of them the train
//! splits may use, [`draw`] chooses words and makes every random decision, [`scene`] is a proposition, [`edit`] turns one
//! proposition into a related one, and [`render`] writes propositions as sentences and questions.

pub mod draw;
pub mod edit;
pub mod lexicon;
pub mod render;
pub mod scene;
