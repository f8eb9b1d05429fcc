//! Forgetting: how much the loss of the base's own objective rises on held-out text when a run adapts it.
//!
//! `L(θ) = −1/n · Σ log p_θ(token | context)` over `n` tokens, in nats: masked tokens of an encoder, by the head that it was pretrained
//! with, and every token after the first of a decoder's documents. `L(θ_run) − L(θ_base)` is what a run has forgotten; both sides read
//! the same tokens. Biderman et al., *LoRA Learns Less and Forgets Less*, TMLR 2024, compare methods by forgetting; Kalajdzievski,
//! *Scaling Laws for Forgetting When Fine-Tuning Large Language Models*, 2024, by the loss on text from before.

use std::sync::Mutex;

use burn::tensor::Tensor;
use data::tokenize::Tokenizer;
use experiment::cell::{HeldOutText, Recipe};
use models::{
    config::Config,
    head::{Head, MaskedLm, index},
    network::Network,
};
use record::{Forgetting, PartsHash};
use variants::{
    host::values,
    pass::{Active, Pass, StackPass},
    slot::{RunPlan, StackPlan},
};

mod text;

use text::Document;

use crate::{error::TrainError, model_cache::BaseModel, objective::causal::token_nll, stop::Stop};
use assets::source;

/// Rows of all runs in one pass.
const ROWS: usize = 128;
/// Tokens of all runs whose logits are computed at once: a vocabulary is wide.
const TOKENS: usize = 2048;

/// What is measured of one base: its held-out text, the head that it was pretrained with, and its own loss.
#[derive(Debug)]
pub struct Measurement {
    held_out: HeldOutText,
    hash: String,
    /// By length, so that little is padded.
    documents: Vec<Document>,
    /// None of a decoder, whose output projection is its own.
    head: Option<MaskedLm>,
    pad: u32,
    /// The base's loss, computed when it is first asked for.
    before: Mutex<Option<f64>>,
}

/// Looks at everything that keeps forgetting from being measured with a model of this machine, without a device.
pub fn check(recipe: &Recipe) -> Result<(), TrainError> {
    let Some(held_out) = &recipe.forgetting else { return Ok(()) };
    let files = source::open(&recipe.model)?;
    let mut tokenizer = Tokenizer::from_bytes(&files.tokenizer)?;
    if let Some(config) = &files.tokenizer_config {
        tokenizer = tokenizer.with_config(config)?;
    }
    text::documents(held_out, (&recipe.model, &files.config), &tokenizer, Stop::NEVER)?;
    let place = variants::host::Placement::new(&burn::tensor::Device::flex(), burn::tensor::DType::F32);
    head(&recipe.model, &files, &place).map(drop)
}

/// The masked-language-modelling head of a checkpoint; none of a decoder.
fn head(
    model: &str,
    files: &source::Checkpoint,
    place: &variants::host::Placement,
) -> Result<Option<MaskedLm>, TrainError> {
    let Config::Encoder(config) = &files.config else { return Ok(None) };
    let found = MaskedLm::of_checkpoint(config, &files.weights, place);
    found.map(Some).map_err(|error| {
        TrainError::foreign(
            model,
            format!(
                "forgetting is the loss of the base's own objective, but the checkpoint has no masked-language-modelling head ({error}); use \
                 one that was saved with it (of the class ForMaskedLM), or leave `measure.forgetting` out"
            ),
        )
    })
}

impl Measurement {
    /// What a recipe asks for, of its base.
    pub fn new(held_out: &HeldOutText, model: &str, base: &BaseModel, stop: Stop<'_>) -> Result<Self, TrainError> {
        base.must_continue(model)?;
        let mut documents = text::documents(held_out, (model, &base.backbone.config()), &base.tokenizer, stop)?;
        let mut hash = PartsHash::default();
        for document in &documents {
            let numbers: Vec<u8> = document.numbers().flat_map(u32::to_le_bytes).collect();
            hash.add(&numbers);
        }
        documents.sort_by_key(Document::len);
        let head = match base.backbone.config() {
            Config::Encoder(_) => head(model, &source::open(model)?, base.backbone.place())?,
            Config::Gpt2(_) | Config::Llama(_) => None,
        };
        let before = Mutex::default();
        Ok(Self { held_out: held_out.clone(), hash: hash.finish(), documents, head, pad: base.pad, before })
    }

    /// Hash of its tokens.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Number of predicted tokens.
    pub fn n_tokens(&self) -> usize {
        self.documents.iter().map(|document| document.targets.len()).sum()
    }

    /// The base's own loss, in nats a token.
    pub fn before(&self, base: &BaseModel, stop: Stop<'_>) -> Result<f64, TrainError> {
        let mut known = self.before.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        if let Some(loss) = *known {
            return Ok(loss);
        }
        let bare = variants::presets::head_only::spec(0)
            .check(None)
            .unwrap_or_else(|_| unreachable!("the preset without adapters is valid"));
        let plan = StackPlan::new(bare, vec![RunPlan { init_seed: 0, alpha: 1.0 }], std::collections::BTreeSet::new());
        let mut network = Network::new(base.backbone.clone());
        network.attach(&plan, Head::Causal)?;
        let loss = self.losses(&network, 1, stop)?[0];
        *known = Some(loss);
        Ok(loss)
    }

    /// What the runs of a network's only stack have forgotten, in their order.
    pub fn of_runs(
        &self,
        network: &Network,
        runs: usize,
        base: &BaseModel,
        stop: Stop<'_>,
    ) -> Result<Vec<Forgetting>, TrainError> {
        let before = self.before(base, stop)?;
        let of_run = |after: f64| Forgetting {
            text: self.held_out.text.as_ref().map_or("pretraining", |text| text.written()).to_owned(),
            text_hash: self.hash.clone(),
            documents: self.documents.len() as u64,
            tokens: self.n_tokens() as u64,
            before,
            after,
        };
        Ok(self.losses(network, runs, stop)?.into_iter().map(of_run).collect())
    }

    /// Mean loss of every run, in nats a token, `[runs]`. All runs read the same rows in one pass.
    pub fn losses(&self, network: &Network, runs: usize, stop: Stop<'_>) -> Result<Vec<f64>, TrainError> {
        let pass = Pass::of(vec![StackPass::with(runs, Active::All)]);
        let mut sums = vec![0.0; runs];
        for part in self.documents.chunks((ROWS / runs).max(1)) {
            stop.check()?;
            let seq = part.iter().map(Document::len).max().unwrap_or(0);
            let rows: Vec<_> = (0..runs).flat_map(|_| part.iter().map(Document::row)).collect();
            let hidden = network.backbone.forward(&network.backbone.padded(&rows, seq, self.pad), &pass);
            let target = |(row, document): (usize, &Document)| {
                document.targets.iter().map(|(at, id)| (row * seq + at, *id)).collect::<Vec<_>>()
            };
            let targets: Vec<(usize, u32)> = part.iter().enumerate().flat_map(target).collect();
            for targets in targets.chunks((TOKENS / runs).max(1)) {
                let of_run = |run: usize| targets.iter().map(move |(at, _)| (run * part.len() * seq + at) as u32);
                let positions: Vec<u32> = (0..runs).flat_map(of_run).collect();
                let ids: Vec<u32> = (0..runs).flat_map(|_| targets.iter().map(|(_, id)| *id)).collect();
                let nll = values(&self.nll(network, &hidden, [&positions, &ids], &pass)); // [runs, n]
                for (sum, nll) in sums.iter_mut().zip(nll.chunks(targets.len())) {
                    *sum += nll.iter().sum::<f64>();
                }
            }
        }
        let n = self.n_tokens() as f64;
        Ok(sums.into_iter().map(|sum| sum / n).collect())
    }

    /// Negative log-likelihood of tokens at flat places of the hidden states, `[runs, n]`.
    fn nll(&self, network: &Network, hidden: &Tensor<3>, [positions, ids]: [&[u32]; 2], pass: &Pass) -> Tensor<2> {
        let place = network.backbone.place();
        let positions = index(positions, place);
        let logits = match &self.head {
            Some(head) => network.fill_at(head, hidden, positions, pass.stacks[0].runs),
            None => network.continue_at(hidden, &[positions], pass).swap_remove(0),
        };
        token_nll(logits, index(ids, place))
    }
}
