//! The figures of a study: which ones its records and adapters allow. [`crate::figure`] draws them.
//!
//! [`records::all`] needs the records alone, [`subspaces::all`] the adapters as well.

use crate::{figure::Measured, stats::Summary};

pub mod records;
pub mod subspaces;

/// A figure and its file name without ending.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Such as `rank_curves`.
    pub name: String,
    /// What it shows.
    pub figure: crate::figure::Figure,
}

impl Named {
    fn new(name: impl Into<String>, figure: crate::figure::Figure) -> Self {
        Self { name: name.into(), figure }
    }
}

/// Mean and 95% Student interval over seeds; none where a value is missing or not finite.
fn over_seeds(values: &[f64]) -> Option<Measured> {
    let summary = Summary::of(values).ok()?;
    Some(measured(&summary))
}

fn measured(summary: &Summary) -> Measured {
    Measured { value: summary.mean, interval: summary.ci_low.zip(summary.ci_high).map(|(low, high)| [low, high]) }
}

/// `n = 3 seeds`, or `n = 2–3 seeds`, and what the bars are.
fn seeds(counts: impl Iterator<Item = usize>, marks: &str) -> String {
    let counts: Vec<usize> = counts.collect();
    let (least, most) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0));
    let n = if least == most { format!("n = {most}") } else { format!("n = {least}–{most}") };
    let seeds = if most == 1 { "seed" } else { "seeds" };
    if most > 1 { format!("{n} {seeds}; {marks}: 95% Student intervals") } else { format!("{n} {seeds}") }
}

#[cfg(test)]
mod tests;
