//! How much of a full update a frozen random factor could have expressed (LoRA-FA, VeRA).

use serde::Serialize;

use super::{Subject, SurveyError};
use crate::subspace::{Side, factored::Update, random::mean_reach, reach::reach};

/// One frozen factor against one full update of the same task, seed and map.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The task.
    pub task: String,
    /// The seed.
    pub seed: u64,
    /// The variant with the frozen factor.
    pub variant: String,
    /// Its rank.
    pub rank: usize,
    /// The variant whose update is taken as full.
    pub full: String,
    /// The map.
    pub map: String,
    /// `‖P ΔW‖_F² / ‖ΔW‖_F²`
    pub reach: f64,
    /// Its mean over random factors, `rank/d_in`, at most 1.
    pub random_mean: f64,
}

crate::tabular!(Row: task, seed, variant, rank, full, map, reach, random_mean);

/// One map of a pair that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairRow {
    /// The map.
    pub module: String,
    /// Directions of the factor.
    pub rank: usize,
    /// `‖P ΔW‖_F² / ‖ΔW‖_F²`, `P` onto the span of the factor on the inputs.
    pub reach: f64,
    /// Its mean over random factors, `rank/d_in`.
    pub random_mean: f64,
}

crate::tabular!(PairRow: module, rank, reach, random_mean);

/// How much of `full`'s update lies in the span of the first adapter's factor on the inputs, for every map that both have.
pub fn between(factor: &Subject, full: &Subject) -> Result<Vec<PairRow>, SurveyError> {
    super::overlap::same_base(factor, full)?;
    let mut rows = Vec::new();
    for (name, map) in &factor.maps {
        let Some(partner) = full.maps.get(name) else { continue };
        // A dense update has no factor to span a space with; the error says so.
        let Update::Factored(product) = &map.update else {
            return Err(SurveyError::NoFactors { subject: factor.name.clone(), map: name.clone(), side: "a" });
        };
        let measure = |source| SurveyError::Measure {
            subject: format!("{} and {}", factor.name, full.name),
            map: name.clone(),
            source,
        };
        let (d_in, _) = product.shape();
        let rank = product.factor_basis(Side::Input).map_err(measure)?.rank();
        let reach = reach(&partner.update, product.a(), Side::Input).map_err(measure)?;
        rows.push(PairRow { module: name.clone(), rank, reach, random_mean: mean_reach(d_in, rank) });
    }
    if rows.is_empty() {
        return Err(super::overlap::nothing_shared(factor, full));
    }
    Ok(rows)
}

/// Rows of every pair of a run whose factor on the inputs is frozen and a run that trained the base, of one base, task and seed.
pub fn rows(subjects: &[Subject]) -> Result<Vec<Row>, SurveyError> {
    let mut rows = Vec::new();
    for subject in subjects.iter().filter(|subject| subject.frozen_inputs) {
        for full in subjects.iter().filter(|full| {
            full.trains_base
                && (&full.cell.task, full.cell.seed, &full.base_hash)
                    == (&subject.cell.task, subject.cell.seed, &subject.base_hash)
        }) {
            for (name, map) in &subject.maps {
                let (Update::Factored(product), Some(partner)) = (&map.update, full.maps.get(name)) else { continue };
                let (d_in, _) = product.shape();
                let found =
                    reach(&partner.update, product.a(), Side::Input).map_err(|source| SurveyError::Measure {
                        subject: format!("{} and {}", subject.cell, full.cell),
                        map: name.clone(),
                        source,
                    })?;
                rows.push(Row {
                    task: subject.cell.task.clone(),
                    seed: subject.cell.seed,
                    variant: subject.cell.variant.clone(),
                    rank: subject.cell.rank,
                    full: full.cell.variant.clone(),
                    map: name.clone(),
                    reach: found,
                    random_mean: mean_reach(d_in, subject.cell.rank.min(d_in)),
                });
            }
        }
    }
    Ok(rows)
}
