//! The score over what was tuned, from the tuning's trials.

use analysis::{
    compare::POINTS,
    tuning::{Response, best_of, fields, responses},
};
use record::Tuned;

use crate::charts::{ChartView, Place, Point, SeriesView};

/// Fewest tuning seeds whose Student interval says something: of two it is nine times as wide as the two lie apart.
const LEAST_SEEDS: usize = 3;

/// One chart per task (or for all of them, where they share settings) and tuned number.
pub(crate) fn sensitivity(tuned: &Tuned, tasks: &[String]) -> Vec<ChartView> {
    let mut charts = Vec::new();
    for field in fields(tuned) {
        let all = responses(tuned, &field);
        let named = tasks.iter().map(|task| Some(task.as_str())).chain([None]);
        for task in named {
            let own: Vec<&Response> = all.iter().filter(|response| response.group.task.as_deref() == task).collect();
            if !own.is_empty() {
                charts.push(chart(tuned, &field, task.unwrap_or("all tasks"), &own));
            }
        }
    }
    charts
}

fn chart(tuned: &Tuned, field: &str, task: &str, responses: &[&Response]) -> ChartView {
    let label = field.rsplit('.').next().unwrap_or(field).replace('_', " ");
    let n = tuned.seeds.len();
    let bands = match n {
        1 => ", so there are no bands",
        n if n < LEAST_SEEDS => "; bands: least and greatest, since two seeds have no useful interval",
        _ => "; bands: 95% Student intervals of the mean",
    };
    let part = tuned.halving.map(|halving| format!("; after 1/{} of the steps", halving.divisors()[0]));
    let some_failed = tuned.groups.iter().flat_map(|group| &group.trials).any(record::Trial::has_failed);
    let failed = if some_failed { " Settings that failed have no point." } else { "" };
    let best = best_of(tuned, field).map(|said| format!(" {said}")).unwrap_or_default();
    ChartView {
        name: format!("{task}: {label}"),
        y: "score on the tuning split, ×100".to_owned(),
        is_log: true,
        n: format!(
            "n = {n} tuning seed{}{bands}{}.{best}{failed}",
            if n == 1 { "" } else { "s" },
            part.unwrap_or_default()
        ),
        series: responses.iter().map(|response| series(response, n)).collect(),
        x: label,
    }
}

fn series(response: &Response, n: usize) -> SeriesView {
    let points = response.points.iter().filter_map(|(x, scores)| Some((Place::Number(*x), point(scores)?))).collect();
    SeriesView::of(&response.group.variant, response.group.rank.unwrap_or(0), n, points)
}

fn point(scores: &[f64]) -> Option<Point> {
    let point = Point::over_seeds(scores, POINTS)?;
    if scores.len() >= LEAST_SEEDS {
        return Some(point);
    }
    let ends = [
        scores.iter().copied().fold(f64::INFINITY, f64::min),
        scores.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    ];
    let interval = (scores.len() > 1).then(|| ends.map(|end| POINTS * end));
    Some(Point { interval, ..point })
}
