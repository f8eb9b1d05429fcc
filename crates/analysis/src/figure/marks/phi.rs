//! Subspace similarity as colours: LoRA Figs. 3 and 4, the heat maps of all layers, and App. H.3.
//!
//! Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022, arXiv:2106.09685.

use super::super::{Axis, ColourScale, Content, Figure, Heatmap, Matrix, Panel, Scale, Width};
use super::{Caption, axis};

/// `φ(i, j)` of one pair of subspaces.
#[derive(Clone, Debug, PartialEq)]
pub struct PhiMap {
    /// The map, layer or pair.
    pub title: String,
    /// `φ`, `[i, j]`, from `i = j = 1`; undefined beyond the numerical rank, flagged inside a cluster of singular values.
    pub phi: Matrix,
}

/// LoRA Fig. 3: every map in full, and again its first `zoom` rows and columns.
///
/// `labels` name `i` and `j`, such as `i (r = 8)` and `j (r = 64)`; `top` is the value of the brightest colour.
pub fn phi_ranks(caption: Caption, maps: &[PhiMap], labels: [&str; 2], zoom: usize, top: f64) -> Figure {
    let full = maps.iter().map(|map| panel(map.title.clone(), map.phi.clone(), labels, top));
    let zoomed =
        maps.iter().map(|map| panel(format!("{}, i, j ≤ {zoom}", map.title), map.phi.corner(zoom, zoom), labels, top));
    figure(caption, full.chain(zoomed).collect(), if maps.len() > 2 { maps.len() } else { 2 * maps.len() }, 1.0)
}

/// LoRA Fig. 4: two seeds of every map and a random pair beside each other. Also App. H.3, between `W` and `ΔW`.
pub fn phi_seeds(caption: Caption, maps: &[PhiMap], labels: [&str; 2], top: f64) -> Figure {
    figure(
        caption,
        maps.iter().map(|map| panel(map.title.clone(), map.phi.clone(), labels, top)).collect(),
        maps.len().min(4),
        1.0,
    )
}

/// One small heat map per layer and map, `columns` beside each other.
pub fn phi_grid(caption: Caption, maps: &[PhiMap], labels: [&str; 2], columns: usize, top: f64) -> Figure {
    let panels = maps.iter().map(|map| panel(map.title.clone(), map.phi.clone(), labels, top)).collect();
    Figure { aspect: 0.75, ..figure(caption, panels, columns, 0.75) }
}

fn figure(caption: Caption, panels: Vec<Panel>, columns: usize, aspect: f64) -> Figure {
    let Caption { title, n, notes } = caption;
    let width = if columns == 1 { Width::Column } else { Width::Text };
    Figure { title, width, columns, aspect, panels, n, notes }
}

fn panel(title: String, matrix: Matrix, [i, j]: [&str; 2], top: f64) -> Panel {
    let colour = ColourScale { label: "φ(i, j)".to_owned(), unit: String::new(), range: [0.0, top] };
    Panel {
        title,
        remark: String::new(),
        x: index(j),
        y: index(i),
        content: Content::Heatmap(Heatmap { matrix, colour }),
    }
}

fn index(label: &str) -> Axis {
    axis(label, "", Scale::Index)
}
