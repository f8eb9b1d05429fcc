//! One study as the page shows it.

use std::collections::BTreeSet;

use analysis::{
    AnalysisError,
    tables::{StudyTables, tables},
    tuning,
};
use record::RunRecord;
use serde::Serialize;

use crate::{
    ReportError, Source,
    charts::ChartView,
    curves,
    main_table::SplitView,
    measures::Measures,
    page::data,
    runs::{CHUNK, Runs},
    sensitivity::sensitivity,
    table::TableView,
};

/// A study: what the template writes, and what the script reads as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct StudyView {
    /// Its name.
    pub(crate) name: String,
    /// One line on what it is about.
    pub(crate) title: String,
    /// What a reader asks first: tasks, seeds, base, build.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// Sentences that warn.
    pub(crate) notes: Vec<String>,
    /// What was held equal, and what was tuned.
    pub(crate) matched: Vec<String>,
    /// Labels in the order of the rows.
    pub(crate) variants: Vec<String>,
    /// One per split, the first of which is shown.
    pub(crate) splits: Vec<SplitView>,
    /// The other tables, as the study's folder has them.
    pub(crate) tables: Vec<TableView>,
    /// Tables of measures that are laid out already.
    pub(crate) texts: Vec<String>,
    /// The experiment as it was written.
    pub(crate) text: String,
    /// Runs in all.
    pub(crate) runs: usize,
    /// [`Data`] as JSON.
    #[serde(skip)]
    pub(crate) data: String,
    /// Pages of runs as JSON, [`CHUNK`] in each.
    #[serde(skip)]
    pub(crate) chunks: Vec<String>,
}

/// What the script draws and lists.
#[derive(Serialize)]
struct Data<'a> {
    name: &'a str,
    variants: &'a [String],
    splits: &'a [SplitView],
    training: Vec<ChartView>,
    dev: Vec<ChartView>,
    sensitivity: Vec<ChartView>,
    measures: &'a [ChartView],
    runs: &'a crate::runs::RunList<'a>,
}

impl StudyView {
    /// Of a study and its records.
    pub(crate) fn of(source: &Source<'_>) -> Result<Self, ReportError> {
        let Source { study, records, .. } = *source;
        let wrong = |error| ReportError::Analysis { study: study.name.clone(), source: Box::new(error) };
        let found = tables(study, records, records.len() >= source.planned).map_err(wrong)?;
        let splits = splits(source, &found).map_err(wrong)?;
        let measures = Measures::of(source)?;
        let slugs: Vec<String> = records.iter().map(|record| record.cell.slug()).collect();
        let runs = Runs::of(records, &slugs, &found.summary, &measures).map_err(wrong)?;
        let tuned = study.tuned.as_ref();
        let data = data(&Data {
            name: &study.name,
            variants: &study.variants,
            splits: &splits,
            training: curves::training(study, records),
            dev: curves::dev(study, records),
            sensitivity: tuned.map(|tuned| sensitivity(tuned, &study.tasks)).unwrap_or_default(),
            measures: &measures.charts,
            runs: &runs.list,
        })?;
        let others = found.tables.iter().filter(|named| !named.name.starts_with("main"));
        Ok(Self {
            name: study.name.clone(),
            title: study.title.clone(),
            facts: facts(source),
            notes: source.notes.iter().cloned().chain(found.notes.clone()).chain(measures.notes.clone()).collect(),
            matched: std::iter::once(study.matched.clone())
                .chain(tuned.map(tuning::sentence))
                .filter(|sentence| !sentence.is_empty())
                .collect(),
            variants: study.variants.clone(),
            splits,
            tables: others.map(|named| TableView::of(&named.name, &named.table)).collect(),
            texts: measures.texts.clone(),
            text: source.text.to_owned(),
            runs: records.len(),
            data,
            chunks: runs.pages.chunks(CHUNK).map(|chunk| crate::page::data(&chunk)).collect::<Result<_, _>>()?,
        })
    }
}

fn splits(source: &Source<'_>, tables: &StudyTables) -> Result<Vec<SplitView>, AnalysisError> {
    tables.summary.splits().into_iter().map(|split| SplitView::of(source, tables, split)).collect()
}

/// What a reader asks before the numbers.
fn facts(source: &Source<'_>) -> Vec<(&'static str, String)> {
    let records = source.records;
    let distinct = |of: &dyn Fn(&RunRecord) -> String| {
        let found: BTreeSet<String> = records.iter().map(of).filter(|text| !text.is_empty()).collect();
        found.into_iter().collect::<Vec<_>>().join(", ")
    };
    let text_of = |field: &'static str| distinct(&|record| record.spec[field].as_str().unwrap_or_default().to_owned());
    let failed = records.iter().filter(|record| !record.is_finished()).count();
    let missing = source.planned.saturating_sub(records.len());
    let mut runs = format!("{} finished", records.len() - failed);
    if failed > 0 {
        runs.push_str(&format!(", {failed} failed"));
    }
    if missing > 0 {
        runs.push_str(&format!(", {missing} of {} without a record", source.planned));
    }
    let seeds: BTreeSet<u64> = records.iter().map(|record| record.cell.seed).collect();
    let build = |record: &RunRecord| {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        let dirty = if record.code.dirty { ", modified" } else { "" };
        format!("{} (commit {}{dirty})", short(&record.code.code_hash), short(&record.code.commit))
    };
    let facts = [
        ("runs", runs),
        ("tasks", source.study.tasks.join(", ")),
        ("seeds", seeds_text(&seeds)),
        ("base", text_of("model")),
        ("suite", text_of("suite")),
        ("device", distinct(&|record| format!("{} ({})", record.device, record.precision))),
        ("code", distinct(&build)),
    ];
    facts.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

/// `10 (0 to 9)`, or all of them where they do not follow each other.
fn seeds_text(seeds: &BTreeSet<u64>) -> String {
    let (Some(first), Some(last)) = (seeds.first(), seeds.last()) else { return String::new() };
    if seeds.len() > 2 && last - first == seeds.len() as u64 - 1 {
        return format!("{} ({first} to {last})", seeds.len());
    }
    let shown: Vec<String> = seeds.iter().take(10).map(u64::to_string).collect();
    let more = if seeds.len() > 10 { ", .." } else { "" };
    format!("{} ({}{more})", seeds.len(), shown.join(", "))
}
