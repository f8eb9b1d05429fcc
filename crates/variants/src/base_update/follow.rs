//! The base follows the delta: from a step on, it moves with every change of the delta's product.
//!
//! After each step `t > K`,
//!
//! ```text
//! W ← W + λ·s·(A_{t+1}·B_{t+1} − A_t·B_t)
//! ```
//!
//! beside the trained `s·A·B` (Delta-LoRA, Eq. 4 and Algorithm 1). No gradient passes through `W`. The changes telescope, so that
//!
//! ```text
//! W = W0 + λ·s·(A_t·B_t − A_K·B_K)      W' = W + s·A_t·B_t      rank(W' − W0) ≤ 2·rank
//! ```
//!
//! with the factors after step `K`. This is how it is kept: copies of `A_t`, `B_t`, renewed after every step, and of `A_K`, `B_K`, in which
//! no gradient is formed. The difference is computed as `[A_t − A_K, A_K]·[B_t; B_t − B_K]`, before anything is rounded to the precision
//! of the base, so that what cancels does so in that of the factors. The papers' way rounds the base at every step instead. Before `K` the
//! method is LoRA, and at `λ = 0` it would be at every step.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `lambda` | 2 | not 0 |
//! | `start` | 500 | 0 and up, below the run's length; a number of steps, or a share of the run below 1 |
//!
//! Zi et al., *Delta-LoRA: Fine-Tuning High-Rank Parameters with the Delta of Low-Rank Matrices*, 2023, arXiv:2309.02411.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{BaseUpdate, Change, beside, check_count, resolve};
use crate::{
    capability::{Capability, Requirement},
    error::SpecProblem,
    form::Factors,
    host::values,
};

/// The base follows the delta.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// `λ`: how far the base moves, in changes of the delta.
    pub lambda: f64,
    /// `K`: steps, or share of the run, before it does.
    pub start: f64,
}

/// The paper's.
impl Default for Follow {
    fn default() -> Self {
        Self { lambda: 2.0, start: 500.0 }
    }
}

const REQUIRES: &[Requirement] = &[
    Requirement {
        needs: Capability::Additive,
        rule: "the base follows the change of the delta, but under `{kind}` `W' − W0` is not the delta; use \
               `combine: {kind: additive}`",
    },
    Requirement {
        needs: Capability::LowRank,
        rule: "the base follows the product of the delta's factors, but the update of `{kind}` is no product of two; use {others}",
    },
    Requirement {
        needs: Capability::ConstantRank,
        rule: "the base follows the whole delta, but `{kind}` uses a part of it at a time; use `rank_policy: {kind: constant}`",
    },
];

impl BaseUpdate for Follow {
    fn requires(&self) -> &'static [Requirement] {
        REQUIRES
    }

    fn check(&self, steps: Option<u64>) -> Vec<SpecProblem> {
        let mut problems = Vec::new();
        if !self.lambda.is_finite() || self.lambda == 0.0 {
            let rule = format!(
                "lambda is `{}`, but must be finite and not 0, or the base stays as it is; for that write `base_update: {{kind: none}}`",
                self.lambda
            );
            problems.push(SpecProblem::new("lambda", rule));
        }
        problems.extend(check_count("start", self.start));
        if let Some(steps) = steps.filter(|_| problems.is_empty())
            && resolve(self.start, steps) >= steps
        {
            let rule = format!(
                "start is `{}`, but the run has {steps} steps, so that the base would never move; use fewer, or a share of the run below 1",
                self.start
            );
            problems.push(SpecProblem::new("start", rule));
        }
        problems
    }

    fn components(&self, own: usize, _shape: [usize; 2]) -> usize {
        own.saturating_mul(2)
    }

    fn factors(&self, stored: Factors, own: usize) -> Factors {
        let ([runs, d_in, _], [_, _, d_out]) = (stored.down.dims(), stored.up.dims());
        let down = |from: usize| stored.down.clone().slice([0..runs, 0..d_in, from..from + own]);
        let up = |from: usize| stored.up.clone().slice([0..runs, from..from + own, 0..d_out]);
        // The product of what starts at 0 is 0 in either form; see `residual_init` for the order.
        Factors {
            down: Tensor::cat(vec![down(0) - down(own), down(own)], 2),
            up: Tensor::cat(vec![up(0), up(0) - up(own)], 1) * self.lambda,
        }
    }

    /// `A·B + λ·(A·B − A_K·B_K) = [A − A_K, A_K]·[(1 + λ)·B; (1 + λ)·B − λ·B_K]` where the factors that were stored last are the delta's.
    fn whole(&self, own: Factors, stored: Factors) -> Factors {
        let ([runs, d_in, k], [_, _, d_out]) = (own.down.dims(), own.up.dims());
        let down = |from: usize| stored.down.clone().slice([0..runs, 0..d_in, from..from + k]);
        let up = |from: usize| stored.up.clone().slice([0..runs, from..from + k, 0..d_out]);
        if values(&down(0)) != values(&own.down) || values(&up(0)) != values(&own.up) {
            return beside(own, self.factors(stored, k));
        }
        let more = own.up * (1.0 + self.lambda);
        Factors {
            down: Tensor::cat(vec![own.down - down(k), down(k)], 2),
            up: Tensor::cat(vec![more.clone(), more - up(k) * self.lambda], 1),
        }
    }

    fn after_step(&self, step: u64, steps: u64) -> Change {
        let (done, start) = (step + 1, resolve(self.start, steps));
        let store = match done.cmp(&start) {
            std::cmp::Ordering::Less => vec![],
            std::cmp::Ordering::Equal => vec![0, 1],
            std::cmp::Ordering::Greater => vec![0],
        };
        Change { store, restart: None }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::{
        host::Placement,
        stream::{self, Stream},
    };

    /// The product that a base which follows has, and its components, where the last copy is the delta's and where it is not.
    #[test]
    fn the_whole_update_is_the_delta_and_what_the_base_has_moved() {
        let place = Placement::new(&Device::flex(), DType::F64);
        let drawn = |name: &str, shape: [usize; 3]| {
            let rng = &mut stream::generator(4, Stream::Data, name);
            place.tensor(stream::normal(rng, shape.iter().product(), 1.0), shape)
        };
        let pair = |name: &str| Factors {
            down: drawn(&format!("{name}.a"), [2, 5, 2]),
            up: drawn(&format!("{name}.b"), [2, 2, 4]),
        };
        let (kind, own, start) = (Follow { lambda: 0.5, start: 1.0 }, pair("own"), pair("start"));
        for (last, components) in [(own.clone(), 4), (pair("last"), 6)] {
            let found = kind.whole(own.clone(), beside(last.clone(), start.clone()));
            assert_eq!(found.down.dims()[2], components);
            let wanted = own.clone().product() + (last.product() - start.clone().product()) * 0.5;
            for (found, wanted) in values(&found.product()).into_iter().zip(values(&wanted)) {
                assert!((found - wanted).abs() < 1e-13, "{found} is not {wanted}"); // sums of six products of numbers near 1
            }
        }
    }

    #[test]
    fn the_base_follows_from_the_start_step_on() {
        let of = |start: f64, step| Follow { start, ..Follow::default() }.after_step(step, 10).store;
        assert_eq!([0, 1, 2, 9].map(|step| of(2.0, step)), [vec![], vec![0, 1], vec![0], vec![0]]);
        assert_eq!([0, 9].map(|step| of(0.0, step)), [vec![0], vec![0]], "A·B starts at 0, as what is stored does");
        assert_eq!([3, 4, 5].map(|step| of(0.5, step)), [vec![], vec![0, 1], vec![0]], "half the run");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let refuse = |kind: Follow, field: &str| {
            let problems = kind.check(Some(10));
            assert!(problems.iter().any(|problem| problem.field == field), "{field}: {problems:?}");
        };
        refuse(Follow { lambda: 0.0, start: 1.0 }, "lambda");
        refuse(Follow { lambda: f64::NAN, start: 1.0 }, "lambda");
        refuse(Follow { lambda: 2.0, start: 10.0 }, "start");
        refuse(Follow { lambda: 2.0, start: -1.0 }, "start");
        refuse(Follow { lambda: 2.0, start: 1.5 }, "start");
        assert!(Follow { lambda: -0.5, start: 9.0 }.check(Some(10)).is_empty());
    }
}
