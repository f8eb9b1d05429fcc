//! Axis 8: which layers train at a step.
//!
//! By default all do. Under `sampled`, a run of every `interval` steps trains `count` of the layers that have anything to train; they are drawn
//! uniformly from the run's seed of the stream `rank`, anew for every period. What lies in no layer (embeddings, the last norm, the pooler, the
//! head) always trains. A tensor of a layer that is left out keeps its value and its moments, is not decayed, has no part in the norm by which
//! gradients are clipped, and does not count the step.
//!
//! What the papers save by it (moments and gradients of layers that rest) is not saved here: a run's tensors lie in one place whatever
//! trains, so that runs of any method share a step. The trajectory is the papers'.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    capability::{Capability, Requirement},
    error::SpecProblem,
    stream::{self, Stream},
};

/// Which layers train at a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerSchedule {
    /// All, at every step.
    #[default]
    All,
    /// Some, drawn anew after some steps.
    Sampled {
        /// How many train at a time.
        count: usize,
        /// Steps until others are drawn.
        interval: u64,
    },
}

const REQUIRES: &[Requirement] = &[Requirement {
    needs: Capability::ConstantRank,
    rule: "layers that rest show `{kind}` nothing to decide by; use `rank_policy: {kind: constant}`",
}];

impl LayerSchedule {
    /// Whether all layers train at every step.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// What it needs of an adapter's parts.
    pub fn requires(&self) -> &'static [Requirement] {
        if self.is_all() { &[] } else { REQUIRES }
    }

    /// Rules that its own numbers break, with the field.
    pub fn check(&self) -> Vec<SpecProblem> {
        let Self::Sampled { count, interval } = *self else { return Vec::new() };
        let mut problems = Vec::new();
        if count == 0 {
            problems.push(SpecProblem::new("count", "count is `0`, but at least one layer trains at a time"));
        }
        if interval == 0 {
            problems.push(SpecProblem::new("interval", "interval is `0`, but layers train for at least one step"));
        }
        problems
    }

    /// Which of `layers` train at a step of a run, counted from 0; none where all do.
    pub fn trained(&self, layers: &BTreeSet<usize>, seed: u64, step: u64) -> Option<BTreeSet<usize>> {
        let Self::Sampled { count, interval } = *self else { return None };
        let rng = &mut stream::generator(seed, Stream::Rank, &format!("layers.{}", step / interval.max(1)));
        let mut all: Vec<usize> = layers.iter().copied().collect();
        let chosen = count.min(all.len());
        // Fisher and Yates's shuffle, as far as it is needed.
        for at in 0..chosen {
            let other = at + (stream::unit(rng) * (all.len() - at) as f64) as usize;
            all.swap(at, other);
        }
        Some(all.into_iter().take(chosen).collect())
    }
}

/// The number of the layer that a slot lies in, the first number in its full name; none of a slot outside of the layers.
pub fn layer_of(slot: &str) -> Option<usize> {
    slot.split('.').find_map(|part| part.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_drawn_by_seed_and_period_and_all_as_often() {
        let (layers, schedule) = ((0..6).collect(), LayerSchedule::Sampled { count: 2, interval: 5 });
        let at = |seed, step| schedule.trained(&layers, seed, step).unwrap_or_default();
        let mut counts = [0; 6];
        for period in 0..3000 {
            let drawn = at(7, 5 * period);
            assert_eq!(drawn.len(), 2);
            assert!((1..5).all(|step| at(7, 5 * period + step) == drawn), "one draw for a period");
            for layer in drawn {
                counts[layer] += 1;
            }
        }
        // Each in a third of the periods: 1000, with a standard deviation of 26.
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
        assert!(
            (0..40).any(|period| at(7, 5 * period) != at(8, 5 * period)),
            "runs of unlike seeds train unlike layers"
        );
        assert_eq!(LayerSchedule::All.trained(&layers, 7, 0), None);
        let few = LayerSchedule::Sampled { count: 9, interval: 1 };
        assert_eq!(few.trained(&layers, 7, 0), Some(layers.clone()), "no more than there are");
    }

    #[test]
    fn a_slot_lies_in_the_layer_of_its_first_number() {
        for (slot, layer) in [
            ("encoder.layer.11.attention.self.query", Some(11)),
            ("h.3.attn.c_attn.q", Some(3)),
            ("embeddings.word_embeddings", None),
            ("", None),
        ] {
            assert_eq!(layer_of(slot), layer, "{slot}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let fields = |count, interval| {
            let problems = LayerSchedule::Sampled { count, interval }.check();
            problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(0, 0), ["count", "interval"]);
        assert!(fields(1, 1).is_empty() && LayerSchedule::All.check().is_empty());
    }
}
