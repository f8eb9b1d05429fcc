//! The three forms of a micro-batch: arrays on the host ([`HostBatch`]), slices of the upload buffer ([`BatchLayout`]), tensors on the
//! device ([`DeviceBatch`]). They are one shape, carried along by [`BatchArrays::map`].

use burn::tensor::{Int, Tensor};
use models::tokens::{Layout, Tokens, Transfer};
use variants::host::Placement;

use crate::{
    objective::LossInputs,
    step::inputs::{DeviceInputs, Slice, UploadBuffer},
};

/// The arrays of a micro-batch, of whole numbers (`I`) and numbers (`F`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BatchArrays<I, F> {
    /// The tokens of all runs.
    pub tokens: Layout<I, F>,
    /// What the losses read, by stack. A stack whose runs have several objectives has an entry for each, and its runs' losses are the sum.
    pub losses: Vec<Vec<LossInputs<I, F>>>,
}

/// One micro-batch on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostBatch {
    /// What the device will read.
    pub arrays: BatchArrays<Vec<i64>, Vec<f64>>,
    /// Tokens of every run of every stack, padding left out.
    pub n_tokens: Vec<Vec<u64>>,
    /// What the loss of every run of every stack is a mean over: tokens that are learnt, or rows.
    pub n_terms: Vec<Vec<u64>>,
}

/// Where a micro-batch lies in the upload buffer. Equal layouts are the same computation on other numbers.
pub type BatchLayout = BatchArrays<Slice, Slice>;

/// One micro-batch on the device.
#[derive(Clone, Debug)]
pub struct DeviceBatch {
    /// The tokens of all runs.
    pub tokens: Tokens,
    /// [`BatchArrays::losses`]
    pub losses: Vec<Vec<LossInputs<Tensor<1, Int>, Tensor<1>>>>,
}

impl<I, F> BatchArrays<I, F> {
    /// The same batch with every array carried to another place.
    pub fn map<T: Transfer<I, F>>(self, to: &mut T) -> BatchArrays<T::Ints, T::Floats> {
        let mut of_stack = |losses: Vec<LossInputs<I, F>>| losses.into_iter().map(|loss| loss.map(to)).collect();
        BatchArrays { losses: self.losses.into_iter().map(&mut of_stack).collect(), tokens: self.tokens.map(to) }
    }
}

impl HostBatch {
    /// Puts the batch into an upload buffer.
    pub fn write_into(self, buffer: &mut UploadBuffer) -> BatchLayout {
        self.arrays.map(buffer)
    }

    /// The batch on a device, uploaded by itself.
    pub fn upload(self, place: &Placement) -> DeviceBatch {
        let mut buffer = UploadBuffer::default();
        let layout = self.write_into(&mut buffer);
        layout.read(&buffer.upload(place))
    }
}

impl BatchLayout {
    /// The batch as tensors, from a step's inputs on the device.
    pub fn read(&self, mut inputs: &DeviceInputs) -> DeviceBatch {
        let BatchArrays { tokens, losses } = self.clone().map(&mut inputs);
        DeviceBatch { tokens: Tokens::from_tensors(tokens), losses }
    }
}
