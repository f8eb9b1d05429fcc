//! Named tensors of a checkpoint: read from safetensors bytes, drawn at random, or written.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use variants::{
    adapted::AdaptedLinear,
    embedding::AdaptedEmbedding,
    host::Placement,
    norm::AdaptedNorm,
    stream::{self, Stream},
};

use crate::{
    error::ModelError,
    safetensors::{self, Dtype, Stored, TORCH, as_f32},
};

/// How a tensor starts when a model is made from nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// `N(0, std²)`
    Normal(f64),
    /// All zero.
    Zeros,
    /// All one.
    Ones,
}

/// One tensor that a configuration asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Name in the file, without the architecture's prefix.
    pub name: String,
    /// Shape in the file (linear weights `[d_out, d_in]`).
    pub shape: Vec<usize>,
    /// First values.
    pub start: Start,
}

/// Tensors by name, in the file's layout.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// Tensors that are no floats, such as a stray `position_ids`: their type and shape.
    foreign: BTreeMap<String, (Dtype, Vec<usize>)>,
}

/// What wrappers put before every name: `torch.compile`, and `DataParallel` of torch.
const WRAPPERS: [&str; 2] = ["_orig_mod.", "module."];

/// The name of a tensor as transformers has it now: without a wrapper, and with the weights and biases of norms called so, which old
/// files call gamma and beta.
pub fn canonical(name: &str) -> String {
    let mut plain = name;
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| plain.strip_prefix(wrapper)) {
        plain = rest;
    }
    // torch.compile of a part of a model puts its name in the middle.
    let plain = plain.replace("._orig_mod.", ".");
    let ends = [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")];
    let renamed = ends.iter().find_map(|(old, new)| Some(format!("{}{new}", plain.strip_suffix(old)?)));
    renamed.unwrap_or(plain)
}

impl Weights {
    /// Reads a safetensors file of f64, f32, f16 or bf16 tensors; names are made [`canonical`], and one of `prefixes` (e.g. `roberta.`) is
    /// taken off.
    pub fn read(bytes: &[u8], prefixes: &[&str]) -> Result<Self, ModelError> {
        let mut all = Self::default();
        all.add(bytes, prefixes)?;
        Ok(all)
    }

    /// Reads one file more, a shard of the same checkpoint.
    pub fn add(&mut self, bytes: &[u8], prefixes: &[&str]) -> Result<(), ModelError> {
        for (stored, view) in safetensors::read(bytes)?.tensors {
            let whole = canonical(&stored);
            let name = prefixes.iter().find_map(|prefix| whole.strip_prefix(prefix)).unwrap_or(&whole).to_owned();
            let shape = view.shape().to_vec();
            let is_new = !self.tensors.contains_key(&name) && !self.foreign.contains_key(&name);
            match as_f32(&view) {
                Some(values) => drop(self.tensors.insert(name.clone(), (shape, values))),
                None => drop(self.foreign.insert(name.clone(), (view.dtype(), shape))),
            }
            if !is_new {
                return Err(ModelError::Tensors(vec![format!(
                    "`{name}` is there twice, in two files or under two names (`{stored}` is one); leave one of them out"
                )]));
            }
        }
        Ok(())
    }

    /// First values of every wanted tensor, a function of `seed` and the tensor's name.
    pub fn random(wanted: &[Wanted], seed: u64) -> Self {
        let draw = |tensor: &Wanted| {
            let n = tensor.shape.iter().product();
            let values = match tensor.start {
                Start::Zeros => vec![0.0; n],
                Start::Ones => vec![1.0; n],
                Start::Normal(std) => {
                    let rng = &mut stream::generator(seed, Stream::Init, &format!("base.{}", tensor.name));
                    stream::normal(rng, n, std).into_iter().map(|v| v as f32).collect()
                }
            };
            (tensor.name.clone(), (tensor.shape.clone(), values))
        };
        Self { tensors: wanted.iter().map(draw).collect(), foreign: BTreeMap::new() }
    }

    /// Checks that every wanted tensor is there in its shape, of finite numbers; all departures are named at once.
    pub fn check(&self, wanted: &[Wanted]) -> Result<(), ModelError> {
        let problem = |tensor: &Wanted| self.problem(tensor, "the configuration says");
        let problems: Vec<String> = wanted.iter().filter_map(problem).collect();
        if problems.is_empty() { Ok(()) } else { Err(ModelError::Tensors(problems)) }
    }

    /// What keeps a tensor from being used; `rule` goes before the shape that it must have.
    pub(crate) fn problem(&self, tensor: &Wanted, rule: &str) -> Option<String> {
        let Wanted { name, shape: wanted, .. } = tensor;
        match self.tensors.get(name) {
            None => Some(self.lacking(tensor)),
            Some((shape, _)) if shape != wanted => {
                let gathered = "; DeepSpeed ZeRO-3 leaves no numbers where weights are saved without being gathered";
                let cause = if shape[..] == [0] { gathered } else { "" };
                Some(format!("`{name}` is {shape:?}, but {rule} {wanted:?}{cause}"))
            }
            // Whatever is computed with them is no number either, and a mask would call every run diverged.
            Some((_, values)) => values.iter().position(|value| !value.is_finite()).map(|at| {
                let value = values[at];
                format!("`{name}` has the value {value} at {at}; the checkpoint is damaged, download or save it again")
            }),
        }
    }

    /// Shape of a tensor that the file has, of whatever type.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        let found = self.tensors.get(name).map(|(shape, _)| shape);
        found.or_else(|| self.foreign.get(name).map(|(_, shape)| shape)).map(Vec::as_slice)
    }

    /// Why a tensor cannot be had.
    fn lacking(&self, Wanted { name, shape, .. }: &Wanted) -> String {
        match self.foreign.get(name) {
            Some((dtype, found)) => format!(
                "`{name}` is of type {dtype} {found:?}, but must be F64, F32, F16 or BF16 {shape:?}; quantised and integer weights are not \
                 read, save it in 16 or 32 bits"
            ),
            None => format!("`{name}` {shape:?} is missing"),
        }
    }

    /// The wanted tensors that the file does not have at all.
    pub fn absent(&self, wanted: &[Wanted]) -> Vec<Wanted> {
        wanted.iter().filter(|tensor| self.shape(&tensor.name).is_none()).cloned().collect()
    }

    /// Takes over the tensors of another, which replace those of the same name.
    pub fn extend(&mut self, other: Self) {
        self.tensors.extend(other.tensors);
    }

    /// Names in the file that no wanted tensor has.
    pub fn unused(&self, wanted: &[Wanted]) -> Vec<String> {
        let known: std::collections::BTreeSet<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
        let left = self.tensors.keys().filter(|name| !known.contains(name.as_str()));
        let mut all: Vec<String> = left.chain(self.foreign.keys()).cloned().collect();
        all.sort();
        all
    }

    /// Shape and values of a tensor, where the file has it.
    pub fn find(&self, name: &str) -> Option<(&[usize], &[f32])> {
        self.tensors.get(name).map(|(shape, values)| (shape.as_slice(), values.as_slice()))
    }

    /// The tensors with these names alone.
    #[must_use]
    pub fn only(&self, names: &[&str]) -> Self {
        let kept = names.iter().filter_map(|name| Some(((*name).to_owned(), self.tensors.get(*name)?.clone())));
        Self { tensors: kept.collect(), foreign: BTreeMap::new() }
    }

    fn wide(&self, name: &str) -> Vec<f64> {
        self.get(name).iter().map(|v| f64::from(*v)).collect()
    }

    fn vector(&self, name: &str, place: &Placement) -> Tensor<1> {
        let values = self.wide(name);
        let n = values.len();
        place.frozen(values, [n])
    }

    /// torch's `Linear`, kept as `[d_out, d_in]`, with its bias where the configuration asks for one.
    pub(crate) fn linear(&self, name: String, shape: [usize; 2], biased: bool, place: &Placement) -> AdaptedLinear {
        let [d_in, d_out] = shape;
        let turned = transposed(self.get(&format!("{name}.weight")), d_out, d_in);
        let weight = place.frozen(turned.into_iter().map(f64::from).collect(), shape);
        let bias = biased.then(|| self.vector(&format!("{name}.bias"), place));
        AdaptedLinear::new(name, weight, bias)
    }

    /// GPT-2's `Conv1D`, kept as `[d_in, d_out]`.
    pub(crate) fn linear_as_stored(&self, name: String, shape: [usize; 2], place: &Placement) -> AdaptedLinear {
        let weight = place.frozen(self.wide(&format!("{name}.weight")), shape);
        let bias = self.vector(&format!("{name}.bias"), place);
        AdaptedLinear::new(name, weight, Some(bias))
    }

    pub(crate) fn layer_norm(&self, name: String, epsilon: f64, place: &Placement) -> AdaptedNorm {
        let (gamma, beta) =
            (self.vector(&format!("{name}.weight"), place), self.vector(&format!("{name}.bias"), place));
        AdaptedNorm::new(name, gamma, beta, epsilon)
    }

    pub(crate) fn square_norm(&self, name: String, epsilon: f64, place: &Placement) -> AdaptedNorm {
        let gamma = self.vector(&format!("{name}.weight"), place);
        AdaptedNorm::root_mean_square(name, gamma, epsilon)
    }

    pub(crate) fn table(&self, name: &str, rows: usize, d: usize, place: &Placement) -> AdaptedEmbedding {
        AdaptedEmbedding::new(name, place.frozen(self.wide(&format!("{name}.weight")), [rows, d]))
    }

    /// A tensor that [`check`](Self::check) has found, row-major.
    pub fn get(&self, name: &str) -> &[f32] {
        &self.tensors.get(name).unwrap_or_else(|| unreachable!("`{name}` was checked to be there")).1
    }

    /// Puts a tensor in.
    pub fn insert(&mut self, name: impl Into<String>, shape: Vec<usize>, values: Vec<f32>) {
        self.tensors.insert(name.into(), (shape, values));
    }

    /// A safetensors file of f16 tensors under `rename`d names, sorted by name.
    pub fn write_f16(&self, rename: impl Fn(&str) -> String) -> Result<Vec<u8>, ModelError> {
        let halves: Vec<Stored> = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| {
                Stored::of(rename(name), shape.clone(), values.iter().map(|value| half::f16::from_f32(*value)))
            })
            .collect();
        Ok(safetensors::write(&halves, Some(TORCH))?)
    }
}

/// `[rows, cols]` to `[cols, rows]`, both row-major.
pub fn transposed<T: Copy>(values: &[T], rows: usize, cols: usize) -> Vec<T> {
    (0..cols).flat_map(|col| (0..rows).map(move |row| values[row * cols + col])).collect()
}
