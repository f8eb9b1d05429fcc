//! Two adapters of different seeds, compared: do they find the same directions, and what do they amplify?
//!
//! ```text
//! cargo run --release -p examples --example analyse_two_adapters
//! ```
//!
//! Two questions of the LoRA paper (arXiv:2106.09685, chapter 7), for every map that was adapted:
//!
//! ```text
//! φ(r, r) = ‖U₁ᵀU₂‖_F² / r            in [0, 1]: how much of one subspace lies in the other; r/d for random ones of d dimensions
//! ‖ΔW‖_F / ‖UᵀWV‖_F                   U, V the singular directions of ΔW: how strongly what W has there is amplified
//! ```
//!
//! After a short run the directions of the inputs are still those that A was drawn with, and two seeds share no more of them than chance
//! has it. B starts at 0, so whatever the outputs share was learnt.
//!
//! Nothing here depends on a network: the measures take matrices, so they measure adapters of other programs as well.

use std::{error::Error, path::Path};

use analysis::subspace::{
    Side,
    factored::{SingularDirections as _, Svd},
    grassmann::phi,
    projection,
    random::mean_phi,
};
use interop::update::{Reader, Updates};
use trainer::model_cache::ModelCache;

/// What the two adapters are on one map.
#[derive(Debug)]
pub(crate) struct Row {
    /// The map's name.
    pub(crate) map: String,
    /// `φ(r, r)` of both ΔW, on the inputs and on the outputs.
    pub(crate) phi: [f64; 2],
    /// Its mean over random subspaces of the inputs.
    pub(crate) random: f64,
    /// `‖ΔW‖_F / ‖UᵀWV‖_F` of each adapter.
    pub(crate) amplification: [f64; 2],
}

/// Trains one LoRA with two seeds into `results`, and reads the adapters back as matrices.
pub(crate) fn adapters(results: &Path) -> Result<[Updates; 2], Box<dyn Error>> {
    let yaml = "{suite: glue_mini, model: mini_roberta, tasks: [rte], seeds: [0, 1], targets: [query, value], ranks: [4], \
                train: {steps: 60, batch: 16, learning_rate: 3e-3, max_length: 32}, variants: [lora]}";
    let experiment = experiment::read(yaml, "analyse_two_adapters.yaml", "analyse_two_adapters", &[])?;
    let cache = ModelCache::on_cpu();
    examples::train(experiment.cells(), &cache, results)?;
    // One reader: adapters of one base share its weights.
    let (reader, store) = (Reader::new(&cache), examples::store(results)?);
    let read = |seed: usize| reader.read(&store.adapter_path(&experiment.cells()[seed].id));
    Ok([read(0)?, read(1)?])
}

/// A row per map that both adapters changed.
pub(crate) fn compare([first, second]: &[Updates; 2]) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for (map, one) in &first.maps {
        let (Some(other), Some(base)) = (second.maps.get(map), &one.base) else { continue };
        let decomposed = [one.update.svd()?, other.update.svd()?];
        let [left, right] = &decomposed;
        let cut = left.rank().min(right.rank());
        let between = |side| phi(&left.basis(side), &right.basis(side)).map(|phi| phi.at(cut, cut));
        let of_base = Svd::full(base)?;
        let amplified = |svd: &Svd| -> Result<f64, Box<dyn Error>> {
            let row = projection::table(base, svd, &of_base, &[svd.rank()])?[0];
            row.amplification.ok_or_else(|| format!("{map}: W has nothing in the directions of ΔW").into())
        };
        rows.push(Row {
            map: map.clone(),
            phi: [between(Side::Input)?, between(Side::Output)?],
            random: mean_phi(base.nrows(), cut, cut),
            amplification: [amplified(left)?, amplified(right)?],
        });
    }
    Ok(rows)
}

#[expect(clippy::print_stdout, reason = "an example shows what it computed")]
fn main() -> Result<(), Box<dyn Error>> {
    let results = tempfile::tempdir()?;
    println!("{:<36} {:>9} {:>9} {:>9} {:>18}", "map", "φ inputs", "outputs", "random", "amplified by");
    for Row { map, phi: [inputs, outputs], random, amplification: [one, other] } in compare(&adapters(results.path())?)?
    {
        println!("{map:<36} {inputs:>9.3} {outputs:>9.3} {random:>9.3} {one:>8.1} and {other:>5.1}");
    }
    Ok(())
}
