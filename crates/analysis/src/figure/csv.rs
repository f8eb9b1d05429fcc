//! CSV of the plotted numbers, for other programs.

use super::{Chart, Content, Figure, Heatmap, Panel, Point, Scale};

/// One line per cell or point: `panel,title,series,x,y,value,low,high,flag`. `value` is the colour's; names stand for positions.
pub(super) fn csv(figure: &Figure) -> String {
    let mut text = "panel,title,series,x,y,value,low,high,flag\n".to_owned();
    for (index, panel) in figure.panels.iter().enumerate() {
        match &panel.content {
            Content::Heatmap(heat) => heat_lines(&mut text, index, panel, heat),
            Content::Chart(chart) => chart_lines(&mut text, index, panel, chart),
        }
    }
    text
}

fn heat_lines(text: &mut String, index: usize, panel: &Panel, heat: &Heatmap) {
    let matrix = &heat.matrix;
    for (place, value) in matrix.values.iter().enumerate() {
        let (row, column) = (place / matrix.columns, place % matrix.columns);
        let flag = match (value, matrix.flags.get(place)) {
            (None, _) => "undefined",
            (_, Some(true)) => "flagged",
            _ => "",
        };
        line(
            text,
            &[
                (index + 1).to_string(),
                panel.title.clone(),
                heat.colour.label.clone(),
                cell_name(&panel.x.scale, column),
                cell_name(&panel.y.scale, row),
                value.map(number).unwrap_or_default(),
                String::new(),
                String::new(),
                flag.to_owned(),
            ],
        );
    }
}

fn chart_lines(text: &mut String, index: usize, panel: &Panel, chart: &Chart) {
    for series in &chart.series {
        for Point { x, y, interval, shade } in &series.points {
            line(
                text,
                &[
                    (index + 1).to_string(),
                    panel.title.clone(),
                    series.name.clone(),
                    position(&panel.x.scale, *x),
                    position(&panel.y.scale, *y),
                    shade.map(number).unwrap_or_default(),
                    interval.map(|[low, _]| number(low)).unwrap_or_default(),
                    interval.map(|[_, high]| number(high)).unwrap_or_default(),
                    String::new(),
                ],
            );
        }
    }
}

fn cell_name(scale: &Scale, place: usize) -> String {
    match scale {
        Scale::Names(names) => names[place].clone(),
        _ => (place + 1).to_string(),
    }
}

fn position(scale: &Scale, value: f64) -> String {
    match scale {
        Scale::Names(names) => names[value as usize].clone(),
        _ => number(value),
    }
}

/// The shortest text that reads back as the same number.
fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-5..1e16).contains(&size) { format!("{value:e}") } else { value.to_string() }
}

fn line(text: &mut String, fields: &[String]) {
    let quoted: Vec<String> = fields
        .iter()
        .map(|field| {
            if field.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", field.replace('"', "\"\""))
            } else {
                field.clone()
            }
        })
        .collect();
    text.push_str(&quoted.join(","));
    text.push('\n');
}
