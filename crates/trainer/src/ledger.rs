//! What the host decides of a step, on its way to the device: two flat arrays, uploaded at once.
//!
//! A step on a device is a function of the cohort's state and of these arrays alone, so that it can be recorded once and replayed with
//! other numbers in the same places.

use burn::tensor::{DType, Int, Tensor, TensorData};
use kernels::ops;
use variants::host::Placement;

/// A stretch of one of the arrays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// Its length.
    pub fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// The arrays on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    ints: Vec<i64>,
    floats: Vec<f64>,
}

/// The arrays on a device.
#[derive(Clone, Debug)]
pub struct Entries {
    ints: Tensor<1, Int>,
    floats: Tensor<1>,
}

impl Ledger {
    /// Enters whole numbers.
    pub fn ints(&mut self, values: impl IntoIterator<Item = i64>) -> Span {
        let start = self.ints.len();
        self.ints.extend(values);
        Span { start, end: self.ints.len() }
    }

    /// Enters numbers.
    pub fn floats(&mut self, values: impl IntoIterator<Item = f64>) -> Span {
        let start = self.floats.len();
        self.floats.extend(values);
        Span { start, end: self.floats.len() }
    }

    /// On a device; whole numbers in 64 bits, numbers in the width of what trains.
    pub fn upload(self, place: &Placement) -> Entries {
        let (mut ints, mut floats) = (self.ints, self.floats);
        // A tensor has at least one element.
        ints.resize(ints.len().max(1), 0);
        floats.resize(floats.len().max(1), 0.0);
        let (whole, n) = (ints.len(), floats.len());
        Entries {
            ints: Tensor::from_data(TensorData::new(ints, [whole]), (&place.device, DType::I64)),
            floats: place.tensor(floats, [n]),
        }
    }
}

impl Entries {
    /// Whole numbers.
    pub fn ints(&self, span: Span) -> Tensor<1, Int> {
        self.ints.clone().slice([span.start..span.end])
    }

    /// Whole numbers, `[rows, cols]`.
    pub fn table(&self, span: Span, shape: [usize; 2]) -> Tensor<2, Int> {
        self.ints(span).reshape(shape)
    }

    /// Numbers in a shape.
    pub fn floats<const D: usize>(&self, span: Span, shape: [usize; D]) -> Tensor<D> {
        self.floats.clone().slice([span.start..span.end]).reshape(shape)
    }

    /// Other numbers in the same places, on a device where tensors are written in place.
    pub fn replace(&mut self, with: Self) {
        self.ints = ops::assign_ints(self.ints.clone(), with.ints);
        self.floats = ops::assign(self.floats.clone(), with.floats);
    }
}
