//! LoRA's table 7 from a study's adapters.

use std::collections::BTreeMap;

use super::{Block, Entry, Table};
use crate::{
    measures::{place, projection::Row},
    stats::Summary,
};

/// Rows of one line, by kind of map and rank.
type Lines<'a> = BTreeMap<(String, usize), Vec<&'a Row>>;

/// One block per task and variant, one row per kind of map and rank: `‖UᵀWV‖_F` for the directions of `ΔW`, of `W` and of a random
/// matrix, and the amplification `‖ΔW‖_F / ‖UᵀWV‖_F`.
///
/// Numbers are geometric means, over the layers within a run and then over seeds; ± is a factor, the half-width of the 95% Student
/// interval of the logarithm over seeds, exponentiated.
pub fn projection_table(rows: &[Row]) -> Table {
    let mut groups: BTreeMap<(&str, &str), Lines<'_>> = BTreeMap::new();
    for row in rows {
        let of_group = groups.entry((&row.task, &row.variant)).or_default();
        of_group.entry((place(&row.map).1, row.rank)).or_default().push(row);
    }
    let mut blocks = Vec::new();
    for ((task, variant), lines) in &groups {
        let lines = lines.iter().map(|((kind, rank), rows)| line(kind, *rank, rows)).collect();
        blocks.push(Block { title: Some(format!("{task}, {variant}")), rows: lines });
    }
    Table {
        caption: "W in the directions of the update (LoRA, table 7), r directions each.".to_owned(),
        header: ["map", "r", "seeds", "ΔW", "W", "random", "amplification"].map(str::to_owned).to_vec(),
        names: 1,
        blocks,
        notes: vec![
            "‖UᵀWV‖_F for the leading directions of ΔW, of W and of a random matrix (root of the mean square). Geometric means over layers, \
             then over seeds; ×/÷ is the 95% Student interval over seeds as a factor."
                .to_owned(),
        ],
    }
}

fn line(kind: &str, rank: usize, rows: &[&Row]) -> Vec<Entry> {
    let over = |pick: &dyn Fn(&Row) -> Option<f64>| {
        let mut seeds: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for row in rows {
            if let Some(value) = pick(row).filter(|value| *value > 0.0) {
                seeds.entry(row.seed).or_default().push(value.ln());
            }
        }
        let means: Vec<f64> = seeds.values().map(|logs| logs.iter().sum::<f64>() / logs.len() as f64).collect();
        Summary::of(&means).map_or(Entry::Missing, |summary| {
            let factor = summary.half_width().map_or(String::new(), |half| format!(" ×/÷ {:.2}", half.exp()));
            Entry::Text(format!("{:.3}{factor}", summary.mean.exp()))
        })
    };
    let seeds: std::collections::BTreeSet<u64> = rows.iter().map(|row| row.seed).collect();
    vec![
        Entry::Text(kind.to_owned()),
        Entry::Text(rank.to_string()),
        Entry::Text(seeds.len().to_string()),
        over(&|row| Some(row.onto_update)),
        over(&|row| Some(row.onto_base)),
        over(&|row| Some(row.onto_random)),
        over(&|row| row.amplification),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_geometric_mean_over_layers_and_seeds() {
        let row = |layer: usize, seed: u64, amplification: f64| Row {
            task: "mnli".to_owned(),
            variant: "lora".to_owned(),
            rank: 4,
            seed,
            map: format!("encoder.layer.{layer}.attention.self.query"),
            directions: 4,
            base_norm: 1.0,
            update_norm: 1.0,
            onto_update: 0.5,
            onto_base: 2.0,
            onto_random: 0.25,
            amplification: Some(amplification),
        };
        let rows = [row(0, 0, 2.0), row(1, 0, 8.0), row(0, 1, 1.0), row(1, 1, 16.0)];
        let shown = crate::render::text(&projection_table(&rows));
        // Both seeds have a geometric mean of 4, so the interval is a factor of one.
        assert!(shown.contains("4.000 ×/÷ 1.00") && shown.contains("0.500 ×/÷ 1.00"), "{shown}");
        assert!(shown.contains("mnli, lora"), "{shown}");
    }
}
