//! From records of runs to statistics, tables, text and figures.
//!
//! ```text
//! records --summary--> SummaryTable --table--> Table --render--> text, Markdown, LaTeX
//!                           |------compare--> Comparison             |
//!                           `-----------------------------------> summary.csv
//! arrays --figure--> SVG, PNG and the plotted numbers as CSV
//! ```
//!
//! **Architecture invariant.** Records and files go in, numbers and text come out: this crate links no tensor library, opens no
//! device and prints nothing. [`stats`] knows neither records nor tables: slices in, numbers out. Every number in a table is a pure
//! function of the files under `results/`.

mod error;

pub mod compare;
pub mod figure;
pub mod render;
pub mod stats;
pub mod summary;
pub mod table;

pub use error::AnalysisError;
