//! Validation: whether the description of a figure can be drawn.

use super::font::Fonts;
use super::panel::values;
use super::scale::{Padding, Span};
use super::{Axis, Chart, ColourScale, Content, Figure, FigureError, Heatmap, Panel, Scale};

/// Numbers beyond this lose their place when extents are formed.
const LARGEST: f64 = 1e100;

/// The first problem of a figure.
pub(super) fn check(figure: &Figure) -> Result<(), FigureError> {
    let place = "figure".to_owned();
    if figure.panels.is_empty() {
        return Err(FigureError::Empty { place, what: "panels" });
    }
    if figure.columns == 0 {
        return Err(FigureError::Empty { place, what: "columns" });
    }
    if !(0.05..=20.0).contains(&figure.aspect) {
        return Err(FigureError::Outside {
            place: "figure.aspect".to_owned(),
            value: figure.aspect,
            low: 0.05,
            high: 20.0,
        });
    }
    if figure.n.trim().is_empty() {
        return Err(FigureError::NoCount);
    }
    let fonts = Fonts::load();
    drawable(&fonts, "figure.title", &figure.title)?;
    drawable(&fonts, "figure.n", &figure.n)?;
    for note in &figure.notes {
        drawable(&fonts, "figure.notes", note)?;
    }
    for (index, panel) in figure.panels.iter().enumerate() {
        let place = format!("panel {} (`{}`)", index + 1, panel.title);
        drawable(&fonts, &format!("{place}.title"), &panel.title)?;
        drawable(&fonts, &format!("{place}.remark"), &panel.remark)?;
        axis(&fonts, &format!("{place}.x"), &panel.x)?;
        axis(&fonts, &format!("{place}.y"), &panel.y)?;
        match &panel.content {
            Content::Heatmap(map) => heat(&fonts, &place, panel, map)?,
            Content::Chart(data) => chart(&fonts, &place, panel, data)?,
        }
    }
    Ok(())
}

fn drawable(fonts: &Fonts, place: &str, text: &str) -> Result<(), FigureError> {
    match fonts.missing(text) {
        Some(character) => Err(FigureError::Glyph { place: place.to_owned(), text: text.to_owned(), character }),
        None => Ok(()),
    }
}

fn axis(fonts: &Fonts, place: &str, axis: &Axis) -> Result<(), FigureError> {
    drawable(fonts, place, &axis.label)?;
    drawable(fonts, place, &axis.unit)?;
    if let Scale::Names(names) = &axis.scale {
        if names.is_empty() {
            return Err(FigureError::Empty { place: place.to_owned(), what: "names" });
        }
        for name in names {
            drawable(fonts, place, name)?;
        }
        return Ok(());
    }
    axis.range.map_or(Ok(()), |ends| range(place, ends, axis))
}

fn range(place: &str, [low, high]: [f64; 2], axis: &Axis) -> Result<(), FigureError> {
    for end in [low, high] {
        number(place, end, axis)?;
    }
    if low < high { Ok(()) } else { Err(FigureError::Range { place: place.to_owned(), low, high }) }
}

fn number(place: &str, value: f64, axis: &Axis) -> Result<(), FigureError> {
    let place = || place.to_owned();
    if !value.is_finite() {
        return Err(FigureError::NotFinite { place: place(), value });
    }
    if value.abs() > LARGEST {
        return Err(FigureError::TooLarge { place: place(), value });
    }
    match &axis.scale {
        Scale::Log2 | Scale::Log10 if value <= 0.0 => Err(FigureError::NotPositive { place: place(), value }),
        Scale::Names(names) if value < 0.0 || value.fract() != 0.0 || value >= names.len() as f64 => {
            Err(FigureError::NoSuchName { place: place(), value, last: names.len() - 1 })
        }
        _ => Ok(()),
    }
}

fn colour_scale(fonts: &Fonts, place: &str, colour: &ColourScale) -> Result<(), FigureError> {
    let place = format!("{place}.colour");
    drawable(fonts, &place, &colour.label)?;
    drawable(fonts, &place, &colour.unit)?;
    range(&place, colour.range, &colour.axis())
}

/// A value that must have a colour.
fn coloured(place: &str, value: f64, colour: &ColourScale) -> Result<(), FigureError> {
    let axis = colour.axis();
    number(place, value, &axis)?;
    if Span::of(&axis, &[], Padding { low: 0.0, high: 0.0 }).holds(value) {
        return Ok(());
    }
    let [low, high] = colour.range;
    Err(FigureError::Outside { place: place.to_owned(), value, low, high })
}

fn heat(fonts: &Fonts, place: &str, panel: &Panel, heat: &Heatmap) -> Result<(), FigureError> {
    let matrix = &heat.matrix;
    if matrix.rows == 0 || matrix.columns == 0 {
        return Err(FigureError::Empty { place: place.to_owned(), what: "cells" });
    }
    let cells = matrix.rows * matrix.columns;
    let length = |what, found, expected, unit| {
        if found == expected {
            Ok(())
        } else {
            Err(FigureError::Length { place: place.to_owned(), what, found, expected, unit })
        }
    };
    length("values", matrix.values.len(), cells, "cell")?;
    if !matrix.flags.is_empty() {
        length("flags", matrix.flags.len(), cells, "cell")?;
    }
    for (axis, count, unit) in [(&panel.x, matrix.columns, "column"), (&panel.y, matrix.rows, "row")] {
        match &axis.scale {
            Scale::Names(names) => length("names", names.len(), count, unit)?,
            Scale::Index => {}
            _ => {
                return Err(FigureError::Scale {
                    place: place.to_owned(),
                    found: "an axis of a matrix has a scale of numbers",
                    rule: "rows and columns are counted or named; use `index` or `names`",
                });
            }
        }
    }
    colour_scale(fonts, place, &heat.colour)?;
    for (index, value) in matrix.values.iter().enumerate() {
        if let &Some(value) = value {
            let cell = format!("{place} row {} column {}", index / matrix.columns + 1, index % matrix.columns + 1);
            coloured(&cell, value, &heat.colour)?;
        }
    }
    Ok(())
}

fn chart(fonts: &Fonts, place: &str, panel: &Panel, chart: &Chart) -> Result<(), FigureError> {
    if chart.series.iter().all(|series| series.points.is_empty()) {
        return Err(FigureError::Empty { place: place.to_owned(), what: "points" });
    }
    if panel.x.scale == Scale::Index || panel.y.scale == Scale::Index {
        return Err(FigureError::Scale {
            place: place.to_owned(),
            found: "an axis of a chart has the scale `index`",
            rule: "only rows and columns of a matrix are counted; use `integer`",
        });
    }
    if let Some(colour) = &chart.colour {
        colour_scale(fonts, place, colour)?;
    }
    let sideways = matches!(panel.y.scale, Scale::Names(_));
    for series in &chart.series {
        drawable(fonts, place, &series.name)?;
        if series.points.is_empty() {
            return Err(FigureError::Empty { place: format!("{place} series `{}`", series.name), what: "points" });
        }
        for (index, point) in series.points.iter().enumerate() {
            let place = format!("{place} series `{}` point {}", series.name, index + 1);
            number(&format!("{place}.x"), point.x, &panel.x)?;
            number(&format!("{place}.y"), point.y, &panel.y)?;
            if let Some([low, high]) = point.interval {
                let (value, axis) = if sideways { (point.x, &panel.x) } else { (point.y, &panel.y) };
                number(&format!("{place}.interval"), low, axis)?;
                number(&format!("{place}.interval"), high, axis)?;
                // A mean and its interval may be rounded apart.
                let slack = 1e-9 * value.abs();
                if !(low <= value + slack && value <= high + slack) {
                    return Err(FigureError::Interval { place: format!("{place}.interval"), value, low, high });
                }
            }
            match (point.shade, &chart.colour) {
                (Some(shade), Some(colour)) => coloured(&format!("{place}.shade"), shade, colour)?,
                (Some(_), None) => return Err(FigureError::NoColourScale { place }),
                (None, _) => {}
            }
        }
    }
    inside(place, panel, chart)
}

/// Nothing lies beyond a range that was asked for.
fn inside(place: &str, panel: &Panel, chart: &Chart) -> Result<(), FigureError> {
    let (xs, ys) = values(panel, chart);
    for (axis, values, name) in [(&panel.x, xs, "x"), (&panel.y, ys, "y")] {
        let Some([low, high]) = axis.range else { continue };
        let span = Span::of(axis, &[], Padding { low: 0.0, high: 0.0 });
        if let Some(&value) = values.iter().find(|&&value| !span.holds(value)) {
            return Err(FigureError::Outside { place: format!("{place}.{name}"), value, low, high });
        }
    }
    Ok(())
}
