//! Typed tables between numbers and text: what a cell means is decided here, how it looks in [`render`](crate::render).

mod comparison;
mod cost;
mod difficulty;
mod examples;
mod methods;
mod noise;
mod pivot;
mod projection;
mod sequence;

pub(crate) use comparison::is_of;
pub use comparison::{comparison_table, contrast_table};
pub use cost::cost_table;
pub use difficulty::difficulty_table;
pub use examples::examples_table;
pub use methods::methods_table;
pub use noise::noise_table;
pub use pivot::{pivot_table, rank_curve_table};
pub use projection::projection_table;
pub use sequence::{sequence_matrix_table, sequence_table};

/// A table without any formatting.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What the table shows and what was matched, as one or more sentences.
    pub caption: String,
    /// Head of each column.
    pub header: Vec<String>,
    /// Number of leading columns that hold names and are aligned to the left; the others hold numbers.
    pub names: usize,
    /// Groups of rows, separated by a rule.
    pub blocks: Vec<Block>,
    /// Sentences below the table.
    pub notes: Vec<String>,
}

/// A group of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Heading of the group, if it has one.
    pub title: Option<String>,
    /// Rows of as many entries as the header has.
    pub rows: Vec<Vec<Entry>>,
}

/// One cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Words, or a number that is already text.
    Text(String),
    /// A mean over runs.
    Estimate(Estimate),
    /// There is nothing to show.
    Missing,
}

/// A mean over runs as a table shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The mean, in points where the metric is a share; NaN where it is undefined.
    pub mean: f64,
    /// Half the width of its interval, where it has one.
    pub half_width: Option<f64>,
    /// Remarks on this cell alone, such as `n=3`.
    pub remarks: Vec<String>,
    /// Whether some of its runs were made by modified code; marked with an asterisk.
    pub dirty: bool,
    /// Whether it may be the best of its column, by [`best`](crate::compare::best); LaTeX has it in bold.
    pub is_best: bool,
}

/// Which rows of a summary make a table, in which order, under which words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The split that is reported.
    pub split: String,
    /// Tasks in the order of their columns or blocks; tasks not named follow alphabetically.
    pub tasks: Vec<String>,
    /// Variants in the order of their rows; variants not named follow alphabetically.
    pub variants: Vec<String>,
    /// What the table shows and what was matched.
    pub caption: String,
    /// Sentences below the table, before those that the table itself needs.
    pub notes: Vec<String>,
}

impl Layout {
    /// `present` in the order of `wanted`, what it does not name behind it.
    fn order<'a>(present: impl Iterator<Item = &'a str>, wanted: &[String]) -> Vec<&'a str> {
        let mut names: Vec<&str> = present.collect();
        names.sort_unstable();
        names.dedup();
        // The sort is stable, so names that are not wanted keep their alphabetical order.
        names.sort_by_key(|name| wanted.iter().position(|wanted| wanted == name).unwrap_or(wanted.len()));
        names
    }
}
