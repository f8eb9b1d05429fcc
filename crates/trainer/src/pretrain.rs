//! Masked-language-model pretraining of a small base, by the loop that trains everything else.

pub mod miniature;

use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use data::{
    batch::{Batch, Encoded, EncodedSet},
    corpus::{Corpus, Text},
    mask::{self, Masking},
    tokenize::Tokenizer,
};
use models::{
    backbone::Backbone,
    config::{self, Purpose},
    encoder::Config,
    head::{Head, MaskedLm},
    network::{NamedParam, Network},
    tokens::Layout,
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
    batch::{BatchSource, HostBatch, forward, layout::BatchArrays},
    cohort::{Cohort, Stack},
    error::TrainError,
    objective::{LossInputs, Objective, masked},
    step::optimizer::Adam,
    stop::Stop,
    study::run_state::RunState,
};
use experiment::{
    cell::{Cell, Recipe},
    hyper::{Hyper, Schedule},
};

/// What a pretraining run is made with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PretrainConfig {
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
    /// What the documents are made of.
    pub text: Text,
}

/// Documents of a generated corpus with masks: a pure function of their number, so that no run depends on who makes them when.
#[derive(Clone, Copy, Debug)]
struct Documents<'a> {
    corpus: Corpus,
    tokenizer: &'a Tokenizer,
    masking: &'a Masking,
    pad: u32,
    recipe: PretrainConfig,
}

/// Documents held out for evaluation have numbers from here on.
const HELD_OUT: u64 = 1 << 40;

/// Seed of text and masks of every embedded base, and documents a step: what their cards name.
const EMBEDDED_SEED: u64 = 0;
const EMBEDDED_BATCH: usize = 512;

/// Batches that a thread keeps ready.
const AHEAD: usize = 2;

impl<'a> Documents<'a> {
    fn masked(&self, start: u64, step: u64) -> mask::MaskedBatch {
        let documents = (0..self.recipe.batch as u64).map(|row| self.corpus.document(start + row));
        let rows = documents.map(|(first, second)| {
            let encoding = self.tokenizer.encode(&first, second.as_deref(), self.recipe.max_length);
            Encoded::labelled(encoding.unwrap_or_else(|error| unreachable!("the corpus is text: {error}")), 0.0)
        });
        let set = EncodedSet::whole(rows.collect());
        let all: Vec<usize> = (0..set.rows.len()).collect();
        let batch = Batch::gather(&set, &all, all.len(), self.pad);
        mask::mask(batch, self.masking, self.recipe.seed, step)
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

/// The batches of masked language modelling.
#[derive(Debug)]
struct MaskedBatches<'a> {
    documents: Documents<'a>,
    ready: Vec<Receiver<mask::MaskedBatch>>,
    place: &'a Placement,
}

impl MaskedBatches<'_> {
    fn of(network: &Network, masked: &mask::MaskedBatch) -> HostBatch {
        let Batch { ids, types, lengths, .. } = &masked.batch;
        let tokens = Layout::new(ids, types, lengths, network.backbone.scheme());
        let losses = vec![vec![LossInputs::Masked(masked::Inputs::of(masked))]];
        HostBatch {
            arrays: BatchArrays { tokens, losses },
            n_tokens: vec![vec![lengths.iter().sum::<usize>() as u64]],
            n_terms: vec![vec![masked.targets.len() as u64]],
        }
    }
}

impl BatchSource for MaskedBatches<'_> {
    fn batch(&self, network: &Network, micro: u64) -> HostBatch {
        let ahead = self.ready[micro as usize % self.ready.len()].recv();
        let masked = ahead.unwrap_or_else(|_| self.documents.masked(micro * self.documents.recipe.batch as u64, micro));
        Self::of(network, &masked)
    }
}

/// The first `documents` of those that an embedded base is judged on in its card, masked as there.
pub(crate) fn held_out_documents(
    text: Text,
    tokenizer: &Tokenizer,
    documents: usize,
    stop: Stop<'_>,
) -> Result<Vec<mask::MaskedBatch>, TrainError> {
    let masking = Masking::new(text, tokenizer)?;
    let (corpus, pad) = (Corpus::of(text, EMBEDDED_SEED), tokenizer.pad_id()?);
    let of_batch = |first: usize| {
        stop.check()?;
        let recipe = PretrainConfig {
            seed: EMBEDDED_SEED,
            steps: 0,
            batch: EMBEDDED_BATCH.min(documents - first),
            learning_rate: 0.0,
            max_length: miniature::MAX_LENGTH,
            text,
        };
        let start = HELD_OUT + first as u64;
        Ok(Documents { corpus, tokenizer, masking: &masking, pad, recipe }.masked(start, start))
    };
    (0..documents).step_by(EMBEDDED_BATCH).map(of_batch).collect()
}

/// Loss and share of masked tokens predicted on documents that were never trained on.
#[derive(Clone, Copy, Debug)]
pub struct HeldOut {
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Share of masked tokens whose prediction is right.
    pub accuracy: f64,
}

fn held_out(network: &Network, batches: &MaskedBatches<'_>) -> HeldOut {
    let network = network.frozen();
    let (n, pass) = (8, Pass::evaluation(1));
    let mut sum = HeldOut { loss: 0.0, accuracy: 0.0 };
    for batch in 0..n {
        let start = HELD_OUT + batch * batches.documents.recipe.batch as u64;
        let batch = MaskedBatches::of(&network, &batches.documents.masked(start, start)).upload(batches.place);
        let logits = forward::logits(&network, &batch, &pass).swap_remove(0);
        let LossInputs::Masked(inputs) = &batch.losses[0][0] else { unreachable!("the batch is a masked one") };
        sum.loss += values(&masked::Masked::loss(inputs, logits.clone()))[0] / n as f64;
        sum.accuracy += values(&inputs.accuracy(logits).without_autodiff())[0] / n as f64;
    }
    sum
}

/// The model as it is after a step.
#[derive(Debug)]
pub struct Snapshot {
    /// What the held-out documents say.
    pub held_out: HeldOut,
    /// The trained tensors in the file's layout.
    pub weights: Weights,
    /// Tokens read so far, special ones included.
    pub tokens: u64,
}

/// Hears of every step, and now and then sees the model.
pub type Report<'a> = dyn FnMut(StepEntry, Option<Snapshot>) -> Result<(), TrainError> + 'a;

/// Pretrains an encoder of `config` from random weights; `report` hears every step, and sees the model every `evaluate_every` steps.
pub fn pretrain(
    config: &Config,
    tokenizer: &Tokenizer,
    recipe: PretrainConfig,
    place: &Placement,
    evaluate_every: u64,
    report: &mut Report<'_>,
) -> Result<(), TrainError> {
    let weights = Weights::random(&config.wanted(Purpose::FillMasks), recipe.seed);
    let mut cohort = cohort(config, &weights, recipe, place)?;
    let masking = Masking::new(recipe.text, tokenizer)?;
    let corpus = Corpus::of(recipe.text, recipe.seed);
    let documents = Documents { corpus, tokenizer, masking: &masking, pad: tokenizer.pad_id()?, recipe };
    thread::scope(|scope| {
        let batches = MaskedBatches { documents, ready: documents.produce(scope), place };
        let mut tokens = 0;
        while cohort.step < recipe.steps {
            let step = cohort.advance(&batches);
            if let Some((at, reason)) = &cohort.stacks[0].runs[0].failure {
                return Err(TrainError::Diverged { step: *at, reason: reason.clone() });
            }
            tokens += step.runs[0].tokens;
            let due = cohort.step.is_multiple_of(evaluate_every) || cohort.step == recipe.steps;
            let snapshot = due.then(|| Snapshot {
                held_out: held_out(&cohort.network, &batches),
                weights: export(&mut cohort.network, config),
                tokens,
            });
            report(step.runs[0].entry, snapshot)?;
        }
        Ok(())
    })
}

/// One run of full fine-tuning with a masked-language-modelling head.
fn cohort(config: &Config, weights: &Weights, recipe: PretrainConfig, place: &Placement) -> Result<Cohort, TrainError> {
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
        recipe: Recipe {
            suite: "corpus".to_owned(),
            data: None,
            given: None,
            task: "masked_lm".to_owned(),
            model: "new".into(),
            start_from: None,
            targets: models::target::Target::Endings(Vec::new()),
            modules: models::modules::Modules::default(),
            preset: "full".to_owned(),
            variant: variant.spec().clone(),
            train,
            readouts: Vec::new(),
            seeds: Seeds::all(recipe.seed),
            holdout: None,
            forgetting: None,
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
        let numbers = values(&variants::host::inner(&param.tensor));
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
