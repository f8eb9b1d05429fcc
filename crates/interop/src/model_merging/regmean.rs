//! RegMean: the weight that fits every adapter's outputs on its own inputs best.
//!
//! With `X_i` the inputs of a map in adapter `i`'s model on its own training data and `G_i = X_iᵀX_i` `[d_in, d_in]`, the merged weight
//! minimises `Σ_i w_i·‖X_i·W − X_i·W_i‖²`. In the space of updates, since `W_i = W0 + ΔW_i`,
//!
//! `ΔW = (Σ_i w_i·G_i)⁻¹·Σ_i w_i·G_i·ΔW_i`
//!
//! Off the diagonal `G_i` is multiplied by `γ` (Sec. 3.3): at 1 this is the regression itself, at 0 a mean of every input's row weighted by that
//! input's size; below 1 the sum can be inverted however few inputs there are.
//!
//! Jin et al., *Dataless Knowledge Fusion by Merging Weights of Language Models*, ICLR 2023, arXiv:2212.09849, Eq. 2.

use std::collections::{BTreeMap, BTreeSet};

use lowrank::{Truncated, Update};
use models::config::{Config as Architecture, MapKind};
use nalgebra::DMatrix;
use trainer::{adapter, calibrate, error::TrainError, model_cache::ModelCache};
use variants::calibration::MapStatistic;

use super::{Input, foreign};
use crate::peft;

/// `G` of every one of these maps in a run's own model, over the first `batches` micro-batches of its training.
pub(super) fn grams(
    input: &Input,
    names: &BTreeSet<&String>,
    batches: usize,
    cache: &ModelCache,
) -> Result<BTreeMap<String, DMatrix<f64>>, TrainError> {
    must_be_a_run(input)?;
    let (metadata, network) = adapter::load(&adapter::resolve(&input.path)?, cache)?;
    let architecture = network.backbone.config();
    // The parts of a fused map see one input.
    let seen: BTreeMap<&String, String> = names.iter().map(|name| (*name, first_part(name, &architecture))).collect();
    let maps: BTreeSet<String> = seen.values().cloned().collect();
    let taken = calibrate::trained_inputs(&metadata.plan, &network, &maps, batches, cache)?;
    let gram = |(name, part): (&&String, &String)| {
        let (mean, count) = &taken[part];
        (String::clone(name), matrix(mean) * *count as f64)
    };
    Ok(seen.iter().map(gram).collect())
}

/// Refuses a folder of PEFT's.
pub(super) fn must_be_a_run(input: &Input) -> Result<(), TrainError> {
    if !peft::is_folder(&input.path) {
        return Ok(());
    }
    let reason = "is a PEFT folder, which does not say what it was trained on, and the method measures every adapter on its own training \
                  data; give runs, or merge with `--method linear` or `ties`";
    Err(foreign(&input.path, reason.to_owned()))
}

/// The map itself, or the first of its parts where it is a fused one that the network has apart.
fn first_part(name: &str, architecture: &Architecture) -> String {
    let known = architecture.maps();
    let is_part = |map: &&String| matches!(&known[*map].kind, MapKind::Part(whole) if whole == name);
    known.keys().find(is_part).map_or_else(|| name.to_owned(), String::clone)
}

pub(super) fn matrix(statistic: &MapStatistic) -> DMatrix<f64> {
    let [rows, cols] = statistic.shape();
    DMatrix::from_row_slice(rows, cols, &statistic.values())
}

/// The merged update of one map at `rank`, from the adapters' weights, Gram matrices and updates; one that leaves the map alone counts with
/// an update of zero.
pub fn regression_mean(
    updates: &[(f64, Option<&Update>)],
    grams: &[DMatrix<f64>],
    off_diagonal: f64,
    rank: usize,
) -> Result<Truncated, String> {
    let shape = updates.iter().find_map(|(_, update)| update.map(Update::shape));
    let (d_in, d_out) = shape.unwrap_or_else(|| unreachable!("at least one update is there"));
    let (mut sum, mut wanted) = (DMatrix::zeros(d_in, d_in), DMatrix::zeros(d_in, d_out));
    for ((weight, update), gram) in updates.iter().zip(grams) {
        let diagonal = DMatrix::from_diagonal(&gram.diagonal());
        let gram = (gram * off_diagonal + diagonal * (1.0 - off_diagonal)) * *weight;
        if let Some(update) = update {
            wanted += &gram * update.dense();
        }
        sum += gram;
    }
    // Symmetric by construction; an input that is always 0 has nothing to say of its row.
    let solved = sum.cholesky().map(|factor| factor.solve(&wanted)).filter(|found| found.iter().all(|v| v.is_finite()));
    let Some(merged) = solved else {
        return Err(format!(
            "the inputs of all adapters together do not span its {d_in} dimensions; take more `--batches`, or an `--off-diagonal` below 1"
        ));
    };
    Update::Dense(merged).truncated(Some(rank)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use variants::stream::{self, Stream};

    use super::*;

    const ROWS: usize = 40;
    const SHAPE: (usize, usize) = (6, 5);
    /// f64; a solve with a condition number below 10³.
    const TOLERANCE: f64 = 1e-11;

    fn normal(name: &str, rows: usize, cols: usize) -> DMatrix<f64> {
        let rng = &mut stream::generator(3, Stream::Data, name);
        DMatrix::from_row_slice(rows, cols, &stream::normal(rng, rows * cols, 1.0))
    }

    fn merged(updates: &[(f64, Option<&Update>)], grams: &[DMatrix<f64>], off_diagonal: f64) -> DMatrix<f64> {
        regression_mean(updates, grams, off_diagonal, 5).unwrap().update.dense()
    }

    fn close(found: &DMatrix<f64>, wanted: &DMatrix<f64>) {
        assert!((found - wanted).amax() <= TOLERANCE * wanted.norm(), "{found} is not {wanted}");
    }

    /// The same least squares by stacking all rows and a decomposition, which forms no Gram matrix.
    #[test]
    fn it_is_the_regression_on_all_outputs() {
        let inputs = ["x", "y", "z"].map(|name| normal(name, ROWS, SHAPE.0));
        let dense = ["a", "b"].map(|name| Update::Dense(normal(name, SHAPE.0, SHAPE.1)));
        let updates = [(1.0, Some(&dense[0])), (0.5, Some(&dense[1])), (2.0, None)];
        let grams = inputs.clone().map(|x| x.transpose() * x);
        let zero = DMatrix::zeros(SHAPE.0, SHAPE.1);
        let (mut left, mut right) = (DMatrix::zeros(3 * ROWS, SHAPE.0), DMatrix::zeros(3 * ROWS, SHAPE.1));
        for (at, (x, (weight, update))) in inputs.iter().zip(updates).enumerate() {
            let update = update.map_or_else(|| zero.clone(), Update::dense);
            left.rows_mut(at * ROWS, ROWS).copy_from(&(x * f64::sqrt(weight)));
            right.rows_mut(at * ROWS, ROWS).copy_from(&(x * update * f64::sqrt(weight)));
        }
        let wanted = left.svd(true, true).solve(&right, 1e-12).unwrap();
        close(&merged(&updates, &grams, 1.0), &wanted);
    }

    #[test]
    fn equal_inputs_give_the_mean_and_one_adapter_itself() {
        let x = normal("x", ROWS, SHAPE.0);
        let (a, b) = (normal("a", SHAPE.0, SHAPE.1), normal("b", SHAPE.0, SHAPE.1));
        let (first, second) = (Update::Dense(a.clone()), Update::Dense(b.clone()));
        let gram = x.transpose() * x;
        for off_diagonal in [0.0, 0.9, 1.0] {
            let both = [(1.0, Some(&first)), (1.0, Some(&second))];
            close(&merged(&both, &[gram.clone(), gram.clone()], off_diagonal), &((&a + &b) / 2.0));
            close(&merged(&both[..1], std::slice::from_ref(&gram), off_diagonal), &a);
        }
    }

    /// Without the rest, every row is a mean by the size of its input.
    #[test]
    fn the_diagonal_alone_weighs_every_row() {
        let grams = ["x", "y"].map(|name| normal(name, ROWS, SHAPE.0)).map(|x| x.transpose() * x);
        let (a, b) = (normal("a", SHAPE.0, SHAPE.1), normal("b", SHAPE.0, SHAPE.1));
        let wanted = DMatrix::from_fn(SHAPE.0, SHAPE.1, |row, col| {
            let [g, h] = [&grams[0], &grams[1]].map(|gram| gram[(row, row)]);
            (g * a[(row, col)] + h * b[(row, col)]) / (g + h)
        });
        let (first, second) = (Update::Dense(a), Update::Dense(b));
        close(&merged(&[(1.0, Some(&first)), (1.0, Some(&second))], &grams, 0.0), &wanted);
    }

    #[test]
    fn too_few_inputs_are_refused_with_the_way_out() {
        let x = normal("x", 2, SHAPE.0);
        let update = Update::Dense(normal("a", SHAPE.0, SHAPE.1));
        let (updates, grams) = ([(1.0, Some(&update))], [x.transpose() * x]);
        let error = regression_mean(&updates, &grams, 1.0, 5).err();
        // Two rows span two dimensions; rounding may still let a factor pass, whose numbers are then far off.
        assert!(error.is_none_or(|error| error.contains("6 dimensions") && error.contains("--off-diagonal")));
        close(&merged(&updates, &grams, 0.5), &update.dense());
    }
}
