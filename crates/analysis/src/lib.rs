//! From records of runs to statistics, tables, text and figures.
//!
//! ```text
//! records --summary--> SummaryTable --table--> Table --render--> text, Markdown, LaTeX
//!                           |------compare--> Comparison             |
//!                           `-----------------------------------> summary.csv
//! a tuning's trials --tuning--> its table and figures
//! an experiment's records --tables--> its tables, --figures--> its figures
//! an experiment's records --cost--> what its rows cost, --runs--> runs.csv and steps.csv
//! arrays --figure--> SVG, PNG and the plotted numbers as CSV
//! records and tables --claims--> the papers' claims, judged
//! adapters --subspace--> numbers --measures--> tables of a study --figures--> figures
//! ```
//!
//! **Architecture invariant.** Records and files go in, numbers and text come out: this crate links no tensor library, opens no
//! device and prints nothing. [`stats`] and [`subspace`] know neither records nor tables: slices or arrays in, numbers out. Every number
//! in a table is a pure function of the files under `results/`.

mod error;

pub mod claims;
pub mod compare;
pub mod cost;
pub mod examples;
pub mod figure;
pub mod figures;
pub mod measures;
pub mod methods;
pub mod render;
pub mod runs;
pub mod sequence;
pub mod stats;
pub mod study;
pub mod subspace;
pub mod summary;
pub mod table;
pub mod tables;
pub mod tuning;

pub use error::AnalysisError;
