//! Axis ticks and their labels, as many as fit.

use super::super::font::{Fonts, Weight, pieces};
use super::super::panel::SMALL;
use super::super::scale::{Span, Tick};
use super::super::scene::{Anchor, Scene, Text};
use super::super::{Axis, FigureError, Panel, Scale};
use super::LEADING;

/// Least distance between neighbouring names beside each other, and between numbers, which are read more quickly apart.
const CLEAR: f64 = 4.5;
const APART: f64 = 7.0;
/// Least distance between the middles of numbers above each other.
const ABOVE: f64 = 12.0;
/// Names stand upwards up to this length.
const LONGEST: f64 = 90.0;

/// A tick with the lines of its label.
pub(super) struct Label {
    pub(super) place: f64,
    pub(super) lines: Vec<String>,
}

impl Axis {
    /// Whether one label can stand for both axes.
    pub(super) fn is_labelled_like(&self, other: &Self) -> bool {
        self.label == other.label && self.unit == other.unit
    }
}

/// The ticks of an axis.
pub(super) struct Ticks {
    pub(super) labels: Vec<Label>,
    pub(super) exponent: i32,
    /// Labels run upwards.
    upwards: bool,
    /// Room that labels take across the axis.
    pub(super) extent: f64,
    /// How far labels reach beyond the first and the last end of a horizontal axis.
    pub(super) before: f64,
    pub(super) after: f64,
    /// Lines of a colour bar's label.
    pub(super) title: Vec<String>,
}

impl Ticks {
    fn new(labels: Vec<Label>, exponent: i32) -> Self {
        Self { labels, exponent, upwards: false, extent: 0.0, before: 0.0, after: 0.0, title: vec![] }
    }

    /// Ticks without text: a neighbour carries it.
    pub(super) fn hide_labels(&mut self) {
        for label in &mut self.labels {
            label.lines.clear();
        }
        (self.extent, self.before, self.after) = (0.0, 0.0, 0.0);
    }

    /// One label under its tick; `at` is the middle of its upper edge.
    pub(super) fn draw_below(&self, scene: &mut Scene, fonts: &Fonts, label: &Label, [x, y]: [f64; 2]) {
        for (line, text) in label.lines.iter().enumerate() {
            let line = line as f64;
            if self.upwards {
                let middle = (label.lines.len() as f64 - 1.0) / 2.0;
                let at = [x + 0.36 * SMALL + (line - middle) * LEADING * SMALL, y];
                scene.text(fonts, Text { upwards: true, ..Text::new(text, at, SMALL, Anchor::End) });
            } else {
                let at = [x, y + (0.76 + line * LEADING) * SMALL];
                scene.text(fonts, Text::new(text, at, SMALL, Anchor::Middle));
            }
        }
    }
}

/// Quantity and unit, the power of ten that the ticks leave out before the unit.
pub(super) fn label(label: &str, unit: &str, exponent: i32) -> String {
    let power = if exponent == 0 {
        String::new()
    } else {
        format!("×10^{{{}{}}}", if exponent < 0 { "−" } else { "" }, exponent.unsigned_abs())
    };
    match (power.is_empty(), unit.is_empty()) {
        (true, true) => label.to_owned(),
        (false, true) => format!("{label} ({power})"),
        (true, false) => format!("{label} ({unit})"),
        (false, false) => format!("{label} ({power} {unit})"),
    }
}

/// Room for names at the left of a panel that has `slot` in all.
pub(super) fn name_room(slot: f64) -> f64 {
    (0.36 * slot).min(120.0)
}

/// Height below which the names of a panel's rows would touch.
pub(super) fn least_height(panel: &Panel, fonts: &Fonts, slot: f64) -> f64 {
    let Scale::Names(names) = &panel.y.scale else { return 0.0 };
    if counted(names) {
        return 0.0;
    }
    let lines = names.iter().map(|name| fonts.wrap(name, Weight::Regular, SMALL, name_room(slot)).len()).max();
    names.len() as f64 * (lines.unwrap_or(1) as f64 * LEADING * SMALL + 1.5)
}

/// Names that are numbers may be left out where they are too many: their neighbours say what they are.
fn counted(names: &[String]) -> bool {
    names.iter().all(|name| name.parse::<u64>().is_ok())
}

/// Every `step`th name at its place.
fn every(names: &[String], step: usize) -> impl Iterator<Item = (f64, &String)> {
    let count = names.len() as f64;
    names.iter().enumerate().step_by(step).map(move |(index, name)| ((index as f64 + 0.5) / count, name))
}

/// The ticks of a horizontal axis of this length.
pub(super) fn horizontal(
    fonts: &Fonts,
    axis: &Axis,
    span: &Span,
    room: f64,
    place: &str,
) -> Result<Ticks, FigureError> {
    if let Scale::Names(names) = &axis.scale {
        return names_below(fonts, names, room, place);
    }
    let width = |tick: &Tick| fonts.width(&tick.label, Weight::Regular, SMALL);
    let fits = |ticks: &[Tick]| {
        ticks.windows(2).all(|pair| {
            (pair[1].place - pair[0].place) * room >= f64::midpoint(width(&pair[0]), width(&pair[1])) + APART
        })
    };
    let (ticks, exponent) = fitting(span, &fits, room);
    let ends = |tick: &Tick| (width(tick) / 2.0 - tick.place * room, width(tick) / 2.0 - (1.0 - tick.place) * room);
    let before = ticks.iter().map(|tick| ends(tick).0).fold(0.0, f64::max);
    let after = ticks.iter().map(|tick| ends(tick).1).fold(0.0, f64::max);
    let labels = ticks.into_iter().map(|tick| Label { place: tick.place, lines: vec![tick.label] }).collect();
    Ok(Ticks { extent: LEADING * SMALL, before, after, ..Ticks::new(labels, exponent) })
}

/// The ticks of a vertical axis of this length; names wrap at `names`.
pub(super) fn vertical(fonts: &Fonts, axis: &Axis, span: &Span, room: f64, names: f64) -> Ticks {
    let line = LEADING * SMALL;
    let (labels, exponent): (Vec<Label>, i32) = if let Scale::Names(all) = &axis.scale {
        let step = if counted(all) { (all.len() as f64 * line / room).ceil().max(1.0) as usize } else { 1 };
        let wrapped = |name: &str| fonts.wrap(name, Weight::Regular, SMALL, names);
        (every(all, step).map(|(place, name)| Label { place, lines: wrapped(name) }).collect(), 0)
    } else {
        let fits = |ticks: &[Tick]| ticks.windows(2).all(|pair| (pair[1].place - pair[0].place) * room >= ABOVE);
        let (ticks, exponent) = fitting(span, &fits, room);
        (ticks.into_iter().map(|tick| Label { place: tick.place, lines: vec![tick.label] }).collect(), exponent)
    };
    let width =
        |label: &Label| label.lines.iter().map(|line| fonts.width(line, Weight::Regular, SMALL)).fold(0.0, f64::max);
    let extent = labels.iter().map(width).fold(0.0, f64::max);
    Ticks { extent, ..Ticks::new(labels, exponent) }
}

/// As many ticks as stand clear, up to about eight.
fn fitting(span: &Span, fits: &dyn Fn(&[Tick]) -> bool, room: f64) -> (Vec<Tick>, i32) {
    let most = ((room / ABOVE).round() as usize).clamp(2, 8);
    for count in (1..=most).rev() {
        let (ticks, exponent) = span.ticks(count);
        if ticks.len() > 1 && fits(&ticks) {
            return (ticks, exponent);
        }
    }
    let (mut ticks, exponent) = span.ticks(2);
    // The ends alone, or the first.
    if ticks.len() > 2 {
        ticks.drain(1..ticks.len() - 1);
    }
    if !fits(&ticks) {
        ticks.truncate(1);
    }
    (ticks, exponent)
}

/// Names under their places: across where they fit, else upwards.
fn names_below(fonts: &Fonts, names: &[String], room: f64, place: &str) -> Result<Ticks, FigureError> {
    let slot = room / names.len() as f64;
    let line = LEADING * SMALL;
    let width = |name: &String| fonts.width(name, Weight::Regular, SMALL);
    let widest = names.iter().map(width).fold(0.0, f64::max);
    if counted(names) || widest + CLEAR <= slot {
        let step = if widest + CLEAR <= slot { 1 } else { ((widest + CLEAR) / slot).ceil() as usize };
        let labels = every(names, step).map(|(place, name)| Label { place, lines: vec![name.clone()] }).collect();
        let beyond = ((widest - slot) / 2.0).max(0.0);
        return Ok(Ticks { extent: line, before: beyond, after: beyond, ..Ticks::new(labels, 0) });
    }
    let wrap =
        |limit: f64| names.iter().map(|name| fonts.wrap(name, Weight::Regular, SMALL, limit)).collect::<Vec<_>>();
    let labels = |lines: Vec<Vec<String>>| {
        every(names, 1).zip(lines).map(|((place, _), lines)| Label { place, lines }).collect::<Vec<_>>()
    };
    let most = |lines: &[Vec<String>]| lines.iter().map(Vec::len).max().unwrap_or(1) as f64;
    let whole = |lines: &[Vec<String>]| lines.iter().zip(names).all(|(lines, name)| broken_at_words(lines, name));
    let across = wrap(slot - CLEAR);
    if slot > 20.0 && most(&across) <= 3.0 && whole(&across) {
        let extent = most(&across) * line;
        return Ok(Ticks { extent, ..Ticks::new(labels(across), 0) });
    }
    let upwards = wrap(LONGEST);
    let needed = most(&upwards) * line + 0.5;
    if needed > slot {
        return Err(FigureError::NoRoom {
            place: format!("{place}.x"),
            what: "the names under an axis",
            needed: needed * names.len() as f64,
            room,
            way: "shorten them, show fewer, or put them on the vertical axis",
        });
    }
    let extent = upwards.iter().flatten().map(width).fold(0.0, f64::max);
    Ok(Ticks { extent, upwards: true, ..Ticks::new(labels(upwards), 0) })
}

/// Whether lines end only where a reader expects it.
fn broken_at_words(lines: &[String], name: &str) -> bool {
    let words: Vec<&str> = pieces(name).iter().map(|piece| piece.trim()).collect();
    lines.iter().flat_map(|line| pieces(line)).all(|piece| words.contains(&piece.trim()))
}
