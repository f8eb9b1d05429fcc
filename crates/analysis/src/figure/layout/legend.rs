//! The legend: every name once, with a sample of its look.

use super::super::colour::{GREY, UNDEFINED, viridis};
use super::super::font::{Fonts, Weight};
use super::super::panel::{self, SMALL, Styles};
use super::super::scene::{Anchor, Rect, Scene, Text};
use super::super::{Content, Figure, Look, Series};
use super::{LEADING, MARGIN};

/// Between entries of the legend.
const BETWEEN: f64 = 12.0;

/// An entry of the legend.
enum Key<'a> {
    Series(&'a Series),
    Undefined,
    Flagged,
}

/// Entries in one line or, where they need more, in columns; returns where they end.
pub(super) fn legend(scene: &mut Scene, fonts: &Fonts, figure: &Figure, y: f64) -> f64 {
    let styles = Styles::of(figure);
    let room = scene.width - 2.0 * MARGIN;
    let entries: Vec<(Vec<String>, f64, Key)> = keys(figure)
        .into_iter()
        .map(|(name, key)| {
            let sample = key.sample() + 4.0;
            let lines = fonts.wrap(name, Weight::Regular, SMALL, room - sample);
            let widest = lines.iter().map(|line| fonts.width(line, Weight::Regular, SMALL)).fold(0.0, f64::max);
            (lines, sample + widest + BETWEEN, key)
        })
        .collect();
    let total: f64 = entries.iter().map(|entry| entry.1).sum();
    let column = entries.iter().map(|entry| entry.1).fold(0.0, f64::max);
    let columns = if total - BETWEEN <= room { entries.len() } else { (((room + BETWEEN) / column) as usize).max(1) };
    let mut y = y;
    for line in entries.chunks(columns.max(1)) {
        let mut x = MARGIN;
        for (text, width, key) in line {
            entry(scene, fonts, &styles, text, key, [x, y]);
            x += if columns == entries.len() { *width } else { column };
        }
        y += LEADING * SMALL * line.iter().map(|entry| entry.0.len()).max().unwrap_or(0) as f64 + 2.0;
    }
    if entries.is_empty() { y } else { y + 2.0 }
}

/// A sample and what it stands for, from the upper left corner.
fn entry(scene: &mut Scene, fonts: &Fonts, styles: &Styles, lines: &[String], key: &Key, [x, y]: [f64; 2]) {
    let middle = y + 0.5 * LEADING * SMALL;
    let cell = Rect { left: x, top: middle - 3.5, right: x + key.sample(), bottom: middle + 3.5 };
    match key {
        Key::Series(series) => styles.sample(scene, series, [x, middle], key.sample()),
        Key::Undefined => {
            scene.rect(cell, UNDEFINED);
            panel::hatch(scene, cell);
            scene.frame(cell, GREY, 0.5);
        }
        Key::Flagged => {
            scene.rect(cell, viridis(0.55));
            panel::flag(scene, cell, [0, 0, 0]);
            scene.frame(cell, GREY, 0.5);
        }
    }
    for (index, line) in lines.iter().enumerate() {
        let at = [x + key.sample() + 4.0, middle + 0.36 * SMALL + index as f64 * LEADING * SMALL];
        scene.text(fonts, Text::new(line, at, SMALL, Anchor::Start));
    }
}

impl Key<'_> {
    /// Width of the sample.
    fn sample(&self) -> f64 {
        match self {
            Self::Series(series) => match series.look {
                Look::Dots => 6.0,
                Look::Bars => 9.0,
                _ => 18.0,
            },
            Self::Undefined | Self::Flagged => 11.0,
        }
    }
}

/// Every name once, in order of appearance.
fn keys(figure: &Figure) -> Vec<(&str, Key<'_>)> {
    let mut keys: Vec<(&str, Key)> = vec![];
    let (mut undefined, mut flagged) = (false, false);
    for panel in &figure.panels {
        match &panel.content {
            Content::Chart(chart) => {
                for series in &chart.series {
                    if !series.name.is_empty() && !keys.iter().any(|(name, _)| *name == series.name) {
                        keys.push((&series.name, Key::Series(series)));
                    }
                }
            }
            Content::Heatmap(heat) => {
                undefined |= heat.matrix.values.iter().any(Option::is_none);
                flagged |= heat.matrix.flags.contains(&true);
            }
        }
    }
    if undefined {
        keys.push(("undefined", Key::Undefined));
    }
    if flagged {
        keys.push(("cut inside a cluster of singular values", Key::Flagged));
    }
    // Data first, then what they are compared with.
    keys.sort_by_key(|(_, key)| match key {
        Key::Series(series) => match series.look {
            Look::Fit => 1,
            Look::Reference => 2,
            _ => 0,
        },
        Key::Undefined | Key::Flagged => 3,
    });
    keys
}
