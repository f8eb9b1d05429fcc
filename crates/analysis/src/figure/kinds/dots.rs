//! Dots with whiskers: overlap of seeds by layer, and variants against each other.

use super::super::{Chart, Content, Figure, Look, Panel, Point, Scale, Series, Width};
use super::{Caption, Measured, axis};

/// Overlap of one map over the layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlap {
    /// The map.
    pub map: String,
    /// One per layer; none where it is not defined.
    pub layers: Vec<Option<Measured>>,
}

/// Overlap of seeds for every layer and map. `label` names the measure; `random` is its value for random subspaces.
pub fn seed_overlap(caption: Caption, label: &str, layers: &[String], maps: &[Overlap], random: Option<f64>) -> Figure {
    let Caption { title, n, notes } = caption;
    let last = layers.len().saturating_sub(1) as f64;
    let mut series: Vec<Series> = maps
        .iter()
        .map(|map| Series {
            name: map.map.clone(),
            look: Look::Dots,
            points: map
                .layers
                .iter()
                .enumerate()
                .filter_map(|(layer, measured)| {
                    let Measured { value, interval } = (*measured)?;
                    Some(Point { x: layer as f64, y: value, interval, shade: None })
                })
                .collect(),
        })
        .collect();
    if let Some(random) = random {
        let points = vec![Point::new(0.0, random), Point::new(last, random)];
        series.push(Series { name: "random subspaces".to_owned(), look: Look::Reference, points });
    }
    let crowded = layers.len() * maps.len() > 24;
    let panel = Panel {
        title: String::new(),
        remark: String::new(),
        x: axis("layer", "", Scale::Names(layers.to_vec())),
        y: axis(label, "", Scale::Linear),
        content: Content::Chart(Chart { series, colour: None }),
    };
    let (width, aspect) = if crowded { (Width::Text, 0.35) } else { (Width::Column, 0.62) };
    Figure { title, width, columns: 1, aspect, panels: vec![panel], n, notes }
}

/// Means of the variants on one task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskMeans {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: String,
    /// Its unit; empty where there is none.
    pub unit: String,
    /// One per variant; none where it was not run.
    pub means: Vec<Option<Measured>>,
}

/// Every variant's mean and interval, one panel per task; a line marks the mean of the variant `baseline`.
pub fn comparison(caption: Caption, variants: &[String], tasks: &[TaskMeans], baseline: Option<usize>) -> Figure {
    let Caption { title, n, notes } = caption;
    let last = variants.len().saturating_sub(1) as f64;
    let panels: Vec<Panel> = tasks
        .iter()
        .map(|task| {
            let points = task.means.iter().enumerate().filter_map(|(row, mean)| {
                let Measured { value, interval } = (*mean)?;
                Some(Point { x: value, y: row as f64, interval, shade: None })
            });
            let mut series = vec![Series { name: String::new(), look: Look::Dots, points: points.collect() }];
            let mean = baseline.and_then(|row| Some((row, (*task.means.get(row)?)?)));
            if let Some((row, mean)) = mean {
                let name = format!("mean of {}", variants.get(row).map_or("the baseline", String::as_str));
                let points = vec![Point::new(mean.value, 0.0), Point::new(mean.value, last)];
                series.push(Series { name, look: Look::Reference, points });
            }
            Panel {
                title: task.task.clone(),
                remark: String::new(),
                x: axis(&task.metric, &task.unit, Scale::Linear),
                y: axis("", "", Scale::Names(variants.to_vec())),
                content: Content::Chart(Chart { series, colour: None }),
            }
        })
        .collect();
    let columns = panels.len().clamp(1, 3);
    let width = if columns == 1 { Width::Column } else { Width::Text };
    Figure { title, width, columns, aspect: 0.7, panels, n, notes }
}
