//! Every kind of figure, ordinary and extreme: what it holds, where its text stands, and that it is the same twice.

use analysis::figure::{
    AmplificationRow, Axis, Caption, Chart, Content, Curve, Dynamics, Figure, FigureError, Fit, Limits, Look, Matrix,
    Measured, Overlap, Panel, PhiMap, Point, Rendered, Scale, Series, TaskCurves, TaskMeans, Width, amplification,
    comparison, dynamics, phi_grid, phi_ranks, phi_seeds, rank_allocation, rank_curves, render, seed_overlap,
    text_boxes, training_curves, viridis, viridis_table,
};

/// A fixed sequence of uniform numbers in (0, 1): `SplitMix64`, Steele et al. 2014.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// About normal, with mean 0 and variance 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn caption(title: &str) -> Caption {
    Caption {
        title: title.into(),
        n: "n = 5 seeds; whiskers and bands: 95% Student intervals of the mean".into(),
        notes: vec!["Synthetic numbers.".into()],
    }
}

/// Like measured overlaps: the top direction is shared, the rest is close to `max(i, j) / d`.
fn phi(rows: usize, columns: usize, shared: f64, seed: u64) -> Matrix {
    let mut random = Random(seed);
    let values: Vec<f64> = (0..rows * columns)
        .map(|place| {
            let (i, j) = ((place / columns + 1) as f64, (place % columns + 1) as f64);
            let base = i.max(j) / 160.0;
            (base + shared / i.min(j).powf(0.8) * (1.0 + 0.05 * random.normal())).clamp(0.0, 1.0)
        })
        .collect();
    Matrix::dense(rows, columns, &values)
}

fn holes(mut matrix: Matrix) -> Matrix {
    let columns = matrix.columns;
    matrix.flags = vec![false; matrix.values.len()];
    for (place, value) in matrix.values.iter_mut().enumerate() {
        if place / columns + 2 >= matrix.rows {
            *value = None;
        } else if place % columns == 5 {
            matrix.flags[place] = true;
        }
    }
    matrix
}

fn map(title: &str, phi: Matrix) -> PhiMap {
    PhiMap { title: title.into(), phi }
}

fn measured(value: f64, half: f64) -> Measured {
    Measured { value, interval: Some([value - half, value + half]) }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.into()).collect()
}

fn numbers(count: usize) -> Vec<String> {
    (1..=count).map(|number| number.to_string()).collect()
}

fn rank_tasks(count: usize, variants: &[&str]) -> Vec<TaskCurves> {
    let mut random = Random(5);
    ["sst2", "cola", "mrpc", "rte", "stsb", "qnli"][..count]
        .iter()
        .map(|&task| TaskCurves {
            task: task.into(),
            metric: "accuracy".into(),
            unit: "%".into(),
            curves: variants
                .iter()
                .enumerate()
                .map(|(index, &name)| Curve {
                    name: name.into(),
                    points: (0..8)
                        .map(|rank| {
                            let loss = [4.0, 3.0, 34.0, 18.0][index % 4] / f64::from(rank + 1);
                            (
                                f64::from(rank + 1),
                                measured(91.0 - loss + 0.3 * random.normal(), 0.8 + 0.5 * random.uniform()),
                            )
                        })
                        .collect(),
                })
                .collect(),
        })
        .collect()
}

fn loss_curves(variants: &[&str], count: usize) -> Vec<TaskCurves> {
    let mut random = Random(9);
    let curve = |(index, &name): (usize, &&str)| Curve {
        name: name.into(),
        points: (0..count)
            .map(|step| {
                let t = step as f64 / count as f64;
                let value = 0.3 + (0.04 * index as f64) + 1.9 / (1.0 + 18.0 * t) + 0.01 * random.normal();
                (25.0 * (step + 1) as f64, measured(value, 0.03 + 0.06 * (1.0 - t)))
            })
            .collect(),
    };
    vec![TaskCurves {
        task: "sst2".into(),
        metric: "validation loss".into(),
        unit: "nats".into(),
        curves: variants.iter().enumerate().map(curve).collect(),
    }]
}

fn dynamics_points(slope: f64, noise: f64, scale: f64) -> Dynamics {
    let mut random = Random(3);
    let points = (0..72)
        .map(|index| {
            let step = f64::from(index % 6 + 1) * 500.0;
            let d = scale * (0.02 + 0.05 * step / 3000.0 + 0.02 * random.uniform());
            (d, (scale * 0.08 + slope * d + scale * noise * random.normal()).abs(), step)
        })
        .collect();
    let fit = Fit { slope, intercept: scale * 0.08, correlation: if slope < 0.0 { -0.62 } else { 0.83 } };
    Dynamics { method: String::new(), points, fit: Some(fit) }
}

fn amplification_rows(names: &[&str]) -> Vec<AmplificationRow> {
    names
        .iter()
        .enumerate()
        .map(|(index, &name)| {
            let factor = 1.0 + index as f64;
            AmplificationRow {
                name: name.into(),
                projections: [
                    measured(0.32 * factor, 0.05 * factor),
                    Measured::exact(21.67 + 5.0 * factor),
                    measured(0.02 * factor, 0.004 * factor),
                ],
                amplification: measured(21.5 / factor, 2.0 / factor),
            }
        })
        .collect()
}

/// Every kind with data as they are measured.
#[expect(clippy::too_many_lines, reason = "a table of figures")]
fn ordinary() -> Vec<(&'static str, Figure)> {
    let variants = ["dylora", "lora", "lora_truncated", "lora_svd"];
    let maps = names(&["query", "key", "value", "output", "up", "down"]);
    let mut random = Random(11);
    let allocation: Vec<f64> = (0..72)
        .map(|place| (f64::from(place % 12) * 0.5 + f64::from(place / 12) + random.normal()).clamp(0.0, 12.0))
        .collect();
    let spread: Vec<f64> = (0..72).map(|_| 1.5 * random.uniform()).collect();
    let cubic = |step: f64| {
        let t = ((step - 500.0) / 2000.0).clamp(0.0, 1.0);
        576.0 + (864.0 - 576.0) * (1.0 - t).powi(3)
    };
    let schedule: Vec<(f64, f64)> =
        (0..=60).map(|index| (50.0 * f64::from(index), cubic(50.0 * f64::from(index)))).collect();
    let kept: Vec<(f64, f64)> =
        (0..=15).map(|index| (200.0 * f64::from(index), cubic(200.0 * f64::from(index)).round())).collect();
    let methods = [("full fine-tuning", -1.2), ("LoRA", 1.1), ("DoRA", -0.4)]
        .map(|(method, slope)| Dynamics { method: method.into(), ..dynamics_points(slope, 0.012, 1.0) });
    let mut grid = vec![];
    for layer in 1..=12 {
        for (index, name) in ["query", "value"].iter().enumerate() {
            let shared = 0.75 - 0.02 * f64::from(layer) - 0.2 * index as f64;
            grid.push(map(&format!("layer {layer}, {name}"), phi(8, 64, shared, layer as u64)));
        }
    }
    let overlap = |base: f64, random: &mut Random| {
        (0..12).map(|layer| Some(measured(base - 0.01 * f64::from(layer) + 0.02 * random.normal(), 0.03))).collect()
    };
    let overlaps = [
        Overlap { map: "query".into(), layers: overlap(0.62, &mut random) },
        Overlap { map: "value".into(), layers: overlap(0.48, &mut random) },
    ];
    let methods_by_task: Vec<TaskMeans> = ["sst2", "cola", "mrpc"]
        .iter()
        .map(|&task| TaskMeans {
            task: task.into(),
            metric: "accuracy".into(),
            unit: "%".into(),
            means: (0..7)
                .map(|row| (row != 5).then(|| measured(88.0 + random.normal(), 0.5 + random.uniform())))
                .collect(),
        })
        .collect();
    let seven = names(&["full", "bitfit", "lora", "dora", "adalora", "vera", "dylora"]);
    let two = [map("ΔW_{q}", phi(8, 64, 0.75, 1)), map("ΔW_{v}", phi(8, 64, 0.45, 2))];
    vec![
        (
            "phi_ranks",
            phi_ranks(
                caption("Subspaces of rank 8 and rank 64 share their top direction"),
                &two,
                ["i (r = 8)", "j (r = 64)"],
                8,
                1.0,
            ),
        ),
        (
            "phi_seeds",
            phi_seeds(
                caption("Two seeds learn the same few directions"),
                &[
                    map("ΔW_{q}, two seeds", phi(64, 64, 0.75, 3)),
                    map("ΔW_{v}, two seeds", phi(64, 64, 0.45, 4)),
                    map("random pair", phi(64, 64, 0.0, 5)),
                ],
                ["i (seed 1, r = 64)", "j (seed 2, r = 64)"],
                1.0,
            ),
        ),
        ("phi_grid", phi_grid(caption("Overlap of rank 8 and rank 64 in every layer"), &grid, ["i", "j"], 6, 1.0)),
        (
            "phi_weights",
            phi_seeds(
                caption("Directions of W in ΔW"),
                &[map("query, layer 6", holes(phi(64, 77, 0.2, 6)))],
                ["i (directions of ΔW)", "j (directions of W)"],
                0.7,
            ),
        ),
        (
            "amplification",
            amplification(
                caption("ΔW amplifies directions that W does not emphasise"),
                &amplification_rows(&["r = 4", "r = 64"]),
            ),
        ),
        (
            "rank_curves",
            rank_curves(caption("One DyLoRA run against one LoRA run per rank"), &rank_tasks(3, &variants)),
        ),
        (
            "rank_allocation",
            rank_allocation(
                caption("Where AdaLoRA spends its budget"),
                [&maps, &numbers(12)],
                &Matrix::dense(6, 12, &allocation),
                Some(&Matrix::dense(6, 12, &spread)),
                &schedule,
                &[("kept".into(), kept)],
            ),
        ),
        ("dynamics", dynamics(caption("How magnitudes and directions move"), &methods)),
        ("training_curves", training_curves(caption("Validation loss"), &loss_curves(&variants, 60))),
        (
            "seed_overlap",
            seed_overlap(caption("Overlap of seeds by layer"), "φ(8, 8)", &numbers(12), &overlaps, Some(0.0625)),
        ),
        ("comparison", comparison(caption("Seven variants on three tasks"), &seven, &methods_by_task, Some(2))),
    ]
}

/// Every kind with data at their limits.
#[expect(clippy::too_many_lines, reason = "a table of figures")]
fn extreme() -> Vec<(&'static str, Figure)> {
    let long = "lora_truncated_after_training_with_singular_values";
    let tiny = |value: f64| TaskCurves {
        task: "tiny".into(),
        metric: "squared gradient".into(),
        unit: "nats^{2}".into(),
        curves: vec![Curve {
            name: "lora".into(),
            points: (1..9).map(|r| (f64::from(r), measured(value * f64::from(r), value / 2.0))).collect(),
        }],
    };
    let one = TaskCurves {
        task: "one".into(),
        metric: "accuracy".into(),
        unit: String::new(),
        curves: vec![Curve { name: "lora".into(), points: vec![(8.0, Measured::exact(0.5))] }],
    };
    let many: Vec<String> = (0..14).map(|index| format!("variant_{index}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let same = TaskCurves {
        curves: vec![Curve {
            name: "lora".into(),
            points: (1..9).map(|r| (f64::from(r), Measured::exact(0.123_456_789))).collect(),
        }],
        ..one.clone()
    };
    let close = TaskCurves {
        curves: vec![Curve {
            name: "lora".into(),
            points: (1..9).map(|r| (f64::from(r), Measured::exact(0.9 + 1e-6 * f64::from(r)))).collect(),
        }],
        ..one.clone()
    };
    let panels: Vec<PhiMap> =
        (0..24).map(|index| map(&format!("encoder layer {index}, feed-forward up"), phi(64, 64, 0.5, index))).collect();
    let layers = 96;
    let deep: Vec<Overlap> = ["query", "value"]
        .iter()
        .map(|&name| Overlap {
            map: name.into(),
            layers: (0..layers).map(|layer| (layer % 7 > 0).then(|| measured(0.4, 0.1))).collect(),
        })
        .collect();
    let wide: Vec<f64> = (0..96 * 2).map(f64::from).collect();
    let far = Dynamics { method: "a".into(), ..dynamics_points(1.0, 0.01, 3.0e-7) };
    let near = Dynamics { method: long.into(), ..dynamics_points(-1.0, 0.01, 4.0e9) };
    let single = Dynamics { method: "one point".into(), points: vec![(0.1, 0.2, 5.0)], fit: None };
    let quiet = Caption { n: "n = 1 run".into(), ..Caption::default() };
    let column = |figure: Figure| Figure { width: Width::Column, columns: 1, ..figure };
    vec![
        (
            "long_names",
            comparison(
                Caption {
                    title: format!(
                        "A title that goes on and on: {long} against {long} and {long}, with all that follows"
                    ),
                    ..caption("")
                },
                &names(&[long, "lora", "a", "gate_proj, up_proj, down_proj and every other map"]),
                &[TaskMeans {
                    task: format!("task {long}"),
                    metric: long.into(),
                    unit: "%".into(),
                    means: vec![Some(measured(1e5, 2e3)), Some(measured(1.1e5, 2e3)), None, Some(measured(0.9e5, 1e2))],
                }],
                Some(1),
            ),
        ),
        (
            "long_bars",
            amplification(
                caption(long),
                &amplification_rows(&[
                    "encoder.layer.0.attention.query, r = 4",
                    "encoder.layer.0.attention.query, r = 64",
                    "encoder.layer.11.attention.value, r = 4",
                    "encoder.layer.11.attention.value, r = 64",
                ]),
            ),
        ),
        ("many_bars", amplification(caption("Many"), &amplification_rows(&["a", "b", "c", "d", "e", "f", "g", "h"]))),
        ("one_bar", amplification(quiet.clone(), &amplification_rows(&["r = 4"]))),
        ("tiny_values", rank_curves(caption("Tiny and huge"), &[tiny(3.7e-12), tiny(2.2e11)])),
        ("one_point", rank_curves(caption("One point"), std::slice::from_ref(&one))),
        ("constant", rank_curves(caption("Constant and nearly constant"), &[same, close])),
        ("many_variants", training_curves(caption("Fourteen variants"), &loss_curves(&many, 40))),
        ("one_step", training_curves(caption("One step"), &loss_curves(&["lora", "dora"], 1))),
        ("panels_24", phi_grid(caption("24 panels"), &panels, ["i (seed 1)", "j (seed 2)"], 6, 1.0)),
        (
            "panels_24_narrow",
            column(phi_grid(caption("Three panels in a column"), &panels[..3], ["i (seed 1)", "j (seed 2)"], 6, 1.0)),
        ),
        ("deep", seed_overlap(caption("96 layers"), "φ(8, 8)", &numbers(layers), &deep, Some(0.01))),
        (
            "deep_ranks",
            rank_allocation(
                caption("96 layers"),
                [&names(&["query", "value"]), &numbers(layers)],
                &Matrix::dense(2, layers, &wide),
                None,
                &[],
                &[],
            ),
        ),
        ("one_cell", phi_seeds(quiet, &[map("", phi(1, 1, 0.5, 1))], ["i", "j"], 1.0)),
        (
            "undefined",
            phi_ranks(
                caption("Undefined and flagged"),
                &[map("ΔW_{q}", holes(phi(8, 16, 0.8, 2)))],
                ["i", "j"],
                8,
                1.0,
            ),
        ),
        ("scales", dynamics(caption("Very small, very large, one point"), &[far, near, single])),
        (
            "column_dynamics",
            column(dynamics(
                caption("One column"),
                &[Dynamics { method: "LoRA".into(), ..dynamics_points(1.1, 0.012, 1.0) }],
            )),
        ),
        (
            "six_tasks",
            rank_curves(caption("Six tasks"), &rank_tasks(6, &["dylora", "lora", "lora_truncated", "lora_svd"])),
        ),
    ]
}

fn all() -> Vec<(&'static str, Figure)> {
    ordinary().into_iter().chain(extreme()).collect()
}

/// The figure of this name.
fn named(name: &str) -> Figure {
    match all().into_iter().find(|(other, _)| *other == name) {
        Some((_, figure)) => figure,
        None => unreachable!("there is no figure `{name}`"),
    }
}

#[track_caller]
fn drawn(name: &str, figure: &Figure) -> Rendered {
    match render(figure) {
        Ok(rendered) => rendered,
        Err(error) => unreachable!("{name}: {error}"),
    }
}

/// Least distance between the ink of two texts, in points.
const CLEAR: f64 = 0.3;

/// The first pair of texts that overlap, or a text that leaves the canvas.
fn clash(figure: &Figure) -> Result<Option<String>, FigureError> {
    let ([width, height], texts) = text_boxes(figure)?;
    for (index, a) in texts.iter().enumerate() {
        if a.left < 0.0 || a.top < 0.0 || a.right > width || a.bottom > height {
            return Ok(Some(format!("`{}` leaves the canvas of {width} by {height}: {a:?}", a.text)));
        }
        for b in &texts[..index] {
            if a.left < b.right + CLEAR
                && b.left < a.right + CLEAR
                && a.top < b.bottom + CLEAR
                && b.top < a.bottom + CLEAR
            {
                return Ok(Some(format!("`{}` and `{}` overlap: {a:?} {b:?}", a.text, b.text)));
            }
        }
    }
    Ok(None)
}

#[test]
fn no_text_overlaps_another_or_leaves_the_canvas() {
    for (name, figure) in all() {
        assert_eq!(clash(&figure), Ok(None), "{name}");
    }
}

#[test]
fn type_is_legible_at_the_printed_width() {
    for (name, figure) in all() {
        let ([width, height], texts) = text_boxes(&figure).unwrap();
        let inches = if figure.width == Width::Column { 3.3 } else { 6.9 };
        assert!((width / 72.0 - inches).abs() < 1e-9 && height <= 648.0, "{name}: {width} by {height} pt");
        assert!(texts.iter().all(|text| (7.0..=9.0).contains(&text.size)), "{name}");
    }
}

#[test]
fn every_word_of_the_description_is_drawn() {
    let figure = named("comparison");
    let (_, texts) = text_boxes(&figure).unwrap();
    for word in [
        "Seven variants on three tasks",
        "sst2",
        "(c)",
        "mrpc",
        "accuracy (%)",
        "adalora",
        "mean of lora",
        &figure.n,
        &figure.notes[0],
    ] {
        assert!(texts.iter().any(|text| text.text == word), "{word}");
    }
}

#[test]
fn the_same_figure_is_the_same_bytes() {
    for (name, figure) in ordinary() {
        assert_eq!(drawn(name, &figure), drawn(name, &figure.clone()), "{name}");
    }
}

#[test]
fn no_mathematics_of_the_platform_is_used() {
    // These functions may round differently from machine to machine; `libm` and IEEE square roots do not.
    let sources = [
        include_str!("../src/figure/colour.rs"),
        include_str!("../src/figure/font.rs"),
        include_str!("../src/figure/layout.rs"),
        include_str!("../src/figure/layout/axis.rs"),
        include_str!("../src/figure/paint.rs"),
        include_str!("../src/figure/panel.rs"),
        include_str!("../src/figure/raster.rs"),
        include_str!("../src/figure/scale.rs"),
        include_str!("../src/figure/scene.rs"),
        include_str!("../src/figure/svg.rs"),
    ];
    for call in [
        ".powi(",
        ".powf(",
        ".exp(",
        ".exp2(",
        ".ln(",
        ".log(",
        ".log2(",
        ".log10(",
        ".sin(",
        ".cos(",
        ".tan",
        ".hypot(",
        ".cbrt(",
        ".mul_add(",
        "HashMap",
    ] {
        assert!(sources.iter().all(|source| !source.contains(call)), "{call}");
    }
}

#[test]
fn a_figure_survives_json() {
    for (name, figure) in all() {
        let json = serde_json::to_string(&figure).unwrap();
        assert_eq!(serde_json::from_str::<Figure>(&json).unwrap(), figure, "{name}");
    }
    let unknown = r#"{"title":"","width":"column","columns":1,"aspect":1,"panels":[],"n":"","notes":[],"dpi":300}"#;
    assert!(serde_json::from_str::<Figure>(unknown).unwrap_err().to_string().contains("unknown field `dpi`"));
}

/// All points that a path of `m`, `l`, `h`, `v` and `z` visits.
fn visited(path: &str) -> Vec<[i64; 2]> {
    let (mut at, mut first) = ([0, 0], [0, 0]);
    let mut points = vec![];
    let starts: Vec<usize> =
        path.char_indices().filter(|(_, c)| c.is_ascii_alphabetic()).map(|(place, _)| place).collect();
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(path.len());
        let numbers: Vec<i64> =
            path[start + 1..end].replace('-', " -").split_whitespace().flat_map(str::parse).collect();
        match (&path[start..=start], &numbers[..]) {
            ("m" | "l", &[x, y]) => at = [at[0] + x, at[1] + y],
            ("h", &[x]) => at[0] += x,
            ("v", &[y]) => at[1] += y,
            ("z", []) => at = first,
            (command, _) => unreachable!("unknown command {command}"),
        }
        if path[start..].starts_with('m') {
            first = at;
        }
        points.push(at);
    }
    points
}

#[test]
fn svg_is_xml_and_no_ink_leaves_the_canvas() {
    for (name, figure) in all() {
        let svg = drawn(name, &figure).svg;
        let document = roxmltree::Document::parse(&svg).unwrap_or_else(|error| unreachable!("{name}: {error}"));
        let root = document.root_element();
        let view: Vec<i64> =
            root.attribute("viewBox").unwrap().split(' ').map(|number| number.parse().unwrap()).collect();
        let inches = if figure.width == Width::Column { "3.300in" } else { "6.900in" };
        assert_eq!(root.attribute("width"), Some(inches), "{name}");
        // Nothing that depends on the viewer: no text, no fonts, no links.
        for node in root.descendants().filter(roxmltree::Node::is_element) {
            assert!(["svg", "title", "desc", "path"].contains(&node.tag_name().name()), "{name}: {node:?}");
            for [x, y] in node.attribute("d").map(visited).unwrap_or_default() {
                assert!((0..=view[2]).contains(&x) && (0..=view[3]).contains(&y), "{name}: [{x}, {y}] of {view:?}");
            }
        }
    }
}

#[test]
fn png_has_300_dots_per_inch_and_ink() {
    for (name, figure) in ordinary() {
        let png = drawn(name, &figure).png;
        let ([_, height], _) = text_boxes(&figure).unwrap();
        let number = |place: usize| u32::from_be_bytes([png[place], png[place + 1], png[place + 2], png[place + 3]]);
        let dots = if figure.width == Width::Column { 990 } else { 2070 };
        assert_eq!((number(16), number(20)), (dots, (height / 72.0 * 300.0).round() as u32), "{name}");
        let place = png.windows(4).position(|window| window == b"pHYs").unwrap();
        assert_eq!((number(place + 4), number(place + 8), png[place + 12]), (11811, 11811, 1), "{name}");
        let mut reader = png::Decoder::new(std::io::Cursor::new(&png)).read_info().unwrap();
        let mut dots = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut dots).unwrap();
        let dark = dots.chunks(3).filter(|dot| dot.iter().all(|&channel| channel < 128)).count();
        assert!(dark > 500, "{name}: {dark} dark dots");
    }
}

#[test]
fn viridis_grows_evenly_in_lightness() {
    // L* of CIE 1976 from sRGB (IEC 61966-2-1).
    let linear = |channel: u8| {
        let share = f64::from(channel) / 255.0;
        if share <= 0.040_45 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    };
    let lightness =
        |[r, g, b]: [u8; 3]| 116.0 * (0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)).cbrt() - 16.0;
    let all: Vec<f64> = viridis_table().into_iter().map(lightness).collect();
    assert_eq!(all.len(), 256);
    let steps: Vec<f64> = all.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Channels are whole numbers, which moves L* by up to 0.36 each.
    assert!(steps.iter().all(|&step| step > -0.1 && step < 0.75), "{steps:?}");
    assert!(all.windows(9).all(|run| run[8] > run[0] + 1.5), "{all:?}");
    assert_eq!((viridis(-1.0), viridis(0.0), viridis(1.0)), ([68, 1, 84], [68, 1, 84], [253, 231, 37]));
}

#[test]
fn the_data_file_holds_what_is_plotted() {
    let figure = named("undefined");
    let csv = drawn("undefined", &figure).data_csv;
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0].join(","), "panel,title,series,x,y,value,low,high,flag");
    assert_eq!(lines.len(), 1 + 8 * 16 + 8 * 8);
    let Content::Heatmap(heat) = &figure.panels[0].content else { unreachable!("a heat map") };
    for (value, line) in heat.matrix.values.iter().zip(&csv.lines().skip(1).collect::<Vec<_>>()) {
        // The series is `φ(i, j)`, quoted for its comma.
        let fields: Vec<&str> = line.split("\"φ(i, j)\",").nth(1).unwrap().split(',').collect();
        match value {
            Some(value) => assert_eq!(fields[2].parse::<f64>().unwrap().to_bits(), value.to_bits()),
            None => assert_eq!((fields[2], fields[5]), ("", "undefined")),
        }
    }
    let curves = [TaskCurves {
        task: "a, \"b\"".into(),
        metric: "loss".into(),
        unit: String::new(),
        curves: vec![Curve {
            name: "lora".into(),
            points: vec![(8.0, measured(1.25e-9, 2.5e-10)), (64.0, Measured::exact(0.1))],
        }],
    }];
    assert_eq!(
        drawn("quoted", &rank_curves(caption("Quoted"), &curves)).data_csv,
        "panel,title,series,x,y,value,low,high,flag\n\
         1,\"a, \"\"b\"\"\",lora,8,1.25e-9,,1e-9,1.5e-9,\n\
         1,\"a, \"\"b\"\"\",lora,64,0.1,,,,\n"
    );
}

#[track_caller]
fn refused(figure: &Figure, message: &str) {
    assert_eq!(render(figure).map(|_| ()).map_err(|error| error.to_string()), Err(message.to_owned()));
}

/// One panel of points on a linear and a doubling axis.
fn chart(points: Vec<Point>) -> Figure {
    let axis = |scale| Axis { label: "x".into(), unit: String::new(), scale, range: None, limits: Limits::default() };
    let series = vec![Series { name: "lora".into(), look: Look::Line, points }];
    Figure {
        title: "Errors".into(),
        width: Width::Column,
        columns: 1,
        aspect: 0.7,
        panels: vec![Panel {
            title: "sst2".into(),
            remark: String::new(),
            x: axis(Scale::Log2),
            y: axis(Scale::Linear),
            content: Content::Chart(Chart { series, colour: None }),
        }],
        n: "n = 1 run".into(),
        notes: vec![],
    }
}

#[test]
fn what_cannot_be_drawn_is_said() {
    let point = |x, y| Point::new(x, y);
    let interval = |low, high| Point { interval: Some([low, high]), ..point(1.0, 0.5) };
    for (points, message) in [
        (
            vec![point(1.0, f64::NAN)],
            "panel 1 (`sst2`) series `lora` point 1.y: the value is `NaN`, but only finite numbers have a place; leave it out, or mark a cell as undefined",
        ),
        (
            vec![point(1.0, 0.0), point(f64::INFINITY, 1.0)],
            "panel 1 (`sst2`) series `lora` point 2.x: the value is `inf`, but only finite numbers have a place; leave it out, or mark a cell as undefined",
        ),
        (
            vec![point(0.0, 1.0)],
            "panel 1 (`sst2`) series `lora` point 1.x: the value is `0`, but a logarithmic axis holds positive numbers; leave it out or use a linear axis",
        ),
        (
            vec![point(1.0, 1e300)],
            "panel 1 (`sst2`) series `lora` point 1.y: the value is `1e300`, but numbers up to 1e100 can be drawn; choose another unit",
        ),
        (
            vec![],
            "panel 1 (`sst2`): there are no points, but a figure shows at least one; leave it out or run the experiment first",
        ),
        (
            vec![interval(0.6, 0.7)],
            "panel 1 (`sst2`) series `lora` point 1.interval: the interval is 0.6 to 0.7, but must hold its value `0.5`; pass lower and upper end in this order",
        ),
        (
            vec![interval(f64::NAN, 0.7)],
            "panel 1 (`sst2`) series `lora` point 1.interval: the value is `NaN`, but only finite numbers have a place; leave it out, or mark a cell as undefined",
        ),
        (
            vec![Point { shade: Some(1.0), ..point(1.0, 1.0) }],
            "panel 1 (`sst2`) series `lora` point 1: the point has a shade, but the panel has no colour scale; give the chart a `colour`",
        ),
    ] {
        refused(&chart(points), message);
    }
    let good = chart(vec![point(1.0, 0.5)]);
    refused(
        &Figure { panels: vec![], ..good.clone() },
        "figure: there are no panels, but a figure shows at least one; leave it out or run the experiment first",
    );
    refused(
        &Figure { n: " ".into(), ..good.clone() },
        "figure.n: it is empty, but every figure says what was repeated and how often; write `n = 1 run` where nothing was",
    );
    refused(
        &Figure { title: "漢字".into(), ..good.clone() },
        "figure.title: `漢字` holds `漢`, which the built-in font lacks; write it in Latin, Greek or mathematical signs",
    );
    refused(
        &Figure { aspect: f64::NAN, ..good.clone() },
        "figure.aspect: the value is `NaN`, but the range is 0.05 to 20; widen the range",
    );
    let mut ranged = good.clone();
    ranged.panels[0].y.range = Some([0.6, 1.0]);
    refused(&ranged, "panel 1 (`sst2`).y: the value is `0.5`, but the range is 0.6 to 1; widen the range");
    ranged.panels[0].y.range = Some([1.0, 0.0]);
    refused(
        &ranged,
        "panel 1 (`sst2`).y: the range is 1 to 0, but its first end must be below its second; swap or widen it",
    );
    let many = Figure { columns: 40, panels: vec![good.panels[0].clone(); 40], ..good };
    assert!(matches!(render(&many), Err(FigureError::NoRoom { .. })));
    let tall = Figure { columns: 1, ..many };
    assert!(render(&tall).unwrap_err().to_string().ends_with("put more panels beside each other, or split the figure"));
}

#[test]
fn matrices_that_do_not_fit_are_refused() {
    let figure = |matrix| phi_seeds(caption("Errors"), &[map("q", matrix)], ["i", "j"], 1.0);
    let matrix = Matrix::dense(2, 2, &[0.1, 0.2, 0.3, 0.4]);
    assert!(render(&figure(matrix.clone())).is_ok());
    refused(
        &figure(Matrix { columns: 3, ..matrix.clone() }),
        "panel 1 (`q`): there are 4 values, but 6 are needed; give one per cell",
    );
    refused(
        &figure(Matrix { flags: vec![true], ..matrix.clone() }),
        "panel 1 (`q`): there are 1 flags, but 4 are needed; give one per cell",
    );
    refused(
        &figure(Matrix::dense(0, 0, &[])),
        "panel 1 (`q`): there are no cells, but a figure shows at least one; leave it out or run the experiment first",
    );
    refused(
        &figure(Matrix::dense(1, 2, &[0.1, f64::NAN])),
        "panel 1 (`q`) row 1 column 2: the value is `NaN`, but only finite numbers have a place; leave it out, or mark a cell as undefined",
    );
    refused(
        &figure(Matrix::dense(1, 2, &[0.1, 1.5])),
        "panel 1 (`q`) row 1 column 2: the value is `1.5`, but the range is 0 to 1; widen the range",
    );
    let ranks = rank_allocation(caption("Errors"), [&names(&["q"]), &numbers(3)], &matrix, None, &[], &[]);
    refused(&ranks, "panel 1 (`final rank`): there are 3 names, but 2 are needed; give one per column");
}

mod random {
    use super::*;
    use proptest::prelude::*;

    fn series(count: usize) -> impl Strategy<Value = Vec<Curve>> {
        let measured = (-9_i32..9, -1.0_f64..1.0, 0.0_f64..0.5);
        let points = prop::collection::vec(measured, 1..6);
        prop::collection::vec(("[a-z_ .]{1,40}", points), 1..=count).prop_map(|curves| {
            curves
                .into_iter()
                .enumerate()
                .map(|(index, (name, points))| Curve {
                    name: format!("{index}{name}"),
                    points: points
                        .into_iter()
                        .enumerate()
                        .map(|(place, (power, value, half))| {
                            let unit = 10.0_f64.powi(power);
                            (1.0 + 3.0 * place as f64, super::measured(value * unit, half * unit))
                        })
                        .collect(),
                })
                .collect()
        })
    }

    /// Two series of bars from left to right, in two panels of half a column.
    fn sideways(labels: &[String], rows: &[(String, f64, f64)]) -> Figure {
        let points = |pick: fn(&(String, f64, f64)) -> f64| {
            rows.iter().enumerate().map(|(index, row)| Point::new(pick(row), index as f64)).collect()
        };
        let bars = |name: &str, points| Series { name: name.into(), look: Look::Bars, points };
        let mut figure = chart(vec![]);
        figure.panels[0].x.scale = Scale::Linear;
        figure.panels[0].y.scale = Scale::Names(labels.to_vec());
        figure.panels[0].content = Content::Chart(Chart {
            series: vec![bars("first", points(|row| row.1)), bars("second", points(|row| -row.2))],
            colour: None,
        });
        Figure { columns: 2, panels: vec![figure.panels[0].clone(); 2], ..figure }
    }

    fn task() -> impl Strategy<Value = TaskCurves> {
        ("[a-z_ ]{0,60}", "[a-z/ ]{1,50}", series(6)).prop_map(|(task, metric, curves)| TaskCurves {
            task,
            metric,
            unit: "%".into(),
            curves,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn curves_of_any_names_and_sizes_have_no_clash(tasks in prop::collection::vec(task(), 1..7), bands in any::<bool>()) {
            let figure = if bands { training_curves(caption("Any"), &tasks) } else { rank_curves(caption("Any"), &tasks) };
            match clash(&figure) {
                Ok(found) => prop_assert_eq!(found, None),
                Err(error) => prop_assert!(matches!(error, FigureError::NoRoom { .. }), "{}", error),
            }
        }

        #[test]
        fn bars_and_dots_of_any_names_and_sizes_have_no_clash(
            rows in prop::collection::vec(("[a-zA-Z_. ]{1,50}", 1e-4_f64..1e4, 1e-4_f64..1e4), 1..9),
        ) {
            let labels: Vec<String> = rows.iter().map(|row| row.0.clone()).collect();
            let bars: Vec<AmplificationRow> = rows
                .iter()
                .map(|(name, a, b)| AmplificationRow {
                    name: name.clone(),
                    projections: [measured(*a, 0.3 * a), Measured::exact(*b), Measured::exact(a * b)],
                    amplification: measured(*b, *b / 2.0),
                })
                .collect();
            let means = rows.iter().map(|row| Some(measured(row.1, row.2))).collect();
            let task = TaskMeans { task: "task".into(), metric: "score".into(), unit: String::new(), means };
            let values: Vec<f64> = (0..labels.len().pow(2)).map(|place| place as f64).collect();
            let ranks = Matrix::dense(labels.len(), labels.len(), &values);
            let named = [&labels[..], &labels[..]];
            for figure in [
                amplification(caption("Any"), &bars),
                comparison(caption("Any"), &labels, &[task.clone(), task], Some(0)),
                sideways(&labels, &rows),
                rank_allocation(caption("Any"), named, &ranks, Some(&ranks), &[(0.0, 9.0), (10.0, 3.0)], &[]),
            ] {
                match clash(&figure) {
                    Ok(found) => prop_assert_eq!(found, None),
                    Err(error) => prop_assert!(matches!(error, FigureError::NoRoom { .. }), "{}", error),
                }
            }
        }
    }
}
