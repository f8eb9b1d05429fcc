//! Lines with intervals: DyLoRA's quality over ranks, and training curves.

use super::super::{Chart, Content, Figure, Look, Panel, Point, Scale, Series, Width};
use super::{Caption, Measured, axis};

/// One variant's line.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The variant.
    pub name: String,
    /// Rank or step, and what was measured there.
    pub points: Vec<(f64, Measured)>,
}

/// The lines of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskCurves {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: String,
    /// Its unit; empty where there is none.
    pub unit: String,
    /// One per variant.
    pub curves: Vec<Curve>,
}

/// A metric against the rank, one panel per task.
///
/// Valipour et al., *DyLoRA*, EACL 2023, arXiv:2210.07558, Table 2.
pub fn rank_curves(caption: Caption, tasks: &[TaskCurves]) -> Figure {
    // All of a few ranks, or doublings of many.
    let few = tasks.iter().flat_map(|task| &task.curves).flat_map(|curve| &curve.points).all(|point| point.0 <= 16.0);
    figure(caption, tasks, "rank", if few { &Scale::Integer } else { &Scale::Log2 }, Look::Line)
}

/// A metric against the training step, with bands.
pub fn training_curves(caption: Caption, tasks: &[TaskCurves]) -> Figure {
    figure(caption, tasks, "step", &Scale::Integer, Look::Band)
}

/// A metric of a task against the number of tasks that were trained in sequence, from the task itself on.
pub fn sequence_curves(caption: Caption, tasks: &[TaskCurves]) -> Figure {
    figure(caption, tasks, "tasks trained", &Scale::Integer, Look::Line)
}

/// A score against a tuned number, such as the learning rate, on a logarithmic axis.
pub fn sensitivity(caption: Caption, tasks: &[TaskCurves], label: &str) -> Figure {
    figure(caption, tasks, label, &Scale::Log10, Look::Line)
}

/// The expected best score against the number of settings that are tried.
///
/// Dodge et al., *Show Your Work*, EMNLP 2019, figure 1.
pub fn expected_best(caption: Caption, tasks: &[TaskCurves]) -> Figure {
    figure(caption, tasks, "settings", &Scale::Integer, Look::Line)
}

fn figure(caption: Caption, tasks: &[TaskCurves], label: &str, scale: &Scale, look: Look) -> Figure {
    let Caption { title, n, notes } = caption;
    let panels: Vec<Panel> = tasks
        .iter()
        .map(|task| Panel {
            title: task.task.clone(),
            remark: String::new(),
            x: axis(label, "", scale.clone()),
            y: axis(&task.metric, &task.unit, Scale::Linear),
            content: Content::Chart(Chart {
                series: task.curves.iter().map(|curve| series(curve, look)).collect(),
                colour: None,
            }),
        })
        .collect();
    let (width, columns, aspect) = match panels.len() {
        0 | 1 => (Width::Column, 1, 0.7),
        2 | 4 => (Width::Text, 2, 0.6),
        _ => (Width::Text, 3, 0.85),
    };
    Figure { title, width, columns, aspect, panels, n, notes }
}

fn series(curve: &Curve, look: Look) -> Series {
    let point = |&(x, Measured { value, interval }): &(f64, Measured)| Point { x, y: value, interval, shade: None };
    Series { name: curve.name.clone(), look, points: curve.points.iter().map(point).collect() }
}
