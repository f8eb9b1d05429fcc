//! Dots with whiskers: overlap of seeds by layer, and variants against each other.

use super::super::{Axis, Chart, Content, Figure, Look, Panel, Point, Scale, Series, Width};
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
///
/// In deep models every map has its own panel, on one scale.
pub fn seed_overlap(caption: Caption, label: &str, layers: &[String], maps: &[Overlap], random: Option<f64>) -> Figure {
    let Caption { title, n, notes } = caption;
    let deep = layers.len() * maps.len() > 48;
    let range = if deep { common_range(maps, random) } else { None };
    let panel = |title: &str, maps: &[Overlap]| {
        let mut series: Vec<Series> = maps.iter().map(dots).collect();
        if let Some(random) = random {
            let last = layers.len().saturating_sub(1) as f64;
            let points = vec![Point::new(0.0, random), Point::new(last, random)];
            series.push(Series { name: "random subspaces".to_owned(), look: Look::Reference, points });
        }
        Panel {
            title: title.to_owned(),
            remark: String::new(),
            x: axis("layer", "", Scale::Names(layers.to_vec())),
            y: Axis { range, ..axis(label, "", Scale::Linear) },
            content: Content::Chart(Chart { series, colour: None }),
        }
    };
    let panels = if deep {
        maps.iter().map(|map| panel(&map.map, std::slice::from_ref(map))).collect()
    } else {
        vec![panel("", maps)]
    };
    let (width, aspect) = match layers.len() * maps.len() {
        0..=24 => (Width::Column, 0.62),
        25..=48 => (Width::Text, 0.35),
        _ => (Width::Text, 0.2),
    };
    Figure { title, width, columns: 1, aspect, panels, n, notes }
}

fn dots(map: &Overlap) -> Series {
    let point = |(layer, measured): (usize, &Option<Measured>)| {
        let Measured { value, interval } = (*measured)?;
        Some(Point { x: layer as f64, y: value, interval, shade: None })
    };
    Series {
        name: map.map.clone(),
        look: Look::Dots,
        points: map.layers.iter().enumerate().filter_map(point).collect(),
    }
}

/// Holds every value and interval with a little room; none where there is no extent.
fn common_range(maps: &[Overlap], random: Option<f64>) -> Option<[f64; 2]> {
    let measured = || maps.iter().flat_map(|map| &map.layers).flatten();
    let ends = measured().flat_map(|measured| measured.interval.unwrap_or([measured.value; 2]));
    let values: Vec<f64> = ends.chain(measured().map(|measured| measured.value)).chain(random).collect();
    let (low, high) = (
        values.iter().copied().fold(f64::INFINITY, f64::min),
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    );
    let room = 0.06 * (high - low);
    (room > 0.0).then_some([low - room, high + room])
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
