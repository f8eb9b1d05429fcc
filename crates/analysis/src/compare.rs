//! Paired comparisons on shared seeds: every row against a baseline, or the two rows of a contrast.
//!
//! Two runs that share a seed share data order and, where shapes agree, initial values; their difference therefore varies less than
//! either. What is asked first (the averages over tasks, or what the experiment names) is the primary family, the rest the secondary one,
//! and each is corrected for its own size, so the questions must be settled before looking. Every verdict of the program on a pair of
//! rows, in tables and in the papers' claims, is made here.

mod best;
mod decide;
mod pair;

use std::fmt;

use record::{Contrast, Goal, Readout};

pub(crate) use self::best::over_tasks;
pub use self::best::{Best, RULE, best};
pub use self::decide::{Beyond, beyond};
use self::pair::Pair;
use crate::AnalysisError;
use crate::stats::Together;
use crate::summary::{SummaryRow, SummaryTable};

/// The name under which differences averaged over tasks are reported.
pub const ALL_TASKS: &str = "average";

/// Points per unit of a metric: a point is a hundredth.
pub const POINTS: f64 = 100.0;

/// Differences below this many points do not matter, where an experiment does not say otherwise: tuned variants of LoRA lie within 1 to 2
/// points of each other (arXiv:2602.04998).
pub const EQUIVALENCE: f64 = 1.0;

/// What the other rows are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// The row's label.
    pub variant: String,
    /// Its rank; `None` compares each row with the baseline at that row's own rank, or at the baseline's largest where it
    /// has no row of that rank.
    pub rank: Option<usize>,
}

/// What an experiment settles about its comparisons before it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The margin of equivalence in points, where a contrast has none of its own.
    pub equivalence: f64,
    /// Tasks, or [`ALL_TASKS`], whose comparisons are the primary family. Empty: the averages, or, where there are none, all.
    pub primary: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { equivalence: EQUIVALENCE, primary: Vec::new() }
    }
}

/// Comparisons that were corrected together.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The comparisons.
    pub comparisons: Vec<Comparison>,
    /// How averages over tasks were tested.
    pub averages: Averages,
}

/// How averages over tasks are tested.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Averages {
    /// There are none.
    None,
    /// The tasks' variances are added (stratified by task, Satterthwaite's degrees of freedom). What the test of independence over tasks
    /// found, where it has three seeds and two tasks.
    Stratified(Option<Together>),
    /// The tasks' differences at one seed go together, so that the seeds' averages are tested.
    BySeed(Together),
}

/// One row minus the baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The task, or [`ALL_TASKS`].
    pub task: String,
    /// The row's label.
    pub variant: String,
    /// The row's rank.
    pub rank: usize,
    /// The baseline's label.
    pub baseline: String,
    /// The baseline's rank.
    pub baseline_rank: usize,
    /// The metric; `primary` for the average over tasks.
    pub metric: String,
    /// Which direction of the metric is better.
    pub goal: Goal,
    /// Which comparisons it is corrected with.
    pub family: Family,
    /// Number of seeds that both have; of an average, the smallest among its tasks.
    pub n: usize,
    /// Mean difference, row minus baseline; NaN where no seed is shared or a value is not finite.
    pub difference: f64,
    /// Lower end of the difference's 95% Student interval; none below two seeds.
    pub ci_low: Option<f64>,
    /// Upper end of that interval.
    pub ci_high: Option<f64>,
    /// Whether the seeds agree within less than half an example, which is taken for their spread.
    pub is_raised: bool,
    /// Two-sided p-value of the t-test, where defined: paired, or stratified by task for an average.
    pub t_p: Option<f64>,
    /// Two-sided p-value of the exact sign-flip test, from 6 to 16 pairs.
    pub sign_flip_p: Option<f64>,
    /// `t_p` adjusted by Holm's method within the family.
    pub holm_p: Option<f64>,
    /// Differences smaller than this, in the metric's unit, do not matter.
    pub equivalence: f64,
    /// P-value of the two one-sided tests at that margin, adjusted by Holm's method among those of the family.
    pub equivalence_p: Option<f64>,
    /// What is decided.
    pub verdict: Verdict,
    /// The smallest difference that these seeds would have found with 80% power, at the level that Holm's method left for those of the
    /// family that it did not decide.
    pub detectable: Option<f64>,
    /// The seeds that find a difference of `equivalence` with 80% power at that level; none beyond
    /// [`MOST_SEEDS`](crate::stats::MOST_SEEDS).
    pub seeds_needed: Option<usize>,
    /// The gain that the contrast asks for, in the metric's unit.
    pub margin: Option<f64>,
    /// Whether it is reached, where one is asked for.
    pub reached: Option<Reached>,
}

impl Comparison {
    /// The difference in the better direction.
    pub fn gain(&self) -> f64 {
        match self.goal {
            Goal::Maximise => self.difference,
            Goal::Minimise => -self.difference,
        }
    }
}

/// Comparisons that are corrected together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// What the experiment asks first.
    Primary,
    /// The rest.
    Secondary,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// What a comparison says at the 5% level after correction. `Equivalent` goes before `Better` and `Worse`: a difference that is there
/// and surely smaller than what matters does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The row is better than the baseline.
    Better,
    /// The row is worse than the baseline.
    Worse,
    /// They differ by less than the margin of equivalence.
    Equivalent,
    /// The data do not decide; this is no evidence of equality.
    Undecided,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Equivalent => "equivalent",
            Self::Undecided => "undecided",
        })
    }
}

/// Whether a gain is as large as a contrast asks: the two-sided t-test about the margin, adjusted by Holm's method among the margins of
/// the family. Alone in its family, that is the side of the margin on which the whole 95% interval lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It is larger.
    Yes,
    /// It is smaller.
    No,
    /// The data do not decide.
    Undecided,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Undecided => "undecided",
        })
    }
}

/// Compares every row on `split`, in its task's primary metric, with the baseline on the seeds that both have.
///
/// With several tasks, each row that has all of them is also compared on its average over tasks. There are no averages where some tasks
/// maximise their metric and some minimise it.
pub fn compare(
    table: &SummaryTable,
    split: &str,
    baseline: &Baseline,
    rules: &Rules,
) -> Result<Compared, AnalysisError> {
    let rows = table.primary(split)?;
    let mut pairs = Vec::new();
    for row in &rows {
        if row.variant == baseline.variant && baseline.rank.is_none_or(|rank| rank == row.rank) {
            continue;
        }
        let baselines = || rows.iter().filter(|o| o.task == row.task && o.variant == baseline.variant);
        let wanted = baseline.rank.unwrap_or(row.rank);
        let other = baselines().find(|other| other.rank == wanted);
        let other = match baseline.rank {
            None => other.or_else(|| baselines().max_by_key(|other| other.rank)),
            Some(_) => other,
        };
        pairs.push(Pair::new(row, other.ok_or_else(|| no_baseline(&rows, row, baseline, wanted))?));
    }
    decide::families(&rows, pairs, rules)
}

/// Tests every contrast on every task that has both of its rows, and on the average over tasks.
///
/// Averages are formed as in [`compare`]. A contrast whose rows no task has is an error.
pub fn contrast(
    table: &SummaryTable,
    split: &str,
    contrasts: &[Contrast],
    rules: &Rules,
) -> Result<Compared, AnalysisError> {
    let rows = table.primary(split)?;
    let mut pairs = Vec::new();
    for contrast in contrasts {
        let is = |row: &SummaryRow, readout: &Readout| row.variant == readout.label && row.rank == readout.rank;
        let partner = |task: &str| rows.iter().find(|row| row.task == task && is(row, &contrast.against));
        let own = rows.iter().filter(|row| is(row, &contrast.row));
        let before = pairs.len();
        pairs.extend(own.filter_map(|row| Some(Pair::new(row, partner(&row.task)?).asking(contrast))));
        if pairs.len() == before {
            let task = rows.first().map(|row| row.task.clone()).unwrap_or_default();
            return Err(AnalysisError::NoBaseline {
                task,
                variant: contrast.against.label.clone(),
                rank: contrast.against.rank,
                known: format!("no task has it beside `{}` at rank {}", contrast.row.label, contrast.row.rank),
            });
        }
    }
    decide::families(&rows, pairs, rules)
}

/// The contrasts of which some task has both rows on this split.
pub fn answerable(table: &SummaryTable, split: &str, contrasts: &[Contrast]) -> Result<Vec<Contrast>, AnalysisError> {
    let rows = table.primary(split)?;
    let has = |task: &str, wanted: &Readout| {
        rows.iter().any(|row| row.task == task && row.variant == wanted.label && row.rank == wanted.rank)
    };
    let has_both = |contrast: &&Contrast| {
        rows.iter().any(|row| has(&row.task, &contrast.row) && has(&row.task, &contrast.against))
    };
    Ok(contrasts.iter().filter(has_both).cloned().collect())
}

fn no_baseline(rows: &[&SummaryRow], row: &SummaryRow, baseline: &Baseline, rank: usize) -> AnalysisError {
    let known: Vec<String> = rows
        .iter()
        .filter(|other| other.task == row.task)
        .map(|other| format!("`{}` at rank {}", other.variant, other.rank))
        .collect();
    AnalysisError::NoBaseline {
        task: row.task.clone(),
        variant: baseline.variant.clone(),
        rank,
        known: known.join(", "),
    }
}

#[cfg(test)]
mod tests;
