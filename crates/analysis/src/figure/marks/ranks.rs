//! Mean ranks over tasks with Nemenyi's critical difference.

use super::super::{Axis, Chart, Content, Figure, Look, Panel, Point, Scale, Series, Width};
use super::{Caption, axis};

/// Methods and their mean ranks, the best on top. Whiskers are half the critical difference long, so two methods differ where their
/// whiskers do not meet.
pub fn critical_difference(caption: Caption, methods: &[String], mean_ranks: &[f64], difference: f64) -> Figure {
    let Caption { title, n, notes } = caption;
    let mut order: Vec<usize> = (0..methods.len().min(mean_ranks.len())).collect();
    order.sort_by(|one, other| mean_ranks[*one].total_cmp(&mean_ranks[*other]));
    let half = difference / 2.0;
    let point = |(place, at): (usize, &usize)| {
        let x = mean_ranks[*at];
        Point { x, y: place as f64, interval: Some([x - half, x + half]), shade: None }
    };
    let panel = |part: &[usize], title: String, range: Option<[f64; 2]>| {
        let points = part.iter().enumerate().map(point).collect();
        let series = vec![Series { name: String::new(), look: Look::Dots, points }];
        let names = part.iter().map(|at| methods[*at].clone()).collect();
        Panel {
            title,
            remark: String::new(),
            x: Axis { range, ..axis("mean rank over tasks", "1 is best", Scale::Linear) },
            y: axis("", "", Scale::Names(names)),
            content: Content::Chart(Chart { series, colour: None }),
        }
    };
    if order.len() <= MOST_ROWS {
        let panels = vec![panel(&order, String::new(), None)];
        return Figure { title, width: Width::Column, columns: 1, aspect: 0.8, panels, n, notes };
    }
    // More than one page holds: beside each other, on one scale.
    let ends = [order[0], order[order.len() - 1]].map(|at| mean_ranks[at]);
    let range = Some([ends[0] - half, ends[1] + half]);
    let each = order.len().div_ceil(order.len().div_ceil(MOST_ROWS));
    let parts = order.chunks(each).enumerate();
    let title_of = |at: usize, part: &[usize]| format!("places {} to {}", at * each + 1, at * each + part.len());
    let panels: Vec<Panel> = parts.map(|(at, part)| panel(part, title_of(at, part), range)).collect();
    Figure { title, width: Width::Text, columns: panels.len(), aspect: 0.8, panels, n, notes }
}

/// Named rows that fit a page.
const MOST_ROWS: usize = 30;
