//! Painting: draws a scene on any plotters backend.

use plotters::drawing::IntoDrawingArea;
use plotters::element::{PathElement, Polygon, Rectangle};
use plotters::style::{Color, RGBColor};
use plotters_backend::DrawingBackend;

use super::colour::{Colour, WHITE};
use super::scene::{Scene, Shape};

/// Draws every shape, with `units` of the backend per point. The backends write to memory, so nothing can fail.
pub(super) fn paint<B: DrawingBackend>(scene: &Scene, backend: B, units: f64) {
    let area = backend.into_drawing_area();
    let place = |[x, y]: &[f64; 2]| ((x * units).round() as i32, (y * units).round() as i32);
    let mut drawn = area.fill(&rgb(WHITE));
    for shape in &scene.shapes {
        drawn = drawn.and(match shape {
            Shape::Fill { ring, colour, alpha } => {
                area.draw(&Polygon::new(ring.iter().map(place).collect::<Vec<_>>(), rgb(*colour).mix(*alpha)))
            }
            Shape::Rect { rect, colour } => {
                let corners = [place(&[rect.left, rect.top]), place(&[rect.right, rect.bottom])];
                area.draw(&Rectangle::new(corners, rgb(*colour).filled()))
            }
            Shape::Stroke { points, colour, width } => {
                let style = rgb(*colour).stroke_width((width * units).round() as u32);
                area.draw(&PathElement::new(points.iter().map(place).collect::<Vec<_>>(), style))
            }
        });
    }
    if let Err(error) = drawn.and(area.present()) {
        unreachable!("drawing to memory does not fail: {error}");
    }
}

fn rgb([r, g, b]: Colour) -> RGBColor {
    RGBColor(r, g, b)
}
