//! How figures look: one page as PDF, intervals within what a metric can be, eight series that can be told apart.

use super::*;

/// One page of the printed size, which needs no font and names no time.
#[test]
fn pdf_is_one_page_of_paths() {
    for (name, figure) in all() {
        let rendered = drawn(name, &figure);
        let ([width, height], _) = text_boxes(&figure).unwrap();
        let text = String::from_utf8_lossy(&rendered.pdf);
        assert!(text.starts_with("%PDF-1.") && text.trim_end().ends_with("%%EOF"), "{name}");
        let page = format!("/MediaBox [0 0 {} {}]", width as f32, height as f32);
        assert!(text.contains(&page) && text.matches("/Type /Page\n").count() == 1, "{name}: no {page}");
        for absent in ["/Font", "/CreationDate", "/ModDate", "/ID"] {
            assert!(!text.contains(absent), "{name}: {absent}");
        }
    }
}

#[test]
fn intervals_are_drawn_within_what_the_metric_can_be_and_the_data_file_has_them_whole() {
    let figure = |limits: Limits| {
        let curve = Curve { name: "lora".into(), points: vec![(1.0, measured(97.0, 6.0)), (2.0, measured(3.0, 9.0))] };
        let task = TaskCurves { task: "cola".into(), metric: "accuracy".into(), unit: "%".into(), curves: vec![curve] };
        training_curves(caption("Cut"), &[task]).within(|_| limits)
    };
    let both = Limits { low: Some(0.0), high: Some(100.0) };
    let (cut, open) = (drawn("cut", &figure(both)), drawn("open", &figure(Limits::default())));
    assert_eq!(cut.data_csv, open.data_csv);
    assert!(cut.data_csv.contains("97,,91,103") && cut.data_csv.contains("3,,-6,12"), "{}", cut.data_csv);
    let said = "Intervals are drawn up to what the metric can be";
    assert!(cut.svg.contains(said) && !open.svg.contains(said));
    // The axis has no tick outside 0 to 100 where nothing is drawn there.
    let spread = |figure: &Figure| {
        let (_, texts) = text_boxes(figure).unwrap();
        texts.iter().filter_map(|text| text.text.replace('−', "-").parse::<f64>().ok()).fold(0.0, f64::max)
    };
    assert_eq!(spread(&figure(both)), 100.0);
    // What no limit cuts has no note.
    let wide = Limits { low: Some(-10.0), high: Some(110.0) };
    assert!(!drawn("wide", &figure(wide)).svg.contains(said));
}

#[test]
fn eight_series_have_eight_colours() {
    let variants = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let svg = drawn("eight", &training_curves(caption("Eight"), &loss_curves(&variants, 30))).svg;
    let lines = svg.split("stroke=\"#").skip(1).map(|rest| &rest[..6]);
    let mut colours: Vec<&str> = lines.collect();
    colours.sort_unstable();
    colours.dedup();
    // Beside the axes', the grid's and the markers' rims.
    colours.retain(|colour| !["1e1e1e", "e1e1e1", "ffffff"].contains(colour));
    assert_eq!(colours.len(), 8, "{colours:?}");
    // All bands lie below all lines: the last of them is before the first line of a series.
    let last_band = svg.rfind("fill-opacity=\"0.09\"").unwrap();
    let first_line = svg[svg.find("fill-opacity=\"0.09\"").unwrap()..].find("stroke=\"#0072b2\"").unwrap();
    assert!(last_band < svg.find("fill-opacity=\"0.09\"").unwrap() + first_line);
}
