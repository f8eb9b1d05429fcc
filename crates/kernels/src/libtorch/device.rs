//! What LibTorch's CUDA devices are.

use super::ffi::{self, Error};

/// Versions of what is linked and of what is installed; CUDA's as `major.minor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// LibTorch's, of the headers this program was built with.
    pub libtorch: String,
    /// CUDA's, that LibTorch was built for; `None` for a LibTorch without.
    pub cuda: Option<String>,
    /// The newest CUDA that the driver knows; `None` without a driver.
    pub driver: Option<String>,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// The number in `cuda:0`.
    pub index: usize,
    /// As the driver has it.
    pub name: String,
    /// Bytes.
    pub memory: u64,
    /// Compute capability, such as `(9, 0)`.
    pub capability: (i32, i32),
}

fn dotted(version: i64) -> Option<String> {
    (version > 0).then(|| format!("{}.{}", version / 1000, version % 1000 / 10))
}

/// See [`Versions`]; asks no device.
pub fn versions() -> Result<Versions, Error> {
    let (libtorch, cuda, driver) = ffi::versions()?;
    Ok(Versions { libtorch, cuda: dotted(cuda), driver: dotted(driver) })
}

/// Every CUDA device the driver shows; an error that says why where there is no driver.
pub fn gpus() -> Result<Vec<Gpu>, Error> {
    (0..ffi::card_count()?)
        .map(|index| {
            let (name, memory, capability) = ffi::gpu(index)?;
            Ok(Gpu { index, name, memory, capability })
        })
        .collect()
}
