//! Devices by name.
//!
//! | name | feature | device |
//! |---|---|---|
//! | `flex`, `cpu` | always | pure Rust on the CPU, strict f32 |
//! | `tch:cpu`, `tch:cuda:N` | `tch` | LibTorch |
//! | `cuda:N` | `cuda` | `CubeCL` on CUDA |
//! | `vulkan`, `wgpu` | `vulkan`, `wgpu` | `CubeCL` on a graphics API |
//! | `auto` | – | `tch:cuda:0` where it is present, else `cuda:0`, else `flex` |
//!
//! [`inventory`] says what this build and this machine have. [`parse`] opens a device, or says at once why it cannot: before anything long
//! is begun.

use std::fmt;

use burn::tensor::Device;

use crate::error::AssetError;

/// A device that runs, and its full name.
#[derive(Clone, Debug)]
pub struct Named {
    /// As recorded, e.g. `flex`.
    pub name: String,
    /// The device.
    pub device: Device,
}

/// What can stand for a device on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Flex,
    TchCpu,
    TchCuda(usize),
    Cuda(usize),
    Vulkan,
    Wgpu,
}

/// What devices come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Pure Rust on the CPU.
    Flex,
    /// LibTorch, on the CPU and on CUDA.
    Tch,
    /// `CubeCL` on CUDA.
    Cuda,
    /// `CubeCL` on Vulkan.
    Vulkan,
    /// `CubeCL` on the graphics API that there is.
    Wgpu,
}

/// A card, as its driver has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub memory: u64,
    /// Compute capability, such as `(9, 0)`.
    pub capability: (i32, i32),
}

/// Whether a device can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It can.
    Present,
    /// Its backend is in this build, but it is not there: why.
    Absent(String),
    /// Its backend is not in this build: what puts it in.
    NotBuilt(String),
}

/// A device of this build, or of one with more features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// As `--device` takes it; with `N` for a number where no card is there.
    pub name: String,
    /// Where it comes from.
    pub backend: Backend,
    /// Whether it can be opened.
    pub state: State,
    /// The card behind it, where the backend tells.
    pub card: Option<Card>,
}

/// Everything that can be said of devices before one is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Of every backend at least one, in the order of the table above.
    pub devices: Vec<Described>,
    /// What `auto` opens.
    pub auto: String,
    /// Versions of LibTorch, of the CUDA it was built for, and of the newest CUDA that the driver knows.
    pub libtorch: Option<LibTorch>,
}

/// Versions; CUDA's as `major.minor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibTorch {
    /// LibTorch's.
    pub version: String,
    /// CUDA's, of LibTorch; none for one without.
    pub cuda: Option<String>,
    /// CUDA's, of the driver; none without a driver.
    pub driver: Option<String>,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flex => f.write_str("flex"),
            Self::TchCpu => f.write_str("tch:cpu"),
            Self::TchCuda(index) => write!(f, "tch:cuda:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Vulkan => f.write_str("vulkan"),
            Self::Wgpu => f.write_str("wgpu"),
        }
    }
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        let index = |text: &str| text.parse::<usize>().ok();
        match name {
            "cpu" | "flex" => Some(Self::Flex),
            "tch:cpu" => Some(Self::TchCpu),
            "vulkan" => Some(Self::Vulkan),
            "wgpu" => Some(Self::Wgpu),
            _ => match (name.strip_prefix("tch:cuda:"), name.strip_prefix("cuda:")) {
                (Some(text), _) => index(text).map(Self::TchCuda),
                (_, Some(text)) => index(text).map(Self::Cuda),
                _ => None,
            },
        }
    }

    fn backend(self) -> Backend {
        match self {
            Self::Flex => Backend::Flex,
            Self::TchCpu | Self::TchCuda(_) => Backend::Tch,
            Self::Cuda(_) => Backend::Cuda,
            Self::Vulkan => Backend::Vulkan,
            Self::Wgpu => Backend::Wgpu,
        }
    }
}

impl Backend {
    const ALL: [Self; 5] = [Self::Flex, Self::Tch, Self::Cuda, Self::Vulkan, Self::Wgpu];

    /// In words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Flex => "pure Rust, strict f32",
            Self::Tch => "LibTorch",
            Self::Cuda => "CubeCL on CUDA",
            Self::Vulkan => "CubeCL on Vulkan",
            Self::Wgpu => "CubeCL on wgpu",
        }
    }

    fn is_built(self) -> bool {
        match self {
            Self::Flex => true,
            Self::Tch => cfg!(feature = "tch"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
        }
    }

    /// What puts it into a build.
    fn way_in(self) -> &'static str {
        match self {
            Self::Flex => unreachable!("every build has it"),
            Self::Tch => "`just setup-gpu`",
            Self::Cuda => "`cargo build --release --features cuda`",
            Self::Vulkan => "`cargo build --release --features vulkan`",
            Self::Wgpu => "`cargo build --release --features wgpu`",
        }
    }

    /// Names where no card is there to number.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Flex => &["flex"],
            Self::Tch => &["tch:cpu", "tch:cuda:N"],
            Self::Cuda => &["cuda:N"],
            Self::Vulkan => &["vulkan"],
            Self::Wgpu => &["wgpu"],
        }
    }

    /// Its devices, as this machine has them.
    fn devices(self) -> Vec<Described> {
        let described =
            |name: &str, state: State| Described { name: name.to_owned(), backend: self, state, card: None };
        if !self.is_built() {
            return self
                .names()
                .iter()
                .map(|name| described(name, State::NotBuilt(self.way_in().to_owned())))
                .collect();
        }
        let lone = |name: &str, kind: &str| match graphics(self) {
            0 => vec![described(name, State::Absent(format!("{kind} shows no device")))],
            _ => vec![described(name, State::Present)],
        };
        match self {
            Self::Flex => vec![described("flex", State::Present)],
            Self::Tch => [vec![described("tch:cpu", State::Present)], cuda_of_libtorch(&libtorch(), cards())].concat(),
            Self::Cuda => match graphics(self) {
                0 => vec![described("cuda:N", State::Absent("no NVIDIA driver, or no card it knows".to_owned()))],
                found => (0..found).map(|index| described(&format!("cuda:{index}"), State::Present)).collect(),
            },
            Self::Vulkan => lone("vulkan", "Vulkan"),
            Self::Wgpu => lone("wgpu", "the graphics API"),
        }
    }
}

/// LibTorch's CUDA devices from what it, its versions and its driver say; one without a number where there is none.
fn cuda_of_libtorch(versions: &Result<LibTorch, String>, cards: Result<Vec<(usize, Card)>, String>) -> Vec<Described> {
    let device = |name: String, state, card| Described { name, backend: Backend::Tch, state, card };
    let none = |reason: String| vec![device("tch:cuda:N".to_owned(), State::Absent(reason), None)];
    let versions = match versions {
        Ok(versions) => versions,
        Err(reason) => return none(reason.clone()),
    };
    match cards {
        Err(reason) => none(reason),
        Ok(cards) if cards.is_empty() => none("the driver shows no card".to_owned()),
        Ok(cards) => {
            let state = versions.too_old().map_or(State::Present, State::Absent);
            let one = |(index, card)| device(Kind::TchCuda(index).to_string(), state.clone(), Some(card));
            cards.into_iter().map(one).collect()
        }
    }
}

impl LibTorch {
    /// Why the driver cannot run what LibTorch was built for, if it cannot. Within a major version of CUDA a program of a newer minor
    /// version runs (CUDA compatibility guide, section 2).
    fn too_old(&self) -> Option<String> {
        let major = |version: &str| version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        let (cuda, driver) = (self.cuda.as_deref()?, self.driver.as_deref()?);
        (major(driver)? < major(cuda)?).then(|| {
            format!(
                "this LibTorch was built for CUDA {cuda}, but the driver knows {driver} at most; update the driver, or \
                 build with a LibTorch for CUDA {driver}"
            )
        })
    }
}

#[cfg(feature = "tch")]
fn libtorch() -> Result<LibTorch, String> {
    let found = kernels::libtorch::versions().map_err(|error| error.to_string())?;
    Ok(LibTorch { version: found.libtorch, cuda: found.cuda, driver: found.driver })
}

#[cfg(feature = "tch")]
fn cards() -> Result<Vec<(usize, Card)>, String> {
    let found = kernels::libtorch::gpus().map_err(|error| error.to_string())?;
    let card = |card: kernels::libtorch::Gpu| {
        (card.index, Card { name: card.name, memory: card.memory, capability: card.capability })
    };
    Ok(found.into_iter().map(card).collect())
}

#[cfg(not(feature = "tch"))]
fn libtorch() -> Result<LibTorch, String> {
    Err("LibTorch is not in this build".to_owned())
}

#[cfg(not(feature = "tch"))]
fn cards() -> Result<Vec<(usize, Card)>, String> {
    Err("LibTorch is not in this build".to_owned())
}

/// How many devices a backend of `CubeCL` shows.
fn graphics(backend: Backend) -> usize {
    match backend {
        #[cfg(feature = "cuda")]
        Backend::Cuda => Device::enumerate(burn::tensor::DeviceType::Cuda).len(),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => Device::enumerate(burn::tensor::DeviceType::Vulkan).len(),
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => Device::enumerate(burn::tensor::DeviceType::Wgpu).len(),
        _ => 0,
    }
}

/// What this build and this machine have.
pub fn inventory() -> Inventory {
    let devices: Vec<Described> = Backend::ALL.into_iter().flat_map(Backend::devices).collect();
    let auto = best(&devices).to_string();
    Inventory { devices, auto, libtorch: libtorch().ok() }
}

/// What `auto` opens: LibTorch's first card, else `CubeCL`'s, else the CPU. A graphics API has to be named: none has been measured.
fn best(devices: &[Described]) -> Kind {
    let is_present =
        |kind: &Kind| devices.iter().any(|d| d.state == State::Present && Kind::of(&d.name) == Some(*kind));
    [Kind::TchCuda(0), Kind::Cuda(0)].into_iter().find(is_present).unwrap_or(Kind::Flex)
}

/// The device called `name`, if this build and this machine have it.
pub fn parse(name: &str) -> Result<Named, AssetError> {
    // `flex` is always there; nothing else is asked for it.
    let kind = match Kind::of(name) {
        Some(Kind::Flex) => Kind::Flex,
        _ => choose(name, &inventory().devices)?,
    };
    Ok(Named { name: kind.to_string(), device: open(kind) })
}

/// Whether a name is one that a device may have, on this machine or another.
pub fn is_name(name: &str) -> bool {
    name == "auto" || Kind::of(name).is_some()
}

/// The device that `name` stands for among `devices`; where it is not present, an error that names what is.
fn choose(name: &str, devices: &[Described]) -> Result<Kind, AssetError> {
    if name == "auto" {
        return Ok(best(devices));
    }
    let present: Vec<&str> =
        devices.iter().filter(|device| device.state == State::Present).map(|device| device.name.as_str()).collect();
    let refuse = |reason: String| {
        let present = present.join(", ");
        Err(AssetError::Device {
            name: name.to_owned(),
            reason: format!("{reason}; present: {present}; `lora-lab devices` shows all"),
        })
    };
    let Some(kind) = Kind::of(name) else { return refuse("no device has this name".to_owned()) };
    let full = kind.to_string();
    if present.contains(&full.as_str()) {
        return Ok(kind);
    }
    let of_backend = || devices.iter().filter(|device| device.backend == kind.backend());
    // The device itself, or the line that stands for its backend's cards where there is none.
    let nearest = of_backend().find(|d| d.name == full).or_else(|| of_backend().find(|d| d.state != State::Present));
    match nearest.map(|device| &device.state) {
        Some(State::NotBuilt(way_in)) => refuse(format!("its backend is not in this build; {way_in} puts it in")),
        Some(State::Absent(reason)) => refuse(reason.clone()),
        _ => refuse("there is no card of this number".to_owned()),
    }
}

fn open(kind: Kind) -> Device {
    match kind {
        Kind::Flex => Device::flex(),
        #[cfg(feature = "tch")]
        Kind::TchCpu =>
        {
            #[expect(deprecated, reason = "burn-tch is the backend that is measured on a GPU")]
            Device::libtorch()
        }
        #[cfg(feature = "tch")]
        Kind::TchCuda(index) => {
            // Strict f32, as on the CPU; products in bf16 sum in f32.
            kernels::libtorch::matmul_precision(false, false)
                .unwrap_or_else(|error| unreachable!("flags of LibTorch are set, whatever there is: {error}"));
            #[expect(deprecated, reason = "burn-tch is the backend that is measured on a GPU")]
            Device::libtorch_cuda(index)
        }
        #[cfg(feature = "cuda")]
        Kind::Cuda(index) => Device::cuda(index),
        #[cfg(feature = "vulkan")]
        Kind::Vulkan => Device::vulkan(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "wgpu")]
        Kind::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(not(all(feature = "tch", feature = "cuda", feature = "vulkan", feature = "wgpu")))]
        _ => unreachable!("`{kind}` is not in this build and was found present"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        Card { name: "NVIDIA H100 80GB HBM3".to_owned(), memory: 85_017_493_504, capability: (9, 0) }
    }

    fn versions(driver: Option<&str>) -> LibTorch {
        LibTorch { version: "2.11.0".into(), cuda: Some("13.0".into()), driver: driver.map(str::to_owned) }
    }

    /// Devices of a build with LibTorch, on a machine where it says this.
    fn with(versions: LibTorch, cards: Result<Vec<(usize, Card)>, String>) -> Vec<Described> {
        let device = |name: &str, backend, state| Described { name: name.to_owned(), backend, state, card: None };
        let mut devices =
            vec![device("flex", Backend::Flex, State::Present), device("tch:cpu", Backend::Tch, State::Present)];
        devices.extend(cuda_of_libtorch(&Ok(versions), cards));
        devices.push(device("cuda:N", Backend::Cuda, State::NotBuilt(Backend::Cuda.way_in().to_owned())));
        devices
    }

    #[track_caller]
    fn refused(name: &str, devices: &[Described], parts: &[&str]) {
        let message = choose(name, devices).unwrap_err().to_string();
        for part in parts.iter().chain(&[name]) {
            assert!(message.contains(part), "no `{part}` in {message}");
        }
        assert!(!message.contains('\n'), "{message}");
    }

    #[test]
    fn every_name_is_read_back() {
        let all = [Kind::Flex, Kind::TchCpu, Kind::TchCuda(3), Kind::Cuda(0), Kind::Vulkan, Kind::Wgpu];
        for kind in all {
            assert_eq!(Kind::of(&kind.to_string()), Some(kind));
        }
        assert_eq!(Kind::of("cpu"), Some(Kind::Flex));
        assert_eq!(Kind::of("tch:cuda:00"), Some(Kind::TchCuda(0)));
        for name in ["gpu", "tch", "tch:cuda", "tch:cuda:", "tch:cuda:x", "cuda", "cuda:-1", "auto", ""] {
            assert_eq!(Kind::of(name), None, "{name}");
        }
    }

    #[test]
    fn the_best_present_device_is_taken() {
        let two = || Ok(vec![(0, card()), (1, card())]);
        let devices = with(versions(Some("13.0")), two());
        assert_eq!(choose("auto", &devices).unwrap(), Kind::TchCuda(0));
        assert_eq!(choose("tch:cuda:1", &devices).unwrap(), Kind::TchCuda(1));
        assert_eq!(choose("tch:cpu", &devices).unwrap(), Kind::TchCpu);
        assert_eq!(devices[2].card, Some(card()));
        let cube =
            |name: &str| Described { name: name.to_owned(), backend: Backend::Cuda, state: State::Present, card: None };
        assert_eq!(choose("auto", &[cube("cuda:0")]).unwrap(), Kind::Cuda(0));
        let without = with(versions(None), Err("no NVIDIA driver".to_owned()));
        assert_eq!(choose("auto", &without).unwrap(), Kind::Flex);
        // A newer minor version runs; a newer major one does not.
        assert_eq!(choose("auto", &with(versions(Some("13.2")), two())).unwrap(), Kind::TchCuda(0));
        assert_eq!(choose("auto", &with(versions(Some("12.8")), two())).unwrap(), Kind::Flex);
    }

    #[test]
    fn what_is_not_there_is_one_clear_line() {
        let one = with(versions(Some("13.0")), Ok(vec![(0, card())]));
        let there = "present: flex, tch:cpu, tch:cuda:0; `lora-lab devices`";
        refused("tch:cuda:1", &one, &["no card of this number", there]);
        refused("cuda:0", &one, &["not in this build", "--features cuda", there]);
        refused("gpu", &one, &["no device has this name", there]);
        let none = with(versions(None), Err("no NVIDIA driver: libcuda.so.1 does not open".to_owned()));
        refused("tch:cuda:0", &none, &["no NVIDIA driver", "present: flex, tch:cpu;"]);
        refused("tch:cuda:0", &with(versions(Some("13.0")), Ok(Vec::new())), &["shows no card"]);
        let old = with(versions(Some("12.8")), Ok(vec![(0, card())]));
        refused("tch:cuda:0", &old, &["CUDA 13.0", "12.8 at most", "update the driver"]);
    }

    #[test]
    fn this_build_opens_what_it_shows() {
        assert_eq!(parse("cpu").unwrap().name, "flex");
        let inventory = inventory();
        assert_eq!(parse("auto").unwrap().name, inventory.auto);
        assert_eq!(inventory.libtorch.is_some(), cfg!(feature = "tch"));
        for backend in Backend::ALL {
            assert!(inventory.devices.iter().any(|device| device.backend == backend), "{backend:?}");
        }
        for device in inventory.devices {
            match device.state {
                State::Present => assert_eq!(parse(&device.name).unwrap().name, device.name),
                State::Absent(_) | State::NotBuilt(_) => {
                    let name = device.name.replace('N', "0");
                    assert!(parse(&name).unwrap_err().to_string().contains("present: flex"), "{name}");
                }
            }
        }
    }
}
