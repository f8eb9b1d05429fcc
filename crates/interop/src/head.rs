//! A trained head as transformers has it.

use models::network::{NamedParam, Network};
use variants::host::values;

/// A tensor that a file has whole, such as one of a head's.
#[derive(Clone, Debug, PartialEq)]
pub struct WholeTensor {
    /// Its name in the model, such as `classifier.weight`.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f64>,
}

/// The head of a network's first stack, which has one run: weights `[outputs, d]`, biases `[outputs]`.
pub fn tensors(network: &mut Network) -> Vec<WholeTensor> {
    let one = |NamedParam { name, param, .. }: NamedParam<'_>| {
        let [_, rows, cols] = param.tensor.dims();
        let tensor = param.tensor.clone();
        if name.ends_with("bias") {
            WholeTensor { name, shape: vec![cols], values: values(&tensor) }
        } else {
            WholeTensor { name, shape: vec![cols, rows], values: values(&tensor.swap_dims(1, 2)) }
        }
    };
    network.parameters(0).into_iter().filter(|named| named.slot.is_empty()).map(one).collect()
}
