//! safetensors files as bytes, whole or broken.

use serde_json::{Value, json};

/// A tensor: name, type, shape, bytes.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

impl Tensor {
    /// Small numbers that differ from one another, in f32.
    pub(crate) fn new(name: impl Into<String>, shape: &[usize]) -> Self {
        let name = name.into();
        let start: usize = name.bytes().map(usize::from).sum();
        let number = |at: usize| ((start * 31 + at * 17) % 101) as f32 / 1010.0 - 0.05;
        let data = (0..shape.iter().product()).flat_map(|at| number(at).to_le_bytes()).collect();
        Self { name, dtype: "F32", shape: shape.to_vec(), data }
    }

    pub(crate) fn filled(name: impl Into<String>, shape: &[usize], number: f32) -> Self {
        let data = number.to_le_bytes().repeat(shape.iter().product());
        Self { data, ..Self::new(name, shape) }
    }

    /// The same shape in another type, every byte 0.
    pub(crate) fn typed(mut self, dtype: &'static str, bytes: usize) -> Self {
        self.dtype = dtype;
        self.data = vec![0; self.shape.iter().product::<usize>() * bytes];
        self
    }
}

/// The header's entries, and the bytes behind it.
pub(crate) fn parts(tensors: &[Tensor]) -> (Value, Vec<u8>) {
    let (mut header, mut data) = (json!({"__metadata__": {"format": "pt"}}), Vec::new());
    for tensor in tensors {
        let offsets = [data.len(), data.len() + tensor.data.len()];
        header[&tensor.name] = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets});
        data.extend_from_slice(&tensor.data);
    }
    (header, data)
}

/// A file with this header and these bytes behind it.
pub(crate) fn joined(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A whole file.
pub(crate) fn file(tensors: &[Tensor]) -> Vec<u8> {
    let (header, data) = parts(tensors);
    joined(&header.to_string(), &data)
}
