//! Which tensor of an adapter has which name and layout in PEFT's file.
//!
//! | here | there | |
//! |---|---|---|
//! | `a [d_in, r]`, `b [r, d_out]` | `lora_A.weight [r, d_in]`, `lora_B.weight [d_out, r]` | LoRA |
//! | `magnitude [1, d_out]` | `lora_magnitude_vector [d_out]` | DoRA |
//! | `a [rows, r]`, `b [r, d]` of a table | `lora_embedding_A [r, rows]`, `lora_embedding_B [d, r]` | LoRA |
//! | `q [d_in, r]`, `lambda [1, r]`, `p [r, d_out]` | `lora_A [r, d_in]`, `lora_E [r, 1]`, `lora_B [d_out, r]` | AdaLoRA |
//! | `lambda_d [1, r]`, `lambda_b [1, d_out]` | `vera_lambda_d [r]`, `vera_lambda_b [d_out]` | VeRA |
//! | `trainable_tokens [n, d]` of a table | `token_adapter.trainable_tokens_delta [n, d]` | |
//! | `weight [d_in, d_out]`, `bias [1, d_out]` of a copy | `weight [d_out, d_in]` (GPT-2: as here), `bias [d_out]` | |
//!
//! A tuner of PEFT that is none of these has the names and layouts that the delta declares ([`DeltaSpec::peft_tensors`]).
//!
//! The bias of an adapted map is `base_layer.bias` there, because PEFT wraps the map.

use std::collections::BTreeMap;

use models::{
    config::Config,
    network::{NamedParam, Network},
    weights::transposed,
};
use variants::{
    delta::DeltaSpec,
    host::{inner, values},
    peft::{PeftForm, TunedMap, TunerLayout},
    role::Role,
};

use super::WRAPPED;

/// A matrix on the host.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matrix {
    pub(super) role: Role,
    /// `[rows, cols]`
    pub(super) shape: [usize; 2],
    /// Row-major.
    pub(super) values: Vec<f64>,
}

impl Matrix {
    pub(super) fn transposed(&self) -> Self {
        let [rows, cols] = self.shape;
        Self { role: self.role, shape: [cols, rows], values: transposed(&self.values, rows, cols) }
    }

    /// Side by side.
    pub(super) fn beside(&self, other: &Self) -> Self {
        let [rows, left] = self.shape;
        let right = other.shape[1];
        let values = (0..rows).flat_map(|row| {
            self.values[row * left..(row + 1) * left].iter().chain(&other.values[row * right..(row + 1) * right])
        });
        Self { role: self.role, shape: [rows, left + right], values: values.copied().collect() }
    }

    /// Columns `from..to`.
    pub(super) fn columns(&self, from: usize, to: usize) -> Self {
        let [rows, cols] = self.shape;
        let values = (0..rows).flat_map(|row| self.values[row * cols + from..row * cols + to].iter().copied());
        Self { role: self.role, shape: [rows, to - from], values: values.collect() }
    }

    /// Rows `from..to`.
    pub(super) fn rows(&self, from: usize, to: usize) -> Self {
        let cols = self.shape[1];
        Self { role: self.role, shape: [to - from, cols], values: self.values[from * cols..to * cols].to_vec() }
    }

    /// The chosen columns.
    pub(super) fn chosen_columns(&self, keep: &[bool]) -> Self {
        let [rows, cols] = self.shape;
        let left = keep.iter().filter(|k| **k).count();
        let values = (0..rows).flat_map(|row| (0..cols).filter(|c| keep[*c]).map(move |c| row * cols + c));
        Self { role: self.role, shape: [rows, left], values: values.map(|at| self.values[at]).collect() }
    }

    /// The inverse of [`chosen_columns`](Self::chosen_columns), zeros elsewhere.
    pub(super) fn spread_columns(&self, keep: &[bool]) -> Self {
        let [rows, left] = self.shape;
        let mut values = Vec::with_capacity(rows * keep.len());
        for row in 0..rows {
            let mut own = self.values[row * left..(row + 1) * left].iter();
            values.extend(keep.iter().map(|k| if *k { own.next().copied().unwrap_or(0.0) } else { 0.0 }));
        }
        Self { role: self.role, shape: [rows, keep.len()], values }
    }
}

/// The tensors of one run by slot and name; the head's slot is empty.
pub(super) type Slots = BTreeMap<String, BTreeMap<String, Matrix>>;

/// The tensors of a network's first stack, which has one run.
pub(super) fn gather(network: &mut Network) -> Slots {
    let mut slots = Slots::new();
    for NamedParam { slot, name, param, .. } in network.parameters(0) {
        let [_, rows, cols] = param.tensor.dims();
        let matrix = Matrix { role: param.role, shape: [rows, cols], values: values(&inner(&param.tensor)) };
        let name = if slot.is_empty() { name } else { param.name.to_owned() };
        slots.entry(slot).or_default().insert(name, matrix);
    }
    slots
}

/// How a matrix lies in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Same,
    Transposed,
    /// `[1, n]` as `[n]`.
    Vector,
    /// The numbers of `ours` in the same order in another shape.
    Shaped {
        ours: [usize; 2],
        theirs: Vec<usize>,
    },
    /// Columns in pieces: `[rows, pieces·n]` as `[pieces, rows, n]`.
    Pieces(usize),
}

impl Layout {
    /// Shape and numbers in the file.
    pub(super) fn stored(&self, matrix: &Matrix) -> (Vec<usize>, Vec<f64>) {
        match self {
            Self::Same => (matrix.shape.to_vec(), matrix.values.clone()),
            Self::Transposed => {
                let turned = matrix.transposed();
                (turned.shape.to_vec(), turned.values)
            }
            Self::Vector => (vec![matrix.values.len()], matrix.values.clone()),
            Self::Shaped { theirs, .. } => (theirs.clone(), matrix.values.clone()),
            Self::Pieces(pieces) => {
                let ([rows, cols], n) = (matrix.shape, matrix.shape[1] / pieces);
                let piece = |at: usize| (0..rows).flat_map(move |row| row * cols + at * n..row * cols + (at + 1) * n);
                let values = (0..*pieces).flat_map(piece).map(|at| matrix.values[at]).collect();
                (vec![*pieces, rows, n], values)
            }
        }
    }

    /// The matrix of a tensor of the file; `None` where it has another number of axes, or another shape than the one that is declared.
    pub(super) fn read(&self, role: Role, shape: &[usize], values: Vec<f64>) -> Option<Matrix> {
        Some(match (self, shape) {
            (Self::Same, &[rows, cols]) => Matrix { role, shape: [rows, cols], values },
            (Self::Transposed, &[rows, cols]) => Matrix { role, shape: [rows, cols], values }.transposed(),
            (Self::Shaped { ours, theirs }, shape) if theirs == shape => Matrix { role, shape: *ours, values },
            (Self::Vector, &[n]) => Matrix { role, shape: [1, n], values },
            (Self::Pieces(pieces), &[found, rows, n]) if *pieces == found => {
                let line = |row: usize| (0..found).flat_map(move |at| (at * rows + row) * n..(at * rows + row + 1) * n);
                let values = (0..rows).flat_map(line).map(|at| values[at]).collect();
                Matrix { role, shape: [rows, found * n], values }
            }
            _ => return None,
        })
    }
}

/// What a slot is, as far as names depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A linear map that is kept as `[d_out, d_in]`.
    Linear,
    /// GPT-2's `Conv1D`, kept as `[d_in, d_out]`.
    Conv,
    Table,
    Norm,
    Head,
}

impl Kind {
    pub(super) fn of(slot: &str, config: &Config) -> Self {
        if slot.is_empty() {
            return Self::Head;
        }
        match config.maps().get(slot).map(|map| &map.kind) {
            Some(models::config::MapKind::Table) => Self::Table,
            Some(_) if config.stores_inputs_first() => Self::Conv,
            Some(_) => Self::Linear,
            None => Self::Norm,
        }
    }
}

/// The end of a tensor's name in the file and its layout; `None` for what PEFT's format has no place for. `adapted` says whether the
/// slot has an adapter.
pub(super) fn place(kind: Kind, name: &str, adapted: bool) -> Option<(String, Layout)> {
    use Layout::{Same, Transposed, Vector};
    let found = |suffix: &str, layout| Some((suffix.to_owned(), layout));
    match (kind, name) {
        (Kind::Head, name) if name.ends_with("bias") => found(name, Vector),
        (Kind::Head, name) => found(name, Transposed),
        (Kind::Table, "a") => found("lora_embedding_A", Transposed),
        (Kind::Table, "b") => found("lora_embedding_B", Transposed),
        (Kind::Table, "trainable_tokens") => found("token_adapter.trainable_tokens_delta", Same),
        (Kind::Table | Kind::Conv, "weight") => found("weight", Same),
        (Kind::Linear, "weight") => found("weight", Transposed),
        (Kind::Norm, "weight" | "bias") => found(name, Vector),
        (Kind::Linear | Kind::Conv, "bias") => found(if adapted { "base_layer.bias" } else { "bias" }, Vector),
        (Kind::Linear | Kind::Conv, "a") => found("lora_A.weight", Transposed),
        (Kind::Linear | Kind::Conv, "b") => found("lora_B.weight", Transposed),
        (Kind::Linear | Kind::Conv, "magnitude") => found("lora_magnitude_vector", Vector),
        (Kind::Linear | Kind::Conv, "q") => found("lora_A", Transposed),
        (Kind::Linear | Kind::Conv, "p") => found("lora_B", Transposed),
        (Kind::Linear | Kind::Conv, "lambda") => found("lora_E", Transposed),
        (Kind::Linear | Kind::Conv, "lambda_d" | "lambda_b") => found(&format!("vera_{name}"), Vector),
        _ => None,
    }
}

/// As [`place`], for the tensor `ours` of a map that a tuner adapts; `None` of a delta that has another form in PEFT.
pub(super) fn tuned_place(
    delta: Option<&DeltaSpec>,
    map: TunedMap<'_>,
    name: &str,
    ours: [usize; 2],
) -> Option<(String, Layout)> {
    let delta = delta.filter(|delta| matches!(delta.peft(), Some(PeftForm::Tuner(_))))?;
    let found = delta.peft_tensors(map).into_iter().find(|tensor| tensor.ours == name)?;
    let layout = match found.layout {
        TunerLayout::Transposed => Layout::Transposed,
        TunerLayout::Shaped(theirs) => Layout::Shaped { ours, theirs },
        TunerLayout::Pieces(pieces) => Layout::Pieces(pieces),
    };
    Some((found.theirs.to_owned(), layout))
}

/// The tensor's whole name in the file. What all maps share has a name of its own.
pub(super) fn key(config: &Config, slot: &str, suffix: &str) -> String {
    if suffix.starts_with("base_model.") {
        return suffix.to_owned();
    }
    if slot.is_empty() { format!("{WRAPPED}{suffix}") } else { format!("{WRAPPED}{}.{suffix}", config.full(slot)) }
}
