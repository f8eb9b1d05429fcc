//! Merge and restart: the delta is added to the base, and a new one is drawn, some times over the run.
//!
//! A run of `T` steps has `n = restarts + 1` periods of equal length (to a step). After step `⌊T·j/n⌋`, `j = 1..n−1`,
//!
//! ```text
//! W ← W + s·A·B          A, B ← first values, drawn anew
//! W_T = W0 + s·Σⱼ AⱼBⱼ   rank ≤ n·rank
//! ```
//!
//! The merged deltas are kept beside the base, `P = [A₁, A₂, ..]` and `Q = [B₁; B₂; ..]`: copies, at their places from the start of the
//! run, zeros before. Where `restarts·rank` exceeds `min(d_in, d_out)` of a map, a matrix holds their sum in fewer numbers than the factors
//! do: it is kept instead, as `Q` beside `P = I` where `d_in ≤ d_out` and as `P` beside `Q = I` elsewhere. So at most `min(d_in, d_out)`
//! components are kept, however often a run restarts.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `restarts` | – | at least 1; periods of at least two steps |
//! | `moments` | – | `kept`, `zero`, `fresh`, `pruned` with a `share` |
//! | `rate` | – | `kept`, `warm_up` with `steps`, `anew` |
//!
//! **Moments.** `zero` resets those of the factors, `fresh` those of all that the run trains; both count steps from 0 again, as a new Adam
//! does. `pruned` sets the share of every factor's moments that is smallest in magnitude to 0, first and second moments apart, at torch's
//! quantile, and counts on; a large first moment beside a pruned second one makes a step of `η·m/ε`, so give it a `warm_up` of tens of steps.
//!
//! **Rate.** `kept` leaves the run's schedule alone. `warm_up` multiplies it by a ramp from 0 over the first steps of every period but the
//! first, a number of steps or a share of the period: a jagged schedule. `anew` gives every period the run's schedule over its own length,
//! warm-up included.
//!
//! Lialin et al., *ReLoRA: High-Rank Training Through Low-Rank Updates*, ICLR 2024, arXiv:2307.05695, Algorithm 1; Xia, Qin and Hazan,
//! *Chain of LoRA*, 2024, arXiv:2401.04151, §3.

use serde::{Deserialize, Serialize};

use super::{BaseUpdate, Change, Moments, Renewal, Schedule, check_count, resolve};
use crate::{
    capability::{Capability, Requirement},
    error::SpecProblem,
};

/// The learning rate after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rate {
    /// The run's schedule goes on.
    Kept,
    /// It goes on, under a ramp from 0.
    WarmUp {
        /// Steps of the ramp, or their share of a period.
        steps: f64,
    },
    /// Every period has the run's schedule over its own length.
    Anew,
}

/// Merge and restart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// How often, over the run.
    pub restarts: u64,
    /// What happens to Adam's moments.
    pub moments: Moments,
    /// What happens to the learning rate.
    pub rate: Rate,
}

/// One restart, of the deltas alone.
impl Default for Restart {
    fn default() -> Self {
        Self { restarts: 1, moments: Moments::Kept, rate: Rate::Kept }
    }
}

const REQUIRES: &[Requirement] = &[
    Requirement {
        needs: Capability::Additive,
        rule: "a restart adds the delta to the base, but under `{kind}` `W' − W0` is not the delta; use \
               `combine: {kind: additive}`",
    },
    Requirement {
        needs: Capability::ConstantRank,
        rule: "what a restart has merged keeps its scale, but `{kind}` changes the rank in use and with it the scale; use \
               `rank_policy: {kind: constant}`",
    },
    Requirement {
        needs: Capability::DrawnFactors,
        rule: "a restart draws new factors, but those of `{kind}` are not drawn by `init`; use {others}",
    },
    Requirement {
        needs: Capability::LowRank,
        rule: "a restart keeps the delta's factors, but the update of `{kind}` is no product of two; use {others}",
    },
    Requirement {
        needs: Capability::ExactStart,
        rule: "a restart begins at an update of 0, but the first values of `{kind}` give another; use {others}",
    },
    Requirement {
        needs: Capability::OwnTensors,
        rule: "a restart draws the factors of every map anew, but maps own those of `{kind}` together; use {others}",
    },
    Requirement { needs: Capability::TrainedA, rule: "a restart draws A anew, but `train.a` is {kind}; let it train" },
];

impl Restart {
    fn periods(&self) -> u64 {
        self.restarts.saturating_add(1)
    }

    /// The first step of a period.
    fn first(&self, period: u64, steps: u64) -> u64 {
        (u128::from(steps) * u128::from(period) / u128::from(self.periods())) as u64
    }

    /// The period of a step.
    fn period(&self, step: u64, steps: u64) -> u64 {
        let near = (u128::from(step) * u128::from(self.periods()) / u128::from(steps.max(1))) as u64;
        // Rounding puts a step at most one period too early.
        if near < self.restarts && self.first(near + 1, steps) <= step { near + 1 } else { near }
    }
}

impl BaseUpdate for Restart {
    fn requires(&self) -> &'static [Requirement] {
        REQUIRES
    }

    fn check(&self, steps: Option<u64>) -> Vec<SpecProblem> {
        let mut problems = Vec::new();
        if self.restarts == 0 {
            let rule = "restarts is `0`, but must be at least 1; to never restart write `base_update: {kind: none}`";
            problems.push(SpecProblem::new("restarts", rule));
        }
        problems.extend(self.moments.check().into_iter().map(|problem| problem.inside("moments")));
        if let Rate::WarmUp { steps } = self.rate {
            problems.extend(check_count("steps", steps).map(|problem| problem.inside("rate")));
        }
        let Some(total) = steps.filter(|_| problems.is_empty()) else { return problems };
        let shortest = total / self.periods();
        if shortest < 2 {
            let rule = format!(
                "restarts is `{}`, which cuts a run of {total} steps into periods of {shortest}; leave at least 2 steps to each: restart \
                 less often or train longer",
                self.restarts
            );
            problems.push(SpecProblem::new("restarts", rule));
        } else if let Rate::WarmUp { steps } = self.rate
            && resolve(steps, shortest) >= shortest
        {
            let rule = format!(
                "steps is `{steps}`, but a period has {shortest} of the run's {total} steps, so that the rate would never be back at the \
                 schedule; use fewer"
            );
            problems.push(SpecProblem::new("rate.steps", rule));
        }
        problems
    }

    fn components(&self, own: usize, [d_in, d_out]: [usize; 2]) -> usize {
        let all = usize::try_from(self.restarts).unwrap_or(usize::MAX).saturating_mul(own);
        all.min(d_in).min(d_out)
    }

    fn is_dense(&self, own: usize, shape: [usize; 2]) -> bool {
        usize::try_from(self.restarts).unwrap_or(usize::MAX).saturating_mul(own) > self.components(own, shape)
    }

    fn after_step(&self, step: u64, steps: u64) -> Change {
        let done = step + 1;
        let period = self.period(done, steps);
        if done >= steps || period == 0 || self.first(period, steps) != done {
            return Change::default();
        }
        let place = usize::try_from(period - 1).unwrap_or(usize::MAX);
        Change { store: vec![place], restart: Some(Renewal { round: period, moments: self.moments }) }
    }

    fn rate(&self, step: u64, steps: u64, schedule: &Schedule<'_>) -> f64 {
        let period = self.period(step, steps);
        let (first, next) = (self.first(period, steps), self.first(period + 1, steps));
        match self.rate {
            Rate::Kept => schedule(step, steps),
            Rate::Anew => schedule(step - first, next - first),
            Rate::WarmUp { steps: ramp } => {
                let ramp = resolve(ramp, next - first);
                let share = if period == 0 || ramp == 0 { 1.0 } else { ((step - first) as f64 / ramp as f64).min(1.0) };
                share * schedule(step, steps)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restarts(restarts: u64, rate: Rate) -> Restart {
        Restart { restarts, moments: Moments::Zero, rate }
    }

    /// The steps after which a run of `steps` restarts.
    fn due(kind: Restart, steps: u64) -> Vec<u64> {
        (0..steps).filter(|step| !kind.after_step(*step, steps).is_none()).map(|step| step + 1).collect()
    }

    #[test]
    fn a_run_is_cut_into_periods_of_equal_length() {
        assert_eq!(due(restarts(3, Rate::Kept), 20), [5, 10, 15]);
        assert_eq!(due(restarts(2, Rate::Kept), 20), [6, 13]);
        assert_eq!(due(restarts(1, Rate::Kept), 5), [2]);
        // Every number of restarts of every run that `check` lets through.
        for steps in 4..60 {
            for n in 1..steps / 2 {
                let kind = restarts(n, Rate::Kept);
                assert!(kind.check(Some(steps)).is_empty(), "{n} in {steps}");
                let found = due(kind, steps);
                assert_eq!(found, (1..=n).map(|j| steps * j / (n + 1)).collect::<Vec<_>>(), "{n} in {steps}");
                let rounds: Vec<_> = (0..steps).filter_map(|step| kind.after_step(step, steps).restart).collect();
                assert!(rounds.iter().map(|restart| restart.round).eq(1..=n));
            }
        }
    }

    /// ReLoRA's jagged cosine, COLA's schedule per link, by hand: 20 steps, four periods of five.
    #[test]
    fn rates_are_jagged_or_begin_anew() {
        let linear = |step: u64, steps: u64| 1.0 - step as f64 / steps as f64;
        let of = |rate| (0..20).map(|step| restarts(3, rate).rate(step, 20, &linear)).collect::<Vec<_>>();
        let kept = of(Rate::Kept);
        let jagged = of(Rate::WarmUp { steps: 2.0 });
        for step in 0..20 {
            let ramp = if step < 5 { 1.0 } else { [0.0, 0.5, 1.0, 1.0, 1.0][step % 5] };
            assert!((jagged[step] - ramp * kept[step]).abs() < 1e-15, "{step}");
        }
        assert_eq!(of(Rate::WarmUp { steps: 0.4 }), jagged, "two of five steps");
        let anew = of(Rate::Anew);
        for step in 0..20 {
            assert!((anew[step] - [1.0, 0.8, 0.6, 0.4, 0.2][step % 5]).abs() < 1e-15, "{step}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let refuse = |kind: Restart, field: &str| {
            let problems = kind.check(Some(20));
            assert!(problems.iter().any(|problem| problem.field == field), "{field}: {problems:?}");
        };
        refuse(restarts(0, Rate::Kept), "restarts");
        refuse(restarts(10, Rate::Kept), "restarts");
        refuse(restarts(u64::MAX, Rate::Kept), "restarts");
        refuse(restarts(3, Rate::WarmUp { steps: 5.0 }), "rate.steps");
        refuse(restarts(3, Rate::WarmUp { steps: 1.5 }), "rate.steps");
        refuse(Restart { moments: Moments::Pruned { share: 1.0 }, ..restarts(3, Rate::Kept) }, "moments.share");
        assert!(restarts(9, Rate::WarmUp { steps: 0.5 }).check(Some(20)).is_empty());
    }

    #[test]
    fn what_is_kept_is_never_wider_than_the_map() {
        let kind = restarts(3, Rate::Kept);
        for (own, shape, components, dense) in
            [(2, [9, 7], 6, false), (2, [9, 5], 5, true), (2, [6, 6], 6, false), (4, [6, 9], 6, true)]
        {
            assert_eq!(
                (kind.components(own, shape), kind.is_dense(own, shape)),
                (components, dense),
                "{own} {shape:?}"
            );
        }
    }
}
