//! The table of claims, one block per paper.

use std::collections::BTreeMap;

use super::{Finding, Target, Verdict};
use crate::{
    stats::Estimate,
    table::{Block, Entry, Table},
};

/// The claims with target, found, difference and verdict, one block per paper.
pub fn table(judged: &[(Target, Finding)]) -> Table {
    let mut blocks: Vec<Block> = Vec::new();
    for (target, finding) in judged {
        let paper = target.paper.split(',').next().unwrap_or_default().to_owned();
        let row = row(target, finding);
        match blocks.iter_mut().find(|block| block.title.as_ref() == Some(&paper)) {
            Some(block) => block.rows.push(row),
            None => blocks.push(Block { title: Some(paper), rows: vec![row] }),
        }
    }
    let header = ["claim", "target", "got", "95% interval", "random", "difference", "n", "verdict"];
    Table {
        caption: "The papers' claims on the miniature.".to_owned(),
        header: header.map(str::to_owned).to_vec(),
        names: 1,
        blocks,
        notes: notes(judged),
    }
}

fn row(target: &Target, finding: &Finding) -> Vec<Entry> {
    let number = |value: Option<f64>| value.map_or(Entry::Missing, |value| Entry::Text(short(value)));
    let pair = |ends: Option<[f64; 2]>, join: &str| {
        ends.map_or(Entry::Missing, |[low, high]| Entry::Text(format!("{}{join}{}", short(low), short(high))))
    };
    let place = target.paper.split_once(", ").map_or("", |(_, rest)| rest);
    let difference = target.value.zip(finding.got).map(|(value, got)| got - value);
    vec![
        Entry::Text(format!("{place}: {}", target.claim)),
        number(target.value),
        number(finding.got),
        pair(finding.interval, " to "),
        pair(finding.random, ", below "),
        number(difference),
        if finding.n == 0 { Entry::Missing } else { Entry::Text(finding.n.to_string()) },
        Entry::Text(finding.verdict.to_string()),
    ]
}

/// How many claims hold, what the columns mean, and why some claims cannot be tested.
fn notes(judged: &[(Target, Finding)]) -> Vec<String> {
    let findings = || judged.iter().filter(|(target, _)| !target.check.is_identity());
    let count = |wanted: &dyn Fn(&Verdict) -> bool| findings().filter(|(_, finding)| wanted(&finding.verdict)).count();
    let identities = judged.len() - findings().count();
    let identities = match identities {
        0 => String::new(),
        n => format!(" {n} rows about random matrices are identities: they check the code and are not counted."),
    };
    let mut notes = vec![
        format!(
            "{} hold, {} do not, {} undecided, {} not testable here.{identities}",
            count(&|v| *v == Verdict::Holds),
            count(&|v| *v == Verdict::DoesNotHold),
            count(&|v| *v == Verdict::Undecided),
            count(&|v| matches!(v, Verdict::NotTestable(_)))
        ),
        "Intervals are 95% Student intervals over n seeds (jackknife over seeds for overlaps of seeds; over several tasks, the variances of \
         the tasks' means are added), each by itself. Random: the mean over random subspaces, and what 97.5% of random pairs stay below. \
         Verdicts are corrected for their number: claims measured on the runs of one study are a family of t-tests after Holm's correction, \
         decided by the function that decides its tables, so that a claim may be undecided although its interval alone excludes the bound. A claim \
         about two rows of a study is decided as in the study's table of contrasts, and one about a method beside the baseline as in its \
         table of comparisons. A miss is a finding about this model and suite."
            .to_owned(),
    ];
    for (target, finding) in judged {
        let place = target.paper.split(',').next().unwrap_or_default();
        notes.extend(finding.remark.as_ref().map(|remark| format!("{place}, {}: {remark}.", target.claim)));
    }
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, finding) in judged {
        if let Verdict::NotTestable(reason) = &finding.verdict {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let reasons: Vec<String> = reasons
        .into_iter()
        .map(|(reason, n)| if n > 1 { format!("{reason} ({n} claims)") } else { reason.to_owned() })
        .collect();
    if !reasons.is_empty() {
        notes.push(format!("Not testable here: {}.", reasons.join("; ")));
    }
    notes
}

/// A number with its interval.
pub(super) fn shown(estimate: &Estimate) -> String {
    let ends = |[low, high]: [f64; 2]| format!(" ({} to {})", short(low), short(high));
    short(estimate.difference) + &estimate.interval().map_or_else(String::new, ends)
}

/// Three significant digits.
pub(super) fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 6) as usize)
}
