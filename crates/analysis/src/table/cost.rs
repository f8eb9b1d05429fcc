//! What the rows cost, as a table.

use record::{Matching, Quantity, RunRecord};

use super::pivot::{count_text, rank_text};
use super::{Block, Entry, Layout, Table};
use crate::cost::settings::{Setting, differing};
use crate::cost::{Cost, costs, ran_at_once};
use crate::stats::Summary;
use crate::study::Study;

/// One column: its head, and what it has for a row.
type Column<'a> = (String, Box<dyn Fn(&Cost) -> Entry + 'a>);

/// One row per variant and rank: settings that differ between rows, then what each costs. Columns without a number are left out; none
/// without a finished run.
pub fn cost_table(study: &Study, records: &[RunRecord]) -> Option<Table> {
    let costs = costs(records);
    let variants = Layout::order(costs.iter().map(|cost| cost.variant.as_str()), &study.variants);
    let rows: Vec<&Cost> =
        variants.iter().flat_map(|variant| costs.iter().filter(move |cost| cost.variant == *variant)).collect();
    let settings = differing(records, &study.tasks);
    let matched = Matched::of(study, &rows);
    let mut columns: Vec<Column<'_>> = settings.iter().map(of_setting).collect();
    columns.extend(measures());
    columns.extend(matched.as_ref().map(Matched::column));
    columns.retain(|(_, of)| rows.iter().any(|cost| of(cost) != Entry::Missing));
    let mut header: Vec<String> = ["variant", "rank", "params"].map(str::to_owned).to_vec();
    header.extend(columns.iter().map(|(head, _)| head.clone()));
    let entries = |cost: &&Cost| {
        let name = [cost.variant.clone(), rank_text(cost.rank), count_text(cost.params)].map(Entry::Text);
        name.into_iter().chain(columns.iter().map(|(_, of)| of(cost))).collect::<Vec<_>>()
    };
    let block = Block { title: None, rows: rows.iter().map(entries).collect() };
    let mut notes = notes(&rows, &header, records);
    notes.extend(matched.as_ref().map(|matched| matched.note(&rows)));
    (!rows.is_empty()).then(|| Table { caption: study.caption(), header, names: 1, blocks: vec![block], notes })
}

/// How far rows are off what the experiment matches.
struct Matched<'a> {
    matching: &'a Matching,
    baseline: &'a str,
    /// The baseline's values, one per rank.
    values: Vec<f64>,
}

impl<'a> Matched<'a> {
    fn of(study: &'a Study, rows: &[&Cost]) -> Option<Self> {
        let (matching, baseline) = (study.matching.as_ref()?, study.baseline.as_deref()?);
        let own = rows.iter().filter(|cost| cost.variant == baseline);
        let values = own.filter_map(|cost| quantity(matching.by, cost)).collect();
        Some(Self { matching, baseline, values })
    }

    /// Share by which a row is off the nearest of the baseline's; none of the baseline itself.
    fn off(&self, cost: &Cost) -> Option<f64> {
        let value = quantity(self.matching.by, cost).filter(|_| cost.variant != self.baseline)?;
        self.matching.off(value, &self.values)
    }

    fn column(&self) -> Column<'_> {
        let head = format!("{} vs {}", self.matching.by.name(), self.baseline);
        (head, Box::new(|cost| of(self.off(cost).map(|off| format!("{:+.1}%", 100.0 * off)))))
    }

    /// Which rows are not matched, and of which it is not known.
    fn note(&self, rows: &[&Cost]) -> String {
        let (by, percent) = (self.matching.by.name(), 100.0 * self.matching.tolerance);
        let listed = |what: &str, holds: &dyn Fn(Option<f64>) -> bool| {
            let is_asked =
                |cost: &&&Cost| cost.variant != self.baseline && !self.matching.except.contains(&cost.variant);
            let found: Vec<String> = rows
                .iter()
                .filter(is_asked)
                .filter(|cost| holds(self.off(cost)))
                .map(|cost| format!("{} r={}", cost.variant, rank_text(cost.rank)))
                .collect();
            (!found.is_empty()).then(|| format!("{what}: {}", found.join(", ")))
        };
        let tolerance = self.matching.tolerance;
        let excepted =
            (!self.matching.except.is_empty()).then(|| format!("excepted: {}", self.matching.except.join(", ")));
        let parts = [
            listed("not matched", &|off| off.is_some_and(|off| off.abs() > tolerance)),
            listed("not known of", &|off| off.is_none()),
            excepted,
        ];
        let told: Vec<String> = parts.into_iter().flatten().collect();
        let told = if told.is_empty() { "every row is matched".to_owned() } else { told.join("; ") };
        format!("Rows are to have {}'s {by} within {percent:.0}%: {told}.", self.baseline)
    }
}

fn quantity(by: Quantity, cost: &Cost) -> Option<f64> {
    match by {
        Quantity::Rank => Some(cost.rank as f64),
        Quantity::Parameters => Some(cost.params as f64),
        Quantity::Memory => cost.memory.map(|memory| memory.per_run),
        Quantity::Time => cost.seconds_per_step,
    }
}

fn of_setting(setting: &Setting) -> Column<'_> {
    let of = |cost: &Cost| {
        let value = setting.values.get(&(cost.variant.clone(), cost.rank));
        value.map_or(Entry::Missing, |value| Entry::Text(value.clone()))
    };
    (setting.name.clone(), Box::new(of))
}

const BYTES: &str = "adapter bytes";
const STEP: &str = "ms/step";
const TOKENS: &str = "tokens/s";
const PER_RUN: &str = "MiB/run";
const WEIGHTS: &str = "MiB weights";
const MERGE: &str = "merge error";
const ROUTING: &str = "evenness";
const FORGETTING: &str = "forgetting";

fn measures() -> Vec<Column<'static>> {
    let column = |head: &str, of: fn(&Cost) -> Option<String>| -> Column<'static> {
        (head.to_owned(), Box::new(move |cost| of(cost).map_or(Entry::Missing, Entry::Text)))
    };
    let mebibytes = |bytes: f64| three_digits(bytes / f64::from(1 << 20));
    vec![
        column(BYTES, |cost| cost.adapter_bytes.map(count_text)),
        column(STEP, |cost| cost.seconds_per_step.map(|seconds| three_digits(1e3 * seconds))),
        column(TOKENS, |cost| cost.tokens_per_second.map(|tokens| count_text(tokens.round() as u64))),
        (PER_RUN.to_owned(), Box::new(move |cost| of(cost.memory.map(|memory| mebibytes(memory.per_run))))),
        (WEIGHTS.to_owned(), Box::new(move |cost| of(cost.memory.map(|memory| mebibytes(memory.weights))))),
        column(MERGE, |cost| {
            cost.merge_error.map(|error| if error == 0.0 { "0".to_owned() } else { format!("{error:.0e}") })
        }),
        column(ROUTING, |cost| cost.evenness.map(|share| format!("{share:.2}"))),
        column(FORGETTING, |cost| cost.forgetting.as_ref().map(nats)),
    ]
}

fn of(text: Option<String>) -> Entry {
    text.map_or(Entry::Missing, Entry::Text)
}

/// `+0.123 ± 0.045 [n=3]`: a loss needs more digits than a score in points.
fn nats(summary: &Summary) -> String {
    let half = summary.half_width().map(|half| format!(" ± {half:.3}")).unwrap_or_default();
    format!("{:+.3}{half} [n={}]", summary.mean, summary.n)
}

/// Three significant digits below a thousand, whole numbers above.
fn three_digits(value: f64) -> String {
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$}")
}

/// Sentences on the columns that are there.
fn notes(rows: &[&Cost], header: &[String], records: &[RunRecord]) -> Vec<String> {
    let has = |head: &str| header.iter().any(|column| column == head);
    let finished = || records.iter().filter(|record| record.is_finished());
    let mut devices: Vec<&str> = finished().map(|record| record.device.as_str()).collect();
    devices.sort_unstable();
    devices.dedup();
    let mut notes = vec![
        "One row per variant and rank that it trains with, over all tasks and seeds. Settings stand here where they differ between rows (a/b: between a row's tasks). params: trained parameters without the head's.".to_owned(),
    ];
    if has(BYTES) {
        notes.push("adapter bytes: the adapter's file, head included.".to_owned());
    }
    if has(STEP) {
        notes.push(format!("ms/step and tokens/s: means over runs on {}.", devices.join(", ")));
    }
    if has(STEP) && ran_at_once(records) {
        notes.push(
            "Some cohorts trained at the same time on one device, so their times are those of a shared machine."
                .to_owned(),
        );
    }
    let (mixed, alone): (Vec<&Cost>, Vec<&Cost>) = rows.iter().partition(|cost| cost.is_mixed);
    if !mixed.is_empty() {
        let labels = |rows: &[&Cost]| {
            let mut labels: Vec<&str> = rows.iter().map(|cost| cost.variant.as_str()).collect();
            labels.dedup();
            labels.join(", ")
        };
        let whose = match alone.len() {
            0 => "Every row".to_owned(),
            n if n < mixed.len() => format!("Every row but {}", labels(&alone)),
            _ => labels(&mixed),
        };
        notes.push(format!(
            "{whose} trained in cohorts with other rows: its time is the cohort's divided by the cohort's runs, and the memory of such a cohort is no row's own, so none is shown."
        ));
    }
    if has(PER_RUN) {
        notes.push(
            "MiB/run: a run's share of moments, gradients and activations. MiB weights: base, adapters and heads of the whole cohort before its first step.".to_owned(),
        );
    }
    if has(MERGE) {
        notes.push(
            "merge error: the largest difference of a logit between the merged and the unmerged model.".to_owned(),
        );
    }
    if has(ROUTING) {
        notes.push(
            "evenness: entropy of a router's weights as a share of that of even ones, the mean over tokens, maps and runs; a mixture has no merged \
             model."
                .to_owned(),
        );
    }
    notes.extend(has(FORGETTING).then(|| held_out(records)));
    if finished().any(|record| record.code.dirty) {
        notes.push("Some runs were made by code that differs from their commit.".to_owned());
    }
    notes
}

/// What forgetting is, and on which text it was measured.
fn held_out(records: &[RunRecord]) -> String {
    let measured = records.iter().filter_map(|record| record.measured.forgetting.as_ref());
    let mut texts: Vec<String> = measured
        .map(|of| {
            let text = if of.text == "pretraining" { "the base's own corpus" } else { &of.text };
            format!("{} documents of {text}, {:.3} before", of.documents, of.before)
        })
        .collect();
    texts.sort();
    texts.dedup();
    format!(
        "forgetting: rise of the base's own loss on held-out text in nats a token ({}); mean over tasks, ± half-width of the 95% Student interval over seeds.",
        texts.join("; ")
    )
}
