//! Axis 9: two levels of training, on two parts of the training examples.
//!
//! By default there is one. Under `alternating`, a share of a run's training examples is held out. Steps take turns: an even step trains the *lower*
//! level, every role but those of `upper`, on the other examples; an odd step trains the *upper* level, the roles of `upper`, on the examples
//! held out. That is the first-order form of
//!
//! ```text
//! min over u of L_held(θ*(u), u)      subject to      θ*(u) = argmin over θ of L_rest(θ, u)
//! ```
//!
//! in which `θ*(u)` is the `θ` of the last step. From step `until` on, all examples train the lower level, and the upper one rests. What rests in
//! a step keeps value and moments, is not decayed, has no part in the norm by which gradients are clipped, and does not count the step.
//!
//! | parameter | default | range |
//! |---|---|---|
//! | `upper` | – | roles that train, not all of them |
//! | `held_out` | 0.5 | (0, 1), a share of the training examples |
//! | `until` | – | steps, or a share of the run, at least 2; absent: the whole run |
//!
//! Which examples are held out follows from the run's seed of the stream `data`. Both levels count in the steps of a run and in its schedule.
//!
//! Liu, Simonyan and Yang, *DARTS: Differentiable Architecture Search*, ICLR 2019, arXiv:1806.09055, §2.3 (`ξ = 0`: the first-order form).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    base_update::{check_count, resolve},
    capability::{Capability, Requirement},
    error::SpecProblem,
    role::Role,
};

/// Whether training has two levels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Bilevel {
    /// One.
    #[default]
    None,
    /// Two, whose steps take turns.
    Alternating {
        /// Roles of the upper level.
        upper: BTreeSet<Role>,
        /// Share of the training examples that only the upper level sees.
        #[serde(default = "half")]
        held_out: f64,
        /// Steps, or share of the run, after which the upper level rests.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<f64>,
    },
}

fn half() -> f64 {
    0.5
}

/// What a step trains, and on which examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Every role; or, where the upper level has come to rest, every role of the lower one.
    One,
    /// The lower level, on the examples that are not held out.
    Lower,
    /// The upper level, on those that are.
    Upper,
}

const REQUIRES: &[Requirement] = &[Requirement {
    needs: Capability::RestingTensors,
    rule: "a level that rests shows `{kind}` nothing to decide by; use `rank_policy: {kind: constant}`",
}];

impl Bilevel {
    /// Whether there is one level.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// What it needs of an adapter's parts.
    pub fn requires(&self) -> &'static [Requirement] {
        if self.is_none() { &[] } else { REQUIRES }
    }

    /// Share of the training examples that is held out.
    pub fn held_out(&self) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Alternating { held_out, .. } => Some(*held_out),
        }
    }

    /// The first step of a run of `steps` at which the upper level rests; 0 where there is none.
    fn end(&self, steps: u64) -> u64 {
        match self {
            Self::None => 0,
            Self::Alternating { until, .. } => until.map_or(steps, |until| resolve(until, steps).min(steps)),
        }
    }

    /// The level of a step, counted from 0, of a run of `steps`, and how many steps of that level came before it.
    pub fn at(&self, step: u64, steps: u64) -> (Level, u64) {
        match self.end(steps) {
            end if step >= end => (Level::One, step - end),
            _ if step.is_multiple_of(2) => (Level::Lower, step / 2),
            _ => (Level::Upper, step / 2),
        }
    }

    /// Whether a role trains at a step of a run of `steps`.
    pub fn trains(&self, role: Role, step: u64, steps: u64) -> bool {
        let Self::Alternating { upper, .. } = self else { return true };
        upper.contains(&role) == (self.at(step, steps).0 == Level::Upper)
    }

    /// Rules that it breaks beside roles of which `trained` train, with the field. `steps`: length of the run, where known.
    pub fn check(&self, trained: &BTreeSet<Role>, steps: Option<u64>) -> Vec<SpecProblem> {
        let Self::Alternating { upper, held_out, until } = self else { return Vec::new() };
        let mut problems = Vec::new();
        let mut report = |field: &str, rule: String| problems.push(SpecProblem::new(field, rule));
        let listed = |roles: &BTreeSet<Role>| {
            let names: Vec<String> = roles.iter().map(|role| format!("`{}`", crate::spec::role_name(*role))).collect();
            names.join(", ")
        };
        let unknown: BTreeSet<Role> = upper.difference(trained).copied().collect();
        if upper.is_empty() {
            report("upper", "upper is empty, but the upper level trains at least one role".to_owned());
        } else if !unknown.is_empty() {
            let rule = format!("{} of upper does not train here; what trains is {}", listed(&unknown), listed(trained));
            report("upper", rule);
        } else if trained.is_subset(upper) {
            report("upper", "upper has every role that trains, which leaves none to the lower level".to_owned());
        }
        if !(*held_out > 0.0 && *held_out < 1.0) {
            report("held_out", format!("held_out is `{held_out}`, but must lie in (0, 1)"));
        }
        if let Some(until) = *until {
            match check_count("until", until) {
                Some(problem) => problems.push(problem),
                None if steps.is_some_and(|steps| resolve(until, steps) < 2 || resolve(until, steps) > steps) => {
                    let steps = steps.unwrap_or_default();
                    problems.push(SpecProblem::new(
                        "until",
                        format!(
                            "until is `{until}`, {} of {steps} steps, but each level has at least one; leave it out for the whole run",
                            resolve(until, steps)
                        ),
                    ));
                }
                None => {}
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alternating(until: Option<f64>) -> Bilevel {
        Bilevel::Alternating { upper: BTreeSet::from([Role::Lambda]), held_out: 0.5, until }
    }

    #[test]
    fn levels_take_turns_until_the_upper_one_rests() {
        use Level::{Lower, One, Upper};
        let levels = |until, steps| (0..steps).map(|step| alternating(until).at(step, steps)).collect::<Vec<_>>();
        assert_eq!(levels(None, 4), [(Lower, 0), (Upper, 0), (Lower, 1), (Upper, 1)]);
        assert_eq!(levels(Some(0.5), 6), [(Lower, 0), (Upper, 0), (Lower, 1), (One, 0), (One, 1), (One, 2)]);
        assert_eq!(Bilevel::None.at(7, 9), (One, 7));
        let trains = |role, step| alternating(Some(2.0)).trains(role, step, 4);
        assert_eq!([0, 1, 2, 3].map(|step| trains(Role::Lambda, step)), [false, true, false, false]);
        assert_eq!([0, 1, 2, 3].map(|step| trains(Role::A, step)), [true, false, true, true]);
        assert!(Bilevel::None.trains(Role::Lambda, 3, 4));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let trained = BTreeSet::from([Role::A, Role::Lambda]);
        let fields = |bilevel: Bilevel| {
            bilevel.check(&trained, Some(10)).into_iter().map(|problem| problem.field).collect::<Vec<_>>()
        };
        let of = |upper: &[Role], held_out, until| Bilevel::Alternating {
            upper: upper.iter().copied().collect(),
            held_out,
            until,
        };
        assert!(fields(Bilevel::None).is_empty() && fields(alternating(Some(0.5))).is_empty());
        assert_eq!(fields(of(&[], 0.5, None)), ["upper"]);
        assert_eq!(fields(of(&[Role::Core], 0.5, None)), ["upper"]);
        assert_eq!(fields(of(&[Role::A, Role::Lambda], 1.0, None)), ["upper", "held_out"]);
        for until in [0.1, 11.0, -1.0, 2.5] {
            assert_eq!(fields(of(&[Role::Lambda], 0.5, Some(until))), ["until"], "{until}");
        }
    }
}
