//! Steps that a device records once and replays.
//!
//! What is recorded is a sequence of kernels over fixed storage: a replay reads and writes what the recording did. Nothing may be uploaded
//! or read back in between; numbers that change are written into their places beforehand ([`assign`](crate::ops::assign)). Work of the same
//! kind must have run once before, at any shape, so that kernels are compiled and libraries are set up.

use burn::tensor::Device;

/// A recorded sequence of kernels.
#[derive(Debug)]
pub struct Graph {
    #[cfg(feature = "tch")]
    inner: crate::libtorch::Graph,
    #[cfg(not(feature = "tch"))]
    never: std::convert::Infallible,
}

impl Graph {
    /// Whether a device records.
    pub fn is_supported(device: &Device) -> bool {
        crate::ops::cuda_index(device).is_some()
    }

    /// Records what `work` enqueues on `device`, without running it. A graph shares the memory of its intermediate values with the one it
    /// comes `after`: the two never run at once. Fails where something in `work` cannot be recorded, with the reason: `LibTorch` says so by a
    /// panic in the middle of `work`, after which the device is as it was.
    #[cfg(feature = "tch")]
    pub fn record<R>(device: &Device, after: Option<&Self>, work: impl FnOnce() -> R) -> Result<(Self, R), String> {
        let index = crate::ops::cuda_index(device).ok_or_else(|| format!("{device:?} does not record"))?;
        let pool = after.map(|graph| graph.inner.pool());
        let capture = std::panic::AssertUnwindSafe(|| crate::libtorch::Graph::capture(index, pool, work));
        match std::panic::catch_unwind(capture) {
            Ok(Ok((inner, given))) => Ok((Self { inner }, given)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                Err(text.unwrap_or("a panic without words").to_owned())
            }
        }
    }

    /// Records what `work` enqueues on `device`: no backend of this build does.
    #[cfg(not(feature = "tch"))]
    pub fn record<R>(device: &Device, after: Option<&Self>, work: impl FnOnce() -> R) -> Result<(Self, R), String> {
        let _ = (after, work);
        Err(format!("{device:?} does not record"))
    }

    /// Enqueues the sequence.
    pub fn replay(&mut self) {
        #[cfg(feature = "tch")]
        self.inner.replay().unwrap_or_else(|error| panic!("LibTorch, replaying a step: {error}"));
        #[cfg(not(feature = "tch"))]
        match self.never {}
    }
}
