//! LoRA Table 7 as bars: how much of `W` lies in the directions of `ΔW`, and how much these are amplified.
//!
//! Hu et al., ICLR 2022, arXiv:2106.09685, Table 7 and App. H.4.

use super::super::{Chart, Content, Figure, Look, Panel, Point, Scale, Series, Width};
use super::{Caption, Measured, axis};

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct AmplificationRow {
    /// Map, layer and rank, such as `W_{q}, r = 4`.
    pub name: String,
    /// `‖Uᵀ W V‖_F` for the singular directions of `ΔW`, of `W` itself, and of a random matrix.
    pub projections: [Measured; 3],
    /// `‖ΔW‖_F / ‖Uᵀ W V‖_F` with the directions of `ΔW`.
    pub amplification: Measured,
}

/// The three projections on a logarithmic axis, as they differ by orders of magnitude, and the amplification.
pub fn amplification(caption: Caption, rows: &[AmplificationRow]) -> Figure {
    let Caption { title, n, notes } = caption;
    let names = Scale::Names(rows.iter().map(|row| row.name.clone()).collect());
    let points = |pick: &dyn Fn(&AmplificationRow) -> Measured| {
        rows.iter()
            .enumerate()
            .map(|(index, row)| {
                let Measured { value, interval } = pick(row);
                Point { x: index as f64, y: value, interval, shade: None }
            })
            .collect()
    };
    let series = |name: &str, points| Series { name: name.to_owned(), look: Look::Bars, points };
    let projections = ["directions of ΔW", "directions of W", "random directions"];
    let panel = |title: &str, label: &str, scale, series| Panel {
        title: title.to_owned(),
        remark: String::new(),
        x: axis("", "", names.clone()),
        y: axis(label, "", scale),
        content: Content::Chart(Chart { series, colour: None }),
    };
    let projected = projections
        .iter()
        .enumerate()
        .map(|(index, name)| series(name, points(&|row| row.projections[index])))
        .collect();
    let panels = vec![
        panel("projection of W", "‖U^{T}WV‖_{F}", Scale::Log10, projected),
        panel(
            "amplification",
            "‖ΔW‖_{F} / ‖U^{T}WV‖_{F}",
            Scale::Linear,
            vec![series(projections[0], points(&|row| row.amplification))],
        ),
    ];
    Figure { title, width: Width::Text, columns: 2, aspect: 0.6, panels, n, notes }
}
