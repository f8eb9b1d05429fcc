//! What a cohort takes of its device's memory, read from the allocator at the points where something was added.

use burn::tensor::Device;
use kernels::memory::{reset_peak, usage};
use record::MemoryUse;

/// The watch over one cohort.
#[derive(Debug)]
pub struct Footprint {
    device: Device,
    /// Before the first step.
    weights: u64,
    first: Option<First>,
}

/// After the first step, which runs kernel by kernel.
#[derive(Clone, Copy, Debug)]
struct First {
    left: u64,
    gradients: u64,
    peak: u64,
}

impl Footprint {
    /// Watches from here on, where a device tells of its memory. The cohort is built and has not made a step.
    pub fn begin(device: &Device) -> Option<Self> {
        reset_peak(device);
        Some(Self { device: device.clone(), weights: usage(device)?.now, first: None })
    }

    /// Whether the first step is still to come.
    pub fn is_new(&self) -> bool {
        self.first.is_none()
    }

    /// The first step is done, and its numbers are read; its gradients had so many bytes.
    pub fn stepped(&mut self, gradients: u64) {
        self.first = usage(&self.device).map(|memory| First { left: memory.now, gradients, peak: memory.peak });
    }

    /// What was found by now.
    pub fn read(&self) -> Option<MemoryUse> {
        let First { left, gradients, peak } = self.first?;
        Some(MemoryUse {
            weights: self.weights,
            optimizer: left.saturating_sub(self.weights),
            gradients,
            activations: peak.saturating_sub(left).saturating_sub(gradients),
            peak: usage(&self.device)?.peak,
        })
    }
}
