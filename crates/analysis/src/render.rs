//! Rendering: a table as text, Markdown or LaTeX. Only the looks are decided here.

mod csv;
mod grid;
mod latex;
mod markdown;
mod text;

pub use csv::{csv, frame_csv};
pub use latex::latex;
pub use markdown::markdown;
pub use text::{cell, text};

#[cfg(test)]
mod tests;
