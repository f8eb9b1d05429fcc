//! Devices by name.
//!
//! | name | feature | device |
//! |---|---|---|
//! | `cpu`, `flex` | always | pure Rust on the CPU, strict f32 |
//! | `tch:cpu`, `tch:cuda:N` | `tch` | LibTorch |
//! | `cuda:N` | `cuda` | CubeCL on CUDA |
//! | `vulkan`, `wgpu` | `vulkan`, `wgpu` | CubeCL on a graphics API |
//! | `auto` | – | the first of the above from below that is compiled in |

use burn::tensor::Device;

use crate::error::TrainError;

/// A device that runs, and its full name.
#[derive(Clone, Debug)]
pub struct Named {
    /// As recorded, e.g. `flex`.
    pub name: String,
    /// The device.
    pub device: Device,
}

/// The names compiled into this build.
pub fn compiled() -> Vec<&'static str> {
    let mut names = vec!["flex"];
    if cfg!(feature = "tch") {
        names.extend(["tch:cpu", "tch:cuda:0"]);
    }
    if cfg!(feature = "cuda") {
        names.push("cuda:0");
    }
    if cfg!(feature = "vulkan") {
        names.push("vulkan");
    }
    if cfg!(feature = "wgpu") {
        names.push("wgpu");
    }
    names
}

/// The device called `name`.
pub fn parse(name: &str) -> Result<Named, TrainError> {
    let found = |full: &str, device: Device| Ok(Named { name: full.to_owned(), device });
    match name {
        "cpu" | "flex" | "auto" if name != "auto" || compiled().len() == 1 => found("flex", Device::flex()),
        "auto" => parse(compiled().last().copied().unwrap_or("flex")),
        #[cfg(feature = "tch")]
        "tch:cpu" =>
        {
            #[expect(deprecated, reason = "burn-tch is the backend that is measured on a GPU")]
            found(name, Device::libtorch())
        }
        #[cfg(feature = "vulkan")]
        "vulkan" => found(name, Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "wgpu")]
        "wgpu" => found(name, Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        _ => indexed(name),
    }
}

fn indexed(name: &str) -> Result<Named, TrainError> {
    let index = name.rsplit(':').next().and_then(|last| last.parse::<usize>().ok());
    match (name.rsplit_once(':').map(|(kind, _)| kind), index) {
        #[cfg(feature = "tch")]
        (Some("tch:cuda"), Some(index)) => {
            #[expect(deprecated, reason = "burn-tch is the backend that is measured on a GPU")]
            let device = Device::libtorch_cuda(index);
            Ok(Named { name: name.to_owned(), device })
        }
        #[cfg(feature = "cuda")]
        (Some("cuda"), Some(index)) => Ok(Named { name: name.to_owned(), device: Device::cuda(index) }),
        (Some("tch:cuda" | "cuda"), Some(_)) => Err(TrainError::Device {
            name: name.to_owned(),
            reason: format!(
                "this build has {}; build with the feature of that backend (README, GPUs)",
                compiled().join(", ")
            ),
        }),
        _ => Err(TrainError::Device {
            name: name.to_owned(),
            reason: format!("no such device; this build has {} and `auto`", compiled().join(", ")),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_or_say_what_there_is() {
        assert_eq!(parse("cpu").unwrap().name, "flex");
        assert!(parse("auto").is_ok());
        let message = parse("gpu").unwrap_err().to_string();
        assert!(message.contains("`gpu`") && message.contains("flex"), "{message}");
    }
}
