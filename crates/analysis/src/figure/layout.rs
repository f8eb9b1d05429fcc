//! Layout: where the panels, axes, legends, colour bars and notes of a figure go.
//!
//! From top to bottom: title, legend, rows of panels, `n` and notes. What surrounds a panel (title, ticks, labels, colour bar) is measured
//! first; the data areas of all panels get the same size from what is left of the width. Panels whose axes agree share ticks and
//! labels with their neighbours.

mod axis;

use axis::{Ticks, horizontal, vertical};

use super::colour::{Colour, GREY, GRID, INK, UNDEFINED, viridis};
use super::font::{Fonts, Weight};
use super::panel::{self, Frame, SMALL, Styles, sideways, spans};
use super::raster::DOT;
use super::scale::{Padding, Span};
use super::scene::{Anchor, Rect, Scene, Text};
use super::{ColourScale, Content, Figure, FigureError, Look, Panel, Scale, Series, Width};

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
/// Between a data area and its colour bar.
const BAR_GAP: f64 = 7.0;
/// Length of ticks.
const TICK: f64 = 2.5;
const BAR: f64 = 7.0;
/// A page: 9 in.
const TALLEST: f64 = 648.0;
const LONGEST_BAR: f64 = 150.0;
/// Of the data area's width and height: less is illegible.
const SMALLEST: f64 = 34.0;
/// Between entries of the legend.
const BETWEEN: f64 = 12.0;

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
    for note in std::iter::once(&figure.n).chain(&figure.notes) {
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

/// An entry of the legend.
enum Key<'a> {
    Series(&'a Series),
    Undefined,
    Flagged,
}

/// Entries in one line or, where they need more, in columns; returns where they end.
fn legend(scene: &mut Scene, fonts: &Fonts, figure: &Figure, y: f64) -> f64 {
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

/// What surrounds one panel's data area.
struct Around {
    x: Ticks,
    y: Ticks,
    /// Lines of the axis labels; none where a neighbour carries them.
    x_label: Vec<String>,
    y_label: Vec<String>,
    title: Vec<String>,
    remark: Vec<String>,
    bar: Option<Ticks>,
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
                return Err(FigureError::NoRoom {
                    place: "figure".to_owned(),
                    what: "the data areas of a row of panels",
                    needed: SMALLEST * columns as f64,
                    room: plot_width.max(0.0) * columns as f64,
                    way: "put fewer panels beside each other, shorten names, or use the width of the text",
                });
            }
            let names = figure.panels.iter().map(|panel| axis::least_height(panel, fonts, width / columns as f64));
            let height = names.fold((figure.aspect * plot_width).max(SMALLEST), f64::max);
            let plot = [plot_width, height];
            let around = figure
                .panels
                .iter()
                .enumerate()
                .map(|(index, _)| Around::measure(figure, fonts, index, plot, width / columns as f64, shared.is_none()))
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

impl Around {
    fn measure(
        figure: &Figure,
        fonts: &Fonts,
        index: usize,
        plot: [f64; 2],
        slot: f64,
        own_bar: bool,
    ) -> Result<Self, FigureError> {
        let columns = figure.columns.min(figure.panels.len());
        let panel = &figure.panels[index];
        let (span_x, span_y) = spans(panel);
        let place = format!("panel {} (`{}`)", index + 1, panel.title);
        let under = figure.panels.get(index + columns);
        let beside = (!index.is_multiple_of(columns)).then(|| &figure.panels[index - 1]);
        let same_x = under.is_some_and(|other| other.x == panel.x && spans(other).0 == span_x);
        let same_y =
            beside.is_some_and(|other| other.y == panel.y && spans(other).1 == span_y && down(other) == down(panel));
        let mut x = horizontal(fonts, &panel.x, &span_x, plot[0], &place)?;
        let mut y = vertical(fonts, &panel.y, &span_y, plot[1], axis::name_room(slot));
        let label = |label: &str, unit: &str, exponent| axis::label(label, unit, exponent);
        let wrapped = |text: String, room| fonts.wrap(&text, Weight::Regular, LABEL, room);
        // A power of ten in the label is the panel's own.
        let x_exponent = x.exponent != 0 || under.is_some_and(|other| exponents(fonts, other, plot, slot).0 != 0);
        let y_exponent = y.exponent != 0 || beside.is_some_and(|other| exponents(fonts, other, plot, slot).1 != 0);
        let hide_x = under.is_some_and(|other| other.x.label == panel.x.label && other.x.unit == panel.x.unit);
        let hide_y = beside.is_some_and(|other| other.y.label == panel.y.label && other.y.unit == panel.y.unit);
        let x_label = if same_x || (hide_x && !x_exponent) {
            vec![]
        } else {
            wrapped(label(&panel.x.label, &panel.x.unit, x.exponent), plot[0])
        };
        let y_label = if same_y || (hide_y && !y_exponent) {
            vec![]
        } else {
            wrapped(label(&panel.y.label, &panel.y.unit, y.exponent), plot[1])
        };
        if same_x {
            x.hide_labels();
        }
        if same_y {
            y.hide_labels();
        }
        let bar = panel.colour().filter(|_| own_bar).map(|colour| bar_ticks(fonts, colour, plot[1]));
        let right = bar.as_ref().map_or(0.0, bar_width);
        let letter = if figure.panels.len() > 1 { letter_width(fonts, index) } else { 0.0 };
        let room = plot[0] + right - letter;
        let title = fonts.wrap(&panel.title, Weight::Regular, PANEL_TITLE, room);
        let remark = fonts.wrap(&panel.remark, Weight::Regular, SMALL, plot[0] + right);
        Ok(Self { x, y, x_label, y_label, title, remark, bar })
    }

    fn left(&self) -> f64 {
        let label = self.y_label.len() as f64 * LABEL * LEADING;
        (self.y.extent + TICK + 2.0 + if label > 0.0 { label + 2.0 } else { 0.0 }).max(self.x.before)
    }

    fn right(&self) -> f64 {
        self.bar.as_ref().map_or(0.0, bar_width).max(self.x.after)
    }

    fn above(&self) -> f64 {
        let title = self.title.len() as f64 * PANEL_TITLE * LEADING;
        let remark = self.remark.len() as f64 * SMALL * LEADING;
        (title + remark + if title + remark > 0.0 { 2.0 } else { 0.0 }).max(SMALL / 2.0)
    }

    fn below(&self) -> f64 {
        let label = self.x_label.len() as f64 * LABEL * LEADING;
        (TICK + if self.x.extent > 0.0 { self.x.extent + 2.0 } else { 0.0 } + label).max(SMALL / 2.0)
    }

    fn draw(&self, scene: &mut Scene, fonts: &Fonts, figure: &Figure, index: usize, area: Rect) {
        let panel = &figure.panels[index];
        self.draw_titles(scene, fonts, figure.panels.len() > 1, index, area);
        let at_y = |place: f64| {
            if down(panel) { area.top + place * area.height() } else { area.bottom - place * area.height() }
        };
        let heat = matches!(panel.content, Content::Heatmap(_));
        if !heat {
            let across = !matches!(panel.y.scale, Scale::Names(_));
            let along = !matches!(panel.x.scale, Scale::Names(_));
            for tick in self.y.labels.iter().filter(|_| across) {
                scene.line(vec![[area.left, at_y(tick.place)], [area.right, at_y(tick.place)]], GRID, 0.5);
            }
            for tick in self.x.labels.iter().filter(|_| along) {
                let x = area.left + tick.place * area.width();
                scene.line(vec![[x, area.top], [x, area.bottom]], GRID, 0.5);
            }
        }
        for tick in &self.y.labels {
            let y = at_y(tick.place);
            scene.line(vec![[area.left - TICK, y], [area.left, y]], INK, 0.5);
            let first = y + 0.36 * SMALL - 0.5 * LEADING * SMALL * (tick.lines.len() as f64 - 1.0);
            for (line, text) in tick.lines.iter().enumerate() {
                let at = [area.left - TICK - 2.0, first + line as f64 * LEADING * SMALL];
                scene.text(fonts, Text::new(text, at, SMALL, Anchor::End));
            }
        }
        for tick in &self.x.labels {
            let x = area.left + tick.place * area.width();
            scene.line(vec![[x, area.bottom], [x, area.bottom + TICK]], INK, 0.5);
            self.x.draw_below(scene, fonts, tick, [x, area.bottom + TICK + 2.0]);
        }
        let y = area.bottom + TICK + if self.x.extent > 0.0 { self.x.extent + 2.0 } else { 0.0 };
        for (line, text) in self.x_label.iter().enumerate() {
            let at = [f64::midpoint(area.left, area.right), y + (line as f64 * LEADING + ASCENT + 0.1) * LABEL];
            scene.text(fonts, Text::new(text, at, LABEL, Anchor::Middle));
        }
        let x = area.left - TICK - 2.0 - self.y.extent - 4.0;
        for (line, text) in self.y_label.iter().rev().enumerate() {
            let at = [x - line as f64 * LEADING * LABEL, f64::midpoint(area.top, area.bottom)];
            // A single letter is read more easily upright.
            let upwards = fonts.width(text, Weight::Regular, LABEL) > 0.6 * LABEL;
            if upwards {
                scene.text(fonts, Text { upwards, ..Text::new(text, at, LABEL, Anchor::Middle) });
            } else {
                scene.text(fonts, Text::new(text, [at[0] - 3.0, at[1] + 0.3 * LABEL], LABEL, Anchor::End));
            }
        }
        if let Some(ticks) = &self.bar {
            let left = area.right + BAR_GAP;
            colour_bar(scene, fonts, ticks, Rect { left, right: left + BAR, ..area });
        }
    }

    fn draw_titles(&self, scene: &mut Scene, fonts: &Fonts, lettered: bool, index: usize, area: Rect) {
        let mut y = area.top
            - 2.0
            - self.remark.len() as f64 * SMALL * LEADING
            - self.title.len() as f64 * PANEL_TITLE * LEADING;
        let indent = if lettered { letter_width(fonts, index) } else { 0.0 };
        for (line, text) in self.title.iter().enumerate() {
            let base = y + ASCENT * PANEL_TITLE;
            if line == 0 && lettered {
                let letter = letter(index);
                let at = [area.left, base];
                let text = Text { weight: Weight::Bold, ..Text::new(&letter, at, PANEL_TITLE, Anchor::Start) };
                scene.text(fonts, text);
            }
            scene.text(fonts, Text::new(text, [area.left + indent, base], PANEL_TITLE, Anchor::Start));
            y += LEADING * PANEL_TITLE;
        }
        for text in &self.remark {
            let at = [area.left, y + ASCENT * SMALL];
            scene.text(fonts, Text { colour: GREY, ..Text::new(text, at, SMALL, Anchor::Start) });
            y += LEADING * SMALL;
        }
    }
}

/// The powers of ten that a panel's labels state.
fn exponents(fonts: &Fonts, panel: &Panel, plot: [f64; 2], slot: f64) -> (i32, i32) {
    let (x, y) = spans(panel);
    let across = horizontal(fonts, &panel.x, &x, plot[0], "").map_or(0, |ticks| ticks.exponent);
    (across, vertical(fonts, &panel.y, &y, plot[1], axis::name_room(slot)).exponent)
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

/// `(a)` to `(z)`, then `(aa)`.
fn letter(index: usize) -> String {
    let of = |index: usize| char::from(b'a' + (index % 26) as u8);
    if index < 26 { format!("({})", of(index)) } else { format!("({}{})", of(index / 26 - 1), of(index)) }
}

fn letter_width(fonts: &Fonts, index: usize) -> f64 {
    fonts.width(&letter(index), Weight::Bold, PANEL_TITLE) + 3.0
}

fn bar_ticks(fonts: &Fonts, colour: &ColourScale, height: f64) -> Ticks {
    let axis = colour.axis();
    let span = Span::of(&axis, &[], Padding { low: 0.0, high: 0.0 });
    let mut ticks = vertical(fonts, &axis, &span, height, 0.0);
    ticks.title = fonts.wrap(&axis::label(&colour.label, &colour.unit, ticks.exponent), Weight::Regular, LABEL, height);
    ticks
}

/// From the data area's edge to the end of the label.
fn bar_width(ticks: &Ticks) -> f64 {
    BAR_GAP + BAR + TICK + 1.0 + ticks.extent + 3.0 + ticks.title.len() as f64 * LABEL * LEADING
}

fn colour_bar(scene: &mut Scene, fonts: &Fonts, ticks: &Ticks, area: Rect) {
    let steps = 128;
    for step in 0..steps {
        let (from, to) = (f64::from(step) / f64::from(steps), f64::from(step + 1) / f64::from(steps));
        let (top, bottom) = (area.bottom - to * area.height(), area.bottom - from * area.height());
        scene.rect(Rect { top, bottom, ..area }, viridis(f64::midpoint(from, to)));
    }
    scene.frame(area, INK, 0.5);
    for tick in &ticks.labels {
        let y = area.bottom - tick.place * area.height();
        scene.line(vec![[area.right, y], [area.right + TICK, y]], INK, 0.5);
        for text in &tick.lines {
            let at = [area.right + TICK + 1.0, y + 0.36 * SMALL];
            scene.text(fonts, Text::new(text, at, SMALL, Anchor::Start));
        }
    }
    let x = area.right + TICK + 1.0 + ticks.extent + 3.0 + ASCENT * LABEL;
    for (line, text) in ticks.title.iter().enumerate() {
        let at = [x + line as f64 * LEADING * LABEL, f64::midpoint(area.top, area.bottom)];
        scene.text(fonts, Text { upwards: true, ..Text::new(text, at, LABEL, Anchor::Middle) });
    }
}
