//! What a device's allocator says of its memory, and how memory is given back.

use burn::tensor::{Device, Tensor};

/// Bytes in tensors, as the allocator counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub now: u64,
    /// At most, since the last [`reset_peak`].
    pub peak: u64,
    /// Taken from the GPU: in tensors, or kept for later ones.
    pub reserved: u64,
}

/// Memory of a device; none where its backend does not tell.
pub fn usage(device: &Device) -> Option<Memory> {
    let index = crate::ops::cuda_index(device)?;
    #[cfg(feature = "tch")]
    return crate::libtorch::memory(index).ok().map(|memory| Memory {
        now: memory.allocated.unsigned_abs(),
        peak: memory.allocated_peak.unsigned_abs(),
        reserved: memory.reserved.unsigned_abs(),
    });
    #[cfg(not(feature = "tch"))]
    unreachable!("no backend of this build has device {index}")
}

/// Bytes of a device in all; none where its backend does not tell.
pub fn total(device: &Device) -> Option<u64> {
    let index = crate::ops::cuda_index(device)?;
    #[cfg(feature = "tch")]
    return crate::libtorch::gpus().ok()?.into_iter().find(|gpu| gpu.index == index).map(|gpu| gpu.memory);
    #[cfg(not(feature = "tch"))]
    unreachable!("no backend of this build has device {index}")
}

/// Starts the search for the peak anew.
pub fn reset_peak(device: &Device) {
    #[cfg(feature = "tch")]
    if let Some(index) = crate::ops::cuda_index(device) {
        let _ = crate::libtorch::reset_peak(index);
    }
    #[cfg(not(feature = "tch"))]
    let _ = device;
}

/// Gives back to the GPU what no tensor holds.
pub fn release(device: &Device) {
    #[cfg(feature = "tch")]
    if let Some(index) = crate::ops::cuda_index(device) {
        let _ = crate::libtorch::empty_cache(index);
    }
    #[cfg(not(feature = "tch"))]
    let _ = device;
}

/// Backward passes that [`forget_unfinished_graphs`] makes: more than a graph has operations in a row.
const SWEEPS: usize = 4096;

/// Frees what forward passes hold that no backward pass will follow, because a panic ended them.
///
/// Burn keeps the operations of a forward pass, with the tensors that their backward pass needs, in one registry of the process. Dropping a
/// tensor takes nothing out of it; a backward pass does, of its own graph and, of every graph that nobody holds a tensor of, the operations
/// whose inputs are gone already. So small backward passes take such a graph away from its first operation to its last. Graphs in use stay.
pub fn forget_unfinished_graphs() {
    let device = Device::flex().autodiff();
    for _ in 0..SWEEPS {
        let _ = Tensor::<1>::zeros([1], &device).require_grad().sum().backward();
    }
}
