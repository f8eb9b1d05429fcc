//! A plotters backend for compact SVG of physical size.
//!
//! plotters' own writes one element per shape, whole pixels, and text that depends on the viewer's fonts. Here a unit is a hundredth of a
//! point, and neighbouring shapes of one colour share a path: a heat map needs about 20 bytes per cell.

use std::convert::Infallible;
use std::fmt::Write as _;

use plotters_backend::{BackendColor, BackendCoord, BackendStyle, DrawingBackend, DrawingErrorKind};

use super::Figure;
use super::font::plain;
use super::paint::paint;
use super::scene::Scene;

/// Units per point.
const UNITS: f64 = 100.0;
const POINTS_PER_INCH: f64 = 72.0;

/// The whole document.
pub(super) fn document(scene: &Scene, figure: &Figure) -> String {
    let size = |points: f64| (points * UNITS).round() as u32;
    let (width, height) = (size(scene.width), size(scene.height));
    let mut body = String::new();
    paint(scene, Svg { body: &mut body, size: (width, height), open: None, pen: (0, 0) }, UNITS);
    let texts: Vec<String> = scene.texts.iter().map(|text| plain(&text.text)).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{:.3}in\" \
         height=\"{:.3}in\" viewBox=\"0 0 {width} {height}\">\n<title>{}</title>\n<desc>{}</desc>\n{body}</svg>\n",
        scene.width / POINTS_PER_INCH,
        scene.height / POINTS_PER_INCH,
        escape(&plain(&figure.title)),
        escape(&texts.join("; ")),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What the attributes of a path say.
#[derive(Clone, Copy, PartialEq)]
enum Paint {
    Area {
        rgb: (u8, u8, u8),
        alpha: f64,
    },
    /// Without smoothed edges: neighbouring cells would show seams.
    Cells {
        rgb: (u8, u8, u8),
    },
    Line {
        rgb: (u8, u8, u8),
        width: u32,
    },
}

struct Svg<'a> {
    body: &'a mut String,
    size: (u32, u32),
    open: Option<Paint>,
    pen: BackendCoord,
}

impl Svg<'_> {
    /// Starts a path, or goes on with one of the same paint.
    fn begin(&mut self, paint: Paint) {
        // Where translucent shapes of one path overlap, they would count once.
        let translucent = matches!(paint, Paint::Area { alpha, .. } if alpha < 1.0);
        if self.open == Some(paint) && !translucent {
            return;
        }
        self.end();
        self.open = Some(paint);
        let hex = |(r, g, b): (u8, u8, u8)| format!("#{r:02x}{g:02x}{b:02x}");
        let attributes = match paint {
            Paint::Area { rgb, alpha } if alpha < 1.0 => format!("fill=\"{}\" fill-opacity=\"{alpha}\"", hex(rgb)),
            Paint::Area { rgb, .. } => format!("fill=\"{}\"", hex(rgb)),
            Paint::Cells { rgb } => format!("fill=\"{}\" shape-rendering=\"crispEdges\"", hex(rgb)),
            Paint::Line { rgb, width } => {
                format!("fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"", hex(rgb))
            }
        };
        let _ = write!(self.body, "<path {attributes} d=\"");
        self.pen = (0, 0);
    }

    fn end(&mut self) {
        if self.open.take().is_some() {
            self.body.push_str("\"/>\n");
        }
    }

    fn trace(&mut self, points: impl IntoIterator<Item = BackendCoord>, close: bool) {
        let mut first = None;
        for (x, y) in points {
            let (dx, dy) = (x - self.pen.0, y - self.pen.1);
            if first.is_none() {
                first = Some((x, y));
                let _ = write!(self.body, "m{dx} {dy}");
            } else {
                let _ = match (dx, dy) {
                    (0, 0) => continue,
                    (_, 0) => write!(self.body, "h{dx}"),
                    (0, _) => write!(self.body, "v{dy}"),
                    _ if dy < 0 => write!(self.body, "l{dx}{dy}"),
                    _ => write!(self.body, "l{dx} {dy}"),
                };
            }
            self.pen = (x, y);
        }
        if let (true, Some(first)) = (close, first) {
            self.body.push('z');
            self.pen = first;
        }
    }
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl DrawingBackend for Svg<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        self.end();
        Ok(())
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn {
        self.draw_rect(point, (point.0 + 1, point.1 + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S, fill: bool) -> Drawn {
        let corners = [from, (to.0, from.1), to, (from.0, to.1)];
        if fill {
            self.begin(Paint::Cells { rgb: style.color().rgb });
            self.trace(corners, true);
            return Ok(());
        }
        self.draw_path(corners.into_iter().chain([from]), style)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        self.begin(Paint::Line { rgb: style.color().rgb, width: style.stroke_width() });
        self.trace(path, false);
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, ring: I, style: &S) -> Drawn {
        let color = style.color();
        self.begin(Paint::Area { rgb: color.rgb, alpha: color.alpha });
        self.trace(ring, true);
        Ok(())
    }
}
