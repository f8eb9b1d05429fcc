//! A trained adapter folded into its base: a whole checkpoint that other programs open without this one.
//!
//! Every tensor of the base's files keeps its name and its layout (torch's `Linear` `[d_out, d_in]`, GPT-2's `Conv1D` `[d_in, d_out]`
//! with query, key and value in one); merged maps and trained norms, biases and tables take the place of the base's, and the trained
//! head stands under the name that transformers gives it. The checkpoint is one of `AutoModelForSequenceClassification` or
//! `AutoModelForCausalLM`: names get the prefix of a model with a head, and tensors that this class does not have (another head,
//! RoBERTa's pooler) stay behind and are named.
//!
//! Merging rounds: `W0 + ΔW` is computed in f32, and a file of f16 or bf16 keeps 11 or 8 bits of it. What that does to the logits is
//! measured for all three types on rows of the run's own data, for the written type on the file as it was written and read again.
//!
//! A table that is tied to the output projection can be trained as a whole, not adapted: an adapter of it acts on the way in alone,
//! so that the two would have to part, which is another architecture of one table more. Such an adapter is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use data::{
    batch::{Encoded, EncodedSet},
    task::Objective,
};
use models::{
    backbone::Backbone,
    config::{Config, Purpose},
    head::{Classifier, Head},
    network::{NamedParam, Network},
    weights::{Weights, widen},
};
use safetensors::{Dtype, tensor::TensorView};
use variants::{
    host::{Placement, values},
    pass::Active,
    rank::RankPolicy,
    slot::{RunPlan, Slot, StackPlan},
    stream::{self, Stream},
};

use crate::{output_dir::Free, peft, predict};
use assets::source::{
    self,
    raw::{self, GENERATION, Stored},
};
use experiment::{cell::CellPlan, tasks};
use trainer::{
    adapter::{self, AdapterMetadata},
    error::TrainError,
    evaluate::{
        language_model,
        score::{logits, spread},
    },
    model_cache::{BaseModel, ModelCache},
};

mod configuration;

/// The command's name in what it writes.
const COMMAND: &str = "lora-lab merge";

/// How numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 32 bits, 24 of them the number's own.
    F32,
    /// 16 bits, 11 of them the number's own; up to 65504.
    F16,
    /// 16 bits, 8 of them the number's own.
    Bf16,
}

impl Width {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// As torch calls it.
    pub fn torch(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// The nearest number of this width, ties to even.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => half::f16::from_f32(value).to_f32(),
            Self::Bf16 => half::bf16::from_f32(value).to_f32(),
        }
    }

    fn bytes(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }
}

/// On which rows the merged model is held against the unmerged one.
#[derive(Clone, Debug, Default)]
pub enum Rows {
    /// The run's first evaluation split, or tokens drawn at random where its data is not at hand.
    #[default]
    Any,
    /// A split of the run's own data.
    Split(String),
    /// A file in the layout of the run's task.
    File(PathBuf),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// A run's folder, or its `adapter.safetensors`.
    pub adapter: &'a Path,
    /// Where its base lies now, if elsewhere than in training.
    pub model: Option<&'a str>,
    /// Components in use, for an adapter of nested ranks.
    pub rank: Option<usize>,
    /// The type of the written numbers.
    pub width: Width,
    /// The folder to write.
    pub out: &'a Path,
    /// What the check reads.
    pub rows: Rows,
    /// Most rows of it.
    pub most: usize,
}

/// What the merged model of one type computes beside the unmerged one in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Check {
    /// The type.
    pub width: Width,
    /// Largest difference of a logit.
    pub difference: f64,
    /// Rows, or positions of a text, whose largest logit is another one.
    pub changed: usize,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Report {
    /// Tensors in the file.
    pub tensors: usize,
    /// Bytes of the file.
    pub bytes: u64,
    /// Tensors of the base that the class of the checkpoint does not have.
    pub left_out: Vec<String>,
    /// Where the compared rows are from.
    pub compared_on: String,
    /// How many rows (or positions of a text) were compared.
    pub compared: usize,
    /// Largest magnitude among the unmerged logits.
    pub largest_logit: f64,
    /// One per type.
    pub checks: Vec<Check>,
}

/// A tensor of the new file.
#[derive(Clone, Debug)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// Numbers, which take the type asked for.
    Numbers(Vec<f32>),
    /// Anything else, such as `position_ids`.
    AsStored(Dtype, Vec<u8>),
}

impl Content {
    fn of(dtype: Dtype, shape: &[usize], data: Vec<u8>) -> Self {
        let floats = TensorView::new(dtype, shape.to_vec(), &data).ok().and_then(|view| widen(&view));
        floats.map_or(Self::AsStored(dtype, data), Self::Numbers)
    }
}

/// Merges, writes the checkpoint and holds it against the unmerged model.
pub fn merge(request: &Request<'_>, cache: &ModelCache) -> Result<Report, TrainError> {
    let free = Free::check(request.out, COMMAND)?;
    let path = adapter_file(request.adapter)?;
    let (metadata, mut network) = adapter::load_on(&path, request.model, cache)?;
    let refused = |reason: String| TrainError::foreign(path.clone(), reason);
    let active = active(request.rank, &metadata).map_err(refused)?;
    if let Some(name) = adapter::first_non_finite(&mut network) {
        return Err(refused(format!("`{name}` holds numbers that are not finite; train its run again")));
    }
    let plan = &metadata.plan;
    let base = cache.base(&plan.model)?;
    let config = base.backbone.config();
    if let Some(table) = adapted_tied_table(&mut network, plan) {
        return Err(refused(format!(
            "it adapts `{table}`, which is also the output projection; merged into one table it would act on the way out \
             too. Train the table as a whole (`base: trained`), or leave it out of `targets`"
        )));
    }
    let sample = sample(&request.rows, request.most, plan, &base, cache)?;
    let unmerged = answers(&network, &sample.set, plan, &active, base.pad);

    let files = raw::files(&plan.model)?;
    let (tensors, left_out) = assemble(files.tensors, &mut network, &active, &config, plan.text().is_some());
    if let Some(name) = overflow(&tensors, request.width) {
        return Err(refused(format!(
            "`{name}` holds a number beyond {}'s largest; write it with `--dtype bf16` or `f32`",
            request.width.torch()
        )));
    }
    let content = encode(&tensors, request.width)?;
    let mut draft = free.begin()?;
    draft.write("model.safetensors", &content)?;
    let objective = objective(plan, cache);
    let wanted = configuration::Wanted {
        outputs: plan.text().is_none().then_some(metadata.outputs),
        objective: objective.as_ref(),
        pad: base.pad,
        width: request.width,
    };
    let written = configuration::of_merged(&files.config, &wanted)
        .map_err(|reason| TrainError::foreign(Path::new(&plan.model).join("config.json"), reason))?;
    draft.write("config.json", &written)?;
    for (name, content) in &files.beside {
        if name != GENERATION || plan.text().is_some() {
            draft.write(name, content)?;
        }
    }

    let mut checks = Vec::new();
    for width in Width::ALL {
        let (config, weights) = if width == request.width {
            let reread = source::open(&draft.folder().display().to_string())?;
            (reread.config, reread.weights)
        } else {
            (config.clone(), rounded(&tensors, width, &config))
        };
        let merged = plain_network(&config, &weights, &metadata, cache.place())?;
        let found = answers(&merged, &sample.set, plan, &Active::All, base.pad);
        checks.push(compare(width, &unmerged, &found));
    }
    draft.finish(serde_json::json!({
        "adapter": request.adapter,
        "card": metadata,
        "rank": request.rank,
        "dtype": request.width.torch(),
        "largest_difference": checks.iter().map(|check| (check.width.torch(), check.difference)).collect::<BTreeMap<_, _>>(),
    }))?;
    Ok(Report {
        tensors: tensors.len(),
        bytes: content.len() as u64,
        left_out,
        compared_on: sample.origin,
        compared: unmerged.len(),
        largest_logit: unmerged.iter().flatten().fold(0.0, |most, value| most.max(value.abs())),
        checks,
    })
}

/// The adapter's file.
fn adapter_file(path: &Path) -> Result<PathBuf, TrainError> {
    if peft::is_folder(path) {
        let reason = "is a PEFT folder, which names a base and no task; make it a run's adapter with `lora-lab import` first, or \
                      merge it with PEFT's own `merge_and_unload`";
        return Err(TrainError::foreign(path.to_owned(), reason.to_owned()));
    }
    let file = if path.is_dir() { path.join("adapter.safetensors") } else { path.to_owned() };
    if file.is_file() { Ok(file) } else { Err(TrainError::NoAdapter { path: path.to_owned() }) }
}

/// The components that are merged.
fn active(rank: Option<usize>, metadata: &AdapterMetadata) -> Result<Active, String> {
    let spec = &metadata.plan.variant;
    let Some(rank) = rank else { return Ok(Active::All) };
    let nested = spec.rank_policy.readouts(spec.rank);
    if nested.contains(&rank) {
        return Ok(Active::Prefix(vec![rank]));
    }
    if nested.is_empty() && rank == spec.rank {
        return Ok(Active::All);
    }
    let known: Vec<String> =
        if nested.is_empty() { vec![spec.rank.to_string()] } else { nested.iter().map(usize::to_string).collect() };
    Err(format!("rank is `{rank}`, but `{}` was trained to be used at {}", metadata.cell.variant, known.join(", ")))
}

/// The word table, where it has an adapter and is the output projection too.
fn adapted_tied_table(network: &mut Network, plan: &CellPlan) -> Option<String> {
    let table = network.backbone.word().name().to_owned();
    let factor = format!("{table}.a");
    let is_adapted = network.parameters(0).iter().any(|named| named.name == factor);
    (plan.text().is_some() && is_tied(&network.backbone.config()) && is_adapted).then_some(table)
}

/// The tensors of the new file, and those of the base that it does not have.
fn assemble(
    stored: Vec<Stored>,
    network: &mut Network,
    active: &Active,
    config: &Config,
    is_causal: bool,
) -> (Vec<Tensor>, Vec<String>) {
    let prefix = config.prefixes()[0];
    let of_backbone: BTreeSet<String> = config
        .wanted(Purpose::Classify)
        .iter()
        .filter_map(|wanted| wanted.name.split('.').next().map(str::to_owned))
        .chain(["pooler".to_owned()])
        .collect();
    let (mut tensors, mut left_out) = (Vec::new(), Vec::new());
    let mut replaced = backbone_tensors(&mut network.frozen().backbone, active, config);
    // transformers gives RoBERTa's classifier no pooler, and no decoder has one.
    let pools = config.wanted(Purpose::Classify).iter().any(|wanted| wanted.name.starts_with("pooler."));
    for Stored { name, shape, dtype, data } in stored {
        let plain = name.strip_prefix(prefix);
        let first = name.split('.').next().unwrap_or_default();
        let plain = plain.or_else(|| of_backbone.contains(first).then_some(name.as_str()));
        let is_output = is_causal && !is_tied(config) && name == "lm_head.weight";
        let Some(plain) = plain.filter(|plain| pools || !plain.starts_with("pooler.")).map(str::to_owned) else {
            if is_output {
                let content = Content::of(dtype, &shape, data);
                tensors.push(Tensor { name, shape, content });
            } else if !config.head_names().contains(&name.as_str()) || is_causal {
                left_out.push(name); // the base's own head makes room for the trained one
            }
            continue;
        };
        let content = replaced.remove(&plain).map_or_else(|| Content::of(dtype, &shape, data), Content::Numbers);
        tensors.push(Tensor { name: format!("{prefix}{plain}"), shape, content });
    }
    tensors.extend(head_tensors(network));
    (tensors, left_out)
}

/// Whether the word table is the output projection of a causal model.
pub(crate) fn is_tied(config: &Config) -> bool {
    match config {
        Config::Encoder(_) | Config::Gpt2(_) => true,
        Config::Llama(config) => config.tie_word_embeddings,
    }
}

/// Every tensor of a backbone with its first run folded in, by name without prefix, in the file's layout. Without stacks it is the
/// base's own.
pub fn backbone_tensors(backbone: &mut Backbone, active: &Active, config: &Config) -> BTreeMap<String, Vec<f32>> {
    let inputs_first = matches!(config, Config::Gpt2(_));
    if backbone.linears().iter().any(|map| map.stacks() > 0) {
        backbone.merge(0, 0, &spread(active, 1));
    }
    let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect::<Vec<f32>>();
    let mut all = BTreeMap::new();
    for slot in backbone.slots() {
        let name = slot.name().to_owned();
        let mut put = |end: &str, numbers: Vec<f32>| all.insert(format!("{name}.{end}"), numbers);
        match slot {
            Slot::Linear(map) => {
                let (weight, bias) = map.base();
                put("weight", narrow(values(&if inputs_first { weight } else { weight.transpose() })));
                if let Some(bias) = bias {
                    put("bias", narrow(values(&bias)));
                }
            }
            Slot::Norm(norm) => {
                let (gamma, beta) = norm.base();
                put("weight", narrow(values(&gamma)));
                if let Some(beta) = beta {
                    put("bias", narrow(values(&beta)));
                }
            }
            Slot::Embedding(table) => {
                put("weight", narrow(values(&table.base())));
            }
        }
    }
    all
}

/// The trained head under its names in transformers: weights `[outputs, d]`, biases `[outputs]`.
fn head_tensors(network: &mut Network) -> Vec<Tensor> {
    let of_head = |named: &NamedParam<'_>| named.slot.is_empty();
    let one = |named: NamedParam<'_>| {
        let [_, rows, cols] = named.param.tensor.dims();
        let is_bias = named.name.ends_with("bias");
        let tensor = named.param.tensor.clone();
        let numbers = values(&if is_bias { tensor } else { tensor.swap_dims(1, 2) });
        Tensor {
            name: named.name,
            shape: if is_bias { vec![cols] } else { vec![cols, rows] },
            content: Content::Numbers(numbers.into_iter().map(|value| value as f32).collect()),
        }
    };
    network.parameters(0).into_iter().filter(of_head).map(one).collect()
}

/// The first tensor with a number that the width cannot hold.
fn overflow(tensors: &[Tensor], width: Width) -> Option<&str> {
    let beyond = |tensor: &&Tensor| match &tensor.content {
        Content::Numbers(numbers) => numbers.iter().any(|v| v.is_finite() && !width.round(*v).is_finite()),
        Content::AsStored(..) => false,
    };
    tensors.iter().find(beyond).map(|tensor| tensor.name.as_str())
}

/// A safetensors file that transformers reads.
fn encode(tensors: &[Tensor], width: Width) -> Result<Vec<u8>, TrainError> {
    let raw: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|Tensor { name, shape, content }| match content {
            Content::Numbers(numbers) => (name.clone(), width.dtype(), shape.clone(), width.bytes(numbers)),
            Content::AsStored(dtype, data) => (name.clone(), *dtype, shape.clone(), data.clone()),
        })
        .collect();
    let build = || -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let views = raw
            .iter()
            .map(|(name, dtype, shape, data)| Ok((name.clone(), TensorView::new(*dtype, shape.clone(), data)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        safetensors::serialize(views, Some([("format".to_owned(), "pt".to_owned())].into()))
    };
    build().map_err(|error| models::error::ModelError::from(error).into())
}

/// What a file of this width would be read as.
fn rounded(tensors: &[Tensor], width: Width, config: &Config) -> Weights {
    let mut weights = Weights::default();
    for Tensor { name, shape, content } in tensors {
        if let Content::Numbers(numbers) = content {
            let name = name.strip_prefix(config.prefixes()[0]).unwrap_or(name);
            weights.insert(name, shape.clone(), numbers.iter().map(|v| width.round(*v)).collect());
        }
    }
    weights
}

/// A checkpoint without adapters, with its own head.
fn plain_network(
    config: &Config,
    weights: &Weights,
    metadata: &AdapterMetadata,
    place: &Placement,
) -> Result<Network, TrainError> {
    let is_text = metadata.plan.text().is_some();
    let purpose = if is_text { Purpose::Continue } else { Purpose::Classify };
    let mut network = Network::new(Backbone::new(config, weights, purpose, place)?);
    let variant = variants::presets::head_only::spec(0)
        .check(None)
        .unwrap_or_else(|_| unreachable!("the preset without adapters is valid"));
    let runs = vec![RunPlan { init_seed: 0, alpha: 1.0 }];
    let plan = StackPlan::new(variant, runs, BTreeSet::new());
    let head = if is_text {
        Head::Causal
    } else {
        let stored = weights.only(config.head_names());
        Head::Classifier(Classifier::new(&network.backbone, &plan, &[metadata.outputs], &stored))
    };
    network.attach(&plan, head)?;
    Ok(network)
}

/// Rows that are compared, and where they are from.
struct Sample {
    set: EncodedSet,
    origin: String,
}

/// Rows of a text, whose logits are as many as there are words.
const FEW: usize = 16;

fn sample(
    rows: &Rows,
    most: usize,
    plan: &CellPlan,
    base: &BaseModel,
    cache: &ModelCache,
) -> Result<Sample, TrainError> {
    let found = match rows {
        Rows::Any => of_split(None, plan, base, cache),
        Rows::Split(name) => Ok(of_split(Some(name), plan, base, cache)?),
        Rows::File(file) => Ok(of_file(file, plan, base, cache)?),
    };
    let few = if plan.text().is_some() { most.min(FEW) } else { most };
    match found {
        Ok(mut sample) => {
            sample.set.rows.truncate(few);
            Ok(sample)
        }
        Err(error) => {
            let set = drawn_rows(few, plan, base);
            Ok(Sample { set, origin: format!("tokens drawn at random, since the run's data is not at hand ({error})") })
        }
    }
}

fn of_split(name: Option<&str>, plan: &CellPlan, base: &BaseModel, cache: &ModelCache) -> Result<Sample, TrainError> {
    if plan.text().is_some() {
        let task = cache.task(plan)?;
        let wanted = |split: &&trainer::evaluate::score::Split| name.is_none_or(|name| split.name == name);
        let Some(split) = task.splits.iter().chain(&task.test).find(wanted) else {
            let known: Vec<String> = task.splits.iter().chain(&task.test).map(|s| format!("`{}`", s.name)).collect();
            return Err(TrainError::foreign(
                plan.task.clone(),
                format!("has no split `{}`; it has {}", name.unwrap_or_default(), known.join(", ")),
            ));
        };
        return Ok(Sample { set: split.set.clone(), origin: format!("{} of `{}`", split.name, plan.task) });
    }
    let (name, rows) = if let Some(name) = name {
        (name.to_owned(), predict::split(plan, name)?)
    } else {
        let loaded = tasks::load(&plan.suite, &plan.task, plan.data.as_deref(), plan.given.as_ref())?;
        loaded
            .dataset
            .evaluation
            .into_iter()
            .next()
            .ok_or_else(|| TrainError::foreign(plan.task.clone(), "has no evaluation split".to_owned()))?
    };
    let set = EncodedSet::encode_all(&base.tokenizer, &rows, plan.train.max_length)?;
    Ok(Sample { set, origin: format!("{name} of `{}`", plan.task) })
}

fn of_file(file: &Path, plan: &CellPlan, base: &BaseModel, cache: &ModelCache) -> Result<Sample, TrainError> {
    let Some(objective) = objective(plan, cache) else {
        let reason = "the classes of its task are named by the run's data, which is not at hand; leave `--data` out";
        return Err(TrainError::foreign(file.to_owned(), reason.to_owned()));
    };
    let rows = predict::rows(plan, &objective, file)?;
    let set = EncodedSet::encode_all(&base.tokenizer, &rows, plan.train.max_length)?;
    Ok(Sample { set, origin: file.display().to_string() })
}

/// Tokens of the whole vocabulary, in rows of unlike lengths.
fn drawn_rows(rows: usize, plan: &CellPlan, base: &BaseModel) -> EncodedSet {
    let config = base.backbone.config();
    let longest = config.longest().min(plan.train.max_length).min(48);
    let rng = &mut stream::generator(0, Stream::Data, "merge");
    let row = |at: usize| {
        let length = (2 + at * 7 % 47).min(longest).max(1);
        let ids: Vec<u32> = (0..length).map(|_| (stream::unit(rng) * config.vocab_size() as f64) as u32).collect();
        let targets = vec![true; if plan.text().is_some() { length } else { 0 }];
        Encoded { types: vec![0; length], ids, targets, label: 0.0 }
    };
    EncodedSet { rows: (0..rows).map(row).collect() }
}

/// What the task predicts; none where only its data says so and that is not at hand.
fn objective(plan: &CellPlan, cache: &ModelCache) -> Option<Objective> {
    if plan.text().is_some() {
        return Some(Objective::Text);
    }
    let listed = tasks::tasks(&plan.suite).into_iter().find(|info| info.name == plan.task);
    listed.map(|info| info.objective).or_else(|| Some(cache.task(plan).ok()?.info.objective.clone()))
}

/// Logits of every row, or of every position of a text.
fn answers(network: &Network, set: &EncodedSet, plan: &CellPlan, active: &Active, pad: u32) -> Vec<Vec<f64>> {
    if plan.text().is_none() {
        return logits(network, &[set], &spread(active, 1), pad).swap_remove(0);
    }
    let vocabulary = network.backbone.config().vocab_size();
    language_model::learnt_logits(network, set, active, pad).chunks(vocabulary).map(<[f64]>::to_vec).collect()
}

fn compare(width: Width, unmerged: &[Vec<f64>], merged: &[Vec<f64>]) -> Check {
    let top = |row: &[f64]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
    let pairs = || unmerged.iter().zip(merged);
    // `f64::max` passes over what is not a number, and that is the last thing to pass over here.
    let larger = |most: f64, value: f64| if value.is_nan() || value > most { value } else { most };
    Check {
        width,
        difference: pairs().flat_map(|(a, b)| a.iter().zip(b)).map(|(a, b)| (a - b).abs()).fold(0.0, larger),
        changed: pairs().filter(|(a, b)| top(a) != top(b)).count(),
    }
}
