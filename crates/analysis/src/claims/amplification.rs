//! LoRA's amplification factor beside what updates of random directions would have.
//!
//! `‖ΔW‖_F / ‖UᵀWV‖_F` falls as `r` grows whatever the directions are, since more of them hold more of `W`: for random `U` and `V` the
//! denominator grows as `r` (`E ‖UᵀWV‖_F² = r²‖W‖_F²/(d_in d_out)`). A fall is a finding where it is larger than that of random directions
//! under the same `‖W‖_F` and `‖ΔW‖_F`. The norms are then the same on both sides, and the excess is
//!
//! ```text
//! (amplification at r₁ / at r₂) / (the same of random directions) = (ρ(r₂) / ρ(r₁)),   ρ(r) = ‖UᵀWV‖_F / that of random directions
//! ```

use std::collections::BTreeMap;

use super::{Evidence, Finding, Missing, Rows, evidence::means, short};
use crate::stats::Estimate;

/// 97.5% quantile of the normal distribution.
const UPPER: f64 = 1.959_963_984_540_054;

/// Mean and variance of `ln ‖UᵀWV‖_F` over random directions, from the mean of `S = ‖UᵀWV‖_F²` over `draws` draws and its standard error.
///
/// To second order in the coefficient of variation `c` of `S`: `E ½ ln S = ½ ln E S - c²/4` and `Var ½ ln S = c²/4`.
pub(super) fn logarithm(mean_square: f64, standard_error: f64, draws: f64) -> [f64; 2] {
    let quarter = (standard_error / mean_square).powi(2) * draws / 4.0;
    [mean_square.ln() / 2.0 - quarter, quarter]
}

/// One rank: by seed, the mean over maps of the logarithm of the amplification, and the same of random directions with its variance.
struct AtRank {
    measured: BTreeMap<u64, f64>,
    random: BTreeMap<u64, f64>,
    variance: BTreeMap<u64, f64>,
}

impl Evidence {
    /// The ratio of the amplification at two ranks, beside that of random directions with the same norms.
    pub(super) fn falls(
        &self,
        experiment: &str,
        (variant, ranks, map): (&str, [usize; 2], &str),
    ) -> Result<Finding, Missing> {
        let drawn = self.table(experiment, "random_column")?;
        let [low, high] = ranks.map(|rank| self.at_rank(experiment, (variant, rank, map), drawn));
        let (low, high) = (low?, high?);
        let falls = |of: fn(&AtRank) -> &BTreeMap<u64, f64>| -> Vec<f64> {
            of(&low).iter().filter_map(|(seed, value)| Some(value - of(&high).get(seed)?)).collect()
        };
        let (measured, random) = (falls(|rank| &rank.measured), falls(|rank| &rank.random));
        let excess: Vec<f64> = measured.iter().zip(&random).map(|(measured, random)| measured - random).collect();
        let (Ok(fall), Ok(beyond)) = (Estimate::of(&measured), Estimate::of(&excess)) else {
            return Err(Missing(format!("`{experiment}` has no seed at both ranks")));
        };
        let n = random.len() as f64;
        let mean = random.iter().sum::<f64>() / n;
        // Seeds draw their directions apart, so that the variances of their means add.
        let variance = low.variance.values().chain(high.variance.values()).sum::<f64>() / n.powi(2);
        let mut finding = Finding::above(&beyond, 0.0).map(f64::exp);
        let share = |value: Option<f64>| value.map_or_else(String::new, short);
        finding.remark = Some(format!(
            "the fall is {} ({} to {}) of that of random directions with the same norms",
            share(finding.got),
            share(finding.interval.map(|ends| ends[0])),
            share(finding.interval.map(|ends| ends[1])),
        ));
        finding.got = Some(fall.difference.exp());
        finding.interval = fall.interval().map(|ends| ends.map(f64::exp));
        finding.random = Some([mean.exp(), (mean + UPPER * variance.sqrt()).exp()]);
        Ok(finding)
    }

    fn at_rank(
        &self,
        experiment: &str,
        (variant, rank, map): (&str, usize, &str),
        drawn: &Rows,
    ) -> Result<AtRank, Missing> {
        let values = |of: &dyn Fn(&Rows, usize) -> Option<f64>| self.by_seed(experiment, (variant, rank, map), of);
        let random = |rows: &Rows, i: usize| {
            let (wanted, r) = (rows.text(i, "map")?, rows.number(i, "directions")?);
            let at = (0..drawn.len()).find(|&at| drawn.is(at, "map", wanted) && drawn.number(at, "r") == Some(r))?;
            let [square, error, draws] = ["mean_square", "standard_error", "draws"].map(|name| drawn.number(at, name));
            Some(logarithm(square?, error?, draws?))
        };
        let of_mean = |maps: Vec<f64>| maps.iter().sum::<f64>() / (maps.len() as f64).powi(2);
        let variance = values(&|rows, i| Some(random(rows, i)?[1]))?;
        Ok(AtRank {
            measured: means(values(&|rows, i| Some(rows.number(i, "amplification")?.ln()))?),
            random: means(values(&|rows, i| Some(rows.number(i, "update_norm")?.ln() - random(rows, i)?[0]))?),
            variance: variance.into_iter().map(|(seed, maps)| (seed, of_mean(maps))).collect(),
        })
    }
}
