//! Mean ranks over tasks with Nemenyi's critical difference.

use super::super::{Chart, Content, Figure, Look, Panel, Point, Scale, Series, Width};
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
    let points = order.iter().enumerate().map(point).collect();
    let series = vec![Series { name: String::new(), look: Look::Dots, points }];
    let names = order.iter().map(|at| methods[*at].clone()).collect();
    let panel = Panel {
        title: String::new(),
        remark: String::new(),
        x: axis("mean rank over tasks", "1 is best", Scale::Linear),
        y: axis("", "", Scale::Names(names)),
        content: Content::Chart(Chart { series, colour: None }),
    };
    Figure { title, width: Width::Column, columns: 1, aspect: 0.8, panels: vec![panel], n, notes }
}
