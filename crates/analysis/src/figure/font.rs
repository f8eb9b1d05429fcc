//! Text as polygons: the outlines of a font that is part of the build.

use ttf_parser::{Face, GlyphId, OutlineBuilder};

/// `DejaVu Sans Condensed` 2.37: open, narrow, legible at 7 pt, and complete in Greek and mathematics.
const REGULAR: &[u8] = include_bytes!("../../assets/fonts/DejaVuSansCondensed.subset.ttf");
const BOLD: &[u8] = include_bytes!("../../assets/fonts/DejaVuSansCondensed-Bold.subset.ttf");

/// Straight pieces per quadratic curve: off by less than 0.01 pt at 9 pt.
const PIECES: usize = 3;
/// Size of raised and lowered text.
const SCRIPT: f64 = 0.72;

/// Upright or bold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    Bold,
}

/// A polygon as `[x, y]`, `y` downwards.
pub(super) type Ring = Vec<[f64; 2]>;

/// The two faces.
pub(super) struct Fonts {
    regular: Face<'static>,
    bold: Face<'static>,
}

impl Fonts {
    pub(super) fn load() -> Self {
        let face = |bytes| match Face::parse(bytes, 0) {
            Ok(face) => face,
            Err(error) => unreachable!("the font of the build is valid: {error}"),
        };
        Self { regular: face(REGULAR), bold: face(BOLD) }
    }

    fn face(&self, weight: Weight) -> &Face<'static> {
        match weight {
            Weight::Regular => &self.regular,
            Weight::Bold => &self.bold,
        }
    }

    /// The first character of a text that cannot be drawn.
    pub(super) fn missing(&self, text: &str) -> Option<char> {
        text.chars()
            .find(|&c| c.is_control() || self.regular.glyph_index(c).is_none() || self.bold.glyph_index(c).is_none())
    }

    /// Width of a text set at `size`, in the unit of `size`.
    pub(super) fn width(&self, text: &str, weight: Weight, size: f64) -> f64 {
        let face = self.face(weight);
        let em = f64::from(face.units_per_em());
        runs(text)
            .iter()
            .map(|run| run.text.chars().map(|c| advance(face, glyph(face, c))).sum::<f64>() * run.scale() * size / em)
            .sum()
    }

    /// The glyphs of a text whose baseline starts at the origin, one polygon each; holes are joined by a seam of width zero.
    pub(super) fn outline(&self, text: &str, weight: Weight, size: f64) -> Vec<Ring> {
        let face = self.face(weight);
        let em = f64::from(face.units_per_em());
        let mut rings = vec![];
        let mut pen = 0.0;
        for run in runs(text) {
            let scale = run.scale() * size / em;
            for c in run.text.chars() {
                let id = glyph(face, c);
                let mut contours = Contours::default();
                face.outline_glyph(id, &mut contours);
                let ring = contours.joined();
                if !ring.is_empty() {
                    rings.push(ring.iter().map(|[x, y]| [pen + x * scale, -y * scale - run.rise() * size]).collect());
                }
                pen += advance(face, id) * scale;
            }
        }
        rings
    }

    /// Breaks a text into lines of at most `room`: between [`pieces`], else anywhere.
    pub(super) fn wrap(&self, text: &str, weight: Weight, size: f64, room: f64) -> Vec<String> {
        let mut lines = vec![String::new()];
        for piece in pieces(text) {
            // A piece of markup is not broken: its braces belong together.
            let glue = open_brace(lines.last().map_or("", String::as_str));
            let last = lines.len() - 1;
            let whole = format!("{}{piece}", lines[last]);
            if glue || self.width(whole.trim_end(), weight, size) <= room {
                lines[last] = whole;
                continue;
            }
            if !lines[last].is_empty() {
                lines.push(String::new());
            }
            if self.width(piece.trim_end(), weight, size) <= room || piece.contains('{') {
                if let Some(line) = lines.last_mut() {
                    line.push_str(piece);
                }
                continue;
            }
            for c in piece.chars() {
                let last = lines.len() - 1;
                let whole = format!("{}{c}", lines[last]);
                if lines[last].is_empty() || self.width(whole.trim_end(), weight, size) <= room {
                    lines[last] = whole;
                } else {
                    lines.push(c.to_string());
                }
            }
        }
        lines.iter().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    }
}

/// Where a line may end: after spaces and `_ - / , ;`, and after the dots of a path.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = vec![];
    let mut start = 0;
    for (place, c) in text.char_indices() {
        let end = place + c.len_utf8();
        let next = text[end..].chars().next();
        // Not before the brace of markup, nor within a number.
        let may = match c {
            ' ' | '-' | '/' | ',' | ';' => true,
            '_' => next != Some('{'),
            '.' => next.is_some_and(char::is_alphabetic),
            _ => false,
        };
        if may {
            pieces.push(&text[start..end]);
            start = end;
        }
    }
    pieces.push(&text[start..]);
    pieces
}

/// Markup removed, for machines: `W_{q}` reads `W_q`.
pub(super) fn plain(text: &str) -> String {
    runs(text)
        .iter()
        .map(|run| match run.script {
            Script::Normal => run.text.clone(),
            Script::Lowered => format!("_{}", run.text),
            Script::Raised => format!("^{}", run.text),
        })
        .collect()
}

fn open_brace(line: &str) -> bool {
    line.rfind(['{', '}']).is_some_and(|place| line[place..].starts_with('{'))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Normal,
    Lowered,
    Raised,
}

/// Text at one height.
#[derive(Debug)]
struct Run {
    text: String,
    script: Script,
}

impl Run {
    fn scale(&self) -> f64 {
        if self.script == Script::Normal { 1.0 } else { SCRIPT }
    }

    /// Of the baseline, in units of the size.
    fn rise(&self) -> f64 {
        match self.script {
            Script::Normal => 0.0,
            Script::Lowered => -0.16,
            Script::Raised => 0.34,
        }
    }
}

/// Splits at `_{..}` and `^{..}`; a lone underscore is itself.
fn runs(text: &str) -> Vec<Run> {
    let mut runs = vec![];
    let mut rest = text;
    loop {
        let open = rest.find("_{").into_iter().chain(rest.find("^{")).min();
        let Some((open, close)) = open.and_then(|open| Some((open, open + rest[open..].find('}')?))) else {
            runs.push(Run { text: rest.to_owned(), script: Script::Normal });
            return runs;
        };
        runs.push(Run { text: rest[..open].to_owned(), script: Script::Normal });
        let script = if rest[open..].starts_with('_') { Script::Lowered } else { Script::Raised };
        runs.push(Run { text: rest[open + 2..close].to_owned(), script });
        rest = &rest[close + 1..];
    }
}

/// The glyph of a character; `check` has refused what is missing.
fn glyph(face: &Face, c: char) -> GlyphId {
    face.glyph_index(c).unwrap_or(GlyphId(0))
}

fn advance(face: &Face, id: GlyphId) -> f64 {
    f64::from(face.glyph_hor_advance(id).unwrap_or(0))
}

/// Collects a glyph's contours as straight pieces.
#[derive(Default)]
struct Contours {
    done: Vec<Ring>,
    open: Ring,
}

impl Contours {
    fn joined(self) -> Ring {
        let mut ring = Ring::new();
        for contour in self.done {
            let Some(&first) = contour.first() else { continue };
            ring.extend(contour);
            ring.push(first);
            // Back along the seam to where the first contour began.
            if ring[0] != first {
                ring.push(ring[0]);
            }
        }
        ring
    }
}

impl OutlineBuilder for Contours {
    fn move_to(&mut self, x: f32, y: f32) {
        self.open = vec![[x.into(), y.into()]];
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.open.push([x.into(), y.into()]);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let Some(&[x0, y0]) = self.open.last() else { return };
        let (x1, y1, x, y) = (f64::from(x1), f64::from(y1), f64::from(x), f64::from(y));
        for piece in 1..=PIECES {
            let t = piece as f64 / PIECES as f64;
            let (a, b, c) = ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t);
            self.open.push([a * x0 + b * x1 + c * x, a * y0 + b * y1 + c * y]);
        }
    }

    fn curve_to(&mut self, _: f32, _: f32, _: f32, _: f32, x: f32, y: f32) {
        // TrueType outlines have no cubic curves.
        self.line_to(x, y);
    }

    fn close(&mut self) {
        self.done.push(std::mem::take(&mut self.open));
    }
}
