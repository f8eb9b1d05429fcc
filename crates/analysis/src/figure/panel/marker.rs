//! Markers, whiskers and bands: what stands for a point and its interval.

use super::super::colour::{Colour, WHITE};
use super::super::font::Ring;
use super::super::scene::{Rect, Scene};
use super::super::{Point, Series};

/// Width of whiskers.
pub(super) const WHISKER: f64 = 0.7;
/// Radius of a marker.
const RADIUS: f64 = 2.1;
/// Opacity of bands.
pub(super) const BAND: f64 = 0.18;

/// The interval of a point on the canvas.
pub(super) type Ends<'a> = &'a dyn Fn(&Point) -> Option<[[f64; 2]; 2]>;

/// The intervals of a series as one area.
pub(super) fn band(scene: &mut Scene, series: &Series, ends: Ends<'_>, (colour, opacity): (Colour, f64)) {
    // A point without interval ends a band; one alone is a whisker.
    let mut parts: Vec<Vec<[[f64; 2]; 2]>> = vec![vec![]];
    for point in &series.points {
        match (ends(point), parts.last_mut()) {
            (Some(pair), Some(part)) => part.push(pair),
            _ => parts.push(vec![]),
        }
    }
    for part in parts {
        match part[..] {
            [] => {}
            [[low, high]] => whisker(scene, low, high, colour),
            _ => {
                let low = part.iter().map(|pair| pair[0]);
                let high = part.iter().rev().map(|pair| pair[1]);
                scene.fill(low.chain(high).collect(), colour, opacity);
            }
        }
    }
}

pub(super) fn whisker(scene: &mut Scene, low: [f64; 2], high: [f64; 2], colour: Colour) {
    let cap = 1.5;
    let (dx, dy) = if low[0] == high[0] { (cap, 0.0) } else { (0.0, cap) };
    scene.line(vec![low, high], colour, WHISKER);
    for [x, y] in [low, high] {
        scene.line(vec![[x - dx, y - dy], [x + dx, y + dy]], colour, WHISKER);
    }
}

/// Eight shapes of about the same weight.
fn shape(at: [f64; 2], index: usize) -> Ring {
    match index % 8 {
        0 => polygon(at, RADIUS, 16, 0.0),
        1 => polygon(at, RADIUS * 1.2, 4, 0.125),
        2 => polygon(at, RADIUS * 1.3, 3, 0.25),
        3 => polygon(at, RADIUS * 1.25, 4, 0.0),
        4 => polygon(at, RADIUS * 1.3, 3, 0.75),
        5 => polygon(at, RADIUS * 1.15, 5, 0.25),
        6 => star(at, RADIUS * 1.5, 4),
        _ => star(at, RADIUS * 1.5, 5),
    }
}

/// With a white rim, so that it stays visible on lines and bands.
pub(super) fn marker(scene: &mut Scene, at: [f64; 2], index: usize, colour: Colour) {
    let ring = shape(at, index);
    outline(scene, &ring, WHITE, 0.8);
    scene.fill(ring, colour, 1.0);
}

/// Smaller, with a dark rim: bright shades are faint on white.
pub(super) fn shaded(scene: &mut Scene, at: [f64; 2], index: usize, colour: Colour) {
    let ring: Ring =
        shape(at, index).iter().map(|[x, y]| [at[0] + 0.85 * (x - at[0]), at[1] + 0.85 * (y - at[1])]).collect();
    scene.fill(ring.clone(), colour, 1.0);
    outline(scene, &ring, [70, 70, 70], 0.5);
}

fn outline(scene: &mut Scene, ring: &Ring, colour: Colour, width: f64) {
    scene.line(ring.iter().chain(ring.iter().take(2)).copied().collect(), colour, width);
}

pub(super) fn corners(rect: Rect) -> Ring {
    vec![[rect.left, rect.top], [rect.right, rect.top], [rect.right, rect.bottom], [rect.left, rect.bottom]]
}

/// A regular polygon; `turn` is the first corner's direction in turns, anticlockwise from the right.
pub(in super::super) fn polygon(at: [f64; 2], radius: f64, sides: usize, turn: f64) -> Ring {
    (0..sides).map(|side| corner(at, radius, turn + side as f64 / sides as f64)).collect()
}

fn star(at: [f64; 2], radius: f64, tips: usize) -> Ring {
    (0..2 * tips)
        .map(|index| {
            corner(at, if index % 2 == 0 { radius } else { 0.42 * radius }, 0.25 + index as f64 / (2 * tips) as f64)
        })
        .collect()
}

fn corner([x, y]: [f64; 2], radius: f64, turns: f64) -> [f64; 2] {
    let angle = turns * std::f64::consts::TAU;
    [x + radius * libm::cos(angle), y - radius * libm::sin(angle)]
}
