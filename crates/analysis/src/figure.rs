//! Figures as data, drawn as SVG, PDF and PNG from one description.
//!
//! ```text
//! arrays --marks--> Figure --check--> --layout--> Scene --paint--> SVG, PDF, PNG
//!                      `------------------------------------------> data as CSV
//! ```
//!
//! A [`Figure`] says what is shown: panels, axes with units, series with intervals, matrices, colour scales, `n` and notes. How it
//! looks is decided here, once for every figure: the width of a column (3.3 in) or of the text (6.9 in), type of 7 to 9 pt at that
//! size, lines of at least 0.5 pt, the colours of Okabe and Ito with a marker and a dash per series, viridis for matrices. Heights
//! follow from the contents.
//!
//! **Text is drawn as outlines** of a font that is part of the build, in every format. A font inside an SVG is ignored by
//! converters to PDF and blocked by the content policies of code hosts, and a font by name is another font on another machine.
//! Title, notes and every label stay readable for machines in the SVG's `title` and `desc`.
//!
//! **Architecture invariant.** No files, no clock, no system fonts, no platform mathematics: the same description gives the same
//! bytes on every call and on every machine.

mod check;
mod colour;
mod csv;
mod error;
mod font;
mod layout;
mod marks;
mod paint;
mod panel;
mod pdf;
mod raster;
mod scale;
mod scene;
mod svg;

use serde::{Deserialize, Serialize};

pub use colour::{SERIES, viridis, viridis_table};
pub use error::FigureError;
pub use marks::{
    AmplificationRow, AtCost, Caption, Curve, Dynamics, Fit, Measured, Overlap, PhiMap, TaskCurves, TaskMeans,
    amplification, comparison, critical_difference, dynamics, expected_best, front, pareto, phi_grid, phi_ranks,
    phi_seeds, rank_allocation, rank_curves, seed_overlap, sensitivity, sequence_curves, training_curves,
};
pub use scene::TextBox;

/// What a figure shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Above the panels; one sentence at most.
    pub title: String,
    /// The printed width.
    pub width: Width,
    /// Panels beside each other.
    pub columns: usize,
    /// Height of a panel's data area over its width.
    pub aspect: f64,
    /// From left to right, then from top to bottom.
    pub panels: Vec<Panel>,
    /// What was repeated and how often, such as `n = 5 seeds; bars: 95% Student intervals`.
    pub n: String,
    /// Further sentences under the panels.
    pub notes: Vec<String>,
}

/// The printed width of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Width {
    /// One column of two: 3.3 in.
    Column,
    /// The whole text: 6.9 in.
    Text,
}

impl Figure {
    /// With the limits of what every panel measures, by the label of its axis.
    pub fn within(mut self, limits: impl Fn(&str) -> Limits) -> Self {
        for panel in &mut self.panels {
            let measured = panel.measured_mut();
            measured.limits = limits(&measured.label);
        }
        self
    }

    /// Whether an interval is longer than it can be drawn.
    fn is_cut(&self) -> bool {
        let is_cut = |panel: &Panel| {
            let Content::Chart(chart) = &panel.content else { return false };
            let intervals = chart.series.iter().flat_map(|series| &series.points).filter_map(|point| point.interval);
            intervals.into_iter().any(|ends| panel.drawn(ends) != ends)
        };
        self.panels.iter().any(is_cut)
    }
}

/// One pair of axes and what is drawn in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// Beside the panel's letter.
    pub title: String,
    /// A second line, such as a correlation; may be empty.
    pub remark: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis. Names and indices run downwards, numbers upwards.
    pub y: Axis,
    /// The data.
    pub content: Content,
}

/// An axis: what it measures, in what unit, on what scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// The quantity; `_{..}` lowers and `^{..}` raises.
    pub label: String,
    /// Its unit; empty where there is none.
    pub unit: String,
    /// How values become positions.
    pub scale: Scale,
    /// First and last value; chosen from the data where absent.
    pub range: Option<[f64; 2]>,
    /// Least and greatest value that the quantity can have, where it has one: intervals are drawn up to there.
    #[serde(default, skip_serializing_if = "Limits::is_open")]
    pub limits: Limits,
}

/// Least and greatest value that a quantity can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The least, if there is one.
    pub low: Option<f64>,
    /// The greatest, if there is one.
    pub high: Option<f64>,
}

impl Limits {
    /// Whether every value is possible.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// The nearest possible value.
    fn clamp(self, value: f64) -> f64 {
        let above = self.low.map_or(value, |low| value.max(low));
        self.high.map_or(above, |high| above.min(high))
    }
}

/// How values become positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Proportional.
    Linear,
    /// Proportional, with ticks at whole numbers only: steps, ranks.
    Integer,
    /// Doublings are equally far apart.
    Log2,
    /// Tenfolds are equally far apart.
    Log10,
    /// Numbers of rows or columns of a matrix, from 1.
    Index,
    /// One place per name; the value is the name's index from 0.
    Names(Vec<String>),
}

/// What a panel draws.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A matrix as colours. Stored descriptions call it `heat`.
    #[serde(rename = "heat", alias = "heatmap")]
    Heatmap(Heatmap),
    /// Series of points.
    Chart(Chart),
}

/// A matrix as colours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heatmap {
    /// The values, `[rows of the y axis, columns of the x axis]`.
    pub matrix: Matrix,
    /// What the colours mean. Panels that share one scale share one colour bar.
    pub colour: ColourScale,
}

/// Numbers in rows, some of them undefined or flagged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// Row by row, `[rows · columns]`; none where the value is undefined, drawn hatched.
    pub values: Vec<Option<f64>>,
    /// Cells that are marked with a dot, `[rows · columns]`, or empty for none.
    pub flags: Vec<bool>,
}

impl Matrix {
    /// Defined everywhere, no flags. `values: [rows · columns]`, row by row.
    pub fn dense(rows: usize, columns: usize, values: &[f64]) -> Self {
        Self { rows, columns, values: values.iter().map(|&value| Some(value)).collect(), flags: vec![] }
    }

    /// The first rows and columns, as many as there are.
    pub fn corner(&self, rows: usize, columns: usize) -> Self {
        let (rows, columns) = (rows.min(self.rows), columns.min(self.columns));
        let places = || (0..rows).flat_map(|row| (0..columns).map(move |column| row * self.columns + column));
        Self {
            rows,
            columns,
            values: places().filter_map(|place| self.values.get(place).copied()).collect(),
            flags: places().filter_map(|place| self.flags.get(place).copied()).collect(),
        }
    }
}

/// What colours mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColourScale {
    /// The quantity.
    pub label: String,
    /// Its unit; empty where there is none.
    pub unit: String,
    /// Values of the darkest and the brightest colour.
    pub range: [f64; 2],
}

/// Series of points in one pair of axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// Drawn in order.
    pub series: Vec<Series>,
    /// What the shades of points mean; none where no point has one.
    pub colour: Option<ColourScale>,
}

/// Points that belong together. Series of one name look the same in every panel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// In the legend; empty to leave it out.
    pub name: String,
    /// How the points are drawn.
    pub look: Look,
    /// In the order of the line.
    pub points: Vec<Point>,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// Markers, joined; intervals as whiskers.
    Line,
    /// A line with a few markers; intervals as a band.
    Band,
    /// Markers; intervals as whiskers.
    Dots,
    /// Bars from zero (from the lower end of a logarithmic axis); intervals as whiskers; the value at the end.
    Bars,
    /// A grey dashed line without markers: a closed form, a baseline.
    Reference,
    /// A thin black line without markers: a fit.
    Fit,
}

/// A point with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// On the horizontal axis.
    pub x: f64,
    /// On the vertical axis.
    pub y: f64,
    /// Ends of the interval of the measured coordinate: of `x` where the vertical axis has names, else of `y`.
    pub interval: Option<[f64; 2]>,
    /// Place on the colour scale.
    pub shade: Option<f64>,
}

impl Point {
    /// Without interval and shade.
    pub fn new(x: f64, y: f64) -> Self {
        Self { x, y, interval: None, shade: None }
    }
}

/// A figure in every format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// A complete SVG document with its physical size.
    pub svg: String,
    /// A PDF of one page of that size.
    pub pdf: Vec<u8>,
    /// A PNG of 300 dots per inch.
    pub png: Vec<u8>,
    /// The plotted numbers: `panel,title,series,x,y,value,low,high,flag`.
    pub data_csv: String,
}

/// Draws a figure in every format. Pure: the same figure gives the same bytes.
pub fn render(figure: &Figure) -> Result<Rendered, FigureError> {
    let scene = scene(figure)?;
    Ok(Rendered {
        svg: svg::document(&scene, figure),
        pdf: pdf::document(&scene, figure),
        png: raster::png(&scene),
        data_csv: csv::csv(figure),
    })
}

/// Where every text of a figure lies, in points from the upper left corner, and the size of the canvas.
pub fn text_boxes(figure: &Figure) -> Result<([f64; 2], Vec<TextBox>), FigureError> {
    let scene = scene(figure)?;
    Ok(([scene.width, scene.height], scene.texts))
}

fn scene(figure: &Figure) -> Result<scene::Scene, FigureError> {
    check::check(figure)?;
    layout::layout(figure)
}
