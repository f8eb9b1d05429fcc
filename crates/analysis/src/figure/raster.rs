//! PNG: plotters' bitmap at 900 dots per inch, averaged down to 300.

use plotters_backend::{BackendColor, BackendCoord, BackendStyle, DrawingBackend, DrawingErrorKind};
use plotters_bitmap::BitMapBackend;

use super::paint::paint;
use super::scene::Scene;

/// Dots of the finer grid per printed dot, in each direction.
const FINER: usize = 3;
/// Printed dots per inch.
const DOTS: f64 = 300.0;
/// The same per metre, as PNG wants it.
const DOTS_PER_METRE: u32 = 11811;
const POINTS_PER_INCH: f64 = 72.0;
/// Side of a printed dot in points; the layout rounds heights up to whole dots.
pub(super) const DOT: f64 = POINTS_PER_INCH / DOTS;

/// The whole file.
pub(super) fn png(scene: &Scene) -> Vec<u8> {
    let dots = |points: f64| (points / DOT).round() as usize;
    let (width, height) = (dots(scene.width), dots(scene.height));
    let size = ((width * FINER) as u32, (height * FINER) as u32);
    let mut fine = vec![255; 3 * FINER * FINER * width * height];
    paint(scene, Raster(BitMapBackend::with_buffer(&mut fine, size)), FINER as f64 / DOT);
    encode(&averaged(&fine, width, height), width, height)
}

/// The mean of each block of dots. `fine: [FINER · height, FINER · width, 3]`.
fn averaged(fine: &[u8], width: usize, height: usize) -> Vec<u8> {
    let row = 3 * FINER * width;
    let mut dots = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let start = FINER * y * row + 3 * FINER * x + channel;
                let sum: usize = (0..FINER * FINER)
                    .map(|cell| usize::from(fine[start + cell / FINER * row + cell % FINER * 3]))
                    .sum();
                dots.push(((sum + FINER * FINER / 2) / (FINER * FINER)) as u8);
            }
        }
    }
    dots
}

fn encode(dots: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut bytes = vec![];
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    encoder.set_pixel_dims(Some(png::PixelDimensions {
        xppu: DOTS_PER_METRE,
        yppu: DOTS_PER_METRE,
        unit: png::Unit::Meter,
    }));
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(dots)?;
        writer.finish()
    });
    match written {
        Ok(()) => bytes,
        Err(error) => unreachable!("the buffer has the size of the image: {error}"),
    }
}

/// plotters' bitmap with exact areas: its own polygons misplace the ends of spans, and its lines have no round joints.
struct Raster<'a>(BitMapBackend<'a>);

type Drawn<E> = Result<(), DrawingErrorKind<E>>;

impl<'a> DrawingBackend for Raster<'a> {
    type ErrorType = <BitMapBackend<'a> as DrawingBackend>::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        self.0.get_size()
    }

    fn ensure_prepared(&mut self) -> Drawn<Self::ErrorType> {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> Drawn<Self::ErrorType> {
        self.0.present()
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn<Self::ErrorType> {
        self.0.draw_pixel(point, color)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn<Self::ErrorType> {
        self.0.draw_rect(from, to, style, fill)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn<Self::ErrorType> {
        let points: Vec<BackendCoord> = path.into_iter().collect();
        let half = f64::from(style.stroke_width()) / 2.0;
        for pair in points.windows(2) {
            self.fill_polygon(segment(pair[0], pair[1], half), &style.color())?;
        }
        for &joint in points.get(1..points.len().max(2) - 1).unwrap_or_default() {
            self.fill_polygon(disc(joint, half), &style.color())?;
        }
        Ok(())
    }

    /// Every dot whose centre the ring winds around.
    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        ring: I,
        style: &S,
    ) -> Drawn<Self::ErrorType> {
        let ring: Vec<BackendCoord> = ring.into_iter().collect();
        let top = ring.iter().map(|point| point.1).min().unwrap_or(0);
        let bottom = ring.iter().map(|point| point.1).max().unwrap_or(0);
        let mut rows: Vec<Vec<(f64, i32)>> = vec![vec![]; (bottom - top) as usize];
        for (index, &from) in ring.iter().enumerate() {
            let to = ring[(index + 1) % ring.len()];
            let (upper, lower, turn) = if from.1 <= to.1 { (from, to, 1) } else { (to, from, -1) };
            for y in upper.1..lower.1 {
                let t = (f64::from(y - upper.1) + 0.5) / f64::from(lower.1 - upper.1);
                rows[(y - top) as usize].push((f64::from(upper.0) + t * f64::from(lower.0 - upper.0), turn));
            }
        }
        for (y, crossings) in (top..).zip(&mut rows) {
            crossings.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut winding = 0;
            for pair in crossings.windows(2) {
                winding += pair[0].1;
                let (from, to) = ((pair[0].0 - 0.5).ceil() as i32, (pair[1].0 - 0.5).ceil() as i32);
                if winding != 0 && from < to {
                    self.0.draw_rect((from, y), (to, y + 1), style, true)?;
                }
            }
        }
        Ok(())
    }
}

/// A straight piece of a line, `2 · half` wide.
fn segment(from: BackendCoord, to: BackendCoord, half: f64) -> Vec<BackendCoord> {
    let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
    let length = (dx * dx + dy * dy).sqrt();
    if length == 0.0 {
        return vec![];
    }
    let (nx, ny) = (-dy / length * half, dx / length * half);
    [(from, 1.0), (to, 1.0), (to, -1.0), (from, -1.0)]
        .map(|((x, y), side)| ((f64::from(x) + side * nx).round() as i32, (f64::from(y) + side * ny).round() as i32))
        .to_vec()
}

fn disc(centre: BackendCoord, radius: f64) -> Vec<BackendCoord> {
    super::panel::polygon([f64::from(centre.0), f64::from(centre.1)], radius, 12, 0.0)
        .iter()
        .map(|[x, y]| (x.round() as i32, y.round() as i32))
        .collect()
}
