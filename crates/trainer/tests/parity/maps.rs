//! What the fixtures of `scripts/oracle/maps.py` set otherwise than their presets.

use variants::{
    delta::{DeltaSpec, block_rotation, bounded_low_rank, fourier},
    scaling::Scaling,
    spec::VariantSpec,
};

use crate::reference::Reference;

/// OFT by the inverse and not by the series.
pub(crate) fn exact(_: &Reference, published: VariantSpec) -> VariantSpec {
    let form = block_rotation::Spec { cayley: block_rotation::Cayley::Exact };
    VariantSpec { delta: Some(DeltaSpec::BlockRotation(form)), ..published }
}

/// PEFT starts at a `B` of 0 and subtracts nothing.
pub(crate) fn delora(_: &Reference, published: VariantSpec) -> VariantSpec {
    let form = bounded_low_rank::Spec { start: bounded_low_rank::Start::Zero, ..bounded_low_rank::Spec::default() };
    VariantSpec { delta: Some(DeltaSpec::BoundedLowRank(form)), ..published }
}

/// A scale that suits maps of these widths, and places whose coefficients all have a gradient.
pub(crate) fn fourierft(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let form = fourier::Spec { places_seed: reference.count("places_seed") as u64 };
    let scaling = Scaling::Constant { value: reference.number("scale") };
    VariantSpec { delta: Some(DeltaSpec::Fourier(form)), scaling, ..published }
}
