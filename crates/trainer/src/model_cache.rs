//! Models and tasks, ready for use: read once, shared by every cohort of a study.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use burn::tensor::{DType, Device};
use data::{
    audit,
    batch::EncodedSet,
    causal::{
        chat::ChatFiles,
        task::{self, TextSplit},
    },
    task::{Dataset, Example, Loaded, Objective, TaskInfo},
    tokenize::Tokenizer,
};
use kernels::ops;
use models::{
    backbone::Backbone,
    config::{Config, PROJECTION, Purpose},
    head::{Classifier, Head, Outputs, StoredHead},
    modules::{Modules, Selected},
    network::Network,
    target::Target,
    weights::Weights,
};
use record::Truncated;
use variants::{
    error::SpecProblem,
    host::Placement,
    slot::{FirstValues, StackPlan},
};

use crate::{calibrate::Taken, error::TrainError, evaluate::score::Split, forgetting::Measurement, stop::Stop};
use assets::{device, source};
use experiment::{cell::Recipe, hyper::Precision, tasks::load_for};

/// How the tensors of pretraining's heads are called: masked and next words, next sentences.
const PRETRAINING: [&str; 4] = ["lm_head.", "cls.predictions.", "cls.seq_relationship.", "predictions."];

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
    /// `chat_template.jinja`, which has it too, and counts where both have it.
    chat_template: Option<Vec<u8>>,
    /// The classification head that lies in the checkpoint.
    pub head: StoredHead,
    /// What it was opened for: a decoder without an output projection cannot continue texts.
    pub purpose: Purpose,
    /// SHA-256 of configuration, tokenizer and weights.
    pub hash: String,
    /// Tensors of the checkpoint that nothing here uses.
    pub unused: Vec<String>,
    /// What of its files is passed over, or was drawn because it is not there.
    pub notes: Vec<String>,
    /// Slots that recipes mean: thousands of cells mean the same few.
    selected: Mutex<Vec<Selection>>,
}

/// What fields that name slots of a model mean there.
#[derive(Debug)]
struct Selection {
    targets: Option<Target>,
    modules: Modules,
    selected: Arc<Selected>,
}

/// A task, tokenised for a model.
#[derive(Debug)]
pub struct TokenizedTask {
    /// What is predicted and measured.
    pub info: TaskInfo,
    /// Training examples.
    pub train: EncodedSet,
    /// Evaluation splits, the first is the one that selects checkpoints. Tasks that differ in their training examples alone have one copy.
    pub splits: Vec<Arc<Split>>,
    /// The split that selects nothing, where its labels are known.
    pub test: Option<Arc<Split>>,
    /// SHA-256 of the examples.
    pub hash: String,
    /// Hash of how the texts become tokens, as far as `tokenizer_config.json` and `chat_template.jinja` say; none for single texts and pairs that
    /// are cut on the right, if at all.
    pub reading: Option<String>,
    /// The checkpoint's head with the outputs in the order of the task's labels; without tensors where there is none.
    pub head: Weights,
    /// Splits, `train` among them, of which the length limit cut some texts.
    pub truncated: BTreeMap<String, Truncated>,
    /// What was odd about the files.
    pub notes: Vec<String>,
}

impl TokenizedTask {
    /// Everything that it is evaluated on.
    pub fn evaluated(&self) -> impl Iterator<Item = &Arc<Split>> {
        self.splits.iter().chain(&self.test)
    }

    /// Takes the splits of `others` in the place of its own that are equal, so that runs on samples of one task are evaluated together.
    fn share_splits(&mut self, others: &BTreeMap<String, Arc<Self>>) {
        for split in self.splits.iter_mut().chain(&mut self.test) {
            if let Some(equal) = others.values().flat_map(|other| other.evaluated()).find(|other| *other == split) {
                *split = Arc::clone(equal);
            }
        }
    }

    /// The same, with what the length limit of a recipe cut in every split.
    fn with_truncated(mut self, recipe: &Recipe) -> Self {
        let train = std::iter::once(("train", &self.train));
        let others = self.splits.iter().chain(&self.test).map(|split| (split.name.as_str(), &split.set));
        for (name, set) in train.chain(others).filter(|(_, set)| set.truncated > 0) {
            let of = set.rows.len();
            self.truncated.insert(name.to_owned(), Truncated { texts: set.truncated, of });
            // Of items that are continued, the reader of their files says how many are as long as the limit.
            if self.info.objective != Objective::Text {
                let (limit, percent) = (recipe.train.max_length, 100.0 * set.truncated as f64 / of as f64);
                self.notes.push(format!(
                    "{}, {name}: train.max_length, {limit} tokens, cuts {} of {of} texts ({percent:.0}%)",
                    recipe.task, set.truncated
                ));
            }
        }
        self
    }
}

/// Everything a study's cohorts share.
#[derive(Debug)]
pub struct ModelCache {
    place: Placement,
    /// Whether a plan's precision holds.
    trains: bool,
    bases: Mutex<BTreeMap<(String, bool), Arc<BaseModel>>>,
    tasks: Mutex<BTreeMap<String, Arc<TokenizedTask>>>,
    /// What forgetting is measured with, by base, its precision and the text.
    measurements: Mutex<BTreeMap<String, Arc<Measurement>>>,
    /// What was taken of training batches for first values, by a hash of all that it depends on.
    calibrations: Mutex<BTreeMap<String, Arc<Taken>>>,
    /// A device that is made ready meanwhile.
    _warming: Option<ops::Warming>,
}

impl ModelCache {
    /// An empty library for tensors at `place`.
    pub fn new(place: Placement) -> Self {
        Self {
            place,
            trains: false,
            bases: Mutex::default(),
            tasks: Mutex::default(),
            measurements: Mutex::default(),
            calibrations: Mutex::default(),
            _warming: None,
        }
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
        let key = format!(
            "{}/{}/{:?}/{given}/{}/{}/{:?}/{:?}",
            plan.suite, plan.task, plan.data, plan.model, plan.train.max_length, plan.holdout, plan.seeds.sample
        );
        let mut tasks = self.tasks.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        if let Some(prepared) = tasks.get(&key) {
            return Ok(Arc::clone(prepared));
        }
        let mut prepared = prepare(plan, &base)?;
        prepared.share_splits(&tasks);
        let prepared = Arc::new(prepared);
        tasks.insert(key, Arc::clone(&prepared));
        Ok(prepared)
    }

    /// What forgetting is measured with, where a plan asks for it.
    pub fn measurement(&self, plan: &Recipe, stop: Stop<'_>) -> Result<Option<Arc<Measurement>>, TrainError> {
        let Some(held_out) = &plan.forgetting else { return Ok(None) };
        let base = self.base_of(plan)?;
        let mut known = self.measurements.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        let key = format!("{}/{:?}/{held_out:?}", plan.model, base.backbone.place().base);
        if let Some(found) = known.get(&key) {
            return Ok(Some(Arc::clone(found)));
        }
        let made = Arc::new(Measurement::new(held_out, &plan.model, &base, stop)?);
        known.insert(key, Arc::clone(&made));
        Ok(Some(made))
    }

    /// What was taken of training batches under a key, taken now where it never was.
    pub(crate) fn calibration(
        &self,
        key: &str,
        take: impl FnOnce() -> Result<Taken, TrainError>,
    ) -> Result<Arc<Taken>, TrainError> {
        // Taken under no lock: a device that runs out of memory panics there, and the cohort is tried again in halves. Two workers that
        // take the same at once take the same numbers, of which the first stays.
        let known = || self.calibrations.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        if let Some(found) = known().get(key) {
            return Ok(Arc::clone(found));
        }
        let taken = Arc::new(take()?);
        Ok(Arc::clone(known().entry(key.to_owned()).or_insert(taken)))
    }

    /// How many times training batches were looked at for first values.
    #[cfg(test)]
    pub(crate) fn calibrations_taken(&self) -> usize {
        self.calibrations.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics")).len()
    }

    /// A network with one stack per stack plan; `outputs` has each run's count, where its head has outputs. Where a checkpoint's head is
    /// the start, its outputs are in the order of the file.
    pub fn network(&self, plan: &Recipe, stacks: &[(StackPlan, Vec<usize>)]) -> Result<Network, TrainError> {
        let base = self.base_of(plan)?;
        let stored = base.head.in_file_order();
        let of_runs = |counts: &[usize]| counts.iter().map(|&count| Outputs { count, stored }).collect();
        let stacks: Vec<(StackPlan, Vec<Outputs<'_>>)> =
            stacks.iter().map(|(stack, counts)| (stack.clone(), of_runs(counts))).collect();
        self.network_of(plan, &stacks)
    }

    /// As [`network`](Self::network), with what each run's head starts from.
    pub fn network_of(&self, plan: &Recipe, stacks: &[(StackPlan, Vec<Outputs<'_>>)]) -> Result<Network, TrainError> {
        self.network_with(plan, stacks, None)
    }

    /// The same, whose heads may have other first values than the adapters.
    pub fn network_with(
        &self,
        plan: &Recipe,
        stacks: &[(StackPlan, Vec<Outputs<'_>>)],
        heads: Option<FirstValues>,
    ) -> Result<Network, TrainError> {
        let base = self.base_of(plan)?;
        if plan.text().is_some() {
            base.must_continue(&plan.model)?;
        }
        let mut backbone = base.backbone.clone();
        if let Some(p) = plan.train.backbone_dropout {
            backbone.set_dropout(p);
        }
        let mut network = Network::new(backbone);
        for (stack, outputs) in stacks {
            let head = if plan.text().is_some() {
                Head::Causal
            } else {
                let plan = StackPlan { first_values: heads.unwrap_or(stack.first_values), ..stack.clone() };
                Head::Classifier(Classifier::of_runs(&network.backbone, &plan, outputs))
            };
            network.attach(stack, head)?;
        }
        Ok(network)
    }
}

impl BaseModel {
    /// The slots that targets, where a plan adapts any, and the other fields of its modules mean.
    pub fn selected(&self, targets: Option<&Target>, modules: &Modules) -> Result<Arc<Selected>, Vec<SpecProblem>> {
        let mut known = self.selected.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        let is_same = |one: &&Selection| one.targets.as_ref() == targets && one.modules == *modules;
        if let Some(found) = known.iter().find(is_same) {
            return Ok(Arc::clone(&found.selected));
        }
        let selected = Arc::new(modules.select(targets, &self.backbone.config())?);
        let (targets, modules) = (targets.cloned(), modules.clone());
        known.push(Selection { targets, modules, selected: Arc::clone(&selected) });
        Ok(selected)
    }

    /// Refuses a decoder without an output projection where texts are to be continued.
    pub(crate) fn must_continue(&self, name: &str) -> Result<(), TrainError> {
        let config = self.backbone.config();
        if !config.is_causal() || self.purpose == Purpose::Continue {
            return Ok(());
        }
        Err(TrainError::foreign(
            name,
            format!(
                "the checkpoint has no output projection (`{PROJECTION}`), as one saved for classification or embeddings has none: it can \
                 classify, but not continue texts; use a checkpoint of the class ForCausalLM"
            ),
        ))
    }

    /// What there is to say of its files, a line each with the model's name.
    pub fn said_of(&self, name: &str) -> Vec<String> {
        self.notes.iter().map(|text| format!("{name}: {text}")).collect()
    }

    /// Says which tensors nothing uses, but for the heads of pretraining: a checkpoint has one as a matter of course.
    fn say_unused(&mut self) {
        const SHOWN: usize = 8;
        let of_pretraining = |name: &&str| PRETRAINING.iter().any(|head| name.starts_with(head));
        let odd: Vec<&str> = self.unused.iter().map(String::as_str).filter(|name| !of_pretraining(name)).collect();
        if odd.is_empty() {
            return;
        }
        let more = if odd.len() > SHOWN { ", .." } else { "" };
        self.notes.push(format!(
            "{} tensors are not used: {}{more}",
            odd.len(),
            odd[..odd.len().min(SHOWN)].join(", ")
        ));
    }
}

fn open(name: &str, place: &Placement) -> Result<BaseModel, TrainError> {
    let files = source::open(name)?;
    let purpose = files.config.purpose(&files.weights);
    let tokenizer = read_tokenizer(&files.tokenizer, files.tokenizer_config.as_deref())?;
    let notes = tokenizer.notes().to_vec();
    let backbone =
        Backbone::new(&files.config, &files.weights, purpose, place).map_err(|error| source::named(name, error))?;
    let head = StoredHead::new(&files.config, &files.weights, files.labels, files.other_head);
    let left = files.weights.unused(&files.config.wanted(purpose)).into_iter();
    let unused = left.filter(|name| !head.has(name)).collect();
    check_vocabulary(name, &tokenizer, &files.config)?;
    let mut base = BaseModel {
        pad: tokenizer.pad_id().unwrap_or(0),
        head,
        purpose,
        tokenizer,
        tokenizer_config: files.tokenizer_config,
        chat_template: files.chat_template,
        backbone,
        hash: files.hash,
        unused,
        notes: [files.notes, notes].concat(),
        selected: Mutex::default(),
    };
    base.say_unused();
    Ok(base)
}

/// Whether a model's tokenizer fits its configuration, as far as both are at hand: what [`ModelCache::base`] finds after it has read the
/// weights.
pub fn check_tokenizer(name: &str) -> Result<(), TrainError> {
    let (Some(config), Some(files)) = (source::config(name)?, source::tokenizer(name)?) else { return Ok(()) };
    check_vocabulary(name, &read_tokenizer(&files.tokenizer, files.config.as_deref())?, &config)
}

fn read_tokenizer(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Tokenizer, TrainError> {
    let tokenizer = Tokenizer::from_bytes(tokenizer)?;
    Ok(match config {
        Some(config) => tokenizer.with_config(config)?,
        None => tokenizer,
    })
}

/// A tokenizer of another model gives ids that the embedding table does not have.
fn check_vocabulary(name: &str, tokenizer: &Tokenizer, config: &Config) -> Result<(), TrainError> {
    let (rows, types) = (config.vocab_size(), config.token_types());
    let refused = |reason: String| Err(TrainError::foreign(name, reason));
    if let Some((token, id)) = tokenizer.largest_id()?.filter(|(_, id)| *id as usize >= rows) {
        return refused(format!(
            "tokenizer.json gives `{token}` the id {id}, but config.json says vocab_size {rows}, so ids end at {}; use the tokenizer that was \
             saved with the model, or the model whose table was resized for it",
            rows - 1
        ));
    }
    match (tokenizer.largest_type()?, types) {
        (largest, Some(types)) if types > 1 && largest as usize >= types => refused(format!(
            "tokenizer.json gives tokens the type {largest}, but config.json says type_vocab_size {types}; use the tokenizer that was saved \
             with the model"
        )),
        _ => Ok(()),
    }
}

fn prepare(plan: &Recipe, base: &BaseModel) -> Result<TokenizedTask, TrainError> {
    if let Some(task) = plan.text() {
        base.must_continue(&plan.model)?;
        let files = source::files(plan.data.as_deref().unwrap_or("."))?;
        let chat =
            ChatFiles { tokenizer_config: base.tokenizer_config.as_deref(), template: base.chat_template.as_deref() };
        let reading = task::Reading { tokenizer: &base.tokenizer, chat, max_len: plan.train.max_length };
        let mut loaded = match plan.holdout {
            Some(holdout) => task::load_cut(task, &*files, reading, holdout)?,
            None => task::load(task, &*files, reading.tokenizer, chat, reading.max_len)?,
        };
        if let Some((head, _)) = base.head.outputs() {
            loaded.notes.push(format!("{}: the checkpoint's classification head `{head}` is not used", plan.model));
        }
        let split = |name: String, split: TextSplit| Split {
            name,
            set: split.set,
            prompts: split.prompts,
            references: split.references,
        };
        let task = TokenizedTask {
            info: loaded.info,
            train: loaded.train,
            splits: loaded.evaluation.into_iter().map(|(name, found)| Arc::new(split(name, found))).collect(),
            test: loaded.test.map(|found| Arc::new(split("test".to_owned(), found))),
            hash: loaded.hash,
            reading: Some(loaded.reading),
            head: Weights::default(),
            truncated: BTreeMap::new(),
            notes: loaded.notes,
        };
        return Ok(task.with_truncated(plan));
    }
    let Loaded { dataset, mut notes, .. } = load_for(plan)?;
    notes.extend(audit::notes(&dataset));
    let encode = |examples: &[Example]| EncodedSet::encode_all(&base.tokenizer, examples, plan.train.max_length);
    let dataset = match plan.holdout {
        Some(holdout) => {
            let cut = holdout.cut(dataset)?;
            notes.extend(audit::notes_of_cut(&cut, holdout.seed));
            cut
        }
        None => dataset,
    };
    let hash = dataset.hash();
    let Dataset { info, train, evaluation, test } = dataset;
    let splits = evaluation
        .iter()
        .map(|(name, examples)| Ok(Arc::new(Split::new(name, encode(examples)?))))
        .collect::<Result<_, data::error::DataError>>()?;
    let is_labelled = !test.is_empty() && test.iter().all(|example| example.label.is_finite());
    let test = is_labelled
        .then(|| Ok::<_, data::error::DataError>(Arc::new(Split::new("test", encode(&test)?))))
        .transpose()?;
    let (head, said) = base.head.for_task(info.objective.n_outputs(), info.objective.labels());
    notes.extend(said.map(|said| format!("{}: {said}", plan.model)));
    let truncated = BTreeMap::new();
    let reading = base.tokenizer.cuts_left().then(|| record::sha256_hex(b"left"));
    let task = TokenizedTask { train: encode(&train)?, info, splits, test, hash, reading, head, truncated, notes };
    Ok(task.with_truncated(plan))
}
