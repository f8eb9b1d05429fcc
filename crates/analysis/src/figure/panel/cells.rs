//! The cells of a heatmap.

use super::super::Heatmap;
use super::super::colour::{Colour, UNDEFINED, WHITE};
use super::super::scene::{Rect, Scene};
use super::Frame;
use super::marker::polygon;

pub(super) fn cells(scene: &mut Scene, heat: &Heatmap, frame: &Frame) {
    let matrix = &heat.matrix;
    let rect = |place: usize| {
        let (row, column) = ((place / matrix.columns) as f64, (place % matrix.columns) as f64);
        let (rows, columns) = (matrix.rows as f64, matrix.columns as f64);
        Rect {
            left: frame.at_x(column / columns),
            right: frame.at_x((column + 1.0) / columns),
            top: frame.at_y(row / rows),
            bottom: frame.at_y((row + 1.0) / rows),
        }
    };
    scene.rect(frame.area, UNDEFINED);
    // In order of colour, so that cells of one colour are one path.
    let mut filled: Vec<(Colour, usize)> = matrix
        .values
        .iter()
        .enumerate()
        .filter_map(|(place, value)| Some((heat.colour.colour((*value)?), place)))
        .collect();
    filled.sort_unstable();
    for (colour, place) in filled {
        scene.rect(rect(place), colour);
    }
    for (place, value) in matrix.values.iter().enumerate() {
        if value.is_none() {
            hatch(scene, rect(place));
        }
    }
    for (place, value) in matrix.values.iter().enumerate() {
        if let (Some(value), Some(true)) = (value, matrix.flags.get(place)) {
            flag(scene, rect(place), contrast(heat.colour.colour(*value)));
        }
    }
}

/// Diagonals from lower left to upper right, 3 pt apart on the whole canvas, so that neighbours join.
pub(in super::super) fn hatch(scene: &mut Scene, rect: Rect) {
    let first = ((rect.left + rect.top) / 3.0).ceil() as i64;
    let last = ((rect.right + rect.bottom) / 3.0).floor() as i64;
    for index in first..=last {
        let sum = index as f64 * 3.0;
        let (left, right) = (rect.left.max(sum - rect.bottom), rect.right.min(sum - rect.top));
        if right - left > 0.05 {
            scene.line(vec![[left, sum - left], [right, sum - right]], [150, 150, 150], 0.5);
        }
    }
}

/// A dot in the middle of a cell.
pub(in super::super) fn flag(scene: &mut Scene, rect: Rect, colour: Colour) {
    let radius = (0.22 * rect.width().min(rect.height())).clamp(0.4, 1.4);
    let middle = [f64::midpoint(rect.left, rect.right), f64::midpoint(rect.top, rect.bottom)];
    scene.fill(polygon(middle, radius, 12, 0.0), colour, 1.0);
}

/// Black on bright colours, white on dark ones.
fn contrast([r, g, b]: Colour) -> Colour {
    let light = 0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b);
    if light > 110.0 { [0, 0, 0] } else { WHITE }
}
