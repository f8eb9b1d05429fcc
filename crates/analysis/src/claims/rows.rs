//! Claims about two rows of a study, decided as in the study's own tables.

use record::{Contrast, Readout, RunRecord};

use super::{Check, Evidence, Finding, Missing, Verdict, Wanted, targets};
use crate::{
    AnalysisError,
    compare::{self, ALL_TASKS, Baseline, Comparison, POINTS, Reached, answerable, compare, contrast},
    study::Study,
    summary::{Selection, SummaryRow, SummaryTable, summarise},
    table::is_of,
};

/// A claim as a contrast.
fn asked(row: &(String, usize), against: &(String, usize), at_least: f64) -> Contrast {
    let readout = |(label, rank): &(String, usize)| Readout { label: label.clone(), rank: *rank };
    Contrast { row: readout(row), against: readout(against), margin: Some(at_least), equivalence: None }
}

/// The study's contrasts with the margins that the papers' claims ask for; claims about other rows, `this` one among them, behind them.
fn with_claims(experiment: &str, study: &Study, this: &Contrast) -> Vec<Contrast> {
    let of_claims = targets().into_iter().filter_map(|target| match target.check {
        Check::Rows { experiment: of, row, against, at_least } if of == experiment => {
            Some(asked(&row, &against, at_least))
        }
        _ => None,
    });
    let mut contrasts = study.contrasts.clone();
    for claim in of_claims.chain([this.clone()]) {
        match contrasts.iter_mut().find(|other| (&other.row, &other.against) == (&claim.row, &claim.against)) {
            Some(known) => known.margin = claim.margin,
            None => contrasts.push(claim),
        }
    }
    contrasts
}

/// The comparison of two rows as a finding, without its verdict.
fn finding(found: &Comparison, verdict: Verdict) -> Finding {
    let interval = found.ci_low.zip(found.ci_high).map(|(low, high)| [low * POINTS, high * POINTS]);
    Finding { got: Some(found.difference * POINTS), interval, n: found.n, ..Finding::plain(verdict) }
}

/// Of several comparisons of one row, that of the average over tasks, or of the only task.
fn over_tasks<'a>(found: impl Iterator<Item = &'a Comparison>) -> Option<&'a Comparison> {
    let found: Vec<&Comparison> = found.collect();
    found.iter().find(|comparison| comparison.task == ALL_TASKS).or(found.first()).copied()
}

/// Why two rows of a study are not compared: which of them has no runs.
fn without(experiment: &str, found: &[&SummaryRow], wanted: [&(String, usize); 2]) -> String {
    let is_absent =
        |(label, rank): &&(String, usize)| !found.iter().any(|row| row.variant == *label && row.rank == *rank);
    let name = |(label, rank): &(String, usize)| format!("`{label}` at rank {rank}");
    let absent: Vec<String> = wanted.into_iter().filter(is_absent).map(name).collect();
    if absent.is_empty() {
        return format!("no task of `{experiment}` has both rows");
    }
    format!("`{experiment}` has no runs of {}", absent.join(" and of "))
}

impl Evidence {
    /// The records of a study that finished, summarised, and the first split.
    fn summarised(&self, experiment: &str) -> Result<Result<(SummaryTable, String), Missing>, AnalysisError> {
        let Some(records) = self.records.get(experiment) else {
            return Ok(Err(Missing(format!("`{experiment}` was not run"))));
        };
        let summary = summarise(records, Selection::Reported)?;
        let split = summary.splits().first().map(|split| (*split).to_owned());
        Ok(match split {
            Some(split) => Ok((summary, split)),
            None => Err(Missing(format!("no run of `{experiment}` finished"))),
        })
    }

    /// A paired difference of two rows of a study, in points, averaged over its tasks: whether it reaches the claim's margin is decided as in
    /// the study's own table of contrasts, in one family with the other questions of the study and of the papers.
    pub(super) fn rows(
        &self,
        experiment: &str,
        row: &(String, usize),
        against: &(String, usize),
        at_least: f64,
    ) -> Result<Finding, AnalysisError> {
        let (summary, split) = match self.summarised(experiment)? {
            Ok(found) => found,
            Err(Missing(reason)) => return Ok(Finding::none(reason)),
        };
        let none = Study::default();
        let study = self.studies.get(experiment).unwrap_or(&none);
        let asked = asked(row, against, at_least);
        let contrasts = answerable(&summary, &split, &with_claims(experiment, study, &asked))?;
        let compared = contrast(&summary, &split, &contrasts, &study.rules)?;
        let own = compared.comparisons.iter().filter(|comparison| is_of(comparison, &asked));
        let Some(found) = over_tasks(own) else {
            return Ok(Finding::none(without(experiment, &summary.primary(&split)?, [row, against])));
        };
        Ok(finding(found, super::verdict([found.reached.unwrap_or(Reached::Undecided)])))
    }

    /// What the study's own table says of a row against its baseline, averaged over its tasks, whichever these are.
    pub(super) fn verdict(&self, experiment: &str, variant: &str, wanted: Wanted) -> Result<Finding, AnalysisError> {
        let (summary, split) = match self.summarised(experiment)? {
            Ok(found) => found,
            Err(Missing(reason)) => return Ok(Finding::none(reason)),
        };
        let baseline = self.studies.get(experiment).and_then(|study| Some((study, study.baseline.clone()?)));
        let Some((study, label)) = baseline else {
            return Ok(Finding::none(format!("`{experiment}` names no baseline")));
        };
        let rows = summary.primary(&split)?;
        let is_absent = |label: &&str| rows.iter().all(|row| row.variant != *label);
        let absent: Vec<&str> = [variant, &label].into_iter().filter(is_absent).collect();
        if !absent.is_empty() {
            return Ok(Finding::none(format!("`{experiment}` has no runs of `{}`", absent.join("` and of `"))));
        }
        let compared = compare(&summary, &split, &Baseline { variant: label.clone(), rank: None }, &study.rules)?;
        // Where a row is read out at several ranks, its largest is the method.
        let largest = rows.iter().filter(|row| row.variant == variant).map(|row| row.rank).max();
        let own = compared.comparisons.iter().filter(|c| c.variant == variant && Some(c.rank) == largest);
        let Some(found) = over_tasks(own) else { return Ok(Finding::none("no task has both rows")) };
        let verdict = match (found.verdict, wanted) {
            (compare::Verdict::Undecided, _) => Verdict::Undecided,
            (compare::Verdict::Better, _) | (compare::Verdict::Equivalent, Wanted::Level) => Verdict::Holds,
            (compare::Verdict::Worse, _) | (compare::Verdict::Equivalent, Wanted::Better) => Verdict::DoesNotHold,
        };
        let trained = |label: &str| {
            let records = self.records.get(experiment).into_iter().flatten();
            let of_label = |record: &&RunRecord| record.cell.variant == label && record.is_finished();
            records.filter(of_label).map(|record| record.measured.trainable_params).max().unwrap_or_default()
        };
        let remark = format!(
            "`{variant}` is {} in `{experiment}`, with {} trained parameters beside {} of `{label}`",
            found.verdict,
            trained(variant),
            trained(&label)
        );
        Ok(Finding { remark: Some(remark), ..finding(found, verdict) })
    }
}
