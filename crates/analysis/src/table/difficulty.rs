//! How well tasks can tell methods apart.

use std::collections::BTreeSet;

use super::{Block, Entry, Layout, Table};
use crate::AnalysisError;
use crate::stats::Summary;
use crate::summary::{SummaryRow, SummaryTable};

/// Points per unit of a metric: a point is a hundredth.
const POINTS: f64 = 100.0;
/// The head on the frozen base, without adaptation.
const HEAD: &str = "head_only";
/// All weights.
const FULL: &str = "full";
/// The method whose rank is swept.
const SWEPT: &str = "lora";
/// How the labels of controls on a base with random weights end.
const RANDOM: &str = "_random";

/// One row per task: what the best row leaves to gain, the head and a random base against LoRA and full fine-tuning, how far the methods
/// lie apart in units of how far the seeds do, and what a higher rank gives.
///
/// Methods are the rows that adapt the pretrained base: neither `head_only` nor a label that ends in `_random`; of `lora`, the rank that is
/// nearest to 8. With `m` methods of means `x̄ᵢ` and standard deviations `sᵢ` over seeds, the spread of the methods is `sd(x̄₁ .. x̄_m)` and that
/// of the seeds `√(mean sᵢ²)`. `None` unless there are rows `head_only`, `full`, `lora` at two ranks or more, and a random control.
pub fn difficulty_table(summary: &SummaryTable, layout: &Layout) -> Result<Option<Table>, AnalysisError> {
    let rows = summary.primary(&layout.split)?;
    let ranks: BTreeSet<usize> = rows.iter().filter(|row| row.variant == SWEPT).map(|row| row.rank).collect();
    let has = |wanted: &dyn Fn(&str) -> bool| rows.iter().any(|row| wanted(&row.variant));
    let asked = has(&|v| v == HEAD) && has(&|v| v == FULL) && has(&|v| v.ends_with(RANDOM)) && ranks.len() > 1;
    let (Some(&least), Some(&most)) = (ranks.first(), ranks.last()) else { return Ok(None) };
    if !asked {
        return Ok(None);
    }
    let usual = ranks.iter().copied().min_by_key(|rank| rank.abs_diff(8)).unwrap_or(least);
    let tasks = Layout::order(rows.iter().map(|row| row.task.as_str()), &layout.tasks);
    let of_task = |task: &&str| {
        let of: Vec<&SummaryRow> = rows.iter().copied().filter(|row| row.task == **task).collect();
        let entries = Task { rows: of, usual }.entries((least, most));
        std::iter::once(Entry::Text((*task).to_owned())).chain(entries).collect()
    };
    let lora = format!("{SWEPT} r={usual}");
    let gain = format!("{SWEPT} r={most} over r={least}");
    let header = ["task", "headroom", HEAD, "random base", &lora, FULL, "methods", "seeds", "methods / seeds", &gain];
    let mut notes = layout.notes.clone();
    notes.push(format!(
        "Split {}; means over seeds times 100. Headroom: what the best row leaves to 100. Random base: the best control on random weights. \
         Methods: standard deviation of the means of the rows that adapt the pretrained base; seeds: that of a row over its seeds, pooled. The \
         last column has the 95% Student interval of the difference on shared seeds.",
        layout.split
    ));
    Ok(Some(Table {
        caption: layout.caption.clone(),
        header: header.map(str::to_owned).to_vec(),
        names: 1,
        blocks: vec![Block { title: None, rows: tasks.iter().map(of_task).collect() }],
        notes,
    }))
}

/// The rows of one task.
struct Task<'a> {
    rows: Vec<&'a SummaryRow>,
    /// The rank of the swept method that stands for it.
    usual: usize,
}

impl Task<'_> {
    fn entries(&self, (least, most): (usize, usize)) -> Vec<Entry> {
        let points = |value: Option<f64>| value.filter(|v| v.is_finite()).map_or(Entry::Missing, |v| text(POINTS * v));
        let best = |wanted: &dyn Fn(&SummaryRow) -> bool| {
            let means = self.rows.iter().filter(|row| wanted(row)).map(|row| row.summary.mean);
            means.filter(|mean| mean.is_finite()).max_by(f64::total_cmp)
        };
        let (methods, seeds) = (self.methods_sd(), self.seeds_sd());
        let ratio = methods.zip(seeds).filter(|(_, seeds)| *seeds > 0.0).map(|(methods, seeds)| methods / seeds);
        vec![
            points(best(&|_| true).map(|best| 1.0 - best)),
            points(best(&|row| row.variant == HEAD)),
            points(best(&|row| row.variant.ends_with(RANDOM))),
            points(best(&|row| row.variant == SWEPT && row.rank == self.usual)),
            points(best(&|row| row.variant == FULL)),
            points(methods),
            points(seeds),
            ratio.map_or(Entry::Missing, text),
            self.gain(least, most),
        ]
    }

    /// Rows that adapt the pretrained base, the swept method at its usual rank.
    fn methods(&self) -> impl Iterator<Item = &SummaryRow> {
        let adapts = |row: &&SummaryRow| row.variant != HEAD && !row.variant.ends_with(RANDOM);
        let is_usual = move |row: &&SummaryRow| row.variant != SWEPT || row.rank == self.usual;
        self.rows.iter().copied().filter(adapts).filter(is_usual)
    }

    fn methods_sd(&self) -> Option<f64> {
        let means: Vec<f64> = self.methods().map(|row| row.summary.mean).collect();
        Summary::of(&means).ok().and_then(|summary| summary.std)
    }

    fn seeds_sd(&self) -> Option<f64> {
        let variances: Vec<f64> = self.methods().filter_map(|row| row.summary.std).map(|sd| sd * sd).collect();
        (!variances.is_empty()).then(|| (variances.iter().sum::<f64>() / variances.len() as f64).sqrt())
    }

    /// `+3.10 ± 0.80`: the swept method's highest rank less its lowest, on the seeds that both have.
    fn gain(&self, least: usize, most: usize) -> Entry {
        let of = |rank: usize| self.rows.iter().find(|row| row.variant == SWEPT && row.rank == rank);
        let (Some(low), Some(high)) = (of(least), of(most)) else { return Entry::Missing };
        let shared =
            high.values.iter().filter_map(|(seed, value)| low.values.get(seed).map(|low| POINTS * (value - low)));
        let Ok(difference) = Summary::of(&shared.collect::<Vec<_>>()) else { return Entry::Missing };
        let half = difference.half_width().map(|half| format!(" ± {half:.2}")).unwrap_or_default();
        Entry::Text(format!("{:+.2}{half}", difference.mean))
    }
}

fn text(value: f64) -> Entry {
    Entry::Text(format!("{value:.2}"))
}
