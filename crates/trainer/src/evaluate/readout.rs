//! Evaluates trained runs in every way they are read out.

use std::{collections::BTreeMap, time::Instant};

use data::{
    causal::score::of_texts,
    metric::{Metric, perplexity},
    task::Objective,
};
use models::network::Network;
use record::{Evaluation, Generated, Readout};
use variants::{
    pass::Active,
    slot::{RunPlan, StackPlan},
    spec::Variant,
};

use super::{
    language_model::{self, Continuing},
    score::{self, Scored, Split, logits_until, spread},
};
use crate::{
    error::TrainError,
    model_cache::{BaseModel, TokenizedTask},
    stop::Stop,
};
use experiment::cell::{Recipe, View};

/// Evaluates runs of one recipe.
#[derive(Clone, Copy, Debug)]
pub struct Evaluator<'a> {
    /// Its base.
    pub base: &'a BaseModel,
    /// Its recipe.
    pub plan: &'a Recipe,
    /// Its task.
    pub task: &'a TokenizedTask,
    /// Whether texts are generated where a metric asks for them.
    pub generates: bool,
    /// Who may want it to stop.
    pub stop: Stop<'a>,
}

/// What a run's readouts gave.
#[derive(Clone, Debug)]
pub struct EvalResult {
    /// Readout by readout, split by split.
    pub evaluations: Vec<Evaluation>,
    /// Logits on the first split with the full update, where these were computed, `[example][output]`.
    pub full_logits: Option<Vec<Vec<f64>>>,
    /// What it took, in seconds.
    pub seconds: f64,
}

impl Evaluator<'_> {
    /// Every split of one run in every view; `network` has that run alone.
    pub fn evaluate(
        &self,
        network: &Network,
        splits: &[&Split],
        readouts: &[(Readout, View)],
        step: u64,
    ) -> Result<EvalResult, TrainError> {
        let clock = Instant::now();
        let (mut evaluations, mut full_logits) = (Vec::new(), None);
        for (readout, view) in readouts {
            let (network, active) = apply_view(network, view, 1);
            for (index, split) in splits.iter().enumerate() {
                if self.task.info.objective == Objective::Text {
                    let scored = self.score_text(&network, split, &active)?;
                    evaluations.push(evaluation_of(scored, split, readout, step));
                    continue;
                }
                let logits = logits_until(&network, &[&split.set], &active, self.base.pad, self.stop)?.swap_remove(0);
                evaluations.push(evaluation(self.task, split, readout, step, &logits));
                if index == 0 && view.is_whole(self.plan.largest_rank()) {
                    full_logits = Some(logits);
                }
            }
        }
        Ok(EvalResult { evaluations, full_logits, seconds: clock.elapsed().as_secs_f64() })
    }

    fn score_text(&self, network: &Network, split: &Split, active: &Active) -> Result<Scored, TrainError> {
        let (sum, count) = language_model::likelihood(network, &split.set, active, self.base.pad, self.stop)?;
        let asked = &self.task.info.metrics;
        let mut scored = of_likelihood(asked, sum, count);
        if !self.generates || split.prompts.is_empty() {
            return Ok(scored);
        }
        if !sum.is_finite() {
            // The largest of such logits is no token.
            return Ok(Scored::unknown(asked.iter(), NOT_FINITE, scored.loss));
        }
        let (texts, counted) = self.generate(network, split, active)?;
        let answer = self.plan.text().and_then(|task| task.answer.as_deref());
        scored.metrics.extend(of_texts(asked, answer, &texts, &split.references)?);
        scored.generated = Some(counted);
        Ok(scored)
    }

    /// A text for every prompt of a split, and how many there are and were cut.
    pub fn generate(
        &self,
        network: &Network,
        split: &Split,
        active: &Active,
    ) -> Result<(Vec<String>, Generated), TrainError> {
        let tokenizer = &self.base.tokenizer;
        let decoding = self.plan.text().and_then(|task| task.decoding.clone()).unwrap_or_default();
        let end = tokenizer.end_id()?;
        let how = Continuing { end, decoding: &decoding, active, pad: self.base.pad, stop: self.stop };
        let found = language_model::continuations(network, &split.prompts, &how)?;
        let texts = found.texts.iter().map(|ids| tokenizer.decode(ids, true)).collect::<Result<_, _>>()?;
        Ok((texts, Generated { texts: found.texts.len(), cut: found.cut }))
    }

    /// Largest difference between a run's logits with its adapter beside the base and folded into it, on the first rows of the first
    /// evaluation split, for text on the tokens learnt in them.
    ///
    /// `network` has the run alone, `bare` is a composition without adapters, and `beside` has the run's logits on that split,
    /// `[example][output]`, where they are known.
    pub fn merge_error(
        &self,
        network: &Network,
        bare: &Variant,
        beside: Option<Vec<Vec<f64>>>,
    ) -> Result<f64, TrainError> {
        let run = RunPlan { init_seed: 0, alpha: 1.0 };
        let plan = StackPlan::new(bare.clone(), vec![run], std::collections::BTreeSet::new());
        let merged = network.merged(0, 0, &Active::All, &plan)?;
        let (set, pad) = (&self.task.splits[0].set, self.base.pad);
        let (beside, folded): (Vec<f64>, Vec<f64>) = if self.task.info.objective == Objective::Text {
            let few = data::batch::EncodedSet::whole(set.rows.iter().take(COMPARED_TEXTS).cloned().collect());
            let learnt = |network: &Network| language_model::learnt_logits(network, &few, &Active::All, pad);
            (learnt(network), learnt(&merged))
        } else {
            let few = data::batch::EncodedSet::whole(set.rows.iter().take(COMPARED).cloned().collect());
            let all = |network: &Network| {
                Ok::<_, TrainError>(logits_until(network, &[&few], &Active::All, pad, self.stop)?.swap_remove(0))
            };
            let beside = beside.map_or_else(|| all(network), Ok)?;
            (beside.into_iter().take(COMPARED).flatten().collect(), all(&merged)?.concat())
        };
        Ok(largest_difference(&beside, &folded))
    }
}

/// Why a model whose likelihood is not finite has no metric.
const NOT_FINITE: &str = "a logit is not finite";

/// What the likelihood of a split's learnt tokens gives of the metrics that its task names.
fn of_likelihood(asked: &[Metric], sum: f64, count: usize) -> Scored {
    let loss = sum / count.max(1) as f64;
    let of_tokens = asked.iter().filter(|metric| **metric == Metric::Perplexity);
    if count == 0 {
        return Scored::unknown(of_tokens, "no token of the split is learnt", loss);
    }
    if !sum.is_finite() {
        return Scored::unknown(of_tokens, NOT_FINITE, loss);
    }
    let metrics = of_tokens.map(|metric| (metric.to_string(), perplexity(sum, count))).collect();
    Scored { metrics, undefined: BTreeMap::new(), loss, generated: None, correct: None }
}

/// NaN where one of the differences is: `f64::max` would pass it over.
fn largest_difference(one: &[f64], other: &[f64]) -> f64 {
    let larger = |largest: f64, apart: f64| if apart > largest || apart.is_nan() { apart } else { largest };
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, larger)
}

/// Rows of a split whose logits a merge is judged by: the largest of their differences hardly grows with more.
const COMPARED: usize = 512;

/// The same for texts, of which every token learnt has the logits of a vocabulary.
const COMPARED_TEXTS: usize = 16;

/// Scores a run's logits on a split.
pub(crate) fn evaluation(
    task: &TokenizedTask,
    split: &Split,
    readout: &Readout,
    step: u64,
    logits: &[Vec<f64>],
) -> Evaluation {
    evaluation_of(score::score(logits, &split.set, &task.info), split, readout, step)
}

fn evaluation_of(scored: Scored, split: &Split, readout: &Readout, step: u64) -> Evaluation {
    Evaluation {
        step,
        split: split.name.clone(),
        readout: readout.clone(),
        metrics: scored.metrics,
        undefined: scored.undefined,
        examples: split.set.rows.len(),
        loss: scored.loss,
        generated: scored.generated,
        correct: scored.correct,
    }
}

/// The network of one stack of `runs` that a view evaluates, and the components in use.
pub(crate) fn apply_view(network: &Network, view: &View, runs: usize) -> (Network, Active) {
    match view {
        View::Active(active) => (network.clone(), spread(active, runs)),
        View::Svd(rank) => {
            let mut smaller = network.clone();
            smaller.compress(0, *rank);
            (smaller, Active::All)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_is_no_number_is_the_largest() {
        assert_eq!(largest_difference(&[1.0, 2.0, 3.0], &[1.5, 0.0, 3.0]), 2.0);
        for at in 0..3 {
            let mut merged = [1.0, 2.0, 3.0];
            merged[at] = f64::NAN;
            assert!(largest_difference(&[1.0, 2.5, 3.0], &merged).is_nan(), "{at}");
        }
    }

    #[test]
    fn a_task_hears_of_the_metrics_that_it_names() {
        let names = |found: &BTreeMap<String, String>| found.keys().cloned().collect::<Vec<_>>();
        for (sum, count, why) in [(0.0, 0, "no token of the split is learnt"), (f64::NAN, 4, NOT_FINITE)] {
            let found = of_likelihood(&[Metric::Bleu], sum, count);
            assert!(found.metrics.is_empty() && found.undefined.is_empty(), "{found:?}");
            let found = of_likelihood(&[Metric::Perplexity, Metric::Bleu], sum, count);
            assert!(found.metrics["perplexity"].is_nan());
            assert_eq!(
                (names(&found.undefined), found.undefined["perplexity"].as_str()),
                (vec!["perplexity".to_owned()], why)
            );
        }
        let found = of_likelihood(&[Metric::Perplexity], 4.0 * 2.0_f64.ln(), 4);
        assert!((found.metrics["perplexity"] - 2.0).abs() < 1e-12 && found.undefined.is_empty());
    }
}
