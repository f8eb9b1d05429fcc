//! Tests, families and verdicts.

use super::pair::{Pair, averages};
use super::{ALL_TASKS, Compared, Comparison, Family, POINTS, Reached, Rules, Verdict};
use crate::AnalysisError;
use crate::stats::{self, Estimate};
use crate::summary::SummaryRow;

/// Adjusted p-values below this decide.
const SIGNIFICANCE: f64 = 1.0 - stats::CONFIDENCE;

/// Tests pairs and their averages, and corrects each family apart.
///
/// A family has up to three kinds of questions: whether two rows differ, whether they are equivalent, and whether a margin is reached. Each
/// kind is adjusted by Holm's method among its own: the chance of any wrong `better` or `worse` in a family is at most 5%, and so are that
/// of any wrong `equivalent` and that of any margin wrongly reached or missed. One pair cannot be wrong in two ways: it either does not
/// differ, or differs by the margin of equivalence or more.
pub(super) fn families(rows: &[&SummaryRow], mut pairs: Vec<Pair>, rules: &Rules) -> Result<Compared, AnalysisError> {
    let (more, how) = averages(rows, &pairs)?;
    pairs.extend(more);
    let estimates = pairs.iter().map(Pair::estimate).collect::<Result<Vec<_>, _>>()?;
    let has_averages = pairs.iter().any(|pair| pair.task == ALL_TASKS);
    let family = |pair: &Pair| {
        let is_primary = match rules.primary.as_slice() {
            [] => !has_averages || pair.task == ALL_TASKS,
            named => named.contains(&pair.task),
        };
        if is_primary { Family::Primary } else { Family::Secondary }
    };
    let mut comparisons: Vec<Comparison> = pairs
        .iter()
        .zip(&estimates)
        .map(|(pair, estimate)| compared(pair, estimate.as_ref(), family(pair), rules))
        .collect();
    for family in [Family::Primary, Family::Secondary] {
        let members: Vec<usize> = (0..pairs.len()).filter(|at| comparisons[*at].family == family).collect();
        adjust(&mut comparisons, &pairs, &estimates, &members)?;
    }
    for ((comparison, pair), estimate) in comparisons.iter_mut().zip(&pairs).zip(&estimates) {
        comparison.sign_flip_p = pair.sign_flip()?;
        let interval = estimate.as_ref().and_then(Estimate::interval);
        (comparison.ci_low, comparison.ci_high) = (interval.map(|ends| ends[0]), interval.map(|ends| ends[1]));
    }
    Ok(Compared { comparisons, averages: how })
}

/// The verdicts on the pairs of one family, in their order, without intervals and what plans further seeds: a quantile takes a thousand times
/// as long as a p-value, and there may be thousands of pairs.
pub(super) fn verdicts(pairs: &[Pair], rules: &Rules) -> Result<Vec<Comparison>, AnalysisError> {
    let estimates = pairs.iter().map(Pair::estimate).collect::<Result<Vec<_>, _>>()?;
    let compared =
        |(pair, estimate): (&Pair, &Option<Estimate>)| compared(pair, estimate.as_ref(), Family::Primary, rules);
    let mut comparisons: Vec<Comparison> = pairs.iter().zip(&estimates).map(compared).collect();
    decide(&mut comparisons, &estimates, &(0..pairs.len()).collect::<Vec<_>>())?;
    Ok(comparisons)
}

/// A statement that something lies above a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beyond {
    /// Two-sided p-value of the hypothesis that it lies at the bound; none where no test has an answer.
    pub p: Option<f64>,
    /// Whether the estimate lies above.
    pub is_above: bool,
}

/// Decides the statements of one family, each after Holm's correction among those that have a test.
///
/// The chance that any is wrongly decided, either way, is at most 5%.
pub fn beyond(family: &[Beyond]) -> Result<Vec<Reached>, AnalysisError> {
    let members: Vec<usize> = (0..family.len()).collect();
    let decided = adjusted(&members, |at| family[at].p)?.into_iter().map(decides);
    let reached = |(decided, one): (bool, &Beyond)| match (decided, one.is_above) {
        (false, _) => Reached::Undecided,
        (true, true) => Reached::Yes,
        (true, false) => Reached::No,
    };
    Ok(decided.zip(family).map(reached).collect())
}

/// Whether an adjusted p-value decides.
fn decides(p: Option<f64>) -> bool {
    p.is_some_and(|p| p < SIGNIFICANCE)
}

/// What does not depend on the other comparisons, without what takes long.
fn compared(pair: &Pair, estimate: Option<&Estimate>, family: Family, rules: &Rules) -> Comparison {
    Comparison {
        task: pair.task.clone(),
        variant: pair.variant.clone(),
        rank: pair.rank,
        baseline: pair.baseline.clone(),
        baseline_rank: pair.baseline_rank,
        metric: pair.metric.clone(),
        goal: pair.goal,
        family,
        n: estimate.map_or(0, |estimate| estimate.n),
        difference: estimate.map_or(f64::NAN, |estimate| estimate.difference),
        ci_low: None,
        ci_high: None,
        is_raised: estimate.is_some_and(|estimate| estimate.is_raised),
        t_p: estimate.and_then(|estimate| estimate.p_of(0.0)),
        sign_flip_p: None,
        holm_p: None,
        equivalence: pair.equivalence.unwrap_or(rules.equivalence) / POINTS,
        equivalence_p: None,
        verdict: Verdict::Undecided,
        detectable: None,
        seeds_needed: None,
        margin: pair.margin.map(|points| points / POINTS),
        reached: pair.margin.map(|_| Reached::Undecided),
    }
}

/// Corrects within a family and gives each of its members a verdict; returns the level at which Holm's method left those that it did
/// not decide.
fn decide(
    comparisons: &mut [Comparison],
    estimates: &[Option<Estimate>],
    members: &[usize],
) -> Result<f64, AnalysisError> {
    let differ = adjusted(members, |at| comparisons[at].t_p)?;
    let equivalent = adjusted(members, |at| estimates[at].as_ref()?.p_equivalent(comparisons[at].equivalence))?;
    for (member, at) in members.iter().copied().enumerate() {
        let comparison = &mut comparisons[at];
        (comparison.holm_p, comparison.equivalence_p) = (differ[member], equivalent[member]);
        comparison.verdict = match (decides(comparison.equivalence_p), decides(comparison.holm_p)) {
            (true, _) => Verdict::Equivalent,
            (false, true) if comparison.gain() > 0.0 => Verdict::Better,
            (false, true) => Verdict::Worse,
            (false, false) => Verdict::Undecided,
        };
    }
    let (tested, found) = (differ.iter().flatten().count(), differ.iter().filter(|p| decides(**p)).count());
    // Holm's method stops at the first that it does not decide: this is the level at which it and all after it stood.
    Ok(SIGNIFICANCE / (tested - found).max(1) as f64)
}

/// Fills in what depends on the family.
fn adjust(
    comparisons: &mut [Comparison],
    pairs: &[Pair],
    estimates: &[Option<Estimate>],
    members: &[usize],
) -> Result<(), AnalysisError> {
    let level = decide(comparisons, estimates, members)?;
    let estimate = |at: usize| estimates[at].as_ref();
    let margin = |at: &usize| {
        let p = |margin| estimate(*at)?.p_of(pairs[*at].towards_better(margin));
        let is_above = |margin| comparisons[*at].gain() > margin;
        Beyond { p: pairs[*at].margin.and_then(p), is_above: comparisons[*at].margin.is_some_and(is_above) }
    };
    let margins = beyond(&members.iter().map(margin).collect::<Vec<_>>())?;
    for (member, at) in members.iter().copied().enumerate() {
        let comparison = &mut comparisons[at];
        comparison.detectable = estimate(at).and_then(|estimate| estimate.detectable(level));
        comparison.seeds_needed =
            estimate(at).and_then(|estimate| estimate.seeds_needed(comparison.equivalence, level));
        comparison.reached = comparison.margin.map(|_| margins[member]);
    }
    Ok(())
}

/// The p-values that there are, adjusted among themselves, in the order of `members`.
fn adjusted(members: &[usize], p: impl Fn(usize) -> Option<f64>) -> Result<Vec<Option<f64>>, AnalysisError> {
    let raw: Vec<Option<f64>> = members.iter().map(|at| p(*at)).collect();
    let tested: Vec<f64> = raw.iter().flatten().copied().collect();
    let place = |source| AnalysisError::Stats { place: "comparisons".to_owned(), source };
    let mut adjusted = stats::holm(&tested).map_err(place)?.into_iter();
    Ok(raw.into_iter().map(|p| p.and_then(|_| adjusted.next())).collect())
}
