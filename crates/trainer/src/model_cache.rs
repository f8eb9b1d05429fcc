//! Models and tasks, ready for use: read once, shared by every cohort of a study.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use burn::tensor::{DType, Device};
use data::{
    audit,
    batch::EncodedSet,
    causal::task::{self, TextSplit},
    task::{Dataset, Example, Loaded, TaskInfo},
    tokenize::Tokenizer,
};
use kernels::ops;
use models::{
    backbone::Backbone,
    config::{Config, Purpose},
    head::{Classifier, Head},
    network::Network,
    weights::Weights,
};
use variants::{host::Placement, slot::StackPlan};

use crate::{error::TrainError, evaluate::score::Split};
use assets::{device, source};
use experiment::{cell::Recipe, hyper::Precision, tasks::load};

/// A base model on a device.
#[derive(Debug)]
pub struct BaseModel {
    /// The backbone, without stacks.
    pub backbone: Backbone,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// `tokenizer_config.json`, which has the template of conversations.
    tokenizer_config: Option<Vec<u8>>,
    /// Id of padding; it is masked, so any does where the tokenizer has none.
    pub pad: u32,
    /// The head that lies in the checkpoint; empty where there is none.
    pub head: Weights,
    /// SHA-256 of configuration, tokenizer and weights.
    pub hash: String,
    /// Tensors of the checkpoint that nothing here uses.
    pub unused: Vec<String>,
}

/// A task, tokenised for a model.
#[derive(Debug)]
pub struct TokenizedTask {
    /// What is predicted and measured.
    pub info: TaskInfo,
    /// Training examples.
    pub train: EncodedSet,
    /// Evaluation splits, the first is the one that selects checkpoints.
    pub splits: Vec<Split>,
    /// The split that selects nothing, where its labels are known.
    pub test: Option<Split>,
    /// SHA-256 of the examples.
    pub hash: String,
    /// What was odd about the files.
    pub notes: Vec<String>,
}

/// Everything a study's cohorts share.
#[derive(Debug)]
pub struct ModelCache {
    place: Placement,
    /// Whether a plan's precision holds.
    trains: bool,
    bases: Mutex<BTreeMap<(String, bool), Arc<BaseModel>>>,
    tasks: Mutex<BTreeMap<String, Arc<TokenizedTask>>>,
    /// A device that is made ready meanwhile.
    _warming: Option<ops::Warming>,
}

impl ModelCache {
    /// An empty library for tensors at `place`.
    pub fn new(place: Placement) -> Self {
        Self { place, trains: false, bases: Mutex::default(), tasks: Mutex::default(), _warming: None }
    }

    /// An empty library for training: bases are in their plans' precision.
    pub fn training(place: Placement) -> Self {
        let warming = ops::warm_up(&place.device);
        Self { trains: true, _warming: Some(warming), ..Self::new(place) }
    }

    /// An empty library for adapters that are read on the CPU, in f32 as they are stored.
    pub fn on_cpu() -> Self {
        Self::new(Placement::new(&Device::flex(), DType::F32))
    }

    /// An empty library for trained models on a device, in f32.
    pub fn on(device: &device::Named) -> Self {
        Self::new(Placement::new(&device.device, DType::F32))
    }

    /// An empty library for training on a device.
    pub fn training_on(device: &device::Named) -> Self {
        Self::training(Placement::new(&device.device, DType::F32))
    }

    /// Where its tensors live.
    pub fn place(&self) -> &Placement {
        &self.place
    }

    /// The model called `name`.
    pub fn base(&self, name: &str) -> Result<Arc<BaseModel>, TrainError> {
        self.opened(name, false)
    }

    /// The model of a plan, in the plan's precision where this library is for training.
    pub fn base_of(&self, plan: &Recipe) -> Result<Arc<BaseModel>, TrainError> {
        self.opened(&plan.model, self.trains && plan.train.precision == Precision::Bf16)
    }

    fn opened(&self, name: &str, narrow: bool) -> Result<Arc<BaseModel>, TrainError> {
        let mut bases = self.bases.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        let key = (name.to_owned(), narrow);
        if let Some(base) = bases.get(&key) {
            return Ok(Arc::clone(base));
        }
        let place = if narrow { self.place.clone().with_base(DType::BF16) } else { self.place.clone() };
        let base = Arc::new(open(name, &place)?);
        bases.insert(key, Arc::clone(&base));
        Ok(base)
    }

    /// The task of a plan in the tokens of its model.
    pub fn task(&self, plan: &Recipe) -> Result<Arc<TokenizedTask>, TrainError> {
        let base = self.base_of(plan)?;
        let given = serde_json::to_string(&plan.given).unwrap_or_else(|error| unreachable!("a plan is JSON: {error}"));
        let key =
            format!("{}/{}/{:?}/{given}/{}/{}", plan.suite, plan.task, plan.data, plan.model, plan.train.max_length);
        let mut tasks = self.tasks.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        if let Some(prepared) = tasks.get(&key) {
            return Ok(Arc::clone(prepared));
        }
        let prepared = Arc::new(prepare(plan, &base)?);
        tasks.insert(key, Arc::clone(&prepared));
        Ok(prepared)
    }

    /// A network with one stack per stack plan; `outputs` has each run's count, where its head has outputs.
    pub fn network(&self, plan: &Recipe, stacks: &[(StackPlan, Vec<usize>)]) -> Result<Network, TrainError> {
        let base = self.base_of(plan)?;
        let mut backbone = base.backbone.clone();
        if let Some(p) = plan.train.backbone_dropout {
            backbone.set_dropout(p);
        }
        let mut network = Network::new(backbone);
        for (stack, outputs) in stacks {
            let head = if plan.text().is_some() {
                Head::Causal
            } else {
                Head::Classifier(Classifier::new(&network.backbone, stack, outputs, &base.head))
            };
            network.attach(stack, head)?;
        }
        Ok(network)
    }
}

fn open(name: &str, place: &Placement) -> Result<BaseModel, TrainError> {
    let files = source::open(name)?;
    // A decoder comes with its output projection, so that it can both classify and continue.
    let purpose = if files.config.is_causal() { Purpose::Continue } else { Purpose::Classify };
    let mut tokenizer = Tokenizer::from_bytes(&files.tokenizer)?;
    if let Some(config) = &files.tokenizer_config {
        tokenizer = tokenizer.with_config(config)?;
    }
    let backbone =
        Backbone::new(&files.config, &files.weights, purpose, place).map_err(|error| source::named(name, error))?;
    let head_names = files.config.head_names();
    let is_head = |name: &String| head_names.contains(&name.as_str());
    let unused =
        files.weights.unused(&files.config.wanted(purpose)).into_iter().filter(|name| !is_head(name)).collect();
    check_vocabulary(name, &tokenizer, &files.config)?;
    Ok(BaseModel {
        pad: tokenizer.pad_id().unwrap_or(0),
        head: files.weights.only(head_names),
        tokenizer,
        tokenizer_config: files.tokenizer_config,
        backbone,
        hash: files.hash,
        unused,
    })
}

/// A tokenizer of another model gives ids that the embedding table does not have.
fn check_vocabulary(name: &str, tokenizer: &Tokenizer, config: &Config) -> Result<(), TrainError> {
    let (has, rows) = (tokenizer.vocab_size(), config.vocab_size());
    if has <= rows {
        return Ok(());
    }
    Err(TrainError::foreign(
        name,
        format!(
            "tokenizer.json has {has} tokens, but config.json says vocab_size {rows}; use the tokenizer that was saved with the model"
        ),
    ))
}

fn prepare(plan: &Recipe, base: &BaseModel) -> Result<TokenizedTask, TrainError> {
    if let Some(task) = plan.text() {
        let files = source::files(plan.data.as_deref().unwrap_or("."))?;
        let loaded =
            task::load(task, &*files, &base.tokenizer, base.tokenizer_config.as_deref(), plan.train.max_length)?;
        let split = |name: String, split: TextSplit| Split {
            name,
            set: split.set,
            prompts: split.prompts,
            references: split.references,
        };
        return Ok(TokenizedTask {
            info: loaded.info,
            train: loaded.train,
            splits: loaded.evaluation.into_iter().map(|(name, found)| split(name, found)).collect(),
            test: loaded.test.map(|found| split("test".to_owned(), found)),
            hash: loaded.hash,
            notes: loaded.notes,
        });
    }
    let Loaded { dataset, mut notes, .. } = load(&plan.suite, &plan.task, plan.data.as_deref(), plan.given.as_ref())?;
    notes.extend(audit::notes(&dataset));
    let encode = |examples: &[Example]| EncodedSet::encode_all(&base.tokenizer, examples, plan.train.max_length);
    let hash = dataset.hash();
    let Dataset { info, train, evaluation, test } = dataset;
    let splits = evaluation
        .iter()
        .map(|(name, examples)| Ok(Split::new(name, encode(examples)?)))
        .collect::<Result<_, data::error::DataError>>()?;
    let is_labelled = !test.is_empty() && test.iter().all(|example| example.label.is_finite());
    let test = is_labelled.then(|| Ok::<_, data::error::DataError>(Split::new("test", encode(&test)?))).transpose()?;
    Ok(TokenizedTask { train: encode(&train)?, info, splits, test, hash, notes })
}
