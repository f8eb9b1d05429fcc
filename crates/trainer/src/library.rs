//! Models and tasks, ready for use: read once, shared by every cohort of a study.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use data::{batch::EncodedSet, task::TaskInfo, tokenize::Tokenizer};
use models::{
    catalog,
    head::{Classifier, Head},
    network::Network,
    roberta::Roberta,
};
use record::sha256_hex;
use variants::{host::Place, slot::StackPlan};

use crate::{error::TrainError, evaluate::Split};

/// A base model on a device.
#[derive(Debug)]
pub struct Base {
    /// The encoder, without stacks.
    pub backbone: Roberta,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// SHA-256 of configuration, tokenizer and weights.
    pub hash: String,
}

/// A task, tokenised for a model.
#[derive(Debug)]
pub struct Prepared {
    /// What is predicted and measured.
    pub info: TaskInfo,
    /// Training examples.
    pub train: EncodedSet,
    /// Evaluation splits, the first is the one that selects checkpoints.
    pub splits: Vec<Split>,
    /// The split that selects nothing.
    pub test: Split,
    /// SHA-256 of the examples.
    pub hash: String,
}

/// Everything a study's cohorts share.
#[derive(Debug)]
pub struct Library {
    place: Place,
    bases: Mutex<BTreeMap<String, Arc<Base>>>,
    tasks: Mutex<BTreeMap<String, Arc<Prepared>>>,
}

impl Library {
    /// An empty library for tensors at `place`.
    pub fn new(place: Place) -> Self {
        Self { place, bases: Mutex::default(), tasks: Mutex::default() }
    }

    /// Where its tensors live.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The model called `name`.
    pub fn base(&self, name: &str) -> Result<Arc<Base>, TrainError> {
        let mut bases = self.bases.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        if let Some(base) = bases.get(name) {
            return Ok(Arc::clone(base));
        }
        let files = catalog::find(name)?;
        let config = files.config()?;
        let mut bytes = [files.config, files.tokenizer].concat();
        bytes.extend(files.weights.unwrap_or(b"random 0"));
        let base = Arc::new(Base {
            backbone: Roberta::new(&config, &files.weights()?, &self.place)?,
            tokenizer: Tokenizer::from_bytes(files.tokenizer)?,
            hash: sha256_hex(&bytes),
        });
        bases.insert(name.to_owned(), Arc::clone(&base));
        Ok(base)
    }

    /// A task in the tokens of a model, inputs cut at `max_length`.
    pub fn task(&self, suite: &str, task: &str, model: &str, max_length: usize) -> Result<Arc<Prepared>, TrainError> {
        let base = self.base(model)?;
        let key = format!("{suite}/{task}/{model}/{max_length}");
        let mut tasks = self.tasks.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        if let Some(prepared) = tasks.get(&key) {
            return Ok(Arc::clone(prepared));
        }
        let dataset = data::suite::load(suite, task)?;
        let hash = dataset.hash();
        let encode = |examples: &[_]| EncodedSet::encode_all(&base.tokenizer, examples, max_length);
        let splits = dataset
            .evaluation
            .iter()
            .map(|(name, examples)| Ok(Split { name: name.clone(), set: encode(examples)? }))
            .collect::<Result<_, data::error::DataError>>()?;
        let test = Split { name: "test".to_owned(), set: encode(&dataset.test)? };
        let prepared = Arc::new(Prepared { train: encode(&dataset.train)?, info: dataset.info, splits, test, hash });
        tasks.insert(key, Arc::clone(&prepared));
        Ok(prepared)
    }

    /// A network with one classification stack per plan; `outputs` has each run's count.
    pub fn network(&self, model: &str, stacks: &[(StackPlan, Vec<usize>)]) -> Result<Network, TrainError> {
        let base = self.base(model)?;
        let mut network = Network::new(base.backbone.clone());
        for (plan, outputs) in stacks {
            let head = Classifier::new(base.backbone.config(), plan, outputs, &self.place);
            network.attach(plan, Head::Classifier(head))?;
        }
        Ok(network)
    }
}
