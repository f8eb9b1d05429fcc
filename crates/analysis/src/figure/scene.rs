//! The scene: shapes on a canvas, in points from the upper left corner.

use super::colour::{Colour, INK, WHITE};
use super::font::{Fonts, Ring, Weight};

/// One shape; later ones cover earlier ones.
#[derive(Debug)]
pub(super) enum Shape {
    /// A filled polygon.
    Fill { ring: Ring, colour: Colour, alpha: f64 },
    /// A filled rectangle along the axes.
    Rect { rect: Rect, colour: Colour },
    /// A line.
    Stroke { points: Ring, colour: Colour, width: f64 },
}

/// A rectangle along the axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Rect {
    pub(super) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(super) fn height(&self) -> f64 {
        self.bottom - self.top
    }
}

/// A text and the extent of its ink, in points from the upper left corner.
#[derive(Clone, Debug, PartialEq)]
pub struct TextBox {
    /// What it says.
    pub text: String,
    /// Size in points.
    pub size: f64,
    /// Left end.
    pub left: f64,
    /// Upper end.
    pub top: f64,
    /// Right end.
    pub right: f64,
    /// Lower end.
    pub bottom: f64,
}

/// Which point of the text is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A text to be placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub(super) words: &'a str,
    /// The anchor's place on the baseline.
    pub(super) at: [f64; 2],
    pub(super) size: f64,
    pub(super) weight: Weight,
    pub(super) anchor: Anchor,
    /// Read from bottom to top.
    pub(super) upwards: bool,
    pub(super) colour: Colour,
}

impl<'a> Text<'a> {
    /// Horizontal, regular, in ink.
    pub(super) fn new(words: &'a str, at: [f64; 2], size: f64, anchor: Anchor) -> Self {
        Self { words, at, size, weight: Weight::Regular, anchor, upwards: false, colour: INK }
    }
}

/// Everything that is drawn.
pub(super) struct Scene {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) shapes: Vec<Shape>,
    pub(super) texts: Vec<TextBox>,
}

impl Scene {
    pub(super) fn line(&mut self, points: Ring, colour: Colour, width: f64) {
        if points.len() > 1 {
            self.shapes.push(Shape::Stroke { points, colour, width });
        }
    }

    /// A line in dashes: lengths of dash and gap in turn; solid where empty.
    pub(super) fn dashed(&mut self, points: &Ring, colour: Colour, width: f64, pattern: &[f64]) {
        if pattern.is_empty() {
            return self.line(points.clone(), colour, width);
        }
        let (mut index, mut left) = (0, pattern[0]);
        let mut dash: Ring = points.first().copied().into_iter().collect();
        for pair in points.windows(2) {
            let ([x0, y0], [x1, y1]) = (pair[0], pair[1]);
            let length = ((x1 - x0) * (x1 - x0) + (y1 - y0) * (y1 - y0)).sqrt();
            let mut walked = 0.0;
            while length - walked > left {
                walked += left;
                let t = walked / length;
                let point = [x0 + t * (x1 - x0), y0 + t * (y1 - y0)];
                dash.push(point);
                if index % 2 == 0 {
                    self.line(std::mem::take(&mut dash), colour, width);
                }
                dash = vec![point];
                index = (index + 1) % pattern.len();
                left = pattern[index];
            }
            left -= length - walked;
            dash.push([x1, y1]);
        }
        if index % 2 == 0 {
            self.line(dash, colour, width);
        }
    }

    pub(super) fn fill(&mut self, ring: Ring, colour: Colour, alpha: f64) {
        if ring.len() > 2 {
            self.shapes.push(Shape::Fill { ring, colour, alpha });
        }
    }

    pub(super) fn rect(&mut self, rect: Rect, colour: Colour) {
        self.shapes.push(Shape::Rect { rect, colour });
    }

    pub(super) fn frame(&mut self, rect: Rect, colour: Colour, width: f64) {
        let Rect { left, top, right, bottom } = rect;
        let ring = vec![[left, top], [right, top], [right, bottom], [left, bottom], [left, top], [right, top]];
        self.line(ring, colour, width);
    }

    /// With the grid behind it wiped out.
    pub(super) fn text_on_white(&mut self, fonts: &Fonts, text: Text) {
        let below = self.shapes.len();
        self.text(fonts, text);
        if let Some(&TextBox { left, top, right, bottom, .. }) = self.texts.last() {
            let rect = Rect { left: left - 0.5, top: top - 0.5, right: right + 0.5, bottom: bottom + 0.5 };
            self.shapes.insert(below, Shape::Rect { rect, colour: WHITE });
        }
    }

    pub(super) fn text(&mut self, fonts: &Fonts, text: Text) {
        let width = fonts.width(text.words, text.weight, text.size);
        let back = match text.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => width / 2.0,
            Anchor::End => width,
        };
        let [x, y] = text.at;
        let place = |[dx, dy]: [f64; 2]| if text.upwards { [x + dy, y - dx + back] } else { [x + dx - back, y + dy] };
        let mut ink = Rect { left: f64::MAX, top: f64::MAX, right: f64::MIN, bottom: f64::MIN };
        for ring in fonts.outline(text.words, text.weight, text.size) {
            let ring: Ring = ring.into_iter().map(place).collect();
            for &[x, y] in &ring {
                ink.left = ink.left.min(x);
                ink.right = ink.right.max(x);
                ink.top = ink.top.min(y);
                ink.bottom = ink.bottom.max(y);
            }
            self.fill(ring, text.colour, 1.0);
        }
        if ink.left <= ink.right {
            let Rect { left, top, right, bottom } = ink;
            self.texts.push(TextBox { text: text.words.to_owned(), size: text.size, left, top, right, bottom });
        }
    }
}
