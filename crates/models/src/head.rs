//! What stands on a backbone: per-run heads, stacked like everything that trains.

use burn::tensor::{Int, Tensor, TensorData, activation, module::layer_norm};
use variants::{
    host::Place,
    role::{Owned, Role},
    slot::StackPlan,
    stream::{self, Stream},
};

use crate::{roberta::Config, weights::Weights};

/// The head of one stack.
#[derive(Clone, Debug)]
pub enum Head {
    /// Sequence classification or regression.
    Classifier(Classifier),
    /// Masked language modelling, tied to the word embeddings.
    MaskedLm(MaskedLm),
}

/// RoBERTa's classification head: `out_proj(tanh(dense(x_<s>)))`.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// `[runs, d, d]`
    dense: Tensor<3>,
    /// `[runs, 1, d]`
    dense_bias: Tensor<3>,
    /// `[runs, d, outputs]`
    out: Tensor<3>,
    /// `[runs, 1, outputs]`
    out_bias: Tensor<3>,
}

/// RoBERTa's masked-language-modelling head: `E·LN(gelu(dense(x))) + bias`.
#[derive(Clone, Debug)]
pub struct MaskedLm {
    dense: Tensor<3>,
    dense_bias: Tensor<3>,
    gamma: Tensor<3>,
    beta: Tensor<3>,
    /// `[runs, 1, vocabulary]`
    bias: Tensor<3>,
    epsilon: f64,
}

impl Classifier {
    /// `outputs` holds each run's own count; a narrower run's spare columns stay zero.
    pub fn new(config: &Config, plan: &StackPlan, outputs: &[usize], place: &Place) -> Self {
        let (d, runs) = (config.hidden_size, plan.runs.len());
        let widest = outputs.iter().copied().max().unwrap_or(1);
        let (mut dense, mut out) = (Vec::new(), Vec::new());
        for (seed, &width) in plan.seeds().into_iter().zip(outputs) {
            let draw = |name: &str, n| {
                let rng = &mut stream::generator(seed, Stream::Init, name);
                stream::normal(rng, n, config.initializer_range)
            };
            dense.extend(draw("classifier.dense.weight", d * d));
            // Drawn output by output, as `[width, d]`, so a class' first values do not depend on the others.
            let rows = draw("classifier.out_proj.weight", width * d);
            out.extend(
                (0..d)
                    .flat_map(|i| (0..widest).map(move |c| (i, c)))
                    .map(|(i, c)| if c < width { rows[c * d + i] } else { 0.0 }),
            );
        }
        Self {
            dense: place.tensor(dense, [runs, d, d]),
            dense_bias: place.zeros([runs, 1, d]),
            out: place.tensor(out, [runs, d, widest]),
            out_bias: place.zeros([runs, 1, widest]),
        }
    }

    /// `[runs, rows, d]` states of the first token to `[runs, rows, outputs]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = (x.matmul(self.dense.clone()) + self.dense_bias.clone()).tanh();
        hidden.matmul(self.out.clone()) + self.out_bias.clone()
    }

    fn owned(&mut self) -> Vec<Owned<'_>> {
        vec![
            Owned::new("classifier.dense.weight", Role::Head, &mut self.dense),
            Owned::undecayed("classifier.dense.bias", Role::Head, &mut self.dense_bias),
            Owned::new("classifier.out_proj.weight", Role::Head, &mut self.out),
            Owned::undecayed("classifier.out_proj.bias", Role::Head, &mut self.out_bias),
        ]
    }
}

impl MaskedLm {
    /// From a checkpoint's tensors, the same for every run.
    pub fn new(config: &Config, weights: &Weights, runs: usize, place: &Place) -> Self {
        let d = config.hidden_size;
        let values = |name: &str| -> Vec<f64> { weights.get(name).iter().map(|v| f64::from(*v)).collect() };
        let spread = |one: Vec<f64>, rows: usize, cols: usize| -> Tensor<3> {
            place.tensor(one, [1, rows, cols]).repeat_dim(0, runs)
        };
        Self {
            dense: spread(crate::weights::transposed(weights.get("lm_head.dense.weight"), d, d), d, d),
            dense_bias: spread(values("lm_head.dense.bias"), 1, d),
            gamma: spread(values("lm_head.layer_norm.weight"), 1, d),
            beta: spread(values("lm_head.layer_norm.bias"), 1, d),
            bias: spread(values("lm_head.bias"), 1, config.vocab_size),
            epsilon: config.layer_norm_eps,
        }
    }

    /// `[runs, n, d]` states of the masked tokens and the stack's word embeddings `[runs or 1, vocabulary, d]`
    /// to `[runs, n, vocabulary]`.
    pub fn forward(&self, x: Tensor<3>, table: Tensor<3>) -> Tensor<3> {
        let [_, _, d] = x.dims();
        let hidden = activation::gelu(x.matmul(self.dense.clone()) + self.dense_bias.clone());
        let unit = Tensor::ones([d], (&hidden.device(), hidden.dtype())).without_autodiff();
        let hidden = layer_norm(hidden, unit, None, self.epsilon) * self.gamma.clone() + self.beta.clone();
        hidden.matmul(table.transpose()) + self.bias.clone()
    }

    fn owned(&mut self) -> Vec<Owned<'_>> {
        vec![
            Owned::new("lm_head.dense.weight", Role::Head, &mut self.dense),
            Owned::new("lm_head.dense.bias", Role::Bias, &mut self.dense_bias),
            Owned::new("lm_head.layer_norm.weight", Role::Norm, &mut self.gamma),
            Owned::new("lm_head.layer_norm.bias", Role::Bias, &mut self.beta),
            Owned::new("lm_head.bias", Role::Bias, &mut self.bias),
        ]
    }
}

impl Head {
    /// Its tensors.
    pub fn owned(&mut self) -> Vec<Owned<'_>> {
        match self {
            Self::Classifier(head) => head.owned(),
            Self::MaskedLm(head) => head.owned(),
        }
    }
}

/// Flat positions as a device index, `[n]`.
pub fn index(positions: &[u32], place: &Place) -> Tensor<1, Int> {
    let values: Vec<i64> = positions.iter().map(|p| i64::from(*p)).collect();
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), &place.device)
}
