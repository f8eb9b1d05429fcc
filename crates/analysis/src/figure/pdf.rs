//! PDF: one page of the figure's physical size, in paths alone.
//!
//! What a LaTeX document includes. Text is outlines, as in the other formats, so that no font has to be embedded or found. Neither a date
//! nor an identifier is written: the same figure gives the same bytes.

use std::collections::BTreeMap;

use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect as Box, Ref, TextStr, types::LineJoinStyle};

use super::Figure;
use super::colour::Colour;
use super::font::plain;
use super::scene::{Rect, Scene, Shape};

/// Numbers of a page have as many steps in a point.
const STEPS: f64 = 100.0;
/// Neighbouring cells of a heat map overlap by this, in points: viewers smooth their edges, and a seam of the page would show.
const OVERLAP: f64 = 0.1;
/// Of the compression, from 0 to 10.
const LEVEL: u8 = 9;

/// The whole file.
pub(super) fn document(scene: &Scene, figure: &Figure) -> Vec<u8> {
    let [catalog, pages, page, contents, info] = [1, 2, 3, 4, 5].map(Ref::new);
    let opacities = opacities(scene);
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(pages);
    pdf.document_info(info).title(TextStr(&plain(&figure.title)));
    pdf.pages(pages).kids([page]).count(1);
    let mut sheet = pdf.page(page);
    sheet.media_box(Box::new(0.0, 0.0, scene.width as f32, scene.height as f32)).parent(pages).contents(contents);
    let mut resources = sheet.resources();
    let mut states = resources.ext_g_states();
    for (percent, name) in &opacities {
        states
            .insert(Name(name.as_bytes()))
            .start::<pdf_writer::writers::ExtGraphicsState>()
            .non_stroking_alpha(opacity(*percent));
    }
    states.finish();
    resources.finish();
    sheet.finish();
    let drawn = miniz_oxide::deflate::compress_to_vec_zlib(&content(scene, &opacities), LEVEL);
    pdf.stream(contents, &drawn).filter(Filter::FlateDecode);
    pdf.finish()
}

/// Opacities below one, in percent, with the names that the page has for them.
fn opacities(scene: &Scene) -> BTreeMap<u8, String> {
    let alphas = scene.shapes.iter().filter_map(|shape| match shape {
        Shape::Fill { alpha, .. } => Some(percent(*alpha)),
        _ => None,
    });
    alphas.chain([100]).map(|percent| (percent, format!("A{percent}"))).collect()
}

fn percent(alpha: f64) -> u8 {
    (100.0 * alpha).round() as u8
}

fn opacity(percent: u8) -> f32 {
    f32::from(percent) / 100.0
}

/// The page's operators.
fn content(scene: &Scene, opacities: &BTreeMap<u8, String>) -> Vec<u8> {
    let mut page = Page { content: Content::new(), fill: None, stroke: None, width: None, alpha: 100, opacities };
    // The scene's vertical axis runs downwards.
    page.content.transform([1.0, 0.0, 0.0, -1.0, 0.0, scene.height as f32]);
    page.content.set_line_join(LineJoinStyle::RoundJoin);
    for shape in &scene.shapes {
        match shape {
            Shape::Fill { ring, colour, alpha } => {
                page.filled(*colour, percent(*alpha));
                page.path(ring);
                page.content.close_path().fill_nonzero();
            }
            Shape::Rect { rect: Rect { left, top, right, bottom }, colour } => {
                page.filled(*colour, 100);
                page.stroked(*colour, OVERLAP);
                let [x, y, width, height] = [*left, *top, right - left, bottom - top].map(rounded);
                page.content.rect(x, y, width, height).fill_nonzero_and_stroke();
            }
            Shape::Stroke { points, colour, width } => {
                page.stroked(*colour, *width);
                page.path(points);
                page.content.stroke();
            }
        }
    }
    page.content.finish().to_vec()
}

/// A page while it is drawn, with the paint that is set.
struct Page<'a> {
    content: Content,
    fill: Option<Colour>,
    stroke: Option<Colour>,
    width: Option<f32>,
    alpha: u8,
    opacities: &'a BTreeMap<u8, String>,
}

impl Page<'_> {
    fn filled(&mut self, colour: Colour, alpha: u8) {
        if self.fill.replace(colour) != Some(colour) {
            let [red, green, blue] = shares(colour);
            self.content.set_fill_rgb(red, green, blue);
        }
        if std::mem::replace(&mut self.alpha, alpha) != alpha {
            let name =
                self.opacities.get(&alpha).unwrap_or_else(|| unreachable!("every opacity of the scene has a name"));
            self.content.set_parameters(Name(name.as_bytes()));
        }
    }

    fn stroked(&mut self, colour: Colour, width: f64) {
        if self.stroke.replace(colour) != Some(colour) {
            let [red, green, blue] = shares(colour);
            self.content.set_stroke_rgb(red, green, blue);
        }
        let width = rounded(width);
        if self.width.replace(width) != Some(width) {
            self.content.set_line_width(width);
        }
    }

    fn path(&mut self, points: &[[f64; 2]]) {
        for (at, [x, y]) in points.iter().enumerate() {
            let (x, y) = (rounded(*x), rounded(*y));
            if at == 0 {
                self.content.move_to(x, y);
            } else {
                self.content.line_to(x, y);
            }
        }
    }
}

fn shares(colour: Colour) -> [f32; 3] {
    // Three digits tell 256 steps apart.
    colour.map(|channel| ((f64::from(channel) / 255.0 * 1000.0).round() / 1000.0) as f32)
}

fn rounded(value: f64) -> f32 {
    ((value * STEPS).round() / STEPS) as f32
}
