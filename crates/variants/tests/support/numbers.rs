//! Numbers for tests of small maps.

use burn::tensor::{DType, Device, Tensor};
use variants::{
    host::Placement,
    stream::{self, Stream},
};

/// The CPU in f64.
pub(crate) fn place() -> Placement {
    Placement::new(&Device::flex(), DType::F64)
}

/// Normal numbers, the same for one name wherever they are asked for.
pub(crate) fn random<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
    let rng = &mut stream::generator(9, Stream::Data, name);
    place().tensor(stream::normal(rng, shape.iter().product(), 0.6), shape)
}
