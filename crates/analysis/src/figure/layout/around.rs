//! What surrounds the data area of one panel: title, ticks, labels, and its colour bar where it has one of its own.

use super::super::colour::{GREY, GRID, INK};
use super::super::font::{Fonts, Weight};
use super::super::panel::{SMALL, spans};
use super::super::scene::{Anchor, Rect, Scene, Text};
use super::super::{Axis, Content, Figure, FigureError, Panel, Scale};
use super::axis::{self, Ticks, horizontal, vertical};
use super::colour_bar::{BAR, BAR_GAP, bar_ticks, bar_width, colour_bar};
use super::{ASCENT, LABEL, LEADING, PANEL_TITLE, TICK, down};

/// What surrounds one panel's data area.
pub(super) struct Around {
    x: Ticks,
    y: Ticks,
    /// Lines of the axis labels; none where a neighbour carries them.
    x_label: Vec<String>,
    y_label: Vec<String>,
    title: Vec<String>,
    remark: Vec<String>,
    bar: Option<Ticks>,
}

/// What every panel of a figure has, in points.
pub(super) struct Room {
    /// Width and height of the data area.
    pub(super) plot: [f64; 2],
    /// Width of the figure over its columns.
    pub(super) slot: f64,
    /// Whether each panel has its own colour bar.
    pub(super) own_bar: bool,
}

impl Around {
    pub(super) fn measure(figure: &Figure, fonts: &Fonts, index: usize, room: &Room) -> Result<Self, FigureError> {
        let columns = figure.columns.min(figure.panels.len());
        let panel = &figure.panels[index];
        let (span_x, span_y) = spans(panel);
        let place = format!("panel {} (`{}`)", index + 1, panel.title);
        let under = figure.panels.get(index + columns);
        let beside = (!index.is_multiple_of(columns)).then(|| &figure.panels[index - 1]);
        let same_x = under.is_some_and(|other| other.x == panel.x && spans(other).0 == span_x);
        let same_y =
            beside.is_some_and(|other| other.y == panel.y && spans(other).1 == span_y && down(other) == down(panel));
        let mut x = horizontal(fonts, &panel.x, &span_x, room.plot[0], &place)?;
        let mut y = vertical(fonts, &panel.y, &span_y, room.plot[1], axis::name_room(room.slot));
        // A power of ten in the label is the panel's own.
        let x_exponent = x.exponent != 0 || under.is_some_and(|other| exponents(fonts, other, room).0 != 0);
        let y_exponent = y.exponent != 0 || beside.is_some_and(|other| exponents(fonts, other, room).1 != 0);
        let hide_x = same_x || under.is_some_and(|other| other.x.is_labelled_like(&panel.x)) && !x_exponent;
        let hide_y = same_y || beside.is_some_and(|other| other.y.is_labelled_like(&panel.y)) && !y_exponent;
        let label = |axis: &Axis, exponent, room| {
            fonts.wrap(&axis::label(&axis.label, &axis.unit, exponent), Weight::Regular, LABEL, room)
        };
        let x_label = if hide_x { vec![] } else { label(&panel.x, x.exponent, room.plot[0]) };
        let y_label = if hide_y { vec![] } else { label(&panel.y, y.exponent, room.plot[1]) };
        if same_x {
            x.hide_labels();
        }
        if same_y {
            y.hide_labels();
        }
        let bar = panel.colour().filter(|_| room.own_bar).map(|colour| bar_ticks(fonts, colour, room.plot[1]));
        let width = room.plot[0] + bar.as_ref().map_or(0.0, bar_width);
        let letter = if figure.panels.len() > 1 { letter_width(fonts, index) } else { 0.0 };
        let title = fonts.wrap(&panel.title, Weight::Regular, PANEL_TITLE, width - letter);
        let remark = fonts.wrap(&panel.remark, Weight::Regular, SMALL, width);
        Ok(Self { x, y, x_label, y_label, title, remark, bar })
    }

    pub(super) fn left(&self) -> f64 {
        let label = self.y_label.len() as f64 * LABEL * LEADING;
        (self.y.extent + TICK + 2.0 + if label > 0.0 { label + 2.0 } else { 0.0 }).max(self.x.before)
    }

    pub(super) fn right(&self) -> f64 {
        self.bar.as_ref().map_or(0.0, bar_width).max(self.x.after)
    }

    pub(super) fn above(&self) -> f64 {
        let title = self.title.len() as f64 * PANEL_TITLE * LEADING;
        let remark = self.remark.len() as f64 * SMALL * LEADING;
        (title + remark + if title + remark > 0.0 { 2.0 } else { 0.0 }).max(SMALL / 2.0)
    }

    pub(super) fn below(&self) -> f64 {
        let label = self.x_label.len() as f64 * LABEL * LEADING;
        (TICK + if self.x.extent > 0.0 { self.x.extent + 2.0 } else { 0.0 } + label).max(SMALL / 2.0)
    }

    pub(super) fn draw(&self, scene: &mut Scene, fonts: &Fonts, figure: &Figure, index: usize, area: Rect) {
        let panel = &figure.panels[index];
        self.draw_titles(scene, fonts, figure.panels.len() > 1, index, area);
        if !matches!(panel.content, Content::Heatmap(_)) {
            self.draw_grid(scene, panel, area);
        }
        self.draw_y(scene, fonts, panel, area);
        self.draw_x(scene, fonts, area);
        self.draw_labels(scene, fonts, area);
        if let Some(ticks) = &self.bar {
            let left = area.right + BAR_GAP;
            colour_bar(scene, fonts, ticks, Rect { left, right: left + BAR, ..area });
        }
    }

    /// Lines across the panel at its ticks, except along names.
    fn draw_grid(&self, scene: &mut Scene, panel: &Panel, area: Rect) {
        let across = !matches!(panel.y.scale, Scale::Names(_));
        let along = !matches!(panel.x.scale, Scale::Names(_));
        for tick in self.y.labels.iter().filter(|_| across) {
            let y = y_of(panel, area, tick.place);
            scene.line(vec![[area.left, y], [area.right, y]], GRID, 0.5);
        }
        for tick in self.x.labels.iter().filter(|_| along) {
            let x = area.left + tick.place * area.width();
            scene.line(vec![[x, area.top], [x, area.bottom]], GRID, 0.5);
        }
    }

    fn draw_y(&self, scene: &mut Scene, fonts: &Fonts, panel: &Panel, area: Rect) {
        for tick in &self.y.labels {
            let y = y_of(panel, area, tick.place);
            scene.line(vec![[area.left - TICK, y], [area.left, y]], INK, 0.5);
            let first = y + 0.36 * SMALL - 0.5 * LEADING * SMALL * (tick.lines.len() as f64 - 1.0);
            for (line, text) in tick.lines.iter().enumerate() {
                let at = [area.left - TICK - 2.0, first + line as f64 * LEADING * SMALL];
                scene.text(fonts, Text::new(text, at, SMALL, Anchor::End));
            }
        }
    }

    fn draw_x(&self, scene: &mut Scene, fonts: &Fonts, area: Rect) {
        for tick in &self.x.labels {
            let x = area.left + tick.place * area.width();
            scene.line(vec![[x, area.bottom], [x, area.bottom + TICK]], INK, 0.5);
            self.x.draw_below(scene, fonts, tick, [x, area.bottom + TICK + 2.0]);
        }
    }

    fn draw_labels(&self, scene: &mut Scene, fonts: &Fonts, area: Rect) {
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

/// Where a share of the vertical axis lies.
fn y_of(panel: &Panel, area: Rect, place: f64) -> f64 {
    if down(panel) { area.top + place * area.height() } else { area.bottom - place * area.height() }
}

/// The powers of ten that a panel's labels state.
fn exponents(fonts: &Fonts, panel: &Panel, room: &Room) -> (i32, i32) {
    let (x, y) = spans(panel);
    let across = horizontal(fonts, &panel.x, &x, room.plot[0], "").map_or(0, |ticks| ticks.exponent);
    (across, vertical(fonts, &panel.y, &y, room.plot[1], axis::name_room(room.slot)).exponent)
}

/// `(a)` to `(z)`, then `(aa)`.
fn letter(index: usize) -> String {
    let of = |index: usize| char::from(b'a' + (index % 26) as u8);
    if index < 26 { format!("({})", of(index)) } else { format!("({}{})", of(index / 26 - 1), of(index)) }
}

fn letter_width(fonts: &Fonts, index: usize) -> f64 {
    fonts.width(&letter(index), Weight::Bold, PANEL_TITLE) + 3.0
}
