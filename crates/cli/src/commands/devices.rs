//! `devices`: which devices this build supports, which are present, and which one `auto` takes.

use assets::device::{self, Card, Described, Inventory, LibTorch, State};

use crate::{failure::Failure, output::aligned, terminal::print};

/// Prints the table. A missing driver or card is a line of it.
pub(super) fn run() -> Result<(), Failure> {
    print(&render(&device::inventory()))
}

fn render(inventory: &Inventory) -> String {
    let head = ["device", "from", "state", "about"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(inventory.devices.iter().map(row)).collect();
    let libtorch = inventory.libtorch.as_ref().map(versions).unwrap_or_default();
    format!("{}\n{libtorch}`--device auto` takes {}\n", aligned(&rows), inventory.auto)
}

fn row(device: &Described) -> [String; 4] {
    let (state, about) = match &device.state {
        State::Present => ("present", device.card.as_ref().map(card).unwrap_or_default()),
        State::Absent(reason) => ("absent", reason.clone()),
        State::NotBuilt(way_in) => ("not built", format!("enable with {way_in}")),
    };
    [device.name.clone(), device.backend.about().to_owned(), state.to_owned(), about]
}

fn card(card: &Card) -> String {
    let gib = card.memory as f64 / f64::from(1 << 30);
    format!("{}, {gib:.1} GiB, compute capability {}.{}", card.name, card.capability.0, card.capability.1)
}

fn versions(found: &LibTorch) -> String {
    let cuda = found.cuda.as_ref().map_or_else(|| "without CUDA".to_owned(), |cuda| format!("built for CUDA {cuda}"));
    let driver = found
        .driver
        .as_ref()
        .map_or_else(|| "no NVIDIA driver".to_owned(), |known| format!("the driver knows CUDA {known}"));
    format!("LibTorch {}, {cuda}; {driver}\n", found.version)
}

#[cfg(test)]
mod tests {
    use assets::device::Backend;

    use super::*;

    #[test]
    fn the_table_reads_without_colour() {
        let device = |name: &str, backend, state, card| Described { name: name.to_owned(), backend, state, card };
        let card = Card { name: "NVIDIA H100 80GB HBM3".into(), memory: 85_017_493_504, capability: (9, 0) };
        let not_built = State::NotBuilt("`cargo build --release --features cuda`".into());
        let inventory = Inventory {
            devices: vec![
                device("flex", Backend::Flex, State::Present, None),
                device("tch:cpu", Backend::Tch, State::Present, None),
                device("tch:cuda:0", Backend::Tch, State::Present, Some(card)),
                device("cuda:N", Backend::Cuda, not_built, None),
                device("vulkan", Backend::Vulkan, State::Absent("Vulkan shows no device".into()), None),
            ],
            auto: "tch:cuda:0".into(),
            libtorch: Some(LibTorch {
                version: "2.11.0".into(),
                cuda: Some("13.0".into()),
                driver: Some("13.0".into()),
            }),
        };
        insta::assert_snapshot!(render(&inventory), @r"
        device      from                   state      about
        flex        pure Rust, strict f32  present
        tch:cpu     LibTorch               present
        tch:cuda:0  LibTorch               present    NVIDIA H100 80GB HBM3, 79.2 GiB, compute capability 9.0
        cuda:N      CubeCL on CUDA         not built  enable with `cargo build --release --features cuda`
        vulkan      CubeCL on Vulkan       absent     Vulkan shows no device

        LibTorch 2.11.0, built for CUDA 13.0; the driver knows CUDA 13.0
        `--device auto` takes tch:cuda:0
        ");
    }
}
