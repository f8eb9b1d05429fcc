//! What a tuning found, as a table and as figures: the chosen settings, the score over the rate, and what a smaller budget would have given.

use record::{End, Goal, Halving, Setting, Trial, Tuned, TunedGroup, TuningGroup, mean_over_seeds};

use crate::{
    figure::{Caption, Curve, Figure, Measured, TaskCurves, expected_best, sensitivity},
    figures::Named,
    study::Study,
    table::{Block, Entry, Table},
};

/// Points per unit of a metric.
const POINTS: f64 = 100.0;
/// Series that can be told apart in one panel.
const MOST_SERIES: usize = 8;
/// Groups that a note names.
const SHOWN: usize = 4;

/// Stems of [`figures`], which several parts end in `-1`, `-2`, and so on.
pub const FIGURES: [&str; 2] = ["sensitivity", "budget"];
/// The name of [`tuning_table`].
pub const TABLE: &str = "tuning";
/// How the caption of [`tuning_table`] ends, whatever the experiment.
pub const CAPTION: &str = "the settings that were chosen";

/// The expected best of `k` trials, for `k` from 1 to the number of scores, if each were drawn anew from those that were made.
///
/// With scores `v₁ ≤ .. ≤ v_n`, `E[max of k] = Σᵢ vᵢ·(iᵏ − (i−1)ᵏ)/nᵏ`: Dodge et al., *Show Your Work*, EMNLP 2019, equations 6 and 7. Where
/// less is better the least takes the greatest's place.
pub fn expected_of_best(scores: &[f64], goal: Goal) -> Vec<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    if goal == Goal::Minimise {
        sorted.reverse();
    }
    let n = sorted.len() as f64;
    let of = |k: usize| {
        let share = |i: usize| (i as f64 / n).powi(k as i32);
        sorted.iter().enumerate().map(|(at, value)| value * (share(at + 1) - share(at))).sum()
    };
    (1..=sorted.len()).map(of).collect()
}

/// The means of a group's trials, one for every trial: a failed one, which has none, gets the worst that another has.
///
/// Whoever tries fewer settings meets those that fail as often as the others, so that leaving them out would promise too much. The worst
/// mean is the greatest that may stand for a failure.
fn budgeted(group: &TunedGroup, goal: Goal) -> Vec<f64> {
    let means = || group.trials.iter().filter_map(Trial::mean);
    let worst = match goal {
        Goal::Maximise => means().min_by(f64::total_cmp),
        Goal::Minimise => means().max_by(f64::total_cmp),
    };
    group.trials.iter().filter_map(|trial| trial.mean().or(worst)).collect()
}

/// Trials of which a run failed.
fn failed(group: &TunedGroup) -> usize {
    group.trials.iter().filter(|trial| trial.has_failed()).count()
}

/// How many trials reached every rung of a halving: `9, 3, 1`, and what was added beyond the ends.
fn reached(group: &TunedGroup, halving: Halving) -> String {
    let (begun, added): (Vec<&Trial>, Vec<&Trial>) = group.trials.iter().partition(|trial| !trial.rungs.is_empty());
    let last = begun.iter().filter(|trial| !trial.scores.is_empty()).count();
    let before = (0..halving.rungs - 1).map(|rung| begun.iter().filter(|trial| trial.rungs.len() > rung).count());
    let counts: Vec<String> = before.chain([last]).map(|count| count.to_string()).collect();
    let added = if added.is_empty() { String::new() } else { format!(" + {}", added.len()) };
    format!("{}{added}", counts.join(", "))
}

/// The rungs before the last in words: `1/9 and 1/3 of the steps`.
fn rungs(halving: Halving) -> String {
    let shares: Vec<String> = halving.divisors()[..halving.rungs - 1].iter().map(|by| format!("1/{by}")).collect();
    match shares.split_last() {
        Some((last, [])) => format!("{last} of the steps"),
        Some((last, before)) => format!("{} and {last} of the steps", before.join(", ")),
        None => "no steps".to_owned(),
    }
}

/// One row per group: how many settings were tried, which was chosen, how it scored, and whether it lies at an end of what was tried.
pub fn tuning_table(study: &Study, tuned: &Tuned) -> Table {
    let some_failed = tuned.groups.iter().any(|group| failed(group) > 0);
    let row = |group: &TunedGroup| {
        let text = |value: Option<String>| value.map_or(Entry::Missing, Entry::Text);
        let best = &group.trials[group.chosen];
        // Of settings that were dropped no score after all steps is known.
        let spent = if let Some(halving) = tuned.halving {
            Some(reached(group, halving))
        } else {
            let expected = expected_of_best(&budgeted(group, tuned.goal), tuned.goal);
            let half = expected.get((expected.len() / 2).saturating_sub(1)).copied();
            half.map(|score| format!("{:.2}", POINTS * score))
        };
        let mut row = vec![
            text(group.group.task.clone()),
            Entry::Text(group.group.variant.clone()),
            text(group.group.rank.filter(|rank| *rank > 0).map(|rank| rank.to_string())),
            Entry::Text(spaced(&best.setting)),
            Entry::Text(group.trials.len().to_string()),
            text(best.mean().map(|mean| format!("{:.2}", POINTS * mean))),
            text(spent),
            Entry::Text(at_edge(group)),
        ];
        if some_failed {
            row.insert(AT_FAILED, Entry::Text(failed(group).to_string()));
        }
        row
    };
    let spent = if tuned.halving.is_some() { "at each rung" } else { "half the trials" };
    let header = ["task", "variant", "rank", "setting", "trials", "score", spent, "edge"];
    let mut header = header.map(str::to_owned).to_vec();
    if some_failed {
        header.insert(AT_FAILED, "failed".to_owned());
    }
    Table {
        caption: format!("{}: {CAPTION}", study.name),
        header,
        names: 2,
        blocks: vec![Block { title: None, rows: tuned.groups.iter().map(row).collect() }],
        notes: notes(tuned, some_failed),
    }
}

/// Where the table counts failures: after the trials.
const AT_FAILED: usize = 5;

fn notes(tuned: &Tuned, some_failed: bool) -> Vec<String> {
    let seeds: Vec<String> = tuned.seeds.iter().map(u64::to_string).collect();
    let spent = match tuned.halving {
        Some(halving) => format!(
            "At each rung: how many settings were trained for {}, and for all of them, each time anew; the best 1/{} goes on{}.",
            rungs(halving),
            halving.factor,
            if tuned.groups.iter().flat_map(|group| &group.trials).any(|trial| trial.rungs.is_empty()) {
                ", and what was added beyond an end had all steps at once"
            } else {
                ""
            }
        ),
        None => "Half the trials: the score to expect of the best of half as many.".to_owned(),
    };
    let columns = format!(
        "Score: mean of the primary metric, times 100, over the tuning seeds {} on {}% of the training examples, cut off anew by each seed; no \
         result is reported with these seeds or on this split. {spent} Edge: the best is the least or the greatest value that was tried, so a \
         better one may lie beyond.",
        seeds.join(", "),
        percent(tuned.holdout)
    );
    let failures = some_failed.then(|| {
        let counted = if tuned.halving.is_some() {
            ""
        } else {
            ", and in half the trials each counts as the worst score of the others"
        };
        format!("Failed: settings of which a run failed or has no score. None of them can be chosen{counted}.")
    });
    std::iter::once(columns).chain(failures).chain(ties(tuned)).collect()
}

/// A share in percent, with as many digits as it needs to be neither 0 nor 100.
fn percent(share: f64) -> String {
    let whole = (100.0 * share).round();
    // What a product with 100 leaves beyond nine digits is no part of the share.
    if (100.0 * share - whole).abs() < 1e-9 && whole > 0.0 && whole < 100.0 {
        return whole.to_string();
    }
    let shown: f64 = format!("{:.9e}", 100.0 * share).parse().unwrap_or(100.0 * share);
    format!("{shown:?}")
}

/// The groups of which several settings have the best score.
fn ties(tuned: &Tuned) -> Option<String> {
    let of_group = |group: &TunedGroup| {
        let best = group.trials[group.chosen].mean()?;
        let equal = group.trials.iter().filter(|trial| trial.mean() == Some(best)).count();
        (equal > 1).then(|| format!("{equal} of {} settings of {}", group.trials.len(), group.group))
    };
    let found: Vec<String> = tuned.groups.iter().filter_map(of_group).collect();
    let more = found.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(", and of {more} rows more") } else { String::new() };
    let shown = found[..found.len().min(SHOWN)].join(", ");
    (!found.is_empty())
        .then(|| format!("Ties: the best score is that of {shown}{more}; the first that was tried is taken."))
}

/// `learning_rate 0.003, alpha 16`
fn spaced(setting: &Setting) -> String {
    setting.to_string().replace('=', " ").replace('+', ", ")
}

fn at_edge(group: &TunedGroup) -> String {
    let name = |path: &String| path.rsplit('.').next().unwrap_or(path).to_owned();
    let said = |(path, end): (&String, &End)| {
        let end = match end {
            End::Lower => "lower",
            End::Upper => "upper",
        };
        format!("{} ({end})", name(path))
    };
    group.edges.iter().map(said).collect::<Vec<_>>().join(", ")
}

/// One sentence for the notes of a study's tables.
pub fn sentence(tuned: &Tuned) -> String {
    let parameters: std::collections::BTreeSet<&str> = tuned
        .groups
        .iter()
        .flat_map(|group| group.setting().0.keys())
        .map(|path| path.rsplit('.').next().unwrap_or(path))
        .collect();
    let trials: Vec<usize> = tuned.groups.iter().map(|group| group.trials.len()).collect();
    let (least, most) = (trials.iter().min().copied().unwrap_or(0), trials.iter().max().copied().unwrap_or(0));
    let count = if least == most { format!("{most}") } else { format!("{least} to {most}") };
    let edges = tuned.groups.iter().filter(|group| !group.edges.is_empty()).count();
    let edges = if edges > 0 {
        format!("; {edges} of {} lie at an edge of what was tried", trials.len())
    } else {
        String::new()
    };
    let failures: usize = tuned.groups.iter().map(failed).sum();
    let failures = if failures > 0 {
        format!("; {failures} of {} settings failed", trials.iter().sum::<usize>())
    } else {
        String::new()
    };
    let parameters = parameters.into_iter().collect::<Vec<_>>().join(", ").replace('_', " ");
    let halved = tuned.halving.map(|halving| {
        format!(" by successive halving (the best 1/{} goes on after {})", halving.factor, rungs(halving))
    });
    format!(
        "Tuned for every row: {parameters}, {count} settings of {} each{}, on a split cut from train{edges}{failures}.",
        several(tuned, "seed"),
        halved.unwrap_or_default()
    )
}

/// How many tuning seeds there are, in words.
fn several(tuned: &Tuned, of: &str) -> String {
    format!("{} {of}{}", tuned.seeds.len(), if tuned.seeds.len() == 1 { "" } else { "s" })
}

/// Score over the first number that was tuned, and the expected best of a smaller budget; nothing where no number was tuned.
pub fn figures(study: &Study, tuned: &Tuned) -> Vec<Named> {
    let Some(path) = fields(tuned).into_iter().next() else { return Vec::new() };
    let seeds = several(tuned, "tuning seed");
    let bars = if tuned.seeds.len() > 1 { "; bars: least and greatest" } else { "" };
    let mut found = Vec::new();
    let bins = bins(tuned, &path);
    let over_rate = |group: &TunedGroup| over(group, &path, tuned.goal, bins);
    let label = path.rsplit('.').next().unwrap_or(&path).replace('_', " ");
    let some_failed = tuned.groups.iter().any(|group| failed(group) > 0);
    let of_failures = |said: &str| some_failed.then(|| said.to_owned());
    let [of_rates, of_budgets] = FIGURES;
    let part = tuned.halving.map(|halving| format!(" after 1/{} of the steps", halving.divisors()[0]));
    let rates = Caption {
        title: format!("{}: score over the {label}{}", study.name, part.unwrap_or_default()),
        n: format!("{seeds}{bars}"),
        notes: best_of(tuned, &path)
            .map(str::to_owned)
            .into_iter()
            .chain(of_failures("Settings that failed have no point."))
            .collect(),
    };
    found.extend(parts(of_rates, &panels(study, tuned, &over_rate), &rates, &|caption, tasks| {
        sensitivity(caption, tasks, &label)
    }));
    // What a smaller budget would have given is not known where settings were dropped.
    if tuned.halving.is_some() {
        return found;
    }
    let budget = Caption {
        title: format!("{}: expected best of k settings", study.name),
        n: seeds,
        notes: std::iter::once("Dodge et al. (2019): of k settings drawn from those that were tried.".to_owned())
            .chain(of_failures("A setting that failed counts as the worst of the others."))
            .collect(),
    };
    let over_budget = |group: &TunedGroup| {
        let expected = expected_of_best(&budgeted(group, tuned.goal), tuned.goal).into_iter().enumerate();
        expected.map(|(at, score)| ((at + 1) as f64, Measured::exact(POINTS * score))).collect()
    };
    found.extend(parts(of_budgets, &panels(study, tuned, &over_budget), &budget, &expected_best));
    found
}

/// Values of one field that a line can join; drawn ones lie anywhere, and are more.
const MOST_VALUES: usize = 10;
const BINS_PER_DECADE: f64 = 3.0;

/// Whether a group tried more values of a field than a line can join.
fn are_many(tuned: &Tuned, path: &str) -> bool {
    let of_group = |group: &TunedGroup| {
        let mut values: Vec<f64> =
            group.trials.iter().filter_map(|trial| trial.setting.0.get(path)?.as_f64()).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        values.len() > MOST_VALUES
    };
    tuned.groups.iter().any(of_group)
}

/// The best trial at every value, or in the middle of every bin of so many a decade, with the least and the greatest score over its seeds.
fn over(group: &TunedGroup, path: &str, goal: Goal, bins: Option<f64>) -> Vec<(f64, Measured)> {
    let shown = |(x, scores): (f64, Vec<f64>)| {
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let ends = [
            scores.iter().copied().fold(f64::INFINITY, f64::min),
            scores.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ];
        (x, Measured { value: POINTS * mean, interval: Some(ends.map(|end| POINTS * end)) })
    };
    best_at_values(group, path, goal, bins).into_iter().map(shown).collect()
}

/// The scores, seed by seed, of the best trial at every value, or in the middle of every bin of so many a decade.
fn best_at_values(group: &TunedGroup, path: &str, goal: Goal, bins: Option<f64>) -> Vec<(f64, Vec<f64>)> {
    let middle = |x: f64| bins.map_or(x, |bins| 10_f64.powf(((x.log10() * bins).floor() + 0.5) / bins));
    let mut points: Vec<(f64, f64, Vec<f64>)> = Vec::new();
    let is_halved = group.trials.iter().any(|trial| !trial.rungs.is_empty());
    for trial in &group.trials {
        // Of a halving, the rung that every setting was trained at: scores of different rungs are no curve.
        let of_all = if is_halved { trial.rungs.first() } else { Some(&trial.scores) };
        let Some(scored) = of_all else { continue };
        let number = trial.setting.0.get(path).and_then(serde_json::Value::as_f64);
        let Some((x, mean)) = number.map(middle).zip(mean_over_seeds(scored)) else { continue };
        let scores = scored.iter().flatten().copied().collect();
        let is_better = |other: f64| if goal == Goal::Maximise { mean > other } else { mean < other };
        match points.iter_mut().find(|point| point.0 == x) {
            Some(point) if is_better(point.1) => *point = (x, mean, scores),
            Some(_) => {}
            None => points.push((x, mean, scores)),
        }
    }
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    points.into_iter().map(|(x, _, scores)| (x, scores)).collect()
}

/// How a group's score depends on one tuned field.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Whose settings they are.
    pub group: TuningGroup,
    /// Values of the field with the scores, seed by seed, of the best trial that has it.
    pub points: Vec<(f64, Vec<f64>)>,
}

/// The tuned fields of which some group tried several numbers, all above 0; a rate comes first.
pub fn fields(tuned: &Tuned) -> Vec<String> {
    let mut paths: Vec<&String> = tuned.groups.iter().flat_map(|group| group.setting().0.keys()).collect();
    paths.sort_by_key(|path| (!path.ends_with("learning_rate"), (*path).clone()));
    paths.dedup();
    let varies = |path: &&String| {
        let number = |trial: &Trial| trial.setting.0.get(*path).and_then(serde_json::Value::as_f64);
        tuned.groups.iter().any(|group| {
            let numbers: Option<Vec<f64>> = group.trials.iter().map(number).collect();
            numbers.is_some_and(|numbers| numbers.iter().all(|n| *n > 0.0) && numbers.windows(2).any(|n| n[0] != n[1]))
        })
    };
    paths.into_iter().filter(varies).cloned().collect()
}

/// The response of every group to one of [`fields`]. Many drawn values are joined in thirds of a decade, as in [`figures`].
pub fn responses(tuned: &Tuned, field: &str) -> Vec<Response> {
    let bins = bins(tuned, field);
    let of = |group: &TunedGroup| Response {
        group: group.group.clone(),
        points: best_at_values(group, field, tuned.goal, bins),
    };
    tuned.groups.iter().map(of).filter(|response| !response.points.is_empty()).collect()
}

/// What stands at a value of a field that several settings share; none where every value is one setting.
pub fn best_of(tuned: &Tuned, field: &str) -> Option<&'static str> {
    let others = tuned.groups.iter().any(|group| group.setting().0.len() > 1);
    match (bins(tuned, field), others) {
        (Some(_), false) => Some("In each third of a decade stands the best setting."),
        (Some(_), true) => Some("Other fields were tuned too; in each third of a decade stands the best setting."),
        (None, true) => Some("Other fields were tuned too; at each value stands the best of their settings."),
        (None, false) => None,
    }
}

fn bins(tuned: &Tuned, field: &str) -> Option<f64> {
    are_many(tuned, field).then_some(BINS_PER_DECADE)
}

/// One panel per task, or one in all where tasks share their settings.
fn panels(study: &Study, tuned: &Tuned, points: &dyn Fn(&TunedGroup) -> Vec<(f64, Measured)>) -> Vec<TaskCurves> {
    let mut tasks: Vec<Option<String>> = study.tasks.iter().cloned().map(Some).collect();
    tasks.push(None);
    let ranks = |variant: &str| {
        let ranks = tuned.groups.iter().filter(|group| group.group.variant == variant).map(|group| group.group.rank);
        ranks.collect::<std::collections::BTreeSet<_>>().len()
    };
    let panel = |task: Option<String>| {
        let curve = |group: &TunedGroup| {
            let variant = &group.group.variant;
            let name = match group.group.rank.filter(|_| ranks(variant) > 1) {
                Some(rank) => format!("{variant}, r = {rank}"),
                None => variant.clone(),
            };
            Curve { name, points: points(group) }
        };
        let curves: Vec<Curve> = tuned
            .groups
            .iter()
            .filter(|group| group.group.task == task)
            .map(curve)
            .filter(|curve| !curve.points.is_empty())
            .collect();
        let task = task.unwrap_or_else(|| "all tasks".to_owned());
        (!curves.is_empty()).then(|| TaskCurves { task, metric: "score".to_owned(), unit: "×100".to_owned(), curves })
    };
    tasks.into_iter().filter_map(panel).collect()
}

/// A figure for every eight series.
fn parts(
    name: &str,
    tasks: &[TaskCurves],
    caption: &Caption,
    draw: &dyn Fn(Caption, &[TaskCurves]) -> Figure,
) -> Vec<Named> {
    let most = tasks.iter().map(|task| task.curves.len()).max().unwrap_or(0);
    let count = most.div_ceil(MOST_SERIES);
    let part = |at: usize| {
        let of_part = |task: &TaskCurves| TaskCurves {
            curves: task.curves.iter().skip(at * MOST_SERIES).take(MOST_SERIES).cloned().collect(),
            ..task.clone()
        };
        let tasks: Vec<TaskCurves> = tasks.iter().map(of_part).filter(|task| !task.curves.is_empty()).collect();
        let (suffix, of) = if count > 1 {
            (format!("-{}", at + 1), format!(", part {} of {count}", at + 1))
        } else {
            (String::new(), String::new())
        };
        let caption = Caption { title: format!("{}{of}", caption.title), ..caption.clone() };
        Named { name: format!("{name}{suffix}"), figure: draw(caption, &tasks) }
    };
    (0..count).map(part).collect()
}

#[cfg(test)]
mod tests;
