//! Heads: what turns hidden states into a task's outputs, one per run, stacked like everything that trains.

use burn::tensor::{Int, Tensor, TensorData, module::layer_norm};
use kernels::ops;
use variants::{
    dropout,
    host::{Placement, cast},
    pass::StackPass,
    role::{Param, Role},
    slot::{FirstValues, StackPlan},
    stream::{self, Stream},
};

use crate::{
    backbone::Backbone,
    config::Config,
    encoder,
    weights::{Weights, transposed},
};

mod pretrained;
mod stored;

pub use stored::StoredHead;

/// The head of one stack.
#[derive(Clone, Debug)]
pub enum Head {
    /// Sequence classification or regression.
    Classifier(Classifier),
    /// Masked language modelling, tied to the word embeddings.
    MaskedLm(MaskedLm),
    /// The next token, by the backbone's own output projection; nothing of it trains.
    Causal,
}

/// Linear outputs of one vector per row, behind a hidden layer where the architecture has one.
///
/// | backbone | head | names |
/// |---|---|---|
/// | RoBERTa | `out_proj(tanh(dense(x)))` | `classifier.dense`, `classifier.out_proj` |
/// | BERT | `classifier(x)`, `x` from the pooler | `classifier` |
/// | decoders | `score(x)` without bias | `score` |
///
/// In training, dropout acts before each map of an encoder's head.
#[derive(Clone, Debug)]
pub struct Classifier {
    shape: Shape,
    /// `[runs, d, d]` and `[runs, 1, d]`
    hidden: Option<(Tensor<3>, Tensor<3>)>,
    /// `[runs, d, outputs]`
    out: Tensor<3>,
    /// `[runs, 1, outputs]`
    out_bias: Option<Tensor<3>>,
    dropout: f64,
}

/// Outputs of one run.
#[derive(Clone, Copy, Debug)]
pub struct Outputs<'a> {
    /// How many.
    pub count: usize,
    /// What they start from where it fits, in the order of the task's labels.
    pub stored: &'a Weights,
}

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Deep,
    Flat,
    Score,
}

impl Shape {
    fn of(config: &Config) -> Self {
        match config {
            Config::Encoder(config) if config.kind == encoder::Kind::Roberta => Self::Deep,
            Config::Encoder(_) => Self::Flat,
            Config::Gpt2(_) | Config::Llama(_) => Self::Score,
        }
    }

    /// Name of the last map.
    fn out(self) -> &'static str {
        match self {
            Self::Deep => "classifier.out_proj.weight",
            Self::Flat => "classifier.weight",
            Self::Score => "score.weight",
        }
    }
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
    /// Drawn at random, or from `stored` where a checkpoint has a head of this shape with a run's number of outputs; zeros where the plan's
    /// values are given.
    ///
    /// `outputs` holds each run's own count; a narrower run's spare columns stay zero.
    pub fn new(backbone: &Backbone, plan: &StackPlan, outputs: &[usize], stored: &Weights) -> Self {
        let outputs: Vec<_> = outputs.iter().map(|&count| Outputs { count, stored }).collect();
        Self::of_runs(backbone, plan, &outputs)
    }

    /// As [`new`](Self::new), with a stored head for every run.
    pub fn of_runs(backbone: &Backbone, plan: &StackPlan, outputs: &[Outputs<'_>]) -> Self {
        let (config, place) = (backbone.config(), backbone.place());
        let (shape, d, runs) = (Shape::of(&config), config.hidden_size(), plan.runs.len());
        let widest = outputs.iter().map(|run| run.count).max().unwrap_or(1);
        if plan.first_values == FirstValues::Given {
            let zeros = |rows, cols| place.zeros([runs, rows, cols]);
            return Self {
                shape,
                hidden: (shape == Shape::Deep).then(|| (zeros(d, d), zeros(1, d))),
                out: zeros(d, widest),
                out_bias: (shape != Shape::Score).then(|| zeros(1, widest)),
                dropout: backbone.head_dropout(),
            };
        }
        let (mut hidden, mut hidden_bias, mut out, mut out_bias) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (seed, &Outputs { count: width, stored }) in plan.seeds().into_iter().zip(outputs) {
            let draw = |name: &str, n| {
                let rng = &mut stream::generator(seed, Stream::Init, name);
                stream::normal(rng, n, config.initializer_range())
            };
            let of_file = |name: &str, length: usize| {
                let fits = stored.find(shape.out()).is_some_and(|(shape, _)| shape == [width, d]);
                let found = stored.find(name).filter(|(_, values)| fits && values.len() == length);
                found.map(|(_, values)| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>())
            };
            if shape == Shape::Deep {
                match of_file("classifier.dense.weight", d * d) {
                    // `[d_out, d_in]` in the file.
                    Some(rows) => {
                        hidden.extend((0..d).flat_map(|i| (0..d).map(move |o| (i, o))).map(|(i, o)| rows[o * d + i]));
                    }
                    None => hidden.extend(draw("classifier.dense.weight", d * d)),
                }
                hidden_bias.extend(of_file("classifier.dense.bias", d).unwrap_or_else(|| vec![0.0; d]));
            }
            // Drawn output by output, as `[width, d]`, so a class' first values do not depend on the others.
            let rows = of_file(shape.out(), width * d).unwrap_or_else(|| draw(shape.out(), width * d));
            out.extend(
                (0..d)
                    .flat_map(|i| (0..widest).map(move |c| (i, c)))
                    .map(|(i, c)| if c < width { rows[c * d + i] } else { 0.0 }),
            );
            let mut bias = of_file(&shape.out().replace("weight", "bias"), width).unwrap_or_else(|| vec![0.0; width]);
            bias.resize(widest, 0.0);
            out_bias.extend(bias);
        }
        Self {
            shape,
            hidden: (shape == Shape::Deep)
                .then(|| (place.tensor(hidden, [runs, d, d]), place.tensor(hidden_bias, [runs, 1, d]))),
            out: place.tensor(out, [runs, d, widest]),
            out_bias: (shape != Shape::Score).then(|| place.tensor(out_bias, [runs, 1, widest])),
            dropout: backbone.head_dropout(),
        }
    }

    /// Leaves the first `outputs` columns: those of a run whose head is narrower than its stack's widest.
    fn keep_outputs(&mut self, outputs: usize) {
        for tensor in std::iter::once(&mut self.out).chain(&mut self.out_bias) {
            let [runs, rows, _] = tensor.dims();
            *tensor = tensor.clone().slice([0..runs, 0..rows, 0..outputs]);
        }
    }

    /// `[runs, rows, d]` vectors to `[runs, rows, outputs]`.
    pub fn forward(&self, x: &Tensor<3>, pass: &StackPass) -> Tensor<3> {
        let drop = |x: Tensor<3>, site: &str| dropout::drop(x, pass, dropout::site(site), self.dropout, 1).0;
        let mut x = drop(cast(x, self.out.dtype()), "classifier.dropout");
        if let Some((weight, bias)) = &self.hidden {
            x = drop((x.matmul(weight.clone()) + bias.clone()).tanh(), "classifier.out_dropout");
        }
        let y = x.matmul(self.out.clone());
        match &self.out_bias {
            Some(bias) => y + bias.clone(),
            None => y,
        }
    }

    fn parameters(&mut self) -> Vec<Param<'_>> {
        let (out, out_bias) = match self.shape {
            Shape::Deep => ("classifier.out_proj.weight", "classifier.out_proj.bias"),
            Shape::Flat => ("classifier.weight", "classifier.bias"),
            Shape::Score => ("score.weight", "score.bias"),
        };
        let mut params = Vec::new();
        if let Some((weight, bias)) = &mut self.hidden {
            params.push(Param::new("classifier.dense.weight", Role::Head, weight));
            params.push(Param::undecayed("classifier.dense.bias", Role::Head, bias));
        }
        params.push(Param::new(out, Role::Head, &mut self.out));
        params.extend(self.out_bias.as_mut().map(|bias| Param::undecayed(out_bias, Role::Head, bias)));
        params
    }
}

impl MaskedLm {
    /// From a checkpoint's tensors, the same for every run.
    pub fn new(config: &encoder::Config, weights: &Weights, runs: usize, place: &Placement) -> Self {
        let d = config.hidden_size;
        let values = |name: &str| -> Vec<f64> { weights.get(name).iter().map(|v| f64::from(*v)).collect() };
        let spread = |one: Vec<f64>, rows: usize, cols: usize| -> Tensor<3> {
            place.tensor(one, [1, rows, cols]).repeat_dim(0, runs)
        };
        Self {
            dense: spread(transposed(&values("lm_head.dense.weight"), d, d), d, d),
            dense_bias: spread(values("lm_head.dense.bias"), 1, d),
            gamma: spread(values("lm_head.layer_norm.weight"), 1, d),
            beta: spread(values("lm_head.layer_norm.bias"), 1, d),
            bias: spread(values("lm_head.bias"), 1, config.vocab_size),
            epsilon: config.layer_norm_eps,
        }
    }

    /// `[runs, n, d]` states of the masked tokens and the stack's word embeddings `[runs or 1, vocabulary, d]`
    /// to `[runs, n, vocabulary]`.
    pub fn forward(&self, x: &Tensor<3>, table: &Tensor<3>) -> Tensor<3> {
        let [_, _, d] = x.dims();
        let (x, table) = (cast(x, self.dense.dtype()), cast(table, self.dense.dtype()));
        let hidden = ops::gelu(x.matmul(self.dense.clone()) + self.dense_bias.clone());
        let unit = Tensor::ones([d], (&hidden.device(), hidden.dtype())).without_autodiff();
        let hidden = layer_norm(hidden, unit, None, self.epsilon) * self.gamma.clone() + self.beta.clone();
        hidden.matmul(table.transpose()) + self.bias.clone()
    }

    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![
            Param::new("lm_head.dense.weight", Role::Head, &mut self.dense),
            Param::new("lm_head.dense.bias", Role::Bias, &mut self.dense_bias),
            Param::new("lm_head.layer_norm.weight", Role::Norm, &mut self.gamma),
            Param::new("lm_head.layer_norm.bias", Role::Bias, &mut self.beta),
            Param::new("lm_head.bias", Role::Bias, &mut self.bias),
        ]
    }
}

impl Head {
    /// Leaves the first `outputs` columns of a classifier.
    pub(crate) fn keep_outputs(&mut self, outputs: usize) {
        if let Self::Classifier(head) = self {
            head.keep_outputs(outputs);
        }
    }

    /// Its tensors.
    pub fn parameters(&mut self) -> Vec<Param<'_>> {
        match self {
            Self::Classifier(head) => head.parameters(),
            Self::MaskedLm(head) => head.parameters(),
            Self::Causal => Vec::new(),
        }
    }
}

/// Flat positions as a device index, `[n]`.
pub fn index(positions: &[u32], place: &Placement) -> Tensor<1, Int> {
    let values: Vec<i64> = positions.iter().map(|p| i64::from(*p)).collect();
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), &place.device)
}
