//! DoRA: how far magnitudes and directions of columns move, against each other.
//!
//! Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation*, ICML 2024, arXiv:2402.09353, Fig. 2 and Eqs. 3 and 4.

use super::super::{Chart, ColourScale, Content, Figure, Look, Panel, Point, Scale, Series, Width};
use super::{Caption, axis};

/// A least-squares line `ΔM = intercept + slope · ΔD`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Of the line.
    pub slope: f64,
    /// At `ΔD = 0`.
    pub intercept: f64,
    /// Pearson's correlation.
    pub correlation: f64,
}

/// What one method did.
#[derive(Clone, Debug, PartialEq)]
pub struct Dynamics {
    /// The method.
    pub method: String,
    /// `(ΔD, ΔM, step)` of a map at a checkpoint.
    pub points: Vec<(f64, f64, f64)>,
    /// Over these points; none where it is not defined.
    pub fit: Option<Fit>,
}

/// `ΔM` against `ΔD`, one panel per method, the training step as colour, the correlation under the title.
pub fn dynamics(caption: Caption, methods: &[Dynamics]) -> Figure {
    let Caption { title, n, notes } = caption;
    let steps = || methods.iter().flat_map(|method| &method.points).map(|point| point.2);
    let (first, last) = (steps().fold(f64::INFINITY, f64::min), steps().fold(f64::NEG_INFINITY, f64::max));
    let range = if first < last { [first, last] } else { [first - 1.0, first + 1.0] };
    let colour = ColourScale { label: "step".to_owned(), unit: String::new(), range };
    let panels = methods.iter().map(|method| panel(method, &colour)).collect();
    let columns = methods.len().clamp(1, 3);
    let width = if columns == 1 { Width::Column } else { Width::Text };
    Figure { title, width, columns, aspect: 0.85, panels, n, notes }
}

fn panel(method: &Dynamics, colour: &ColourScale) -> Panel {
    let points: Vec<Point> =
        method.points.iter().map(|&(x, y, step)| Point { x, y, interval: None, shade: Some(step) }).collect();
    let ends = |fold: fn(f64, f64) -> f64, start| method.points.iter().map(|point| point.0).fold(start, fold);
    let ends = [ends(f64::min, f64::INFINITY), ends(f64::max, f64::NEG_INFINITY)];
    let count = points.len();
    let mut series = vec![Series { name: String::new(), look: Look::Dots, points }];
    if let Some(fit) = method.fit {
        let points = ends.map(|x| Point::new(x, fit.intercept + fit.slope * x)).to_vec();
        series.push(Series { name: "least squares".to_owned(), look: Look::Fit, points });
    }
    let count = if count == 1 { "1 point".to_owned() } else { format!("{count} points") };
    let remark = match method.fit {
        Some(Fit { correlation, .. }) => {
            let sign = if correlation < 0.0 { "−" } else { "+" };
            format!("correlation {sign}{:.2}, {count}", correlation.abs())
        }
        None => count,
    };
    Panel {
        title: method.method.clone(),
        remark,
        x: axis("ΔD", "", Scale::Linear),
        y: axis("ΔM", "", Scale::Linear),
        content: Content::Chart(Chart { series, colour: Some(colour.clone()) }),
    }
}
