//! What the fixtures of `scripts/oracle/maps.py` set otherwise than their presets.

use variants::{
    delta::{DeltaSpec, block_rotation},
    spec::VariantSpec,
};

use crate::reference::Reference;

/// OFT by the inverse and not by the series.
pub(crate) fn exact(_: &Reference, published: VariantSpec) -> VariantSpec {
    let form = block_rotation::Spec { cayley: block_rotation::Cayley::Exact };
    VariantSpec { delta: Some(DeltaSpec::BlockRotation(form)), ..published }
}
