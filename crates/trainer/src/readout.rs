//! Evaluates trained runs in every way they are read out.

use std::collections::BTreeMap;

use data::{
    causal::score,
    metric::{Metric, perplexity},
    task::Objective,
};
use models::network::Network;
use record::{Evaluation, Readout};
use variants::{
    pass::Active,
    slot::{RunPlan, StackPlan},
    spec::Variant,
};

use crate::{
    cell::{CellPlan, View},
    error::TrainError,
    evaluate::{self, Scored, Split, logits, spread},
    library::{Base, Prepared},
    text,
};

/// What an evaluation needs to know of a run.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// Its base.
    pub base: &'a Base,
    /// Its recipe.
    pub plan: &'a CellPlan,
    /// Its task.
    pub task: &'a Prepared,
    /// Whether texts are generated where a metric asks for them.
    pub generates: bool,
}

impl Reader<'_> {
    /// Every split of one run in one view; `network` has that run alone.
    pub fn evaluate(
        &self,
        network: &Network,
        splits: &[&Split],
        readout: &Readout,
        view: &View,
        step: u64,
    ) -> Result<Vec<Evaluation>, TrainError> {
        let (network, active) = seen(network, view);
        let of_split = |split: &&Split| {
            let scored = self.score(&network, split, &active)?;
            Ok(Evaluation {
                step,
                split: split.name.clone(),
                readout: readout.clone(),
                metrics: scored.metrics,
                examples: split.set.rows.len(),
                loss: scored.loss,
            })
        };
        splits.iter().map(of_split).collect()
    }

    fn score(&self, network: &Network, split: &Split, active: &Active) -> Result<Scored, TrainError> {
        if self.task.info.objective != Objective::Text {
            let logits = logits(network, &[&split.set], active, self.base.pad).swap_remove(0);
            return Ok(evaluate::score(&logits, &split.set, &self.task.info));
        }
        let (sum, count) = text::likelihood(network, &split.set, active, self.base.pad);
        let mut metrics = BTreeMap::from([(Metric::Perplexity.to_string(), perplexity(sum, count))]);
        metrics.retain(|name, _| self.task.info.metrics.iter().any(|metric| metric.to_string() == *name));
        if self.generates && !split.prompts.is_empty() {
            let texts = self.generate(network, split, active)?;
            let answer = self.plan.text().and_then(|task| task.answer.as_deref());
            metrics.extend(score::of_texts(&self.task.info.metrics, answer, &texts, &split.references)?);
        }
        Ok(Scored { metrics, loss: sum / count.max(1) as f64 })
    }

    /// A text for every prompt of a split.
    pub fn generate(&self, network: &Network, split: &Split, active: &Active) -> Result<Vec<String>, TrainError> {
        let tokenizer = &self.base.tokenizer;
        let decoding = self.plan.text().and_then(|task| task.decoding.clone()).unwrap_or_default();
        let end = tokenizer.end_id()?;
        let found = text::continuations(network, &split.prompts, end, &decoding, active, self.base.pad);
        Ok(found.iter().map(|ids| tokenizer.decode(ids, true)).collect::<Result<_, _>>()?)
    }
}

/// A network as a view shows it, and the components in use.
fn seen(network: &Network, view: &View) -> (Network, Active) {
    match view {
        View::Active(active) => (network.clone(), spread(active, 1)),
        View::Svd(rank) => {
            let mut smaller = network.clone();
            smaller.compress(0, *rank);
            (smaller, Active::All)
        }
    }
}

/// Rows of a text split whose logits are compared.
const COMPARED: usize = 16;

/// Largest difference between a run's logits with its adapter beside the base and folded into it, on the first evaluation split; for
/// text, on the tokens learnt in its first rows.
pub fn merge_error(network: &Network, plain: &Variant, task: &Prepared, pad: u32) -> Result<f64, TrainError> {
    let plan =
        StackPlan::new(plain.clone(), vec![RunPlan { init_seed: 0, alpha: 1.0 }], std::collections::BTreeSet::new());
    let merged = network.merged(0, 0, &Active::All, &plan)?;
    let set = &task.splits[0].set;
    let (beside, folded) = if task.info.objective == Objective::Text {
        let few = data::batch::EncodedSet { rows: set.rows.iter().take(COMPARED).cloned().collect() };
        (text::learnt_logits(network, &few, &Active::All, pad), text::learnt_logits(&merged, &few, &Active::All, pad))
    } else {
        let flat = |network: &Network| {
            logits(network, &[set], &Active::All, pad).into_iter().flatten().flatten().collect::<Vec<f64>>()
        };
        (flat(network), flat(&merged))
    };
    Ok(beside.iter().zip(&folded).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max))
}
