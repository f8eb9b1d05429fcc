//! The upload buffer: everything that a step needs from the host, collected into two flat arrays that the host uploads together.
//!
//! The device's half of a step reads the cohort's state and these arrays and nothing else. That is what makes a recorded step
//! replayable: the replay reads other numbers from the same places.

use burn::tensor::{DType, Int, Tensor, TensorData};
use kernels::ops;
use models::tokens::Transfer;
use variants::host::Placement;

/// Where a list of numbers lies in one of the two arrays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slice {
    start: usize,
    end: usize,
}

impl Slice {
    /// Its length.
    pub(super) fn len(self) -> usize {
        self.end - self.start
    }
}

/// The two arrays on the host, while a step is planned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UploadBuffer {
    ints: Vec<i64>,
    floats: Vec<f64>,
}

/// The two arrays on the device.
#[derive(Clone, Debug)]
pub struct DeviceInputs {
    ints: Tensor<1, Int>,
    floats: Tensor<1>,
}

impl UploadBuffer {
    /// Appends whole numbers.
    pub fn ints(&mut self, values: impl IntoIterator<Item = i64>) -> Slice {
        let start = self.ints.len();
        self.ints.extend(values);
        Slice { start, end: self.ints.len() }
    }

    /// Appends numbers.
    pub fn floats(&mut self, values: impl IntoIterator<Item = f64>) -> Slice {
        let start = self.floats.len();
        self.floats.extend(values);
        Slice { start, end: self.floats.len() }
    }

    /// Uploads both arrays: whole numbers as i64, numbers in the precision of the trained tensors.
    pub fn upload(self, place: &Placement) -> DeviceInputs {
        let (mut ints, mut floats) = (self.ints, self.floats);
        // A tensor has at least one element.
        ints.resize(ints.len().max(1), 0);
        floats.resize(floats.len().max(1), 0.0);
        let (whole, n) = (ints.len(), floats.len());
        DeviceInputs {
            ints: Tensor::from_data(TensorData::new(ints, [whole]), (&place.device, DType::I64)),
            floats: place.tensor(floats, [n]),
        }
    }
}

impl Transfer<Vec<i64>, Vec<f64>> for UploadBuffer {
    type Ints = Slice;
    type Floats = Slice;

    fn ints(&mut self, values: Vec<i64>) -> Slice {
        Self::ints(self, values)
    }

    fn floats(&mut self, values: Vec<f64>) -> Slice {
        Self::floats(self, values)
    }
}

impl Transfer<Slice, Slice> for &DeviceInputs {
    type Ints = Tensor<1, Int>;
    type Floats = Tensor<1>;

    fn ints(&mut self, slice: Slice) -> Tensor<1, Int> {
        DeviceInputs::ints(self, slice)
    }

    fn floats(&mut self, slice: Slice) -> Tensor<1> {
        self.floats.clone().slice([slice.start..slice.end])
    }
}

impl DeviceInputs {
    /// A slice of the whole numbers.
    pub fn ints(&self, span: Slice) -> Tensor<1, Int> {
        self.ints.clone().slice([span.start..span.end])
    }

    /// A slice of the numbers, in `shape`.
    pub fn floats<const D: usize>(&self, span: Slice, shape: [usize; D]) -> Tensor<D> {
        self.floats.clone().slice([span.start..span.end]).reshape(shape)
    }

    /// Overwrites both arrays, on a device that writes tensors in place: a recorded step then reads the new numbers.
    pub fn replace(&mut self, with: Self) {
        self.ints = ops::assign_ints(self.ints.clone(), with.ints);
        self.floats = ops::assign(self.floats.clone(), with.floats);
    }
}
