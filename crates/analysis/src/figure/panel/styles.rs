//! The look of every name in a figure: colour, dashes and marker, the same in every panel and in the legend.

use super::super::colour::{Colour, GREY, INK, SERIES};
use super::super::scene::{Rect, Scene};
use super::super::{Content, Figure, Look, Series};
use super::LINE;
use super::bars::bar;
use super::marker::{BAND, WHISKER, corners, marker};

const DASHES: [&[f64]; 5] = [&[], &[4.0, 1.6], &[1.2, 1.4], &[5.0, 1.4, 1.2, 1.4], &[8.0, 2.0]];
const REFERENCES: [&[f64]; 3] = [&[3.0, 2.0], &[1.0, 1.5], &[6.0, 1.5, 1.0, 1.5]];

/// The look of every name: its index among the named series, in order of appearance; references count apart.
#[derive(Debug, Default)]
pub(in super::super) struct Styles {
    named: Vec<String>,
    references: Vec<String>,
}

impl Styles {
    pub(in super::super) fn of(figure: &Figure) -> Self {
        let mut styles = Self::default();
        for panel in &figure.panels {
            let Content::Chart(chart) = &panel.content else { continue };
            for series in &chart.series {
                let list = match series.look {
                    Look::Reference => &mut styles.references,
                    Look::Fit => continue,
                    _ => &mut styles.named,
                };
                if !list.contains(&series.name) {
                    list.push(series.name.clone());
                }
            }
        }
        styles
    }

    pub(super) fn index(&self, name: &str) -> usize {
        self.named.iter().position(|other| other == name).unwrap_or(0)
    }

    pub(super) fn pattern(&self, series: &Series) -> &'static [f64] {
        match series.look {
            Look::Reference => {
                let index = self.references.iter().position(|other| *other == series.name).unwrap_or(0);
                REFERENCES[index % REFERENCES.len()]
            }
            Look::Fit => &[],
            _ => DASHES[self.index(&series.name) % DASHES.len()],
        }
    }

    pub(super) fn colour(&self, series: &Series) -> Colour {
        match series.look {
            Look::Reference => GREY,
            Look::Fit => INK,
            _ => SERIES[self.index(&series.name) % SERIES.len()],
        }
    }

    /// A sample of the series for the legend, `width` wide, its middle at `y`.
    pub(in super::super) fn sample(&self, scene: &mut Scene, series: &Series, [x, y]: [f64; 2], width: f64) {
        let colour = self.colour(series);
        let middle = [x + width / 2.0, y];
        if series.look == Look::Bars {
            bar(
                scene,
                Rect { left: middle[0] - 4.0, top: y - 3.0, right: middle[0] + 4.0, bottom: y + 3.0 },
                colour,
                self.index(&series.name),
            );
            return;
        }
        if series.look != Look::Dots {
            if series.look == Look::Band && series.points.iter().any(|point| point.interval.is_some()) {
                scene.fill(corners(Rect { left: x, top: y - 3.0, right: x + width, bottom: y + 3.0 }), colour, BAND);
            }
            let thick = if series.look == Look::Fit { WHISKER } else { LINE };
            scene.dashed(&vec![[x, y], [x + width, y]], colour, thick, self.pattern(series));
        }
        if !matches!(series.look, Look::Reference | Look::Fit) {
            let shaded = series.points.iter().any(|point| point.shade.is_some());
            marker(scene, middle, self.index(&series.name), if shaded { GREY } else { colour });
        }
    }
}
