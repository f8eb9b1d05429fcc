//! Rendering: a table as text, Markdown or LaTeX. Only the looks are decided here.

mod csv;
mod grid;
mod latex;
mod markdown;
mod parquet;
mod text;

pub use csv::{columns_csv, csv, frame_csv};
pub use latex::latex;
pub use markdown::markdown;
pub use parquet::parquet;
pub use text::{cell, text};

#[cfg(test)]
mod tests;
