//! Studies as one HTML file: tables, figures and every run, without any network.
//!
//! ```text
//! study, records --StudyView--> serialisable views --page--> HTML with its style, its script and the views as JSON
//! ```
//!
//! The numbers are those of [`analysis`]: its tables cell by cell, its intervals, its verdicts. Views only say which of them stand where.
//! Charts are drawn in the browser, by the plotting library that the file carries.
//!
//! Everything that comes from an experiment or a record is text that nobody checked: the template escapes it, JSON hides its `<`, the script
//! writes text nodes alone, and the page's own policy allows no script but the page's and no request at all.
//!
//! **Architecture invariant.** Records go in, text comes out: no files, no clock, no tensor library, nothing is printed.

mod charts;
mod curves;
mod error;
mod main_table;
mod measures;
mod page;
mod runs;
mod sensitivity;
mod study;
mod table;
#[cfg(test)]
mod tests;
mod thin;

use analysis::study::Study;
use record::RunRecord;

pub use error::ReportError;
pub use measures::FILES;

/// What a report says of one study.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its names, order and comparisons.
    pub study: &'a Study,
    /// Its runs.
    pub records: &'a [RunRecord],
    /// How many runs it has when it is complete.
    pub planned: usize,
    /// What a reader should know of its files, in sentences.
    pub notes: &'a [String],
    /// The experiment as it was written.
    pub text: &'a str,
    /// Name and text of those of [`FILES`] that are in its folder of measures.
    pub measures: &'a [(String, String)],
}

/// The file that shows these studies, in their order.
pub fn html(sources: &[Source<'_>]) -> Result<String, ReportError> {
    let studies = sources.iter().map(study::StudyView::of).collect::<Result<Vec<_>, _>>()?;
    page::render(&studies)
}
