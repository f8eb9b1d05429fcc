//! Comparisons as a table.

use record::{Contrast, Readout};

use super::{Block, Entry, Estimate, Layout, Table};
use crate::compare::{ALL_TASKS, Averages, Baseline, Compared, Comparison, Family, POINTS, Reached, Verdict};
use crate::stats::{MOST_SEEDS, SMALLEST_EXACT};

/// One row per comparison, the primary family first: difference with its interval, p-values and the verdict. `layout.split` must be the one
/// compared on. Differences are in points.
pub fn comparison_table(compared: &Compared, baseline: &Baseline, layout: &Layout) -> Table {
    let comparisons = &compared.comparisons;
    let tasks = Layout::order(comparisons.iter().map(|comparison| comparison.task.as_str()), &layout.tasks);
    let variants = Layout::order(comparisons.iter().map(|comparison| comparison.variant.as_str()), &layout.variants);
    let place = |names: &[&str], name: &str| names.iter().position(|other| *other == name);
    let columns = Columns::of(comparisons);
    let block = |family: Family| {
        let mut own: Vec<&Comparison> = comparisons.iter().filter(|comparison| comparison.family == family).collect();
        own.sort_by_key(|comparison| {
            (place(&tasks, &comparison.task), place(&variants, &comparison.variant), comparison.rank)
        });
        let title = format!("{family} family of {}", own.len());
        let rows: Vec<Vec<Entry>> = own.into_iter().map(|comparison| row(comparison, columns)).collect();
        (!rows.is_empty()).then_some(Block { title: Some(title), rows })
    };
    let mut notes = layout.notes.clone();
    notes.push(format!(
        "Split {}; difference in points to {} at the rank under `against` on shared seeds, ± half-width of its 95% Student interval.",
        layout.split, baseline.variant
    ));
    notes.extend(explained(compared, columns));
    Table {
        caption: layout.caption.clone(),
        header: ["task", "variant", "rank", "against"].into_iter().chain(columns.header()).map(str::to_owned).collect(),
        names: 2,
        blocks: [Family::Primary, Family::Secondary].into_iter().filter_map(block).collect(),
        notes,
    }
}

/// One block per contrast: its difference on every task, the tests, and whether the margin it asks for is reached.
///
/// Differences are shown in points, as margins are written.
pub fn contrast_table(compared: &Compared, contrasts: &[Contrast], layout: &Layout) -> Table {
    let comparisons = &compared.comparisons;
    let margins = contrasts.iter().any(|contrast| contrast.margin.is_some());
    let tasks = Layout::order(comparisons.iter().map(|comparison| comparison.task.as_str()), &layout.tasks);
    let columns = Columns::of(comparisons);
    let block = |contrast: &Contrast| {
        let mut own: Vec<&Comparison> = comparisons.iter().filter(|comparison| is_of(comparison, contrast)).collect();
        own.sort_by_key(|comparison| (comparison.family, tasks.iter().position(|task| *task == comparison.task)));
        contrast_block(contrast, &own, columns, margins)
    };
    let mut header: Vec<&str> = ["task", "family"].into_iter().chain(columns.header()).collect();
    let mut notes = layout.notes.clone();
    notes.push(format!(
        "Split {}; differences in points on shared seeds, ± half-width of the 95% Student interval; the questions stand in the experiment's file.",
        layout.split
    ));
    notes.extend(explained(compared, columns));
    if margins {
        header.push("margin reached");
        notes.push(
            "Margin reached: whether the gain is larger (yes) or smaller (no) than asked, by the t-test about the margin, corrected by Holm's method within the family; for one question, by the end of its 95% interval."
                .to_owned(),
        );
    }
    let header = header.into_iter().map(str::to_owned).collect();
    Table { caption: layout.caption.clone(), header, names: 1, blocks: contrasts.iter().map(block).collect(), notes }
}

/// Whether a comparison answers a contrast.
pub(crate) fn is_of(comparison: &Comparison, contrast: &Contrast) -> bool {
    (&comparison.variant, comparison.rank, &comparison.baseline, comparison.baseline_rank)
        == (&contrast.row.label, contrast.row.rank, &contrast.against.label, contrast.against.rank)
}

/// One contrast: a row per comparison, with a last column where some contrast of the table asks for a margin.
fn contrast_block(contrast: &Contrast, comparisons: &[&Comparison], columns: Columns, margins: bool) -> Block {
    let name = |Readout { label, rank }: &Readout| if *rank == 0 { label.clone() } else { format!("{label} r={rank}") };
    let mut rows = Vec::new();
    for comparison in comparisons {
        let mut row = vec![Entry::Text(comparison.task.clone()), Entry::Text(comparison.family.to_string())];
        row.extend(columns.tested(comparison));
        if margins {
            row.push(comparison.reached.map_or(Entry::Missing, |reached| Entry::Text(reached.to_string())));
        }
        rows.push(row);
    }
    let pair = format!("{} minus {}", name(&contrast.row), name(&contrast.against));
    let on_tasks = || comparisons.iter().filter(|comparison| comparison.task != ALL_TASKS);
    let title = match contrast.margin {
        Some(margin) => format!(
            "{pair}, at least {}: {} of {} tasks",
            signed(margin),
            on_tasks().filter(|comparison| comparison.reached == Some(Reached::Yes)).count(),
            on_tasks().count()
        ),
        None => pair,
    };
    Block { title: Some(title), rows }
}

fn row(comparison: &Comparison, columns: Columns) -> Vec<Entry> {
    let against =
        if comparison.baseline_rank == 0 { "-".to_owned() } else { format!("r={}", comparison.baseline_rank) };
    let names = [comparison.task.clone(), comparison.variant.clone(), comparison.rank.to_string(), against];
    names.into_iter().map(Entry::Text).chain(columns.tested(comparison)).collect()
}

/// Seeds from which on the stratified test keeps its level whatever the tasks' spreads.
const MANY_SEEDS: usize = 10;

/// Which columns the comparisons of a table have.
#[derive(Clone, Copy)]
struct Columns {
    /// Whether some comparison has the six seeds with which the sign-flip test can reach 5%.
    sign_flip: bool,
}

impl Columns {
    fn of(comparisons: &[Comparison]) -> Self {
        Self { sign_flip: comparisons.iter().any(|comparison| comparison.sign_flip_p.is_some()) }
    }

    fn header(self) -> Vec<&'static str> {
        let mut header = vec!["n", "difference", "p t-test"];
        header.extend(self.sign_flip.then_some("p sign-flip"));
        header.extend(["p Holm", "p equivalent", "verdict", "detectable", "seeds needed"]);
        header
    }

    /// Number of seeds, difference, p-values, verdict, and what an undecided comparison could have told.
    fn tested(self, comparison: &Comparison) -> Vec<Entry> {
        let half_width = comparison.ci_low.zip(comparison.ci_high).map(|(low, high)| (high - low) / 2.0 * POINTS);
        let remarks = if comparison.is_raised { vec!["floor".to_owned()] } else { Vec::new() };
        let estimate =
            Estimate { mean: comparison.difference * POINTS, half_width, remarks, dirty: false, is_best: false };
        let p = |value: Option<f64>| value.map_or(Entry::Missing, |p| Entry::Text(p_text(p)));
        let is_open = comparison.verdict == Verdict::Undecided;
        let detectable = comparison.detectable.filter(|_| is_open);
        let seeds = comparison.seeds_needed.map_or_else(|| format!(">{MOST_SEEDS}"), |seeds| seeds.to_string());
        let mut entries = vec![Entry::Text(comparison.n.to_string()), Entry::Estimate(estimate), p(comparison.t_p)];
        entries.extend(self.sign_flip.then(|| p(comparison.sign_flip_p)));
        entries.extend([
            p(comparison.holm_p),
            p(comparison.equivalence_p),
            Entry::Text(comparison.verdict.to_string()),
            detectable.map_or(Entry::Missing, |least| Entry::Text(format!("{:.2}", least * POINTS))),
            detectable.map_or(Entry::Missing, |_| Entry::Text(seeds)),
        ]);
        entries
    }
}

/// What the columns mean, and how the averages were tested.
fn explained(compared: &Compared, columns: Columns) -> Vec<String> {
    let comparisons = &compared.comparisons;
    let mut notes = vec![tests(columns), verdicts(comparisons), families(comparisons)];
    notes.extend(match compared.averages {
        Averages::None => None,
        Averages::Stratified(together) => Some(format!(
            "Averages: the tasks' variances are added (stratified t-test, Satterthwaite's degrees of freedom){}.",
            together.map_or_else(String::new, |together| format!(
                "; over tasks, differences at one seed have the mean correlation {:.2} (permutation test of independence: {})",
                together.correlation,
                p_said(together.p)
            ))
        )),
        Averages::BySeed(together) => Some(format!(
            "Averages: tested on the seeds' averages over tasks, because the tasks' differences at one seed go together (mean correlation {:.2}, permutation test of independence: {}).",
            together.correlation,
            p_said(together.p)
        )),
    });
    let is_short = |comparison: &Comparison| comparison.task == ALL_TASKS && comparison.n < MANY_SEEDS;
    if matches!(compared.averages, Averages::Stratified(_)) && comparisons.iter().any(is_short) {
        notes.push(format!(
            "Satterthwaite's degrees of freedom are an approximation: below {MANY_SEEDS} seeds, where the spread of one task is several times that of the others, averages that do not differ are told apart in up to 6% of cases in place of 5%, and more than that in proportion at the levels of a large family (simulated, docs/src/statistics.md)."
        ));
    }
    if comparisons.iter().any(|comparison| comparison.is_raised) {
        notes.push(
            "[floor]: the seeds agree within less than half an example of a split, which is taken for their spread; so few examples say no more."
                .to_owned(),
        );
    }
    notes
}

fn tests(columns: Columns) -> String {
    let flip = if columns.sign_flip {
        format!(" p sign-flip: exact test on the signs of the differences, from {SMALLEST_EXACT} seeds on.")
    } else {
        String::new()
    };
    format!(
        "p t-test: paired by seed.{flip} p Holm: the same after Holm's correction within the family. p equivalent: two one-sided tests against the margin of equivalence, after Holm's correction within the family."
    )
}

fn verdicts(comparisons: &[Comparison]) -> String {
    let mut margins: Vec<f64> = comparisons.iter().map(|comparison| comparison.equivalence * POINTS).collect();
    margins.sort_by(f64::total_cmp);
    margins.dedup_by(|one, other| (*one - *other).abs() < 1e-9);
    let margins: Vec<String> = margins.into_iter().map(plain).collect();
    let unit = if margins == ["1"] { "point" } else { "points" };
    format!(
        "equivalent: p equivalent below 0.05, so that the difference is smaller than {} {unit}; this goes before better and worse: p Holm below 0.05. undecided: neither, which is no evidence of equality; detectable is the smallest difference that these seeds would have found with 80% power at the corrected level, and seeds needed is how many find the margin of equivalence.",
        margins.join(" or ")
    )
}

fn families(comparisons: &[Comparison]) -> String {
    let of = |family: Family| comparisons.iter().filter(move |comparison| comparison.family == family);
    let tasks = |family: Family| {
        let mut tasks: Vec<&str> = of(family).map(|comparison| comparison.task.as_str()).collect();
        tasks.sort_unstable();
        tasks.dedup();
        tasks.join(", ")
    };
    let [primary, secondary] = [Family::Primary, Family::Secondary].map(|family| of(family).count());
    if secondary == 0 {
        return format!("One family of {primary}.");
    }
    format!(
        "Primary family: {primary} ({}); secondary family: {secondary} ({}); each corrected for its own size.",
        tasks(Family::Primary),
        tasks(Family::Secondary)
    )
}

/// Three decimals; smaller values are only said to be smaller.
pub(super) fn p_text(p: f64) -> String {
    if p < 0.0005 { "<0.001".to_owned() } else { format!("{p:.3}") }
}

/// The same in a sentence: `p < 0.001`, `p = 0.250`.
pub(super) fn p_said(p: f64) -> String {
    if p < 0.0005 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") }
}

/// A number of points as it was written: division and multiplication by 100 left rounding errors.
fn plain(points: f64) -> String {
    format!("{}", (points * 1e6).round() / 1e6)
}

fn signed(points: f64) -> String {
    format!("{:+}", (points * 1e6).round() / 1e6)
}
