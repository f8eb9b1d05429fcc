//! Layout: where the panels, axes, legends, colour bars and notes of a figure go.
//!
//! From top to bottom: title, legend, rows of panels, `n` and notes. What surrounds a panel (title, ticks, labels, colour bar) is measured
//! first; the data areas of all panels get the same size from what is left of the width. Panels whose axes agree share ticks and
//! labels with their neighbours.

mod around;
mod axis;
mod colour_bar;
mod legend;

use self::{
    around::{Around, Room},
    axis::Ticks,
    colour_bar::{BAR, BAR_GAP, bar_ticks, bar_width, colour_bar},
    legend::legend,
};
use super::colour::{Colour, INK};
use super::font::{Fonts, Weight};
use super::panel::{self, Frame, SMALL, Styles, sideways, spans};
use super::raster::DOT;
use super::scene::{Anchor, Rect, Scene, Text};
use super::{ColourScale, Content, Figure, FigureError, Panel, Width};

const TITLE: f64 = 9.0;
const PANEL_TITLE: f64 = 8.0;
const LABEL: f64 = 8.0;
/// Lines of text are this far apart, in sizes.
const LEADING: f64 = 1.25;
/// Height of the line's highest letter above its baseline, in sizes.
const ASCENT: f64 = 0.78;
/// Around the whole figure.
const MARGIN: f64 = 4.0;
/// Between neighbouring panels.
const GAP: f64 = 10.0;
/// Length of ticks.
const TICK: f64 = 2.5;
/// A page: 9 in.
const TALLEST: f64 = 648.0;
const LONGEST_BAR: f64 = 150.0;
/// Under a figure whose intervals go beyond what is possible.
const CUT: &str = "Intervals are drawn up to what the metric can be; the CSV has them whole.";
/// Of the data area's width and height: less is illegible.
const SMALLEST: f64 = 34.0;

/// Places everything and draws it.
pub(super) fn layout(figure: &Figure) -> Result<Scene, FigureError> {
    let fonts = Fonts::load();
    let width = match figure.width {
        Width::Column => 237.6,
        Width::Text => 496.8,
    };
    let grid = Grid::measure(figure, &fonts, width)?;
    let mut scene = Scene { width, height: 0.0, shapes: vec![], texts: vec![] };
    let mut y = MARGIN;
    y = paragraph(&mut scene, &fonts, &figure.title, (TITLE, Weight::Bold), INK, y);
    y = legend(&mut scene, &fonts, figure, y);
    y = grid.draw(&mut scene, &fonts, figure, y);
    y += 1.0;
    let cut = figure.is_cut().then(|| CUT.to_owned());
    for note in std::iter::once(&figure.n).chain(&figure.notes).chain(&cut) {
        y = paragraph(&mut scene, &fonts, note, (SMALL, Weight::Regular), INK, y);
    }
    scene.height = ((y + MARGIN) / DOT).ceil() * DOT;
    if scene.height > TALLEST {
        return Err(FigureError::NoRoom {
            place: "figure".to_owned(),
            what: "the rows of panels",
            needed: scene.height,
            room: TALLEST,
            way: "put more panels beside each other, or split the figure",
        });
    }
    Ok(scene)
}

/// Text over the whole width; returns where it ends.
fn paragraph(
    scene: &mut Scene,
    fonts: &Fonts,
    text: &str,
    (size, weight): (f64, Weight),
    colour: Colour,
    y: f64,
) -> f64 {
    let lines = fonts.wrap(text, weight, size, scene.width - 2.0 * MARGIN);
    let mut y = y;
    for line in &lines {
        let at = [MARGIN, y + ASCENT * size];
        scene.text(fonts, Text { weight, colour, ..Text::new(line, at, size, Anchor::Start) });
        y += LEADING * size;
    }
    if lines.is_empty() { y } else { y + 2.0 }
}

/// The measured grid of panels.
struct Grid {
    columns: usize,
    plot: [f64; 2],
    around: Vec<Around>,
    left: Vec<f64>,
    right: Vec<f64>,
    above: Vec<f64>,
    below: Vec<f64>,
    /// The one colour bar of all panels.
    bar: Option<Ticks>,
}

impl Grid {
    /// Widths depend on ticks and ticks on widths: measured until what is reserved suffices.
    fn measure(figure: &Figure, fonts: &Fonts, width: f64) -> Result<Self, FigureError> {
        let columns = figure.columns.min(figure.panels.len());
        let rows = figure.panels.len().div_ceil(columns);
        let shared = shared_colour(figure);
        let mut left = vec![0.0_f64; columns];
        let mut right = vec![0.0_f64; columns];
        let mut margin = 0.0_f64;
        loop {
            let taken = left.iter().chain(&right).sum::<f64>() + (columns - 1) as f64 * GAP + margin;
            let plot_width = (width - 2.0 * MARGIN - taken) / columns as f64;
            if plot_width < SMALLEST {
                return Err(too_narrow(plot_width, columns));
            }
            let names = figure.panels.iter().map(|panel| axis::least_height(panel, fonts, width / columns as f64));
            let height = names.fold((figure.aspect * plot_width).max(SMALLEST), f64::max);
            let plot = [plot_width, height];
            let room = Room { plot, slot: width / columns as f64, own_bar: shared.is_none() };
            let around = (0..figure.panels.len())
                .map(|index| Around::measure(figure, fonts, index, &room))
                .collect::<Result<Vec<_>, _>>()?;
            let bar = shared.map(|colour| bar_ticks(fonts, colour, height.min(LONGEST_BAR)));
            let needed = bar.as_ref().map_or(0.0, |ticks| bar_width(ticks) + 2.0);
            let mut enough = needed <= margin;
            margin = margin.max(needed);
            for (index, around) in around.iter().enumerate() {
                for (have, need) in
                    [(&mut left[index % columns], around.left()), (&mut right[index % columns], around.right())]
                {
                    enough &= need <= *have;
                    *have = have.max(need);
                }
            }
            if enough {
                let over = |measure: fn(&Around) -> f64| {
                    (0..rows)
                        .map(|row| around.iter().skip(row * columns).take(columns).map(measure).fold(0.0, f64::max))
                        .collect::<Vec<_>>()
                };
                let (above, below) = (over(Around::above), over(Around::below));
                return Ok(Self { columns, plot, around, left, right, above, below, bar });
            }
        }
    }

    fn draw(&self, scene: &mut Scene, fonts: &Fonts, figure: &Figure, top: f64) -> f64 {
        let styles = Styles::of(figure);
        let mut y = top;
        let mut bounds = (f64::MAX, f64::MIN);
        for (row, panels) in figure.panels.chunks(self.columns).enumerate() {
            y += self.above[row];
            let mut x = MARGIN;
            for (column, panel) in panels.iter().enumerate() {
                x += self.left[column];
                let area = Rect { left: x, top: y, right: x + self.plot[0], bottom: y + self.plot[1] };
                let index = row * self.columns + column;
                self.around[index].draw(scene, fonts, figure, index, area);
                let (span_x, span_y) = spans(panel);
                let frame = Frame { x: span_x, y: span_y, area, down: down(panel) };
                panel::draw(scene, fonts, &styles, panel, &frame);
                edges(scene, panel, area);
                x = area.right + self.right[column] + GAP;
                bounds = (bounds.0.min(area.top), bounds.1.max(area.bottom));
            }
            y += self.plot[1] + self.below[row] + if row + 1 < self.above.len() { GAP } else { 2.0 };
        }
        if let Some(ticks) = &self.bar {
            let half = self.plot[1].min(LONGEST_BAR) / 2.0;
            let middle = f64::midpoint(bounds.0, bounds.1);
            let left = scene.width - MARGIN - bar_width(ticks) + BAR_GAP;
            let area = Rect { left, top: middle - half, right: left + BAR, bottom: middle + half };
            colour_bar(scene, fonts, ticks, area);
        }
        y
    }
}

fn too_narrow(width: f64, columns: usize) -> FigureError {
    FigureError::NoRoom {
        place: "figure".to_owned(),
        what: "the data areas of a row of panels",
        needed: SMALLEST * columns as f64,
        room: width.max(0.0) * columns as f64,
        way: "put fewer panels beside each other, shorten names, or use the width of the text",
    }
}

/// Whether the vertical axis runs downwards: rows and names do, numbers do not.
fn down(panel: &Panel) -> bool {
    matches!(panel.content, Content::Heatmap(_)) || sideways(panel)
}

/// The colour scale that all coloured panels have in common.
fn shared_colour(figure: &Figure) -> Option<&ColourScale> {
    let mut scales = figure.panels.iter().filter_map(Panel::colour);
    let first = scales.next()?;
    (figure.panels.len() > 1 && scales.all(|scale| scale == first)).then_some(first)
}

/// Around a matrix all four edges, around a chart the lower and the left one.
fn edges(scene: &mut Scene, panel: &Panel, area: Rect) {
    match panel.content {
        Content::Heatmap(_) => scene.frame(area, INK, 0.5),
        Content::Chart(_) => {
            scene.line(vec![[area.left, area.top], [area.left, area.bottom], [area.right, area.bottom]], INK, 0.5);
        }
    }
}
