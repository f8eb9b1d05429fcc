//! One frozen backbone of any architecture.

use burn::tensor::Tensor;
use kernels::ops;
use variants::{
    adapted::AdaptedLinear,
    embedding::AdaptedEmbedding,
    host::Placement,
    pass::{Active, Pass},
    slot::Slot,
};

use crate::{
    config::{Config, Purpose},
    encoder::Encoder,
    error::ModelError,
    gpt2::Gpt2,
    llama::Llama,
    tokens::{Layout, Row, Scheme, Tokens},
    weights::{Wanted, Weights},
};

/// A backbone.
#[derive(Clone, Debug)]
pub enum Backbone {
    /// BERT and RoBERTa.
    Encoder(Encoder),
    /// GPT-2.
    Gpt2(Gpt2),
    /// Llama.
    Llama(Llama),
}

/// The same expression for every architecture.
macro_rules! each {
    ($backbone:expr, $model:ident => $value:expr) => {
        match $backbone {
            Backbone::Encoder($model) => $value,
            Backbone::Gpt2($model) => $value,
            Backbone::Llama($model) => $value,
        }
    };
}

/// Draws the pooler of a BERT that was saved without one, as one for masked language modelling is, and says so. The values are the same
/// for every run: a base is shared.
pub fn draw_pooler(config: &Config, weights: &mut Weights) -> Option<String> {
    let wanted = weights.absent(&config.wanted(Purpose::Classify));
    let lacks = |tensor: &Wanted| tensor.name.starts_with("pooler.");
    let of_pooler: Vec<Wanted> = wanted.into_iter().filter(lacks).collect();
    if of_pooler.len() < 2 {
        return None;
    }
    weights.extend(Weights::random(&of_pooler, 0));
    Some(
        "the checkpoint has no pooler, through which BERT classifies, so one is drawn; it stays as it is unless `modules_to_save: [pooler]` \
         (or a variant that trains the base) trains it, and transformers would draw another"
            .to_owned(),
    )
}

impl Backbone {
    /// The backbone of `config`; all tensors that are missing or have another shape are named at once.
    pub fn new(config: &Config, weights: &Weights, purpose: Purpose, place: &Placement) -> Result<Self, ModelError> {
        weights.check(&config.wanted(if purpose == Purpose::FillMasks { Purpose::Classify } else { purpose }))?;
        Ok(match config {
            Config::Encoder(config) => Self::Encoder(Encoder::new(config, weights, purpose, place)),
            Config::Gpt2(config) => Self::Gpt2(Gpt2::new(config, weights, place)),
            Config::Llama(config) => Self::Llama(Llama::new(config, weights, purpose, place)?),
        })
    }

    /// The configuration.
    pub fn config(&self) -> Config {
        match self {
            Self::Encoder(model) => Config::Encoder(model.config().clone()),
            Self::Gpt2(model) => Config::Gpt2(model.config().clone()),
            Self::Llama(model) => Config::Llama(model.config().clone()),
        }
    }

    /// Replaces every probability of dropout that config.json names.
    pub fn set_dropout(&mut self, p: f64) {
        each!(self, model => model.set_dropout(p));
    }

    /// Dropout before each linear map of a classification head.
    pub fn head_dropout(&self) -> f64 {
        match self {
            Self::Encoder(model) => model.config().classifier_dropout.unwrap_or(model.config().hidden_dropout_prob),
            Self::Gpt2(_) | Self::Llama(_) => 0.0,
        }
    }

    /// Whether training batches may be packed, with rows of up to `longest` tokens: in an encoder that needs no
    /// padding, on a device with an attention kernel for sequences of any length.
    pub(crate) fn supports_packing(&self, longest: usize) -> bool {
        let Self::Encoder(model) = self else { return false };
        let (config, place) = (model.config(), model.place());
        let d_head = config.hidden_size / config.num_attention_heads;
        !model.needs_padding() && ops::supports_varlen(&place.device, place.base, d_head, longest)
    }

    /// Where its tensors live.
    pub fn place(&self) -> &Placement {
        each!(self, model => model.place())
    }

    /// How its batches are laid out.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Encoder(model) => model.scheme(),
            Self::Gpt2(_) | Self::Llama(_) => Scheme::DECODER,
        }
    }

    /// Rows padded to `seq` tokens, on the device, see [`Layout::padded`].
    pub fn padded(&self, rows: &[Row<'_>], seq: usize, pad: u32) -> Tokens {
        Tokens::new(Layout::padded(rows, seq, pad, self.scheme()), self.place())
    }

    /// A padded batch on the device, see [`Layout::new`].
    pub fn tokens(&self, ids: &[u32], types: &[u32], lengths: &[usize]) -> Tokens {
        Tokens::new(Layout::new(ids, types, lengths, self.scheme()), self.place())
    }

    /// Every slot, in the order of the forward pass.
    pub fn slots(&mut self) -> Vec<Slot<'_>> {
        each!(self, model => model.slots())
    }

    /// Every linear map, in the order of the forward pass.
    pub fn linears(&self) -> Vec<&AdaptedLinear> {
        each!(self, model => model.linears())
    }

    /// The word embeddings, for tied output projections.
    pub fn word(&self) -> &AdaptedEmbedding {
        each!(self, model => model.word())
    }

    /// The output projection of a stack, `[runs or 1, vocabulary, d]`.
    pub fn output(&self, stack: usize) -> Tensor<3> {
        self.untied().map_or_else(|| self.word().table(stack), |table| table.clone().unsqueeze::<3>())
    }

    /// The output projection of the base, `[vocabulary, d]`.
    pub fn base_output(&self) -> Tensor<2> {
        self.untied().cloned().unwrap_or_else(|| self.word().base())
    }

    /// An output projection that is not the table of words.
    fn untied(&self) -> Option<&Tensor<2>> {
        match self {
            Self::Llama(model) => model.output(),
            Self::Encoder(_) | Self::Gpt2(_) => None,
        }
    }

    /// Folds one run's update into every slot and takes all stacks off.
    pub fn merge(&mut self, stack: usize, run: usize, active: &Active) {
        match self {
            Self::Gpt2(model) => model.merge(stack, run, active),
            other => other.slots().iter_mut().for_each(|slot| slot.merge(stack, run, active)),
        }
    }

    /// `[rows, seq]` tokens to `[rows, seq, d_model]` hidden states.
    ///
    /// Where the pass already holds the last layer's output, only what follows it is computed.
    pub fn forward(&self, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        let through = || (0..self.depth()).fold(self.embed(tokens, pass), |x, at| self.layer(at, x, tokens, pass));
        let x = pass.last_hidden.clone().unwrap_or_else(through);
        match self {
            Self::Encoder(_) => x,
            Self::Gpt2(model) => model.finish(x, pass),
            Self::Llama(model) => model.finish(x, pass),
        }
    }

    /// How many layers.
    pub fn depth(&self) -> usize {
        each!(self, model => model.depth())
    }

    /// What the first layer is given, `[rows, seq, d_model]`.
    pub fn embed(&self, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        each!(self, model => model.embed(tokens, pass))
    }

    /// Layer `index`, `[rows, seq, d_model]` to the same.
    pub fn layer(&self, index: usize, x: Tensor<3>, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        each!(self, model => model.layer(index, x, tokens, pass))
    }

    /// The vector that a row is classified by, `[rows, 1, d_model]`: an encoder's first token, a decoder's last.
    pub fn pooled(&self, tokens: &Tokens, pass: &Pass) -> Tensor<3> {
        let hidden = self.forward(tokens, pass);
        match self {
            Self::Encoder(model) => model.pooled(&hidden, tokens, pass),
            Self::Gpt2(_) | Self::Llama(_) => {
                let [rows, seq, d] = hidden.dims();
                hidden.reshape([rows * seq, d]).select(0, tokens.last.clone()).reshape([rows, 1, d])
            }
        }
    }
}
