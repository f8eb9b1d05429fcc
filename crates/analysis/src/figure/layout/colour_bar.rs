//! Colour bars: the scale of a panel's colours, beside one panel or for all.

use super::super::ColourScale;
use super::super::colour::{INK, viridis};
use super::super::font::{Fonts, Weight};
use super::super::panel::SMALL;
use super::super::scale::{Padding, Span};
use super::super::scene::{Anchor, Rect, Scene, Text};
use super::axis::{self, Ticks, vertical};
use super::{ASCENT, LABEL, LEADING, TICK};

/// Between a data area and its colour bar.
pub(super) const BAR_GAP: f64 = 7.0;
pub(super) const BAR: f64 = 7.0;

pub(super) fn bar_ticks(fonts: &Fonts, colour: &ColourScale, height: f64) -> Ticks {
    let axis = colour.axis();
    let span = Span::of(&axis, &[], Padding { low: 0.0, high: 0.0 });
    let mut ticks = vertical(fonts, &axis, &span, height, 0.0);
    ticks.title = fonts.wrap(&axis::label(&colour.label, &colour.unit, ticks.exponent), Weight::Regular, LABEL, height);
    ticks
}

/// From the data area's edge to the end of the label.
pub(super) fn bar_width(ticks: &Ticks) -> f64 {
    BAR_GAP + BAR + TICK + 1.0 + ticks.extent + 3.0 + ticks.title.len() as f64 * LABEL * LEADING
}

pub(super) fn colour_bar(scene: &mut Scene, fonts: &Fonts, ticks: &Ticks, area: Rect) {
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
