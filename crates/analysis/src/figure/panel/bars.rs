//! Bars with their whiskers, and their values where there is room.

use super::super::colour::{Colour, INK, WHITE};
use super::super::font::Weight;
use super::super::scale::short;
use super::super::scene::{Anchor, Rect, Scene, Text};
use super::super::{Point, Scale, Series};
use super::marker::whisker;
use super::{Drawing, SMALL, sideways};

/// Share of a name's place that its bars or points take.
pub(super) const CROWD: f64 = 0.76;
/// No bar is wider, in points, however few there are.
pub(super) const WIDEST: f64 = 36.0;

/// How the values stand at the ends of bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Labels {
    Across,
    Upwards,
    None,
}

/// How the bars of a series are drawn, in points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bars {
    /// How far they are moved off their names' places.
    shift: f64,
    /// Of a bar with the gap beside it.
    width: f64,
    labels: Labels,
}

impl Bars {
    pub(super) fn shifted(self, shift: f64) -> Self {
        Self { shift, ..self }
    }
}

impl Drawing<'_> {
    /// The width of bars that stand beside each other, and how their values stand.
    pub(super) fn bar_look(&self, crowd: &[&Series]) -> Bars {
        let area = &self.frame.area;
        let slot = match (&self.panel.y.scale, &self.panel.x.scale) {
            (Scale::Names(names), _) => area.height() / names.len() as f64,
            (_, Scale::Names(names)) => area.width() / names.len() as f64,
            _ => area.width() / 20.0,
        };
        let width = (slot * CROWD / crowd.len().max(1) as f64).min(WIDEST);
        Bars { shift: 0.0, width, labels: self.bar_labels(crowd, width) }
    }

    /// Across where every value fits above its bar, upwards where bars are wide enough for that.
    fn bar_labels(&self, crowd: &[&Series], width: f64) -> Labels {
        const GAP: f64 = 1.5;
        if sideways(self.panel) {
            return if width >= SMALL * 0.9 { Labels::Across } else { Labels::None };
        }
        let points = crowd.iter().flat_map(|series| &series.points);
        let widest = points.map(|point| self.text_width(&short(point.y))).fold(0.0, f64::max);
        match width {
            _ if width >= widest + GAP => Labels::Across,
            _ if width >= SMALL * 0.9 => Labels::Upwards,
            _ => Labels::None,
        }
    }

    fn text_width(&self, text: &str) -> f64 {
        self.fonts.width(text, Weight::Regular, SMALL)
    }

    pub(super) fn bars(&mut self, series: &Series, bars: &Bars) {
        let (colour, index) = (self.styles.colour(series), self.styles.index(&series.name));
        for point in &series.points {
            if sideways(self.panel) {
                let rect = self.lying(point, bars);
                bar(self.scene, rect, colour, index);
                self.label_lying(point, bars);
            } else {
                let rect = self.standing(point, bars);
                bar(self.scene, rect, colour, index);
                self.label_standing(point, bars);
            }
        }
    }

    /// The bar of a point whose value runs to the right.
    fn lying(&self, point: &Point, bars: &Bars) -> Rect {
        let ([x, y], half) = (self.frame.at(point.x, point.y), 0.46 * bars.width);
        let (floor, y) = (self.frame.at_x(self.frame.x.floor()), y + bars.shift);
        Rect { left: floor.min(x), right: floor.max(x), top: y - half, bottom: y + half }
    }

    /// Its whisker, and its value to the right of both.
    fn label_lying(&mut self, point: &Point, bars: &Bars) {
        let frame = self.frame;
        let [x, y] = frame.at(point.x, point.y);
        let (mut end, y) = (x, y + bars.shift);
        if let Some([low, high]) = point.interval.map(|ends| self.panel.drawn(ends)) {
            let (low, high) = (frame.at_x(frame.x.place(low)), frame.at_x(frame.x.place(high)));
            whisker(self.scene, [low, y], [high, y], INK);
            end = end.max(high);
        }
        let text = short(point.x);
        let room = frame.area.right - end - 2.0;
        if bars.labels == Labels::Across && self.text_width(&text) <= room {
            let text = Text::new(&text, [end + 2.0, y + 0.36 * SMALL], SMALL, Anchor::Start);
            self.scene.text_on_white(self.fonts, text);
        }
    }

    /// The bar of a point whose value runs upwards.
    fn standing(&self, point: &Point, bars: &Bars) -> Rect {
        let ([x, y], half) = (self.frame.at(point.x, point.y), 0.46 * bars.width);
        let (floor, x) = (self.frame.at_y(self.frame.y.floor()), x + bars.shift);
        Rect { left: x - half, right: x + half, top: floor.min(y), bottom: floor.max(y) }
    }

    /// Its whisker, and its value above both.
    fn label_standing(&mut self, point: &Point, bars: &Bars) {
        let frame = self.frame;
        let [x, y] = frame.at(point.x, point.y);
        let (x, mut end) = (x + bars.shift, y.min(frame.at_y(frame.y.floor())));
        if let Some([low, high]) = point.interval.map(|ends| self.panel.drawn(ends)) {
            let (low, high) = (frame.at_y(frame.y.place(low)), frame.at_y(frame.y.place(high)));
            whisker(self.scene, [x, low], [x, high], INK);
            end = end.min(high);
        }
        let text = short(point.y);
        // A value that would leave the panel is left to the data file.
        let room = end - 2.0 - frame.area.top;
        match bars.labels {
            Labels::Across if SMALL <= room => {
                let text = Text::new(&text, [x, end - 2.0], SMALL, Anchor::Middle);
                self.scene.text_on_white(self.fonts, text);
            }
            Labels::Upwards if self.text_width(&text) <= room => {
                let at = [x + 0.36 * SMALL, end - 2.0];
                let text = Text { upwards: true, ..Text::new(&text, at, SMALL, Anchor::Start) };
                self.scene.text_on_white(self.fonts, text);
            }
            _ => {}
        }
    }
}

/// A bar with a thin edge; every second series is striped, so that bars differ without colour.
pub(super) fn bar(scene: &mut Scene, rect: Rect, colour: Colour, index: usize) {
    scene.rect(rect, colour);
    if index % 3 == 1 {
        let (step, start) = (2.4, rect.left + rect.bottom);
        let count = ((rect.width() + rect.height()) / step).ceil() as i64;
        for line in 0..=count {
            // Lines of constant difference x - y, from the lower left corner on.
            let shift = line as f64 * step - rect.height();
            let (left, right) = (rect.left.max(rect.left + shift), rect.right.min(rect.left + shift + rect.height()));
            let y = |x: f64| x - rect.left - shift + rect.top;
            if right - left > 0.05 && start.is_finite() {
                scene.line(vec![[left, y(left)], [right, y(right)]], WHITE, 0.5);
            }
        }
    } else if index % 3 == 2 {
        let count = (rect.height() / 2.4).floor() as i64;
        for line in 1..=count {
            let y = rect.bottom - line as f64 * 2.4;
            if y > rect.top + 0.3 {
                scene.line(vec![[rect.left, y], [rect.right, y]], WHITE, 0.5);
            }
        }
    }
    scene.frame(rect, INK, 0.5);
}
