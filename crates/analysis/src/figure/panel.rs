//! Panels: draws the data inside one pair of axes.

mod bars;
mod cells;
mod marker;
mod styles;

use self::{
    bars::{CROWD, WIDEST},
    marker::{BAND, Ends, WHISKER, marker, shaded, whisker},
};
pub(super) use self::{
    cells::{flag, hatch},
    marker::polygon,
    styles::Styles,
};
use super::colour::{Colour, viridis};
use super::font::{Fonts, Ring};
use super::scale::{Padding, Span};
use super::scene::{Rect, Scene};
use super::{Axis, Chart, ColourScale, Content, Limits, Look, Panel, Point, Scale, Series};

/// Width of data lines in points.
const LINE: f64 = 1.0;
/// Type inside panels.
pub(super) const SMALL: f64 = 7.0;
/// Series whose whiskers would fall on each other stand this far apart, in points.
const APART: f64 = 2.8;
/// Bands that can lie on each other in full colour.
const FEW_BANDS: usize = 4;
/// Opacity of more of them.
const FAINT_BAND: f64 = 0.09;
/// Points within which all series of a rate stay.
const WITHIN: f64 = 4.0;
/// The same for points, which are narrower.
const CLOSE: f64 = 0.5;

impl ColourScale {
    /// The scale as an axis.
    pub(super) fn axis(&self) -> Axis {
        Axis {
            label: self.label.clone(),
            unit: self.unit.clone(),
            scale: Scale::Linear,
            range: Some(self.range),
            limits: Limits::default(),
        }
    }

    fn colour(&self, value: f64) -> Colour {
        let [low, high] = self.range;
        viridis((value - low) / (high - low))
    }
}

impl Panel {
    /// The axis of what is measured.
    fn measured(&self) -> &Axis {
        if sideways(self) { &self.x } else { &self.y }
    }

    /// The same, to be changed.
    pub(super) fn measured_mut(&mut self) -> &mut Axis {
        if sideways(self) { &mut self.x } else { &mut self.y }
    }

    /// The ends of an interval as they are drawn: within what the quantity can be.
    pub(super) fn drawn(&self, ends: [f64; 2]) -> [f64; 2] {
        ends.map(|end| self.measured().limits.clamp(end))
    }

    /// The scale of the panel's colours.
    pub(super) fn colour(&self) -> Option<&ColourScale> {
        match &self.content {
            Content::Heatmap(heat) => Some(&heat.colour),
            Content::Chart(chart) => chart.colour.as_ref(),
        }
    }
}

/// Where the data of a panel lie and how its axes run.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) x: Span,
    pub(super) y: Span,
    pub(super) area: Rect,
    /// Whether the vertical axis runs downwards.
    pub(super) down: bool,
}

impl Frame {
    pub(super) fn at_x(&self, place: f64) -> f64 {
        self.area.left + place * self.area.width()
    }

    pub(super) fn at_y(&self, place: f64) -> f64 {
        if self.down {
            self.area.top + place * self.area.height()
        } else {
            self.area.bottom - place * self.area.height()
        }
    }

    fn at(&self, x: f64, y: f64) -> [f64; 2] {
        [self.at_x(self.x.place(x)), self.at_y(self.y.place(y))]
    }
}

/// Whether values of a panel run sideways, because its vertical axis holds names.
pub(super) fn sideways(panel: &Panel) -> bool {
    matches!(panel.y.scale, Scale::Names(_))
}

/// Everything that must lie on the axes: values and ends of intervals.
pub(super) fn values(panel: &Panel, chart: &Chart) -> (Vec<f64>, Vec<f64>) {
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let ends = || points().filter_map(|point| point.interval).flat_map(|ends| panel.drawn(ends));
    let mut xs: Vec<f64> = points().map(|point| point.x).collect();
    let mut ys: Vec<f64> = points().map(|point| point.y).collect();
    if sideways(panel) {
        xs.extend(ends());
    } else {
        ys.extend(ends());
    }
    (xs, ys)
}

/// Both axes of a panel, ends included.
pub(super) fn spans(panel: &Panel) -> (Span, Span) {
    match &panel.content {
        Content::Heatmap(heat) => (Span::cells(&panel.x, heat.matrix.columns), Span::cells(&panel.y, heat.matrix.rows)),
        Content::Chart(chart) => {
            let (xs, ys) = values(panel, chart);
            let bars = chart.series.iter().any(|series| series.look == Look::Bars);
            let around = Padding { low: 0.06, high: 0.06 };
            let above = Padding { low: 0.0, high: 0.24 };
            match (bars, sideways(panel)) {
                (false, _) => (Span::of(&panel.x, &xs, around), Span::of(&panel.y, &ys, around)),
                (true, false) => (Span::of(&panel.x, &xs, around), Span::of_bars(&panel.y, &ys, above)),
                (true, true) => (Span::of_bars(&panel.x, &xs, above), Span::of(&panel.y, &ys, around)),
            }
        }
    }
}

/// One panel while its data are drawn.
struct Drawing<'a> {
    scene: &'a mut Scene,
    fonts: &'a Fonts,
    styles: &'a Styles,
    panel: &'a Panel,
    frame: &'a Frame,
}

/// Draws a panel's data.
pub(super) fn draw(scene: &mut Scene, fonts: &Fonts, styles: &Styles, panel: &Panel, frame: &Frame) {
    match &panel.content {
        Content::Heatmap(heat) => cells::cells(scene, heat, frame),
        Content::Chart(chart) => Drawing { scene, fonts, styles, panel, frame }.chart(chart),
    }
}

/// References lie below the data, fits above.
fn layer(series: &Series) -> usize {
    match series.look {
        Look::Reference => 0,
        Look::Fit => 2,
        _ => 1,
    }
}

impl Drawing<'_> {
    fn chart(&mut self, chart: &Chart) {
        let mut order: Vec<&Series> = chart.series.iter().collect();
        order.sort_by_key(|series| layer(series));
        let crowd: Vec<&Series> = order.iter().copied().filter(|series| layer(series) == 1).collect();
        let bars = self.bar_look(&crowd);
        let places: Vec<Option<usize>> =
            order.iter().map(|series| crowd.iter().position(|other| std::ptr::eq(*other, *series))).collect();
        let shifts: Vec<f64> = places
            .iter()
            .map(|place| place.map_or(0.0, |place| shift(self.panel, chart, self.frame, place, crowd.len())))
            .collect();
        // Bands lie below all lines, and markers above them: of many series the last would cover the others.
        let opacity = if crowd.len() > FEW_BANDS { FAINT_BAND } else { BAND };
        for (series, shift) in order.iter().zip(&shifts).filter(|(series, _)| series.look == Look::Band) {
            let colour = self.styles.colour(series);
            marker::band(
                self.scene,
                series,
                &|point: &Point| ends(self.panel, self.frame, *shift, point),
                (colour, opacity),
            );
        }
        for (series, shift) in order.iter().zip(&shifts) {
            if series.look == Look::Bars {
                self.bars(series, &bars.shifted(*shift));
            } else {
                self.line(series, chart.colour.as_ref(), *shift);
            }
        }
        for ((series, shift), place) in order.iter().zip(&shifts).zip(&places) {
            if series.look == Look::Band {
                let line = points(self.panel, self.frame, *shift, series);
                self.spread_markers(series, &line, [place.unwrap_or(0), crowd.len().max(1)]);
            }
        }
    }

    /// Everything but bars; bands and their markers are drawn apart.
    fn line(&mut self, series: &Series, colours: Option<&ColourScale>, shift: f64) {
        let (panel, frame) = (self.panel, self.frame);
        let line = points(panel, frame, shift, series);
        let (colour, pattern) = (self.styles.colour(series), self.styles.pattern(series));
        match series.look {
            Look::Reference => self.scene.dashed(&to_the_edges(panel, frame, line), colour, LINE, pattern),
            Look::Fit => self.scene.line(line, colour, WHISKER),
            Look::Band => self.scene.dashed(&line, colour, LINE, pattern),
            _ => {
                if series.look == Look::Line {
                    self.scene.dashed(&line, colour, LINE, pattern);
                }
                self.markers(series, colours, &line, &|point: &Point| ends(panel, frame, shift, point));
            }
        }
    }

    /// About six markers on a line. Those of different series do not fall on each other: each starts at its own point.
    fn spread_markers(&mut self, series: &Series, line: &Ring, [place, crowd]: [usize; 2]) {
        let every = series.points.len().div_ceil(6).max(1);
        for &point in line.iter().skip(place * every / crowd).step_by(every) {
            marker(self.scene, point, self.styles.index(&series.name), self.styles.colour(series));
        }
    }

    /// A marker at every point, with its interval; shaded where the points have a third value.
    fn markers(&mut self, series: &Series, colours: Option<&ColourScale>, line: &Ring, ends: Ends<'_>) {
        let (colour, index) = (self.styles.colour(series), self.styles.index(&series.name));
        for (point, &place) in series.points.iter().zip(line) {
            if let Some([low, high]) = ends(point) {
                whisker(self.scene, low, high, colour);
            }
            match (point.shade, colours) {
                (Some(shade), Some(scale)) => shaded(self.scene, place, index, scale.colour(shade)),
                _ => marker(self.scene, place, index, colour),
            }
        }
    }
}

/// A place on the canvas, moved by the shift of its series.
fn moved(panel: &Panel, frame: &Frame, shift: f64, [x, y]: [f64; 2]) -> [f64; 2] {
    let [x, y] = frame.at(x, y);
    if sideways(panel) { [x, y + shift] } else { [x + shift, y] }
}

/// The points of a series on the canvas.
fn points(panel: &Panel, frame: &Frame, shift: f64, series: &Series) -> Ring {
    series.points.iter().map(|point| moved(panel, frame, shift, [point.x, point.y])).collect()
}

/// The ends of a point's interval on the canvas.
fn ends(panel: &Panel, frame: &Frame, shift: f64, point: &Point) -> Option<[[f64; 2]; 2]> {
    let place = |end: f64| if sideways(panel) { [end, point.y] } else { [point.x, end] };
    point.interval.map(|ends| panel.drawn(ends).map(|end| moved(panel, frame, shift, place(end))))
}

/// Along names, a line ends at the edges instead of in the middle of the first and last name.
fn to_the_edges(panel: &Panel, frame: &Frame, mut line: Ring) -> Ring {
    let Rect { left, top, right, bottom } = frame.area;
    let last = line.len() - 1;
    if sideways(panel) {
        (line[0][1], line[last][1]) = (top, bottom);
    } else if matches!(panel.x.scale, Scale::Names(_)) {
        (line[0][0], line[last][0]) = (left, right);
    }
    line
}

/// How far a series is moved off its place, in points, so that whiskers can be told apart.
fn shift(panel: &Panel, chart: &Chart, frame: &Frame, place: usize, count: usize) -> f64 {
    let middle = place as f64 - (count as f64 - 1.0) / 2.0;
    let bars = chart.series.iter().any(|series| series.look == Look::Bars);
    let share = if bars { CROWD } else { CLOSE };
    let slot =
        |names: &[String], extent: f64| (extent / names.len() as f64 * share / count as f64).min(WIDEST) * middle;
    match (&panel.y.scale, &panel.x.scale) {
        (Scale::Names(names), _) => slot(names, frame.area.height()),
        (_, Scale::Names(names)) => slot(names, frame.area.width()),
        (_, Scale::Log2 | Scale::Log10 | Scale::Integer) => {
            let whiskers = |series: &Series| {
                let lone = series.look == Look::Band && series.points.len() == 1;
                (series.look == Look::Line || lone) && series.points.iter().any(|point| point.interval.is_some())
            };
            // Along a rate the place itself is read, so that many series stay within a few points of it.
            let apart = if panel.x.scale == Scale::Log10 { APART.min(WITHIN / count as f64) } else { APART };
            if chart.series.iter().any(whiskers) { apart * middle } else { 0.0 }
        }
        _ => 0.0,
    }
}
