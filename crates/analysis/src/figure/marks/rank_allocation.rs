//! AdaLoRA: the rank that every map is left with, and the budget on the way there.
//!
//! Zhang et al., *AdaLoRA*, ICLR 2023, arXiv:2303.10512, Fig. 3 and Eq. 12.

use super::super::{Chart, ColourScale, Content, Figure, Heatmap, Look, Matrix, Panel, Point, Scale, Series, Width};
use super::{Caption, axis};

/// Final ranks of maps by layers, `[maps, layers]`, their spread over seeds, and the budget as `(step, total rank)`.
///
/// `schedule` is the planned budget; `measured` what the runs kept, one line per seed or one for all.
pub fn rank_allocation(
    caption: Caption,
    [maps, layers]: [&[String]; 2],
    ranks: &Matrix,
    spread: Option<&Matrix>,
    schedule: &[(f64, f64)],
    measured: &[(String, Vec<(f64, f64)>)],
) -> Figure {
    let Caption { title, n, notes } = caption;
    let heat = |title: &str, label: &str, matrix: &Matrix| Panel {
        title: title.to_owned(),
        remark: String::new(),
        x: axis("layer", "", Scale::Names(layers.to_vec())),
        y: axis("", "", Scale::Names(maps.to_vec())),
        content: Content::Heatmap(Heatmap { matrix: matrix.clone(), colour: from_zero(label, matrix) }),
    };
    let line = |name: &str, look, points: &[(f64, f64)]| Series {
        name: name.to_owned(),
        look,
        points: points.iter().map(|&(x, y)| Point::new(x, y)).collect(),
    };
    let mut panels = vec![heat("final rank", "rank", ranks)];
    panels.extend(spread.map(|spread| heat("spread over seeds", "standard deviation", spread)));
    let mut series: Vec<Series> = measured.iter().map(|(name, points)| line(name, Look::Band, points)).collect();
    if !schedule.is_empty() {
        series.push(line("schedule", Look::Reference, schedule));
    }
    if !series.is_empty() {
        panels.push(Panel {
            title: "budget".to_owned(),
            remark: String::new(),
            x: axis("step", "", Scale::Integer),
            y: axis("total rank", "", Scale::Linear),
            content: Content::Chart(Chart { series, colour: None }),
        });
    }
    // Deep models get the whole width for each panel.
    let (columns, aspect) = if layers.len() > 24 { (1, 0.22) } else { (panels.len(), 0.8) };
    Figure { title, width: Width::Text, columns, aspect, panels, n, notes }
}

/// From zero to the largest value.
fn from_zero(label: &str, matrix: &Matrix) -> ColourScale {
    let largest = matrix.values.iter().flatten().copied().fold(0.0, f64::max);
    let top = if largest > 0.0 { largest } else { 1.0 };
    ColourScale { label: label.to_owned(), unit: String::new(), range: [0.0, top] }
}
