//! Masked-language-model pretraining of a small base, by the loop that trains everything else.

pub mod miniature;

use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use burn::tensor::{Tensor, activation};
use data::{
    batch::{Batch, Encoded, EncodedSet},
    corpus::Corpus,
    mask,
    tokenize::Tokenizer,
};
use models::{
    backbone::Backbone,
    config::{self, Purpose},
    encoder::Config,
    head::{Head, MaskedLm},
    network::{NamedParam, Network},
    weights::Weights,
};
use record::{CellId, StepEntry};
use variants::{
    host::{Placement, values},
    pass::Pass,
    preset,
    slot::{RunPlan, StackPlan},
    stream::Seeds,
};

use crate::{
    cohort::{Cohort, Stack},
    error::TrainError,
    lesson::{Handout, Lesson, Sheet, layout},
    step::optimizer::Adam,
    study::run_state::RunState,
};
use experiment::{
    cell::{Cell, CellPlan},
    hyper::{Hyper, Schedule},
};

/// What a pretraining run is made with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Seed of weights, text and masks.
    pub seed: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Documents per step.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Longest document in tokens.
    pub max_length: usize,
}

/// Documents of a generated corpus with masks: a pure function of their number, so that no run depends on who makes them when.
#[derive(Clone, Copy, Debug)]
struct Text<'a> {
    corpus: Corpus,
    tokenizer: &'a Tokenizer,
    pad: u32,
    recipe: Recipe,
}

/// Documents held back for evaluation lie from here on.
const HELD_BACK: u64 = 1 << 40;

/// Batches that a thread keeps ready.
const AHEAD: usize = 2;

impl<'a> Text<'a> {
    fn masked(&self, start: u64, step: u64) -> mask::MaskedBatch {
        let documents = (0..self.recipe.batch as u64).map(|row| self.corpus.document(start + row));
        let rows = documents.map(|(first, second)| {
            let encoding = self.tokenizer.encode(&first, second.as_deref(), self.recipe.max_length);
            Encoded::labelled(encoding.unwrap_or_else(|error| unreachable!("the corpus is text: {error}")), 0.0)
        });
        let set = EncodedSet { rows: rows.collect() };
        let all: Vec<usize> = (0..set.rows.len()).collect();
        let batch = Batch::gather(&set, &all, all.len(), self.pad);
        mask::mask(batch, self.tokenizer, self.recipe.seed, step)
            .unwrap_or_else(|error| unreachable!("the language's tokenizer has a mask: {error}"))
    }

    /// The batch of every step, made ahead of the training by one thread per receiver: step `i` comes from receiver `i % receivers`.
    fn produce<'scope>(self, scope: &'scope thread::Scope<'scope, '_>) -> Vec<Receiver<mask::MaskedBatch>>
    where
        'a: 'scope,
    {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(8);
        let producer = |first: usize| {
            let (sender, receiver) = sync_channel(AHEAD);
            scope.spawn(move || {
                // The receiver hangs up when training ends early, and then nobody needs the rest.
                (first as u64..self.recipe.steps)
                    .step_by(threads)
                    .map(|step| self.masked(step * self.recipe.batch as u64, step))
                    .all(|masked| sender.send(masked).is_ok())
            });
            receiver
        };
        (0..threads).map(producer).collect()
    }
}

/// The lesson of masked language modelling.
#[derive(Debug)]
struct FillMasks<'a> {
    text: Text<'a>,
    ready: Vec<Receiver<mask::MaskedBatch>>,
    place: &'a Placement,
}

impl FillMasks<'_> {
    fn enter(network: &Network, masked: &mask::MaskedBatch) -> Sheet {
        let wide = |values: &[u32]| values.iter().map(|value| i64::from(*value)).collect();
        Sheet {
            layout: layout(network, &masked.batch),
            ints: vec![wide(&masked.positions), wide(&masked.targets)],
            real: vec![vec![masked.batch.lengths.iter().sum::<usize>() as u64]],
            ..Sheet::default()
        }
    }

    /// Mean cross-entropy over the masked tokens, `[1]`, and the share predicted, `[1]`.
    fn loss(network: &Network, handout: &Handout, pass: &Pass) -> [Tensor<1>; 2] {
        let [positions, targets] = [0, 1].map(|at| handout.ints[at].clone());
        let logits = network.fill_masks(&handout.tokens, positions, pass); // [1, n, vocabulary]
        let [_, n, vocabulary] = logits.dims();
        let logs = activation::log_softmax(logits.reshape([n, vocabulary]), 1);
        let targets = targets.reshape([n, 1]);
        let chosen = logs.clone().gather(1, targets.clone());
        let right = logs.argmax(1).equal(targets).int().float();
        [chosen.mean().neg(), right.mean()]
    }
}

impl Lesson for FillMasks<'_> {
    fn sheet(&self, network: &Network, micro: u64) -> Sheet {
        let ahead = self.ready[micro as usize % self.ready.len()].recv();
        let masked = ahead.unwrap_or_else(|_| self.text.masked(micro * self.text.recipe.batch as u64, micro));
        Self::enter(network, &masked)
    }

    fn losses(&self, network: &Network, handout: &Handout, pass: &Pass) -> Vec<Tensor<1>> {
        let [loss, _] = Self::loss(network, handout, pass);
        vec![loss]
    }
}

/// Loss and share of masked tokens predicted on documents that were never trained on.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Share of masked tokens whose prediction is right.
    pub accuracy: f64,
}

fn held(network: &Network, lesson: &FillMasks<'_>) -> Held {
    let network = network.frozen();
    let (batches, pass) = (8, Pass::evaluation(1));
    let mut sum = Held { loss: 0.0, accuracy: 0.0 };
    for batch in 0..batches {
        let start = HELD_BACK + batch * lesson.text.recipe.batch as u64;
        let handout = FillMasks::enter(&network, &lesson.text.masked(start, start)).hand_out(lesson.place);
        let [loss, share] = FillMasks::loss(&network, &handout, &pass);
        sum.loss += values(&loss)[0] / batches as f64;
        sum.accuracy += values(&share.without_autodiff())[0] / batches as f64;
    }
    sum
}

/// Pretrains an encoder of `config` from random weights; `report` hears every step, and every `evaluate_every`
/// steps what the held-back documents say, with the model as it is then.
pub fn pretrain(
    config: &Config,
    tokenizer: &Tokenizer,
    recipe: Recipe,
    place: &Placement,
    evaluate_every: u64,
    report: &mut dyn FnMut(StepEntry, Option<(Held, Weights)>) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let weights = Weights::random(&config.wanted(Purpose::FillMasks), recipe.seed);
    let mut cohort = cohort(config, &weights, recipe, place)?;
    let text = Text { corpus: Corpus::new(recipe.seed), tokenizer, pad: tokenizer.pad_id()?, recipe };
    thread::scope(|scope| {
        let lesson = FillMasks { text, ready: text.produce(scope), place };
        while cohort.step < recipe.steps {
            let step = cohort.advance(&lesson);
            if let Some((at, reason)) = &cohort.stacks[0].runs[0].failure {
                return Err(TrainError::Diverged { step: *at, reason: reason.clone() });
            }
            let due = cohort.step.is_multiple_of(evaluate_every) || cohort.step == recipe.steps;
            let news = due.then(|| (held(&cohort.network, &lesson), export(&mut cohort.network, config)));
            report(step.runs[0].entry, news)?;
        }
        Ok(())
    })
}

/// One run of full fine-tuning with a masked-language-modelling head.
fn cohort(config: &Config, weights: &Weights, recipe: Recipe, place: &Placement) -> Result<Cohort, TrainError> {
    let full = preset::find("full").unwrap_or_else(|_| unreachable!("the registry has full fine-tuning"));
    let variant = (full.spec)(0).check(None).unwrap_or_else(|_| unreachable!("the preset is valid"));
    let plan = StackPlan::new(
        variant.clone(),
        vec![RunPlan { init_seed: recipe.seed, alpha: 1.0 }],
        std::collections::BTreeSet::new(),
    );
    let mut network =
        Network::new(Backbone::new(&config::Config::Encoder(config.clone()), weights, Purpose::FillMasks, place)?);
    network.attach(&plan, Head::MaskedLm(MaskedLm::new(config, weights, 1, place)))?;
    let train = Hyper {
        steps: Some(recipe.steps),
        epochs: None,
        batch: recipe.batch,
        learning_rate: recipe.learning_rate,
        weight_decay: 0.01,
        warmup: 0.05,
        schedule: Schedule::Linear,
        beta2: 0.98,
        max_length: recipe.max_length,
        ..Hyper::default()
    };
    let adam = Adam { beta1: train.beta1, beta2: train.beta2, epsilon: train.epsilon };
    let cell = Cell {
        id: CellId { task: "masked_lm".to_owned(), variant: "full".to_owned(), rank: 0, seed: recipe.seed },
        plan: CellPlan {
            suite: "corpus".to_owned(),
            data: None,
            given: None,
            task: "masked_lm".to_owned(),
            model: "new".to_owned(),
            start_from: None,
            targets: models::target::Target::Endings(Vec::new()),
            modules: models::modules::Modules::default(),
            preset: "full".to_owned(),
            variant: variant.spec().clone(),
            train,
            readouts: Vec::new(),
            seeds: Seeds::all(recipe.seed),
        },
        diff: serde_json::Value::Null,
    };
    let run = RunState::new(cell, recipe.steps);
    Ok(Cohort::new(network, vec![Stack::new(vec![run], plan)], 1, adam))
}

/// The trained tensors in the file's layout.
fn export(network: &mut Network, config: &Config) -> Weights {
    let mut out = Weights::default();
    let wanted = config.wanted(Purpose::FillMasks);
    for NamedParam { name, param, .. } in network.parameters(0) {
        let Some(tensor) = wanted.iter().find(|wanted| wanted.name == name) else { continue };
        let [_, rows, cols] = param.tensor.dims();
        let numbers = values(&variants::host::inner(param.tensor));
        let is_linear = tensor.shape.len() == 2 && !name.contains("embeddings");
        let ordered: Vec<f32> = if is_linear {
            (0..cols).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| numbers[r * cols + c] as f32).collect()
        } else {
            numbers.iter().map(|v| *v as f32).collect()
        };
        out.insert(name, tensor.shape.clone(), ordered);
    }
    out
}
