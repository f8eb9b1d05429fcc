//! Panels: draws the data inside one pair of axes.

use super::colour::{Colour, GREY, INK, SERIES, UNDEFINED, WHITE, viridis};
use super::font::{Fonts, Ring, Weight};
use super::scale::{Padding, Span, short};
use super::scene::{Anchor, Rect, Scene, Text};
use super::{Axis, Chart, ColourScale, Content, Figure, Heatmap, Look, Panel, Point, Scale, Series};

/// Width of data lines in points.
const LINE: f64 = 1.0;
/// Width of whiskers.
const WHISKER: f64 = 0.7;
/// Radius of a marker.
const RADIUS: f64 = 2.1;
/// Type inside panels.
pub(super) const SMALL: f64 = 7.0;
/// Series whose whiskers would fall on each other stand this far apart, in points.
const APART: f64 = 2.8;
/// Share of a name's place that its bars or points take.
const CROWD: f64 = 0.76;
/// No bar is wider, in points, however few there are.
const WIDEST: f64 = 36.0;
/// The same for points, which are narrower.
const CLOSE: f64 = 0.5;

const DASHES: [&[f64]; 5] = [&[], &[4.0, 1.6], &[1.2, 1.4], &[5.0, 1.4, 1.2, 1.4], &[8.0, 2.0]];
const REFERENCES: [&[f64]; 3] = [&[3.0, 2.0], &[1.0, 1.5], &[6.0, 1.5, 1.0, 1.5]];

impl ColourScale {
    /// The scale as an axis.
    pub(super) fn axis(&self) -> Axis {
        Axis { label: self.label.clone(), unit: self.unit.clone(), scale: Scale::Linear, range: Some(self.range) }
    }

    fn colour(&self, value: f64) -> Colour {
        let [low, high] = self.range;
        viridis((value - low) / (high - low))
    }
}

impl Panel {
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
    let ends = || points().filter_map(|point| point.interval).flatten();
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

/// The look of every name: its index among the named series, in order of appearance; references count apart.
#[derive(Debug, Default)]
pub(super) struct Styles {
    named: Vec<String>,
    references: Vec<String>,
}

impl Styles {
    pub(super) fn of(figure: &Figure) -> Self {
        let mut styles = Self::default();
        for panel in &figure.panels {
            let Content::Chart(chart) = &panel.content else { continue };
            for series in &chart.series {
                let list = match series.look {
                    Look::Reference => &mut styles.references,
                    Look::Fit => continue,
                    _ => &mut styles.named,
                };
                if !list.contains(&series.name) {
                    list.push(series.name.clone());
                }
            }
        }
        styles
    }

    fn index(&self, name: &str) -> usize {
        self.named.iter().position(|other| other == name).unwrap_or(0)
    }

    fn pattern(&self, series: &Series) -> &'static [f64] {
        match series.look {
            Look::Reference => {
                let index = self.references.iter().position(|other| *other == series.name).unwrap_or(0);
                REFERENCES[index % REFERENCES.len()]
            }
            Look::Fit => &[],
            _ => DASHES[self.index(&series.name) % DASHES.len()],
        }
    }

    fn colour(&self, series: &Series) -> Colour {
        match series.look {
            Look::Reference => GREY,
            Look::Fit => INK,
            _ => SERIES[self.index(&series.name) % SERIES.len()],
        }
    }

    /// A sample of the series for the legend, `width` wide, its middle at `y`.
    pub(super) fn sample(&self, scene: &mut Scene, series: &Series, [x, y]: [f64; 2], width: f64) {
        let colour = self.colour(series);
        let middle = [x + width / 2.0, y];
        if series.look == Look::Bars {
            bar(
                scene,
                Rect { left: middle[0] - 4.0, top: y - 3.0, right: middle[0] + 4.0, bottom: y + 3.0 },
                colour,
                self.index(&series.name),
            );
            return;
        }
        if series.look != Look::Dots {
            if series.look == Look::Band && series.points.iter().any(|point| point.interval.is_some()) {
                scene.fill(corners(Rect { left: x, top: y - 3.0, right: x + width, bottom: y + 3.0 }), colour, BAND);
            }
            let thick = if series.look == Look::Fit { WHISKER } else { LINE };
            scene.dashed(&vec![[x, y], [x + width, y]], colour, thick, self.pattern(series));
        }
        if !matches!(series.look, Look::Reference | Look::Fit) {
            let shaded = series.points.iter().any(|point| point.shade.is_some());
            marker(scene, middle, self.index(&series.name), if shaded { GREY } else { colour });
        }
    }
}

/// Opacity of bands.
const BAND: f64 = 0.18;

/// Draws a panel's data.
pub(super) fn draw(scene: &mut Scene, fonts: &Fonts, styles: &Styles, panel: &Panel, frame: &Frame) {
    match &panel.content {
        Content::Heatmap(heat) => cells(scene, heat, frame),
        Content::Chart(chart) => series(scene, fonts, styles, panel, chart, frame),
    }
}

fn cells(scene: &mut Scene, heat: &Heatmap, frame: &Frame) {
    let matrix = &heat.matrix;
    let rect = |place: usize| {
        let (row, column) = ((place / matrix.columns) as f64, (place % matrix.columns) as f64);
        let (rows, columns) = (matrix.rows as f64, matrix.columns as f64);
        Rect {
            left: frame.at_x(column / columns),
            right: frame.at_x((column + 1.0) / columns),
            top: frame.at_y(row / rows),
            bottom: frame.at_y((row + 1.0) / rows),
        }
    };
    scene.rect(frame.area, UNDEFINED);
    // In order of colour, so that cells of one colour are one path.
    let mut filled: Vec<(Colour, usize)> = matrix
        .values
        .iter()
        .enumerate()
        .filter_map(|(place, value)| Some((heat.colour.colour((*value)?), place)))
        .collect();
    filled.sort_unstable();
    for (colour, place) in filled {
        scene.rect(rect(place), colour);
    }
    for (place, value) in matrix.values.iter().enumerate() {
        if value.is_none() {
            hatch(scene, rect(place));
        }
    }
    for (place, value) in matrix.values.iter().enumerate() {
        if let (Some(value), Some(true)) = (value, matrix.flags.get(place)) {
            flag(scene, rect(place), contrast(heat.colour.colour(*value)));
        }
    }
}

/// Diagonals from lower left to upper right, 3 pt apart on the whole canvas, so that neighbours join.
pub(super) fn hatch(scene: &mut Scene, rect: Rect) {
    let first = ((rect.left + rect.top) / 3.0).ceil() as i64;
    let last = ((rect.right + rect.bottom) / 3.0).floor() as i64;
    for index in first..=last {
        let sum = index as f64 * 3.0;
        let (left, right) = (rect.left.max(sum - rect.bottom), rect.right.min(sum - rect.top));
        if right - left > 0.05 {
            scene.line(vec![[left, sum - left], [right, sum - right]], [150, 150, 150], 0.5);
        }
    }
}

/// A dot in the middle of a cell.
pub(super) fn flag(scene: &mut Scene, rect: Rect, colour: Colour) {
    let radius = (0.22 * rect.width().min(rect.height())).clamp(0.4, 1.4);
    let middle = [f64::midpoint(rect.left, rect.right), f64::midpoint(rect.top, rect.bottom)];
    scene.fill(polygon(middle, radius, 12, 0.0), colour, 1.0);
}

/// Black on bright colours, white on dark ones.
fn contrast([r, g, b]: Colour) -> Colour {
    let light = 0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b);
    if light > 110.0 { [0, 0, 0] } else { WHITE }
}

fn series(scene: &mut Scene, fonts: &Fonts, styles: &Styles, panel: &Panel, chart: &Chart, frame: &Frame) {
    // References lie below the data, fits above.
    let rank = |look| match look {
        Look::Reference => 0,
        Look::Fit => 2,
        _ => 1,
    };
    let mut order: Vec<&Series> = chart.series.iter().collect();
    order.sort_by_key(|series| rank(series.look));
    let crowd: Vec<&Series> = order.iter().copied().filter(|series| rank(series.look) == 1).collect();
    let width = bar_width(panel, frame, crowd.len());
    let labels = bar_labels(fonts, &crowd, panel, width);
    for series in order {
        let colour = styles.colour(series);
        let place = crowd.iter().position(|other| std::ptr::eq(*other, series));
        let shift = place.map_or(0.0, |place| shift(panel, chart, frame, place, crowd.len()));
        let at = |x: f64, y: f64| {
            let [x, y] = frame.at(x, y);
            if sideways(panel) { [x, y + shift] } else { [x + shift, y] }
        };
        let ends = |point: &Point| {
            point.interval.map(|ends| ends.map(|end| if sideways(panel) { at(end, point.y) } else { at(point.x, end) }))
        };
        let line: Ring = series.points.iter().map(|point| at(point.x, point.y)).collect();
        match series.look {
            Look::Reference => scene.dashed(&to_the_edges(panel, frame, line), colour, LINE, styles.pattern(series)),
            Look::Fit => scene.line(line, colour, WHISKER),
            Look::Bars => bars(scene, fonts, styles, panel, series, frame, &Bars { shift, width, labels }),
            Look::Band => {
                band(scene, series, &ends, colour);
                scene.dashed(&line, colour, LINE, styles.pattern(series));
                // Markers of different series do not fall on each other: each starts at its own point.
                let every = series.points.len().div_ceil(6).max(1);
                let offset = place.unwrap_or(0) * every / crowd.len().max(1);
                for &point in line.iter().skip(offset).step_by(every) {
                    marker(scene, point, styles.index(&series.name), colour);
                }
            }
            Look::Line | Look::Dots => {
                if series.look == Look::Line {
                    scene.dashed(&line, colour, LINE, styles.pattern(series));
                }
                for (point, &place) in series.points.iter().zip(&line) {
                    if let Some([low, high]) = ends(point) {
                        whisker(scene, low, high, colour);
                    }
                    match (point.shade, &chart.colour) {
                        (Some(shade), Some(scale)) => {
                            shaded(scene, place, styles.index(&series.name), scale.colour(shade));
                        }
                        _ => marker(scene, place, styles.index(&series.name), colour),
                    }
                }
            }
        }
    }
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
            if chart.series.iter().any(whiskers) { APART * middle } else { 0.0 }
        }
        _ => 0.0,
    }
}

fn bar_width(panel: &Panel, frame: &Frame, count: usize) -> f64 {
    let slot = match (&panel.y.scale, &panel.x.scale) {
        (Scale::Names(names), _) => frame.area.height() / names.len() as f64,
        (_, Scale::Names(names)) => frame.area.width() / names.len() as f64,
        _ => frame.area.width() / 20.0,
    };
    (slot * CROWD / count.max(1) as f64).min(WIDEST)
}

/// How the values stand at the ends of bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Labels {
    Across,
    Upwards,
    None,
}

/// Across where every value fits above its bar, upwards where bars are wide enough for that.
fn bar_labels(fonts: &Fonts, crowd: &[&Series], panel: &Panel, width: f64) -> Labels {
    let widest = crowd
        .iter()
        .flat_map(|series| &series.points)
        .map(|point| fonts.width(&short(if sideways(panel) { point.x } else { point.y }), Weight::Regular, SMALL))
        .fold(0.0, f64::max);
    let gap = 1.5;
    if sideways(panel) {
        return if width >= SMALL * 0.9 { Labels::Across } else { Labels::None };
    }
    match width {
        _ if width >= widest + gap => Labels::Across,
        _ if width >= SMALL * 0.9 => Labels::Upwards,
        _ => Labels::None,
    }
}

struct Bars {
    shift: f64,
    width: f64,
    labels: Labels,
}

fn bars(scene: &mut Scene, fonts: &Fonts, styles: &Styles, panel: &Panel, series: &Series, frame: &Frame, bars: &Bars) {
    let (colour, index, half) = (styles.colour(series), styles.index(&series.name), 0.46 * bars.width);
    for point in &series.points {
        let [x, y] = frame.at(point.x, point.y);
        if sideways(panel) {
            let (floor, y) = (frame.at_x(frame.x.floor()), y + bars.shift);
            bar(
                scene,
                Rect { left: floor.min(x), right: floor.max(x), top: y - half, bottom: y + half },
                colour,
                index,
            );
            let mut end = x;
            if let Some([low, high]) = point.interval {
                let (low, high) = (frame.at_x(frame.x.place(low)), frame.at_x(frame.x.place(high)));
                whisker(scene, [low, y], [high, y], INK);
                end = end.max(high);
            }
            let text = short(point.x);
            let room = frame.area.right - end - 2.0;
            if bars.labels == Labels::Across && fonts.width(&text, Weight::Regular, SMALL) <= room {
                scene.text_on_white(fonts, Text::new(&text, [end + 2.0, y + 0.36 * SMALL], SMALL, Anchor::Start));
            }
            continue;
        }
        let (floor, x) = (frame.at_y(frame.y.floor()), x + bars.shift);
        bar(scene, Rect { left: x - half, right: x + half, top: floor.min(y), bottom: floor.max(y) }, colour, index);
        let mut end = y.min(floor);
        if let Some([low, high]) = point.interval {
            let (low, high) = (frame.at_y(frame.y.place(low)), frame.at_y(frame.y.place(high)));
            whisker(scene, [x, low], [x, high], INK);
            end = end.min(high);
        }
        let text = short(point.y);
        // A value that would leave the panel is left to the data file.
        let room = end - 2.0 - frame.area.top;
        match bars.labels {
            Labels::Across if SMALL <= room => {
                scene.text_on_white(fonts, Text::new(&text, [x, end - 2.0], SMALL, Anchor::Middle));
            }
            Labels::Upwards if fonts.width(&text, Weight::Regular, SMALL) <= room => {
                let at = [x + 0.36 * SMALL, end - 2.0];
                scene.text_on_white(fonts, Text { upwards: true, ..Text::new(&text, at, SMALL, Anchor::Start) });
            }
            _ => {}
        }
    }
}

/// A bar with a thin edge; every second series is striped, so that bars differ without colour.
fn bar(scene: &mut Scene, rect: Rect, colour: Colour, index: usize) {
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

fn band(scene: &mut Scene, series: &Series, ends: &dyn Fn(&Point) -> Option<[[f64; 2]; 2]>, colour: Colour) {
    // A point without interval ends a band; one alone is a whisker.
    let mut parts: Vec<Vec<[[f64; 2]; 2]>> = vec![vec![]];
    for point in &series.points {
        match (ends(point), parts.last_mut()) {
            (Some(pair), Some(part)) => part.push(pair),
            _ => parts.push(vec![]),
        }
    }
    for part in parts {
        match part[..] {
            [] => {}
            [[low, high]] => whisker(scene, low, high, colour),
            _ => {
                let low = part.iter().map(|pair| pair[0]);
                let high = part.iter().rev().map(|pair| pair[1]);
                scene.fill(low.chain(high).collect(), colour, BAND);
            }
        }
    }
}

fn whisker(scene: &mut Scene, low: [f64; 2], high: [f64; 2], colour: Colour) {
    let cap = 1.5;
    let (dx, dy) = if low[0] == high[0] { (cap, 0.0) } else { (0.0, cap) };
    scene.line(vec![low, high], colour, WHISKER);
    for [x, y] in [low, high] {
        scene.line(vec![[x - dx, y - dy], [x + dx, y + dy]], colour, WHISKER);
    }
}

/// Eight shapes of about the same weight.
fn shape(at: [f64; 2], index: usize) -> Ring {
    match index % 8 {
        0 => polygon(at, RADIUS, 16, 0.0),
        1 => polygon(at, RADIUS * 1.2, 4, 0.125),
        2 => polygon(at, RADIUS * 1.3, 3, 0.25),
        3 => polygon(at, RADIUS * 1.25, 4, 0.0),
        4 => polygon(at, RADIUS * 1.3, 3, 0.75),
        5 => polygon(at, RADIUS * 1.15, 5, 0.25),
        6 => star(at, RADIUS * 1.5, 4),
        _ => star(at, RADIUS * 1.5, 5),
    }
}

/// With a white rim, so that it stays visible on lines and bands.
fn marker(scene: &mut Scene, at: [f64; 2], index: usize, colour: Colour) {
    let ring = shape(at, index);
    outline(scene, &ring, WHITE, 0.8);
    scene.fill(ring, colour, 1.0);
}

/// Smaller, with a dark rim: bright shades are faint on white.
fn shaded(scene: &mut Scene, at: [f64; 2], index: usize, colour: Colour) {
    let ring: Ring =
        shape(at, index).iter().map(|[x, y]| [at[0] + 0.85 * (x - at[0]), at[1] + 0.85 * (y - at[1])]).collect();
    scene.fill(ring.clone(), colour, 1.0);
    outline(scene, &ring, [70, 70, 70], 0.5);
}

fn outline(scene: &mut Scene, ring: &Ring, colour: Colour, width: f64) {
    scene.line(ring.iter().chain(ring.iter().take(2)).copied().collect(), colour, width);
}

fn corners(rect: Rect) -> Ring {
    vec![[rect.left, rect.top], [rect.right, rect.top], [rect.right, rect.bottom], [rect.left, rect.bottom]]
}

/// A regular polygon; `turn` is the first corner's direction in turns, anticlockwise from the right.
pub(super) fn polygon(at: [f64; 2], radius: f64, sides: usize, turn: f64) -> Ring {
    (0..sides).map(|side| corner(at, radius, turn + side as f64 / sides as f64)).collect()
}

fn star(at: [f64; 2], radius: f64, tips: usize) -> Ring {
    (0..2 * tips)
        .map(|index| {
            corner(at, if index % 2 == 0 { radius } else { 0.42 * radius }, 0.25 + index as f64 / (2 * tips) as f64)
        })
        .collect()
}

fn corner([x, y]: [f64; 2], radius: f64, turns: f64) -> [f64; 2] {
    let angle = turns * std::f64::consts::TAU;
    [x + radius * libm::cos(angle), y - radius * libm::sin(angle)]
}
