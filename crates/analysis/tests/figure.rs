//! Every kind of figure, ordinary and extreme: what it holds, where its text stands, and that it is the same twice.

use analysis::figure::*;

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
                            (f64::from(rank + 1), measured(91.0 - loss + 0.3 * random.normal(), 0.8 + 0.5 * random.uniform()))
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
    vec![
        TaskCurves { task: "sst2".into(), metric: "validation loss".into(), unit: "nats".into(), curves: variants.iter().enumerate().map(curve).collect() },
    ]
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
fn ordinary() -> Vec<(&'static str, Figure)> {
    let variants = ["dylora", "lora", "lora_truncated", "lora_svd"];
    let maps = names(&["query", "key", "value", "output", "up", "down"]);
    let mut random = Random(11);
    let allocation: Vec<f64> =
        (0..72).map(|place| (f64::from(place % 12) * 0.5 + f64::from(place / 12) + random.normal()).clamp(0.0, 12.0)).collect();
    let spread: Vec<f64> = (0..72).map(|_| 1.5 * random.uniform()).collect();
    let cubic = |step: f64| {
        let t = ((step - 500.0) / 2000.0).clamp(0.0, 1.0);
        576.0 + (864.0 - 576.0) * (1.0 - t).powi(3)
    };
    let schedule: Vec<(f64, f64)> = (0..=60).map(|index| (50.0 * f64::from(index), cubic(50.0 * f64::from(index)))).collect();
    let kept: Vec<(f64, f64)> = (0..=15).map(|index| (200.0 * f64::from(index), cubic(200.0 * f64::from(index)).round())).collect();
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
            means: (0..7).map(|row| (row != 5).then(|| measured(88.0 + random.normal(), 0.5 + random.uniform()))).collect(),
        })
        .collect();
    let seven = names(&["full", "bitfit", "lora", "dora", "adalora", "vera", "dylora"]);
    let two = [map("ΔW_{q}", phi(8, 64, 0.75, 1)), map("ΔW_{v}", phi(8, 64, 0.45, 2))];
    vec![
        ("phi_ranks", phi_ranks(caption("Subspaces of rank 8 and rank 64 share their top direction"), &two, ["i (r = 8)", "j (r = 64)"], 8, 1.0)),
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
        ("amplification", amplification(caption("ΔW amplifies directions that W does not emphasise"), &amplification_rows(&["r = 4", "r = 64"]))),
        ("rank_curves", rank_curves(caption("One DyLoRA run against one LoRA run per rank"), &rank_tasks(3, &variants))),
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
        ("seed_overlap", seed_overlap(caption("Overlap of seeds by layer"), "φ(8, 8)", &numbers(12), &overlaps, Some(0.0625))),
        ("comparison", comparison(caption("Seven variants on three tasks"), &seven, &methods_by_task, Some(2))),
    ]
}

/// Every kind with data at their limits.
fn extreme() -> Vec<(&'static str, Figure)> {
    let long = "lora_truncated_after_training_with_singular_values";
    let tiny = |value: f64| TaskCurves {
        task: "tiny".into(),
        metric: "squared gradient".into(),
        unit: "nats^{2}".into(),
        curves: vec![Curve { name: "lora".into(), points: (1..9).map(|r| (f64::from(r), measured(value * f64::from(r), value / 2.0))).collect() }],
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
        curves: vec![Curve { name: "lora".into(), points: (1..9).map(|r| (f64::from(r), Measured::exact(0.123_456_789))).collect() }],
        ..one.clone()
    };
    let close = TaskCurves {
        curves: vec![Curve { name: "lora".into(), points: (1..9).map(|r| (f64::from(r), Measured::exact(0.9 + 1e-6 * f64::from(r)))).collect() }],
        ..one.clone()
    };
    let panels: Vec<PhiMap> = (0..24).map(|index| map(&format!("encoder layer {index}, feed-forward up"), phi(64, 64, 0.5, index))).collect();
    let layers = 96;
    let deep: Vec<Overlap> = ["query", "value"]
        .iter()
        .map(|&name| Overlap { map: name.into(), layers: (0..layers).map(|layer| (layer % 7 > 0).then(|| measured(0.4, 0.1))).collect() })
        .collect();
    let wide: Vec<f64> = (0..96 * 2).map(f64::from).collect();
    let far = Dynamics { method: "a".into(), ..dynamics_points(1.0, 0.01, 3.0e-7) };
    let near = Dynamics { method: long.into(), ..dynamics_points(-1.0, 0.01, 4.0e9) };
    let single = Dynamics { method: "one point".into(), points: vec![(0.1, 0.2, 5.0)], fit: None };
    let mut quiet = caption("");
    quiet.n = String::new();
    quiet.notes = vec![];
    let column = |figure: Figure| Figure { width: Width::Column, columns: 1, ..figure };
    vec![
        ("long_names", comparison(
            Caption { title: format!("A title that goes on and on: {long} against {long} and {long}, with all that follows"), ..caption("") },
            &names(&[long, "lora", "a", "gate_proj, up_proj, down_proj and every other map"]),
            &[TaskMeans { task: format!("task {long}"), metric: long.into(), unit: "%".into(), means: vec![Some(measured(1e5, 2e3)), Some(measured(1.1e5, 2e3)), None, Some(measured(0.9e5, 1e2))] }],
            Some(1),
        )),
        ("long_bars", amplification(caption(long), &amplification_rows(&["encoder.layer.0.attention.query, r = 4", "encoder.layer.0.attention.query, r = 64", "encoder.layer.11.attention.value, r = 4", "encoder.layer.11.attention.value, r = 64"]))),
        ("many_bars", amplification(caption("Many"), &amplification_rows(&["a", "b", "c", "d", "e", "f", "g", "h"]))),
        ("one_bar", amplification(quiet.clone(), &amplification_rows(&["r = 4"]))),
        ("tiny_values", rank_curves(caption("Tiny and huge"), &[tiny(3.7e-12), tiny(2.2e11)])),
        ("one_point", rank_curves(caption("One point"), std::slice::from_ref(&one))),
        ("constant", rank_curves(caption("Constant and nearly constant"), &[same, close])),
        ("many_variants", training_curves(caption("Fourteen variants"), &loss_curves(&many, 40))),
        ("one_step", training_curves(caption("One step"), &loss_curves(&["lora", "dora"], 1))),
        ("panels_24", phi_grid(caption("24 panels"), &panels, ["i (seed 1)", "j (seed 2)"], 6, 1.0)),
        ("panels_24_narrow", column(phi_grid(caption("Three panels in a column"), &panels[..3], ["i (seed 1)", "j (seed 2)"], 6, 1.0))),
        ("deep", seed_overlap(caption("96 layers"), "φ(8, 8)", &numbers(layers), &deep, Some(0.01))),
        ("deep_ranks", rank_allocation(caption("96 layers"), [&names(&["query", "value"]), &numbers(layers)], &Matrix::dense(2, layers, &wide), None, &[], &[])),
        ("one_cell", phi_seeds(quiet, &[map("", phi(1, 1, 0.5, 1))], ["i", "j"], 1.0)),
        ("undefined", phi_ranks(caption("Undefined and flagged"), &[map("ΔW_{q}", holes(phi(8, 16, 0.8, 2)))], ["i", "j"], 8, 1.0)),
        ("scales", dynamics(caption("Very small, very large, one point"), &[far, near, single])),
        ("column_dynamics", column(dynamics(caption("One column"), &[Dynamics { method: "LoRA".into(), ..dynamics_points(1.1, 0.012, 1.0) }]))),
        ("six_tasks", rank_curves(caption("Six tasks"), &rank_tasks(6, &["dylora", "lora", "lora_truncated", "lora_svd"]))),
    ]
}

pub fn all() -> Vec<(&'static str, Figure)> {
    ordinary().into_iter().chain(extreme()).collect()
}

#[test]
fn no_text_overlaps_another_or_leaves_the_canvas() {
    for (name, figure) in all() {
        let ([width, height], texts) = text_boxes(&figure).unwrap_or_else(|error| unreachable!("{name}: {error}"));
        for (index, a) in texts.iter().enumerate() {
            let inside = a.left >= 0.0 && a.top >= 0.0 && a.right <= width && a.bottom <= height;
            assert!(inside, "{name}: `{}` leaves the canvas of {width} by {height}: {a:?}", a.text);
            for b in &texts[..index] {
                let apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
                assert!(apart, "{name}: `{}` and `{}` overlap: {a:?} {b:?}", a.text, b.text);
            }
        }
    }
}
